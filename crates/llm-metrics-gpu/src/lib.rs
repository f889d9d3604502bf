//! GPU metrics for inference services: peaks between two scrapes are kept, no request waits for the driver, units are correct.
//!
//! One line starts a collector; dropping the value that it returns stops it:
//!
//! ```no_run
//! use llm_metrics_gpu::GpuCollector;
//!
//! let gpu = GpuCollector::builder().start();
//! # drop(gpu);
//! ```
//!
//! It works in an inference server and in a separate process. Without a GPU it logs that once,
//! sets `gpu_collector_up` to 0 and waits for a driver to appear.
//!
//! # How it differs from other collectors
//! - **It reads the driver's own ring buffer of utilisation samples**, about six per second, instead of a gauge: a kernel
//!   that ran for 200 ms between two scrapes is visible in `gpu_utilization_max_ratio` and in `gpu_busy_seconds_total`.
//! - **Nothing else is blocked.** One thread makes all driver calls, at most ten per second and device. A call that never returns blocks only that
//!   thread: the metrics of all devices are then stale, which the age of the last success shows.
//! - **A lost device does not affect the others.** They are still monitored, and the lost one is picked up again when it returns. A device that was lost before
//!   the collector started is counted as missing.
//! - **It reads XIDs that NVML does not deliver**: 79, 119 and 120, from the kernel log, if that is readable.
//! - **It can close the driver while the process runs** ([`GpuCollector::pause`]), so that a GPU can be reset.
//! - **Absent is not zero.** Metrics that a device does not support have no series; values that it no longer reports are NaN.
//!
//! # Buckets
//! `gpu_collector_tick_seconds` is a histogram. Pass this crate's catalogue ([`catalog::SECTIONS`]) to the exporter, so that
//! it has the right buckets.
//!
//! # Pitfalls
//! The gauges of a lost device are NaN, and so is every sum that includes them. To exclude them, join with `gpu_up == 1`. `docs/gpu.md` explains what each metric
//! means, and does not mean.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(test)]
extern crate self as llm_metrics_gpu;

mod backoff;
mod builder;
pub mod catalog;
mod collector_metrics;
mod control;
mod count;
mod device;
mod load;
mod plausible;
mod sampler;
mod select;
pub mod source;
#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use builder::{GpuCollector, GpuCollectorBuilder};
