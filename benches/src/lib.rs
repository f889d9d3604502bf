//! What the benchmarks share: the bytes that an engine sends, a service that sends them, and a clock.
//!
//! The services are driven by hand, without a runtime and without sockets, so that what is measured is the layer and
//! what it wraps, and nothing else. See `README.md` for the budgets and the numbers.

#![forbid(unsafe_code)]

pub mod measure;
pub mod peers;
pub mod protocols;
pub mod sample;
pub mod script;
pub mod serve;
pub mod throughput;
pub mod typed;
