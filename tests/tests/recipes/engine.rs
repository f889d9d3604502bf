// docs: engine
use std::{sync::mpsc::Receiver, time::Instant};

use llm_metrics::{
    BuildError, Endpoint, FinishReason, Inference, LabelPolicy, LlmMetrics, Operation, Usage, prometheus::Exporter,
};

fn metrics(exporter: &Exporter) -> Result<LlmMetrics, BuildError> {
    // Declares the label. Its value is set per request, because there is no HTTP head to read it from.
    let tenants = LabelPolicy::first_accepted(100);
    LlmMetrics::builder().exporter(exporter).models(["Qwen3-4B"]).request_label("tenant", tenants, |_| None).build()
}

struct Job {
    request: Inference,
    queued: Instant,
    prompt_tokens: u64,
}

/// Called when a request arrives. Its clock starts here, so its latency includes the time in the queue.
fn job(metrics: &LlmMetrics, tenant: &str, prompt_tokens: u64) -> Job {
    let request = metrics.inference(Operation::Chat, "Qwen3-4B").endpoint(Endpoint::ChatCompletions);
    Job { request: request.label("tenant", tenant).server().start(), queued: Instant::now(), prompt_tokens }
}

/// The engine's thread.
fn work(metrics: &LlmMetrics, jobs: Receiver<Job>) {
    let engine = metrics.engine("Qwen3-4B"); // when its last clone is dropped, its gauges become NaN
    for Job { request, queued, prompt_tokens } in jobs {
        engine.running(1);
        let handle = request.handle(); // can be sent to another thread; here it does the same as `request`
        handle.queue_time(queued.elapsed());
        engine.prefix_cache(prompt_tokens, prompt_tokens / 2);
        let mut output = 0;
        while output < 8 {
            // … one step: four tokens were drafted, and three of them accepted …
            let tokens = 1 + 3;
            engine.batch_size(1);
            engine.step_tokens(if output == 0 { prompt_tokens + tokens } else { tokens });
            engine.drafted(4, 3);
            handle.tokens(tokens);
            output += tokens;
        }
        handle.usage(Usage::new().input(prompt_tokens).cached_input(prompt_tokens / 2).output(output));
        request.finish(FinishReason::Stop);
        engine.running(0);
    }
}
// end

use llm_metrics_tests::Page;

#[test]
fn an_engine_with_a_queue_reports_all_its_values() {
    let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    let metrics = metrics(&exporter).unwrap();
    let (send, jobs) = std::sync::mpsc::channel();
    let worker = std::thread::spawn({
        let metrics = metrics.clone();
        move || work(&metrics, jobs)
    });
    for tenant in ["acme", "initech", "acme"] {
        send.send(job(&metrics, tenant, 64)).unwrap();
    }
    drop(send);
    worker.join().unwrap();
    let page = Page::parse(exporter.render());
    let ended = |tenant| {
        let labels = [("endpoint", "/v1/chat/completions"), ("tenant", tenant), ("outcome", "success")];
        page.value("llm_requests_total", &labels)
    };
    assert_eq!((ended("acme"), ended("initech")), (2.0, 1.0));
    assert_eq!(page.histogram("llm_time_to_first_token_seconds", &[("tenant", "acme")]).count, 2.0);
    assert_eq!(page.histogram("llm_request_queue_seconds", &[("tenant", "initech")]).count, 1.0);
    let value = |name| page.value(name, &[("model", "Qwen3-4B")]);
    assert_eq!(page.value("llm_output_tokens_total", &[("tenant", "acme")]), 16.0);
    assert_eq!(page.histogram("llm_engine_batch_size", &[]).count, 6.0);
    assert_eq!(page.histogram("llm_engine_step_tokens", &[]).sum, 3.0 * (64.0 + 8.0));
    assert_eq!(value("llm_engine_prefix_cache_hit_tokens_total"), 96.0);
    assert_eq!((value("llm_engine_draft_tokens_total"), value("llm_engine_accepted_draft_tokens_total")), (24.0, 18.0));
    assert!(value("llm_engine_requests_running").is_nan(), "its thread has ended");
}
