//! The server's own metrics, for comparison with the clients' measurements.

mod compare;
mod exposition;
mod gpu;
mod names;
mod scrape;
mod view;

pub use compare::Comparison;
pub(crate) use compare::compare;
pub(crate) use exposition::Page;
pub(crate) use gpu::GpuReader;
pub(crate) use names::Names;
pub(crate) use scrape::{Scraper, Watch};
pub use view::{BucketQuantile, GpuView, ServerLatency, ServerView};
