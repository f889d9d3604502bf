//! llama.cpp's own completions, which it serves at `/completion`, `/completions` and `/infill`; its paths under `/v1` are OpenAI's. Other servers
//! have OpenAI's completions at these paths, or chat completions in a nested router, so both formats are read.

use super::ERROR;
use super::openai::{FINISH_REASON, INDEX, MESSAGE, TIMINGS, USAGE};
use crate::wire::TextKind::Answer;
use crate::wire::counts::Count;
use crate::wire::facts::Fact;
use crate::wire::json::Shape::{self, Array, Envelope, Object, Present, Scalar, Text};
use crate::wire::request::RequestField;

/// One event of a stream, or a whole answer.
pub(in crate::wire) static ANSWER: Shape<Fact> = Object(
    Some(Fact::Choice),
    &[
        ("content", Text(Answer)),
        ("stop", Scalar(Fact::Done)),
        // It would count the prompts of a request.
        ("index", Envelope),
        ("stop_type", Scalar(Fact::FinishReason)),
        ("model", Scalar(Fact::Model)),
        ("tokens_evaluated", Scalar(Fact::Count(Count::Input))),
        ("tokens_predicted", Scalar(Fact::Count(Count::Output))),
        ("timings", TIMINGS),
        ("truncated", Scalar(Fact::InputTruncated)),
        ("error", ERROR),
        ("choices", Array(&CHOICE)),
        ("usage", USAGE),
    ],
);

static CHOICE: Shape<Fact> = Object(
    Some(Fact::Choice),
    &[
        INDEX,
        ("text", Text(Answer)),
        ("delta", Object(None, MESSAGE)),
        ("message", Object(None, MESSAGE)),
        FINISH_REASON,
    ],
);

pub(in crate::wire) static REQUEST: Shape<RequestField> = Object(
    None,
    &[
        ("model", Scalar(RequestField::Model)),
        ("stream", Scalar(RequestField::Stream)),
        ("n_predict", Scalar(RequestField::MaxTokens)),
        ("max_tokens", Scalar(RequestField::MaxTokens)),
        ("n", Scalar(RequestField::Choices)),
        ("grammar", Present(RequestField::Grammar)),
        ("json_schema", Present(RequestField::JsonSchema)),
    ],
);
