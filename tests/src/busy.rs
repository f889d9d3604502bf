//! A service that produces a value for every row of the catalogue.

use std::time::Duration;

use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use llm_metrics::{
    Builder, EngineMetrics, FinishReason, InferenceHandle, LabelPolicy, LoadedModel, ModelInfo, Objective, Operation,
    Usage, observe::ResponseHead,
};
use serde_json::json;
use tower::{BoxError, ServiceBuilder, service_fn};

use crate::{Client, Gate, MODEL, MeasuredRequest, Script, Server, Step, Watched, post, serve, stream::*};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Case {
    /// A complete stream.
    Well,
    /// A stream that reasons first, with all fields of usage.
    Thinking,
    /// A client that disconnects.
    HangsUp,
    /// An error inside the stream.
    StreamError,
    /// A stream that breaks.
    Truncated,
    /// An answer in one piece.
    Whole,
    /// Too many requests.
    RateLimited,
    /// A server that failed.
    Failed,
    /// The engine reports all its values.
    Engine,
    /// A compressed answer.
    Compressed,
    /// An answer of an unknown type.
    UnknownType,
    /// Events that are not JSON.
    MalformedEvents,
    /// A document that is not JSON.
    MalformedDocument,
    /// Token counts that are implausible.
    Implausible,
    /// Answers that each have one fault of output quality.
    Rubbish,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Well,
        Self::Thinking,
        Self::HangsUp,
        Self::StreamError,
        Self::Truncated,
        Self::Whole,
        Self::RateLimited,
        Self::Failed,
        Self::Engine,
        Self::Compressed,
        Self::UnknownType,
        Self::MalformedEvents,
        Self::MalformedDocument,
        Self::Implausible,
        Self::Rubbish,
    ];
}

/// A server that does what each request asks for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Busy {
    /// The address of the server.
    pub server: Server,
}

impl Busy {
    /// Starts it behind the layer.
    pub async fn start(watched: &Watched) -> Self {
        let service = service_fn(|request: MeasuredRequest| async move {
            let (parts, body) = request.into_parts();
            body.collect().await?;
            Ok::<_, BoxError>(answer(&parts))
        });
        Self { server: serve(ServiceBuilder::new().layer(watched.metrics.layer()).service(service)).await }
    }

    /// Sends a request with the behaviour `case`.
    pub async fn send(&self, model: &str, case: Case) {
        let mut body = json!({"model": model, "stream": case != Case::Whole, "max_tokens": 512, "messages": []});
        if case == Case::Rubbish {
            body["n"] = 4.into();
            body["response_format"] = json!({"type": "json_object"});
            body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
        }
        let mut client = Client::connect(self.server.addr).await;
        let mut request: Request<_> = post(self.server.addr, CHAT, body.to_string());
        request.headers_mut().insert("x-case", (case as usize).into());
        let mut answer = client.send(request).await;
        if case == Case::HangsUp {
            answer.until("word1").await;
            client.hang_up();
        } else {
            answer.finish().await.expect("a whole answer");
        }
    }

    /// Asks for two embeddings.
    pub async fn embed(&self, model: &str) {
        let body = json!({"model": model, "input": ["a", "b"]});
        let mut request = post(self.server.addr, "/v1/embeddings", body.to_string());
        request.headers_mut().insert("x-case", (Case::Whole as usize).into());
        let mut client = Client::connect(self.server.addr).await;
        client.send(request).await.finish().await.expect("a whole answer");
    }
}

