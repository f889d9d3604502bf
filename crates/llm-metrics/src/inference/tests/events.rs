//! The events that a reader emits, one by one.

use std::time::Duration;

use super::{End, FrameSink, Framing, Recorded, Request, Role};
use crate::{
    record::Objective,
    vocabulary::{ErrorType, FinishReason, InspectionFailure, Usage},
    wire::{Finality, Sink, TextKind, Timings},
};

const ASKED: &str = r#"{"model":"m","stream":true}"#;
const TWO: &str = r#"{"model":"m","stream":true,"n":2}"#;
const ITL: &str = "llm_inter_token_latency_seconds";
const TPOT: &str = "llm_time_per_output_token_seconds";
const MAX_GAP: &str = "llm_stream_max_gap_seconds";
const ANSWER: &str = "llm_time_to_first_answer_token_seconds";

type Tell<'a> = &'a dyn Fn(&mut FrameSink<'_>);

fn token(frame: &mut FrameSink<'_>) {
    text_of(frame, 0);
}

fn text_of(frame: &mut FrameSink<'_>, choice: u32) {
    says(frame, choice, "a");
}

fn says(frame: &mut FrameSink<'_>, choice: u32, text: &str) {
    frame.choice(choice);
    frame.text(choice, TextKind::Answer, text.as_bytes());
    frame.event_end();
}

fn thinks(frame: &mut FrameSink<'_>, text: &str) {
    frame.text(0, TextKind::Reasoning, text.as_bytes());
    frame.event_end();
}

/// Emits an event with text, and with the output tokens so far.
fn counted(frame: &mut FrameSink<'_>, choice: u32, tokens: u64) {
    frame.choice(choice);
    frame.text(choice, TextKind::Answer, b"a");
    usage(frame, Usage::new().output(tokens));
}

fn usage(frame: &mut FrameSink<'_>, usage: Usage) {
    frame.usage(usage, Finality::SoFar);
    frame.event_end();
}

fn finish(frame: &mut FrameSink<'_>, choice: u32, reason: FinishReason) {
    frame.choice(choice);
    frame.finish_reason(choice, reason);
    frame.event_end();
}

fn stop(frame: &mut FrameSink<'_>) {
    finish(frame, 0, FinishReason::Stop);
}

fn done(frame: &mut FrameSink<'_>) {
    frame.done();
    frame.event_end();
}

impl Request {
    /// Emits frames 10 ms apart, the first of them after 10 ms.
    fn each(mut self, frames: &[Tell<'_>]) -> Self {
        for (at, emit) in (1..).zip(frames) {
            self.at(10 * at, emit);
        }
        self
    }
}

fn implausible(recorded: &Recorded) -> u64 {
    recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "implausible")])
}

fn source(recorded: &Recorded, source: &str) {
    assert_eq!(recorded.counter("llm_usage_reports_total", &[("source", source)]), 1, "{:?}", recorded.nonzero());
}

fn output(recorded: &Recorded) -> u64 {
    recorded.counter("llm_output_tokens_total", &[])
}

// Counts.

#[test]
fn usage_of_each_choice_is_summed_and_sampled_separately() {
    let frames: [Tell<'_>; 7] = [
        &|frame| counted(frame, 0, 8),
        &|frame| counted(frame, 1, 1),
        &|frame| counted(frame, 0, 9),
        &|frame| counted(frame, 1, 3),
        &|frame| counted(frame, 0, 10),
        &|frame| finish(frame, 0, FinishReason::Stop),
        &|frame| finish(frame, 1, FinishReason::Stop),
    ];
    let cut = Request::streamed(TWO).each(&frames[..5]).end(End::Dropped { panicking: false });
    cut.assert_ended("cancelled", None);
    assert_eq!((output(&cut), cut.counter("llm_discarded_tokens_total", &[])), (13, 13));
    cut.assert_milliseconds(ITL, &[10.0, 10.0, 10.0, 20.0, 20.0]);
    cut.assert_milliseconds(MAX_GAP, &[10.0]);

    // The sum comes alone, or with the last choice.
    for choice in [None, Some(1)] {
        let mut whole = Request::streamed(TWO).each(&frames);
        whole.at(80, |frame| {
            choice.into_iter().for_each(|choice| frame.choice(choice));
            usage(frame, Usage::new().input(9).output(13));
        });
        let whole = whole.end(End::Complete);
        whole.assert_ended("success", None);
        assert_eq!(output(&whole), 13, "{choice:?}");
        source(&whole, "upstream");
        whole.assert_milliseconds(TPOT, &[]);
    }
}

#[test]
fn a_sum_in_every_event_of_several_choices_is_not_summed_again() {
    let frames: [Tell<'_>; 6] = [
        &|frame| counted(frame, 0, 1),
        &|frame| counted(frame, 1, 2),
        &|frame| counted(frame, 0, 3),
        &|frame| counted(frame, 1, 4),
        &|frame| counted(frame, 0, 5),
        &|frame| counted(frame, 1, 6),
    ];
    assert_eq!(output(&Request::streamed(TWO).each(&frames).end(End::Failed)), 6);
}

#[test]
fn tokens_without_text_belong_to_the_text_that_follows() {
    let request = Request::streamed(ASKED).each(&[
        &|frame| counted(frame, 0, 1),
        &|frame| usage(frame, Usage::new().output(2)),
        &|frame| usage(frame, Usage::new().output(3)),
        &|frame| counted(frame, 0, 4),
    ]);
    request.end(End::Failed).assert_milliseconds(ITL, &[10.0, 10.0, 10.0]);
}

#[test]
fn a_count_after_events_without_a_count_is_not_the_count_of_its_event() {
    let request = Request::streamed(ASKED).each(&[
        &|frame| counted(frame, 0, 1),
        &token,
        &token,
        &|frame| counted(frame, 0, 10),
        &|frame| counted(frame, 0, 12),
    ]);
    request.end(End::Failed).assert_milliseconds(ITL, &[5.0, 5.0, 10.0, 10.0, 10.0]);
}

