//! The names of labels that are not in the core's list: those that a scrape adds, the GPU collector's and the gateway's.

/// The job that a target was scraped for.
pub const JOB: &str = "job";
/// The host and port that a target was scraped at.
pub const INSTANCE: &str = "instance";
/// The index of a GPU.
pub const GPU: &str = "gpu";
/// What identifies a GPU for good.
pub const GPU_UUID: &str = "gpu_uuid";

/// The name that a gateway has for a server behind it.
pub const UPSTREAM: &str = "upstream";

/// The labels that every scraped series has.
pub const TARGET_LABELS: [&str; 2] = [JOB, INSTANCE];
