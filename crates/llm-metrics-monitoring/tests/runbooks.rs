//! Every alert has a runbook whose facts are those of the code, and whose queries speak of metrics that there are.

#![allow(missing_docs)]

mod names;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use llm_metrics_monitoring::{
    alerts::{self, Alert},
    promql::Names,
    recording::Recording,
    runbook,
    slo::Slo,
};
use names::Known;

fn all() -> Vec<Alert> {
    let slo = Slo::default();
    let recording = Recording::new(&slo);
    alerts::topics(&slo, &recording).into_iter().flat_map(|topic| topic.alerts).collect()
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// The queries in a page's `promql` blocks, which empty lines keep apart.
fn queries(page: &str) -> Vec<&str> {
    let blocks = page.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(|block| block.trim().split("\n\n")).collect()
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
    for folder in [docs().join("runbooks"), Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks")] {
        let there = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(there.collect::<BTreeSet<_>>(), files, "{}", folder.display());
    }
}

#[test]
fn runbooks_speak_of_metrics_as_the_embedder_names_them() {
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

#[test]
fn the_queries_in_the_documents_speak_of_metrics_that_there_are() {
    let known = Known::new(&Names::new());
    let mut pages: Vec<_> = fs::read_dir(docs().join("runbooks")).unwrap().map(|file| file.unwrap().path()).collect();
    pages.push(docs().join("promql.md"));
    let mut seen = 0;
    for path in pages {
        let page = fs::read_to_string(&path).unwrap();
        for query in queries(&page) {
            let wrong = known.wrong_with(query);
            assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn the_links_between_runbooks_lead_somewhere() {
    for file in fs::read_dir(docs().join("runbooks")).unwrap() {
        let path = file.unwrap().path();
        let page = fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.is_file(), "{}: {link}", path.display());
        }
    }
}
