//! Load tests of LLM servers, and objectives derived from them.
//!
//! [`run`] loads a server with an *open loop*: requests are sent at the times of a Poisson process, whether or not earlier ones have
//! been answered, and each latency is measured from the time at which its request was due. (In a closed loop, each of a number of clients waits for a response before
//! it sends its next request, so that the load falls when the server slows down: the measured latencies are too low, which is known as
//! coordinated omission.) It raises the rate until the server no longer keeps up, and searches for the *knee*: the rate beyond which more requests
//! get no more responses, so that requests queue, and latencies grow for as long as the load lasts. It also reads the
//! server's own metrics, in addition to the clients' measurements. The result is a [`Baseline`], a file with a versioned schema.
//!
//! ```no_run
//! use llm_metrics_baseline::{Access, Settings, run};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::default(); // http://127.0.0.1:8080, OpenAI's API
//! settings.model = "Qwen3-4B".to_owned();
//! let stop = std::future::pending(); // or a future of Ctrl-C: the run then ends with the results so far
//! let baseline = run(settings, Access::default(), stop, &mut |_| {}).await?;
//! std::fs::write("baseline.json", baseline.to_json())?;
//! # Ok(())
//! # }
//! ```
//!
//! The command `llm-metrics baseline` does this; `docs/baseline.md` in the repository explains each result.

#![forbid(unsafe_code)]

pub mod apply;
mod arrivals;
mod baseline;
mod client;
pub mod compare;
mod connection;
mod figure;
mod findings;
mod framing;
mod interval;
mod latency;
mod machine;
mod objective;
mod observation;
mod progress;
mod protocol;
pub mod report;
mod run;
mod search;
mod server;
mod settings;
mod step;
mod stop;
mod target;
#[cfg(test)]
mod testing;
mod tls;
mod views;
mod workload;

pub use baseline::{
    Baseline, ByThinking, ClientView, Ended, InvalidBaseline, Knee, Machine, MemoryPoint, ObjectivesHeld,
    SCHEMA_VERSION, Samples, Server, Step, StepEnded, Verdict,
};
pub use figure::figure;
pub use interval::Interval;
pub use latency::{Latency, Quantile, Share};
pub use objective::{Attainment, Indicator, InvalidObjective, Objective};
pub use observation::ErrorKind;
pub use progress::{Progress, Running};
pub use protocol::Protocol;
pub use run::{Access, RunError, run};
pub use server::{BucketQuantile, Comparison, GpuView, ServerLatency, ServerView};
pub use settings::{InvalidSettings, Limits, Rates, Settings, StepLength};
pub use target::InvalidTarget;
pub use tls::TlsError;
pub use workload::{InvalidLengths, InvalidPrompts, Lengths, Prompts, ThinkingSwitch, Workload};
