//! The shapes of each protocol, one file per protocol.

pub(super) mod anthropic;
pub(super) mod embeddings;
pub(super) mod llama_cpp;
pub(super) mod ollama;
pub(super) mod openai;
pub(super) mod responses;

use super::facts::Fact;
use super::json::Shape::{self, Either, Object, Scalar};

type Keys = &'static [(&'static str, Shape<Fact>)];

/// An error: a word, or an object with more details.
const ERROR: Shape<Fact> = Either(
    &Scalar(Fact::Error),
    &Object(
        Some(Fact::Error),
        &[
            ("code", Scalar(Fact::ErrorCode)),
            ("status", Scalar(Fact::ErrorCode)),
            ("status_code", Scalar(Fact::ErrorCode)),
            ("type", Scalar(Fact::ErrorType)),
            ("error_type", Scalar(Fact::ErrorType)),
        ],
    ),
);
