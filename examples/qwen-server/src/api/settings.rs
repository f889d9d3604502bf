//! The fields that chat and completions share: sampling, limits, stopping, constraints.

use std::collections::BTreeMap;

use mistralrs::{Constraint, ModelGenerationDefaults, SamplingParams, StopTokens};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::ApiError,
    fields::{self, Fields},
};
use crate::engine::{Facts, Steering};

/// The maximum number of stop sequences.
const MAX_STOPS: usize = 16;

/// How to generate.
pub(super) struct Settings {
    pub(super) sampling: SamplingParams,
    pub(super) steering: Steering,
    pub(super) constraint: Constraint,
    pub(super) choices: usize,
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

impl Settings {
    /// Reads the shared fields. `generation_config.json` has the defaults.
    pub(super) fn take(fields: &mut Fields, facts: &Facts, most_choices: usize) -> Result<Self, ApiError> {
        let stop = stop(fields)?;
        let stream = fields.take("stream")?.unwrap_or(false);
        let options: StreamOptions = fields.take("stream_options")?.unwrap_or_default();
        let max_tokens = max_tokens(fields)?.or(facts.defaults.max_new_tokens);
        let choices = fields.take("n")?.unwrap_or(1);
        if !(1..=most_choices).contains(&choices) {
            return Err(ApiError::invalid("n", format!("`n` must be from 1 to {most_choices}, and is {choices}.")));
        }
        Ok(Self {
            sampling: sampling(fields, &facts.defaults, &stop)?,
            steering: steering(fields, facts)?,
            constraint: constraint(fields)?,
            choices,
            max_tokens,
            stop,
            stream,
            include_usage: options.include_usage,
        })
    }
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

fn sampling(
    fields: &mut Fields,
    defaults: &ModelGenerationDefaults,
    stop: &[String],
) -> Result<SamplingParams, ApiError> {
    let greedy = defaults.do_sample == Some(false);
    let default_temperature = if greedy { Some(0.0) } else { defaults.temperature };
    let top_k: Option<i64> = fields.take("top_k")?;
    let min_p = fields.number("min_p", 0.0..=1.0)?.or(defaults.min_p);
    let mut top_p = fields.number("top_p", 0.0..=1.0)?.or(defaults.top_p);
    if min_p.is_some_and(|min_p| min_p > 0.0) && top_p.is_none_or(|top_p| top_p >= 1.0) {
        // 0.8.1 only applies min_p when top_p removes tokens.
        top_p = Some(0.999_999);
    }
    let penalty = |value: Option<f64>| value.map(|value| value as f32);
    Ok(SamplingParams {
        temperature: fields.number("temperature", 0.0..=2.0)?.or(default_temperature),
        // 0 and -1 disable it.
        top_k: match top_k {
            Some(k) => usize::try_from(k).ok().filter(|k| *k > 0),
            None => defaults.top_k,
        },
        top_p,
        min_p,
        frequency_penalty: penalty(fields.number("frequency_penalty", -2.0..=2.0)?),
        presence_penalty: penalty(fields.number("presence_penalty", -2.0..=2.0)?),
        repetition_penalty: penalty(fields.number("repetition_penalty", 0.01..=10.0)?).or(defaults.repetition_penalty),
        stop_toks: (!stop.is_empty()).then(|| StopTokens::Seqs(stop.to_vec())),
        ..SamplingParams::neutral()
    })
}

/// The newer name takes precedence.
fn max_tokens(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let old: Option<usize> = fields.take("max_tokens")?;
    let new: Option<usize> = fields.take("max_completion_tokens")?;
    let name = if new.is_some() { "max_completion_tokens" } else { "max_tokens" };
    match new.or(old) {
        Some(0) => Err(ApiError::invalid(name, format!("`{name}` must be at least 1."))),
        limit => Ok(limit),
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum Stop {
    One(String),
    Several(Vec<String>),
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stops = match fields.take("stop")? {
        None => Vec::new(),
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Several(stops)) => stops,
    };
    if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
        let message = format!("`stop` may have up to {MAX_STOPS} sequences, none of them empty.");
        return Err(ApiError::invalid("stop", message));
    }
    Ok(stops)
}

fn steering(fields: &mut Fields, facts: &Facts) -> Result<Steering, ApiError> {
    let bias: BTreeMap<String, f32> = fields.take("logit_bias")?.unwrap_or_default();
    let bias = bias
        .into_iter()
        .map(|(token, change)| match token.parse() {
            Ok(token) if (-100.0..=100.0).contains(&change) => Ok((token, change)),
            _ => Err(ApiError::invalid("logit_bias", "`logit_bias` maps token ids to numbers from -100 to 100.")),
        })
        .collect::<Result<_, _>>()?;
    let min_tokens = fields.take("min_tokens")?.unwrap_or(0);
    let ignore_eos = fields.take("ignore_eos")?.unwrap_or(false);
    Ok(Steering { bias, min_tokens: if ignore_eos { u64::MAX } else { min_tokens }, ends: facts.ends.clone() })
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchema },
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Value,
}

/// mistral.rs's own extension.
#[derive(Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
enum Grammar {
    Regex(String),
    Lark(String),
    JsonSchema(Value),
}

fn constraint(fields: &mut Fields) -> Result<Constraint, ApiError> {
    let format: Option<ResponseFormat> = fields.take("response_format")?;
    let grammar: Option<Grammar> = fields.take("grammar")?;
    match (format, grammar) {
        (Some(ResponseFormat::JsonObject | ResponseFormat::JsonSchema { .. }), Some(_)) => {
            Err(ApiError::invalid("grammar", "`grammar` and `response_format` exclude each other."))
        }
        (Some(ResponseFormat::JsonObject), None) => Ok(Constraint::JsonSchema(json!({"type": "object"}))),
        (Some(ResponseFormat::JsonSchema { json_schema }), None) => schema("response_format", json_schema.schema),
        (_, Some(Grammar::JsonSchema(value))) => schema("grammar", value),
        (_, Some(Grammar::Regex(regex))) => Ok(Constraint::Regex(regex)),
        (_, Some(Grammar::Lark(lark))) => Ok(Constraint::Lark(lark)),
        (None | Some(ResponseFormat::Text), None) => Ok(Constraint::None),
    }
}

fn schema(param: &str, schema: Value) -> Result<Constraint, ApiError> {
    fields::parse::<serde_json::Map<String, Value>>(param, schema).map(|schema| Constraint::JsonSchema(schema.into()))
}

/// The maximum number of tokens of a choice: the minimum of the request's limit, the server's limit, and the space after the prompt.
/// `None` if nothing fits.
pub(super) fn token_limit(
    asked: Option<usize>,
    allowed: Option<usize>,
    context: usize,
    prompt: usize,
) -> Option<usize> {
    let room = context.checked_sub(prompt).filter(|room| *room > 0)?;
    Some(room.min(asked.unwrap_or(room)).min(allowed.unwrap_or(room)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &Value) -> Fields {
        Fields::parse(json.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_limit_always_fits_the_context() {
        assert_eq!(token_limit(None, None, 100, 30), Some(70));
        assert_eq!(token_limit(Some(500), None, 100, 30), Some(70));
        assert_eq!(token_limit(Some(50), Some(20), 100, 30), Some(20));
        assert_eq!(token_limit(Some(5), Some(20), 100, 99), Some(1));
        assert_eq!(token_limit(Some(5), None, 100, 100), None);
        assert_eq!(token_limit(Some(5), None, 100, 300), None);
    }

    #[test]
    fn the_models_defaults_apply_to_missing_settings() {
        let defaults = ModelGenerationDefaults { temperature: Some(0.6), top_k: Some(20), ..Default::default() };
        let ours = sampling(&mut fields(&json!({"temperature": 0})), &defaults, &[]).unwrap();
        assert_eq!((ours.temperature, ours.top_k), (Some(0.0), Some(20)));
        let off = sampling(&mut fields(&json!({"top_k": -1})), &defaults, &[]).unwrap();
        assert_eq!((off.temperature, off.top_k), (Some(0.6), None));
    }

    #[test]
    fn a_model_that_does_not_sample_is_greedy_by_default() {
        let defaults = ModelGenerationDefaults { do_sample: Some(false), ..Default::default() };
        assert_eq!(sampling(&mut fields(&json!({})), &defaults, &[]).unwrap().temperature, Some(0.0));
    }

    #[test]
    fn the_newer_name_of_the_limit_wins_and_zero_is_rejected() {
        let both = json!({"max_tokens": 5, "max_completion_tokens": 7});
        assert_eq!(max_tokens(&mut fields(&both)).unwrap(), Some(7));
        assert!(max_tokens(&mut fields(&json!({"max_tokens": 0}))).is_err());
        assert!(max_tokens(&mut fields(&json!({"max_tokens": -1}))).is_err());
    }

    #[test]
    fn stop_is_a_string_or_several() {
        assert_eq!(stop(&mut fields(&json!({"stop": "a"}))).unwrap(), ["a"]);
        assert_eq!(stop(&mut fields(&json!({"stop": ["a", "b"]}))).unwrap(), ["a", "b"]);
        assert!(stop(&mut fields(&json!({"stop": [""]}))).is_err());
        assert!(stop(&mut fields(&json!({"stop": 3}))).is_err());
    }

    #[test]
    fn a_json_object_is_a_schema_and_excludes_a_grammar() {
        let object = json!({"response_format": {"type": "json_object"}});
        assert!(matches!(constraint(&mut fields(&object)), Ok(Constraint::JsonSchema(_))));
        let both = json!({"response_format": {"type": "json_object"}, "grammar": {"type": "regex", "value": "a+"}});
        assert!(constraint(&mut fields(&both)).is_err());
        assert!(constraint(&mut fields(&json!({"response_format": {"type": "yaml"}}))).is_err());
    }
}
