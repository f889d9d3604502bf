// docs: textfile
use std::{error::Error, path::Path};

use llm_metrics::{FinishReason, LlmMetrics, Operation, Usage, prometheus::Exporter};

fn summarize(texts: &[&str], folder: &Path) -> Result<(), Box<dyn Error>> {
    let (_, exporter) = Exporter::builder()
        .process_metrics(false) // node exporter has its own
        .constant_label("task", "summaries") // other jobs in the same folder need other values
        .build()?;
    let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
    for _text in texts {
        let mut inference = metrics.start(Operation::Chat, "Qwen3-4B");
        // … the engine runs, and reports its token counts …
        inference.tokens(7);
        inference.usage(Usage::new().input(9).output(7));
        inference.finish(FinishReason::Stop);
    }
    exporter.write_textfile(folder.join("summaries.prom"))?;
    Ok(())
}
// end

use llm_metrics_tests::{Daemon, free_address, tool};

#[tokio::test(flavor = "multi_thread")]
async fn node_exporter_exports_the_files_that_jobs_have_written() {
    let Some(node_exporter) = tool("node_exporter") else { return };
    let folder = tempfile::tempdir().unwrap();
    summarize(&["a text of some twenty bytes", "and another one"], folder.path()).unwrap();
    another_job(folder.path());

    let addr = free_address();
    let (listen, texts) =
        (format!("--web.listen-address={addr}"), format!("--collector.textfile.directory={}", folder.path().display()));
    let arguments = ["--collector.disable-defaults", "--collector.textfile", &listen, &texts];
    let node = Daemon::start(&node_exporter, addr, tempfile::tempdir().unwrap(), &arguments, "/metrics").await;
    let page = crate::part(&node.get("/metrics").await.expect("a page"), &["llm_", "node_textfile_"]);
    assert_eq!(page.value("node_textfile_scrape_error", &[]), 0.0, "{}", node.log());
    let ours = [("task", "summaries"), ("model", "Qwen3-4B")];
    assert_eq!(page.value("llm_requests_total", &[ours[0], ours[1], ("outcome", "success")]), 2.0);
    assert_eq!(page.value("llm_output_tokens_total", &ours), 14.0);
    assert_eq!(page.histogram("llm_request_duration_seconds", &ours).count, 2.0);
    assert_eq!(page.value("llm_requests_total", &[("task", "another"), ("outcome", "success")]), 1.0);
}

/// Another job that writes to the same folder, with the same metrics.
fn another_job(folder: &Path) {
    let exporter = Exporter::builder().process_metrics(false).constant_label("task", "another");
    let (_, exporter) = exporter.build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    crate::answer(&metrics, "Qwen3-4B");
    exporter.write_textfile(folder.join("another.prom")).unwrap();
}
