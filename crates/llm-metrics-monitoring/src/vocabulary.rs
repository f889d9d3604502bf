//! The names of labels that are not in the core's list: those of scrapes, the GPU collector and the gateway.

/// The job that a target was scraped for.
pub const JOB: &str = "job";
/// The host and port that a target was scraped at.
pub const INSTANCE: &str = "instance";
/// The index of a GPU.
pub const GPU: &str = "gpu";
/// The permanent id of a GPU.
pub const GPU_UUID: &str = "gpu_uuid";

/// A gateway's name for an upstream.
pub const UPSTREAM: &str = "upstream";

/// The labels that every scraped series has.
pub const TARGET_LABELS: [&str; 2] = [JOB, INSTANCE];
