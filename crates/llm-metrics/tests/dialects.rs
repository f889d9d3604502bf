//! Recorded metrics, exported under the names of other projects.

#![cfg(feature = "prometheus")]
#![allow(missing_docs)]

use http::Request;
use http_body_util::BodyExt;
use llm_metrics::{
    ErrorType, FinishReason, LabelPolicy, LlmMetrics, Operation, Usage,
    catalog::{self, Dialect, Naming, Otel},
    prometheus::{CONTENT_TYPE, Exporter, ExporterError},
};
use tower::ServiceExt;

fn exporter(dialects: impl IntoIterator<Item = Dialect>) -> Exporter {
    Exporter::builder().process_metrics(false).dialects(dialects).build().unwrap().1
}

/// Two requests that succeeded, and one that failed.
fn with_requests(exporter: &Exporter) -> LlmMetrics {
    let metrics = LlmMetrics::builder().exporter(exporter).constant_label("region", "eu").build().unwrap();
    for reason in [FinishReason::Stop, FinishReason::ToolCalls] {
        let mut inference = metrics.start(Operation::Chat, "m\"1");
        inference.tokens(1);
        inference.tokens(1);
        inference.finish(reason);
    }
    metrics.start(Operation::Chat, "m\"1").fail(ErrorType::Internal);
    metrics
}

/// The value of a series, given the part of its line before the value.
#[track_caller]
fn value(page: &str, series: &str) -> f64 {
    let found = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("{series} is not on the page:\n{page}"))
}

fn names(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn the_vllm_dialect_has_vllms_labels_bounds_and_number_format() {
    let exporter = exporter([Dialect::Vllm]);
    let _metrics = with_requests(&exporter);
    let page = exporter.render();
    let m = r#"model_name="m\"1",engine="0",region="eu""#;
    let finished = |reason: &str| {
        format!(
            "vllm:request_success_total{{model_name=\"m\\\"1\",finished_reason=\"{reason}\",engine=\"0\",region=\"eu\"}}"
        )
    };
    assert_eq!(value(&page, &finished("stop")), 2.0, "a call of a tool is a stop");
    assert!(!page.contains("tool_calls"), "{page}");
    assert_eq!(value(&page, &format!("vllm:e2e_request_latency_seconds_count{{{m}}}")), 3.0, "failed ones, too");
    let bound = |le: &str| format!("vllm:inter_token_latency_seconds_bucket{{{m},le=\"{le}\"}}");
    assert_eq!(value(&page, &bound("1.0")), 2.0);
    assert_eq!(value(&page, &bound("80.0")), value(&page, &bound("+Inf")));
    let prefix = format!("vllm:time_to_first_token_seconds_bucket{{{m},le=\"");
    let bounds: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(&prefix)?.split('"').next()).collect();
    let expected = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0 640.0 2560.0 +Inf";
    assert_eq!(bounds.join(" "), expected);
    assert!(names(&page).iter().all(|name| !name.starts_with("llm_")), "{page}");
    assert!(page.contains(&format!("# HELP vllm:time_to_first_token_seconds {}\n", catalog::TIME_TO_FIRST_TOKEN.help)));
}

#[test]
fn requests_are_counted_by_class_of_status() {
    let exporter = exporter([Dialect::Vllm]);
    let _metrics = with_requests(&exporter);
    let page = exporter.render();
    let series = |class: &str| {
        format!("http_requests_total{{handler=\"other\",status=\"{class}\",method=\"POST\",region=\"eu\"}}")
    };
    assert_eq!((value(&page, &series("2xx")), value(&page, &series("5xx"))), (2.0, 1.0));
    assert_eq!(value(&page, "http_request_duration_seconds_count{method=\"POST\",region=\"eu\"}"), 3.0);
}

