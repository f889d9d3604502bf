//! The recording rules: what alerts and dashboards read instead of computing it again.
//!
//! A ratio or quantile of nothing is not recorded (`>= 0` drops NaN), so that averages over a rule are averages over what was
//! measured.
//!
//! ```
//! use llm_metrics_monitoring::{promql::Names, recording::Recording, slo::Slo};
//!
//! let rules = Recording::new(&Slo::default());
//! assert_eq!(rules.requests_5m.name(&Names::new()), "job_model:llm_requests:rate5m");
//! ```

use llm_metrics::catalog::{
    self, Unit,
    labels::{MODEL, OUTCOME, PHASE, RESULT},
};
use llm_metrics_gpu::catalog as gpu;

use crate::{
    counter, gauge, histogram,
    promql::{Expr, Histogram, Label, Window},
    rule::{Level, Rule},
    slo::Slo,
    vocabulary::{GPU_UUID, INSTANCE, JOB},
};

/// What alerts look at: the last minutes.
pub const SHORT: Window = Window::minutes(5);
/// How often the rules are evaluated that look at hours at most.
pub const INTERVAL: Window = Window::seconds(30);
/// How often those are evaluated that look at a day or more. Well below the five minutes for which a sample is remembered.
pub const LONG_INTERVAL: Window = Window::minutes(2);

/// The windows of the burn-rate alerts.
pub const BURN_WINDOWS: [Window; 7] = [
    SHORT,
    Window::minutes(30),
    Window::hours(1),
    Window::hours(2),
    Window::hours(6),
    Window::days(1),
    Window::days(3),
];

/// One indicator over all [`BURN_WINDOWS`].
#[derive(Clone, Debug)]
pub struct Indicator(Vec<(Window, Rule)>);

impl Indicator {
    fn new(stem: &'static str, operation: &str, unit: Unit, expr: impl Fn(Window) -> Expr) -> Self {
        let rule = |window: Window| (window, rule(stem, &format!("{operation}{window}"), unit, expr(window)));
        Self(BURN_WINDOWS.map(rule).into())
    }

    /// The rule over `window`, which is one of [`BURN_WINDOWS`]; the one over the longest for any other.
    #[must_use]
    pub fn over(&self, window: Window) -> &Rule {
        let found = self.0.iter().find(|(known, _)| *known == window);
        &found.unwrap_or_else(|| &self.0[self.0.len() - 1]).1
    }
}

/// Median, 95th and 99th percentile over five minutes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quantiles {
    /// The median.
    pub p50: Rule,
    /// The 95th percentile.
    pub p95: Rule,
    /// The 99th percentile.
    pub p99: Rule,
}

impl Quantiles {
    fn new(stem: &'static str, histogram: &Histogram) -> Self {
        let rule = |quantile: f64, operation: &str| {
            let expr = histogram.clone().quantile(quantile, SHORT, Level::JobModel.labels());
            Rule::new(Level::JobModel, stem, operation, Unit::Seconds, recorded(expr))
        };
        Self { p50: rule(0.5, "p50_rate5m"), p95: rule(0.95, "p95_rate5m"), p99: rule(0.99, "p99_rate5m") }
    }

    fn rules(&self) -> [&Rule; 3] {
        [&self.p50, &self.p95, &self.p99]
    }
}

/// Rules that are evaluated together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuleGroup<'a> {
    /// The file that it is in.
    pub file: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How often.
    pub interval: Window,
    /// In this order.
    pub rules: Vec<&'a Rule>,
}

