//! What users notice: latency, errors, queues, stalls.

use llm_metrics::catalog::{
    self,
    labels::{OUTCOME, PHASE},
};

use super::{
    Alert, Case, Series, Severity, Values, Variant,
    case::{just_above, percent},
};
use crate::{
    counter, gauge, histogram,
    promql::{Expr, Gauge, Window},
    recording::{Recording, SHORT},
    rule::{Level, Rule},
    slo::Slo,
};

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    let alerts = &slo.alerts;
    let duration = &rules.duration;
    let p95 = duration_high("LlmRequestDurationP95High", "95", &duration.p95, alerts.duration_p95_seconds, slo, rules);
    let p99 = duration_high("LlmRequestDurationP99High", "99", &duration.p99, alerts.duration_p99_seconds, slo, rules);
    let mut all = vec![p95, p99, errors(slo, rules), too_many(slo, rules)];
    // Nothing is less than no requests.
    all.extend((alerts.requests_per_second_min > 0.0).then(|| too_few(slo, rules)));
    all.extend([queue(rules), stalled(rules), kv_cache(slo)]);
    all
}

/// So many successful requests a minute.
pub(super) fn busy(by: f64) -> Vec<Series> {
    vec![counter!(catalog::REQUESTS).series(Values::rising(by))]
}

/// So many requests a minute, or as many as are needed for something to be said.
pub(super) fn plenty(slo: &Slo, by: f64) -> f64 {
    by.max(slo.alerts.least_traffic * 120.0)
}

/// Enough traffic for a share or a quantile to say something.
pub(super) fn enough(slo: &Slo, rules: &Recording) -> Expr {
    rules.requests_5m.now().gt(slo.alerts.least_traffic)
}

fn duration_high(name: &'static str, quantile: &str, rule: &Rule, limit: f64, slo: &Slo, rules: &Recording) -> Alert {
    let settings: &[_] = if quantile == "95" {
        &["alerts.duration_p95_seconds", "alerts.least_traffic"]
    } else {
        &["alerts.duration_p99_seconds", "alerts.least_traffic"]
    };
    let bounds = catalog::REQUEST_DURATION.buckets;
    let next = bounds.iter().copied().find(|bound| *bound > limit).unwrap_or(limit);
    let share: f64 = if quantile == "95" { 0.95 } else { 0.99 };
    // One request in a thousand decides on which side of the bound the quantile is.
    let series = |within: f64, by: f64| {
        let bounds = [limit.to_string(), next.to_string()];
        let buckets = [(bounds[0].as_str(), within * by), (bounds[1].as_str(), by)];
        let mut series = histogram!(catalog::REQUEST_DURATION).with(OUTCOME, "success").series(&buckets, by);
        series.extend(busy(by));
        series
    };
    let within = share - 0.001;
    let value = limit + (next - limit) * (share - within) / (1.0 - within);
    Alert::new(
        name,
        format!("{{{{ $labels.model }}}}: {quantile} % of requests take up to {{{{ printf \"%.2f\" $value }}}} s"),
        format!("The limit is {limit} s. Requests that were rejected or cancelled do not count."),
    )
    .settings(settings)
    .variant(
        Variant::new(Severity::Warning, Window::minutes(10), rule.now().gt(limit).and(enough(slo, rules)))
            .keep(Window::minutes(5)),
    )
    .case(Case::fires("just above", 14, format!("{value:.2}"), series(within, plenty(slo, 1000.0))))
    .case(Case::quiet("just below", 14, series(share + 0.001, plenty(slo, 1000.0))))
    .case(Case::quiet("not yet for long enough", 9, series(within, plenty(slo, 1000.0))))
    .case(Case::quiet("next to no traffic", 14, series(within, slo.alerts.least_traffic * 30.0)))
}

fn errors(slo: &Slo, rules: &Recording) -> Alert {
    let limit = slo.alerts.error_ratio;
    let series = |ratio: f64, by: f64| {
        let requests =
            |outcome, share: f64| counter!(catalog::REQUESTS).with(OUTCOME, outcome).series(Values::rising(share * by));
        vec![requests("error", ratio), requests("success", 1.0 - ratio)]
    };
    let above = just_above(limit);
    let expr = rules.error_ratio.over(SHORT).now().gt(limit).and(enough(slo, rules));
    Alert::new(
        "LlmErrorRatioHigh",
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of requests fail",
        format!(
            "More than {} failed over five minutes, by our fault or the engine's: what callers did wrong is not in it.",
            percent(limit)
        ),
    )
    .settings(&["alerts.error_ratio", "alerts.least_traffic"])
    .variant(Variant::new(Severity::Critical, Window::minutes(5), expr).keep(Window::minutes(5)))
    .case(Case::fires("just above", 9, percent(above), series(above, plenty(slo, 1000.0))))
    .case(Case::quiet("just below", 9, series(limit * 0.99, plenty(slo, 1000.0))))
    .case(Case::quiet("not yet for long enough", 4, series(above, plenty(slo, 1000.0))))
    .case(Case::quiet("next to no traffic", 9, series(1.0, slo.alerts.least_traffic * 30.0)))
}

