//! The configuration of Alertmanager: routes, grouping, and inhibition.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    alerts::{
        Severity,
        daily::THROUGHPUT_LOW,
        gpu::{GPU_LOST, GPU_MISSING, MEMORY_HEADROOM_LOW, MEMORY_HIGH, XID},
        objectives::{ATTAINMENT_LOW, ERROR_BUDGET_BURN, FIRST_TOKEN_BUDGET_BURN, GAPS_BUDGET_BURN},
        outages::{CRASH_LOOP, MODEL_REJECTED, MODEL_STALLED, MOSTLY_CANCELLED, MOSTLY_REJECTED, STALLED},
        targets::{TARGET_ABSENT, TARGET_DOWN},
        traffic::{DURATION_P95_HIGH, DURATION_P99_HIGH, ERROR_RATIO_HIGH, INSTANCE_FAILING, QUEUE_GROWING},
    },
    file::GenerateError,
    rule_file::yaml,
    vocabulary::{GPU_UUID, INSTANCE, JOB},
};

/// Labels by which tickets are grouped. Pages are grouped by job, so that one incident is one page, however many models it affects.
const TOGETHER: [&str; 3] = ["alertname", JOB, "model"];

#[derive(Serialize)]
struct Config {
    route: Route,
    inhibit_rules: Vec<Inhibit>,
    receivers: Vec<Receiver>,
}

#[derive(Default, Serialize)]
struct Route {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matchers: Vec<String>,
    receiver: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    group_by: Vec<String>,
    group_wait: &'static str,
    group_interval: &'static str,
    repeat_interval: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Self>,
}

#[derive(Serialize)]
struct Inhibit {
    source_matchers: Vec<String>,
    target_matchers: Vec<String>,
    equal: Vec<String>,
}

#[derive(Serialize)]
struct Receiver {
    name: &'static str,
    webhook_configs: Vec<BTreeMap<&'static str, String>>,
}

/// The receiver for a severity. Each is a placeholder webhook, to be replaced by yours.
const fn receiver(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "page",
        Severity::Warning => "ticket",
        Severity::Info => "log",
        Severity::None => "watchdog",
    }
}

/// `by` are the labels that are always used together with `job`.
pub(crate) fn config(by: &[String]) -> Result<String, GenerateError> {
    let receivers = Severity::ALL.map(|severity| Receiver {
        name: receiver(severity),
        webhook_configs: vec![[("url", format!("http://127.0.0.1:9099/{}", receiver(severity)))].into()],
    });
    yaml(&Config { route: route(by), inhibit_rules: inhibitions(by), receivers: receivers.into() })
}

fn with_by(labels: &[&str], by: &[String]) -> Vec<String> {
    by.iter().cloned().chain(labels.iter().map(|label| (*label).to_owned())).collect()
}

fn route(by: &[String]) -> Route {
    let child = |severity: Severity, group_wait, group_interval, repeat_interval| Route {
        matchers: vec![format!("severity = {}", severity.as_str())],
        receiver: receiver(severity),
        group_wait,
        group_interval,
        repeat_interval,
        ..Route::default()
    };
    let page = child(Severity::Critical, "30s", "2m", "1h");
    Route {
        // Alerts without a known severity are still delivered.
        receiver: receiver(Severity::Warning),
        group_by: with_by(&TOGETHER, by),
        group_wait: "30s",
        group_interval: "5m",
        repeat_interval: "12h",
        routes: vec![
            // Once a minute: Alertmanager repeats a notification when it evaluates a group and the last notification is that old.
            child(Severity::None, "0s", "30s", "55s"),
            Route { group_by: with_by(&[JOB], by), ..page },
            child(Severity::Warning, "1m", "5m", "12h"),
            child(Severity::Info, "5m", "30m", "24h"),
        ],
        ..Route::default()
    }
}

