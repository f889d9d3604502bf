//! Answers that servers could send, with any values in the places that readers ignore.

use proptest::option;
use proptest::prelude::*;

use crate::wire::tests::generated::{Json, Layout, Spelling, junk, layout, null, raw, text};

/// The values from which a document is made.
#[derive(Clone, Debug)]
pub(super) struct Material {
    kind: usize,
    word: usize,
    text: Json,
    /// A value that readers ignore, and its place.
    other: Json,
    at: usize,
    counts: [Option<u32>; 4],
    /// The members are in another order.
    turn: usize,
    pub(super) layout: Layout,
    named: bool,
}

pub(super) fn material() -> impl Strategy<Value = Material> {
    let counts = [(); 4].map(|()| option::weighted(0.7, prop_oneof![6 => 1..5000_u32, 1 => Just(1 << 29)]));
    ((0..20_usize, 0..20_usize, text(), junk(), 0..6_usize), counts, 0..6_usize, layout(), any::<bool>()).prop_map(
        |((kind, word, text, other, at), counts, turn, layout, named)| Material {
            kind,
            word,
            text,
            other,
            at,
            counts,
            turn,
            layout,
            named,
        },
    )
}

impl Material {
    fn word(&self, words: &[&str]) -> Json {
        string(words[self.word % words.len()])
    }

    fn count(&self, at: usize) -> Json {
        self.counts[at].map_or_else(null, raw)
    }

    /// An object with these members in some order, and a member that readers ignore.
    fn object<const N: usize>(&self, members: [(&str, Json); N]) -> Json {
        let mut members = members.map(|(key, value)| (key.to_owned(), value)).to_vec();
        members.rotate_left(self.turn % N);
        members.insert(self.at % (N + 1), ("unheard_of".to_owned(), self.other.clone()));
        Json::Object(members)
    }

    /// The same, with its type before all other members.
    fn typed<const N: usize>(&self, kind: &str, members: [(&str, Json); N]) -> Json {
        let Json::Object(mut members) = self.object(members) else { unreachable!() };
        members.insert(0, ("type".to_owned(), string(kind)));
        Json::Object(members)
    }

    /// As a server-sent event, with or without a name.
    pub(super) fn as_event(&self, event: &Json) -> String {
        let data: String = event.render(self.layout).split('\n').map(|line| format!("data: {line}\n")).collect();
        let Json::Object(members) = event else { unreachable!() };
        let name = members.iter().find_map(|(key, value)| match value {
            Json::Text(text, _) if key == "type" && self.named => Some(format!("event: {text}\n")),
            _ => None,
        });
        format!("{}{data}\n", name.unwrap_or_default())
    }
}

fn string(text: &str) -> Json {
    Json::Text(text.to_owned(), Spelling::Plain)
}

fn list(elements: impl Into<Vec<Json>>) -> Json {
    Json::Array(elements.into())
}

fn anthropic_counts(of: &Material) -> Json {
    // The tokens from a cache are separate from the others, which are always present.
    of.object([
        ("input_tokens", raw(of.counts[0].unwrap_or(3))),
        ("cache_read_input_tokens", of.count(1)),
        ("output_tokens", of.count(2)),
        ("cache_creation_input_tokens", of.count(3)),
    ])
}

const REASONS: [&str; 7] =
    ["end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal", "pause_turn", "model_context_window_exceeded"];

fn anthropic_block(of: &Material) -> Json {
    match of.word % 3 {
        0 => of.typed("text", [("text", of.text.clone())]),
        1 => of.typed("thinking", [("thinking", of.text.clone()), ("signature", of.text.clone())]),
        _ => of.typed("tool_use", [("id", string("t")), ("name", of.text.clone()), ("input", of.other.clone())]),
    }
}

pub(super) fn anthropic_event(of: &Material) -> Json {
    let index = ("index", raw("1"));
    match of.kind % 9 {
        0 => {
            let message =
                of.object([("model", of.text.clone()), ("usage", anthropic_counts(of)), ("content", list([]))]);
            of.typed("message_start", [("message", message)])
        }
        1 => of.typed("content_block_start", [index, ("content_block", anthropic_block(of))]),
        2 => of.typed(
            "message_delta",
            [
                ("delta", of.object([("stop_reason", of.word(&REASONS)), ("stop_sequence", of.text.clone())])),
                ("usage", of.object([("output_tokens", of.count(2))])),
            ],
        ),
        3 => of.typed("message_stop", [index]),
        4 => of.typed("error", [("error", of.typed("overloaded_error", [("message", of.text.clone())]))]),
        5 => of.typed("ping", [index]),
        _ => {
            let (kind, key) = [
                ("text_delta", "text"),
                ("thinking_delta", "thinking"),
                ("input_json_delta", "partial_json"),
                ("signature_delta", "signature"),
            ][of.word % 4];
            of.typed("content_block_delta", [index, ("delta", of.typed(kind, [(key, of.text.clone())]))])
        }
    }
}

pub(super) fn anthropic_message(of: &Material, blocks: &[Material]) -> Json {
    let blocks = blocks.iter().map(anthropic_block).collect::<Vec<_>>();
    of.typed(
        "message",
        [
            ("model", of.text.clone()),
            ("content", list(blocks)),
            ("stop_reason", of.word(&REASONS)),
            ("usage", anthropic_counts(of)),
        ],
    )
}