/// All recording rules.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recording {
    /// Requests a second, by how long one looks back.
    pub requests: Indicator,
    /// Requests a second over five minutes.
    pub requests_5m: Rule,
    /// Share of requests that failed by our fault, of those that succeeded or so failed.
    pub error_ratio: Indicator,
    /// Share of streams whose first token came later than the objective says.
    pub slow_first_token: Indicator,
    /// Share of gaps between tokens that were longer than the objective says.
    pub slow_gaps: Indicator,
    /// Share of requests that met each objective of the server's own.
    pub attainment: [Rule; 2],
    /// Requests a second that met each objective of the server's own.
    pub goodput: Rule,
    /// Request duration, without what was rejected or cancelled.
    pub duration: Quantiles,
    /// Time to the first token.
    pub first_token: Quantiles,
    /// Gaps between tokens.
    pub gaps: Quantiles,
    /// Mean time a token of each request.
    pub per_token: Quantiles,
    /// Time in the engine's queue, where the engine tells.
    pub queue: Quantiles,
    /// Tokens of prompts a second.
    pub input_tokens: Rule,
    /// Tokens produced a second, as they are reported.
    pub output_tokens: Rule,
    /// Their mean over a day.
    pub output_tokens_avg: Rule,
    /// Their standard deviation over a day.
    pub output_tokens_stddev: Rule,
    /// The 95th percentile of the time to the first token, as it mostly was over a day.
    pub first_token_usual: Rule,
    /// Share of choices that ended at the limit on tokens.
    pub cut_ratio: Rule,
    /// Requests in flight at each target.
    pub in_flight: Rule,
    /// Those of them that have no token yet.
    pub waiting: Rule,
    /// Requests in flight over all targets of a job.
    pub job_in_flight: Rule,
    /// The same in a quarter of an hour, if it goes on as in the last half.
    pub in_flight_forecast: Rule,
    /// Requests in flight over what all replicas can have: above 1 it is too much.
    pub saturation: Rule,
    /// How many replicas are wanted: a hint for autoscaling.
    pub desired_replicas: Rule,
    /// Share of a GPU's memory that is used.
    pub gpu_memory_ratio: Rule,
    /// Share of a GPU's memory that will be used, if it goes on as in the last hour.
    pub gpu_memory_forecast: Rule,
    /// Joules per output token, prompts included.
    pub joules_per_token: Rule,
}

