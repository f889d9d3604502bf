//! Embeddings and rankings: one document, whose usage comes after or before megabytes of vectors.

use bytes::Bytes;
use http::StatusCode;
use llm_metrics_tests::{Client, Gate, Http, Page, Script, Server, Step, Watched, post};
use serde_json::{Value, json};

use crate::{assert_ended, assert_error};

struct Case {
    endpoint: &'static str,
    operation: &'static str,
    request: Value,
    answer: Value,
    inputs: f64,
    input: f64,
}

fn all() -> [Case; 4] {
    let vectors = |vector: Value| {
        json!({"object": "list", "model": "Qwen3-4B", "usage": {"prompt_tokens": 8, "total_tokens": 8},
               "data": [{"index": 0, "embedding": vector}, {"index": 1, "embedding": [0.5]}]})
    };
    let embeddings = |answer: Value| Case {
        endpoint: "/v1/embeddings",
        operation: "embeddings",
        request: json!({"model": "Qwen3-4B", "input": ["a", "b"]}),
        answer,
        inputs: 2.0,
        input: 8.0,
    };
    [
        embeddings(vectors(json!([0.25, -1e-3]))),
        embeddings(vectors("AACAPw==".repeat(1 << 19).into())),
        Case {
            endpoint: "/v1/rerank",
            operation: "rerank",
            request: json!({"model": "Qwen3-4B", "query": "q", "documents": ["a", "b", "c"]}),
            answer: json!({"model": "Qwen3-4B", "usage": {"total_tokens": 11, "prompt_tokens": 11},
                           "results": [{"index": 2, "relevance_score": 0.9}]}),
            inputs: 3.0,
            input: 11.0,
        },
        Case {
            endpoint: "/api/embed",
            operation: "embeddings",
            request: json!({"model": "Qwen3-4B", "input": ["a", "b"]}),
            answer: json!({"model": "Qwen3-4B", "embeddings": [[0.1], [0.2]], "total_duration": 9, "load_duration": 1,
                           "prompt_eval_count": 8}),
            inputs: 2.0,
            input: 8.0,
        },
    ]
}

impl Case {
    async fn server(&self, watched: &Watched, status: u16, steps: Vec<Step>) -> Server {
        let answer = move |_: &_, _: &_| {
            let mut answer = Script::new(steps.clone()).respond("application/json");
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            answer
        };
        watched.answer_through(watched.metrics.layer().ollama(), answer).await
    }

    async fn exchange(&self, http: Http, status: u16, steps: Vec<Step>) -> Page {
        let watched = Watched::start().await;
        let server = self.server(&watched, status, steps).await;
        let mut client = Client::open(http, server.addr).await;
        if let Ok(answer) = client.try_send(post(server.addr, self.endpoint, self.request.to_string())).await {
            let _ = answer.finish().await;
        }
        watched.settled().await
    }

    fn bytes(&self) -> Bytes {
        self.answer.to_string().into()
    }
}

/// Asserts that no metric about generated text has a value.
#[track_caller]
fn assert_no_words(page: &Page) {
    for name in
        ["llm_output_tokens_total", "llm_usage_reports_total", "llm_finish_reasons_total", "llm_discarded_tokens_total"]
    {
        assert_eq!(page.value(name, &[]), 0.0, "{name}");
    }
    for name in ["llm_time_to_first_token_seconds", "llm_time_per_output_token_seconds"] {
        assert_eq!(page.count(name, &[]), 0.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_and_their_tokens_are_counted_however_the_bytes_are_framed() {
    for case in all() {
        let bytes = case.bytes();
        // A small document byte by byte, and a large one in the pieces of a socket.
        let step = if bytes.len() < 1000 { 1 } else { 1 << 16 };
        let pieces = (0..bytes.len()).step_by(step).map(|at| Step::Data(bytes.slice(at..bytes.len().min(at + step))));
        for http in Http::BOTH {
            for steps in [pieces.clone().collect(), vec![Step::Data(bytes.clone())]] {
                let page = case.exchange(http, 200, steps).await;
                assert_ended(&page, 1, "success");
                let labels = [("operation", case.operation), ("model", "Qwen3-4B"), ("endpoint", case.endpoint)];
                assert_eq!(page.value("llm_requests_total", &labels), 1.0, "{}", case.endpoint);
                assert_eq!(page.value("llm_input_tokens_total", &labels[..2]), case.input, "{}", case.endpoint);
                assert_eq!(page.histogram("llm_request_inputs", &labels[..2]).sum, case.inputs, "{}", case.endpoint);
                assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0, "{}", case.endpoint);
                assert_no_words(&page);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_fails_or_breaks_off_is_not_a_success() {
    for case in all() {
        let half = case.bytes().slice(..case.bytes().len() / 2);
        for http in Http::BOTH {
            let page = case.exchange(http, 400, vec![Step::from(r#"{"error":{"message":"no"}}"#)]).await;
            assert_ended(&page, 1, "rejected");
            assert_error(&page, "invalid_request", "400");

            let page = case.exchange(http, 200, vec![Step::Data(half.clone()), Step::Fail]).await;
            assert_ended(&page, 1, "error");
            assert_eq!(page.value("llm_request_errors_total", &[("endpoint", case.endpoint)]), 1.0);
            assert_eq!(
                page.value("llm_input_tokens_total", &[("operation", case.operation)]),
                0.0,
                "{}",
                case.endpoint
            );
            assert_no_words(&page);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_inside_a_document_is_cancelled() {
    for case in all() {
        let half = case.bytes().slice(..case.bytes().len() / 2);
        for http in Http::BOTH {
            let watched = Watched::start().await;
            let server = case.server(&watched, 200, vec![Step::Data(half.clone()), Step::Hold(Gate::new())]).await;
            let mut client = Client::open(http, server.addr).await;
            let mut answer = client.send(post(server.addr, case.endpoint, case.request.to_string())).await;
            answer.bytes(half.len()).await;
            drop(answer);
            client.hang_up();
            let page = watched.settled().await;
            assert_ended(&page, 1, "cancelled");
            assert_no_words(&page);
        }
    }
}