/// vLLM's engine never sees such a request, and a caller's mistake is not a failure of the server.
#[test]
fn rejected_requests_without_a_response_head_are_4xx_and_not_in_the_latency_of_the_engine() {
    let exporter = exporter([Dialect::Vllm]);
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    for error in [ErrorType::InvalidRequest, ErrorType::Unauthorized, ErrorType::NotFound, ErrorType::RateLimited] {
        metrics.start(Operation::Chat, "m").fail(error);
    }
    metrics.start(Operation::Chat, "m").fail(ErrorType::Timeout);
    metrics.start(Operation::Chat, "m").finish(FinishReason::Stop);
    let page = exporter.render();
    let requests = |class: &str| {
        value(&page, &format!("http_requests_total{{handler=\"other\",status=\"{class}\",method=\"POST\"}}"))
    };
    assert_eq!((requests("2xx"), requests("4xx"), requests("5xx")), (1.0, 4.0, 1.0));
    assert_eq!(value(&page, "vllm:e2e_request_latency_seconds_count{model_name=\"m\",engine=\"0\"}"), 2.0);
    assert_eq!(value(&page, "http_request_duration_seconds_count{method=\"POST\"}"), 6.0);
}

#[test]
fn gauges_of_the_engine_have_the_names_that_dashboards_and_routers_read() {
    let exporter = exporter([Dialect::Vllm, Dialect::Llm]);
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    let engine = metrics.engine("m");
    engine.running(3);
    let page = exporter.render();
    assert_eq!(value(&page, "vllm:num_requests_running{model_name=\"m\",engine=\"0\"}"), 3.0);
    assert_eq!(value(&page, "llm_engine_requests_running{model=\"m\"}"), 3.0);
    drop(engine);
    assert!(value(&exporter.render(), "vllm:num_requests_running{model_name=\"m\",engine=\"0\"}").is_nan());
}

#[test]
fn the_default_dialect_does_not_change_if_another_is_added() {
    let own = |dialects: Vec<Dialect>| {
        let builder = Exporter::builder().process_metrics(false).dialects(dialects);
        let exporter = builder.buckets("llm_inter_token_latency_seconds", [0.03, 0.5]).build().unwrap().1;
        let _metrics = with_requests(&exporter);
        let page = exporter.render();
        let lines = page.lines().filter(|line| line.starts_with("llm_") && !line.contains("_sum{"));
        let lines = lines.filter(|line| !line.starts_with("llm_recent_"));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
    };
    let alone = own(vec![Dialect::Llm]);
    assert!(alone.iter().any(|line| line.contains("le=\"0.03\"")) && alone.len() > 100);
    assert_eq!(own(vec![Dialect::Otel(Otel::new("p")), Dialect::Vllm, Dialect::Llm]), alone);
}

#[test]
fn opentelemetrys_names_have_underscores_and_each_series_has_the_provider() {
    let exporter = exporter([Otel::new("my-company").into()]);
    let metrics = with_requests(&exporter);
    let page = exporter.render();
    let labels = r#"gen_ai_operation_name="chat",gen_ai_request_model="m\"1""#;
    let provided = r#"gen_ai_provider_name="my-company",region="eu""#;
    let duration = |more: &str| format!("gen_ai_server_request_duration_seconds_count{{{labels},{more}{provided}}}");
    assert_eq!(value(&page, &duration("")), 2.0);
    assert_eq!(value(&page, &duration("error_type=\"error\",")), 1.0);
    let bucket = format!("gen_ai_server_time_to_first_token_seconds_bucket{{{labels},{provided},le=\"1\"}}");
    assert_eq!(value(&page, &bucket), 2.0, "as OpenTelemetry's exporters spell it");
    let tokens = format!(
        "gen_ai_client_inference_usage_output_tokens_total{{{labels},gen_ai_token_modality=\"unknown\",{provided}}}"
    );
    assert_eq!(value(&page, &tokens), 4.0);
    assert!(!page.contains("time_per_output_chunk") && !page.contains("gen_ai.") && !page.contains("\nllm_"), "{page}");
    drop(metrics);
}

