//! Outages that other metrics do not show: servers that hang, requests that are cancelled or rejected, models that are gone, processes that keep
//! restarting.

use llm_metrics::catalog::{self};

use super::{
    Alert, Case, Severity, TestSeries, Values, Variant,
    case::{just_above, percent},
    targets::of_jobs,
};
use crate::vocabulary::{OUTCOME, SEEN};
use crate::{
    counter, external, gauge, histogram,
    promql::{Counter, Expr, Window},
    recording::{Recording, SHORT},
    rule::{Level, Rule},
    slo::Slo,
};

pub(crate) const STALLED: &str = "LlmStalled";
pub(crate) const MODEL_STALLED: &str = "LlmModelStalled";
pub(crate) const MOSTLY_CANCELLED: &str = "LlmMostlyCancelled";
pub(crate) const MOSTLY_REJECTED: &str = "LlmMostlyRejected";
pub(crate) const MODEL_REJECTED: &str = "LlmModelRejected";
pub(crate) const MODEL_GONE: &str = "LlmModelGone";
pub(crate) const CRASH_LOOP: &str = "LlmCrashLoop";

/// The share from which on nearly all requests end like this: it is worth a page.
const NEARLY_ALL: f64 = 0.9;

pub(super) fn alerts(slo: &Slo, rules: &Recording) -> Vec<Alert> {
    vec![
        stalled(rules),
        model_stalled(slo),
        cancelled(slo, rules),
        rejected(slo, rules),
        model_rejected(slo, rules),
        model_gone(rules),
        crash_loop(slo),
    ]
}

fn requests() -> Counter {
    counter!(catalog::REQUESTS)
}

fn ended(outcome: &str, values: Values) -> TestSeries {
    requests().with(OUTCOME, outcome).series(values)
}

/// Whether tokens arrive or requests succeed, by `level`. Failed and cancelled requests do not count.
fn unless_it_works(expr: Expr, level: &Level) -> Expr {
    let moves = |rate: Expr| rate.sum_by(level.labels()).gt(0.0);
    expr.unless(moves(requests().with(OUTCOME, "success").rate(SHORT)))
        .unless(moves(histogram!(catalog::INTER_TOKEN_LATENCY).count().rate(SHORT)))
        .unless(moves(histogram!(catalog::TIME_TO_FIRST_TOKEN).count().rate(SHORT)))
}

/// One event every four minutes.
fn rarely() -> Values {
    (1..12).fold(Values::flat(0.0), |values, count| values.until(count * 4, Values::flat(f64::from(count))))
}

