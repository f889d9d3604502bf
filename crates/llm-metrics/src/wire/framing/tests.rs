//! The calls of each framing for a body, without a protocol. They are the same however the body is split.

use proptest::prelude::*;

use super::{DocumentDecoder, Extent, Framing, LONGEST_NAME, LineSink, NdJsonDecoder, SseDecoder};

/// A call, with the pieces of one line joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LineCall {
    Data(Vec<u8>),
    Named(Vec<u8>),
    Error,
    EventEnd,
    BodyEnd,
}

#[derive(Default)]
struct Recorder {
    calls: Vec<LineCall>,
    /// A data line has begun and may continue.
    open: bool,
}

impl LineSink for Recorder {
    fn data(&mut self, data: &[u8], Extent { begins, ends, last }: Extent) {
        assert!(ends || !last, "an event ends that has not ended its line");
        assert!(begins || self.open, "a line goes on that has not begun");
        match self.calls.last_mut() {
            Some(LineCall::Data(line)) if !begins => line.extend_from_slice(data),
            _ => self.calls.push(LineCall::Data(data.to_vec())),
        }
        self.open = !ends;
    }
    fn named(&mut self, name: &[u8]) {
        // A name that is longer than any known name may be cut.
        self.calls.push(LineCall::Named(name[..name.len().min(LONGEST_NAME)].to_vec()));
    }
    fn error(&mut self) {
        self.calls.push(LineCall::Error);
    }
    fn event_ends(&mut self) {
        self.open = false;
        self.calls.push(LineCall::EventEnd);
    }
    fn body_ends(&mut self) {
        self.calls.push(LineCall::BodyEnd);
    }
}

fn line_calls<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<LineCall> {
    let mut recorder = Recorder::default();
    let (mut sse, mut lines, mut document) = (SseDecoder::new(), NdJsonDecoder::default(), DocumentDecoder::default());
    for piece in pieces {
        match framing {
            Framing::Events => sse.read(piece, &mut recorder),
            Framing::Lines => lines.read(piece, &mut recorder),
            Framing::Document => document.read(piece, &mut recorder),
        }
    }
    match framing {
        Framing::Events => sse.end(&mut recorder),
        Framing::Lines => lines.end(&mut recorder),
        Framing::Document => document.end(&mut recorder),
    }
    recorder.calls
}

fn data(text: &str) -> LineCall {
    LineCall::Data(text.into())
}

#[test]
fn each_framing_reads_a_body_as_its_specification_defines() {
    use LineCall::{BodyEnd, Error, EventEnd, Named};
    let name = |name: &str| Named(name.into());
    for (framing, body, expected) in [
        (Framing::Events, "data: a\n\n", vec![data("a"), EventEnd, BodyEnd]),
        (Framing::Events, "event: x\ndata: a\ndata:b\n\n", vec![name("x"), data("a"), data("b"), EventEnd, BodyEnd]),
        (Framing::Events, ": ping\n\ndata:  a\r\n\r\n", vec![EventEnd, data(" a"), EventEnd, BodyEnd]),
        (Framing::Events, "data: a\r\rid: 1\rretry: 9", vec![data("a"), EventEnd, BodyEnd]),
        (Framing::Events, "error: {}\n\nnonsense\n\n", vec![Error, EventEnd, EventEnd, BodyEnd]),
        (Framing::Events, "data: {\"a\":1}", vec![data("{\"a\":1}"), BodyEnd]),
        (Framing::Events, "", vec![BodyEnd]),
        (Framing::Lines, "{}\n{\"a\":1}\r\n", vec![data("{}"), EventEnd, data("{\"a\":1}\r"), EventEnd, BodyEnd]),
        (Framing::Lines, "\n\n{}", vec![EventEnd, EventEnd, data("{}"), BodyEnd]),
        (Framing::Lines, "", vec![BodyEnd]),
        (Framing::Document, "{\n\"data\": 1\n\n}", vec![data("{\n\"data\": 1\n\n}"), BodyEnd]),
        (Framing::Document, "", vec![BodyEnd]),
    ] {
        assert_eq!(line_calls(framing, [body.as_bytes()]), expected, "{framing:?} {body:?}");
        assert_eq!(line_calls(framing, body.as_bytes().chunks(1)), expected, "{framing:?} {body:?}, byte by byte");
    }
}

#[test]
fn the_prefix_and_suffix_of_an_event_are_those_that_its_framing_reads() {
    for (framing, name) in [(Framing::Events, None), (Framing::Events, Some("message_stop")), (Framing::Lines, None)] {
        let body = [&framing.lead(name).concat(), &b"{}"[..], framing.end()].concat();
        let named = name.map(|name| LineCall::Named(name.into()));
        let expected: Vec<LineCall> =
            named.into_iter().chain([data("{}"), LineCall::EventEnd, LineCall::BodyEnd]).collect();
        assert_eq!(line_calls(framing, [&body[..]]), expected, "{framing:?} {name:?}");
    }
}

fn body() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("data: "),
        Just("data:"),
        Just("event: "),
        Just("error: "),
        Just(":"),
        Just("\n"),
        Just("\n\n"),
        Just("\r"),
        Just("\r\n"),
        Just("{}"),
        Just("x"),
        Just(" "),
        Just("id: 1"),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_as_the_whole(body in body(), at in any::<(prop::sample::Index, prop::sample::Index)>()) {
        let bytes = body.as_bytes();
        let (first, second) = (at.0.index(bytes.len() + 1), at.1.index(bytes.len() + 1));
        let (first, second) = (first.min(second), first.max(second));
        for framing in [Framing::Events, Framing::Lines, Framing::Document] {
            let whole = line_calls(framing, [bytes]);
            prop_assert_eq!(&line_calls(framing, [&bytes[..first], &bytes[first..second], &bytes[second..]]), &whole);
            prop_assert_eq!(&line_calls(framing, bytes.chunks(1)), &whole);
        }
    }
}
