//! Embeddings and reranking: one document, whose usage comes after or before megabytes of numbers.

use super::ERROR;
use crate::wire::counts::Count;
use crate::wire::facts::Fact;
use crate::wire::json::Shape::{self, Array, Either, Is, Object, Scalar};
use crate::wire::request::RequestField;

/// A response of either. For reranking, Jina and vLLM send `usage`, Cohere `meta`, and TEI nothing: its response is a list.
pub(in crate::wire) static ANSWER: Shape<Fact> = Object(
    None,
    &[
        ("model", Scalar(Fact::Model)),
        ("usage", EMBEDDING_USAGE),
        ("meta", Object(None, &[("tokens", EMBEDDING_USAGE), ("billed_units", EMBEDDING_USAGE)])),
        ("error", ERROR),
        ("error_type", Scalar(Fact::Error)),
        ("object", Is("error", Fact::Error)),
        ("code", Scalar(Fact::LooseCode)),
        ("message", Scalar(Fact::LooseMessage)),
    ],
);

/// Jina and vLLM only send a total for reranking.
const EMBEDDING_USAGE: Shape<Fact> = Object(
    None,
    &[
        ("prompt_tokens", Scalar(Fact::Count(Count::Input))),
        ("total_tokens", Scalar(Fact::Count(Count::Input))),
        ("input_tokens", Scalar(Fact::Count(Count::Input))),
    ],
);

pub(in crate::wire) static REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        // A text, a list of texts, a list of tokens, or a list of lists of tokens.
        ("input", Either(&Scalar(RequestField::Input), &Array(&Scalar(RequestField::Inputs)))),
    ],
);

pub(in crate::wire) static RERANK_REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        ("documents", Either(&Scalar(RequestField::Input), &Array(&Scalar(RequestField::Inputs)))),
        ("texts", Array(&Scalar(RequestField::Inputs))),
    ],
);
