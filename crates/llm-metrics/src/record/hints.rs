//! Log messages for the person who sets up the service: likely mistakes, and how to correct them.

use std::{
    fmt,
    sync::atomic::{AtomicU8, AtomicU16, Ordering},
    time::{Duration, Instant},
};

use super::{
    Inner, InvalidPage,
    cancelled_ages::{CancelledAges, IN_A_ROW},
};
use crate::vocabulary::ErrorType;

/// A likely mistake. Its text says what to do, and contains nothing from a request.
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
    UnclassifiedError { error: &'static str, counted: ErrorType },
    SameAge { age: Duration },
    NoRequest,
}

/// If no `POST` has arrived after this many reads of the page, that is logged.
const PAGES: u8 = 10;

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
            Self::UnclassifiedError { .. } => 1 << 9,
            Self::SameAge { .. } => 1 << 10,
            Self::NoRequest => 1 << 11,
        }
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPath { word } => write!(
                f,
                "a POST to a path that ends in `{word}` succeeded and was not measured, because the layer does not know the path. If it calls a model, declare its \
                 format: `.path(\"/…/{word}\", Endpoint::ChatCompletions)` on the layer, or `.ollama()` for Ollama's API. If it does not call a model: \
                 `.path(…, Endpoint::Other)`"
            ),
            Self::UnknownStream => f.write_str(
                "a POST to an unknown path was answered with a stream of events and not measured. If it calls a model, declare its format: \
                 `.path(\"/…\", Endpoint::ChatCompletions)` on the layer. If it does not call a model: `.path(…, Endpoint::Other)`",
            ),
            Self::Compressed => f.write_str(
                "a body is compressed and was not read: its tokens are not counted, and its model may be unknown. Put the layer inside compression (in axum the last \
                 `.layer(…)` is the outermost). A client should send `accept-encoding: identity` to its upstream",
            ),
            Self::NoUsage => f.write_str(
                "a stream has no usage, so its output tokens are in no token metric. Request usage with `\"stream_options\": {\"include_usage\": true}`, or \
                 report the counts with `InferenceHandle::usage`",
            ),
            Self::NoModel => f.write_str(
                "a request was accepted and its model is `unknown`: neither the part of its body that was read nor the response has a model. Read the body in the \
                 handler, or call `InferenceHandle::model`",
            ),
            Self::UnknownLabel => f.write_str(
                "`InferenceBuilder::label` was called for a label that these metrics do not have: declare it with `Builder::request_label` (if no request head \
                 has it, with `|_| None`)",
            ),
            Self::NoRecorder => f.write_str(
                "nothing is recorded: no recorder is installed for the `metrics` crate (0.24) that llm-metrics uses. Install one before the metrics are built, or pass one \
                 to `Builder::recorder` or `Builder::exporter`. If one is installed, it belongs to another version of `metrics`: `cargo tree -d -i metrics` shows the versions",
            ),
            Self::Summary { metric } => InvalidPage::Summary { metric }.fmt(f),
            Self::OtherBuckets { metric } => InvalidPage::OtherBuckets { metric }.fmt(f),
            Self::UnclassifiedError { error, counted } => write!(
                f,
                "the service inside the layer failed with an error that is not classified (its type is `{error}`), so its request counts as \
                 `error_type=\"{counted}\"`. Classify it: `.classify_error(TowerErrors)` on the layer, with the feature `tower`, knows the errors of \
                 tower's timeout and load shedding. For other errors, pass a function to `.classify_error`"
            ),
            Self::SameAge { age } => write!(
                f,
                "{IN_A_ROW} cancelled requests in a row were dropped at the same age, {:.1} s, probably by a time limit outside of the metrics layer or of the \
                 clients. If you have a timeout layer, put it inside the metrics layer (in axum the last `.layer(…)` is the outermost): then these \
                 requests count as timeouts",
                age.as_secs_f64()
            ),
            Self::NoRequest => write!(
                f,
                "the page was read {PAGES} times, and no `POST` has reached the layer yet. If there were requests, they did not pass through the layer: in axum a \
                 `.layer(…)` covers only the routes that were added before it, and clients of a gateway have to call the gateway"
            ),
        }
    }
}

/// Which hints have been logged, and the state from which some of them are derived.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// One bit per hint, and the three bits below.
    bits: AtomicU16,
    pages: AtomicU8,
    cancelled: CancelledAges,
}

/// A layer or an observer was created.
const OBSERVER: u16 = 1 << 13;
/// A `POST` has reached a layer or an observer.
const POST: u16 = 1 << 14;
/// A page was checked.
#[cfg(feature = "prometheus")]
const PAGE: u16 = 1 << 15;

impl Hints {
    /// Whether this is the first page that is checked.
    #[cfg(feature = "prometheus")]
    pub(super) fn first_page(&self) -> bool {
        self.bits.fetch_or(PAGE, Ordering::Relaxed) & PAGE == 0
    }

    #[inline]
    fn seen(&self, bit: u16) {
        // It is nearly always set already, and a read is cheaper than a write.
        if self.bits.load(Ordering::Relaxed) & bit == 0 {
            self.bits.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

impl Inner {
    /// Call it when a layer or an observer is created.
    pub(crate) fn observed(&self) {
        self.hints.seen(OBSERVER);
    }

    /// Call it for each `POST`, whatever its path.
    #[inline]
    pub(crate) fn post_arrived(&self) {
        self.hints.seen(POST);
    }

    /// Call it before each page is rendered.
    pub(super) fn page_read(&self) {
        let Hints { bits, pages, .. } = &self.hints;
        let none_arrived = bits.load(Ordering::Relaxed) & (OBSERVER | POST | Hint::NoRequest.bit()) == OBSERVER;
        if none_arrived && pages.fetch_add(1, Ordering::Relaxed) + 1 >= PAGES {
            self.hint(Hint::NoRequest);
        }
    }

    /// Call it for each request that is cancelled because it was dropped, with its age.
    pub(crate) fn dropped(&self, now: Instant, age: Duration) {
        if let Some(age) = self.hints.cancelled.cancelled(now, age) {
            self.hint(Hint::SameAge { age });
        }
    }

    /// Logs the hint, once.
    #[inline]
    pub(crate) fn hint(&self, hint: Hint) {
        if self.hints.bits.load(Ordering::Relaxed) & hint.bit() == 0 {
            self.log(hint);
        }
    }

    #[cold]
    fn log(&self, hint: Hint) {
        if self.hints.bits.fetch_or(hint.bit(), Ordering::Relaxed) & hint.bit() == 0 {
            #[cfg(feature = "tracing")]
            let _ = crate::catch::catch_panic(|| match hint {
                // Not necessarily a mistake: perhaps nobody has called the service yet.
                Hint::NoRequest => tracing::info!(target: crate::spans::HINTS, "{hint}"),
                _ => tracing::warn!(target: crate::spans::HINTS, "{hint}"),
            });
        }
    }
}
