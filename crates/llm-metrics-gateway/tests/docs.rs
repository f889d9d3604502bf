//! The manual matches the catalogue. `BLESS=1` writes the generated part again.

use std::{fs, path::PathBuf};

use llm_metrics::catalog::document::markdown;
use llm_metrics_gateway::{Config, catalog};

const BEGIN: &str = "<!-- generated: metrics (BLESS=1 cargo test -p llm-metrics-gateway --test docs) -->\n";
const END: &str = "<!-- end of generated -->";

fn page() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/gateway.md");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// The catalogue, as a part of a page.
fn generated() -> String {
    markdown(catalog::SECTIONS).replace("\n## ", "\n### ").trim_start_matches('\n').replacen("## ", "### ", 1)
}

#[test]
fn the_page_has_the_catalogue_as_it_is() {
    let (path, text) = page();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (body, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, format!("{head}{BEGIN}{}{END}{tail}", generated())).unwrap();
    } else {
        assert!(body == generated(), "docs/gateway.md does not match the catalogue; write it again with BLESS=1");
    }
}

#[test]
fn the_files_that_are_shown_are_right() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (page, files) in [("gateway.md", 1), ("gateway-engines.md", 1)] {
        let text = fs::read_to_string(root.join("docs").join(page)).unwrap();
        let blocks: Vec<_> = text.split("```toml\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect();
        assert_eq!(blocks.len(), files, "{page}");
        for block in blocks {
            Config::parse(block).unwrap_or_else(|error| panic!("{error}\n{block}"));
        }
    }
    let examples = root.join("examples/gateway");
    Config::parse(&fs::read_to_string(examples.join("gateway.toml")).unwrap()).unwrap();
    let manifest = fs::read_to_string(examples.join("kubernetes/sidecar.yaml")).unwrap();
    let (_, embedded) = manifest.split_once("gateway.toml: |\n").unwrap();
    Config::parse(embedded.split_once("\n---").unwrap().0).unwrap();
}
