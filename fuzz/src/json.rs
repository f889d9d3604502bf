//! Valid JSON, as `serde_json` reads it.

use std::fmt;

use llm_metrics::quality_fuzzing::Json;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The number of digits of a number that the readers keep.
const LONGEST_NUMBER: usize = 100;

/// The document, if it is valid and has a single reading: no object has a key twice, and no number is longer than the readers keep.
pub fn parse(document: &str) -> Option<Value> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E');
    let too_long = document.as_bytes().split(|byte| !digits(*byte)).any(|number| number.len() > LONGEST_NUMBER);
    let Unique(value) = serde_json::from_str(document).ok()?;
    (!too_long).then_some(value)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without duplicate keys")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = members.next_entry::<String, _>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key comes twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// Whether the bytes are valid by the grammar alone, with any numbers and keys.
pub fn grammar(text: &[u8]) -> Json {
    let parse = |text: &[u8]| {
        let mut reader = serde_json::Deserializer::from_slice(text);
        IgnoredAny::deserialize(&mut reader).and_then(|_| reader.end())
    };
    let may_go_on = |text: &[u8]| parse(text).map_or_else(|error| error.is_eof(), |()| true);
    match parse(text) {
        Ok(()) => Json::Valid,
        // `serde_json` reads the four bytes after `\u` at once, and reports the end of the text if there are fewer.
        Err(error) if error.is_eof() && has_broken_escape(text) => Json::Invalid,
        // `serde_json` reports an error for `1.` as for `1.x`; but `1.` becomes a number if a digit follows.
        Err(error) if error.is_eof() || may_go_on(&[text, b"0"].concat()) => Json::Prefix,
        Err(_) => Json::Invalid,
    }
}

/// The text ends in an escape with something other than digits.
fn has_broken_escape(text: &[u8]) -> bool {
    let end = &text[text.len().saturating_sub(5)..];
    let escape = end.windows(2).rposition(|pair| pair == b"\\u");
    escape.is_some_and(|at| !end[at + 2..].iter().all(u8::is_ascii_hexdigit))
}
