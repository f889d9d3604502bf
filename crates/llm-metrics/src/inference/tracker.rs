//! Tracks one request: receives facts, records observations when they happen, and records the end even if the request is dropped.

mod answer;
mod measured;
mod settle;
mod tokens;

use std::{num::NonZeroU16, sync::Arc, time::Instant};

use self::answer::Answer;
use super::{
    choices::bit,
    handle::InferenceHandle,
    quality::OutputQuality,
    role::Role,
    shared::SharedRequest,
    span::RequestSpan,
    timing::{Time, TokenTiming},
    usage::ReportedUsage,
    verdict::End,
};
use crate::{
    quality::Part,
    record::{LlmMetrics, RawLabels, RequestHandles},
    vocabulary::{Endpoint, InspectionFailure, Operation, Phase, Protocol, SkipReason},
    wire::{Counts, Framing, Route, Timings},
};

/// A request from its arrival to its end. Dropping it records the end.
///
/// ```text
///               ┌─ Stage::InFlight ────────────────────────────────┐
///   start() ───►│ Waiting ───first token of a stream───► Streaming │───settle(), or drop───► Stage::Settled
///               └──────────────────────────────────────────────────┘
/// ```
///
/// In addition to the stage, `accepted` says whether the model's name may become a label: after a response head with a status of 2xx, or a token that
/// the engine reported. The progress of its answer is the [`AnswerState`], which is evaluated at the end, and decides the outcome together with the
/// end of the transport.
pub(crate) struct RequestTracker {
    pub(super) shared: Arc<SharedRequest>,
    started: Instant,
    role: Role,
    /// The embedder reports the tokens, instead of a body from which they are read.
    manual: bool,
    stage: Stage,
    /// The status of the response head, if there is one.
    status: Option<NonZeroU16>,
    accepted: bool,
    /// Whether the answer is streamed. Before there is an answer: whether the request asked for it.
    stream: Option<bool>,
    pub(super) timing: TokenTiming,
    /// If the request did not name one, which is rare: a thin pointer is enough.
    answer_model: Option<Box<Box<str>>>,
    /// The state of the answer.
    pub(super) answer: Answer,
    usage: ReportedUsage,
    /// The engine's own timings, if the answer has them.
    timings: Option<Box<Timings>>,
    /// The counts in the current event.
    counts: Counts,
    span: RequestSpan,
    /// The output checks, while an answer is read.
    pub(super) quality: Option<Box<OutputQuality>>,
}

/// The stage of a request between its arrival and its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is in the gauge of requests in flight, in this phase.
    InFlight(Phase),
    /// It has been recorded, and does not change any more.
    Settled,
}

/// The facts about a request from its route.
#[derive(Clone, Copy)]
pub(crate) struct RouteFacts {
    pub(crate) endpoint: Endpoint,
    pub(crate) operation: Operation,
    pub(crate) protocol: Protocol,
    /// Whether an answer is streamed by default.
    pub(crate) streams_by_default: bool,
}

impl RouteFacts {
    pub(crate) fn of(route: &Route) -> Self {
        let Route { endpoint, operation, protocol, streams_by_default, .. } = *route;
        Self { endpoint, operation, protocol, streams_by_default }
    }
}

/// What an event was.
pub(super) struct EventEnd {
    /// The number of its tokens.
    pub(super) tokens: u64,
    /// An open choice has finished.
    pub(super) finished: bool,
    /// It has counts.
    pub(super) counted: bool,
}

