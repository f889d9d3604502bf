//! Whether there is any data: targets, scrapes, series.

use llm_metrics::catalog;

use super::{Alert, Case, Severity, TestSeries, Values, Variant};
use crate::{
    counter, external, gauge,
    promql::{Counter, Expr, Gauge, Window},
    recording::{Recording, SHORT},
    slo::Slo,
    vocabulary::{INSTANCE, JOB, WHY},
};

pub(crate) const TARGET_DOWN: &str = "LlmTargetDown";
pub(crate) const TARGET_ABSENT: &str = "LlmTargetAbsent";

pub(super) fn alerts(slo: &Slo, _: &Recording) -> Vec<Alert> {
    vec![down(slo), absent(slo), missing(slo), slow(slo), overflow(), rules_not_evaluated(), watchdog()]
}

/// The jobs of the servers.
pub(super) fn of_jobs(gauge: Gauge, slo: &Slo) -> Gauge {
    match &slo.service.jobs[..] {
        [job] => gauge.with(JOB, job.as_str()),
        jobs => gauge.with_any(JOB, jobs.iter().map(String::as_str)),
    }
}

fn up(values: Values) -> TestSeries {
    gauge!(external::UP).series(values)
}

fn down(slo: &Slo) -> Alert {
    let falls = || Values::flat(1.0).until(10, Values::flat(0.0));
    Alert::new(
        TARGET_DOWN,
        "{{ $labels.instance }} of {{ $labels.job }} cannot be scraped",
        "It is down, or Prometheus cannot reach it. There is no other data about it.",
    )
    .settings(&["service.jobs"])
    .variant(Variant::new(Severity::Critical, Window::minutes(2), of_jobs(gauge!(external::UP), slo).now().equals(0.0)))
    .case(Case::fires("down for two minutes", 13, "0", vec![up(falls())]))
    .case(Case::quiet("down for one minute", 11, vec![up(falls())]))
    .case(Case::quiet("another job's target", 13, vec![gauge!(external::UP).with(JOB, "other").series(falls())]))
}

fn absent(slo: &Slo) -> Alert {
    let jobs = &slo.service.jobs;
    let alert = Alert::new(
        TARGET_ABSENT,
        "Prometheus has no target for the job {{ $labels.job }}",
        "The scrape configuration or service discovery no longer has it. Without targets no other alert can fire.",
    )
    .settings(&["service.jobs"]);
    let all_but = |missing: Option<&String>| -> Vec<TestSeries> {
        let others = jobs.iter().filter(|job| Some(*job) != missing);
        let of = |job: &String| gauge!(external::UP).with(JOB, job.as_str()).series(Values::flat(1.0));
        others.map(of).chain([gauge!(external::UP).with(JOB, "other").series(Values::flat(1.0))]).collect()
    };
    let absent = jobs.iter().map(|job| gauge!(external::UP).with(JOB, job.as_str()).absent());
    let Some(expr) = absent.reduce(Expr::or) else { return alert };
    let alert = jobs.iter().fold(alert.variant(Variant::new(Severity::Critical, SHORT, expr)), |alert, job| {
        let nobody = Case::quiet(format!("no target of {job}"), 7, all_but(Some(job)));
        let soon = Case::quiet(format!("no target of {job}, not yet for long enough"), 4, all_but(Some(job)));
        alert.case(nobody.firing(0, "1", &[(JOB, job)])).case(soon)
    });
    alert.case(Case::quiet("all are there", 7, all_but(None)))
}

fn missing(slo: &Slo) -> Alert {
    let info = || gauge!(catalog::BUILD_INFO);
    let answers = of_jobs(gauge!(external::UP), slo).now().equals(1.0);
    Alert::new(
        "LlmMetricsMissing",
        "{{ $labels.instance }} of {{ $labels.job }} is up, but exports none of the expected metrics",
        "The layer is missing, the recorder was installed after it, or the metrics have another prefix.",
    )
    .settings(&["service.jobs"])
    .variant(Variant::new(Severity::Warning, SHORT, answers.unless_on([JOB, INSTANCE], info().now())))
    .case(Case::fires("none", 7, "1", vec![up(Values::flat(1.0))]))
    .case(Case::quiet("there", 7, vec![up(Values::flat(1.0)), info().series(Values::flat(1.0))]))
    .case(Case::quiet("not yet for long enough", 4, vec![up(Values::flat(1.0))]))
    .case(Case::quiet(
        "another job's target",
        7,
        vec![gauge!(external::UP).with(JOB, "other").series(Values::flat(1.0))],
    ))
}

