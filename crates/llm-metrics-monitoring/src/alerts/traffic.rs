//! Problems that users notice: latency, errors, queues, stalls.

use llm_metrics::catalog::{self};

use super::{
    Alert, Case, Severity, TestSeries, Values, Variant,
    case::{Flow, just_above, percent},
};
use crate::vocabulary::{OUTCOME, PHASE, QUEUE, WHY};
use crate::{
    counter, gauge, histogram,
    promql::{Expr, Gauge, Window},
    recording::{Recording, SHORT},
    rule::{Level, Rule},
    slo::Slo,
};

pub(crate) const DURATION_P95_HIGH: &str = "LlmRequestDurationP95High";
pub(crate) const DURATION_P99_HIGH: &str = "LlmRequestDurationP99High";
pub(crate) const ERROR_RATIO_HIGH: &str = "LlmErrorRatioHigh";
pub(crate) const INSTANCE_FAILING: &str = "LlmInstanceFailing";
pub(crate) const QUEUE_GROWING: &str = "LlmQueueGrowing";

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let p95 = Limit { quantile: 0.95, hold: 5, limit: slo.alerts.duration_p95_seconds, events: 1.0 };
    // One request in a hundred, so hundreds of requests are needed.
    let p99 = Limit { quantile: 0.99, hold: 2, limit: slo.alerts.duration_p99_seconds, events: 5.0 };
    let settings: [&'static [&'static str]; 2] = [
        &["alerts.duration_p95_seconds", "alerts.least_events"],
        &["alerts.duration_p99_seconds", "alerts.least_events"],
    ];
    let p95 = duration_high(DURATION_P95_HIGH, &p95, &rules.duration.p95, settings[0], slo, rules);
    let p99 = duration_high(DURATION_P99_HIGH, &p99, &rules.duration.p99, settings[1], slo, rules);
    vec![p95, p99, errors(slo, rules), instance_failing(slo), too_many(slo, rules), queue(slo, rules), kv_cache(slo)]
}

/// This many successful requests per minute.
pub(super) fn busy(by: f64) -> Vec<TestSeries> {
    vec![counter!(catalog::REQUESTS).series(Values::rising(by))]
}

/// This many successful requests in the short window.
fn succeeded(rules: &Recording, least: f64) -> Expr {
    let seconds = f64::from(SHORT.as_seconds().unwrap_or(300));
    let rate = rules.outcomes.gauge().with(OUTCOME, "success").now().sum_by(Level::JobModel.labels());
    (rate * seconds).ge(least)
}

struct Limit {
    quantile: f64,
    hold: u32,
    limit: f64,
    /// The multiple of `least_events` that is needed.
    events: f64,
}

fn duration_high(
    name: &'static str,
    of: &Limit,
    rule: &Rule,
    settings: &'static [&'static str],
    slo: &Slo,
    rules: &Recording,
) -> Alert {
    let &Limit { quantile, hold, limit, events } = of;
    let bounds = slo.bounds_of(&catalog::REQUEST_DURATION);
    let next = bounds.iter().copied().find(|bound| *bound > limit).unwrap_or(limit);
    let least = slo.alerts.least_events * events;
    // One request in a thousand decides on which side of the bound the quantile is.
    let series = |within: f64, by: f64| {
        let duration = histogram!(catalog::REQUEST_DURATION);
        let bounds = [limit.to_string(), next.to_string()];
        let buckets = [(bounds[0].as_str(), within * by), (bounds[1].as_str(), by)];
        let mut series = duration.clone().with(OUTCOME, "success").series(&buckets, by);
        // There are many fast failures, which are not included.
        series.extend(duration.with(OUTCOME, "error").series(&[(bounds[0].as_str(), by * 9.0)], by * 9.0));
        series.extend(busy(by));
        let ended = |outcome| counter!(catalog::REQUESTS).with(OUTCOME, outcome).series(Values::rising(by * 9.0));
        series.extend(["error", "cancelled"].map(ended));
        series
    };
    let plenty = (least * 0.25).max(1000.0);
    let within = quantile - 0.001;
    let value = limit + (next - limit) * (quantile - within) / (1.0 - within);
    let over = series(within, plenty).into_iter().map(|series| series.ends_at(hold + 5)).collect();
    let expr = rule.now().gt(limit).and(succeeded(rules, least));
    Alert::new(
        name,
        format!(
            "{{{{ $labels.model }}}}: {} % of requests take up to {{{{ printf \"%.2f\" $value }}}} s",
            (quantile * 100.0).round()
        ),
        format!("The limit is {limit} s. Only successful requests count, because failures can be fast."),
    )
    .settings(settings)
    .variant(Variant::new(Severity::Warning, Window::minutes(hold), expr).keep_firing_for(SHORT))
    .case(Case::fires("just above", hold + 4, format!("{value:.2}"), series(within, plenty)))
    .case(Case::quiet("just below", hold + 4, series(quantile + 0.001, plenty)))
    .case(Case::quiet("not yet for long enough", hold - 1, series(within, plenty)))
    .case(Case::quiet("too few to say anything", hold + 9, series(0.1, least * 0.19)))
    .case(Case::fires("just enough to say something", hold + 9, format!("{value:.2}"), series(within, least * 0.21)))
    .case(Case::fires("over for a moment", hold + 9, format!("{value:.2}"), over))
}