#[test]
fn a_client_and_the_older_conventions_have_other_names() {
    let client = exporter([Otel::new("openai").client().into()]);
    let older = exporter([Otel::new("openai").semconv_1_36().into()]);
    let pages = [&client, &older].map(|exporter| {
        let _metrics = with_requests(exporter);
        exporter.render()
    });
    for name in ["duration_seconds", "time_to_first_chunk_seconds", "time_per_output_chunk_seconds"] {
        assert!(pages[0].contains(&format!("# TYPE gen_ai_client_inference_{name} histogram")), "{name}");
    }
    assert!(!pages[0].contains("gen_ai_server"));
    let usage = |kind: &str| {
        format!(
            "gen_ai_client_token_usage_sum{{gen_ai_operation_name=\"chat\",gen_ai_request_model=\"m\\\"1\",gen_ai_token_type=\"{kind}\",gen_ai_system=\"openai\",region=\"eu\"}}"
        )
    };
    assert_eq!(value(&pages[1], &usage("output")), 4.0);
    assert!(!pages[1].contains("usage_output_tokens_total"));
}

#[test]
fn embeddings_have_metrics_of_their_own_at_opentelemetry() {
    let exporter = exporter([Otel::new("p").client().into()]);
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    for operation in [Operation::Embeddings, Operation::Embeddings, Operation::Chat, Operation::Rerank] {
        let mut inference = metrics.start(operation, "m");
        inference.usage(Usage::new().input(5));
        inference.finish(FinishReason::Stop);
    }
    let page = exporter.render();
    let series = |name: &str, operation: &str| {
        let line = format!("{name}{{gen_ai_operation_name=\"{operation}\",gen_ai_request_model=\"m\",");
        page.lines().find_map(|found| found.strip_prefix(&line)?.split_once("} ")?.1.parse::<f64>().ok())
    };
    for (operation, inference, embeddings) in
        [("embeddings", None, Some(2.0)), ("chat", Some(1.0), None), ("rerank", Some(1.0), None)]
    {
        for metric in ["duration_seconds_count", "operation_input_tokens_count"] {
            assert_eq!(
                series(&format!("gen_ai_client_inference_{metric}"), operation),
                inference,
                "{operation} {metric}"
            );
            assert_eq!(
                series(&format!("gen_ai_client_embeddings_{metric}"), operation),
                embeddings,
                "{operation} {metric}"
            );
        }
        let counted = series("gen_ai_client_inference_usage_input_tokens_total", operation);
        assert_eq!(counted, inference.map(|requests| 5.0 * requests), "{operation}");
    }
    assert_eq!(series("gen_ai_client_embeddings_operation_input_tokens_sum", "embeddings"), Some(10.0));
}

#[test]
fn both_versions_of_the_conventions_share_what_they_have_in_common() {
    let exporter = exporter([Otel::new("p").into(), Otel::new("p").semconv_1_36().into()]);
    let _metrics = with_requests(&exporter);
    let page = exporter.render();
    let families = names(&page);
    let mut once = families.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), families.len(), "{families:?}");
    let both = "gen_ai_provider_name=\"p\",gen_ai_system=\"p\"";
    assert!(page.contains("gen_ai_server_request_duration_seconds_count{") && page.contains(both), "{page}");
}

/// The content type and the page for a scraper with this `accept` header.
async fn scrape(exporter: &Exporter, accept: &str) -> (String, String) {
    let request = Request::get("/").header("accept", accept).body(()).unwrap();
    let response = exporter.service().oneshot(request).await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let page = response.into_body().collect().await.unwrap().to_bytes();
    (content_type, String::from_utf8(page.to_vec()).unwrap())
}

