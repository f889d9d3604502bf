//! Streams and documents as servers could send them, with hostile content in the places that users and models control.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

/// JSON with a given order of keys and a given spelling, which `serde_json::Value` does not keep.
#[derive(Clone, Debug)]
pub(super) enum Json {
    /// Unchanged.
    Raw(String),
    Text(String, Spelling),
    Object(Vec<(String, Self)>),
    Array(Vec<Self>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Spelling {
    Plain,
    /// Everything but ASCII escaped, as Python does.
    Ascii,
    /// Every character escaped.
    Escaped,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    Compact,
    Spaced,
    /// With line feeds.
    Pretty,
}

impl Json {
    pub(super) fn render(&self, layout: Layout) -> String {
        let mut out = String::new();
        self.write(layout, &mut out);
        out
    }

    fn write(&self, layout: Layout, out: &mut String) {
        let (open, comma, colon) = match layout {
            Layout::Compact => ("", ",", ":"),
            Layout::Spaced => ("", ", ", ": "),
            Layout::Pretty => ("\n  ", ",\n\t ", " : "),
        };
        match self {
            Self::Raw(raw) => out.push_str(raw),
            Self::Text(text, spelling) => quote(text, *spelling, out),
            Self::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at == 0 { open } else { comma });
                    quote(key, Spelling::Plain, out);
                    out.push_str(colon);
                    value.write(layout, out);
                }
                out.push_str(open);
                out.push('}');
            }
            Self::Array(elements) => {
                out.push('[');
                for (at, value) in elements.iter().enumerate() {
                    out.push_str(if at == 0 { open } else { comma });
                    value.write(layout, out);
                }
                out.push_str(open);
                out.push(']');
            }
        }
    }
}

fn quote(text: &str, spelling: Spelling, out: &mut String) {
    let plain = serde_json::to_string(text).unwrap();
    if matches!(spelling, Spelling::Plain) {
        return out.push_str(&plain);
    }
    out.push('"');
    let units = |character: char, out: &mut String| {
        for unit in character.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    };
    match spelling {
        Spelling::Escaped => text.chars().for_each(|character| units(character, out)),
        _ => plain[1..plain.len() - 1]
            .chars()
            .for_each(|character| if character.is_ascii() { out.push(character) } else { units(character, out) }),
    }
    out.push('"');
}

fn object<const N: usize>(members: [(&str, Option<Json>); N]) -> Json {
    Json::Object(members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

pub(super) fn raw(value: impl ToString) -> Json {
    Json::Raw(value.to_string())
}

pub(super) fn null() -> Json {
    raw("null")
}

/// Text that models write and users send.
pub(super) fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        6 => "[ a-z]{1,8}",
        3 => any::<String>(),
        3 => prop::sample::select(vec![
            r#"{"usage":{"prompt_tokens":7,"completion_tokens":7}}"#,
            r#"{"error":"no","choices":[{"index":3,"delta":{"content":"x"},"finish_reason":"length"}]}"#,
            r#""},"finish_reason":"stop"}]}"#,
            "\n\ndata: [DONE]\n\n", "}}", "},{", r#"},""#, "]}", "\"", "\\", "\\\"", "\\u0041", "{", "[[[", "/", "\u{7f}",
            "\u{0}\u{1f}", "😀", "é世", "\u{FFFD}", "error", "usage", "finish_reason",
        ]).prop_map(str::to_owned),
    ]
}

pub(super) fn text() -> impl Strategy<Value = Json> {
    let spelling = prop::sample::select(vec![Spelling::Plain, Spelling::Plain, Spelling::Ascii, Spelling::Escaped]);
    (content(), spelling).prop_map(|(text, spelling)| Json::Text(text, spelling))
}