fn inhibitions(by: &[String]) -> Vec<Inhibit> {
    let lesser = format!("severity =~ \"{}|{}\"", Severity::Warning.as_str(), Severity::Info.as_str());
    let critical = || format!("severity = {}", Severity::Critical.as_str());
    let named = |name: &str| vec![format!("alertname = {name}")];
    let any = |names: &[&str]| vec![format!("alertname =~ \"{}\"", names.join("|"))];
    let all_but = |names: &[&str]| {
        vec![format!("alertname !~ \"{}\"", names.join("|")), format!("severity != {}", Severity::None.as_str())]
    };
    let inhibit = |source_matchers, target_matchers, equal: &[&str]| Inhibit {
        source_matchers,
        target_matchers,
        equal: with_by(equal, by),
    };
    let slow = [DURATION_P95_HIGH, DURATION_P99_HIGH, FIRST_TOKEN_BUDGET_BURN, GAPS_BUDGET_BURN, ATTAINMENT_LOW];
    let failing = [&[ERROR_RATIO_HIGH][..], &slow].concat();
    let hung = [&[MOSTLY_CANCELLED, ERROR_BUDGET_BURN][..], &failing].concat();
    let burns = any(&[ERROR_BUDGET_BURN, FIRST_TOKEN_BUDGET_BURN, GAPS_BUDGET_BURN]);
    let burn = |window: &str| [burns.clone(), vec![format!("window = {window}")]].concat();
    vec![
        // For a target that is down, or a job that is gone, other alerts are redundant. A crash loop inhibits the alert about a down target: two
        // alerts that inhibit each other would both be silent.
        inhibit(named(TARGET_DOWN), all_but(&[TARGET_DOWN, CRASH_LOOP]), &[JOB, INSTANCE]),
        Inhibit {
            source_matchers: named(TARGET_ABSENT),
            target_matchers: all_but(&[TARGET_ABSENT]),
            equal: vec![JOB.to_owned()],
        },
        inhibit(named(CRASH_LOOP), any(&[TARGET_DOWN, STALLED, MODEL_STALLED, INSTANCE_FAILING]), &[JOB, INSTANCE]),
        // The same alert about the same thing, with a higher severity.
        inhibit(vec![critical()], vec![lesser.clone()], &["alertname", JOB, INSTANCE, "model", GPU_UUID]),
        // The same budget at a higher burn rate.
        inhibit(burn("1h"), burn("6h"), &["alertname", JOB, "model"]),
        // Requests that fail or hang are also slow.
        inhibit([named(ERROR_BUDGET_BURN), vec![critical()]].concat(), any(&failing), &[JOB, "model"]),
        inhibit(named(ERROR_RATIO_HIGH), any(&slow), &[JOB, "model"]),
        inhibit(named(MODEL_STALLED), any(&hung), &[JOB, "model"]),
        inhibit(named(STALLED), any(&[MODEL_STALLED, QUEUE_GROWING, INSTANCE_FAILING]), &[JOB, INSTANCE]),
        inhibit(named(MOSTLY_REJECTED), named(MODEL_REJECTED), &[JOB]),
        inhibit(any(&[STALLED, MODEL_STALLED]), named(THROUGHPUT_LOW), &[JOB]),
        // A broken GPU is the cause.
        inhibit(named(GPU_LOST), any(&[GPU_MISSING, STALLED, MODEL_STALLED]), &[JOB, INSTANCE]),
        inhibit(named(GPU_MISSING), any(&[STALLED, MODEL_STALLED]), &[JOB, INSTANCE]),
        inhibit([named(XID), vec![critical()]].concat(), any(&[STALLED, MODEL_STALLED]), &[JOB, INSTANCE]),
        inhibit(named(MEMORY_HIGH), named(MEMORY_HEADROOM_LOW), &[JOB, INSTANCE, GPU_UUID]),
        inhibit(named(GPU_LOST), vec!["alertname =~ \"LlmGpu.*\"".to_owned(), lesser], &[JOB, INSTANCE, GPU_UUID]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{alerts, recording::Recording, slo::Slo};

    /// A variant of an alert, as Alertmanager sees it: the labels with constant values, and the names of all labels.
    struct AlertLabels {
        fixed: BTreeMap<String, String>,
        labels: BTreeSet<String>,
    }

    impl AlertLabels {
        fn name(&self) -> String {
            format!("{} {:?}", self.fixed["alertname"], self.fixed)
        }

        fn is_page(&self) -> bool {
            self.fixed["severity"] == "critical"
        }

        /// Whether it matches for some values of its other labels.
        fn matches(&self, matchers: &[String]) -> bool {
            matchers.iter().all(|matcher| {
                let [label, compare, value] = matcher.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                    panic!("{matcher}")
                };
                let Some(own) = self.fixed.get(label) else { return self.labels.contains(label) };
                let words: Vec<_> = value.trim_matches('"').split('|').collect();
                let is = words.iter().any(|word| match word.strip_suffix(".*") {
                    Some(start) => own.starts_with(start),
                    None => own == word,
                });
                match compare {
                    "=" | "=~" => is,
                    "!=" | "!~" => !is,
                    _ => panic!("{matcher}"),
                }
            })
        }

        /// Whether both can be about the same thing: a label that only one of them has is never equal.
        fn equals(&self, other: &Self, equal: &[String]) -> bool {
            equal.iter().all(|label| match (self.fixed.get(label), other.fixed.get(label)) {
                (Some(one), Some(another)) => one == another,
                _ => self.labels.contains(label) == other.labels.contains(label),
            })
        }
    }

    fn all_alerts(slo: &Slo) -> Vec<AlertLabels> {
        let recording = Recording::new(slo);
        let alerts = alerts::topics(slo, &recording).into_iter().flat_map(|topic| topic.alerts);
        let of = |alert: alerts::Alert| {
            let variant = |variant: &alerts::Variant| {
                let fixed = variant.all_labels().chain([("alertname", alert.name)]);
                let fixed: BTreeMap<_, _> = fixed.map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
                let found = variant.expr.labels().into_iter().map(|label| label.to_string());
                AlertLabels { labels: found.chain(fixed.keys().cloned()).collect(), fixed }
            };
            alert.variants.iter().map(variant).collect::<Vec<_>>()
        };
        alerts.flat_map(of).collect()
    }

    /// For each alert, the alerts that can inhibit it.
    fn silencers(seen: &[AlertLabels], rules: &[Inhibit]) -> Vec<Vec<usize>> {
        let by = |source: &AlertLabels, target: &AlertLabels| {
            rules.iter().any(|rule| {
                // Alertmanager does not inhibit an alert that matches both sides if the other one does, too.
                let both = |one: &AlertLabels| one.matches(&rule.source_matchers) && one.matches(&rule.target_matchers);
                source.matches(&rule.source_matchers)
                    && target.matches(&rule.target_matchers)
                    && source.equals(target, &rule.equal)
                    && !(both(source) && both(target))
            })
        };
        let of = |target: &AlertLabels| (0..seen.len()).filter(|source| by(&seen[*source], target)).collect();
        seen.iter().map(of).collect()
    }

    /// A cycle of alerts that inhibit each other, if there is one: all of them would fire, and none would be delivered.
    fn circle(silencers: &[Vec<usize>]) -> Option<Vec<usize>> {
        fn visit(at: usize, silencers: &[Vec<usize>], path: &mut Vec<usize>, done: &mut BTreeSet<usize>) -> bool {
            if let Some(start) = path.iter().position(|on_path| *on_path == at) {
                path.drain(..start);
                return true;
            }
            if done.contains(&at) {
                return false;
            }
            path.push(at);
            if silencers[at].iter().any(|by| visit(*by, silencers, path, done)) {
                return true;
            }
            path.pop();
            done.insert(at);
            false
        }
        let (mut path, mut done) = (Vec::new(), BTreeSet::new());
        (0..silencers.len()).any(|start| visit(start, silencers, &mut path, &mut done)).then_some(path)
    }

    fn named(seen: &[AlertLabels], which: &[usize]) -> Vec<String> {
        which.iter().map(|index| seen[*index].name()).collect()
    }

    /// Of alerts that fire together, at least one is delivered: no alert is inhibited by an alert that it inhibits.
    #[test]
    fn alerts_never_inhibit_each_other() {
        for by in [vec![], vec!["cluster".to_owned()]] {
            let (seen, rules) = (all_alerts(&Slo::default()), inhibitions(&by));
            let silencers = silencers(&seen, &rules);
            let found = circle(&silencers);
            assert!(found.is_none(), "{:?}", named(&seen, &found.unwrap()));
        }
    }

    /// A page is only inhibited by a page, not by a ticket.
    #[test]
    fn a_page_is_only_inhibited_by_pages() {
        let seen = all_alerts(&Slo::default());
        let silencers = silencers(&seen, &inhibitions(&[]));
        for (target, by) in silencers.iter().enumerate().filter(|(target, _)| seen[*target].is_page()) {
            let lesser: Vec<_> = by.iter().copied().filter(|source| !seen[*source].is_page()).collect();
            assert!(lesser.is_empty(), "{}: {:?}", seen[target].name(), named(&seen, &lesser));
        }
    }

    #[test]
    fn inhibition_rules_name_existing_alerts() {
        let seen = all_alerts(&Slo::default());
        for rule in inhibitions(&[]) {
            for side in [&rule.source_matchers, &rule.target_matchers] {
                assert!(seen.iter().any(|one| one.matches(side)), "{side:?}");
            }
            let works = silencers(&seen, std::slice::from_ref(&rule));
            assert!(works.iter().any(|by| !by.is_empty()), "{:?} never silences anything", rule.source_matchers);
        }
    }

    #[test]
    fn a_circle_is_found() {
        let rule = |source: &str, target: &str| Inhibit {
            source_matchers: vec![format!("alertname = {source}")],
            target_matchers: vec![format!("alertname = {target}")],
            equal: vec![JOB.to_owned(), INSTANCE.to_owned()],
        };
        let seen = all_alerts(&Slo::default());
        let found = |rules: &[Inhibit]| circle(&silencers(&seen, rules)).map(|circle| circle.len());
        assert_eq!(
            found(&[rule(TARGET_DOWN, CRASH_LOOP), rule(CRASH_LOOP, STALLED), rule(STALLED, TARGET_DOWN)]),
            Some(3)
        );
        assert_eq!(found(&[rule(TARGET_DOWN, CRASH_LOOP), rule(CRASH_LOOP, STALLED)]), None);
        assert_eq!(
            found(&[rule(TARGET_ABSENT, TARGET_DOWN), rule(TARGET_DOWN, TARGET_ABSENT)]),
            None,
            "one has no instance"
        );
    }
}