#[test]
fn a_count_never_falls() {
    let recorded = Request::streamed(ASKED)
        .each(&[
            &token,
            &stop,
            &|frame| usage(frame, Usage::new().input(9).cached_input(4).output(7).reasoning(2)),
            &|frame| usage(frame, Usage::new().input(0).cached_input(0).output(0).reasoning(0)),
            &|frame| usage(frame, Usage::new().output(3)),
        ])
        .end(End::Complete);
    let counts = ["llm_input_tokens_total", "llm_input_cached_tokens_total", "llm_output_reasoning_tokens_total"];
    assert_eq!(counts.map(|name| recorded.counter(name, &[])), [9, 4, 2]);
    assert_eq!(output(&recorded), 7);
}

#[test]
fn two_counts_in_one_event_are_one() {
    let recorded = Request::streamed(ASKED)
        .each(&[&token, &|frame| {
            frame.usage(Usage::new().input(9).output(3), Finality::Final);
            usage(frame, Usage::new().output(0).reasoning(1));
        }])
        .end(End::Failed);
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 9);
    assert_eq!((output(&recorded), recorded.counter("llm_output_reasoning_tokens_total", &[])), (3, 1));
}

#[test]
fn zero_tokens_are_not_a_count_if_there_was_text() {
    let nothing = |frame: &mut FrameSink<'_>| usage(frame, Usage::new().input(0).output(0));
    let recorded = Request::streamed(ASKED).each(&[&token, &token, &stop, &nothing]).end(End::Complete);
    source(&recorded, "estimated");
    assert!(recorded.samples("llm_request_output_tokens").is_empty());
    assert!(recorded.samples("llm_request_input_tokens").is_empty());

    let recorded = Request::streamed(ASKED).each(&[&stop, &nothing]).end(End::Complete);
    source(&recorded, "upstream");
    assert_eq!(recorded.samples("llm_request_output_tokens"), [0.0], "there was no text, so 0 is a count");
}

#[test]
fn a_placeholder_before_the_first_token_is_not_a_count() {
    let begin = |frame: &mut FrameSink<'_>| usage(frame, Usage::new().input(25).output(1));
    let cut = Request::streamed(ASKED).each(&[&begin, &token, &token, &token]).end(End::Failed);
    source(&cut, "estimated");
    assert_eq!((output(&cut), cut.counter("llm_discarded_tokens_total", &[])), (0, 3));
    assert_eq!(cut.counter("llm_input_tokens_total", &[]), 25);

    let at_once = Request::streamed(ASKED).each(&[&begin]).end(End::Failed);
    assert_eq!(output(&at_once), 0);
    source(&at_once, "missing");

    let whole = Request::streamed(ASKED)
        .each(&[&begin, &token, &token, &stop, &|frame| {
            frame.usage(Usage::new().output(2), Finality::Final);
            frame.event_end();
        }])
        .end(End::Complete);
    source(&whole, "upstream");
    assert_eq!(output(&whole), 2);
}

#[test]
fn a_count_that_tokens_follow_is_a_minimum() {
    let at_least = |tokens| {
        let frames: [Tell<'_>; 4] = [&|frame| counted(frame, 0, tokens), &token, &token, &token];
        Request::streamed(ASKED).each(&frames).end(End::Failed)
    };
    assert_eq!(output(&at_least(9)), 9);
    source(&at_least(9), "upstream");
    source(&at_least(2), "estimated");
    assert_eq!(at_least(2).counter("llm_discarded_tokens_total", &[]), 4);
}

#[test]
fn a_count_below_the_events_is_kept_for_one_choice_but_not_for_two() {
    let one = |frame: &mut FrameSink<'_>| usage(frame, Usage::new().input(9).output(2));
    let recorded = Request::streamed(ASKED).each(&[&token, &token, &token, &stop, &one]).end(End::Complete);
    assert_eq!((output(&recorded), implausible(&recorded)), (2, 0), "a proxy may split text differently");

    let second = |frame: &mut FrameSink<'_>| text_of(frame, 1);
    let stop_second = |frame: &mut FrameSink<'_>| finish(frame, 1, FinishReason::Stop);
    let recorded =
        Request::streamed(TWO).each(&[&token, &second, &token, &stop, &stop_second, &one]).end(End::Complete);
    recorded.assert_ended("success", None);
    source(&recorded, "estimated");
    assert_eq!((output(&recorded), implausible(&recorded)), (0, 1));
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 9);
}

#[test]
fn a_whole_is_at_least_as_large_as_its_parts() {
    let beside = Usage::new().input(5).cached_input(7).output(2).reasoning(317);
    let recorded = Request::streamed(ASKED)
        .each(&[&|frame| thinks(frame, "Hm"), &token, &stop, &|frame| usage(frame, beside)])
        .end(End::Complete);
    assert_eq!((output(&recorded), recorded.counter("llm_output_reasoning_tokens_total", &[])), (319, 317));
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), 12);
    assert_eq!(recorded.counter("llm_input_cached_tokens_total", &[]), 7);

    // The handle reports the whole, and the response the part.
    let request = Request::streamed(ASKED);
    request.tracker.handle().usage(Usage::new().input(6).output(100));
    let recorded = request.each(&[&token, &stop, &|frame| usage(frame, beside)]).end(End::Complete);
    assert_eq!((output(&recorded), recorded.counter("llm_output_reasoning_tokens_total", &[])), (100, 100));
    assert_eq!(recorded.counter("llm_input_cached_tokens_total", &[]), 6);
}

