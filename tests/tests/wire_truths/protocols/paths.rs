//! The requests that are measured, by path, method, and the settings of the embedder.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper_util::rt::TokioIo;
use llm_metrics::Endpoint;
use llm_metrics_tests::{Client, MeasuredRequest, Script, Watched, post, serve};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{BoxError, ServiceBuilder, service_fn};

use super::{cases, steps};
use crate::assert_ended;

fn named(endpoint: &str) -> Endpoint {
    *Endpoint::ALL.iter().find(|known| known.as_str() == endpoint).expect("an endpoint")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_path_can_have_any_protocol() {
    for case in cases::all() {
        let watched = Watched::start().await;
        // Without `ollama()`: the declaration of a path is enough.
        let layer = watched.metrics.layer().path("/tenants/{tenant}/talk", named(case.endpoint));
        let (answer, content_type) = (steps(&case.events), case.content_type);
        let server = watched.answer_through(layer, move |_, _| Script::new(answer.clone()).respond(content_type)).await;
        let mut client = Client::connect(server.addr).await;
        for path in ["/tenants/a/talk", "/tenants/talk", "/tenants/a/talk/more"] {
            let answer = client.send(post(server.addr, path, case.streamed.to_string())).await;
            assert_eq!(answer.text().await, case.events.concat());
        }
        case.assert_served(&watched.settled().await, true, "on a custom path");
    }
}

const DOCUMENT: &str = r#"{"model":"Qwen3-4B"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_measured_with_the_prefixes_of_proxies() {
    let watched = Watched::start().await;
    let server = watched.answer_through(watched.metrics.layer().ollama(), |_, _| Script::json(DOCUMENT)).await;
    let mut client = Client::connect(server.addr).await;
    for (endpoint, paths) in [
        (
            "/v1/responses",
            &[
                "/v1/responses",
                "/v1/responses/",
                "/v1/responses?stream=true",
                "/openai/responses?api-version=2026-01-01-preview",
                "/openai/v1/responses?api-version=preview",
                "/api/projects/p/openai/v1/responses",
                "/team/a/v1/responses",
            ][..],
        ),
        ("/v1/messages", &["/v1/messages", "/v1/messages?beta=true", "/anthropic/v1/messages/", "//v1//messages"]),
        (
            "/v1/embeddings",
            &[
                "/v1/embeddings",
                "/openai/deployments/e%20f/embeddings?api-version=1",
                "/models/embeddings",
                "/x/v1/embeddings",
            ],
        ),
        ("/v1/rerank", &["/v1/rerank", "/v2/rerank", "/rerank", "/rerank/", "/jina/v1/rerank?x=/v1/messages"]),
        ("/completion", &["/completion", "/completions", "/infill"]),
        ("/api/chat", &["/api/chat", "/api/chat/"]),
        ("/api/generate", &["/api/generate", "/api/generate?x=1"]),
        ("/api/embed", &["/api/embed", "/api/embeddings"]),
    ] {
        for path in paths {
            let before = watched.scrape().await.value("llm_requests_total", &[("endpoint", endpoint)]);
            client.send(post(server.addr, path, DOCUMENT)).await.text().await;
            let after = watched.settled().await.value("llm_requests_total", &[("endpoint", endpoint)]);
            assert_eq!(after - before, 1.0, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_model_calls_are_not_measured_in_any_protocol() {
    let watched = Watched::start().await;
    let server = watched.answer_through(watched.metrics.layer().ollama(), |_, _| Script::json(DOCUMENT)).await;
    let mut client = Client::connect(server.addr).await;
    for endpoint in Endpoint::ALL.iter().filter(|endpoint| **endpoint != Endpoint::Other) {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            let request = Request::builder().method(method).uri(endpoint.as_str()).header("host", "localhost");
            client.send(request.body(Full::new(Bytes::from_static(b"{}"))).unwrap()).await.finish().await.unwrap();
        }
    }
    for path in [
        "/v1/models",
        "/v1/files",
        "/v1/batches",
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/images/generations",
        "/v1/moderations",
        "/v1/fine_tuning/jobs",
        "/v1/messages/count_tokens",
        "/v1/messages/count_tokens?beta=true",
        "/v1/messages/batches",
        "/v1/responses/resp_1/cancel",
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/conversations/conv_1/items",
        "/v1/threads/t/messages",
        "/v1/chat%2Fcompletions",
        "/V1/Messages",
        "/app/api/chat",
        "/api/show",
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/api/pull",
        "/api/create",
        "/api/copy",
        "/tokenize",
        "/embedding",
        "/metrics",
    ] {
        client.send(post(server.addr, path, DOCUMENT)).await.text().await;
    }
    let page = watched.settled().await;
    for name in ["llm_requests_started_total", "llm_requests_total", "llm_requests_in_flight"] {
        assert_eq!(page.value(name, &[]), 0.0, "{name}");
    }
    assert_eq!(page.value("llm_metrics_inspection_failures_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ollamas_paths_are_not_measured_unless_enabled() {
    let watched = Watched::start().await;
    let server = watched.answer_through(watched.metrics.layer(), |_, _| Script::json(DOCUMENT)).await;
    let mut client = Client::connect(server.addr).await;
    for path in ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings"] {
        assert_eq!(client.send(post(server.addr, path, "as it is")).await.text().await, DOCUMENT);
    }
    assert_eq!(watched.settled().await.value("llm_requests_started_total", &[]), 0.0);
}

/// A server that accepts upgrades to a protocol that echoes every byte.
async fn upgrades(request: MeasuredRequest) -> Result<Response<Empty<Bytes>>, BoxError> {
    tokio::spawn(async move {
        let mut socket = TokioIo::new(hyper::upgrade::on(request).await.expect("an upgrade"));
        let mut bytes = [0; 4];
        socket.read_exact(&mut bytes).await.expect("four bytes");
        socket.write_all(&bytes).await.expect("a client");
    });
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    Ok(answer.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "websocket").body(Empty::new())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_is_opened_and_passes_without_a_trace() {
    let watched = Watched::start().await;
    let service = ServiceBuilder::new().layer(watched.metrics.layer().ollama()).service(service_fn(upgrades));
    let server = serve(service).await;
    for path in ["/v1/responses", "/v1/chat/completions", "/v1/realtime?model=gpt", "/api/chat"] {
        let mut socket = TcpStream::connect(server.addr).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(socket.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
        socket.write_all(b"ping").await.unwrap();
        let mut echo = [0; 4];
        socket.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"ping", "{path}");
    }
    assert_eq!(watched.settled().await.value("llm_requests_started_total", &[]), 0.0);
}

/// Batches in every form, and the number of their inputs.
#[tokio::test(flavor = "multi_thread")]
async fn the_inputs_of_a_request_are_counted_in_every_form() {
    for (endpoint, request, inputs) in [
        ("/v1/embeddings", json!({"input": "a"}), 1.0),
        ("/v1/embeddings", json!({"input": ["a", "b", "c"], "encoding_format": "base64"}), 3.0),
        ("/v1/embeddings", json!({"input": [1, 2, 3]}), 1.0),
        ("/v1/embeddings", json!({"input": [[1, 2], [3]]}), 2.0),
        ("/v1/embeddings", json!({"input": [{"text": "a"}, {"image": "AAAA"}]}), 2.0),
        ("/api/embed", json!({"input": "a"}), 1.0),
        ("/api/embed", json!({"input": ["a", "b"], "truncate": true, "keep_alive": "5m"}), 2.0),
        ("/api/embeddings", json!({"prompt": "a"}), 1.0),
        ("/v1/rerank", json!({"query": "q", "documents": ["a", "b"], "top_n": 1}), 2.0),
        ("/v1/rerank", json!({"query": "q", "documents": [{"text": "a"}, {"text": "b"}]}), 2.0),
        ("/rerank", json!({"query": "q", "texts": ["a", "b", "c"]}), 3.0),
    ] {
        let watched = Watched::start().await;
        let answer = |_: &_, _: &_| Script::json(DOCUMENT);
        let server = watched.answer_through(watched.metrics.layer().ollama(), answer).await;
        let mut named: Value = request.clone();
        named["model"] = "Qwen3-4B".into();
        Client::connect(server.addr).await.send(post(server.addr, endpoint, named.to_string())).await.text().await;
        let page = watched.settled().await;
        assert_ended(&page, 1, "success");
        let sample = page.histogram("llm_request_inputs", &[("model", "Qwen3-4B")]);
        assert_eq!((sample.count, sample.sum), (1.0, inputs), "{endpoint} {request}");
    }
}
