// docs: push
use llm_metrics::prometheus::{CONTENT_TYPE, Exporter};

/// Replaces all metrics that this job has pushed before.
async fn push(exporter: &Exporter, gateway: &str, job: &str) -> reqwest::Result<()> {
    let group = format!("{gateway}/metrics/job/{job}");
    let page = exporter.render(); // blocks for some milliseconds, which is fine at the end of a job
    let put = reqwest::Client::new().put(group).header("content-type", CONTENT_TYPE).body(page);
    put.send().await?.error_for_status()?;
    Ok(())
}
// end

use llm_metrics::LlmMetrics;
use llm_metrics_tests::{Daemon, free_address, tool};

#[tokio::test(flavor = "multi_thread")]
async fn a_pushgateway_keeps_the_metrics_of_the_last_run_of_each_job() {
    let Some(pushgateway) = tool("pushgateway") else { return };
    let addr = free_address();
    let listen = format!("--web.listen-address={addr}");
    let gateway = Daemon::start(&pushgateway, addr, tempfile::tempdir().unwrap(), &[&listen], "/-/ready").await;
    let url = format!("http://{addr}");
    for (job, requests) in [("summaries", 3), ("another", 1), ("summaries", 2)] {
        let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
        let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
        (0..requests).for_each(|_| crate::answer(&metrics, "Qwen3-4B"));
        push(&exporter, &url, job).await.unwrap();
    }
    let page = crate::part(&gateway.get("/metrics").await.expect("a page"), &["llm_", "push_"]);
    let ended = |job| page.value("llm_requests_total", &[("job", job), ("model", "Qwen3-4B"), ("outcome", "success")]);
    assert_eq!((ended("summaries"), ended("another")), (2.0, 1.0));
    assert_eq!(page.value("push_failure_time_seconds", &[("job", "summaries")]), 0.0, "{}", gateway.log());
    assert_eq!(page.histogram("llm_request_duration_seconds", &[("job", "summaries")]).count, 2.0);
    let nobody =
        push(&Exporter::builder().build().unwrap().1, &format!("http://{}", free_address()), "summaries").await;
    assert!(nobody.unwrap_err().is_connect());
}