fn slow(slo: &Slo) -> Alert {
    let limit = slo.alerts.scrape_seconds;
    let took = |seconds: f64| vec![gauge!(external::SCRAPE_DURATION).series(Values::flat(seconds))];
    Alert::new(
        "LlmScrapeSlow",
        "{{ $labels.instance }}: a scrape takes {{ printf \"%.1f\" $value }} s",
        format!("More than {limit} s: there are too many series, or the process gets too little CPU time."),
    )
    .settings(&["alerts.scrape_seconds", "service.jobs"])
    .variant(
        Variant::new(
            Severity::Warning,
            Window::minutes(10),
            of_jobs(gauge!(external::SCRAPE_DURATION), slo).now().gt(limit),
        )
        .keep_firing_for(Window::minutes(5)),
    )
    .case(Case::fires("just above", 12, format!("{:.1}", limit + 0.1), took(limit + 0.1)))
    .case(Case::quiet("at the limit", 12, took(limit)))
    .case(Case::quiet("not yet for long enough", 9, took(limit + 0.1)))
    .case(Case::quiet(
        "another job's target",
        12,
        vec![gauge!(external::SCRAPE_DURATION).with(JOB, "other").series(Values::flat(limit + 0.1))],
    ))
    .case(Case::fires(
        "over for a moment",
        15,
        format!("{:.1}", limit + 0.1),
        vec![gauge!(external::SCRAPE_DURATION).series(Values::flat(limit + 0.1).until(12, Values::flat(0.0)))],
    ))
}

fn overflow() -> Alert {
    let overflow = || counter!(catalog::LABEL_OVERFLOW);
    let expr = overflow().increase(Window::minutes(15)).sum_by([JOB, INSTANCE, "label"]).gt(0.0);
    Alert::new(
        "LlmSeriesOverflow",
        "{{ $labels.instance }}: values of the label {{ $labels.label }} are counted as `other`",
        "The label had more values than its limit allows. Figures by this label are no longer complete.",
    )
    .variant(Variant::new(Severity::Warning, Window::seconds(0), expr))
    .case(Case::fires("the first", 12, "", vec![overflow().series(Values::flat(0.0).until(10, Values::flat(1.0)))]))
    .case(Case::fires(
        "ten minutes ago",
        20,
        "",
        vec![overflow().series(Values::flat(0.0).until(10, Values::flat(1.0)))],
    ))
    .case(Case::quiet("long ago", 40, vec![overflow().series(Values::flat(0.0).until(10, Values::flat(1.0)))]))
    .case(Case::quiet("none", 12, vec![overflow().series(Values::flat(0.0))]))
}

/// Rules that are not evaluated cannot cause alerts.
fn rules_not_evaluated() -> Alert {
    let failures = || counter!(external::RULE_FAILURES);
    let missed = || counter!(external::RULE_GROUPS_MISSED);
    let reload = || gauge!(external::CONFIG_RELOAD_SUCCESSFUL);
    let increase = |counter: Counter| counter.increase(Window::minutes(15)).sum_by([JOB, INSTANCE]).gt(0.0);
    let warning = |expr, why: &str| Variant::new(Severity::Warning, SHORT, expr).label(WHY, why);
    let once = || Values::flat(3.0).until(10, Values::flat(5.0));
    Alert::new(
        "LlmRulesNotEvaluated",
        "{{ $labels.instance }}: Prometheus {{ $labels.why }} ({{ $value }})",
        "Rules that are not evaluated or not loaded cannot cause alerts. This alert is about the monitoring itself.",
    )
    .variant(warning(increase(failures()), "fails to evaluate rules"))
    .variant(warning(increase(missed()), "is too slow for its rules"))
    .variant(warning(reload().now().max_by([JOB, INSTANCE]).equals(0.0), "goes on with an old configuration"))
    .case(Case::fires("two evaluations failed", 17, "2", vec![failures().series(once())]))
    .case(Case::quiet("two were left out", 17, vec![missed().series(once())]).firing(1, "2", &[]))
    .case(Case::quiet("a reload failed", 7, vec![reload().series(Values::flat(0.0))]).firing(2, "0", &[]))
    .case(Case::quiet("not yet for long enough", 4, vec![reload().series(Values::flat(0.0))]))
    .case(Case::quiet("one failed just now", 13, vec![failures().series(once()), missed().series(once())]))
    .case(Case::quiet(
        "all is well",
        30,
        vec![
            failures().series(Values::flat(3.0)),
            missed().series(Values::flat(3.0)),
            reload().series(Values::flat(1.0)),
        ],
    ))
    .case(Case::quiet("long ago", 40, vec![failures().series(once()), missed().series(once())]))
}

fn watchdog() -> Alert {
    Alert::new(
        "LlmWatchdog",
        "Alerts arrive",
        "This alert always fires. Send it to a receiver that raises the alarm when it stops.",
    )
    .variant(Variant::new(Severity::None, Window::seconds(0), Expr::vector(1.0)))
    .case(Case::fires("always", 1, "1", Vec::new()))
}
