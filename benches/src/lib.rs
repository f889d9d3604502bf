//! Code that the benchmarks share: the bytes that an engine sends, a service that sends them, and a clock.
//!
//! The services are polled directly, without a runtime and without sockets, so that only the layer and the wrapped service are measured. See
//! `README.md` for the budgets and the results.

#![forbid(unsafe_code)]

pub mod measure;
pub mod peers;
pub mod protocols;
pub mod sample;
pub mod script;
pub mod serve;
pub mod throughput;
pub mod typed;
