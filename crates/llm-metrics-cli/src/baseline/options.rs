//! The options of a run, and the run.

use std::{env, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use llm_metrics_baseline::{
    Access, Baseline, Lengths, Objective, Progress, Prompts, Protocol, Rates, Settings, ThinkingSwitch, report::html,
};

use super::{files, progress::Bar, summary};
use crate::{Failure, prefix, read_slo};

#[derive(Args)]
pub(super) struct Options {
    /// The base URL of the server, such as http://127.0.0.1:8080 (http or https)
    #[arg(required = true)]
    target: Option<String>,
    /// The API of the server
    #[arg(long, value_enum, default_value_t = Api::Openai)]
    protocol: Api,
    /// The model to request [default: the only one that the server lists]
    #[arg(long, default_value = "")]
    model: String,
    /// The environment variable that holds the API key, if the server needs one
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// A PEM file with the certificates of a private CA, for https (SSL_CERT_FILE works, too)
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Confirm that a server on another machine is yours to load-test
    #[arg(long)]
    yes_this_is_mine: bool,

    /// Run these rates (requests per second) in turn instead of searching for the knee
    #[arg(long, value_name = "R,R,…", value_delimiter = ',', help_heading = "Rates")]
    rates: Vec<f64>,
    /// The first rate of the search [default: half the rate that one sequential client reaches]
    #[arg(long, value_name = "R", conflicts_with = "rates", help_heading = "Rates")]
    start: Option<f64>,
    /// Multiply the rate by this until the server saturates
    #[arg(long, default_value_t = 1.5, help_heading = "Rates")]
    factor: f64,
    /// Stop bisecting when the knee is known to within this share
    #[arg(long, default_value_t = 0.05, value_name = "SHARE", help_heading = "Rates")]
    precision: f64,
    /// The highest rate to try (requests per second)
    #[arg(long, default_value_t = 1000.0, value_name = "R", help_heading = "Rates")]
    max_rate: f64,

    /// Prompts, one per line, as text or as JSON objects with a "prompt" field [default: a built-in mixture]
    #[arg(long, value_name = "FILE", help_heading = "Workload")]
    prompts: Option<PathBuf>,
    /// Add this many words in front of each prompt: 64, 32..128, or ~64 (log-normal with this median)
    #[arg(long, default_value = "0", value_name = "LENGTHS", help_heading = "Workload")]
    input_words: Lengths,
    /// The maximum number of output tokens of each request, in the same notation
    #[arg(long, default_value = "32..128", value_name = "LENGTHS", help_heading = "Workload")]
    output_tokens: Lengths,
    /// Request complete responses instead of streams; time to first token is not measured then
    #[arg(long, help_heading = "Workload")]
    no_stream: bool,
    /// Switch thinking on or off; `both` switches it on for every other request
    #[arg(long, value_enum, help_heading = "Workload")]
    thinking: Option<Thinking>,
    /// The share of clients that disconnect in the middle of the response
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", help_heading = "Workload")]
    hang_ups: f64,
    /// Send prompts unchanged; otherwise each starts with random words, so that no prefix cache answers
    #[arg(long, help_heading = "Workload")]
    same_prompts: bool,
    /// The seed for arrival times and prompts
    #[arg(long, default_value_t = 1, help_heading = "Workload")]
    seed: u64,

    /// An objective: ttft=500ms@95%, tpot=50ms@95%, duration=10s@99% or availability@99.5%; may be repeated [default: those of slo.yaml]
    #[arg(long = "objective", value_name = "OBJECTIVE", help_heading = "Objectives")]
    objectives: Vec<Objective>,
    /// Read the objectives from this slo.yaml
    #[arg(long, value_name = "FILE", conflicts_with = "objectives", help_heading = "Objectives")]
    slo: Option<PathBuf>,

    /// A metrics endpoint of the server or of a GPU exporter; may be repeated [default: /metrics of the server]
    #[arg(long, value_name = "URL", help_heading = "Metrics")]
    metrics: Vec<String>,
    /// The prefix of the names of the server's metrics
    #[arg(long, default_value = "llm", value_parser = prefix, help_heading = "Metrics")]
    metrics_prefix: String,
    /// The prefix of the names of the GPU metrics
    #[arg(long, default_value = "gpu", value_parser = prefix, help_heading = "Metrics")]
    gpu_metrics_prefix: String,

    /// Discard at least this much of the start of each rate
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Limits")]
    warm_up: Duration,
    /// Measure each rate for at least this long
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Limits")]
    min_step: Duration,
    /// Measure each rate for at most this long, if its 99th percentiles do not stabilise earlier
    #[arg(long, default_value = "90s", value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Limits")]
    max_step: Duration,
    /// End the run after this long
    #[arg(long, default_value = "30m", value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Limits")]
    max_time: Duration,
    /// End the run after this many requests
    #[arg(long, default_value_t = 50_000, value_name = "N", help_heading = "Limits")]
    max_requests: u64,
    /// End a rate when it has this many requests in flight
    #[arg(long, default_value_t = 256, value_name = "N", help_heading = "Limits")]
    max_in_flight: u64,
    /// The timeout of a request
    #[arg(long, default_value = "2m", value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Limits")]
    timeout: Duration,
    /// The timeout for a response that sends no data
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Limits")]
    silence: Duration,

    /// Write the results to this file
    #[arg(long, default_value = "baseline.json", value_name = "FILE", help_heading = "Output")]
    out: PathBuf,
    /// Write the HTML report to this file [default: next to the results, as .html]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Print the results as JSON, and nothing else
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Api {
    Openai,
    Anthropic,
    Ollama,
}

#[derive(Clone, Copy, ValueEnum)]
enum Thinking {
    On,
    Off,
    Both,
}

impl Options {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut access = Access::default();
        access.anywhere = self.yes_this_is_mine;
        access.ca_file.clone_from(&self.ca_file);
        access.key = self.api_key_env.as_deref().map(key).transpose()?;
        let settings = self.settings()?;
        let report = self.report.clone().unwrap_or_else(|| self.out.with_extension("html"));
        files::check(&self.out)?;
        if report == self.out && !files::is_special(&report) {
            return Err(Failure::Usage(format!(
                "{}: the report has the same name: choose another one",
                report.display()
            )));
        }
        files::check(&report)?;
        let baseline = run(settings, access, self.json)?;
        files::write(&self.out, &baseline.to_json())?;
        files::write(&report, &html(&baseline))?;
        if self.json {
            files::print(&baseline.to_json());
        } else {
            files::print(&format!("{}\n{} {}\n", summary::of(&baseline), self.out.display(), report.display()));
        }
        if baseline.server_failed() {
            return Err(Failure::Finding(
                "the server failed during the run; the results up to then have been written".to_owned(),
            ));
        }
        if baseline.steps.is_empty() {
            return Err(Failure::Finding(
                "nothing was measured; the findings in the results have the reason".to_owned(),
            ));
        }
        Ok(())
    }

    fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        settings.target = self.target.clone().unwrap_or_default();
        settings.protocol = match self.protocol {
            Api::Openai => Protocol::OpenAi,
            Api::Anthropic => Protocol::Anthropic,
            Api::Ollama => Protocol::Ollama,
        };
        settings.model.clone_from(&self.model);
        settings.metrics.clone_from(&self.metrics);
        settings.metrics_prefix.clone_from(&self.metrics_prefix);
        settings.gpu_metrics_prefix.clone_from(&self.gpu_metrics_prefix);
        settings.seed = self.seed;
        settings.rates = if self.rates.is_empty() {
            Rates::Search { start: self.start, factor: self.factor, precision: self.precision, most: self.max_rate }
        } else {
            Rates::Fixed(self.rates.clone())
        };
        if let Some(path) = &self.slo {
            settings.objectives = Objective::of(&read_slo(path)?);
        } else if !self.objectives.is_empty() {
            settings.objectives.clone_from(&self.objectives);
        }

        let workload = &mut settings.workload;
        workload.prompts = self.prompts.clone().map_or(Prompts::Mixture, Prompts::File);
        workload.input_words = self.input_words;
        workload.output_tokens = self.output_tokens;
        workload.stream = !self.no_stream;
        workload.thinking = match self.thinking {
            None => ThinkingSwitch::Unset,
            Some(Thinking::On) => ThinkingSwitch::On,
            Some(Thinking::Off) => ThinkingSwitch::Off,
            Some(Thinking::Both) => ThinkingSwitch::Both,
        };
        workload.hang_ups = self.hang_ups;
        workload.distinct = !self.same_prompts;

        settings.step.warm_up_seconds = self.warm_up.as_secs_f64();
        settings.step.least_seconds = self.min_step.as_secs_f64();
        settings.step.most_seconds = self.max_step.as_secs_f64();
        settings.limits.seconds = self.max_time.as_secs_f64();
        settings.limits.requests = self.max_requests;
        settings.limits.in_flight = self.max_in_flight;
        settings.limits.request_seconds = self.timeout.as_secs_f64();
        settings.limits.silence_seconds = self.silence.as_secs_f64();
        Ok(settings)
    }
}

fn key(variable: &str) -> Result<String, Failure> {
    let key = env::var(variable).map_err(|error| Failure::Usage(format!("{variable}: {error}")))?;
    if key.is_empty() { Err(Failure::Usage(format!("the environment variable {variable} is empty"))) } else { Ok(key) }
}

fn run(settings: Settings, access: Access, quiet: bool) -> Result<Baseline, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::usage)?;
    let mut bar = Bar::new(&settings.step, quiet);
    let mut report = |progress: Progress<'_>| bar.report(&progress);
    let result = runtime.block_on(llm_metrics_baseline::run(settings, access, asked_to_stop(), &mut report));
    bar.finish();
    // Requests that are still in flight are not waited for.
    runtime.shutdown_background();
    result.map_err(Failure::usage)
}

/// Ctrl-C or SIGTERM; a second one ends the program immediately.
async fn asked_to_stop() {
    signal().await;
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
}

async fn signal() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => terminate.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