fn stalled(rules: &Recording) -> Alert {
    let expr = unless_it_works(rules.in_flight.gauge().min_over_time(SHORT).gt(0.0), &Level::Instance);
    let in_flight = || gauge!(catalog::REQUESTS_IN_FLIGHT).series(Values::flat(3.0));
    let tokens = |values| histogram!(catalog::INTER_TOKEN_LATENCY).count().series(values);
    let first = |values| histogram!(catalog::TIME_TO_FIRST_TOKEN).count().series(values);
    let hung = || Values::rising(600.0).until(10, Values::rising(0.0));
    let since_then = |by| Values::rising(0.0).until(10, Values::rising(by));
    let elsewhere = histogram!(catalog::INTER_TOKEN_LATENCY).with("instance", "llm-2:8080").count();
    let busy_since =
        |minute| gauge!(catalog::REQUESTS_IN_FLIGHT).series(Values::flat(0.0).until(minute, Values::flat(3.0)));
    let ended_with_it = ended("success", Values::rising(60.0).until(10, Values::rising(0.0)));
    Alert::new(
        STALLED,
        "{{ $labels.instance }}: {{ $value }} requests in flight without progress",
        "For five minutes there was no token, and no request succeeded. The engine hangs, or works on a very long request without streaming.",
    )
    .variant(Variant::new(Severity::Critical, Window::minutes(2), expr))
    .case(Case::fires("tokens came, and come no more", 19, "3", vec![in_flight(), tokens(hung())]))
    .case(Case::fires("a server that never produced a token", 9, "3", vec![in_flight()]))
    .case(Case::fires(
        "clients give up, or the server does",
        19,
        "3",
        vec![in_flight(), tokens(hung()), ended("cancelled", since_then(60.0)), ended("error", since_then(5.0))],
    ))
    .case(Case::fires(
        "another instance works",
        19,
        "3",
        vec![in_flight(), tokens(hung()), elsewhere.series(Values::rising(600.0))],
    ))
    .case(Case::fires("all ended ten minutes ago", 19, "3", vec![in_flight(), tokens(hung()), first(hung()), ended_with_it]))
    .case(Case::fires("busy for eight minutes", 19, "3", vec![busy_since(11)]))
    .case(Case::quiet("tokens come", 19, vec![in_flight(), tokens(Values::rising(1.0))]))
    .case(Case::quiet("a token every four minutes", 19, vec![in_flight(), tokens(rarely())]))
    .case(Case::quiet("a first token every four minutes", 19, vec![in_flight(), first(rarely())]))
    .case(Case::quiet("a success every four minutes", 19, vec![in_flight(), ended("success", rarely())]))
    .case(Case::quiet("first tokens come", 19, vec![in_flight(), tokens(hung()), first(Values::rising(1.0))]))
    .case(Case::quiet("requests succeed", 19, vec![in_flight(), tokens(hung()), ended("success", Values::rising(1.0))]))
    .case(Case::quiet("nothing is in flight", 19, vec![tokens(hung())]))
    .case(Case::quiet(
        "idle a moment ago",
        21,
        vec![
            gauge!(catalog::REQUESTS_IN_FLIGHT).series(Values::flat(3.0).until(15, Values::flat(0.0).until(16, Values::flat(3.0)))),
            tokens(hung()),
        ],
    ))
    .case(Case::quiet("not yet for long enough", 14, vec![in_flight(), tokens(hung())]))
    .case(Case::quiet(
        "it works again",
        32,
        vec![in_flight(), tokens(Values::rising(600.0).until(10, Values::rising(0.0).until(30, Values::rising(600.0))))],
    ))
}