#[test]
fn usage_in_two_events_is_combined() {
    let recorded = Request::streamed(ASKED)
        .each(&[&|frame| usage(frame, Usage::new().input(9)), &token, &stop, &|frame| {
            usage(frame, Usage::new().output(3));
        }])
        .end(End::Complete);
    assert_eq!((recorded.counter("llm_input_tokens_total", &[]), output(&recorded)), (9, 3));
}

#[test]
fn choices_without_text_or_counts_have_no_usage() {
    let recorded =
        Request::streamed(TWO).each(&[&stop, &|frame| finish(frame, 1, FinishReason::Stop)]).end(End::Complete);
    recorded.assert_ended("success", None);
    source(&recorded, "missing");
}

#[test]
fn a_sum_may_come_with_the_last_token_but_a_jump_in_between_is_not_a_sum() {
    let with = |tokens, reason: Option<FinishReason>| {
        let frames: [Tell<'_>; 3] = [&|frame| counted(frame, 0, 3), &|frame| counted(frame, 1, 1), &move |frame| {
            frame.choice(1);
            frame.text(1, TextKind::Answer, b"a");
            reason.into_iter().for_each(|reason| frame.finish_reason(1, reason));
            usage(frame, Usage::new().output(tokens));
        }];
        output(&Request::streamed(TWO).each(&frames).end(End::Failed))
    };
    assert_eq!(with(5, Some(FinishReason::Stop)), 5);
    assert_eq!(with(7, None), 10);
}

#[test]
fn tokens_are_in_the_counter_when_usage_arrives() {
    let mut request = Request::streamed(ASKED).each(&[&token, &token, &stop]);
    assert_eq!(output(&request.recorded()), 0);
    request.at(40, |frame| usage(frame, Usage::new().output(7)));
    assert_eq!(output(&request.recorded()), 7);
}

#[test]
fn tokens_reported_before_the_head_are_counted_when_it_arrives() {
    // Without a model in the request, there are no labels to count under before the head.
    let mut request = Request::new("/v1/chat/completions", "{}", Role::Server, |builder| builder);
    request.tracker.handle().tokens(3);
    assert_eq!(output(&request.recorded()), 0);
    request.tracker.handle().model("m");
    request.tracker.head(200, Some(true), Some(Framing::Events));
    assert_eq!(output(&request.recorded()), 3);
}

// The engine's own measurements.

fn measured(frame: &mut FrameSink<'_>, timings: Timings) {
    frame.timings(timings);
    frame.event_end();
}

const MEASURED: Timings = Timings {
    load: Some(Duration::from_millis(7)),
    prefill: Some(Duration::from_millis(20)),
    decode: Some(Duration::from_millis(90)),
    usage: Usage::new().input(9).cached_input(3).output(4),
};

#[test]
fn counts_in_the_engines_timings_are_used() {
    let recorded =
        Request::streamed(ASKED).each(&[&token, &token, &stop, &|frame| measured(frame, MEASURED)]).end(End::Complete);
    source(&recorded, "timings");
    assert_eq!((output(&recorded), recorded.counter("llm_input_tokens_total", &[])), (4, 9));
    assert_eq!(recorded.counter("llm_input_cached_tokens_total", &[]), 3);
    assert_eq!(recorded.samples("llm_request_output_tokens"), [4.0]);
    recorded.assert_milliseconds(TPOT, &[30.0]);
    recorded.assert_milliseconds("llm_request_queue_seconds", &[7.0]);
    recorded.assert_milliseconds("llm_request_prefill_seconds", &[20.0]);
    recorded.assert_milliseconds("llm_request_decode_seconds", &[90.0]);
}

#[test]
fn usage_takes_precedence_over_the_engines_counts_and_the_handle_over_both() {
    let frames: [Tell<'_>; 4] =
        [&token, &stop, &|frame| measured(frame, MEASURED), &|frame| usage(frame, Usage::new().output(5))];
    let recorded = Request::streamed(ASKED).each(&frames).end(End::Complete);
    source(&recorded, "upstream");
    assert_eq!((output(&recorded), recorded.counter("llm_input_tokens_total", &[])), (5, 9));

    let mut request = Request::streamed(ASKED);
    let handle = request.tracker.handle();
    handle.queue_time(Duration::from_millis(1));
    handle.prefill_time(Duration::from_millis(2));
    handle.decode_time(Duration::from_millis(50));
    handle.tokens(2);
    handle.usage(Usage::new().output(6));
    request = request.each(&frames);
    let recorded = request.end(End::Complete);
    source(&recorded, "engine");
    assert_eq!(recorded.samples("llm_request_output_tokens"), [6.0], "usage wins over what was counted live");
    recorded.assert_milliseconds(TPOT, &[10.0]);
    recorded.assert_milliseconds("llm_request_queue_seconds", &[1.0]);
    recorded.assert_milliseconds("llm_request_prefill_seconds", &[2.0]);
    recorded.assert_milliseconds("llm_request_decode_seconds", &[50.0]);
}

#[test]
fn the_engines_counts_of_one_choice_are_not_those_of_two() {
    let second = |frame: &mut FrameSink<'_>| text_of(frame, 1);
    let own = |frame: &mut FrameSink<'_>| {
        frame.timings(Timings { usage: Usage::new().output(2), ..MEASURED });
        frame.event_end();
    };
    let recorded = Request::streamed(TWO).each(&[&token, &second, &token, &second, &done, &own]).end(End::Complete);
    source(&recorded, "estimated");
    assert_eq!(output(&recorded), 0);
    recorded.assert_milliseconds(TPOT, &[90.0]);
}

