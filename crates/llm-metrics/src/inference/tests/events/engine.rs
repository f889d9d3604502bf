//! The engine's own measurements.

use super::*;

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
    let frames: [Emit<'_>; 4] =
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
    let of_one_choice = Timings { usage: Usage::new().output(2), ..MEASURED };
    let frames: [Emit<'_>; 6] = [&token, &second, &token, &second, &done, &|frame| measured(frame, of_one_choice)];
    let recorded = Request::streamed(TWO).each(&frames).end(End::Complete);
    source(&recorded, "estimated");
    assert_eq!(output(&recorded), 0);
    recorded.assert_milliseconds(TPOT, &[90.0]);
}

#[test]
fn the_engines_counts_are_used_unless_they_are_known_to_be_incomplete() {
    let second = |frame: &mut FrameSink<'_>| text_of(frame, 1);
    let of = |tokens| {
        move |frame: &mut FrameSink<'_>| {
            measured(frame, Timings { usage: Usage::new().input(0).output(tokens), ..MEASURED });
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
