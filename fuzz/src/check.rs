//! Conditions that must hold for any bytes.

use llm_metrics::fuzzing::{self, Answer as Kind, Line};
use llm_metrics::quality_fuzzing::{self, Checked, Json};

use crate::answers::{self, Body};
use crate::events::{Answer, assert_same_name};
use crate::{allocations, cuts, json, requests, streams};

pub fn stream(bytes: &[u8], kind: Kind, body: Body) {
    let cuts = cuts::of(bytes);
    let reference = fuzzing::read(kind, false, [bytes]).calls;
    let expected = streams::read(bytes, body);
    if let Some(expected) = &expected {
        Answer::seen(reference.clone()).assert_is(expected);
    }
    let whole = vec![bytes];
    for pieces in cuts.iter().chain([&whole]) {
        let read = fuzzing::read(kind, false, pieces.iter().copied());
        assert_eq!(read.calls, reference, "cut like {pieces:?}");
        let known = fuzzing::read(kind, true, pieces.iter().copied());
        // Invalid JSON after a text, in an object that is skipped, may go unnoticed.
        if expected.is_some() || !known.trusted {
            assert_eq!(known.calls, reference, "known, cut like {pieces:?}");
        }
        allocations::none(|| fuzzing::skim(kind, pieces.iter().copied()));
    }
}

pub fn document(bytes: &[u8], kind: Kind, body: Body) {
    let reference = fuzzing::read(kind, true, [bytes]).calls;
    let unmarked = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
    // The first bytes may make the body an event stream.
    let parsed = std::str::from_utf8(unmarked).ok().and_then(json::parse);
    if let Some(document) = parsed.filter(answers::knows).as_ref().and_then(|document| document.as_object()) {
        let mut expected = Answer::default();
        let event = answers::read(document, body, &mut expected);
        expected.events.push(event);
        Answer::seen(reference.clone()).assert_is(&expected);
    }
    cut(bytes, kind, &reference);
}

/// An answer of any endpoint, with and without templates, cut in every way.
pub fn any(bytes: &[u8], kind: Kind) {
    let reference = fuzzing::read(kind, false, [bytes]).calls;
    let known = fuzzing::read(kind, true, [bytes]);
    if !known.trusted {
        assert_eq!(known.calls, reference, "known");
        cut(bytes, kind, &reference);
    }
}

fn cut(bytes: &[u8], kind: Kind, reference: &[fuzzing::SinkCall]) {
    for pieces in cuts::of(bytes) {
        assert_eq!(fuzzing::read(kind, true, pieces.iter().copied()).calls, reference, "cut like {pieces:?}");
        allocations::none(|| fuzzing::skim(kind, pieces.iter().copied()));
    }
}

pub fn framing(bytes: &[u8]) {
    let expected = streams::lines(bytes);
    assert_eq!(without_repeated_ends(fuzzing::lines([bytes])), without_repeated_ends(expected.clone()));
    let plain = |lines: Vec<Line>| {
        // In pieces it is not always known that a blank line follows.
        let forget = |line| if let Line::Data(data, _) = line { Line::Data(data, false) } else { line };
        without_repeated_ends(lines).into_iter().map(forget).collect::<Vec<_>>()
    };
    for pieces in cuts::of(bytes) {
        let lines = fuzzing::lines(pieces.iter().copied());
        for (at, line) in lines.iter().enumerate() {
            if matches!(line, Line::Data(_, true)) {
                assert_eq!(lines.get(at + 1), Some(&Line::EventEnd), "an event goes on that was to end");
            }
        }
        assert_eq!(plain(lines), plain(expected.clone()), "cut like {pieces:?}");
        allocations::none(|| fuzzing::skim_lines(pieces.iter().copied()));
        for split in [fuzzing::json_lines, fuzzing::document_lines] {
            assert_eq!(plain(split(&pieces)), plain(split(&[bytes])), "cut like {pieces:?}");
        }
    }
}

/// Blank lines after the first one end nothing.
fn without_repeated_ends(mut lines: Vec<Line>) -> Vec<Line> {
    lines.dedup_by(|next, line| *next == Line::EventEnd && *line == Line::EventEnd);
    lines
}

pub fn request(bytes: &[u8]) {
    let reference = fuzzing::request([bytes]);
    let unmarked = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
    if let Some(request) = std::str::from_utf8(unmarked).ok().and_then(json::parse).filter(answers::knows) {
        let mut seen = reference.clone();
        let mut expected = request.as_object().map(requests::read).unwrap_or_default();
        assert_same_name(seen.model.take().as_deref(), expected.model.take().as_deref());
        assert_eq!(seen, expected);
    }
    for pieces in cuts::of(bytes) {
        assert_eq!(fuzzing::request(pieces.iter().copied()), reference, "cut like {pieces:?}");
        allocations::none(|| fuzzing::skim_request(pieces.iter().copied()));
    }
}

/// The checks of output quality. The bytes are the text of an answer, and the arguments of a tool call.
pub fn quality(bytes: &[u8]) {
    let reference = said([bytes]);
    let expected = json::grammar(bytes);
    let whole = quality_fuzzing::json([bytes]);
    assert!(whole == expected || whole == Json::TooDeep, "{whole:?}, and serde_json says {expected:?}");
    for pieces in cuts::of(bytes) {
        assert_eq!(said(pieces.iter().copied()), reference, "cut like {pieces:?}");
        assert_eq!(quality_fuzzing::json(pieces.iter().copied()), whole, "cut like {pieces:?}");
        let mut checked = Checked::start();
        allocations::none(|| pieces.iter().for_each(|piece| _ = checked.read(piece)));
    }
}

fn said<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> (usize, Vec<String>) {
    let mut checked = Checked::start();
    let findings = pieces.into_iter().map(|piece| checked.read(piece)).sum();
    (findings, checked.end())
}
