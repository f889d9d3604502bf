//! How a request ends, for each combination of the facts that decide it.

use super::End;
use crate::{
    inference::verdict::{AnswerState, OutcomeFacts, Verdict},
    vocabulary::{DiscardReason, ErrorType, Outcome},
    wire::Framing,
};

/// The facts of a stream at a server with a successful response head. The body ended before the answer was complete.
const CUT: OutcomeFacts = OutcomeFacts {
    end: End::Complete,
    status: Some(200),
    framing: Some(Framing::Events),
    answer: AnswerState::Open,
    reported: None,
    proxy: false,
};

#[track_caller]
fn assert_ends(facts: OutcomeFacts, outcome: Outcome, error: Option<ErrorType>, discard: Option<DiscardReason>) {
    assert_eq!(facts.verdict(), Verdict { outcome, error, discard }, "{facts:?}");
}

#[test]
fn the_transport_decides_if_nothing_else_does() {
    use DiscardReason::ClientDisconnect;
    use ErrorType::{Internal, StreamTruncated, UpstreamError};
    let left = End::Dropped { panicking: false };
    let panics = End::Dropped { panicking: true };
    let truncated = Some(DiscardReason::StreamTruncated);
    for proxy in [false, true] {
        let cut = OutcomeFacts { proxy, ..CUT };
        let server_error = Some(if proxy { UpstreamError } else { Internal });
        assert_ends(cut, Outcome::Error, Some(StreamTruncated), truncated);
        assert_ends(OutcomeFacts { end: End::Failed, ..cut }, Outcome::Error, Some(StreamTruncated), truncated);
        assert_ends(OutcomeFacts { end: left, ..cut }, Outcome::Cancelled, None, Some(ClientDisconnect));
        assert_ends(OutcomeFacts { end: panics, ..cut }, Outcome::Error, Some(Internal), None);
        for framing in [None, Some(Framing::Document)] {
            let cut = OutcomeFacts { framing, ..cut };
            assert_ends(cut, Outcome::Success, None, None);
            assert_ends(OutcomeFacts { end: End::Failed, ..cut }, Outcome::Error, server_error, None);
            assert_ends(OutcomeFacts { end: left, ..cut }, Outcome::Cancelled, None, Some(ClientDisconnect));
            assert_ends(OutcomeFacts { end: panics, ..cut }, Outcome::Error, Some(Internal), None);
        }
        for end in [End::Complete, End::Failed, left, panics] {
            assert_ends(OutcomeFacts { end, answer: AnswerState::Complete, ..cut }, Outcome::Success, None, None);
        }
        // A client may leave an answer that is generated in the background, but a broken connection is an error.
        let later = OutcomeFacts { answer: AnswerState::Deferred, ..cut };
        assert_ends(later, Outcome::Success, None, None);
        assert_ends(OutcomeFacts { end: End::Failed, ..later }, Outcome::Error, Some(StreamTruncated), truncated);
        assert_ends(OutcomeFacts { end: left, ..later }, Outcome::Cancelled, None, Some(ClientDisconnect));
        assert_ends(OutcomeFacts { end: panics, ..later }, Outcome::Error, Some(Internal), None);
    }
}

#[test]
fn credentials_that_the_upstream_of_a_proxy_refuses_are_those_of_the_proxy() {
    let (callers, ours) = (Outcome::Rejected, Outcome::Error);
    for (status, at_a_server, at_a_proxy) in [
        (401, (callers, ErrorType::Unauthorized), (ours, ErrorType::Unauthorized)),
        (402, (callers, ErrorType::InvalidRequest), (ours, ErrorType::Unauthorized)),
        (403, (callers, ErrorType::Unauthorized), (callers, ErrorType::Unauthorized)),
        (407, (callers, ErrorType::Unauthorized), (ours, ErrorType::Unauthorized)),
        (429, (callers, ErrorType::RateLimited), (callers, ErrorType::RateLimited)),
    ] {
        for (proxy, (outcome, error)) in [(false, at_a_server), (true, at_a_proxy)] {
            assert_ends(OutcomeFacts { status: Some(status), proxy, ..CUT }, outcome, Some(error), None);
        }
    }
    let failed = OutcomeFacts { status: None, end: End::ServiceError(ErrorType::Unauthorized), ..CUT };
    assert_ends(failed, callers, Some(ErrorType::Unauthorized), None);
    assert_ends(OutcomeFacts { proxy: true, ..failed }, ours, Some(ErrorType::Unauthorized), None);
    // If callers bring their own keys, the handler reports that, and the request is rejected.
    let said = OutcomeFacts { reported: Some(ErrorType::Unauthorized), status: Some(401), proxy: true, ..CUT };
    assert_ends(said, callers, Some(ErrorType::Unauthorized), None);
}

#[test]
fn the_error_type_of_the_handler_takes_precedence_over_that_of_the_service() {
    let timeout = Some(DiscardReason::Timeout);
    let said =
        OutcomeFacts { reported: Some(ErrorType::Timeout), status: Some(503), answer: AnswerState::Complete, ..CUT };
    assert_ends(said, Outcome::Error, Some(ErrorType::Timeout), timeout);
    let failed = OutcomeFacts { end: End::ServiceError(ErrorType::Overloaded), status: None, ..CUT };
    assert_ends(failed, Outcome::Error, Some(ErrorType::Overloaded), None);
}

#[test]
fn a_request_was_dropped_if_there_is_no_other_reason_for_its_cancellation() {
    let left = OutcomeFacts { end: End::Dropped { panicking: false }, ..CUT };
    assert!(left.was_dropped());
    assert!(OutcomeFacts { status: None, ..left }.was_dropped());
    for other in [
        CUT,
        OutcomeFacts { end: End::Dropped { panicking: true }, ..left },
        OutcomeFacts { answer: AnswerState::Complete, ..left },
        OutcomeFacts { answer: AnswerState::Cancelled, ..left },
        OutcomeFacts { status: Some(499), ..left },
        OutcomeFacts { status: Some(499), end: End::Complete, ..left },
        OutcomeFacts { reported: Some(ErrorType::Timeout), ..left },
    ] {
        assert!(!other.was_dropped(), "{other:?}");
    }
}
