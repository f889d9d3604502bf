//! Each finding of output quality, produced by the real server with `--demo`, and read on its `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use llm_metrics::catalog;
use llm_metrics_tests::{
    Client, Page, post,
    qwen_server::{QwenServer, TINY},
};
use serde_json::{Value, json};

/// An API of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    OllamaChat,
    OllamaGenerate,
}

use Api::{Chat, Completions, Messages, OllamaChat, OllamaGenerate, Responses};

const ALL: [Api; 6] = [Chat, Completions, Responses, Messages, OllamaChat, OllamaGenerate];

impl Api {
    fn path(self) -> &'static str {
        match self {
            Chat => "/v1/chat/completions",
            Completions => "/v1/completions",
            Responses => "/v1/responses",
            Messages => "/v1/messages",
            OllamaChat => "/api/chat",
            OllamaGenerate => "/api/generate",
        }
    }

    fn calls_tools(self) -> bool {
        !matches!(self, Completions | OllamaGenerate)
    }

    fn knows_refusals(self) -> bool {
        matches!(self, Chat | Responses | Messages)
    }

    /// A request with this prompt.
    fn request(self, prompt: &str, streamed: bool) -> Value {
        let messages = json!([{"role": "user", "content": prompt}]);
        let request = match self {
            Chat | OllamaChat => json!({"messages": messages}),
            Completions | OllamaGenerate => json!({"prompt": prompt}),
            Responses => json!({"input": prompt}),
            // A limit is required; this one is never reached.
            Messages => json!({"messages": messages, "max_tokens": 100_000}),
        };
        with(request, json!({"model": TINY, "stream": streamed}))
    }

    /// The fields that request JSON with a city.
    fn json(self) -> Value {
        let schema = json!({
            "type": "object", "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
            "required": ["city"], "additionalProperties": false,
        });
        match self {
            Chat | Completions => {
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}})
            }
            Responses => json!({"text": {"format": {"type": "json_schema", "name": "city", "schema": schema}}}),
            Messages => json!({"output_format": {"type": "json_schema", "schema": schema}}),
            OllamaChat | OllamaGenerate => json!({"format": schema}),
        }
    }

    fn tools(self) -> Value {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        let function = json!({"name": "weather", "description": "The weather", "parameters": schema});
        match self {
            Responses => json!({"tools": [with(function, json!({"type": "function"}))]}),
            Messages => json!({"tools": [{"name": "weather", "input_schema": schema}]}),
            _ => json!({"tools": [{"type": "function", "function": function}]}),
        }
    }

    fn max_tokens(self, tokens: u32) -> Value {
        match self {
            Responses => json!({"max_output_tokens": tokens}),
            OllamaChat | OllamaGenerate => json!({"options": {"num_predict": tokens}}),
            _ => json!({"max_tokens": tokens}),
        }
    }
}

fn with(mut request: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("no fields: {more}") };
    request.as_object_mut().expect("an object").extend(more);
    request
}

/// The number of each finding: `output_empty/no_content`.
type Found = BTreeMap<String, u64>;

/// The findings on a page: every series of the section in the catalogue, by its last label.
fn found(page: &Page) -> Found {
    let section = catalog::SECTIONS.iter().find(|section| section.title == "Output quality").expect("a section");
    let mut found = Found::new();
    for metric in section.metrics {
        // The number of outputs is not a finding.
        let Some(label) =
            ["result", "cause", "evidence", "kind"].into_iter().find(|label| metric.label(label).is_some())
        else {
            assert_eq!(metric.name, "llm_outputs_total");
            continue;
        };
        let family = metric.name.trim_start_matches("llm_").trim_end_matches("_total");
        for sample in page.samples(metric.name, &[("model", TINY)]) {
            *found.entry(format!("{family}/{}", sample.labels[label])).or_default() += sample.value as u64;
        }
    }
    found
}

struct Demo {
    server: QwenServer,
    so_far: Found,
}

impl Demo {
    async fn start() -> Self {
        let server = QwenServer::start(&["--demo", "--no-gpu"]).await;
        let so_far = found(&server.settled().await);
        Self { server, so_far }
    }

    /// The findings since the last call.
    async fn news(&mut self) -> Vec<String> {
        let now = found(&self.server.settled().await);
        let before = std::mem::replace(&mut self.so_far, now);
        let news = self.so_far.iter().map(|(what, count)| (what, count - before.get(what).copied().unwrap_or(0)));
        news.flat_map(|(what, count)| std::iter::repeat_n(what.clone(), count as usize)).collect()
    }

    /// Requests a script, and reads the answer to its end.
    async fn ask(&self, api: Api, request: &Value) -> String {
        let mut client = Client::connect(self.server.api).await;
        let answer = client.send(post(self.server.api, api.path(), request.to_string())).await;
        let status = answer.status();
        let (body, _) = answer.finish().await.expect("an answer");
        let body = String::from_utf8(body.to_vec()).expect("text");
        assert_eq!(status, 200, "{request}: {body}");
        body
    }