fn errors(slo: &Slo, rules: &Recording) -> Alert {
    let (limit, least) = (slo.alerts.error_ratio, slo.alerts.least_failures);
    let requests = |outcome, values| counter!(catalog::REQUESTS).with(OUTCOME, outcome).series(values);
    let series = |flow: Flow| {
        let beside = ["rejected", "cancelled"].map(|outcome| requests(outcome, flow.all()));
        [requests("error", flow.bad()), requests("success", flow.good())].into_iter().chain(beside).collect::<Vec<_>>()
    };
    let steady = |ratio: f64, by: f64| series(Flow::steady(ratio * by, (1.0 - ratio) * by));
    let above = just_above(limit);
    // Still: a failure that lasted a minute and is over is not worth a page.
    let now = counter!(catalog::REQUESTS).with(OUTCOME, "error").increase(Window::minutes(2));
    let expr = rules.errors.over(SHORT).now().gt(limit);
    let expr = expr.and(rules.errors.bad_over(SHORT).now().ge(least)).and(now.sum_by(Level::JobModel.labels()).gt(0.0));
    let blip = Flow::steady(0.0, 60.0).until(10, Flow::steady(60.0, 0.0)).until(11, Flow::steady(0.0, 60.0));
    let by = (least * 2.0).max(60.0);
    let over = Flow::steady(0.0, by).until(10, Flow::steady(by, 0.0)).until(14, Flow::steady(0.0, by));
    Alert::new(
        ERROR_RATIO_HIGH,
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of requests fail",
        format!(
            "More than {} failed over five minutes, and some still fail. Only failures of the server and the engine count, not errors of callers.",
            percent(limit)
        ),
    )
    .settings(&["alerts.error_ratio", "alerts.least_failures"])
    .variant(Variant::new(Severity::Critical, SHORT, expr))
    .case(Case::fires("just above", 9, percent(above), steady(above, 1000.0)))
    .case(Case::quiet("just below", 9, steady(limit * 0.99, 1000.0)))
    .case(Case::quiet("not yet for long enough", 4, steady(above, 1000.0)))
    .case(Case::quiet("too few to say anything", 12, steady(1.0, least * 0.19)))
    .case(Case::quiet("a minute of failures", 16, series(blip)))
    .case(Case::quiet("four minutes of failures, and none since", 17, series(over)))
    .case(Case::fires("just enough to say something", 14, percent(1.0), steady(1.0, least * 0.21)))
}

