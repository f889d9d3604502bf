//! The names of labels: those of scrapes, and those of the catalogues, whose values their rows have.

use llm_metrics::catalog::labels;
use llm_metrics_gateway::catalog::labels as gateway;
use llm_metrics_gpu::catalog::labels as gpu;

/// The job that a target was scraped for.
pub const JOB: &str = "job";
/// The host and port that a target was scraped at.
pub const INSTANCE: &str = "instance";

/// The labels that every scraped series has.
pub const TARGET_LABELS: [&str; 2] = [JOB, INSTANCE];

macro_rules! names {
    ($($name:ident = $label:path;)+) => {
        $(#[doc = concat!("The name of `", stringify!($label), "`.")]
        pub const $name: &str = $label.name;)+
    };
}

names! {
    CAUSE = labels::CAUSE;
    ERROR_TYPE = labels::ERROR_TYPE;
    EVIDENCE = labels::EVIDENCE;
    FINISH_REASON = labels::FINISH_REASON;
    FORMAT = labels::FORMAT;
    GPU = gpu::GPU;
    GPU_UUID = gpu::GPU_UUID;
    KIND = labels::ANOMALY_KIND;
    LABEL = labels::LABEL;
    MODEL = labels::MODEL;
    OPERATION = labels::OPERATION;
    OUTCOME = labels::OUTCOME;
    PHASE = labels::PHASE;
    PROTOCOL = labels::PROTOCOL;
    REASON = labels::DISCARD_REASON;
    RESULT = labels::SLO_RESULT;
    SOURCE = labels::SOURCE;
    STAT = labels::STAT;
    STATUS = labels::STATUS;
    STREAM = labels::STREAM;
    THINKING = labels::THINKING;
    UPSTREAM = gateway::UPSTREAM;
}
