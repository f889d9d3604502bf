//! `docs/METRICS.md` is generated from the catalogue, and the committed file is up to date. The two READMEs have the same code, links and sections,
//! and their badges match the manifest.

#![allow(missing_docs)]

use std::{fs, path::Path};

use llm_metrics::catalog::{self, document};

const INTRODUCTION: &str = "\
# Metrics

Generated from the catalogue in `crates/llm-metrics/src/catalog/`; do not edit. To bring it up to date:
`BLESS=1 cargo test -p llm-metrics --test documentation`.

All units are base units. Histograms are classic histograms with explicit buckets, so they can be aggregated over
instances. A value that was not measured is absent, never 0. You can replace the first word of every name, `llm`, with your
own prefix. The columns *OpenTelemetry* and *vLLM* have the name of the metric in that dialect (`ExporterBuilder::dialects`).

Names are stable. The name of a released metric changes only for a reason that CHANGELOG.md states.

";

const SERIES: &str = "
## Number of series

The counters of a model exist from its first accepted request on, or from the start if the model is declared. A histogram exists from its first sample on, for each set of labels.
After a stream that succeeded, a chat model has 320 series. With reasoning, single-document responses, cancelled, failed and rejected requests, it has 512 series. 64 models in
typical use take some 24,900 lines of a page.

The finer buckets of time to first token and duration increased this: the histograms with these buckets had 117 series per chat model with successes only and 255 with every outcome, and 64 models took 20,568
lines. Now these histograms have 182 and 398 series. Labels were reviewed for this, and all of them stay:

- `outcome` on `llm_request_duration_seconds`. Rules and dashboards use successes. The duration of cancelled requests shows after what time clients give up
  ([runbook](runbooks/LlmMostlyCancelled.md)), the duration of failed requests whether they are timeouts. The `otel` and `vllm` dialects need all requests in this histogram. An outcome that does not
  occur has no series.
- `thinking` on `llm_request_duration_seconds` and `llm_time_per_output_token_seconds`. A request with reasoning takes several times as long, so a quantile over both modes is the quantile of neither.
- `endpoint` on `llm_requests_total` and `llm_request_errors_total`. Chat completions, Responses and Messages are one operation, and only this label tells them apart. Counters are cheap, and histograms do not have it.
";

const ERRORS: &str = "
## Errors inside an answer

If an answer with status 200 contains an error, its `error_type` follows from the code of the error, or else from its type. If the code or type is an HTTP status, it
counts like that status in a response head, except 500, 502 and unknown ones. Upper and lower case and the separators between words do not matter. An error
that is not in this table is `stream_error`. In an answer without streaming it is `internal`, or `upstream_error` at a proxy.

";

#[test]
fn the_committed_page_is_generated_from_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/METRICS.md");
    let tables = document::markdown(catalog::SECTIONS);
    let generated = format!("{INTRODUCTION}{tables}{SERIES}{ERRORS}{}", document::error_words());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "docs/METRICS.md is out of date: run this test with BLESS=1 in the environment");
}

#[test]
fn both_readmes_have_the_same_code() {
    let [english, chinese] = readmes();
    let blocks = code_blocks(&english);
    assert!(blocks.len() > 10, "the README has code blocks");
    assert_eq!(blocks, code_blocks(&chinese));
}

#[test]
fn both_readmes_have_the_same_sections_and_links() {
    let [english, chinese] = readmes();
    let levels = |page: &str| {
        prose(page).filter(|line| line.starts_with('#')).filter_map(|line| line.find(' ')).collect::<Vec<_>>()
    };
    assert_eq!(levels(&english), levels(&chinese));

    let (mut left, mut right) = (links(&english), links(&chinese));
    assert!(left.contains(&"README.zh-CN.md") && right.contains(&"README.md"), "each names the other");
    left.retain(|link| *link != "README.zh-CN.md");
    right.retain(|link| *link != "README.md");
    assert_eq!(left, right);
}

#[test]
fn links_of_the_readme_lead_to_files() {
    let [english, _] = readmes();
    for link in links(&english).into_iter().filter(|link| !link.starts_with("http")) {
        let file = link.split('#').next().unwrap();
        assert!(repository().join(file).exists(), "{link}");
    }
}

#[test]
fn badges_match_the_manifest() {
    let badge = |name: &str| fs::read_to_string(repository().join(format!("docs/images/badges/{name}.svg"))).unwrap();
    let rust = env!("CARGO_PKG_RUST_VERSION").trim_end_matches(".0");
    assert!(badge("rust").contains(&format!("Rust: {rust} or later")));
    let licence = env!("CARGO_PKG_LICENSE").replace(" OR ", " or ");
    assert!(badge("licence").contains(&licence));
    assert!(badge("unsafe").contains("none in the core"));
    assert!(include_str!("../src/lib.rs").contains("#![forbid(unsafe_code)]"));
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn readmes() -> [String; 2] {
    ["README.md", "README.zh-CN.md"].map(|name| fs::read_to_string(repository().join(name)).unwrap())
}

/// Each with its language.
fn code_blocks(page: &str) -> Vec<&str> {
    page.split("\n```").skip(1).step_by(2).collect()
}

fn prose(page: &str) -> impl Iterator<Item = &str> {
    page.split("\n```").step_by(2).flat_map(str::lines)
}

/// Sorted, because sentences in two languages have them in different orders.
fn links(page: &str) -> Vec<&str> {
    let mut links: Vec<_> =
        prose(page).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next()).collect();
    links.sort_unstable();
    links
}