/// Keys that have a meaning in other places.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "usage",
        "error",
        "model",
        "choices",
        "index",
        "delta",
        "message",
        "content",
        "text",
        "finish_reason",
        "name",
        "arguments",
        "reasoning",
        "timings",
        "stream",
        "n",
        "tools",
        "type",
        "max_tokens",
        "a",
        "token",
        "bytes",
    ])
    .prop_map(str::to_owned)
}

/// A value that readers ignore.
pub(super) fn junk() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        text(),
        Just(null()),
        any::<bool>().prop_map(raw),
        any::<i64>().prop_map(raw),
        Just(raw("-1.5e-7")),
        Just(raw("[]")),
        Just(raw("{}")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![vec((key(), inner.clone()), 0..5).prop_map(Json::Object), vec(inner, 0..5).prop_map(Json::Array),]
    })
}

/// As vLLM and OpenAI send them.
fn logprobs() -> impl Strategy<Value = Json> {
    let token = (text(), any::<i32>(), vec(any::<u8>(), 0..4)).prop_map(|(token, logprob, bytes)| {
        let bytes = Json::Array(bytes.into_iter().map(raw).collect());
        object([("token", Some(token)), ("logprob", Some(raw(logprob))), ("bytes", Some(bytes))])
    });
    vec(token, 0..6).prop_map(|tokens| object([("content", Some(Json::Array(tokens)))]))
}

fn tool_calls() -> impl Strategy<Value = Json> {
    let arguments = prop_oneof![4 => text(), 1 => junk()];
    let call = (0..3_u8, option::of(text()), option::of(arguments)).prop_map(|(index, name, arguments)| {
        let function = object([("name", name), ("arguments", arguments)]);
        object([("index", Some(raw(index))), ("id", Some(raw("\"call_1\""))), ("function", Some(function))])
    });
    vec(call, 0..3).prop_map(Json::Array)
}

