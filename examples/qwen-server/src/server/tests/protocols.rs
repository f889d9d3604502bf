//! The same model over every API that the server speaks.

use super::*;

const ANSWER: &str = "Measure at the edge where users wait.";

fn messages() -> Value {
    json!([{"role": "user", "content": "hello"}])
}

/// The `data:` lines of a stream.
fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn lines(stream: &str) -> Vec<Value> {
    stream.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Server {
    async fn ask(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn stream(&self, path: &str, mut body: Value) -> String {
        body["stream"] = json!(true);
        let (status, body) = self.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_whole_and_streamed_say_the_same() {
    let server = server(None);
    server.load().await;
    let request = json!({"model": NAME, "input": "hello", "temperature": 0, "reasoning": {"effort": "none"}});
    let whole = server.ask("/v1/responses", request.clone()).await;
    assert_eq!((&whole["status"], &whole["output"][0]["content"][0]["text"]), (&json!("completed"), &json!(ANSWER)));
    assert_eq!(whole["usage"]["output_tokens"], 9);

    let events = data(&server.stream("/v1/responses", request).await);
    let text: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(text, ANSWER);
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["output"][0]["content"], &last["usage"]), (&whole["output"][0]["content"], &whole["usage"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_whole_and_streamed_say_the_same() {
    let server = server(None);
    server.load().await;
    let thinking = json!({"type": "enabled", "budget_tokens": 1024});
    let request =
        json!({"model": NAME, "max_tokens": 100, "messages": messages(), "temperature": 0, "thinking": thinking});
    let whole = server.ask("/v1/messages", request.clone()).await;
    let (reasoning, content) = crate::tiny::greedy();
    assert_eq!(whole["content"][0]["thinking"], reasoning);
    assert_eq!((&whole["content"][1]["text"], &whole["stop_reason"]), (&json!(content), &json!("end_turn")));

    let events = data(&server.stream("/v1/messages", request).await);
    let told = |key: &str| -> String { events.iter().filter_map(|event| event["delta"][key].as_str()).collect() };
    assert_eq!((told("thinking"), told("text")), (reasoning, content));
    let end = &events[events.len() - 2];
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&json!("end_turn"), &whole["usage"]["output_tokens"])
    );
    assert_eq!(events.last().unwrap()["type"], "message_stop");

    let count = server.ask("/v1/messages/count_tokens", json!({"model": NAME, "messages": messages()})).await;
    assert!(count["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_streams_by_default() {
    let server = server(None);
    server.load().await;
    let options = json!({"temperature": 0});
    let request = json!({"model": "Qwen3-tiny:latest", "messages": messages(), "think": false, "options": options});
    let (status, stream) = server.post("/api/chat", request.clone()).await;
    assert_eq!(status, StatusCode::OK);
    let told = lines(&stream);
    let text: String = told.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    let end = told.last().unwrap();
    assert!(told.len() > 5 && told[0]["done"] == json!(false), "{stream}");
    assert_eq!((text.as_str(), &end["done"], &end["done_reason"]), (ANSWER, &json!(true), &json!("stop")));

    let mut whole = request;
    whole["stream"] = json!(false);
    let whole = server.ask("/api/chat", whole).await;
    assert_eq!((&whole["message"]["content"], &whole["eval_count"]), (&json!(ANSWER), &end["eval_count"]));

    let raw = json!({"model": NAME, "prompt": "Each token", "raw": true, "stream": false,
        "options": {"temperature": 0, "num_predict": 5}});
    let cut = server.ask("/api/generate", raw).await;
    assert_eq!((&cut["eval_count"], &cut["done_reason"]), (&json!(5), &json!("length")));
    assert!(cut["response"].as_str().is_some_and(|text| !text.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_without_a_prompt_generates_nothing() {
    let server = server(None);
    server.load().await;
    for (path, body, reason) in [
        ("/api/generate", json!({"model": NAME}), "load"),
        ("/api/generate", json!({"model": NAME, "keep_alive": 0}), "unload"),
        ("/api/chat", json!({"model": NAME, "messages": []}), "load"),
    ] {
        let answer = server.ask(path, body).await;
        assert_eq!((&answer["done"], &answer["done_reason"]), (&json!(true), &json!(reason)));
        assert!(answer.get("eval_count").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_binds_over_every_api() {
    let server = server(None);
    server.load().await;
    let schema = json!({"type": "object", "properties": {"day": {"enum": [10, 11]}}, "required": ["day"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "day", "schema": schema});
    let response =
        server.ask("/v1/responses", json!({"input": "day?", "text": {"format": format}, "temperature": 1})).await;
    let ollama = json!({"model": NAME, "messages": messages(), "format": schema, "stream": false, "options": {"temperature": 1}});
    let ollama = server.ask("/api/chat", ollama).await;
    let texts =
        [&response["output"].as_array().unwrap().last().unwrap()["content"][0]["text"], &ollama["message"]["content"]];
    for text in texts {
        let value: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert!(value["day"].is_u64(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_tool_call_has_the_shape_of_its_api() {
    let server = server(None);
    server.load().await;
    let schema = json!({"type": "object", "properties": {"day": {"enum": [10, 11]}}, "required": ["day"],
        "additionalProperties": false});
    let response = server
        .ask(
            "/v1/responses",
            json!({"input": "day?", "temperature": 1, "tool_choice": "required",
        "tools": [{"type": "function", "name": "f", "parameters": schema}]}),
        )
        .await;
    let call = response["output"].as_array().unwrap().last().unwrap();
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("f")));
    assert!(serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap()["day"].is_u64());

    let message = server
        .ask(
            "/v1/messages",
            json!({"max_tokens": 200, "messages": messages(), "temperature": 1,
        "tool_choice": {"type": "any"}, "tools": [{"name": "f", "input_schema": schema}]}),
        )
        .await;
    let call = message["content"].as_array().unwrap().last().unwrap();
    assert_eq!((&call["type"], &message["stop_reason"]), (&json!("tool_use"), &json!("tool_use")));
    assert!(call["input"]["day"].is_u64(), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_api_rejects_in_its_own_format() {
    let server = server(None);
    for (path, body) in [
        ("/v1/responses", json!({"model": "nope", "input": "hi"})),
        ("/v1/messages", json!({"model": "nope", "max_tokens": 1, "messages": messages()})),
        ("/api/chat", json!({"model": "nope", "messages": messages()})),
        ("/api/show", json!({"model": "nope"})),
    ] {
        let (status, answer) = server.post(path, body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        let shape = match path {
            "/v1/responses" => answer["error"]["code"] == "model_not_found",
            "/v1/messages" => answer["type"] == "error" && answer["error"]["type"] == "not_found_error",
            _ => answer["error"].is_string(),
        };
        assert!(shape, "{path}: {answer}");
    }
    server.load().await;
    let (status, answer) = server.post("/v1/messages", json!({"messages": messages()})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer.contains("`max_tokens` is missing"), "{answer}");
}