fn answer(parts: &Parts) -> Response<Script> {
    let case = parts.headers["x-case"].to_str().ok().and_then(|case| Case::ALL.get(case.parse::<usize>().ok()?));
    let mut response = match case.expect("a case") {
        Case::Well => Script::stream(paced(well(3))),
        Case::Thinking => Script::stream(paced(vec![
            role(),
            thought("Hm."),
            thought(" So."),
            token("Yes"),
            finish("stop"),
            event(&json!({"choices": [], "usage": {
                "prompt_tokens": 900, "prompt_tokens_details": {"cached_tokens": 512},
                "completion_tokens": 40, "completion_tokens_details": {"reasoning_tokens": 30},
            }})),
            DONE.to_owned(),
        ])),
        Case::HangsUp => {
            let steps = [role(), token("word0"), token("word1")].map(Step::from);
            Script::stream(steps.into_iter().chain([Step::Hold(Gate::new())]))
        }
        Case::StreamError => Script::stream([token("a"), event(&json!({"error": {"message": "no"}}))]),
        Case::Truncated => Script::stream([role(), token("a")]),
        Case::Whole => Script::json(completion("Hi.", 9, 2)),
        Case::RateLimited | Case::Failed => Script::json(r#"{"error":{"message":"no"}}"#),
        Case::Engine => {
            let handle = parts.extensions.get::<InferenceHandle>().expect("the layer's handle");
            handle.queue_time(Duration::from_millis(3));
            handle.prefill_time(Duration::from_millis(40));
            handle.decode_time(Duration::from_millis(200));
            handle.usage(Usage::new().input(9).cached_input(4).cache_write(2).output(3).reasoning(0));
            Script::stream(paced(well(3)))
        }
        Case::Compressed => Script::stream([&b"\x1f\x8b and so on"[..]].map(bytes::Bytes::from)),
        Case::UnknownType => Script::new(["as it is"]).respond("application/octet-stream"),
        Case::MalformedEvents => Script::stream([token("a"), "data: {\"choices\":[}\n\n".to_owned(), finish("stop")]),
        Case::MalformedDocument => Script::json("{\"choices\":[}"),
        Case::Implausible => Script::stream([token("a"), usage(9, u64::MAX), finish("stop"), DONE.to_owned()]),
        Case::Rubbish => {
            parts.extensions.get::<InferenceHandle>().expect("the layer's handle").input_truncated();
            let again = "again and ".repeat(200);
            let choice = |index: u32, delta: serde_json::Value, reason: &str| {
                format!(
                    "data: {{\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":\"{reason}\"}}]}}\n\n"
                )
            };
            let call = json!([{"index": 0, "function": {"name": "wetter", "arguments": "{}"}}]);
            Script::stream(paced(vec![
                choice(0, json!({"content": format!("Sure!<|im_end|> {again}")}), "length"),
                choice(1, json!({"refusal": "No."}), "stop"),
                choice(2, json!({"tool_calls": call}), "tool_calls"),
                choice(3, json!({}), "stop"),
                DONE.to_owned(),
            ]))
        }
    };
    match case {
        Some(Case::RateLimited) => *response.status_mut() = StatusCode::TOO_MANY_REQUESTS,
        Some(Case::Failed) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        Some(Case::Compressed) => {
            response.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
        }
        _ => {}
    }
    response
}

/// The events, with a short pause after each.
fn paced(events: Vec<String>) -> Vec<Step> {
    events.into_iter().flat_map(|event| [Step::Wait(Duration::from_millis(2)), Step::from(event)]).collect()
}

/// Guards that keep a model loaded and the gauges of an engine set.
#[derive(Debug)]
#[non_exhaustive]
pub struct Everything {
    /// The engine's own metrics.
    pub engine: EngineMetrics,
    /// The model that is loaded.
    pub loaded: LoadedModel,
}

impl Everything {
    /// Reports all values of one engine step.
    pub fn step(&self) {
        self.engine.batch_size(3);
        self.engine.step_tokens(514);
        self.engine.preempted(1);
        self.engine.prefix_cache(512, 256);
        self.engine.drafted(8, 5);
    }
}

/// Settings with which every row can get a value: one model is known, a silence of a millisecond is a stall, and any answer within a minute meets the
/// objective.
pub fn everything_can_happen(builder: Builder) -> Builder {
    builder
        .model_labels(LabelPolicy::first_accepted(1))
        .stall_threshold(Duration::from_millis(1))
        .objective(Objective::new("in time").duration(Duration::from_secs(60)))
}

/// Produces a value for every row of the catalogue.
pub async fn everything(watched: &Watched) -> Everything {
    let info = ModelInfo::new(MODEL).engine("mistral.rs").engine_version("0.8.1").quantization("Q4K");
    let loaded = watched.metrics.model_loaded(info.context_length(32_768), Duration::from_secs(7));
    let engine = watched.metrics.engine(MODEL);
    engine.running(3);
    engine.waiting(12);
    engine.kv_cache_usage(0.25);
    let busy = Busy::start(watched).await;
    for case in Case::ALL {
        busy.send(MODEL, case).await;
    }
    busy.send("a second model", Case::Well).await;
    busy.embed(MODEL).await;
    // On an unknown path.
    let (head, ()) = http::Request::post("/my/chat").body(()).expect("a valid head").into_parts();
    watched.metrics.observer().request(&head).response(ResponseHead::new(200)).end();
    // Without HTTP.
    let mut inference = watched.metrics.start(Operation::Other, MODEL);
    for _ in 0..3 {
        inference.tokens(1);
    }
    inference.usage(Usage::new().input(5).output(3));
    inference.finish(FinishReason::Stop);
    watched.settled().await;
    let everything = Everything { engine, loaded };
    everything.step();
    everything
}