impl Recording {
    /// The rules for these settings.
    #[must_use]
    pub fn new(slo: &Slo) -> Self {
        let by_model = || Level::JobModel.labels();
        let requests = Indicator::new("llm_requests", "rate", Unit::Count, |window| {
            counter!(catalog::REQUESTS).rate(window).sum_by(by_model())
        });
        let tokens = |row: crate::promql::Counter| row.rate(SHORT).sum_by(by_model());
        let output_tokens = rule("llm_output_tokens", "rate5m", Unit::Tokens, tokens(counter!(catalog::OUTPUT_TOKENS)));
        let first_token = Quantiles::new("llm_time_to_first_token_seconds", &histogram!(catalog::TIME_TO_FIRST_TOKEN));
        let day = Window::days(1);
        let in_flight = Rule::new(
            Level::Instance,
            "llm_requests_in_flight",
            "sum",
            Unit::Count,
            gauge!(catalog::REQUESTS_IN_FLIGHT).now().sum_by(Level::Instance.labels()),
        );
        let job_in_flight = Rule::new(
            Level::Job,
            "llm_requests_in_flight",
            "sum",
            Unit::Count,
            in_flight.now().sum_by(Level::Job.labels()),
        );
        let in_flight_forecast = Rule::new(
            Level::Job,
            "llm_requests_in_flight",
            "forecast15m",
            Unit::Count,
            job_in_flight.gauge().predict_linear(Window::minutes(30), Window::minutes(15)).clamp_min(0.0),
        );
        let gpu_memory_ratio = Rule::new(
            Level::Gpu,
            "gpu_memory_used",
            "ratio",
            Unit::Ratio,
            alive(gauge!(gpu::MEMORY_USED).now() / gauge!(gpu::MEMORY_TOTAL).now()),
        );
        let ahead = Window::seconds((slo.gpu.memory_forecast_hours * 3600.0).round() as u32);
        Self {
            requests_5m: requests.over(SHORT).clone(),
            requests,
            error_ratio: Indicator::new("llm_requests", "error_ratio_rate", Unit::Ratio, error_ratio),
            slow_first_token: Indicator::new(
                "llm_time_to_first_token_seconds",
                "slow_ratio_rate",
                Unit::Ratio,
                |window| {
                    let within = slo.objectives.time_to_first_token.seconds;
                    recorded(1.0 - histogram!(catalog::TIME_TO_FIRST_TOKEN).share_within(within, window, by_model()))
                },
            ),
            slow_gaps: Indicator::new("llm_inter_token_latency_seconds", "slow_ratio_rate", Unit::Ratio, |window| {
                let within = slo.objectives.inter_token_latency.seconds;
                recorded(1.0 - histogram!(catalog::INTER_TOKEN_LATENCY).share_within(within, window, by_model()))
            }),
            attainment: [SHORT, Window::hours(1)].map(attainment),
            goodput: Rule::new(
                Level::JobModelSlo,
                "llm_slo_requests",
                "goodput_rate5m",
                Unit::Count,
                counter!(catalog::SLO_REQUESTS).with(RESULT, "met").rate(SHORT).sum_by(Level::JobModelSlo.labels()),
            ),
            duration: Quantiles::new(
                "llm_request_duration_seconds",
                &histogram!(catalog::REQUEST_DURATION).with_any(OUTCOME, ["success", "error"]),
            ),
            gaps: Quantiles::new("llm_inter_token_latency_seconds", &histogram!(catalog::INTER_TOKEN_LATENCY)),
            per_token: Quantiles::new("llm_time_per_output_token_seconds", &histogram!(catalog::TIME_PER_OUTPUT_TOKEN)),
            queue: Quantiles::new("llm_request_queue_seconds", &histogram!(catalog::REQUEST_QUEUE)),
            input_tokens: rule("llm_input_tokens", "rate5m", Unit::Tokens, tokens(counter!(catalog::INPUT_TOKENS))),
            output_tokens_avg: rule(
                "llm_output_tokens",
                "rate5m_avg1d",
                Unit::Tokens,
                output_tokens.gauge().avg_over_time(day),
            ),
            output_tokens_stddev: rule(
                "llm_output_tokens",
                "rate5m_stddev1d",
                Unit::Tokens,
                output_tokens.gauge().stddev_over_time(day),
            ),
            output_tokens,
            first_token_usual: rule(
                "llm_time_to_first_token_seconds",
                "p95_rate5m_median1d",
                Unit::Seconds,
                first_token.p95.gauge().quantile_over_time(0.5, day),
            ),
            first_token,
            cut_ratio: rule("llm_finish_reasons", "length_ratio_rate15m", Unit::Ratio, recorded(cut_ratio())),
            waiting: Rule::new(
                Level::Instance,
                "llm_requests_in_flight",
                "waiting_sum",
                Unit::Count,
                gauge!(catalog::REQUESTS_IN_FLIGHT).with(PHASE, "waiting").now().sum_by(Level::Instance.labels()),
            ),
            saturation: Rule::new(
                Level::Job,
                "llm_requests_in_flight",
                "saturation_ratio",
                Unit::Ratio,
                in_flight.now().avg_by(Level::Job.labels()) / slo.scaling.requests_per_replica,
            ),
            desired_replicas: Rule::new(
                Level::Job,
                "llm_desired_replicas",
                "hint",
                Unit::Count,
                desired_replicas(&job_in_flight, &in_flight_forecast, slo.scaling.requests_per_replica),
            ),
            in_flight,
            job_in_flight,
            in_flight_forecast,
            gpu_memory_forecast: Rule::new(
                Level::Gpu,
                "gpu_memory_used",
                "forecast_ratio",
                Unit::Ratio,
                gpu_memory_ratio.gauge().predict_linear(Window::hours(1), ahead),
            ),
            gpu_memory_ratio,
            joules_per_token: joules_per_token(&slo.gpu.join_label),
        }
    }