fn nullable(value: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Option<Json>> {
    prop_oneof![2 => Just(None), 1 => Just(Some(null())), 4 => value.prop_map(Some)].boxed()
}

fn rarely(value: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Option<Json>> {
    prop_oneof![6 => Just(None), 1 => Just(Some(null())), 2 => value.prop_map(Some)].boxed()
}

fn finish_reason() -> impl Strategy<Value = Json> {
    prop::sample::select(vec!["\"stop\"", "\"length\"", "\"\"", "\"tool_calls\"", "\"no such reason\"", "7"])
        .prop_map(raw)
}

fn usage() -> impl Strategy<Value = Json> {
    let count = prop_oneof![8 => 0..5000_u64, 1 => Just(1 << 30), 1 => Just(1 << 31), 1 => Just(u64::MAX)];
    let count = move || prop_oneof![6 => count.clone().prop_map(raw), 1 => Just(null()), 1 => Just(raw("-1"))];
    (nullable(count()), nullable(count()), rarely(count()), rarely(count()), rarely(junk())).prop_map(
        |(input, output, cached, reasoning, other)| {
            object([
                ("prompt_tokens", input),
                ("other", other),
                ("total_tokens", Some(raw(0))),
                ("completion_tokens", output),
                ("prompt_tokens_details", cached.map(|count| object([("cached_tokens", Some(count))]))),
                ("completion_tokens_details", reasoning.map(|count| object([("reasoning_tokens", Some(count))]))),
            ])
        },
    )
}

fn choice(body: &'static str) -> impl Strategy<Value = Json> {
    let message = (nullable(text()), rarely(text()), rarely(text()), rarely(tool_calls()), rarely(junk())).prop_map(
        |(content, reasoning, refusal, tool_calls, other)| {
            object([
                ("role", Some(raw("\"assistant\""))),
                ("reasoning_content", reasoning),
                ("other", other),
                ("content", content),
                ("refusal", refusal),
                ("tool_calls", tool_calls),
            ])
        },
    );
    let index = prop_oneof![1 => Just(None), 6 => (0..3_u8).prop_map(|index| Some(raw(index)))];
    (index, message, rarely(logprobs()), rarely(junk()), rarely(finish_reason()), any::<bool>()).prop_map(
        move |(index, message, logprobs, other, finish, finish_first)| {
            object([
                ("finish_reason", finish.clone().filter(|_| finish_first)),
                ("index", index),
                (body, Some(message)),
                ("logprobs", logprobs),
                ("other", other),
                ("finish_reason", finish.filter(|_| !finish_first)),
            ])
        },
    )
}

/// A chat completion, or with `delta` for `body` one event of a stream.
pub(super) fn chat(body: &'static str) -> impl Strategy<Value = Json> {
    let choices = vec(choice(body), 0..3).prop_map(Json::Array);
    let name = prop::sample::select(vec!["\"Qwen/Qwen3-0.6B\"", "\"\"", "null", "5", "\"a\\/b\""]).prop_map(raw);
    let timings = Just(raw(r#"{"prompt_n":3,"prompt_ms":12.5,"predicted_ms":1e3,"cache_n":1}"#));
    (rarely(name), choices, rarely(usage()), rarely(junk()), rarely(junk()), rarely(timings), 0..3_u8).prop_map(
        |(model, choices, usage, error, other, timings, turn)| {
            let mut members = vec![
                ("id", Some(raw("\"chatcmpl-1\""))),
                ("model", model),
                ("choices", Some(choices)),
                ("usage", usage),
                ("error", error),
                ("other", other),
                ("timings", timings),
            ];
            members.rotate_left(usize::from(turn));
            let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Json::Object(members.collect())
        },
    )
}

pub(super) fn layout() -> impl Strategy<Value = Layout> {
    prop::sample::select(vec![Layout::Compact, Layout::Compact, Layout::Spaced, Layout::Pretty])
}

/// One event, with other lines around it.
fn event() -> impl Strategy<Value = String> {
    let data = prop_oneof![
        8 => (chat("delta"), layout()).prop_map(|(chunk, layout)| chunk.render(layout)),
        1 => Just("[DONE]".to_owned()),
        1 => Just("engine is gone: {}".to_owned()),
        1 => Just(String::new()),
    ];
    let before =
        prop::sample::select(vec!["", ": ping\n", "event: message\n", "event: error\n", "id: 7\nretry\n", ":\n\n"]);
    (before, data, any::<bool>()).prop_map(|(before, data, space)| {
        let field = if space { "data: " } else { "data:" };
        let lines: String = data.split('\n').map(|line| format!("{field}{line}\n")).collect();
        format!("{before}{lines}\n")
    })
}

/// A stream, with one kind of line end.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let ends = prop::sample::select(vec!["\n", "\n", "\r\n", "\r"]);
    (vec(event(), 0..6), ends, any::<bool>()).prop_map(|(events, end, mark)| {
        let mark = if mark { "\u{FEFF}" } else { "" };
        format!("{mark}{}", events.concat().replace('\n', end)).into_bytes()
    })
}

/// Lengths of the pieces that a body arrives in, used in turn.
pub(super) fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![3 => 1..8_usize, 2 => 1..200_usize, 1 => Just(100_000)], 1..8)
}

/// `body` in pieces of these lengths.
pub(super) fn cut<'a>(body: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = body;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            return pieces;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Damage to some events: the index of the event, the place in it, a byte, and the kind of change.
pub(super) type Damage = (Index, Index, u8, u8);

pub(super) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    vec((any::<Index>(), any::<Index>(), any::<u8>(), 0..3_u8), 0..6)
}

/// The events after the damage.
pub(super) fn damaged(events: Vec<String>, damage: Vec<Damage>) -> Vec<Vec<u8>> {
    let mut events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
    for (event, at, byte, kind) in damage {
        let event = event.get_mut(&mut events);
        if event.is_empty() {
            continue;
        }
        let at = at.index(event.len());
        match kind {
            0 => event[at] = byte,
            1 => event.insert(at, byte),
            _ => event.truncate(at),
        }
    }
    events
}
