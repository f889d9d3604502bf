//! Every alert has a runbook with the facts of the code, and with queries that only have existing metrics.

#![allow(missing_docs)]

mod names;
mod queries;
mod series;

use std::{collections::BTreeSet, fs, path::Path};

use llm_metrics_monitoring::{
    alerts::{self, Alert},
    generate,
    promql::Names,
    recording::Recording,
    runbook,
    slo::Slo,
};
use names::Known;
use queries::queries;

fn all() -> Vec<Alert> {
    let slo = Slo::default();
    let recording = Recording::new(&slo);
    alerts::topics(&slo, &recording).into_iter().flat_map(|topic| topic.alerts).collect()
}

#[test]
fn every_alert_has_a_runbook_that_says_what_to_do() {
    let mut files = BTreeSet::new();
    for alert in all() {
        let page = runbook::page(&alert, &Names::new()).unwrap();
        for section in ["## What it means\n", "## Look at first\n", "## What to do\n"] {
            let text = page.split_once(section).unwrap_or_else(|| panic!("{}: {section}", alert.name)).1;
            assert!(text.split("\n## ").next().unwrap().trim().len() > 40, "{}: {section} says nothing", alert.name);
        }
        files.insert(format!("{}.md", alert.name));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
    let there = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), files);
}

/// Readers of `runbook_url` show it as a link, which a path is not.
#[test]
fn an_alert_has_a_link_to_its_runbook_if_the_runbooks_are_served() {
    let annotations = |runbooks: &str| {
        let mut slo = Slo::default();
        slo.service.runbooks = runbooks.to_owned();
        let files = generate::files(&slo, &Names::new()).unwrap();
        let alerts = files.iter().find(|file| file.path.ends_with("outages.alerts.yml")).unwrap();
        let lines = alerts.text.lines().map(str::trim).filter(|line| line.starts_with("runbook"));
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for (runbooks, annotation) in [
        ("https://wiki.example/runbooks", "runbook_url"),
        ("http://wiki/runbooks", "runbook_url"),
        ("docs/runbooks", "runbook"),
        ("httpd/runbooks", "runbook"),
    ] {
        let seen = annotations(runbooks);
        assert!(seen.contains(&format!("{annotation}: {runbooks}/LlmStalled.md")), "{seen:?}");
        assert!(seen.iter().all(|line| line.starts_with(&format!("{annotation}: {runbooks}/"))), "{seen:?}");
    }
}

#[test]
fn no_runbook_has_a_link_to_one_that_is_not_generated() {
    let settings = "disable: [LlmModelStalled, LlmKvCacheFull]\ngpu: {memory_preallocated: true}\nalerts: {requests_per_second_min: 0}\n";
    for settings in ["", settings] {
        let files = generate::files(&Slo::parse(settings).unwrap(), &Names::new()).unwrap();
        let pages: Vec<_> = files.iter().filter(|file| file.path.starts_with("runbooks")).collect();
        let there: BTreeSet<_> = pages.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
        let mut links = 0;
        for page in &pages {
            for link in page.text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
                let is_ours = link.starts_with("Llm");
                assert!(!is_ours || there.contains(link), "{} leads to {link}", page.path.display());
                links += u32::from(is_ours);
            }
        }
        assert!(links > 40, "{links}");
    }
}

#[test]
fn runbooks_have_the_metric_names_of_the_service() {
    let names = Names::new().prefix("qwen").unwrap().gpu_prefix("accelerator").unwrap();
    let known = Known::new(&names);
    for alert in all() {
        let page = runbook::page(&alert, &names).unwrap();
        for query in queries(&page) {
            let wrong = known.wrong_with(query);
            assert!(wrong.is_empty(), "{}: {wrong:?}", alert.name);
        }
        assert!(!page.contains("llm_"), "{}", alert.name);
    }
}
