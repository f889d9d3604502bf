//! The JSON schema in `docs/` is that of the code.

use std::{env, fs, path::Path};

use llm_metrics_baseline::Baseline;

#[test]
fn the_schema_in_the_docs_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/baseline.schema.json");
    let schema = Baseline::json_schema();
    if env::var_os("BLESS").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, schema, "bring it up to date: BLESS=1 cargo test -p llm-metrics-baseline --test schema");
}
