//! An event that only consists of a text may be emitted in one call. The result is the same as if its parts are emitted separately.

use proptest::prelude::*;

use super::{End, FrameSink, Request, Role};
use crate::{
    vocabulary::{FinishReason, Usage},
    wire::{Finality, Sink, TextKind},
};

#[derive(Clone, Debug)]
enum Event {
    Text(u32, TextKind, &'static str),
    Finish(u32),
    Usage(u64),
    Plain,
    Done,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let kinds =
        [TextKind::Answer, TextKind::Answer, TextKind::Reasoning, TextKind::Refusal, TextKind::ToolArguments(0)];
    let texts = ["a", " ", "<think>", "</think>", "<th", "ink>", "text of some length, longer than a word"];
    let index = prop_oneof![4 => Just(0_u32), 1 => 1..4_u32, 1 => 30..34_u32];
    let text = (index.clone(), prop::sample::select(kinds.to_vec()), prop::sample::select(texts.to_vec()))
        .prop_map(|(index, kind, text)| Event::Text(index, kind, text));
    let other = prop_oneof![
        index.prop_map(Event::Finish),
        (0..40_u64).prop_map(Event::Usage),
        Just(Event::Plain),
        Just(Event::Done)
    ];
    prop::collection::vec(prop_oneof![6 => text, 1 => other], 1..24)
}

fn emit(frame: &mut FrameSink<'_>, event: &Event, at_once: bool) {
    match event {
        Event::Text(choice, kind, text) if at_once => return frame.text_event(*choice, *kind, text.as_bytes()),
        Event::Text(choice, kind, text) => {
            frame.choice(*choice);
            frame.text(*choice, *kind, text.as_bytes());
        }
        Event::Finish(choice) => {
            frame.choice(*choice);
            frame.finish_reason(*choice, FinishReason::Stop);
        }
        Event::Usage(tokens) => frame.usage(Usage::new().output(*tokens), Finality::SoFar),
        Event::Plain => frame.plain_text(),
        Event::Done => frame.done(),
    }
    frame.event_end();
}

/// Everything that is recorded for these events, with `a_frame` events per frame. Times that the test does not set are left out.
fn recorded(asked: &str, events: &[Event], a_frame: usize, at_once: bool) -> Vec<String> {
    let mut request = Request::new("/v1/chat/completions", asked, Role::Server, |builder| builder.live_tokens(true));
    request.tracker.head(200, Some(true), Some(super::Framing::Events));
    for (at, events) in (1..).zip(events.chunks(a_frame)) {
        // Later than the end of the test by the clock: otherwise the time until the end would be a gap.
        request.at(3_600_000 + 10 * at, |frame| events.iter().for_each(|event| emit(frame, event, at_once)));
    }
    let recorded = request.end(End::Failed);
    let mut lines: Vec<String> = (recorded.0.iter())
        .filter(|(name, ..)| name != "llm_request_duration_seconds")
        .map(|(name, labels, value)| format!("{name}{labels:?} {value:?}"))
        .collect();
    lines.sort();
    lines
}

proptest! {
    #[test]
    fn a_text_emitted_in_one_call_counts_like_one_emitted_part_by_part(
        events in events(),
        a_frame in 1..4_usize,
        choices in 0..3_u8,
    ) {
        let n = if choices == 0 { String::new() } else { format!(",\"n\":{choices}") };
        let asked = format!("{{\"model\":\"m\",\"stream\":true{n}}}");
        let [whole, parts] = [true, false].map(|at_once| recorded(&asked, &events, a_frame, at_once));
        let differ: Vec<_> = whole.iter().zip(&parts).filter(|(whole, parts)| whole != parts).collect();
        prop_assert!(differ.is_empty() && whole.len() == parts.len(), "{differ:?}");
    }
}