impl RequestTracker {
    #[inline]
    pub(crate) fn start(metrics: &LlmMetrics, route: RouteFacts, labels: Option<RawLabels>, role: Role) -> Self {
        let global = metrics.0.global();
        global.started(route.operation, route.endpoint).increment(1);
        global.in_flight(route.operation, Phase::Waiting).increment(1.0);
        Self {
            shared: Arc::new(SharedRequest::new(metrics.clone(), route, labels)),
            started: Instant::now(),
            role,
            manual: false,
            stage: Stage::InFlight(Phase::Waiting),
            status: None,
            accepted: false,
            stream: None,
            timing: TokenTiming::default(),
            answer_model: None,
            answer: Answer::default(),
            usage: ReportedUsage::default(),
            timings: None,
            counts: Counts::default(),
            span: RequestSpan::open(route.operation, role),
            quality: None,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<SharedRequest> {
        &self.shared
    }

    pub(crate) fn span(&self) -> &RequestSpan {
        &self.span
    }

    fn status(&self) -> Option<u16> {
        self.status.map(NonZeroU16::get)
    }

    pub(crate) fn is_proxy(&self) -> bool {
        self.role.is_client()
    }

    pub(crate) fn handle(&self) -> InferenceHandle {
        InferenceHandle::new(Arc::clone(&self.shared))
    }

    #[cfg(test)]
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The response head arrived. `stream`: whether it says that the answer is streamed, if it says so.
    pub(crate) fn head(&mut self, status: u16, stream: Option<bool>, framing: Option<Framing>) {
        let success = (200..300).contains(&status);
        let (asked_stream, choices) = self.shared.answered(success);
        self.status = NonZeroU16::new(status);
        self.stream = stream.or(asked_stream);
        self.answer.requested_choices = choices.map_or(0, |n| u8::try_from(n).unwrap_or(u8::MAX));
        // A completion has one choice per prompt.
        self.answer.one_choice = choices == Some(1) && self.shared.route.operation == Operation::Chat;
        self.answer.framing = framing;
        if success {
            self.accept();
            if self.shared.named_series(true).is_some() {
                self.publish_live();
            }
            if framing.is_some() {
                self.watch_quality();
            }
        }
    }

    /// The request was accepted: its model's name may be learnt.
    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    /// There is no wire: steps and their times are reported.
    pub(super) fn set_manual(&mut self, streamed: bool) {
        self.manual = true;
        self.stream = Some(streamed);
    }

    /// A step that was reported without a wire.
    pub(super) fn step(&mut self, at: Instant, part: Part, tokens: u64) {
        if self.stage == Stage::Settled {
            return;
        }
        self.accept();
        match part {
            Part::Reasoning => self.reasoned(tokens),
            _ => self.answer.part(),
        }
        self.end_event();
        self.on_tokens(at, tokens, 1);
    }

    pub(super) fn streams(&mut self, stream: bool) {
        self.stream = Some(stream);
    }

    /// Whether the answer is known to be streamed.
    pub(super) fn is_stream(&self) -> bool {
        self.stream == Some(true)
    }

    /// Whether the request asked for a stream, as far as it was read.
    pub(crate) fn asked_for_stream(&self) -> Option<bool> {
        self.shared.asked_for_stream()
    }

    /// The framing of the answer, from its first bytes.
    pub(super) fn begins(&mut self, framing: Result<Framing, SkipReason>) {
        match framing {
            Ok(framing) => {
                self.stream = Some(framing.is_stream());
                self.answer.framing = Some(framing);
            }
            Err(reason) => self.stop_inspecting(reason),
        }
    }

    /// The rest of the body cannot be read: from here on, the transport decides.
    pub(crate) fn stop_inspecting(&mut self, reason: SkipReason) {
        self.answer.framing = None;
        self.forget_quality();
        self.skipped(reason);
    }

    pub(crate) fn skipped(&self, reason: SkipReason) {
        self.shared.skipped(reason);
    }

    pub(super) fn failure(&self, kind: InspectionFailure) {
        self.shared.failure(kind);
    }

    pub(super) fn answer_model(&mut self, name: &str) {
        self.span.answering_model(name);
        if !self.shared.knows_model() {
            self.answer_model = Some(Box::new(name.into()));
        }
    }

    /// The model in the answer, which is used if there is no other name.
    fn answered_by(&self) -> Option<&str> {
        self.answer_model.as_ref().map(|name| &***name)
    }

    /// Text of an answer, including tags.
    #[inline]
    pub(super) fn answer_text(&mut self, choice: u32, fragment: &[u8]) {
        if self.answer.answer_text(choice, fragment) {
            self.timing.answer = None;
            self.timing.answered = false;
        }
    }

    /// Reasoning tokens that were reported without a wire.
    pub(super) fn reasoned(&mut self, tokens: u64) {
        self.answer.reasoned();
        self.shared.add_reasoning(tokens);
    }

    /// Ends an event that consisted of a text of this choice, like [`end_event`](Self::end_event). Returns its number of tokens.
    #[inline]
    pub(super) fn end_lone_text(&mut self, choice: u32) -> u64 {
        self.timing.answered |= self.answer.end_lone_text(choice);
        if choice > 0 {
            self.make_room(bit(choice));
        }
        self.timing.event(bit(choice), None)
    }

    /// Ends the current event.
    #[inline]
    pub(super) fn end_event(&mut self) -> EventEnd {
        let event = self.answer.end_event();
        if event.choices > 1 {
            self.make_room(event.choices);
        }
        let total = event.counted.and_then(|finality| self.event_usage(&event, finality));
        let mut end = EventEnd { tokens: 0, finished: event.finishes, counted: event.counted.is_some() };
        if event.has_token {
            self.timing.answered |= event.answers;
            end.tokens = self.timing.event(event.texts, total);
        }
        end
    }

    fn since_arrival(&self, now: Instant) -> Time {
        Time::of(now - self.started)
    }

    pub(super) fn series(&self) -> &RequestHandles {
        self.shared.series(self.answered_by(), self.accepted)
    }

    fn enter(&mut self, phase: Phase) {
        let Stage::InFlight(before) = self.stage else { return };
        let global = self.shared.metrics.0.global();
        global.in_flight(self.shared.route.operation, before).decrement(1.0);
        global.in_flight(self.shared.route.operation, phase).increment(1.0);
        self.stage = Stage::InFlight(phase);
    }
}

impl Drop for RequestTracker {
    fn drop(&mut self) {
        self.settle(End::Dropped { panicking: std::thread::panicking() });
    }
}