/// A single failing instance hardly changes the ratio of the service.
fn instance_failing(slo: &Slo) -> Alert {
    let least = slo.alerts.least_failures;
    let by_instance = |expr: Expr| expr.sum_by(Level::Instance.labels());
    let requests = || counter!(catalog::REQUESTS);
    let failed = || requests().with(OUTCOME, "error");
    let share =
        by_instance(failed().rate(SHORT)) / by_instance(requests().with_any(OUTCOME, ["success", "error"]).rate(SHORT));
    let expr = share.gt(0.5).and(by_instance(failed().increase(SHORT)).ge(least));
    let series = |ratio: f64, by: f64| {
        let of = |outcome, by| requests().with(OUTCOME, outcome).series(Values::rising(by));
        let well = requests().with(OUTCOME, "success").with("instance", "llm-2:8080").series(Values::rising(9000.0));
        vec![of("error", ratio * by), of("success", (1.0 - ratio) * by), of("cancelled", by), well]
    };
    // All fail until minute 20; then half as many requests, and none fails.
    let gets_well = || {
        let of = |outcome, before, after| {
            requests().with(OUTCOME, outcome).series(Values::rising(before).until(20, Values::rising(after)))
        };
        vec![of("error", 1000.0, 0.0), of("success", 0.0, 500.0)]
    };
    // From minute 20 on all fail, after this many successes per minute.
    let gets_sick = |before: f64| {
        let of = |outcome, before, after| {
            requests().with(OUTCOME, outcome).series(Values::rising(before).until(20, Values::rising(after)))
        };
        vec![of("error", 0.0, 1000.0), of("success", before, 0.0)]
    };
    Alert::new(
        INSTANCE_FAILING,
        "{{ $labels.instance }} of {{ $labels.job }}: {{ $value | humanizePercentage }} of its requests fail",
        "Other instances may work well, so the whole service looks good. Take this instance out of the load balancer.",
    )
    .settings(&["alerts.least_failures"])
    .variant(Variant::new(Severity::Warning, SHORT, expr).keep_firing_for(SHORT))
    .case(Case::fires("just above half, beside one that is well", 9, "51%", series(0.51, 1000.0)))
    .case(Case::quiet("just below half", 9, series(0.49, 1000.0)))
    .case(Case::quiet("not yet for long enough", 4, series(0.51, 1000.0)))
    .case(Case::quiet("too few to say anything", 12, series(1.0, least * 0.19)))
    .case(Case::fires("just enough to say something", 14, "100%", series(1.0, least * 0.21)))
    .case(Case::quiet("it has got well this minute, with half the requests", 20, gets_well()).surely(0))
    .case(Case::quiet("it got well four minutes ago", 24, gets_well()).surely(0))
    .case(Case::quiet("it got well long ago", 30, gets_well()))
    .case(Case::quiet("sick since six minutes, in most of five minutes for three", 26, gets_sick(1000.0)))
    .case(Case::quiet("sick since seven minutes, after four times as many successes", 27, gets_sick(4000.0)))
    .case(Case::fires("sick since ten minutes", 30, "100%", gets_sick(4000.0)))
}

fn too_many(slo: &Slo, rules: &Recording) -> Alert {
    let most = slo.alerts.requests_per_second_max;
    let over = busy((most + 1.0) * 60.0).into_iter().map(|series| series.ends_at(19)).collect();
    Alert::new(
        "LlmRequestRateHigh",
        "{{ $labels.model }}: {{ printf \"%.2f\" $value }} requests per second",
        format!("The upper limit is {most} per second."),
    )
    .settings(&["alerts.requests_per_second_max"])
    .variant(
        Variant::new(Severity::Warning, Window::minutes(10), rules.requests.now().gt(most))
            .keep_firing_for(Window::minutes(5)),
    )
    .case(Case::fires("above the band", 18, format!("{:.2}", most + 1.0), busy((most + 1.0) * 60.0)))
    .case(Case::quiet("in the band", 18, busy((most - most * 0.001) * 60.0)))
    .case(Case::quiet("not yet for long enough", 9, busy((most + 1.0) * 60.0)))
    .case(Case::quiet("over for a moment", 22, over).surely(0))
}

