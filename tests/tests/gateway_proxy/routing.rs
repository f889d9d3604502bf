//! Which upstream gets a request.

use http::Request;
use http_body_util::Empty;
use llm_metrics_tests::{
    Client, Script,
    gateway::Running,
    post,
    stream::{CHAT, completion},
};
use serde_json::json;

use crate::recording_upstream::RecordingUpstream;

async fn upstream() -> RecordingUpstream {
    RecordingUpstream::start(|_, _| Script::json(completion("Hi", 1, 1))).await
}

#[tokio::test]
async fn the_path_decides_before_the_model_and_the_label_names_the_upstream() {
    let (path, model, rest) = (upstream().await, upstream().await, upstream().await);
    let config = format!(
        r#"
        [upstreams.path]
        url = "{}"
        path_prefix = "/ollama"
        [upstreams.model]
        url = "{}/base"
        models = ["Qwen/*"]
        [upstreams.rest]
        url = "{}"
        "#,
        path.server.url(""),
        model.server.url(""),
        rest.server.url("")
    );
    let gateway = Running::start(&config).await;
    let mut client = Client::connect(gateway.addr).await;
    // The model comes late in the body, and the body arrives in pieces.
    let long =
        json!({"messages": [{"role": "user", "content": "x".repeat(300_000)}], "model": "Qwen/Qwen3-4B"}).to_string();
    for (to, path_of, body) in [
        ("/ollama/v1/chat/completions", "/v1/chat/completions", "{\"model\":\"Qwen/Qwen3-4B\"}".to_owned()),
        (CHAT, "/base/v1/chat/completions", long),
        (CHAT, CHAT, "{\"model\":\"llama\"}".to_owned()),
    ] {
        client.send(post(gateway.addr, to, body.clone())).await.text().await;
        let chosen = if to != CHAT {
            &path
        } else if path_of.starts_with("/base") {
            &model
        } else {
            &rest
        };
        let (head, received) = chosen.only();
        assert_eq!((head.uri.path(), received.as_ref()), (path_of, body.as_bytes()));
    }
    client
        .send(
            Request::get(format!("http://{}/v1/models", gateway.addr))
                .header("host", "x")
                .body(Empty::<bytes::Bytes>::new())
                .unwrap(),
        )
        .await
        .text()
        .await;
    assert_eq!(rest.only().0.uri.path(), "/v1/models");
    let page = gateway.ended(3).await;
    for upstream in ["path", "model", "rest"] {
        assert_eq!(page.value("llm_requests_total", &[("upstream", upstream)]), 1.0, "{upstream}");
    }
}

#[tokio::test]
async fn a_request_without_an_upstream_is_a_404() {
    let one = upstream().await;
    let gateway = Running::start(&format!("[upstreams.one]\nurl = \"{}\"\nmodels = [\"m\"]", one.server.url(""))).await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, "{\"model\":\"other\"}")).await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.contains("no upstream is configured"));
    client.send(post(gateway.addr, CHAT, "{\"model\":\"m\"}")).await.text().await;
    assert_eq!(one.only().1, "{\"model\":\"m\"}");
}

#[tokio::test]
async fn the_client_program_is_a_label_if_that_is_configured() {
    let one = upstream().await;
    let config = format!("clients = {{ shop = \"Shop/\" }}\n[upstreams.one]\nurl = \"{}\"", one.server.url(""));
    let gateway = Running::start(&config).await;
    let mut client = Client::connect(gateway.addr).await;
    for agent in ["Shop/1.0", "OpenAI/Python 3.57.0", "made up", ""] {
        let mut request = post(gateway.addr, CHAT, "{\"model\":\"m\"}");
        if !agent.is_empty() {
            request.headers_mut().insert("user-agent", agent.parse().unwrap());
        }
        client.send(request).await.text().await;
    }
    let page = gateway.ended(4).await;
    for client in ["shop", "openai-python", "other", "unknown"] {
        assert_eq!(page.value("llm_requests_total", &[("client", client)]), 1.0, "{client}");
    }
}

#[tokio::test]
async fn without_the_layer_requests_pass_and_are_not_measured() {
    let one = upstream().await;
    let gateway = Running::start(&format!("measure = false\n[upstreams.one]\nurl = \"{}\"", one.server.url(""))).await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, "{\"model\":\"m\"}")).await;
    assert_eq!(answer.text().await, completion("Hi", 1, 1));
    let page = gateway.when(|page| page.value("llm_gateway_attempts_total", &[("result", "answered")]) == 1.0).await;
    assert_eq!(page.series("llm_requests_total", &[]), 0);
}

#[tokio::test]
async fn the_text_of_answers_is_checked_by_default() {
    for (settings, checked) in [("", true), ("check_outputs = false\n", false)] {
        let one = upstream().await;
        let config = format!("{settings}[upstreams.one]\nurl = \"{}\"", one.server.url(""));
        let gateway = Running::start(&config).await;
        let mut client = Client::connect(gateway.addr).await;
        let _ = client.send(post(gateway.addr, CHAT, "{\"model\":\"m\"}")).await.text().await;
        let page = gateway.ended(1).await;
        assert_eq!(page.series("llm_outputs_total", &[]) > 0, checked, "{settings:?}");
    }
}
