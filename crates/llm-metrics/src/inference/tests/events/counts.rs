//! Counts of tokens.

use super::*;

#[test]
fn usage_of_each_choice_is_summed_and_sampled_separately() {
    let frames: [Emit<'_>; 7] = [
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
    let frames: [Emit<'_>; 6] = [
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
        let frames: [Emit<'_>; 4] = [&|frame| counted(frame, 0, tokens), &token, &token, &token];
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
        let frames: [Emit<'_>; 3] = [&|frame| counted(frame, 0, 3), &|frame| counted(frame, 1, 1), &move |frame| {
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