#[test]
fn the_engines_counts_are_used_unless_they_are_known_to_be_incomplete() {
    let second = |frame: &mut FrameSink<'_>| text_of(frame, 1);
    let of = |tokens| {
        move |frame: &mut FrameSink<'_>| {
            frame.timings(Timings { usage: Usage::new().input(0).output(tokens), ..MEASURED });
            frame.event_end();
        }
    };
    // One choice, whose text a proxy may have split differently; and two choices, with as many tokens as were seen of both.
    let one = Request::streamed(ASKED).each(&[&token, &token, &token, &stop, &of(2)]).end(End::Complete);
    let two = Request::streamed(TWO).each(&[&token, &second, &done, &of(2)]).end(End::Complete);
    for recorded in [one, two] {
        source(&recorded, "timings");
        assert_eq!(output(&recorded), 2);
        assert!(recorded.samples("llm_request_input_tokens").is_empty(), "no prompt is empty");
    }
    let none = Request::streamed(ASKED).each(&[&stop, &of(0)]).end(End::Complete);
    source(&none, "missing");
}

#[test]
fn a_single_token_has_no_time_after_it() {
    let alone = Timings { usage: Usage::new().output(1), ..MEASURED };
    let recorded = Request::streamed(ASKED).each(&[&token, &stop, &|frame| measured(frame, alone)]).end(End::Complete);
    recorded.assert_milliseconds("llm_request_decode_seconds", &[]);
    recorded.assert_milliseconds(TPOT, &[]);

    let uncounted = Timings { usage: Usage::new(), ..MEASURED };
    let recorded = Request::streamed(ASKED)
        .each(&[&token, &stop, &|frame| measured(frame, uncounted), &|frame| usage(frame, Usage::new().output(1))])
        .end(End::Complete);
    recorded.assert_milliseconds("llm_request_decode_seconds", &[]);
}

#[test]
fn times_above_a_day_are_discarded() {
    let day = Duration::from_secs(24 * 3600);
    let absurd = Timings { load: Some(day + day), prefill: Some(day * 2), decode: Some(day), ..MEASURED };
    let request = Request::streamed(ASKED).each(&[&token, &|frame| measured(frame, absurd)]);
    request.tracker.handle().queue_time(day * 3);
    let recorded = request.end(End::Failed);
    assert_eq!(implausible(&recorded), 2, "once for the answer, once for the handle");
    recorded.assert_milliseconds("llm_request_queue_seconds", &[]);
    recorded.assert_milliseconds("llm_request_prefill_seconds", &[]);
    assert_eq!(recorded.samples("llm_request_decode_seconds"), [86400.0]);
}

#[test]
fn a_document_has_the_time_per_token_that_its_engine_reports() {
    let mut request = Request::new("/v1/chat/completions", "{}", Role::Server, |builder| builder);
    request.tracker.head(200, Some(false), Some(Framing::Document));
    request.at(10, |frame| {
        frame.choice(0);
        frame.text(0, TextKind::Answer, b"Hello");
        frame.finish_reason(0, FinishReason::Stop);
        frame.timings(MEASURED);
        frame.event_end();
    });
    let recorded = request.end(End::Complete);
    recorded.assert_ended("success", None);
    recorded.assert_milliseconds(TPOT, &[30.0]);
    recorded.assert_milliseconds("llm_time_to_first_token_seconds", &[]);
    recorded.assert_milliseconds(ITL, &[]);
}

// Time per output token, as measured in the response.

#[test]
fn the_last_token_comes_with_the_finish_reason() {
    let frames: [Tell<'_>; 4] = [&token, &token, &stop, &|frame| usage(frame, Usage::new().input(9).output(3))];
    Request::streamed(ASKED).each(&frames).end(End::Complete).assert_milliseconds(TPOT, &[10.0]);
}

#[test]
fn a_repeated_finish_reason_does_not_move_the_end() {
    let frames: [Tell<'_>; 5] = [&token, &token, &stop, &stop, &|frame| usage(frame, Usage::new().output(3))];
    Request::streamed(ASKED).each(&frames).end(End::Complete).assert_milliseconds(TPOT, &[10.0]);
    let reason_and_text = |frame: &mut FrameSink<'_>| {
        frame.choice(0);
        frame.text(0, TextKind::Answer, b"a");
        frame.finish_reason(0, FinishReason::Stop);
        frame.event_end();
    };
    let frames: [Tell<'_>; 4] =
        [&reason_and_text, &reason_and_text, &reason_and_text, &|frame| usage(frame, Usage::new().output(3))];
    Request::streamed(ASKED).each(&frames).end(End::Complete).assert_milliseconds(TPOT, &[10.0]);
}

#[test]
fn hidden_reasoning_tokens_do_not_lower_the_time_per_token() {
    let with = |first: Tell<'_>| {
        let objective = Objective::new("fast").time_per_output_token(Duration::from_millis(5));
        let mut request =
            Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder.objective(objective));
        request.tracker.head(200, Some(true), Some(Framing::Events));
        let total = Usage::new().output(1003).reasoning(1000);
        request.each(&[first, &token, &token, &stop, &|frame| usage(frame, total)]).end(End::Complete)
    };
    let recorded = with(&token);
    recorded.assert_milliseconds(TPOT, &[15.0]);
    assert_eq!(recorded.counter("llm_slo_requests_total", &[("result", "missed")]), 1);

    let recorded = with(&|frame| counted(frame, 0, 1001));
    recorded.assert_milliseconds(TPOT, &[15.0]);

    // The response has a summary of the reasoning, but not the reasoning itself, so its time is not known.
    let recorded = with(&|frame| thinks(frame, "Hm"));
    recorded.assert_milliseconds(TPOT, &[]);
    assert_eq!(recorded.counter("llm_slo_requests_total", &[]), 0);
}

#[test]
fn tokens_of_one_frame_have_no_time_between_them() {
    let three = |frame: &mut FrameSink<'_>| (0..3).for_each(|_| token(frame));
    let recorded = Request::streamed(ASKED).each(&[&three]).end(End::Failed);
    recorded.assert_milliseconds(TPOT, &[]);
    recorded.assert_milliseconds(ITL, &[]);
    let recorded = Request::streamed(ASKED).each(&[&three, &token, &token]).end(End::Failed);
    recorded.assert_milliseconds(TPOT, &[10.0]);
}