    /// The groups, in the order in which rules need each other.
    #[must_use]
    pub fn groups(&self) -> Vec<RuleGroup<'_>> {
        let indicators = [&self.requests, &self.error_ratio, &self.slow_first_token, &self.slow_gaps];
        let over = |long: bool| {
            let all = indicators.into_iter().flat_map(|indicator| &indicator.0);
            let is_long = |window: &Window| window.as_seconds() >= Window::days(1).as_seconds();
            all.filter(move |(window, _)| is_long(window) == long).map(|(_, rule)| rule)
        };
        let latency = [&self.duration, &self.first_token, &self.gaps, &self.per_token, &self.queue];
        let group = |file, name, interval, rules| RuleGroup { file, name, interval, rules };
        let short = over(false).chain(&self.attainment).chain([&self.goodput]).collect();
        let usual = vec![&self.output_tokens_avg, &self.output_tokens_stddev, &self.first_token_usual];
        let load = vec![
            &self.in_flight,
            &self.waiting,
            &self.job_in_flight,
            &self.in_flight_forecast,
            &self.saturation,
            &self.desired_replicas,
        ];
        let gpu = vec![&self.gpu_memory_ratio, &self.gpu_memory_forecast, &self.joules_per_token];
        vec![
            group("indicators", "llm-indicators", INTERVAL, short),
            group("indicators", "llm-indicators-long", LONG_INTERVAL, over(true).collect()),
            group("latency", "llm-latency", INTERVAL, latency.into_iter().flat_map(Quantiles::rules).collect()),
            group("tokens", "llm-tokens", INTERVAL, vec![&self.input_tokens, &self.output_tokens, &self.cut_ratio]),
            group("usual", "llm-usual", LONG_INTERVAL, usual),
            group("load", "llm-load", INTERVAL, load),
            group("gpu", "llm-gpu", INTERVAL, gpu),
        ]
    }

    /// The files of rules that these expressions need, those included that the rules need themselves.
    pub(crate) fn files_of<'a>(&self, exprs: impl Iterator<Item = &'a Expr>) -> Vec<&'static str> {
        let mut needed: Vec<Rule> = exprs.flat_map(Expr::rules).collect();
        let mut next = 0;
        while next < needed.len() {
            let further = needed[next].expr().rules().into_iter().filter(|rule| !needed.contains(rule));
            needed.extend(further.collect::<Vec<_>>());
            next += 1;
        }
        let mut files: Vec<_> = self
            .groups()
            .into_iter()
            .filter(|group| group.rules.iter().any(|rule| needed.contains(rule)))
            .map(|group| group.file)
            .collect();
        files.dedup();
        files
    }

    /// Every rule.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.groups().into_iter().flat_map(|group| group.rules)
    }
}

/// Only of GPUs that answer: the gauges of a lost one are NaN.
#[must_use]
pub fn alive(expr: Expr) -> Expr {
    expr.and_on([JOB, INSTANCE, GPU_UUID], gauge!(gpu::UP).now().equals(1.0))
}

fn rule(stem: &'static str, operation: &str, unit: Unit, expr: Expr) -> Rule {
    Rule::new(Level::JobModel, stem, operation, unit, expr)
}

/// Without NaN, which is what a share or quantile of nothing is.
fn recorded(expr: Expr) -> Expr {
    expr.ge(0.0)
}

fn error_ratio(window: Window) -> Expr {
    let requests = || counter!(catalog::REQUESTS);
    let errors = requests().with(OUTCOME, "error").rate(window).sum_by(Level::JobModel.labels());
    recorded(errors / requests().with_any(OUTCOME, ["success", "error"]).rate(window).sum_by(Level::JobModel.labels()))
}

fn attainment(window: Window) -> Rule {
    let requests = || counter!(catalog::SLO_REQUESTS);
    let met = requests().with(RESULT, "met").rate(window).sum_by(Level::JobModelSlo.labels());
    let expr = met / requests().rate(window).sum_by(Level::JobModelSlo.labels());
    let operation = format!("attainment_ratio_rate{window}");
    Rule::new(Level::JobModelSlo, "llm_slo_requests", operation, Unit::Ratio, recorded(expr))
}

fn cut_ratio() -> Expr {
    let (choices, window) = (|| counter!(catalog::FINISH_REASONS), Window::minutes(15));
    let cut = choices().with("finish_reason", "length").rate(window).sum_by([JOB, MODEL]);
    cut / choices().rate(window).sum_by([JOB, MODEL])
}

/// What is in flight now or soon, whichever is more, in replicas.
fn desired_replicas(now: &Rule, soon: &Rule, per_replica: f64) -> Expr {
    let most = soon.now().gt(now.now()).or(now.now());
    (most / per_replica).ceil().clamp_min(1.0)
}

fn joules_per_token(join: &str) -> Rule {
    let by = || [Label::Owned(join.to_owned())];
    let energy = alive(counter!(gpu::ENERGY).on_target(join.to_owned()).rate(SHORT)).sum_by(by());
    let tokens = counter!(catalog::OUTPUT_TOKENS).on_target(join.to_owned()).rate(SHORT).sum_by(by());
    let expr = energy / tokens.gt(0.0);
    Rule::new(Level::Joined(join.to_owned()), "llm_output_tokens", "joules_per_token_rate5m", Unit::Joules, expr)
}