fn too_many(slo: &Slo, rules: &Recording) -> Alert {
    let most = slo.alerts.requests_per_second_max;
    Alert::new(
        "LlmRequestRateHigh",
        "{{ $labels.model }}: {{ printf \"%.2f\" $value }} requests a second",
        format!("The band ends at {most}."),
    )
    .settings(&["alerts.requests_per_second_max"])
    .variant(
        Variant::new(Severity::Warning, Window::minutes(10), rules.requests_5m.now().gt(most)).keep(Window::minutes(5)),
    )
    .case(Case::fires("above the band", 18, format!("{:.2}", most + 1.0), busy((most + 1.0) * 60.0)))
    .case(Case::quiet("in the band", 18, busy((most - most * 0.001) * 60.0)))
    .case(Case::quiet("not yet for long enough", 9, busy((most + 1.0) * 60.0)))
}

fn too_few(slo: &Slo, rules: &Recording) -> Alert {
    let least = slo.alerts.requests_per_second_min;
    let rate = &rules.requests_5m;
    let usual = rate.gauge().avg_over_time(Window::days(1)).gt(least);
    let series = |by: f64| {
        let values = Values::rising(least * 600.0).until(120, Values::rising(by * 60.0));
        vec![counter!(catalog::REQUESTS).series(values)]
    };
    Alert::new(
        "LlmRequestRateLow",
        "{{ $labels.model }}: only {{ printf \"%.3f\" $value }} requests a second",
        format!("The band begins at {least}, and over the last day it was in it. Callers may not get through."),
    )
    .settings(&["alerts.requests_per_second_min"])
    .variant(Variant::new(Severity::Info, Window::minutes(30), rate.now().lt(least).and(usual)))
    .case(Case::fires("below the band", 160, format!("{:.3}", least * 0.9), series(least * 0.9)))
    .case(Case::quiet("in the band", 160, series(least * 1.1)))
    .case(Case::quiet("never more than that", 160, busy(least * 54.0)))
}

fn queue(rules: &Recording) -> Alert {
    let growing = |waiting: Gauge| {
        let slope = waiting.clone().deriv(Window::minutes(10)) * 60.0;
        slope.gt(1.0).and(waiting.min_over_time(SHORT).gt(0.0))
    };
    let front = |values| vec![gauge!(catalog::REQUESTS_IN_FLIGHT).with(PHASE, "waiting").series(values)];
    let engine = |values| vec![gauge!(catalog::ENGINE_REQUESTS_WAITING).series(values)];
    let warning = |expr| Variant::new(Severity::Warning, Window::minutes(10), expr).keep(Window::minutes(5));
    Alert::new(
        "LlmQueueGrowing",
        "{{ $labels.instance }}: the queue grows by {{ printf \"%.1f\" $value }} requests a minute",
        "For five minutes it was never empty, and it grows: more comes in than goes out.",
    )
    .variant(warning(growing(rules.waiting.gauge())).label("queue", "server"))
    .variant(warning(growing(gauge!(catalog::ENGINE_REQUESTS_WAITING))).label("queue", "engine"))
    .case(Case::fires("two more every minute", 30, "2.0", front(Values::rising(2.0))))
    .case(Case::quiet("the engine's, two more", 30, engine(Values::rising(2.0))).firing(1, "2.0", &[]))
    .case(Case::quiet("long, and no longer", 30, front(Values::flat(50.0))))
    .case(Case::quiet(
        "one more in two minutes",
        30,
        [front(Values::rising(0.5)), engine(Values::rising(0.5))].concat(),
    ))
}

fn stalled(rules: &Recording) -> Alert {
    let moves = |rate: Expr| rate.sum_by(Level::Instance.labels()).gt(0.0);
    let busy_all_the_time = rules.in_flight.gauge().min_over_time(SHORT).gt(0.0);
    let expr = busy_all_the_time
        .unless(moves(histogram!(catalog::INTER_TOKEN_LATENCY).count().rate(SHORT)))
        .unless(moves(histogram!(catalog::TIME_TO_FIRST_TOKEN).count().rate(SHORT)))
        .unless(moves(counter!(catalog::REQUESTS).rate(SHORT)));
    let in_flight = || gauge!(catalog::REQUESTS_IN_FLIGHT).series(Values::flat(3.0));
    let tokens = |values| histogram!(catalog::INTER_TOKEN_LATENCY).count().series(values);
    let hung = Values::rising(600.0).until(10, Values::rising(0.0));
    let finished = || counter!(catalog::REQUESTS).series(Values::rising(1.0));
    Alert::new(
        "LlmStalled",
        "{{ $labels.instance }}: {{ $value }} requests in flight, and nothing moves",
        "For five minutes there was no token, and no request ended. The engine hangs, or works on something very long that is not streamed.",
    )
    .variant(Variant::new(Severity::Critical, Window::minutes(5), expr))
    .case(Case::fires("tokens came, and come no more", 24, "3", vec![in_flight(), tokens(hung.clone())]))
    .case(Case::fires("a server that never produced a token", 12, "3", vec![in_flight()]))
    .case(Case::quiet("tokens come", 24, vec![in_flight(), tokens(Values::rising(1.0))]))
    .case(Case::quiet("requests end", 24, vec![in_flight(), tokens(hung.clone()), finished()]))
    .case(Case::quiet("nothing is in flight", 24, vec![tokens(hung.clone())]))
    .case(Case::quiet("not yet for long enough", 17, vec![in_flight(), tokens(hung)]))
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
    .variant(Variant::new(Severity::Warning, Window::minutes(10), expr).keep(Window::minutes(5)))
    .case(Case::fires("just above", 12, percent(above), vec![used().series(Values::flat(above))]))
    .case(Case::quiet("at the limit", 12, vec![used().series(Values::flat(limit))]))
    .case(Case::quiet("not yet for long enough", 9, vec![used().series(Values::flat(above))]))
}
