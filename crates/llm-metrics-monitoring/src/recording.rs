//! The recording rules: values that alerts and dashboards read instead of computing them again.
//!
//! A ratio or quantile of no events is not recorded (`>= 0` drops NaN), so averages over a rule are averages over measured values.
//!
//! ```
//! use llm_metrics_monitoring::{promql::Names, recording::Recording, slo::Slo};
//!
//! let rules = Recording::new(&Slo::default());
//! assert_eq!(rules.requests.name(&Names::new()), "job_model:llm_requests:rate5m");
//! ```

use llm_metrics::catalog::{self, Unit};
use llm_metrics_gpu::catalog as gpu;

use crate::vocabulary::{OUTCOME, PHASE, RESULT};
use crate::{
    counter, gauge, histogram,
    promql::{Counter, Window},
    rule::{
        Level, Rule,
        RuleMetric::{Core, Gpu},
    },
    slo::{OverrideScope, Slo},
};

mod expressions;
mod groups;
mod indicator;
mod quantiles;

pub use expressions::alive;
use expressions::{
    FIRST_TOKEN, FirstTokens, GAPS, LONGEST_GAP, cut_ratio, desired_replicas, first_tokens, joules_per_token,
    memory_forecast, of_outputs, over, recorded, rule, share, streams_with_gaps, structured_ratio,
};
pub use groups::RuleGroup;
pub use indicator::{BURN_WINDOWS, Budget, Indicator};
use indicator::{Events, of_window};
pub(crate) use indicator::{budget_of, by_cell};
pub use quantiles::Quantiles;

/// The short window, which most alerts use.
pub const SHORT: Window = Window::minutes(5);
/// The evaluation interval of rules over at most some hours.
pub const INTERVAL: Window = Window::seconds(30);
/// The evaluation interval of rules over a day or more. Well below the five minutes for which Prometheus uses a sample.
pub const LONG_INTERVAL: Window = Window::minutes(2);

/// All recording rules.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recording {
    /// Requests per second by outcome, over five minutes: the longer windows are built from it.
    pub outcomes: Rule,
    /// Requests per second over five minutes.
    pub requests: Rule,
    /// Streams per second that should have had a first token: those that had one, and those that ended without.
    pub streams: Rule,
    /// Streams per second whose first token met the objective.
    pub streams_in_time: Rule,
    /// Streams per second whose first token missed the objective, or never arrived.
    pub slow_streams: Rule,
    /// Streams per second that ended without a token.
    pub tokenless_streams: Rule,
    /// Gaps between tokens per second.
    pub all_gaps: Rule,
    /// Gaps per second that are longer than the objective.
    pub long_gaps: Rule,
    /// Streams per second with such a gap: an alert about gaps needs several streams.
    pub streams_with_gaps: Rule,
    /// Requests per second for which the server evaluated an objective.
    pub judged: Rule,
    /// Requests per second that missed it.
    pub missed: Rule,
    /// Requests per second that met each objective of the server.
    pub goodput: Rule,
    /// Failed requests divided by successful and failed requests.
    pub errors: Indicator,
    /// Share of streams whose first token missed the objective.
    pub slow_first_token: Indicator,
    /// Share of gaps that are longer than the objective.
    pub slow_gaps: Indicator,
    /// Share of requests that missed each objective of the server.
    pub misses: Indicator,
    /// The number of streams with a gap longer than the objective, over each window.
    pub gapped: Vec<(Window, Rule)>,
    /// The error budget of requests.
    pub availability_budget: Budget,
    /// The error budget of first tokens.
    pub first_token_budget: Budget,
    /// The error budget of gaps.
    pub gaps_budget: Budget,
    /// Duration of successful requests: failures can be fast, and would hide slow requests.
    pub duration: Quantiles,
    /// Time to first token.
    pub first_token: Quantiles,
    /// Gaps between tokens.
    pub gaps: Quantiles,
    /// Mean time per output token of each request.
    pub per_token: Quantiles,
    /// Time in the engine's queue, if the engine reports it.
    pub queue: Quantiles,
    /// Prompt tokens per second.
    pub input_tokens: Rule,
    /// Output tokens per second, as reported.
    pub output_tokens: Rule,
    /// Output tokens per second of all models of a job.
    pub job_output_tokens: Rule,
    /// The 95th percentile of time to first token: its median over a day.
    pub first_token_usual: Rule,
    /// Share of choices that ended at the token limit.
    pub cut_ratio: Rule,
    /// Share of valid outputs among the structured outputs that were checked.
    pub structured_valid_ratio: Rule,
    /// Share of outputs among them that are not valid, for any reason.
    pub structured_invalid_ratio: Rule,
    /// Share of tool calls that cannot be executed.
    pub tool_call_invalid_ratio: Rule,
    /// Share of choices that repeated themselves.
    pub loop_ratio: Rule,
    /// Share of choices that are empty.
    pub empty_ratio: Rule,
    /// Requests in flight at each target.
    pub in_flight: Rule,
    /// Requests at each target that have no token yet.
    pub waiting: Rule,
    /// Requests in flight over all targets of a job.
    pub job_in_flight: Rule,
    /// The forecast of that in 15 minutes, by the trend of the last half hour.
    pub in_flight_forecast: Rule,
    /// Requests in flight divided by the capacity of all replicas: above 1 it is too much.
    pub saturation: Rule,
    /// The desired number of replicas: a hint for autoscaling.
    pub desired_replicas: Rule,
    /// The number of loaded instances of a model over all targets of a job.
    pub loaded: Rule,
    /// Share of a GPU's memory in use.
    pub gpu_memory_ratio: Rule,
    /// The forecast of that share, by the trends of the last hour and the last 15 minutes.
    pub gpu_memory_forecast: Rule,
    /// Joules per output token, including the energy for prompts.
    pub joules_per_token: Rule,
}