fn queue(slo: &Slo, rules: &Recording) -> Alert {
    let (ten, most) = (Window::minutes(10), slo.alerts.queue_requests);
    let growing = |waiting: Gauge| {
        let slope = waiting.clone().deriv(ten) * 60.0;
        slope.gt(1.0).and(waiting.min_over_time(SHORT).gt(0.0))
    };
    let long = |waiting: Gauge| waiting.min_over_time(ten).gt(most);
    let front = |values| vec![gauge!(catalog::REQUESTS_IN_FLIGHT).with(PHASE, "waiting").series(values)];
    let engine = |values| vec![gauge!(catalog::ENGINE_REQUESTS_WAITING).series(values)];
    let warning = |expr, queue: &str, why: &str| {
        Variant::new(Severity::Warning, ten, expr).keep_firing_for(SHORT).label(QUEUE, queue).label(WHY, why)
    };
    let to = |flow: Values| [front(flow.clone()), engine(flow)].concat();
    let (above, few) = (Values::flat(most + 1.0), Values::flat(most));
    // Fills in three minutes, then stays full.
    let cap = (most * 4.0).ceil();
    let full = Values::rising(cap / 3.0).until(4, Values::flat(cap));
    let value = |number: f64| format!("{number:.0}");
    // Rises, but is empty every fourth minute.
    let in_bursts = || {
        let waiting = |minute: u32| match minute % 4 {
            0 => 0.0,
            _ => f64::from(minute).powi(3),
        };
        (1..40).fold(Values::flat(0.0), |values, minute| values.until(minute, Values::flat(waiting(minute))))
    };
    Alert::new(
        QUEUE_GROWING,
        "{{ $labels.instance }}: the queue is {{ $labels.why }} ({{ printf \"%.0f\" $value }})",
        format!("`growing`: more requests arrive than are finished, by this number per minute. `long`: for ten minutes, more than {most} requests were always waiting."),
    )
    .settings(&["alerts.queue_requests"])
    .variant(warning(growing(rules.waiting.gauge()), "server", "growing"))
    .variant(warning(growing(gauge!(catalog::ENGINE_REQUESTS_WAITING)), "engine", "growing"))
    .variant(warning(long(rules.waiting.gauge()), "server", "long"))
    .variant(warning(long(gauge!(catalog::ENGINE_REQUESTS_WAITING)), "engine", "long"))
    .case(Case::fires("two more every minute", 17, "2", front(Values::rising(2.0))))
    .case(Case::quiet("the engine's, two more", 17, engine(Values::rising(2.0))).firing(1, "2", &[]))
    .case(Case::quiet("it filled in three minutes, and stays full", 26, front(full.clone())).firing(2, value(cap), &[]))
    .case(Case::quiet("the engine's is full", 26, engine(full)).firing(3, value(cap), &[]))
    .case(
        Case::quiet("just above", 22, to(above.clone()))
            .firing(2, value(most + 1.0), &[])
            .firing(3, value(most + 1.0), &[]),
    )
    .case(Case::quiet("at the limit", 22, to(few)))
    .case(Case::quiet("not yet for long enough", 8, to(above.clone())))
    .case(Case::quiet(
        "empty a moment ago",
        27,
        to(above.clone().until(11, Values::flat(0.0).until(12, above))),
    ))
    .cases([0, 1].into_iter().flat_map(|variant| {
        let grows = |what: &str, at, values| Case::quiet(what, at, to(values));
        [
            grows("eleven more in ten minutes", 30, Values::rising(1.1)).surely(variant),
            grows("nine more in ten minutes", 30, Values::rising(0.9)).not(variant),
            grows("one more in two minutes", 30, Values::rising(0.5)).not(variant),
            grows("growing for thirteen minutes, not yet for long enough", 13, Values::rising(2.0)).not(variant),
            grows("empty again and again", 30, in_bursts()).not(variant),
            grows("it grew until eight minutes ago", 28, Values::rising(2.0).until(20, Values::rising(0.0)))
                .surely(variant),
            grows("it grew until a quarter of an hour ago", 36, Values::rising(2.0).until(20, Values::rising(0.0)))
                .not(variant),
        ]
    }))
    .cases([2, 3].map(|variant| {
        let short = Values::flat(most + 1.0).until(16, Values::flat(0.0));
        Case::quiet("it was long a moment ago", 19, to(short)).surely(variant)
    }))
}

fn kv_cache(slo: &Slo) -> Alert {
    let limit = slo.alerts.kv_cache_ratio;
    let used = || gauge!(catalog::ENGINE_KV_CACHE_USAGE);
    let expr = used().now().max_by(Level::InstanceModel.labels()).gt(limit);
    let above = f64::midpoint(limit, 1.0);
    Alert::new(
        "LlmKvCacheFull",
        "{{ $labels.model }} at {{ $labels.instance }}: {{ $value | humanizePercentage }} of the KV cache is used",
        format!("Above {} the engine queues or preempts requests, and latency rises.", percent(limit)),
    )
    .settings(&["alerts.kv_cache_ratio"])
    .variant(Variant::new(Severity::Warning, Window::minutes(10), expr).keep_firing_for(Window::minutes(5)))
    .case(Case::fires("just above", 12, percent(above), vec![used().series(Values::flat(above))]))
    .case(Case::quiet("at the limit", 12, vec![used().series(Values::flat(limit))]))
    .case(Case::quiet("not yet for long enough", 9, vec![used().series(Values::flat(above))]))
    .case(Case::fires(
        "over for a moment",
        15,
        percent(above),
        vec![used().series(Values::flat(above).until(12, Values::flat(0.0)))],
    ))
}
