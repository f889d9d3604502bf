//! The cost of the other protocols.

use std::sync::Arc;

use bytes::Bytes;
use llm_metrics::LlmMetrics;
use llm_metrics_benches::{
    measure::{Case, Measured, nanoseconds},
    protocols::{self, typed_block_delta, typed_delta, typed_line},
    script::Script,
    serve::{self, Handler, call, layered_for_ollama},
};

use crate::{
    cases::{STREAM, a_chunk, pass},
    table::Row,
};

/// The size of the embeddings document.
const EMBEDDINGS: usize = 4 << 20;

/// The names of a protocol's cases, its path, its deltas, its handler, and a function that parses a delta into types.
type Protocol = ([&'static str; 3], &'static str, Vec<Bytes>, fn(&Arc<Script>) -> Handler, fn(&Bytes));

pub(crate) fn cases<'a>(cases: &mut Vec<Case<'a>>, free: &'a LlmMetrics) {
    let kinds: [Protocol; 3] = [
        (
            ["messages bare", "messages free", "messages typed"],
            "/v1/messages",
            protocols::messages(),
            Handler::streaming,
            typed_block_delta,
        ),
        (
            ["responses bare", "responses free", "responses typed"],
            "/v1/responses",
            protocols::responses(),
            Handler::streaming,
            typed_delta,
        ),
        (["ollama bare", "ollama free", "ollama typed"], "/api/chat", protocols::ollama(), Handler::lines, typed_line),
    ];
    let question = Script::whole(&Bytes::from_static(br#"{"model":"m","stream":true}"#), 8192);
    for ([bare, ours, typed], path, deltas, handler, parse) in kinds {
        let handler = handler(&Script::repeated(deltas, STREAM + 16));
        for (name, show) in [(bare, pass as fn(&Bytes)), (typed, parse)] {
            let (mut service, asked) = (handler.clone(), Arc::clone(&question));
            cases.push(Case::new(name, move || {
                a_chunk(call(&mut service, serve::post(path, &asked)).into_body(), show)
            }));
        }
        let (mut service, asked) = (layered_for_ollama(free, &handler), Arc::clone(&question));
        cases.push(Case::new(ours, move || a_chunk(call(&mut service, serve::post(path, &asked)).into_body(), pass)));
    }
    let document = protocols::embeddings(EMBEDDINGS);
    let length = document.len() as f64;
    let handler = Handler::unary(&Script::whole(&document, 64 << 10));
    let mut service = layered_for_ollama(free, &handler);
    cases.push(Case::new("embeddings", move || {
        nanoseconds(|| serve::request(&mut service, serve::post("/v1/embeddings", &question))) / length
    }));
}

pub(crate) fn rows(measured: &Measured) -> Vec<Row> {
    let beside = |what, name, bare| Row::units(what, measured, |time| time(name) - time(bare));
    let share = |ours, typed, bare| {
        let beside = |name| move |time: &dyn Fn(&str) -> f64| time(name) - time(bare);
        Row::share("… ours relative to it", measured, beside(ours), beside(typed), "of typed").at_most(0.5)
    };
    let speed = measured.times("embeddings");
    vec![
        beside("delta of Anthropic's Messages: ours", "messages free", "messages bare"),
        beside("delta of Anthropic's Messages: `serde_json`, typed", "messages typed", "messages bare"),
        share("messages free", "messages typed", "messages bare"),
        beside("delta of OpenAI's Responses: ours", "responses free", "responses bare"),
        beside("delta of OpenAI's Responses: `serde_json`, typed", "responses typed", "responses bare"),
        share("responses free", "responses typed", "responses bare"),
        beside("line of Ollama: ours", "ollama free", "ollama bare"),
        beside("line of Ollama: `serde_json`, typed", "ollama typed", "ollama bare"),
        share("ollama free", "ollama typed", "ollama bare"),
        Row::new("embeddings of 4 MB", 1.0 / speed.best(), &speed.map(|time| 1.0 / time), "GB/s").at_least(1.0),
    ]
}