// Gaps.

#[test]
fn the_longest_gap_is_neither_the_first_nor_the_last() {
    let mut request = Request::streamed(ASKED);
    for at in [10, 20, 60, 70] {
        request.at(at, token);
    }
    request.at(75, stop);
    let recorded = request.end(End::Complete);
    recorded.assert_milliseconds(MAX_GAP, &[40.0]);
    recorded.assert_milliseconds(ITL, &[10.0, 10.0, 40.0]);
}

#[test]
fn silence_before_an_incomplete_end_is_a_gap() {
    let mut request = Request::streamed(ASKED);
    request.at(0, token).at(0, token);
    std::thread::sleep(Duration::from_millis(20));
    let recorded = request.end(End::Failed);
    assert!(recorded.samples(MAX_GAP)[0] >= 0.02, "{:?}", recorded.samples(MAX_GAP));

    let mut request = Request::streamed(ASKED);
    request.at(0, token).at(0, token).at(0, stop);
    std::thread::sleep(Duration::from_millis(20));
    request.end(End::Complete).assert_milliseconds(MAX_GAP, &[0.0]);
}

#[test]
fn a_stall_is_longer_than_its_threshold() {
    let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| {
        builder.stall_threshold(Duration::from_millis(20))
    });
    request.tracker.head(200, Some(true), Some(Framing::Events));
    request.at(10, token).at(30, token);
    assert_eq!(request.recorded().counter("llm_stream_stalls_total", &[]), 0);
    request.at(51, token);
    assert_eq!(request.recorded().counter("llm_stream_stalls_total", &[]), 1);
}

#[test]
fn the_clock_is_not_read_for_events_without_a_time() {
    let mut request = Request::streamed(ASKED);
    let mut frame = request.tracker.frame();
    frame.choice(0);
    usage(&mut frame, Usage::new().input(9));
    frame.end_at(|| panic!("neither a token nor a reason"));
}

#[test]
fn each_choice_has_its_own_gaps() {
    let second = |frame: &mut FrameSink<'_>| text_of(frame, 1);
    let both = |frame: &mut FrameSink<'_>| {
        (0..2).for_each(|choice| {
            frame.choice(choice);
            frame.text(choice, TextKind::Answer, b"a");
        });
        frame.event_end();
    };
    let recorded = Request::streamed(TWO).each(&[&token, &second, &token, &second, &both]).end(End::Failed);
    // The first token of the second choice is measured from the token before it.
    recorded.assert_milliseconds(ITL, &[10.0, 10.0, 20.0, 20.0, 20.0]);
    recorded.assert_milliseconds(MAX_GAP, &[10.0]);
    recorded.assert_milliseconds(TPOT, &[]);
}

#[test]
fn the_index_of_a_choice_may_come_after_its_text() {
    let late = |frame: &mut FrameSink<'_>| {
        frame.choice(0);
        frame.text(0, TextKind::Answer, b"a");
        frame.moved(0, 1);
        frame.choice(1);
        frame.event_end();
    };
    let recorded = Request::streamed(TWO)
        .each(&[&token, &stop, &late, &late, &|frame| finish(frame, 1, FinishReason::Stop)])
        .end(End::Complete);
    recorded.assert_ended("success", None);
    recorded.assert_milliseconds(ITL, &[10.0, 20.0]);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[]), 2);
}

#[test]
fn text_that_is_moved_to_a_finished_choice_opens_it_again() {
    let second = |frame: &mut FrameSink<'_>| finish(frame, 1, FinishReason::Stop);
    let text = |frame: &mut FrameSink<'_>, choice| {
        frame.choice(choice);
        frame.text(choice, TextKind::Answer, b"a");
    };
    // If the choice was only seen, that does not open it again. Text opens it, also if the choice has text already.
    let seen = |frame: &mut FrameSink<'_>| {
        frame.choice(0);
        frame.moved(0, 1);
        frame.event_end();
    };
    let with_text = |frame: &mut FrameSink<'_>| {
        text(frame, 0);
        frame.moved(0, 1);
        frame.event_end();
    };
    let both = |frame: &mut FrameSink<'_>| {
        text(frame, 1);
        text(frame, 0);
        frame.moved(0, 1);
        frame.event_end();
    };
    for (emit, outcome, error) in [
        (&seen as Tell<'_>, "success", None),
        (&with_text, "error", Some("stream_truncated")),
        (&both, "error", Some("stream_truncated")),
    ] {
        Request::streamed(TWO).each(&[&token, &stop, &second, emit]).end(End::Complete).assert_ended(outcome, error);
    }
}

#[test]
fn time_without_tokens_of_the_engine_is_added_to_the_next_tokens() {
    let mut request = Request::streamed(ASKED);
    let handle = request.tracker.handle();
    handle.tokens(2);
    // Two tokens have one gap; no token is left for the third event.
    request.at(10, token).at(20, token).at(40, token);
    handle.tokens(1);
    request.at(50, token);
    request.end(End::Failed).assert_milliseconds(ITL, &[10.0, 30.0]);
}

#[test]
fn events_of_one_frame_have_as_many_tokens_as_a_step_of_the_engine_each() {
    let mut request = Request::streamed(ASKED);
    let handle = request.tracker.handle();
    handle.tokens(3);
    request.at(10, token);
    handle.tokens(3);
    handle.tokens(3);
    request.at(20, |frame| (0..2).for_each(|_| token(frame)));
    assert_eq!(request.end(End::Failed).samples(ITL).len(), 6);
}

#[test]
fn every_event_of_a_frame_may_have_64_samples() {
    let mut request = Request::streamed(ASKED);
    request.at(10, |frame| counted(frame, 0, 1)).at(20, |frame| {
        counted(frame, 0, 101);
        counted(frame, 0, 201);
    });
    let samples = request.end(End::Failed).samples(ITL);
    assert_eq!(samples.len(), 128);
    assert!(samples.iter().all(|sample| (sample - 0.01 / 200.0).abs() < 1e-12));
}

