//! `docs/METRICS.md` is generated from the catalogue, and the committed copy is the one that the code would generate.

#![allow(missing_docs)]

use std::{fs, path::Path};

use llm_metrics::catalog::{self, document, labels};

const INTRODUCTION: &str = "\
# Metrics

Generated from the catalogue in `crates/llm-metrics/src/catalog/`; do not edit. To bring it up to date:
`BLESS=1 cargo test -p llm-metrics --test documentation`.

All units are base units. Histograms are classic ones with explicit buckets, so that they can be aggregated over
instances. What was not measured is absent, never 0. The first word of every name, `llm`, can be replaced by a prefix of
your own. The columns *OpenTelemetry* and *vLLM* name the nearest metric or attribute there.

Names are stable: one that has been released changes only with a reason, in a release whose CHANGELOG says so.

";

#[test]
fn the_committed_page_is_what_the_catalogue_generates() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/METRICS.md");
    let generated = format!("{INTRODUCTION}{}", document::markdown(catalog::SECTIONS, labels::ALL));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "docs/METRICS.md is out of date: run this test with BLESS=1 in the environment");
}
