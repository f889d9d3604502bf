//! Choices, and how the request ends.

use super::*;

#[test]
fn text_after_a_finish_reason_opens_the_choice_again() {
    let frames: [Emit<'_>; 3] = [&stop, &token, &token];
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
    let frames: [Emit<'_>; 2] = [&|frame| text_of(frame, 64), &|frame| finish(frame, 64, FinishReason::Stop)];
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
    let ends: [(&[Emit<'_>], _, _); 10] = [
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
