//! Requests that pass unmeasured although they look like calls of a model: what a new user would look for in vain.

use super::ResponseHead;
use crate::{
    record::{Hint, LlmMetrics},
    vocabulary::PassReason,
};

/// A `POST` to a path that is not known. Its answer shows whether it was one that should have been measured.
pub(super) struct Passed {
    metrics: LlmMetrics,
    /// What its path ends in, where LLM APIs have paths that do.
    word: Option<&'static str>,
}

/// The last segments of paths of LLM APIs. Of Gemini's `…/models/gemini:generateContent` it is what stands after the colon.
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

/// What a path of an LLM API could end in, where this one does.
pub(super) fn word(path: &str) -> Option<&'static str> {
    let last = path.trim_end_matches('/').rsplit(['/', ':']).next()?;
    WORDS.iter().find(|word| **word == last).copied()
}

impl Passed {
    pub(super) fn new(metrics: &LlmMetrics, word: Option<&'static str>) -> Self {
        Self { metrics: metrics.clone(), word }
    }

    /// What was refused was for nobody: who probes for paths is not to fill the page.
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
