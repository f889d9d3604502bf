//! The pages about GPU metrics match the catalogue. `BLESS=1` writes the generated part again.

use std::{fs, path::PathBuf};

use llm_metrics::catalog::document::markdown;
use llm_metrics_gpu::{catalog, source::ErrorKind};

const BEGIN: &str = "<!-- generated: metrics (BLESS=1 cargo test -p llm-metrics-gpu --test docs) -->\n";
const END: &str = "<!-- end of generated -->";

fn page(name: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_page_has_the_catalogue_as_it_is() {
    let (path, text) = page("gpu.md");
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (body, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, format!("{head}{BEGIN}{}{END}{tail}", markdown(catalog::SECTIONS))).unwrap();
    } else {
        assert!(
            body == markdown(catalog::SECTIONS),
            "docs/gpu.md does not match the catalogue; write it again with BLESS=1"
        );
    }
}

#[test]
fn every_metric_has_a_row_among_the_names_and_no_row_is_made_up() {
    let (_, text) = page("gpu-names.md");
    let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| `gpu_")?.split_once('`')).collect();
    let named: Vec<_> = rows.iter().map(|(name, _)| format!("gpu_{name}")).collect();
    let known: Vec<_> = catalog::all().map(|row| row.name.to_owned()).collect();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(sorted(named), sorted(known));
}

#[test]
fn every_kind_of_error_is_described() {
    let (_, text) = page("gpu.md");
    let (_, labels) = text.split_once("## Labels").unwrap();
    for kind in ErrorKind::ALL {
        assert!(labels.contains(&format!("`{}`", kind.as_str())), "{kind:?}");
    }
}