/// Fires whether clients wait or cancel, and whether or not the engine reports its running requests.
fn model_stalled(slo: &Slo) -> Alert {
    let level = Level::InstanceModel;
    let least = slo.alerts.least_failures;
    let given_up = requests().with(OUTCOME, "cancelled").increase(SHORT).sum_by(level.labels()).ge(least);
    let in_engine = gauge!(catalog::ENGINE_REQUESTS_RUNNING).min_over_time(SHORT).max_by(level.labels()).gt(0.0);
    let waiting = || gauge!(catalog::MODEL_REQUESTS_IN_FLIGHT);
    // The series begins with the first request for a model: the requests must be waiting for as long as the window.
    let there_before = waiting().offset(SHORT).now().max_by(level.labels());
    let in_flight = waiting().min_over_time(SHORT).max_by(level.labels()).gt(0.0).and(there_before);
    let running = |values| gauge!(catalog::ENGINE_REQUESTS_RUNNING).series(values);
    let patient = |values| waiting().series(values);
    let works = |model: u32| {
        let name = format!("model-{model}");
        [
            waiting().with("model", name.clone()).series(Values::flat(2.0)),
            histogram!(catalog::INTER_TOKEN_LATENCY).with("model", name).count().series(Values::rising(600.0)),
        ]
    };
    let engine = || running(Values::flat(4.0));
    let engine_since = |minute| running(Values::flat(0.0).until(minute, Values::flat(4.0)));
    let tokens =
        |model: &str, values| histogram!(catalog::INTER_TOKEN_LATENCY).with("model", model).count().series(values);
    let of_this = |values| histogram!(catalog::INTER_TOKEN_LATENCY).count().series(values);
    let first = |values| histogram!(catalog::TIME_TO_FIRST_TOKEN).count().series(values);
    let hung = || Values::rising(600.0).until(10, Values::rising(0.0));
    let gives_up = |by: f64| ended("cancelled", Values::rising(0.0).until(10, Values::rising(by)));
    let others = || tokens("another-model", Values::rising(600.0));
    let variant = |expr, seen: &str| {
        Variant::new(Severity::Critical, Window::minutes(2), unless_it_works(expr, &level)).label(SEEN, seen)
    };
    Alert::new(
        MODEL_STALLED,
        "{{ $labels.model }} at {{ $labels.instance }}: requests wait or are cancelled, and none gets a token",
        "For five minutes this model produced no token, and none of its requests succeeded. Its engine hangs, is far too slow, or works on a very long request without streaming. Other models may work.",
    )
    .settings(&["alerts.least_failures"])
    .variant(variant(given_up, "given up by clients"))
    .variant(variant(in_engine, "running in the engine"))
    .variant(variant(in_flight, "in flight"))
    .case(Case::quiet("clients are patient, and the engine reports nothing", 19, vec![
        of_this(hung()),
        others(),
        patient(Values::flat(2.0)),
        ended("rejected", Values::rising(60.0)),
    ]).firing(2, "", &[]))
    .case(Case::quiet("a model that never produced a token", 12, vec![patient(Values::flat(1.0))]).firing(2, "", &[]))
    .case(
        Case::quiet(
            "one of twenty models",
            19,
            [of_this(hung()), patient(Values::flat(2.0))].into_iter().chain((1..20).flat_map(works)).collect(),
        )
        .firing(2, "", &[]),
    )
    .case(
        Case::quiet("in flight for eight minutes", 19, vec![patient(Values::flat(0.0).until(11, Values::flat(2.0)))])
            .firing(2, "", &[]),
    )
    .case(Case::quiet("in flight, not yet for long enough", 14, vec![of_this(hung()), patient(Values::flat(2.0))]))
    .case(Case::quiet("a new model, not in flight for long enough", 16, vec![
        patient(Values::absent().until(10, Values::flat(2.0))),
    ]))
    .case(
        Case::quiet("a new model that hangs from its first request on", 18, vec![
            patient(Values::absent().until(10, Values::flat(2.0))),
        ])
        .firing(2, "", &[]),
    )
    .case(Case::quiet("nothing was in flight a moment ago", 21, vec![
        of_this(hung()),
        patient(Values::flat(2.0).until(15, Values::flat(0.0).until(16, Values::flat(2.0)))),
    ]))
    .cases([of_this(rarely()), first(rarely()), ended("success", rarely())].into_iter().map(|sign| {
        Case::quiet("in flight, and a sign of life every four minutes", 19, vec![sign, patient(Values::flat(2.0))])
    }))
    .case(Case::fires("clients give up", 19, "", vec![of_this(hung()), others(), gives_up(least * 0.21)]))
    .case(
        Case::quiet(
            "the engine has requests, clients are patient",
            19,
            vec![of_this(hung()), others(), engine(), gives_up(least * 0.1), ended("rejected", Values::rising(60.0))],
        )
        .firing(1, "", &[]),
    )
    .case(
        Case::fires("all ended ten minutes ago", 19, "", vec![
            of_this(hung()),
            first(hung()),
            ended("success", hung()),
            engine_since(11),
            gives_up(60.0),
        ])
        .firing(1, "", &[]),
    )
    .cases([of_this(rarely()), first(rarely()), ended("success", rarely())].into_iter().map(|sign| {
        Case::quiet("a sign of life every four minutes", 19, vec![sign, engine(), gives_up(60.0)])
    }))
    .case(Case::quiet("some get their tokens", 19, vec![of_this(Values::rising(1.0)), gives_up(60.0), engine()]))
    .case(Case::quiet(
        "some succeed",
        19,
        vec![of_this(hung()), gives_up(60.0), engine(), ended("success", Values::rising(1.0))],
    ))
    .case(Case::quiet(
        "some get a first token",
        19,
        vec![
            of_this(hung()),
            gives_up(60.0),
            engine(),
            first(Values::rising(1.0)),
        ],
    ))
    .case(Case::quiet("too few gave up", 19, vec![
        of_this(hung()),
        gives_up(least * 0.19),
        ended("rejected", Values::rising(60.0)),
        ended("error", Values::rising(60.0)),
    ]))
    .case(Case::quiet("not yet for long enough", 14, vec![of_this(hung()), gives_up(60.0), engine()]))
    .case(Case::quiet(
        "the engine was empty a moment ago",
        21,
        vec![of_this(hung()), running(Values::flat(4.0).until(15, Values::flat(0.0).until(16, Values::flat(4.0))))],
    ))
}

