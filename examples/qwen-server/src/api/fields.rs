//! Reads a request body field by field, so that every error can name its field.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a JSON object that were not read yet.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl Fields {
    /// Parses a body, whatever its content type.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::malformed("The request body must be a JSON object.")),
            Err(error) => Err(ApiError::malformed(format!("The request body is not valid JSON: {error}."))),
        }
    }

    /// Adds a field, unless its value is `null`.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Moves a field to `fields` under another name.
    pub(super) fn hand_over(&mut self, name: &str, fields: &mut Self, other: &str) {
        fields.set(other, self.0.remove(name).unwrap_or_default());
    }

    /// The field's value; `null` counts as absent.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => parse(name, value).map(Some),
        }
    }

    /// A number within `range`.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let number: Option<f64> = self.take(name)?;
        match number {
            Some(number) if !range.contains(&number) => Err(ApiError::invalid(
                name,
                format!("`{name}` must be from {} to {}, and is {number}.", range.start(), range.end()),
            )),
            number => Ok(number),
        }
    }

    /// Rejects a field, unless it is absent, `null`, `false` or `neutral`.
    pub(super) fn refuse(&mut self, name: &str, neutral: &Value, why: &str) -> Result<(), ApiError> {
        match self.0.remove(name) {
            None | Some(Value::Null | Value::Bool(false)) => Ok(()),
            Some(value) if value == *neutral => Ok(()),
            Some(_) => Err(ApiError::unsupported(name, format!("`{name}` is not supported: {why}."))),
        }
    }
}

/// Parses `value` as a `T`; the error names `param`.
pub(super) fn parse<T: DeserializeOwned>(param: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| {
        let reason: String = error.to_string().chars().take(200).collect();
        ApiError::invalid(param, format!("Invalid value for `{param}`: {reason}."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_names_its_field() {
        let mut fields = Fields::parse(br#"{"temperature": "hot"}"#).unwrap();
        let error = fields.number("temperature", 0.0..=2.0).unwrap_err().body();
        assert_eq!(error["error"]["param"], "temperature");
        assert!(error["error"]["message"].as_str().unwrap().contains("hot"));
    }

    #[test]
    fn a_number_out_of_range_is_rejected_and_null_is_absent() {
        let mut fields = Fields::parse(br#"{"top_p": 1.5, "min_p": null}"#).unwrap();
        assert!(fields.number("top_p", 0.0..=1.0).is_err());
        assert_eq!(fields.number("min_p", 0.0..=1.0).unwrap(), None);
    }

    #[test]
    fn only_an_object_is_a_request() {
        for body in [&b""[..], b"{", b"[]", b"\"hi\"", b"{} {}"] {
            assert!(Fields::parse(body).is_err(), "{body:?}");
        }
    }
}