// Tags.

#[test]
fn a_lone_closing_tag_turns_the_text_before_it_in_the_frame_into_reasoning() {
    let mut request = Request::streamed(ASKED);
    request
        .at(10, |frame| {
            says(frame, 0, "hm");
            says(frame, 0, "</think>");
        })
        .at(30, |frame| says(frame, 0, "Yes"));
    let recorded = request.end(End::Failed);
    recorded.assert_milliseconds(ANSWER, &[30.0]);
    recorded.assert_milliseconds("llm_reasoning_duration_seconds", &[20.0]);

    let mut request = Request::streamed(ASKED);
    request
        .at(10, |frame| {
            frame.text(0, TextKind::Answer, b"hm");
            says(frame, 0, "</think>");
        })
        .at(30, |frame| says(frame, 0, "Yes"));
    request.end(End::Failed).assert_milliseconds(ANSWER, &[30.0]);
}

#[test]
fn an_answer_may_mention_tags() {
    let answers = |first: Tell<'_>| {
        Request::streamed(ASKED)
            .each(&[first, &|frame| says(frame, 0, "Close it with"), &|frame| says(frame, 0, "`</think>`"), &stop])
            .end(End::Complete)
    };
    answers(&|frame| thinks(frame, "hm")).assert_milliseconds(ANSWER, &[20.0]);
    answers(&|frame| says(frame, 0, "<think>hm</think>")).assert_milliseconds(ANSWER, &[20.0]);
    let names_both = answers(&|frame| says(frame, 0, "Open it with `<think>`."));
    names_both.assert_milliseconds(ANSWER, &[10.0]);
    assert_eq!(names_both.counter("llm_requests_total", &[("thinking", "false")]), 1);
}

#[test]
fn only_the_first_choice_is_used_for_the_time_of_the_answer() {
    let recorded = Request::streamed(TWO).each(&[&|frame| says(frame, 1, "Yes"), &token]).end(End::Failed);
    recorded.assert_milliseconds(ANSWER, &[20.0]);
    let recorded = Request::streamed(TWO)
        .each(&[&|frame| says(frame, 0, "<think>hm"), &|frame| says(frame, 1, "Yes"), &|frame| {
            says(frame, 0, "</think>Yes");
        }])
        .end(End::Failed);
    recorded.assert_milliseconds(ANSWER, &[30.0]);
}

#[test]
fn blank_reasoning_is_not_reasoning() {
    let recorded = Request::streamed(ASKED).each(&[&|frame| thinks(frame, " \n"), &token, &stop]).end(End::Complete);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "false")]), 1);
    let recorded = Request::streamed(ASKED).each(&[&|frame| thinks(frame, " \nhm"), &token, &stop]).end(End::Complete);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "true")]), 1);
}

#[test]
fn tokens_that_only_the_handle_reported_are_output_without_reasoning() {
    let mut request = Request::new("/v1/chat/completions", r#"{"enable_thinking":true}"#, Role::Server, |b| b);
    request.tracker.head(200, Some(true), Some(Framing::Events));
    request.tracker.handle().tokens(1);
    assert_eq!(request.end(End::Failed).counter("llm_requests_total", &[("thinking", "false")]), 1);
}

#[test]
fn no_reasoning_and_no_output_are_not_counted() {
    for (asked, usage, thinking) in [
        (r#"{"model":"m"}"#, Usage::new().reasoning(0), "unknown"),
        (r#"{"enable_thinking":true}"#, Usage::new().output(0), "true"),
        (r#"{"enable_thinking":true}"#, Usage::new().output(1), "false"),
        (r#"{"enable_thinking":true}"#, Usage::new().output(1).reasoning(1), "true"),
    ] {
        let mut request = Request::new("/v1/chat/completions", asked, Role::Server, |builder| builder);
        request.tracker.head(200, Some(false), None);
        request.tracker.handle().usage(usage);
        let recorded = request.end(End::Complete);
        assert_eq!(recorded.counter("llm_requests_total", &[("thinking", thinking)]), 1, "{asked} {usage:?}");
    }
}

// Choices, and how the request ends.

#[test]
fn text_after_a_finish_reason_opens_the_choice_again() {
    let frames: [Tell<'_>; 3] = [&stop, &token, &token];
    let cut = Request::streamed(ASKED).each(&frames);
    let metrics = cut.tracker.shared().metrics.clone();
    let cut = cut.end(End::Failed);
    assert_eq!(metrics.recent_requests(1)[0].finish_reason, None);
    cut.assert_ended("error", Some("stream_truncated"));
    assert_eq!(cut.counter("llm_finish_reasons_total", &[("finish_reason", "stop")]), 0);
    assert_eq!(cut.counter("llm_finish_reasons_total", &[("finish_reason", "missing")]), 1);
    Request::streamed(ASKED).each(&frames).end(End::Dropped { panicking: false }).assert_ended("cancelled", None);

    let whole = Request::streamed(ASKED).each(&[&stop, &token, &token, &done]);
    let metrics = whole.tracker.shared().metrics.clone();
    let whole = whole.end(End::Complete);
    assert_eq!(metrics.recent_requests(1)[0].finish_reason, Some(FinishReason::Stop));
    whole.assert_ended("success", None);
    assert_eq!(whole.counter("llm_finish_reasons_total", &[("finish_reason", "stop")]), 1);
    assert_eq!(whole.counter("llm_finish_reasons_total", &[]), 1);
}

#[test]
fn if_every_event_has_a_finish_reason_the_last_one_counts() {
    let with = |reason| {
        move |frame: &mut FrameSink<'_>| {
            frame.choice(0);
            frame.text(0, TextKind::Answer, b"a");
            frame.finish_reason(0, reason);
            frame.event_end();
        }
    };
    let recorded = Request::streamed(ASKED)
        .each(&[&with(FinishReason::Error), &with(FinishReason::Stop), &with(FinishReason::Length)])
        .end(End::Complete);
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "length")]), 1);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[]), 1);
}

