//! Embeddings and reranking: one document, whose usage stands behind megabytes of numbers, or before them.

use super::ERROR;
use crate::wire::counts::Count;
use crate::wire::facts::Fact;
use crate::wire::json::Shape::{self, Array, Either, Is, Object, Scalar};
use crate::wire::request::RequestField;

/// An answer of either. Of reranking, Jina and vLLM say `usage`, Cohere says `meta`, and TEI nothing: its answer is a list.
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

/// Reranking by Jina and vLLM counts in total alone.
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
