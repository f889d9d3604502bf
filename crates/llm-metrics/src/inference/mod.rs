//! One request, from its arrival to its end.
//!
//! The layer feeds it with what it reads on the wire; an engine without HTTP uses [`Inference`]. Both use the same state machine, which records each
//! observation when it happens, and the result of the request once: at its end, or when it is dropped.

mod choices;
mod ended_span;
mod frame_sink;
mod handle;
mod manual;
mod per_token;
mod quality;
mod role;
mod shared;
#[cfg_attr(not(feature = "tracing"), path = "no_span.rs")]
mod span;
mod tags;
mod timing;
mod tracker;
mod usage;
mod verdict;

use ended_span::EndedSpan;
pub use handle::InferenceHandle;
pub use manual::{Inference, InferenceBuilder};
pub(crate) use role::Role;
pub(crate) use shared::SharedRequest;
pub(crate) use tracker::{RequestTracker, RouteFacts};
pub(crate) use verdict::{End, server_error};

#[cfg(test)]
mod tests;
