//! What is committed in `examples/monitoring/` is what the code generates. `BLESS=1` brings it up to date.

use std::path::Path;

use llm_metrics_monitoring::{generate, promql::Names, slo::Slo};

#[test]
fn the_committed_files_are_those_that_are_generated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/monitoring");
    let files = generate::files(&Slo::default(), &Names::new()).unwrap();
    if std::env::var_os("BLESS").is_some() {
        generate::write(&files, &folder).unwrap();
    }
    let changed = generate::drift(&files, &folder);
    assert!(changed.is_empty(), "out of date, run this test with BLESS=1 in the environment: {changed:?}");
}
