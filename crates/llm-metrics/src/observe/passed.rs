//! Requests that are not measured although they look like calls of a model. They are counted, because a new user would miss them on the page.

use super::ResponseHead;
use crate::{
    record::{Hint, LlmMetrics},
    vocabulary::PassReason,
};

/// A `POST` to an unknown path. Its response shows whether it should have been measured.
pub(super) struct Passed {
    metrics: LlmMetrics,
    /// The end of its path, if paths of LLM APIs end like that.
    word: Option<&'static str>,
}

/// The last segments of paths of LLM APIs. For Gemini's `…/models/gemini:generateContent`, it is the part after the colon.
const WORDS: &[&str] = &[
    "chat",
    "completion",
    "completions",
    "converse",
    "converse-stream",
    "embed",
    "embeddings",
    "generate",
    "generateContent",
    "generate_stream",
    "infill",
    "messages",
    "rerank",
    "responses",
    "streamGenerateContent",
];

/// The end of the path, if paths of LLM APIs end like that.
pub(super) fn word(path: &str) -> Option<&'static str> {
    let last = path.trim_end_matches('/').rsplit(['/', ':']).next()?;
    WORDS.iter().find(|word| **word == last).copied()
}

impl Passed {
    pub(super) fn new(metrics: &LlmMetrics, word: Option<&'static str>) -> Self {
        Self { metrics: metrics.clone(), word }
    }

    /// Rejected requests are not counted: a scanner that tries paths must not create counts on the page.
    pub(super) fn answered(self, head: &ResponseHead<'_>) {
        if !head.is_success() {
            return;
        }
        let (reason, hint) = match self.word {
            Some(word) => (PassReason::UnknownPath, Hint::UnknownPath { word }),
            None if head.is_event_stream() => (PassReason::EventStream, Hint::UnknownStream),
            None => return,
        };
        self.metrics.0.global().passed(reason).increment(1);
        self.metrics.0.hint(hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_in_a_word_of_an_api_or_in_none() {
        for (path, expected) in [
            ("/api/chat", Some("chat")),
            ("/my/completions//", Some("completions")),
            ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", Some("streamGenerateContent")),
            ("/model/claude/converse-stream", Some("converse-stream")),
            ("generate", Some("generate")),
            ("/chat/users", None),
            ("/Chat", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(word(path), expected, "{path}");
        }
    }
}
