//! skeleton
#![forbid(unsafe_code)]
pub mod catalog;
mod inference;
pub mod layer;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod record;
mod vocabulary;
mod wire;

pub use inference::{Inference, InferenceHandle};
pub use layer::LlmMetricsLayer;
pub use record::{BuildError, Builder, EngineGauges, LabelPolicy, LlmMetrics, LoadedModel, MAX_NAME_BYTES, ModelInfo};
pub use vocabulary::{Endpoint, ErrorType, FinishReason, Operation, Outcome, Thinking, Usage};