fn responses_counts(of: &Material) -> Json {
    let input = of.counts[0].unwrap_or(3);
    let output = of.counts[1].unwrap_or(3);
    let part = |whole: u32, at: usize| raw(of.counts[at].unwrap_or(0) % (whole + 1));
    of.object([
        ("input_tokens", raw(input)),
        ("input_tokens_details", of.object([("cached_tokens", part(input, 2))])),
        ("output_tokens", raw(output)),
        ("output_tokens_details", of.object([("reasoning_tokens", part(output, 3))])),
        ("total_tokens", raw(u64::from(input) + u64::from(output))),
    ])
}

fn ended_response(of: &Material, status: &[&str], output: Vec<Json>) -> Json {
    let details = of.object([("reason", of.word(&["max_output_tokens", "content_filter", "boredom"]))]);
    of.object([
        ("status", of.word(status)),
        ("model", of.text.clone()),
        ("incomplete_details", details),
        ("output", list(output)),
        ("error", null()),
        ("usage", responses_counts(of)),
    ])
}

fn item(of: &Material) -> Json {
    match of.word % 3 {
        0 => {
            let said = of.typed("output_text", [("text", of.text.clone()), ("annotations", of.other.clone())]);
            let refused = of.typed("refusal", [("refusal", of.text.clone())]);
            of.typed("message", [("content", list([said, refused])), ("role", string("assistant"))])
        }
        1 => of.typed("reasoning", [("summary", list([of.typed("summary_text", [("text", of.text.clone())])]))]),
        _ => of.typed("function_call", [("name", of.text.clone()), ("arguments", of.text.clone())]),
    }
}

pub(super) fn responses_event(of: &Material) -> Json {
    let sequence = ("sequence_number", raw(of.word));
    match of.kind % 10 {
        0 => {
            let begun =
                of.object([("status", string("in_progress")), ("model", of.text.clone()), ("output", list([]))]);
            of.typed("response.created", [sequence, ("response", begun)])
        }
        1 => of.typed("response.output_item.added", [sequence, ("item", item(of))]),
        2 => of.typed("response.output_text.done", [sequence, ("text", of.text.clone())]),
        3 => of.typed("response.completed", [("response", ended_response(of, &["completed"], vec![item(of)]))]),
        4 => of.typed("response.incomplete", [("response", ended_response(of, &["incomplete"], vec![item(of)]))]),
        5 => of.typed("response.failed", [("response", ended_response(of, &["failed"], vec![]))]),
        6 => of.typed("error", [sequence, ("message", of.text.clone())]),
        _ => {
            let kind = [
                "response.output_text.delta",
                "response.reasoning_text.delta",
                "response.reasoning_summary_text.delta",
                "response.refusal.delta",
                "response.function_call_arguments.delta",
                "response.custom_tool_call_input.delta",
                "response.unheard_of.delta",
            ][of.word % 7];
            of.typed(kind, [sequence, ("delta", of.text.clone()), ("logprobs", of.other.clone())])
        }
    }
}

pub(super) fn response(of: &Material, items: &[Material]) -> Json {
    let status = ["completed", "incomplete", "failed", "cancelled", "queued", "in_progress"];
    ended_response(of, &status, items.iter().map(item).collect())
}

pub(super) fn ollama_line(of: &Material) -> Json {
    let model = ("model", of.text.clone());
    let created = ("created_at", string("2026-01-01T00:00:00Z"));
    let more = ("done", raw("false"));
    match of.kind % 6 {
        0 => of.object([model, created, ("error", of.text.clone())]),
        1 => of.object([
            model,
            ("message", of.object([("role", string("assistant")), ("content", of.text.clone())])),
            ("done", raw("true")),
            ("done_reason", of.word(&["stop", "length", "boredom"])),
            ("load_duration", raw(20_000_000 * of.word)),
            ("prompt_eval_count", of.count(0)),
            ("prompt_eval_duration", of.count(1)),
            ("eval_count", of.count(2)),
            ("eval_duration", of.count(3)),
        ]),
        2 => {
            let function = of.object([("name", of.text.clone()), ("arguments", of.other.clone())]);
            let calls = list([of.object([("function", function)])]);
            of.object([model, created, ("message", of.object([("content", string("")), ("tool_calls", calls)])), more])
        }
        3 => of.object([model, created, ("response", of.text.clone()), more]),
        4 => of.object([model, ("done", raw("true")), ("done_reason", of.word(&["load", "unload"]))]),
        _ => {
            let message =
                of.object([("role", string("assistant")), (["content", "thinking"][of.word % 2], of.text.clone())]);
            of.object([model, created, ("message", message), more])
        }
    }
}

pub(super) fn embeddings(of: &Material) -> Json {
    let vector = list(vec![raw("-0.0123456"); of.word]);
    let one = of.object([("object", string("embedding")), ("index", raw("0")), ("embedding", vector)]);
    let tokens = of.count(0);
    of.object([
        ("object", string("list")),
        ("model", of.text.clone()),
        ("data", list(vec![one; 1 + of.kind % 3])),
        ("usage", of.object([("prompt_tokens", tokens.clone()), ("total_tokens", tokens)])),
    ])
}
