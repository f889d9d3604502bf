//! The formats of the APIs' responses: each protocol writes the same [`Delta`]s in its own way.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{error::ApiError, text::Delta};

/// The engine's counts, for the response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) prompt: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
}

/// Writes one response, either as a stream or as a document.
pub(super) trait AnswerFormat: Send {
    /// The content type of a stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// Appends the beginning of a stream, before its first text.
    fn begin(&mut self, frame: &mut Vec<u8>, choices: usize, prompt_tokens: u64);

    /// Appends new text of a choice.
    fn delta(&mut self, frame: &mut Vec<u8>, choice: usize, delta: &Delta);

    /// Appends the end of a complete stream.
    fn end(&mut self, frame: &mut Vec<u8>, counts: Counts);

    /// Appends an error, which replaces the end.
    fn fail(&mut self, frame: &mut Vec<u8>, error: &ApiError);

    /// Keeps proxies from closing a silent connection, if the protocol has data that clients ignore.
    fn keep_alive(&self) -> Option<&'static [u8]> {
        Some(super::sse::KEEP_ALIVE)
    }

    /// A complete response, with one joined [`Delta`] per choice.
    fn document(&mut self, choices: &[Delta], counts: Counts) -> Vec<u8>;
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Unique in this process, and practically unique among processes.
pub(super) fn unique_id(prefix: &str) -> String {
    static START: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start =
        START.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64);
    format!("{prefix}{start:016x}{:08x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_ne!(unique_id("x-"), unique_id("x-"));
    }
}