#[tokio::test]
async fn names_have_dots_if_a_scraper_asks_for_utf8() {
    let exporter = exporter([Otel::new("p").into()]);
    let _metrics = with_requests(&exporter);
    let (content_type, page) = scrape(&exporter, "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.1").await;
    assert_eq!(content_type, "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8");
    assert!(page.contains("# TYPE \"gen_ai.server.request.duration_seconds\" histogram\n"), "{page}");
    let tokens = "{\"gen_ai.client.inference.usage.output_tokens_total\",\"gen_ai.operation.name\"=\"chat\",\
                  \"gen_ai.request.model\"=\"m\\\"1\",\"gen_ai.token.modality\"=\"unknown\",\"gen_ai.provider.name\"=\"p\",region=\"eu\"}";
    assert_eq!(value(&page, tokens), 4.0);
    let bucket = page.lines().find(|line| line.starts_with("{\"gen_ai.server.time_to_first_token_seconds_bucket\","));
    assert!(bucket.is_some_and(|line| line.contains(",le=\"0.001\"} ")), "{page}");

    let (content_type, page) = scrape(&exporter, "text/plain;version=0.0.4").await;
    assert_eq!(content_type, CONTENT_TYPE);
    assert!(page.contains("# TYPE gen_ai_server_request_duration_seconds histogram\n"), "{page}");
}

#[tokio::test]
async fn a_page_without_dots_is_the_same_for_every_scraper() {
    for dialects in [vec![Dialect::Llm], vec![Dialect::Vllm]] {
        let exporter = exporter(dialects);
        let _metrics = with_requests(&exporter);
        assert_eq!(scrape(&exporter, "text/plain;version=1.0.0;escaping=allow-utf-8").await.0, CONTENT_TYPE);
    }
}

#[test]
fn a_custom_prefix_does_not_change_other_dialects() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let builder = Exporter::builder().process_metrics(false).naming(naming).dialects([Dialect::Vllm]);
    let exporter = builder.build().unwrap().1;
    let _metrics = with_requests(&exporter);
    let page = exporter.render();
    assert!(names(&page).contains(&"vllm:generation_tokens_total") && !page.contains("qwen_"), "{page}");
}

/// The bounds of each histogram in each dialect, with the document that gives them.
#[test]
fn histograms_have_the_bounds_of_the_other_projects() {
    // vLLM: `vllm/v1/metrics/loggers.py` and, for the HTTP metric, `latency_lowr_buckets` of prometheus-fastapi-instrumentator.
    let time_to_first_token =
        "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560";
    let time_per_token = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80";
    let request = "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680";
    // `build_1_2_5_buckets(1_000_000)`.
    let tokens = "1 2 5 10 20 50 100 200 500 1000 2000 5000 10000 20000 50000 100000 200000 500000 1000000";
    let vllm = [
        ("http_request_duration_seconds", "0.1 0.5 1"),
        ("vllm:e2e_request_latency_seconds", request),
        ("vllm:inter_token_latency_seconds", time_per_token),
        ("vllm:iteration_tokens_total", "1 8 16 32 64 128 256 512 1024 2048 4096 8192 16384"),
        ("vllm:request_decode_time_seconds", request),
        ("vllm:request_generation_tokens", tokens),
        ("vllm:request_params_max_tokens", tokens),
        ("vllm:request_prefill_time_seconds", request),
        ("vllm:request_prompt_tokens", tokens),
        ("vllm:request_queue_time_seconds", request),
        ("vllm:request_time_per_output_token_seconds", time_per_token),
        ("vllm:time_to_first_token_seconds", time_to_first_token),
    ];

    // OpenTelemetry: `docs/gen-ai/gen-ai-metrics.md` in semantic conventions 1.36 (`client.token`, `client.operation.duration`, `server`), and
    // `docs/gen-ai/{client-embeddings,client-inference,gen-ai-token-metrics}.md` in the GenAI registry.
    let duration = "0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92";
    let tokens = "1 4 16 64 256 1024 4096 16384 65536 262144 1048576 4194304 16777216 67108864";
    let server = [
        ("gen_ai.server.request.duration_seconds", duration),
        ("gen_ai.server.time_per_output_token_seconds", "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5"),
        (
            "gen_ai.server.time_to_first_token_seconds",
            "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10",
        ),
    ];
    let operation = [
        ("gen_ai.client.embeddings.operation.input_tokens", tokens),
        ("gen_ai.client.inference.operation.input_tokens", tokens),
        ("gen_ai.client.inference.operation.output_tokens", tokens),
    ];
    let client = [
        ("gen_ai.client.embeddings.duration_seconds", duration),
        ("gen_ai.client.inference.duration_seconds", duration),
        ("gen_ai.client.inference.time_per_output_chunk_seconds", duration),
        ("gen_ai.client.inference.time_to_first_chunk_seconds", duration),
    ];
    let usage = ("gen_ai.client.token.usage", tokens);

    let otel = || Otel::new("p");
    let expected: [(Dialect, Vec<(&str, &str)>); 5] = [
        (Dialect::Vllm, vllm.into()),
        (otel().into(), [&operation[..], &server].concat()),
        (otel().client().into(), [&operation[..], &client].concat()),
        (otel().semconv_1_36().into(), [&[usage][..], &server].concat()),
        (otel().client().semconv_1_36().into(), vec![("gen_ai.client.operation.duration_seconds", duration), usage]),
    ];
    for (dialect, mut expected) in expected {
        let histograms = dialect.families().into_iter().filter(|family| family.kind == catalog::Kind::Histogram);
        let spelled = |bounds: &[f64]| bounds.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        let mut bounds: Vec<_> = histograms.map(|family| (family.name, spelled(family.buckets))).collect();
        bounds.sort_unstable();
        expected.sort_unstable();
        assert_eq!(bounds, expected.iter().map(|(name, bounds)| (*name, (*bounds).to_owned())).collect::<Vec<_>>());
    }
}