/// The share of requests with that outcome among those with the outcomes in `of`, over the short window, if there are enough of them.
fn share(rules: &Recording, outcome: &str, of: &[&'static str]) -> Expr {
    let by_model = |expr: Expr| expr.sum_by(Level::JobModel.labels());
    by_model(rules.outcomes.gauge().with(OUTCOME, outcome).now())
        / by_model(rules.outcomes.gauge().with_any(OUTCOME, of.iter().copied()).now())
}

fn events(rules: &Recording, outcome: &str) -> Expr {
    let seconds = f64::from(SHORT.as_seconds().unwrap_or(300));
    rules.outcomes.gauge().with(OUTCOME, outcome).now().sum_by(Level::JobModel.labels()) * seconds
}

fn cancelled(slo: &Slo, rules: &Recording) -> Alert {
    let (warn, least) = (slo.alerts.cancelled_ratio, slo.alerts.least_events);
    let among = ["success", "error", "cancelled"];
    let above = |limit: f64| share(rules, "cancelled", &among).gt(limit).and(events(rules, "cancelled").ge(least));
    let series = |ratio: f64, by: f64| {
        vec![
            ended("cancelled", Values::rising(ratio * by)),
            ended("success", Values::rising((1.0 - ratio) * 0.5 * by)),
            ended("error", Values::rising((1.0 - ratio) * 0.5 * by)),
            ended("rejected", Values::rising(by)),
        ]
    };
    let over = just_above(warn);
    let over_at_12 = series(over, 1000.0).into_iter().map(|series| series.ends_at(12)).collect();
    let nearly = warn.max(NEARLY_ALL);
    let both = just_above(nearly);
    let alert = Alert::new(
        MOSTLY_CANCELLED,
        "{{ $labels.model }}: {{ $value | humanizePercentage }} of requests are cancelled by their clients",
        "The share is over five minutes, without rejected requests. Clients wait too long, or a proxy in front closes the connection. No error ratio includes these requests.",
    )
    .settings(&["alerts.cancelled_ratio", "alerts.least_events"])
    .variant(Variant::new(Severity::Critical, SHORT, above(nearly)))
    .variant(Variant::new(Severity::Warning, SHORT, above(warn)).keep_firing_for(SHORT))
    .case(Case::fires("nearly all", 9, percent(both), series(both, 1000.0)).firing(1, percent(both), &[]))
    .case(Case::quiet("just above", 9, series(over, 1000.0)).firing(1, percent(over), &[]))
    .case(Case::quiet("just below", 9, series(warn * 0.99, 1000.0)))
    .case(Case::quiet("not yet for long enough", 4, series(both, 1000.0)))
    .case(Case::quiet("too few to say anything", 12, series(1.0, least * 0.19)))
    .case(Case::fires("just enough", 14, percent(1.0), series(1.0, least * 0.21)).firing(1, percent(1.0), &[]))
    .case(Case::quiet("over for a moment", 19, over_at_12).firing(1, percent(over), &[]));
    if warn < NEARLY_ALL {
        let below = NEARLY_ALL * 0.99;
        return alert.case(Case::quiet("just below nearly all", 9, series(below, 1000.0)).firing(
            1,
            percent(below),
            &[],
        ));
    }
    alert
}

/// Where requests used to succeed and are now rejected. A scanner with bad keys next to good traffic does not match.
fn collapsed(rules: &Recording, level: &Level, least: f64) -> Expr {
    let by_level = |expr: Expr| expr.sum_by(level.labels());
    let rates = |outcome: &str| rules.outcomes.gauge().with(OUTCOME, outcome);
    let seconds = f64::from(SHORT.as_seconds().unwrap_or(300));
    // Successes in five minutes, as a mean over an hour that ended ten minutes ago: mostly from before the outage.
    let before = by_level(rates("success").offset(Window::minutes(10)).avg_over_time(Window::hours(1))) * seconds;
    by_level(rates("rejected").now() * seconds)
        .ge(least)
        .and(before.clone().ge(least))
        .unless(by_level(rates("success").now() * seconds).gt(before * 0.1))
}

/// Successes and rejections in the cases of `collapsed`.
struct Collapse {
    least: f64,
}

impl Collapse {
    /// The series of a case. Requests with other outcomes must not change the result.
    fn seen(&self, success: Values, rejected: Values) -> Vec<TestSeries> {
        let beside = ["error", "cancelled"].map(|outcome| ended(outcome, Values::rising(self.least * 5.0)));
        [ended("success", success), ended("rejected", rejected)].into_iter().chain(beside).collect()
    }

    /// Five times as many successes as are needed, and `after` times as many from minute 70 on.
    fn broken(&self, after: f64) -> Values {
        Values::rising(self.least).until(70, Values::rising(self.least * after))
    }

    /// Rejections from minute 70 on: `by` times five times as many as are needed.
    fn since_then(&self, by: f64) -> Values {
        Values::rising(0.0).until(70, Values::rising(self.least * by))
    }

    /// The cases in which this variant pages, and in which it only just does not.
    fn cases(&self, variant: usize) -> Vec<Case> {
        let (broken, since_then) = (|after| self.broken(after), |by| self.since_then(by));
        let all = || since_then(1.0);
        let before = |part: f64| Values::rising(self.least * part).until(70, Values::rising(0.0));
        let fell = Values::rising(self.least * 50.0).until(80, Values::rising(self.least));
        let pages =
            |name: &str, at, success, rejected| Case::quiet(name, at, self.seen(success, rejected)).surely(variant);
        let not = |name: &str, at, success, rejected| Case::quiet(name, at, self.seen(success, rejected)).not(variant);
        vec![
            pages("nothing else after a key was rotated", 79, broken(0.0), all()),
            pages("just below a tenth succeeds", 79, broken(0.095), all()),
            not("just above a tenth succeeds", 79, broken(0.105), all()),
            pages("for forty minutes a few have succeeded", 110, broken(0.04), all()),
            not("it has been so for more than an hour", 145, broken(0.0), all()),
            not("it has been less for more than an hour", 145, broken(0.25), all()),
            not("there was much more, and less for two hours", 200, fell, all()),
            not("half still succeed", 79, broken(0.5), since_then(0.49)),
            not("not yet for long enough", 75, broken(0.0), all()),
            pages("just enough are rejected", 79, broken(0.0), since_then(0.21)),
            not("too few are rejected", 79, broken(0.0), since_then(0.19)),
            pages("just enough succeeded", 79, before(0.21), all()),
            not("too few succeeded", 79, before(0.19), all()),
            not("there was never a success", 12, Values::rising(0.0), Values::rising(self.least * 0.19)),
        ]
    }
}

/// Sums over all models. So it also detects requests for a removed model, which have the model `other`, and a few requests for each of many models.
fn rejected(slo: &Slo, rules: &Recording) -> Alert {
    let least = slo.alerts.least_events;
    let collapse = Collapse { least };
    let value = |part: f64| format!("{}", least * 5.0 * part);
    let nothing = || collapse.seen(collapse.broken(0.0), collapse.since_then(1.0));
    Alert::new(
        MOSTLY_REJECTED,
        "{{ $labels.job }}: requests are rejected, and almost none succeed",
        "No error ratio includes rejected requests (401, 404, 429, …), because they are usually errors of callers. But a rotated key, a wrong limit or a renamed model causes them, too. Over five minutes, less than a tenth as many requests succeeded as an hour before.",
    )
    .settings(&["alerts.least_events"])
    .variant(Variant::new(Severity::Critical, Window::minutes(2), collapsed(rules, &Level::Job, least)))
    .case(Case::fires("nothing succeeds", 79, value(1.0), nothing()))
    .case(Case::quiet("half still succeed", 79, collapse.seen(collapse.broken(0.5), collapse.since_then(0.49))))
    .cases(collapse.cases(0))
}

/// Detects one of many models, which the sum over all models does not show.
fn model_rejected(slo: &Slo, rules: &Recording) -> Alert {
    let (warn, least) = (slo.alerts.rejected_ratio, slo.alerts.least_events);
    let collapse = Collapse { least };
    let among = ["success", "error", "rejected"];
    let high = share(rules, "rejected", &among).gt(warn).and(events(rules, "rejected").ge(least));
    let above = just_above(warn);
    let ratio = |share: f64, by: f64| {
        vec![
            ended("rejected", Values::rising(share * by)),
            ended("success", Values::rising((1.0 - share) * 0.5 * by)),
            ended("error", Values::rising((1.0 - share) * 0.5 * by)),
            ended("cancelled", Values::rising(by)),
        ]
    };
    let over_at_14 = ratio(above, 1000.0).into_iter().map(|series| series.ends_at(14)).collect();
    let other =
        requests().with("model", "another-model").with(OUTCOME, "success").series(Values::rising(least * 100.0));
    let beside_others =
        collapse.seen(collapse.broken(0.0), collapse.since_then(1.0)).into_iter().chain([other]).collect();
    Alert::new(
        MODEL_REJECTED,
        "{{ $labels.model }} in {{ $labels.job }}: most requests are rejected",
        "No error ratio includes rejected requests (401, 404, 429, …), and other models may work well. `critical`: over five minutes, less than a tenth as many requests succeeded as an hour before. `warning`: the share is above the limit.",
    )
    .settings(&["alerts.rejected_ratio", "alerts.least_events"])
    .variant(Variant::new(Severity::Warning, Window::minutes(10), high).keep_firing_for(SHORT))
    .variant(Variant::new(Severity::Critical, Window::minutes(2), collapsed(rules, &Level::JobModel, least)))
    .case(Case::quiet("all of one, and others are well", 79, beside_others).firing(1, "", &[]))
    .cases(collapse.cases(1))
    .case(Case::fires("just enough to have a share", 20, "", ratio(1.0, least * 0.21)))
    .case(Case::quiet("too few to have a share", 20, ratio(1.0, least * 0.19)))
    .case(Case::fires("the share, over for a moment", 21, "", over_at_14))
    .case(Case::fires("just above the share", 14, "", ratio(above, 1000.0)))
    .case(Case::quiet("just below the share", 14, ratio(warn * 0.99, 1000.0)))
    .case(Case::quiet("the share, not yet for long enough", 9, ratio(above, 1000.0)))
}

fn model_gone(rules: &Recording) -> Alert {
    let info = || gauge!(catalog::MODEL_INFO);
    // In the hour before, it was loaded and used.
    let before = |rule: &Rule| rule.gauge().offset(Window::minutes(15)).max_over_time(Window::minutes(45)).gt(0.0);
    let (loaded, was, used) = (rules.loaded.now().gt(0.0), before(&rules.loaded), before(&rules.requests));
    let gone = || info().series(Values::flat(1.0).until(60, Values::absent()));
    let unloaded = || info().series(Values::flat(1.0).until(60, Values::flat(0.0)));
    let used_until = |minute| ended("success", Values::rising(60.0).until(minute, Values::absent()));
    let used_by = |by: f64| ended("success", Values::rising(by).until(60, Values::absent()));
    // Only used in the last twenty minutes.
    let lately = ended("success", Values::rising(0.0).until(40, Values::rising(60.0).until(60, Values::absent())));
    Alert::new(
        MODEL_GONE,
        "{{ $labels.model }} is no longer loaded by any server of {{ $labels.job }}",
        "It was loaded and had requests within the last hour. Its server is gone, or the model was unloaded.",
    )
    .variant(Variant::new(Severity::Warning, SHORT, was.unless(loaded).and(used)))
    .case(Case::fires("its series have ended", 84, "", vec![gone(), used_by(60.0)]))
    .case(Case::fires("it was unloaded", 84, "", vec![unloaded(), used_by(60.0)]))
    .case(Case::quiet("nobody used it", 84, vec![gone(), used_by(0.0)]))
    .case(Case::quiet("it is there", 84, vec![info().series(Values::flat(1.0)), used_by(60.0)]))
    .case(Case::quiet(
        "another instance has it",
        84,
        vec![gone(), used_by(60.0), info().with("instance", "llm-2:8080").series(Values::flat(1.0))],
    ))
    .case(Case::quiet("long ago", 140, vec![gone(), used_by(60.0)]))
    .case(Case::fires("almost an hour ago", 115, "", vec![gone(), lately.clone()]))
    .case(Case::fires("used only in the twenty minutes before it was gone", 84, "", vec![gone(), lately]))
    .case(Case::quiet("it was gone long ago, and is asked for", 140, vec![gone(), used_until(141)]))
    .case(Case::quiet(
        "it is gone now, and was used long ago",
        145,
        vec![info().series(Values::flat(1.0).until(130, Values::absent())), used_by(60.0)],
    ))
    .case(Case::fires(
        "loaded now and then before",
        84,
        "",
        vec![info().series(Values::flat(0.0).until(50, Values::flat(1.0).until(60, Values::flat(0.0)))), used_by(60.0)],
    ))
    .case(Case::quiet("not yet for long enough", 68, vec![gone(), used_by(60.0)]))
}

fn crash_loop(slo: &Slo) -> Alert {
    let start = || gauge!(external::PROCESS_START_TIME);
    let starts = of_jobs(start(), slo).changes(Window::minutes(15)).gt(2.0);
    let flaps = of_jobs(gauge!(external::UP), slo).changes(Window::minutes(15)).gt(4.0);
    // Restarts at this interval of minutes.
    let times = |minutes: u32, times: u32| {
        let from = |n: u32| Values::flat(f64::from(n * minutes * 60));
        (1..times).fold(from(0), |values, n| values.until(n * minutes, from(n)))
    };
    let every = |minutes| times(minutes, 20);
    let state = |n: u32| Values::flat(f64::from(n % 2));
    let flapping = |period: u32| (1..40).fold(state(0), |values, n| values.until(n * period, state(n)));
    let up = |period| gauge!(external::UP).series(flapping(period));
    let other_up = gauge!(external::UP).with("job", "other").series(flapping(3));
    let variant = |expr, seen: &str| Variant::new(Severity::Critical, Window::seconds(0), expr).label(SEEN, seen);
    Alert::new(
        CRASH_LOOP,
        "{{ $labels.instance }} of {{ $labels.job }} restarts again and again: {{ $value }} changes in 15 minutes",
        "It crashes and restarts. Each time the model is loaded again, and requests in flight are lost.",
    )
    .settings(&["service.jobs"])
    .variant(variant(starts, "starts of the process"))
    .variant(variant(flaps, "scrapes"))
    .case(Case::fires("four starts", 24, "3", vec![start().series(every(5))]))
    .case(Case::quiet("three starts", 24, vec![start().series(every(7))]))
    .case(Case::quiet("up and down", 24, vec![up(3)]).firing(1, "5", &[]))
    .case(Case::quiet("a restart or two", 24, vec![up(5)]))
    .case(Case::quiet("twice up and down", 24, vec![up(4)]))
    .case(Case::quiet("another job's", 24, vec![start().with("job", "other").series(every(5))]))
    .case(Case::quiet("another job's, up and down", 24, vec![other_up]))
    .case(Case::quiet("it stopped doing so", 60, vec![start().series(times(5, 7))]))
}