impl Recording {
    /// The rules for these settings.
    #[must_use]
    pub fn new(slo: &Slo) -> Self {
        let by_model = || Level::JobModel.labels();
        let requests = || counter!(catalog::REQUESTS);
        let outcomes = Rule::new(
            Level::JobModelOutcome,
            Core("requests"),
            "rate5m",
            Unit::Count,
            requests().rate(SHORT).sum_by(Level::JobModelOutcome.labels()),
        );
        // Rates now, or sums over a window, for some outcomes.
        let of_outcomes = |outcomes: &Rule, which: &[&'static str], window: Option<Window>| {
            let rates = outcomes.gauge().with_any(OUTCOME, which.iter().copied());
            over(rates, window).sum_by(by_model())
        };
        let failed = |window| of_outcomes(&outcomes, &["error"], window);
        let answered = |window| of_outcomes(&outcomes, &["success", "error"], window);
        let errors = Indicator::new(&Events {
            level: Level::JobModel,
            metric: Core("requests"),
            bad_word: "errors",
            ratio_word: "error_ratio",
            bad: &failed,
            all: &answered,
        });

        let FirstTokens { tokenless, streams, in_time, slow } = first_tokens(slo);
        let (late, all_streams) = (|window| over(slow.gauge(), window), |window| over(streams.gauge(), window));
        let slow_first_token = Indicator::new(&Events {
            level: Level::JobModel,
            metric: FIRST_TOKEN,
            bad_word: "slow",
            ratio_word: "slow_ratio",
            bad: &late,
            all: &all_streams,
        });

        let gaps = histogram!(catalog::INTER_TOKEN_LATENCY);
        let all_gaps = rule(GAPS, "count_rate5m", Unit::Count, gaps.clone().count().rate(SHORT).sum_by(by_model()));
        let long_gaps = by_cell(slo, OverrideScope::ByModel, |cell| {
            let within = gaps.clone().with_bounds(slo.bounds_of(&catalog::INTER_TOKEN_LATENCY));
            let within = within.within(cell.objectives.inter_token_latency.seconds);
            all_gaps.now() - within.rate(SHORT).sum_by(by_model())
        });
        let long_gaps = rule(GAPS, "slow_rate5m", Unit::Count, long_gaps);
        let (long, each_gap) = (|window| over(long_gaps.gauge(), window), |window| over(all_gaps.gauge(), window));
        let slow_gaps = Indicator::new(&Events {
            level: Level::JobModel,
            metric: GAPS,
            bad_word: "slow",
            ratio_word: "slow_ratio",
            bad: &long,
            all: &each_gap,
        });
        let streams_with_gaps = rule(LONGEST_GAP, "slow_rate5m", Unit::Count, streams_with_gaps(slo));
        let gapped = BURN_WINDOWS.map(|window| {
            let seconds = if window == SHORT { SHORT } else { INTERVAL }.as_seconds().unwrap_or(30);
            let window_of = (window != SHORT).then_some(window);
            let events = over(streams_with_gaps.gauge(), window_of) * f64::from(seconds);
            (window, rule(LONGEST_GAP, &format!("slow_increase{window}"), Unit::Count, events))
        });

        let by_slo = |operation: &str, counter: Counter| {
            let expr = counter.rate(SHORT).sum_by(Level::JobModelSlo.labels());
            Rule::new(Level::JobModelSlo, Core("slo_requests"), operation, Unit::Count, expr)
        };
        let judged = by_slo("rate5m", counter!(catalog::SLO_REQUESTS));
        let missed = by_slo("missed_rate5m", counter!(catalog::SLO_REQUESTS).with(RESULT, "missed"));
        let (misses, all_judged) = (|window| over(missed.gauge(), window), |window| over(judged.gauge(), window));
        let misses = Indicator::new(&Events {
            level: Level::JobModelSlo,
            metric: Core("slo_requests"),
            bad_word: "missed",
            ratio_word: "missed_ratio",
            bad: &misses,
            all: &all_judged,
        });

        let tokens = |row: Counter| row.rate(SHORT).sum_by(by_model());
        let output_tokens =
            rule(Core("output_tokens"), "rate5m", Unit::Tokens, tokens(counter!(catalog::OUTPUT_TOKENS)));
        let first_token = Quantiles::new(
            [FIRST_TOKEN, Core("time_to_first_token_seconds_bucket")],
            &histogram!(catalog::TIME_TO_FIRST_TOKEN),
        );
        let load = |level: &Level, operation: &str, expr| {
            Rule::new(level.clone(), Core("requests_in_flight"), operation, Unit::Count, expr)
        };
        let (at, of_job) = (Level::Instance, Level::Job);
        let in_flight = load(&at, "sum", gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum_by(at.labels()));
        let waiting = gauge!(catalog::REQUESTS_IN_FLIGHT).with(PHASE, "waiting").now().sum_by(at.labels());
        let job_in_flight = load(&of_job, "sum", in_flight.now().sum_by(of_job.labels()));
        // A line through the first minutes after a start has no meaning: the forecast is at most as long as the data.
        let ahead = Window::minutes(15);
        let known = job_in_flight.gauge().offset(ahead).now();
        let soon = job_in_flight.gauge().predict_linear(Window::minutes(30), ahead).clamp_min(0.0).and(known);
        let in_flight_forecast = load(&of_job, "forecast15m", soon);
        let gpu_memory_ratio = Rule::new(
            Level::Gpu,
            Gpu("memory_used"),
            "ratio",
            Unit::Ratio,
            alive(gauge!(gpu::MEMORY_USED).now() / gauge!(gpu::MEMORY_TOTAL).now()),
        );
        let objectives = |slo: &Slo| slo.objectives.clone();
        Self {
            availability_budget: Budget::new(
                slo,
                "availability",
                &errors,
                |slo| objectives(slo).availability,
                &failed,
                &answered,
            ),
            first_token_budget: Budget::new(
                slo,
                "time_to_first_token",
                &slow_first_token,
                |slo| objectives(slo).time_to_first_token.objective,
                &late,
                &all_streams,
            ),
            gaps_budget: Budget::new(
                slo,
                "inter_token_latency",
                &slow_gaps,
                |slo| objectives(slo).inter_token_latency.objective,
                &long,
                &each_gap,
            ),
            requests: rule(Core("requests"), "rate5m", Unit::Count, outcomes.now().sum_by(by_model())),
            goodput: by_slo("goodput_rate5m", counter!(catalog::SLO_REQUESTS).with(RESULT, "met")),
            duration: Quantiles::new(
                [Core("request_duration_seconds"), Core("request_duration_seconds_bucket")],
                &histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success"),
            ),
            gaps: Quantiles::new([GAPS, Core("inter_token_latency_seconds_bucket")], &gaps),
            per_token: Quantiles::new(
                [Core("time_per_output_token_seconds"), Core("time_per_output_token_seconds_bucket")],
                &histogram!(catalog::TIME_PER_OUTPUT_TOKEN),
            ),
            queue: Quantiles::new(
                [Core("request_queue_seconds"), Core("request_queue_seconds_bucket")],
                &histogram!(catalog::REQUEST_QUEUE),
            ),
            input_tokens: rule(Core("input_tokens"), "rate5m", Unit::Tokens, tokens(counter!(catalog::INPUT_TOKENS))),
            job_output_tokens: Rule::new(
                Level::Job,
                Core("output_tokens"),
                "rate5m",
                Unit::Tokens,
                output_tokens.now().sum_by(Level::Job.labels()),
            ),
            output_tokens,
            first_token_usual: rule(
                FIRST_TOKEN,
                "p95_rate5m_median1d",
                Unit::Seconds,
                first_token.p95.gauge().quantile_over_time(0.5, Window::days(1)),
            ),
            first_token,
            structured_valid_ratio: rule(
                Core("structured_outputs"),
                "valid_ratio_rate5m",
                Unit::Ratio,
                structured_ratio(counter!(catalog::STRUCTURED_OUTPUTS).with(RESULT, "valid")),
            ),
            structured_invalid_ratio: rule(
                Core("structured_outputs"),
                "invalid_ratio_rate5m",
                Unit::Ratio,
                structured_ratio(counter!(catalog::STRUCTURED_OUTPUTS).without_any(RESULT, ["valid", "unchecked"])),
            ),
            tool_call_invalid_ratio: rule(
                Core("tool_calls"),
                "invalid_ratio_rate15m",
                Unit::Ratio,
                share(
                    counter!(catalog::TOOL_CALLS).without_any(RESULT, ["valid"]),
                    counter!(catalog::TOOL_CALLS),
                    Window::minutes(15),
                ),
            ),
            loop_ratio: rule(
                Core("output_repetition"),
                "ratio_rate15m",
                Unit::Ratio,
                of_outputs(counter!(catalog::OUTPUT_REPETITION)),
            ),
            empty_ratio: rule(
                Core("output_empty"),
                "ratio_rate15m",
                Unit::Ratio,
                of_outputs(counter!(catalog::OUTPUT_EMPTY)),
            ),
            cut_ratio: rule(Core("finish_reasons"), "length_ratio_rate15m", Unit::Ratio, recorded(cut_ratio())),
            waiting: load(&at, "waiting_sum", waiting),
            saturation: Rule::new(
                Level::Job,
                Core("requests_in_flight"),
                "saturation_ratio",
                Unit::Ratio,
                by_cell(slo, OverrideScope::ByJob, |slo| {
                    in_flight.now().avg_by(Level::Job.labels()) / slo.scaling.requests_per_replica
                }),
            ),
            desired_replicas: Rule::new(
                Level::Job,
                Core("desired_replicas"),
                "hint",
                Unit::Count,
                by_cell(slo, OverrideScope::ByJob, |slo| {
                    desired_replicas(&job_in_flight, &in_flight_forecast, slo.scaling.requests_per_replica)
                }),
            ),
            loaded: rule(Core("model_info"), "sum", Unit::Count, gauge!(catalog::MODEL_INFO).now().sum_by(by_model())),
            gpu_memory_forecast: Rule::new(
                Level::Gpu,
                Gpu("memory_used"),
                "forecast_ratio",
                Unit::Ratio,
                by_cell(slo, OverrideScope::ByJob, |slo| memory_forecast(&gpu_memory_ratio, slo)),
            ),
            joules_per_token: joules_per_token(slo),
            outcomes,
            streams,
            streams_in_time: in_time,
            slow_streams: slow,
            tokenless_streams: tokenless,
            all_gaps,
            long_gaps,
            streams_with_gaps,
            judged,
            missed,
            errors,
            slow_first_token,
            slow_gaps,
            misses,
            gapped: gapped.into(),
            in_flight,
            job_in_flight,
            in_flight_forecast,
            gpu_memory_ratio,
        }
    }

    /// The number of streams with a gap longer than the objective, over one of [`BURN_WINDOWS`].
    #[must_use]
    pub fn gapped_over(&self, window: Window) -> &Rule {
        of_window(&self.gapped, window)
    }
}