/// Such a label would be on the page in one dialect and not in the other.
#[test]
fn a_label_of_a_dialect_is_rejected_as_a_constant_or_request_label() {
    let otel = || Dialect::from(Otel::new("p"));
    let cases = [
        (Dialect::Vllm, "model_name"),
        (Dialect::Vllm, "engine"),
        (Dialect::Vllm, "handler"),
        (Dialect::Vllm, "method"),
        (otel(), "gen_ai_operation_name"),
        (otel(), "gen_ai_provider_name"),
        (otel(), "gen_ai_token_modality"),
        (otel(), "error_type"),
    ];
    for (dialect, name) in cases {
        let taken = format!("the label {name:?} is already in use: choose another name");
        let constant = Exporter::builder().dialects([Dialect::Llm, dialect.clone()]).constant_label(name, "x").build();
        assert_eq!(constant.map(drop).unwrap_err().to_string(), taken);
        let with = |dialect| LlmMetrics::builder().exporter(&exporter([Dialect::Llm, dialect]));
        let constant = with(dialect.clone()).constant_label(name, "x").build();
        assert_eq!(constant.map(drop).unwrap_err().to_string(), taken);
        let request = with(dialect).request_label(name, LabelPolicy::first_accepted(1), |_| None).build();
        assert_eq!(request.map(drop).unwrap_err().to_string(), taken);
        // The catalogue has labels of these two names itself.
        if !["engine", "error_type"].contains(&name) {
            Exporter::builder().constant_label(name, "x").build().map(drop).unwrap();
            with(Dialect::Llm).constant_label(name, "x").build().map(drop).unwrap();
        }
    }
}

#[test]
fn invalid_dialects_are_rejected() {
    let build = |dialects: Vec<Dialect>| Exporter::builder().dialects(dialects).build().map(drop);
    assert!(matches!(build(vec![]), Err(ExporterError::NoDialect)));
    for provider in ["", "a\\b", "a\tb", &"x".repeat(129)] {
        let provider = provider.to_owned();
        assert!(
            matches!(build(vec![Otel::new(provider.clone()).into()]), Err(ExporterError::InvalidProvider)),
            "{provider:?}"
        );
    }
    for other in [Otel::new("b"), Otel::new("b").semconv_1_36(), Otel::new("b").client()] {
        let dialects = vec![Otel::new("a").into(), Dialect::Llm, Otel::new("a").client().into(), other.into()];
        let error = build(dialects).unwrap_err().to_string();
        assert!(error.contains("\"a\" and \"b\"") && error.contains("an exporter for each provider"), "{error}");
    }
}