    async fn assert_found(&mut self, api: Api, script: &str, more: &Value, expected: &[&str]) {
        for streamed in [true, false] {
            let request = with(api.request(&format!("/demo {script}"), streamed), more.clone());
            let answer = self.ask(api, &request).await;
            assert_eq!(self.news().await, expected, "{api:?}: {request}: {answer}");
        }
    }
}

#[tokio::test]
async fn the_format_is_checked_in_every_api() {
    let mut demo = Demo::start().await;
    for api in ALL {
        let json = api.json();
        for (script, result) in [
            ("valid_json", "structured_outputs/valid"),
            ("invalid_json", "structured_outputs/invalid_json"),
            ("fenced_json", "structured_outputs/fenced"),
            ("schema_mismatch", "structured_outputs/schema_mismatch"),
        ] {
            demo.assert_found(api, script, &json, &[result]).await;
        }
        let cut = with(json, api.max_tokens(3));
        demo.assert_found(api, "valid_json", &cut, &["output_truncated/max_tokens", "structured_outputs/truncated"])
            .await;
    }
    demo.assert_found(Chat, "valid_json", &json!({}), &[]).await;
    let grammar = json!({"grammar": {"type": "regex", "value": "yes|no"}});
    demo.assert_found(Chat, "valid_json", &grammar, &["structured_outputs/unchecked"]).await;
    let page = demo.server.scrape().await;
    assert_eq!(page.value("llm_structured_outputs_total", &[("format", "grammar")]), 2.0);
    let object = json!({"response_format": {"type": "json_object"}});
    demo.assert_found(Chat, "fenced_json", &object, &["structured_outputs/fenced"]).await;
}

#[tokio::test]
async fn tool_calls_are_checked_in_every_api_that_has_them() {
    let mut demo = Demo::start().await;
    for api in ALL.into_iter().filter(|api| api.calls_tools()) {
        for (script, result) in [
            ("tool_call", "tool_calls/valid"),
            ("tool_call_invalid_json", "tool_calls/invalid_json"),
            ("tool_call_incomplete", "tool_calls/incomplete"),
            ("unknown_tool", "tool_calls/unknown_tool"),
        ] {
            for streamed in [true, false] {
                let request = with(api.request(&format!("/demo {script}"), streamed), api.tools());
                let answer = demo.ask(api, &request).await;
                // Arguments are an object in Ollama's API, and in Anthropic's without streaming, so other arguments cannot be sent.
                let sends_objects = api == OllamaChat || (api == Messages && !streamed);
                let result = if sends_objects && script.starts_with("tool_call") { "tool_calls/valid" } else { result };
                assert_eq!(demo.news().await, [result], "{api:?}: {request}: {answer}");
                assert!(answer.contains(if script == "unknown_tool" { "telephone" } else { "weather" }), "{answer}");
            }
        }
    }
    // A call that no parser removes from the text stays text.
    demo.assert_found(Completions, "tool_call", &json!({}), &["output_anomalies/special_token_leak"]).await;
}

#[tokio::test]
async fn truncations_of_answers_and_prompts_are_reported_in_every_api() {
    let mut demo = Demo::start().await;
    for api in ALL {
        demo.assert_found(api, "babble", &api.max_tokens(5), &["output_truncated/max_tokens"]).await;
        demo.assert_found(api, "babble", &json!({}), &["output_truncated/context_window"]).await;
        demo.assert_found(api, "input_truncated", &json!({}), &["input_truncated/reported"]).await;

        let broken = api.request("/demo stream_cut", true);
        let answer = demo.ask(api, &broken).await;
        assert_eq!(demo.news().await, ["output_truncated/stream_cut"], "{answer}");

        let long = format!("/demo input_truncated_silently {}", "and so on ".repeat(2000));
        let suspected: &[&str] =
            if matches!(api, OllamaChat | OllamaGenerate) { &["input_truncated/suspected"] } else { &[] };
        for streamed in [true, false] {
            demo.ask(api, &api.request(&long, streamed)).await;
            assert_eq!(demo.news().await, suspected, "{api:?}");
        }

        let mut client = Client::connect(demo.server.api).await;
        let slow = post(demo.server.api, api.path(), api.request("/demo slow", true).to_string());
        let mut answer = client.send(slow).await;
        answer.until("river").await;
        client.hang_up();
        assert_eq!(demo.news().await, ["output_truncated/client_disconnect"], "{api:?}");
    }
}