#[test]
fn a_response_that_the_engine_has_abandoned_is_an_error() {
    for reason in [FinishReason::Error, FinishReason::Abort] {
        let recorded =
            Request::streamed(ASKED).each(&[&token, &|frame| finish(frame, 0, reason), &done]).end(End::Complete);
        recorded.assert_ended("error", Some("stream_error"));
    }
}

#[test]
fn a_response_that_its_caller_has_cancelled_is_not_an_error() {
    let cancelled = |frame: &mut FrameSink<'_>| {
        frame.cancelled();
        frame.event_end();
    };
    Request::streamed(ASKED).each(&[&token, &cancelled, &done]).end(End::Complete).assert_ended("cancelled", None);
}

#[test]
fn a_choice_that_begins_after_another_has_finished_has_to_finish_too() {
    let second = |frame: &mut FrameSink<'_>| text_of(frame, 1);
    let asked = r#"{"model":"m"}"#;
    let recorded = Request::new_completion(asked).each(&[&token, &stop, &second]).end(End::Failed);
    recorded.assert_ended("error", Some("stream_truncated"));
}

impl Request {
    fn new_completion(asked: &str) -> Self {
        let mut request = Self::new("/v1/completions", asked, Role::Server, |builder| builder);
        request.tracker.head(200, Some(true), Some(Framing::Events));
        request
    }
}

#[test]
fn an_answer_is_complete_when_all_requested_choices_have_finished() {
    for end in [End::Failed, End::Complete] {
        let recorded = Request::streamed(TWO).each(&[&token, &stop]).end(end);
        recorded.assert_ended("error", Some("stream_truncated"));
    }
    let cancelled = End::Dropped { panicking: false };
    Request::streamed(TWO).each(&[&token, &stop]).end(cancelled).assert_ended("cancelled", None);
    Request::streamed(TWO).each(&[&token, &stop, &done]).end(End::Failed).assert_ended("success", None);
    let second = |frame: &mut FrameSink<'_>| finish(frame, 1, FinishReason::Stop);
    Request::streamed(TWO).each(&[&token, &stop, &second]).end(End::Failed).assert_ended("success", None);
    // `0`, and values that were not read, say nothing.
    for asked in [r#"{"n":0}"#, r#"{"n":null}"#, "{}"] {
        Request::streamed(asked).each(&[&token, &stop]).end(End::Failed).assert_ended("success", None);
    }
}

#[test]
fn an_index_that_counts_tokens_does_not_create_choices() {
    let recorded = Request::streamed(ASKED)
        .each(&[&|frame| text_of(frame, 1), &|frame| text_of(frame, 2), &|frame| text_of(frame, 3), &|frame| {
            finish(frame, 4, FinishReason::Length);
        }])
        .end(End::Failed);
    recorded.assert_ended("success", None);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[]), 1);
    recorded.assert_milliseconds(ANSWER, &[10.0]);
    recorded.assert_milliseconds(ITL, &[10.0, 10.0]);

    // Two texts in one event belong to two choices, whatever the request asked for. So do two prompts.
    let both = |frame: &mut FrameSink<'_>| {
        (0..2).for_each(|choice| frame.text(choice, TextKind::Answer, b"a"));
        frame.event_end();
    };
    let recorded = Request::streamed(ASKED).each(&[&both, &stop]).end(End::Failed);
    recorded.assert_ended("error", Some("stream_truncated"));
    let recorded = Request::new_completion(ASKED).each(&[&token, &|frame| text_of(frame, 1), &stop]).end(End::Failed);
    recorded.assert_ended("error", Some("stream_truncated"));
}

