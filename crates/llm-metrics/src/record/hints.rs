//! What is worth a word to whoever sets the service up: what looks like a mistake, and what to do about it.

use std::{
    fmt,
    sync::atomic::{AtomicU16, Ordering},
};

use super::{Inner, PageFault};

/// Something that looks like a mistake. Its text says what to do; nothing in it was said by a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    UnknownPath { word: &'static str },
    UnknownStream,
    Compressed,
    NoUsage,
    NoModel,
    UnknownLabel,
    NoRecorder,
    Summary { metric: &'static str },
    OtherBuckets { metric: &'static str },
}

impl Hint {
    const fn bit(self) -> u16 {
        match self {
            Self::UnknownPath { .. } => 1,
            Self::UnknownStream => 1 << 1,
            Self::Compressed => 1 << 2,
            Self::NoUsage => 1 << 3,
            Self::NoModel => 1 << 4,
            Self::UnknownLabel => 1 << 5,
            Self::NoRecorder => 1 << 6,
            Self::Summary { .. } => 1 << 7,
            Self::OtherBuckets { .. } => 1 << 8,
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPath { word } => write!(
                f,
                "a POST to a path that ends in `{word}` succeeded and was not measured, since the path is not known. If it calls a model, name its \
                 format: `.path(\"/…/{word}\", Endpoint::ChatCompletions)` on the layer, or `.ollama()` for Ollama's API. If it does not: \
                 `.path(…, Endpoint::Other)`"
            ),
            Self::UnknownStream => f.write_str(
                "a POST to a path that is not known was answered with a stream of events and not measured. If it calls a model, name its format: \
                 `.path(\"/…\", Endpoint::ChatCompletions)` on the layer. If it does not: `.path(…, Endpoint::Other)`",
            ),
            Self::Compressed => f.write_str(
                "a body is compressed and was not read: it has no tokens, and its model may be unknown. Put the layer inside compression (in axum the last \
                 `.layer(…)` is the outermost), and let clients send `accept-encoding: identity` to their upstream",
            ),
            Self::NoUsage => f.write_str(
                "a stream came without usage: its output tokens are in no token metric. Ask for them with `\"stream_options\": {\"include_usage\": true}`, or \
                 report them with `InferenceHandle::usage`",
            ),
            Self::NoModel => f.write_str(
                "a request was accepted and its model is `unknown`: neither its body, as far as it was read, nor its answer names one. Read the body in the \
                 handler, or call `InferenceHandle::model`",
            ),
            Self::UnknownLabel => f.write_str(
                "`InferenceBuilder::label` was called for a label that these metrics do not have: declare it with `Builder::request_label` (one that is never \
                 read from a head with `|_| None`)",
            ),
            Self::NoRecorder => f.write_str(
                "nothing is recorded: no recorder is installed for the `metrics` crate (0.24) that llm-metrics uses. Install one before the metrics are built, or hand one \
                 in with `Builder::recorder` or `Builder::exporter`. If one is installed, it is that of another version: `cargo tree -d -i metrics` shows them",
            ),
            Self::Summary { metric } => PageFault::Summary { metric }.fmt(f),
            Self::OtherBuckets { metric } => PageFault::OtherBuckets { metric }.fmt(f),
        }
    }
}

/// Which hints have been given.
#[derive(Debug, Default)]
pub(super) struct Hints(AtomicU16);

impl Hints {
    /// Whether this is the first page to be looked at.
    #[cfg(feature = "prometheus")]
    pub(super) fn first_page(&self) -> bool {
        const LOOKED_AT: u16 = 1 << 15;
        self.0.fetch_or(LOOKED_AT, Ordering::Relaxed) & LOOKED_AT == 0
    }
}

impl Inner {
    /// Says it, once.
    #[inline]
    pub(crate) fn hint(&self, hint: Hint) {
        if self.hints.0.load(Ordering::Relaxed) & hint.bit() == 0 {
            self.log(hint);
        }
    }

    #[cold]
    fn log(&self, hint: Hint) {
        if self.hints.0.fetch_or(hint.bit(), Ordering::Relaxed) & hint.bit() == 0 {
            #[cfg(feature = "tracing")]
            let _ = super::catch_panic(|| tracing::warn!(target: crate::spans::HINTS, "{hint}"));
        }
    }
}