#[tokio::test]
async fn empty_answers_loops_refusals_and_anomalies_are_reported_in_every_api() {
    let mut demo = Demo::start().await;
    for api in ALL {
        for (script, finding) in [
            ("whitespace", "output_empty/whitespace"),
            ("no_content", "output_empty/no_content"),
            ("char_run", "output_repetition/char_run"),
            ("token_run", "output_repetition/token_run"),
            ("cycle", "output_repetition/cycle"),
            ("replacement_char", "output_anomalies/replacement_char"),
            ("special_token_leak", "output_anomalies/special_token_leak"),
        ] {
            demo.assert_found(api, script, &json!({}), &[finding]).await;
        }
        let unclosed = ["output_anomalies/unclosed_reasoning", "output_empty/reasoning_only"];
        demo.assert_found(api, "unclosed_reasoning", &json!({}), &unclosed).await;

        // If an API has no field for a value, the value is sent as text or not at all.
        let reasons: &[&str] = match api {
            Completions => &["output_empty/no_content"],
            _ => &["output_empty/reasoning_only"],
        };
        demo.assert_found(api, "reasoning_only", &json!({}), reasons).await;
        let refused: &[&str] = if api.knows_refusals() { &["refusals/refusal_field"] } else { &[] };
        demo.assert_found(api, "refusal", &json!({}), refused).await;
        let filtered: &[&str] = match api {
            Chat | Completions | Responses => &["refusals/content_filter"],
            Messages => &["refusals/refusal_field"],
            OllamaChat | OllamaGenerate => &[],
        };
        demo.assert_found(api, "content_filter", &json!({}), filtered).await;
        let none =
            if matches!(api, Chat | Completions) { "output_empty/no_choices" } else { "output_empty/no_content" };
        demo.assert_found(api, "no_choices", &json!({}), &[none]).await;
    }
}

/// One request per finding. A value that is added to the catalogue must be added here, to the scripts and to the README.
#[tokio::test]
async fn there_is_a_demonstration_of_every_value_of_every_metric() {
    let mut demo = Demo::start().await;
    let long = format!("/demo input_truncated_silently {}", "and so on ".repeat(2000));
    for (api, prompt, more) in [
        (Chat, "/demo valid_json", Chat.json()),
        (Chat, "/demo invalid_json", Chat.json()),
        (Chat, "/demo fenced_json", Chat.json()),
        (Chat, "/demo schema_mismatch", Chat.json()),
        (Chat, "/demo valid_json", with(Chat.json(), Chat.max_tokens(3))),
        (Chat, "/demo valid_json", json!({"grammar": {"type": "regex", "value": "yes|no"}})),
        (Chat, "/demo tool_call", Chat.tools()),
        (Chat, "/demo tool_call_invalid_json", Chat.tools()),
        (Chat, "/demo tool_call_incomplete", Chat.tools()),
        (Chat, "/demo unknown_tool", Chat.tools()),
        (Chat, "/demo babble", json!({})),
        (Chat, "/demo stream_cut", json!({})),
        (Chat, "/demo input_truncated", json!({})),
        (OllamaChat, &long, json!({})),
        (Chat, "/demo no_choices", json!({})),
        (Chat, "/demo no_content", json!({})),
        (Chat, "/demo whitespace", json!({})),
        (Chat, "/demo reasoning_only", json!({})),
        (Chat, "/demo char_run", json!({})),
        (Chat, "/demo token_run", json!({})),
        (Chat, "/demo cycle", json!({})),
        (Chat, "/demo refusal", json!({})),
        (Chat, "/demo content_filter", json!({})),
        (Chat, "/demo replacement_char", json!({})),
        (Chat, "/demo special_token_leak", json!({})),
        (Chat, "/demo unclosed_reasoning", json!({})),
    ] {
        demo.ask(api, &with(api.request(prompt, true), more)).await;
    }
    let slow = Chat.request("/demo slow", true);
    let mut answer = demo.server.open(Chat.path(), &slow).await;
    answer.until_tokens(3).await;
    answer.hang_up();
    demo.news().await;
    let missing: BTreeSet<_> = demo.so_far.iter().filter(|(_, count)| **count == 0).map(|(what, _)| what).collect();
    assert!(missing.is_empty(), "not shown: {missing:?}");
    assert_eq!(demo.so_far.len(), 28, "{:?}", demo.so_far);
}

#[tokio::test]
async fn without_the_option_the_model_answers_and_a_missing_script_is_rejected() {
    let request = with(Chat.request("/demo cycle", false), json!({"temperature": 0, "max_tokens": 40}));
    let server = QwenServer::start(&["--no-gpu"]).await;
    let seen = server.ask(Chat.path(), &request).await;
    assert!(seen.answer().contains("Measure at the edge"), "{seen:?}");
    drop(server);
    let demo = Demo::start().await;
    let seen = demo.server.ask(Chat.path(), &Chat.request("/demo circle", false)).await;
    assert_eq!(seen.status, 400);
    let error = seen.error.expect("an error");
    assert_eq!(error["param"], "messages");
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("`circle`") && text.contains("cycle")),
        "{error}"
    );
    let seen = demo.server.ask(Chat.path(), &with(Chat.request("hello", false), json!({"temperature": 0}))).await;
    assert!(seen.answer().contains("Measure at the edge"), "{seen:?}");
}