#[test]
fn the_only_choice_may_have_a_high_index() {
    let frames: [Tell<'_>; 2] = [&|frame| text_of(frame, 64), &|frame| finish(frame, 64, FinishReason::Stop)];
    Request::new_completion("{}").each(&frames[..1]).end(End::Failed).assert_ended("error", Some("stream_truncated"));
    Request::new_completion("{}").each(&frames).end(End::Failed).assert_ended("success", None);
}

#[test]
fn plain_text_is_an_error_unless_the_stream_continues() {
    let plain = |frame: &mut FrameSink<'_>| {
        frame.plain_text();
        frame.event_end();
    };
    let no_json = |frame: &mut FrameSink<'_>| {
        frame.failure(InspectionFailure::Malformed);
        frame.event_end();
    };
    let too_large = |frame: &mut FrameSink<'_>| {
        frame.failure(InspectionFailure::TooLarge);
        frame.event_end();
    };
    let ends: [(&[Tell<'_>], _, _); 10] = [
        (&[&token, &plain, &token, &stop], "success", None),
        (&[&token, &plain, &stop, &done], "success", None),
        (&[&token, &stop, &plain], "success", None),
        (&[&token, &plain], "error", Some("stream_error")),
        (&[&token, &plain, &done], "error", Some("stream_error")),
        (&[&token, &plain, &token], "error", Some("stream_truncated")),
        (&[&token, &no_json, &done], "error", Some("stream_error")),
        (&[&token, &no_json, &token, &done], "success", None),
        (&[&token, &stop, &no_json, &done], "success", None),
        (&[&token, &too_large, &done], "success", None),
    ];
    for (at, (frames, outcome, error)) in ends.into_iter().enumerate() {
        println!("{at}");
        Request::streamed(ASKED).each(frames).end(End::Complete).assert_ended(outcome, error);
    }
}

#[test]
fn an_error_in_the_answer_has_the_type_that_the_answer_gives() {
    use ErrorType::{InvalidRequest, Overloaded, RateLimited, Unauthorized};
    let ended_with = |kinds: &[Option<ErrorType>], kind, framing: Option<Framing>| {
        let mut request = Request::new("/v1/chat/completions", ASKED, kind, |builder| builder);
        request.tracker.head(200, framing.map(Framing::is_stream), framing);
        request.at(10, |frame| {
            if framing == Some(Framing::Events) {
                token(frame);
            }
            for kind in kinds {
                frame.error(*kind);
                frame.event_end();
            }
            frame.done();
            frame.event_end();
        });
        request.end(End::Complete)
    };
    let (server, proxy) = (Role::Server, Role::Client);
    let (stream, document) = (Some(Framing::Events), Some(Framing::Document));
    for (kinds, side, framing, outcome, error) in [
        (&[None] as &[_], server, stream, "error", "stream_error"),
        (&[None, Some(Overloaded), Some(InvalidRequest)], server, stream, "error", "overloaded"),
        (&[Some(InvalidRequest), None], server, stream, "rejected", "invalid_request"),
        (&[Some(RateLimited)], proxy, stream, "rejected", "rate_limited"),
        (&[Some(Unauthorized)], server, stream, "rejected", "unauthorized"),
        (&[Some(Unauthorized)], proxy, stream, "error", "unauthorized"),
        (&[Some(InvalidRequest)], server, document, "rejected", "invalid_request"),
        (&[None], server, document, "error", "internal"),
        (&[None], proxy, document, "error", "upstream_error"),
    ] {
        let recorded = ended_with(kinds, side, framing);
        recorded.assert_ended(outcome, Some(error));
        let discarded = u64::from(framing == stream);
        assert_eq!(recorded.counter("llm_discarded_tokens_total", &[("reason", "stream_error")]), discarded);
    }
}

#[test]
fn a_document_that_is_cut_is_not_a_success() {
    for (framing, outcome, error) in [
        (Some(Framing::Document), "error", Some("internal")),
        (Some(Framing::Events), "error", Some("stream_truncated")),
    ] {
        let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
        request.tracker.head(200, framing.map(Framing::is_stream), framing);
        request.tracker.last_frame().failure(InspectionFailure::Malformed);
        request.end(End::Complete).assert_ended(outcome, error);
    }
    let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
    request.tracker.head(200, Some(false), Some(Framing::Document));
    request.at(10, |frame| frame.failure(InspectionFailure::Malformed));
    request.end(End::Complete).assert_ended("success", None);
}

#[test]
fn an_answer_without_a_choice_is_counted_as_such() {
    let no_choices =
        |recorded: &Recorded| recorded.counter("llm_metrics_inspection_failures_total", &[("kind", "no_choices")]);
    let empty = Request::streamed(ASKED).each(&[&done]).end(End::Complete);
    empty.assert_ended("success", None);
    assert_eq!(no_choices(&empty), 1);
    assert_eq!(no_choices(&Request::streamed(ASKED).each(&[&stop]).end(End::Complete)), 0);
    assert_eq!(no_choices(&Request::streamed(ASKED).each(&[]).end(End::Complete)), 0, "it was cut");
    let mut unread = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
    unread.tracker.head(200, None, None);
    assert_eq!(no_choices(&unread.end(End::Complete)), 0);
}

#[test]
fn without_a_content_type_the_request_decides_whether_it_is_a_stream() {
    for (asked, said, streamed) in
        [(ASKED, None, "true"), (ASKED, Some(false), "false"), ("{}", Some(true), "true"), ("{}", None, "false")]
    {
        let mut request = Request::new("/v1/chat/completions", asked, Role::Server, |builder| builder);
        request.tracker.head(200, said, Some(Framing::Events));
        request.at(10, token);
        let recorded = request.end(End::Failed);
        assert_eq!(recorded.counter("llm_requests_total", &[("stream", streamed)]), 1, "{asked} {said:?}");
        assert_eq!(recorded.samples("llm_time_to_first_token_seconds").len(), usize::from(streamed == "true"));
    }
}

// Names.

#[test]
fn names_are_learnt_from_requests_that_failed_without_the_callers_fault() {
    let named = |status: u16, end| {
        let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
        request.tracker.head(status, None, None);
        request.end(end).counter("llm_requests_total", &[("model", "m")])
    };
    for status in [200, 500, 503, 504] {
        assert_eq!(named(status, End::Complete), 1, "{status}");
    }
    for status in [302, 400, 401, 404, 429, 499] {
        assert_eq!(named(status, End::Complete), 0, "{status}");
    }
    assert_eq!(named(200, End::Dropped { panicking: false }), 1);
    let without_head = |end| {
        let request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
        request.end(end).counter("llm_requests_total", &[("model", "m")])
    };
    assert_eq!(without_head(End::ServiceError(ErrorType::UpstreamUnavailable)), 1);
    assert_eq!(without_head(End::ServiceError(ErrorType::InvalidRequest)), 0);
    assert_eq!(without_head(End::Dropped { panicking: false }), 0);
}

#[test]
fn a_redirect_counts_no_usage() {
    let mut request = Request::new("/v1/chat/completions", ASKED, Role::Server, |builder| builder);
    request.tracker.head(302, None, None);
    assert_eq!(request.end(End::Complete).counter("llm_usage_reports_total", &[]), 0);
}

#[test]
fn the_model_may_be_named_after_usage() {
    let mut request = Request::new("/v1/chat/completions", "{}", Role::Server, |builder| builder);
    request.tracker.head(200, Some(false), Some(Framing::Document));
    request.at(10, |frame| frame.usage(Usage::new().output(3), Finality::Final));
    request.at(20, |frame| {
        frame.model("late");
        frame.event_end();
    });
    assert_eq!(request.end(End::Complete).counter("llm_output_tokens_total", &[("model", "late")]), 3);
}
