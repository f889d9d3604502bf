//! The committed files are up to date: those in `examples/monitoring/` and `docs/runbooks/` are the generated ones (`BLESS=1` updates them), and
//! hand-written pages only name existing metrics.

#![allow(missing_docs)]

mod names;
mod queries;
mod series;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use llm_metrics_monitoring::{alerts, generate, promql::Names, recording::Recording, slo::Slo};
use names::Known;
use queries::queries;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example() -> Slo {
    Slo::parse(&fs::read_to_string(repository().join("examples/monitoring/slo.yaml")).unwrap()).unwrap()
}

fn runbooks() -> Vec<PathBuf> {
    let folder = repository().join("docs/runbooks");
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

#[test]
fn the_committed_files_are_those_that_are_generated() {
    let folder = repository().join("examples/monitoring");
    let files = generate::files(&example(), &Names::new()).unwrap();
    if std::env::var_os("BLESS").is_some() {
        generate::write(&files, &folder).unwrap();
    }
    let changed = generate::drift(&files, &folder);
    assert!(changed.is_empty(), "out of date, run this test with BLESS=1 in the environment: {changed:?}");
}

#[test]
fn the_slo_yaml_of_the_example_has_every_field_with_its_default_except_the_deployment_and_the_runbooks() {
    let mut expected = Slo::default();
    expected.scaling.deployment = "qwen-server".to_owned();
    expected.service.runbooks = "docs/runbooks".to_owned();
    assert_eq!(example(), expected);
    let example = fs::read_to_string(repository().join("examples/monitoring/slo.yaml")).unwrap();
    let all = Slo::default().to_yaml();
    for field in all.lines().map(|line| line.split(':').next().unwrap().trim()) {
        assert!(field.starts_with('-') || example.contains(&format!("{field}:")), "{field}");
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let slo = Slo::default();
    let recording = Recording::new(&slo);
    let topics = alerts::topics(&slo, &recording);
    let alerts = topics.iter().flat_map(|topic| &topic.alerts).map(|alert| format!("{}.md", alert.name));
    let files = runbooks().into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    assert_eq!(files.collect::<BTreeSet<_>>(), alerts.collect());
}

#[test]
fn the_queries_in_the_documents_have_existing_metrics() {
    let known = Known::new(&Names::new());
    let mut seen = 0;
    for path in runbooks().into_iter().chain([repository().join("docs/promql.md")]) {
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
fn the_links_between_runbooks_lead_to_files() {
    for path in runbooks() {
        let page = fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.is_file(), "{}: {link}", path.display());
        }
    }
}
