//! The upstreams of a gateway: whether they answer, how many attempts fail, and how much of a quota is left.

use llm_metrics_gateway::catalog as gateway;

use super::{Alert, Case, Severity, TestSeries, Values, Variant};
use crate::{
    counter, gauge,
    promql::{Counter, Expr, Window},
    recording::{Recording, SHORT},
    slo::Slo,
    vocabulary::{INSTANCE, JOB, SEEN, UPSTREAM},
};

/// The share of failed attempts that is too high.
const FAILED_SHARE: f64 = 0.05;
/// A share needs at least this many attempts in the window.
const LEAST_ATTEMPTS: f64 = 20.0;
/// A quota is low below this share.
const QUOTA_SHARE: f64 = 0.1;

/// Results of attempts that failed although a client was waiting.
pub(crate) const FAILED: [&str; 3] = ["refused", "reset", "timeout"];

const EACH: [&str; 3] = [JOB, INSTANCE, UPSTREAM];

pub(super) fn alerts(_: &Slo, _: &Recording) -> Vec<Alert> {
    vec![down(), failing(), quota()]
}

fn down() -> Alert {
    let up = |values| vec![gauge!(gateway::UPSTREAM_UP).series(values)];
    let falls = || Values::flat(1.0).until(10, Values::flat(0.0));
    let state = |n: u32| Values::flat(f64::from(n % 2));
    let flapping = |period: u32| up((1..40).fold(state(0), |values, n| values.until(n * period, state(n))));
    let flaps = gauge!(gateway::UPSTREAM_UP).changes(Window::minutes(15)).gt(4.0);
    let variant = |hold, expr, seen: &str| Variant::new(Severity::Critical, hold, expr).label(SEEN, seen);
    Alert::new(
        "LlmGatewayUpstreamDown",
        "{{ $labels.upstream }} does not answer the gateway {{ $labels.instance }}",
        "The last probes failed, or they succeed and fail in turn because it restarts again and again. Requests for this upstream get a 502 or a 504.",
    )
    .variant(variant(Window::minutes(2), gauge!(gateway::UPSTREAM_UP).now().equals(0.0), "down for two minutes"))
    .variant(variant(Window::seconds(0), flaps, "up and down"))
    .case(Case::fires("down for two minutes", 13, "0", up(falls())))
    .case(Case::quiet("down for one minute", 11, up(falls())))
    .case(Case::quiet("there again", 20, up(Values::flat(0.0).until(10, Values::flat(1.0)))))
    .case(Case::quiet("up and down", 25, flapping(2)).firing(1, "7", &[]))
    .case(Case::quiet("five times up and down", 25, flapping(3)).surely(1))
    .case(Case::quiet("twice up and down", 25, flapping(4)).not(1))
    .case(Case::quiet("it stays up since", 40, up((1..10).fold(state(0), |values, n| values.until(n * 2, state(n))))).not(1))
}

fn attempts() -> Counter {
    counter!(gateway::ATTEMPTS)
}

fn failing() -> Alert {
    let in_vain = || attempts().with_any("result", FAILED);
    // An attempt whose client has gone has not failed.
    let judged = || attempts().without("result", "cancelled");
    let share = in_vain().increase(SHORT).sum_by(EACH) / judged().increase(SHORT).sum_by(EACH);
    let enough: Expr = judged().increase(SHORT).sum_by(EACH).ge(LEAST_ATTEMPTS);
    let series = |failed: f64, answered: f64| -> Vec<TestSeries> {
        let of = |result, by| attempts().with("result", result).series(Values::rising(by));
        let failed = FAILED.map(|result| of(result, failed / 3.0));
        failed.into_iter().chain([of("answered", answered), of("cancelled", 500.0)]).collect()
    };
    let recovers = || -> Vec<TestSeries> {
        let of = |result, before, after| {
            attempts().with("result", result).series(Values::rising(before).until(20, Values::rising(after)))
        };
        vec![of("reset", 1000.0, 0.0), of("answered", 0.0, 500.0)]
    };
    Alert::new(
        "LlmGatewayAttemptsFail",
        "{{ $labels.upstream }}: {{ $value | humanizePercentage }} of attempts get no answer",
        "Connections to this upstream are refused or closed, or it takes too long to answer. The share is over 5m.",
    )
    .variant(
        Variant::new(Severity::Warning, SHORT, share.gt(FAILED_SHARE).and(enough)).keep_firing_for(Window::minutes(5)),
    )
    .case(Case::fires("just above", 12, "6%", series(6.0, 94.0)))
    .case(Case::quiet("just below", 12, series(4.9, 95.1)))
    .case(Case::quiet("not yet for long enough", 5, series(6.0, 94.0)))
    .case(Case::quiet("too few attempts", 20, series(LEAST_ATTEMPTS * 0.095, LEAST_ATTEMPTS * 0.095)))
    .case(Case::fires("just enough attempts", 20, "50%", series(LEAST_ATTEMPTS * 0.105, LEAST_ATTEMPTS * 0.105)))
    .case(Case::quiet("answered since a minute, of half as many", 20, recovers()).surely(0))
    .case(Case::quiet("answered again for a few minutes", 25, recovers()).surely(0))
}

fn quota() -> Alert {
    let remaining = |values| vec![gauge!(gateway::QUOTA_REMAINING).with("kind", "tokens").series(values)];
    Alert::new(
        "LlmGatewayQuotaLow",
        "{{ $labels.upstream }}: {{ $value | humanizePercentage }} of the {{ $labels.kind }} quota is left",
        "For ten minutes it was always less than 10 %. Requests above the quota are rejected with a 429.",
    )
    .variant(
        Variant::new(
            Severity::Warning,
            Window::seconds(0),
            gauge!(gateway::QUOTA_REMAINING)
                .max_over_time(Window::minutes(10))
                .max_by([JOB, INSTANCE, UPSTREAM, "kind"])
                .lt(QUOTA_SHARE),
        )
        .keep_firing_for(Window::minutes(5)),
    )
    .case(
        Case::quiet("a tenth was left, and less since", 22, remaining(Values::flat(0.5).until(10, Values::flat(0.05))))
            .firing(0, "5%", &[("kind", "tokens")]),
    )
    .case(Case::quiet("not yet for long enough", 17, remaining(Values::flat(0.5).until(10, Values::flat(0.05)))))
    .case(Case::quiet("enough is left", 22, remaining(Values::flat(0.1))))
    .case(Case::quiet("a little less than a tenth", 22, remaining(Values::flat(0.09))).firing(
        0,
        "9%",
        &[("kind", "tokens")],
    ))
    .case(
        Case::quiet("a new period began a moment ago", 22, remaining(Values::flat(0.05).until(20, Values::flat(1.0))))
            .firing(0, "5%", &[("kind", "tokens")]),
    )
}
