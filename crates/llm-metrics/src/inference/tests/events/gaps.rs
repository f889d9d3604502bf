//! Time per output token and gaps, as measured in the response.

use super::*;

#[test]
fn the_last_token_comes_with_the_finish_reason() {
    let frames: [Emit<'_>; 4] = [&token, &token, &stop, &|frame| usage(frame, Usage::new().input(9).output(3))];
    Request::streamed(ASKED).each(&frames).end(End::Complete).assert_milliseconds(TPOT, &[10.0]);
}

#[test]
fn a_repeated_finish_reason_does_not_move_the_end() {
    let frames: [Emit<'_>; 5] = [&token, &token, &stop, &stop, &|frame| usage(frame, Usage::new().output(3))];
    Request::streamed(ASKED).each(&frames).end(End::Complete).assert_milliseconds(TPOT, &[10.0]);
    let reason_and_text = |frame: &mut FrameSink<'_>| {
        frame.choice(0);
        frame.text(0, TextKind::Answer, b"a");
        frame.finish_reason(0, FinishReason::Stop);
        frame.event_end();
    };
    let frames: [Emit<'_>; 4] =
        [&reason_and_text, &reason_and_text, &reason_and_text, &|frame| usage(frame, Usage::new().output(3))];
    Request::streamed(ASKED).each(&frames).end(End::Complete).assert_milliseconds(TPOT, &[10.0]);
}

#[test]
fn hidden_reasoning_tokens_do_not_lower_the_time_per_token() {
    let with = |first: Emit<'_>| {
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
        (&seen as Emit<'_>, "success", None),
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
