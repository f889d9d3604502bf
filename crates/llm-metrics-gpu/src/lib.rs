//! GPU metrics for inference services: no peak lost, nothing blocked, no unit lied about.
//!
//! One line starts a collector; dropping what it returns stops it:
//!
//! ```no_run
//! use llm_metrics_gpu::GpuCollector;
//!
//! let gpu = GpuCollector::builder().start();
//! # drop(gpu);
//! ```
//!
//! It works the same in an inference server and in a process that does nothing else. Where there is no GPU it says so once,
//! sets `gpu_collector_up` to 0 and waits for a driver to appear.
//!
//! # What it does that others do not
//! - **It drains the driver's own ring of utilisation samples**, some six a second, instead of looking at a gauge: a kernel
//!   that ran for 200 ms between two scrapes shows in `gpu_utilization_max_ratio` and in `gpu_busy_seconds_total`.
//! - **It blocks nobody.** One thread makes all calls, ten a second and device at most. A call that never returns costs that
//!   thread and nothing else.
//! - **One lost device is one lost device.** The others go on; it comes back by itself.
//! - **Absent is not zero.** What a device does not support does not exist; what it no longer says is NaN.
//!
//! # Buckets
//! `gpu_collector_tick_seconds` is a histogram. Give the exporter this crate's rows
//! ([`catalog::SECTIONS`]), so that it has buckets.
//!
//! # Pitfalls
//! The gauges of a lost device are NaN, which spoils sums: join with `gpu_up == 1`. What each figure means, and does not
//! mean, is in `docs/gpu.md`.

#![deny(unsafe_code)]

#[cfg(test)]
extern crate self as llm_metrics_gpu;

mod builder;
pub mod catalog;
mod device;
mod load;
mod sampler;
mod select;
mod sink;
pub mod source;
#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use builder::{GpuCollector, GpuCollectorBuilder};
