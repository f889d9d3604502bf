//! Reads the model in a request before the request is sent.

use std::{borrow::Cow, time::Duration};

use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use tokio::time::timeout;

use crate::program::client_body::ClientBody;

/// Why the model is unknown.
#[derive(Debug)]
pub(crate) enum PeekError {
    /// The client sent no data for too long.
    Timeout,
    /// The client disconnected.
    Body,
}

/// Reads as much of a body as is needed to know the model, and at most `limit` bytes. The body still contains what was read.
pub(crate) async fn model(
    body: &mut ClientBody,
    limit: usize,
    time_limit: Option<Duration>,
) -> Result<Option<String>, PeekError> {
    let mut read: Vec<u8> = Vec::new();
    // A long body is not parsed again for each of its pieces.
    let mut next_look = 0;
    loop {
        let ended = body.rest_is_end_stream();
        if ended || read.len() >= next_look {
            match in_document(&read) {
                Model::Named(model) => return Ok(Some(model)),
                Model::None => return Ok(None),
                Model::NotYet if ended || read.len() >= limit => return Ok(None),
                Model::NotYet => next_look = (read.len() * 2).clamp(1, limit),
            }
        }
        let frame = std::future::poll_fn(|cx| body.poll_rest(cx));
        let frame = match time_limit {
            Some(limit) => timeout(limit, frame).await.map_err(|_| PeekError::Timeout)?,
            None => frame.await,
        };
        match frame {
            None => next_look = 0,
            Some(Err(_)) => return Err(PeekError::Body),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    read.extend_from_slice(data);
                }
                body.hold(frame);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Model {
    Named(String),
    /// The document has no model.
    None,
    /// The document continues.
    NotYet,
}

/// The model in a document that begins like this.
fn in_document(json: &[u8]) -> Model {
    let mut model = None;
    let read = serde_json::Deserializer::from_slice(json).deserialize_map(TopLevel(&mut model));
    match (model, read) {
        (Some(model), _) => Model::Named(model),
        (None, Err(error)) if error.is_eof() => Model::NotYet,
        (None, _) => Model::None,
    }
}

struct TopLevel<'m>(&'m mut Option<String>);

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "model" {
                *self.0 = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_anywhere_in_the_body_however_it_is_split() {
        let body = r#" {"messages":[{"role":"user","content":"{\"model\":\"no\"}","model":"no"}],"stream":true,"model":"Qwen\/Qwen3"}"#;
        let end = body.len() - 1;
        for cut in 0..end {
            assert_eq!(in_document(&body.as_bytes()[..cut]), Model::NotYet, "{cut}");
        }
        assert_eq!(in_document(&body.as_bytes()[..end]), Model::Named("Qwen/Qwen3".to_owned()));
        assert_eq!(in_document(body.as_bytes()), Model::Named("Qwen/Qwen3".to_owned()));
    }

    #[test]
    fn a_body_without_a_model_is_detected_early() {
        for body in ["[", "model=x", "--boundary", "{}", "{\"a\":1}", "{\"model\":3", "{\"model\":null}", "{\"a\" 1"] {
            assert_eq!(in_document(body.as_bytes()), Model::None, "{body}");
        }
        assert_eq!(in_document(b""), Model::NotYet);
    }
}
