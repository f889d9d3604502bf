//! One request's life: facts in, observations out at the right moment, and a guard that loses nothing.

mod settle;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    choices::Choices,
    handle::{InferenceHandle, Shared},
    span::{RequestSpan, SpanKind},
    tags::ThinkTags,
    verdict::{End, Inspection},
};
use crate::{
    recent::Latency,
    record::{LlmMetrics, RawLabels, Series},
    vocabulary::{Endpoint, FinishReason, InspectionFailure, Operation, Phase, Protocol, SkipReason, Usage},
    wire::Counts,
};

/// At most so many samples of inter-token latency for one event.
const MAX_SAMPLES_AN_EVENT: u64 = 64;

/// A request from its arrival to its end. Dropping it settles it.
pub(crate) struct Life {
    pub(super) shared: Arc<Shared>,
    started: Instant,
    proxy: bool,
    phase: Phase,
    /// The status of the response's head, once there is one.
    status: Option<u16>,
    accepted: bool,
    inspection: Inspection,
    /// Whether the answer is streamed; what the request asked for until the answer shows.
    stream: Option<bool>,
    clock: Clock,
    answer_model: Option<Box<str>>,
    tags: ThinkTags,
    reasoned: bool,
    produced: bool,
    choices: Choices,
    in_band_error: bool,
    done: bool,
    /// Everything that was to come has come, and its event is whole: only then can a client read it.
    terminal: bool,
    usage: Counts,
    /// The engine's own times, prefill and decode, where the answer has them.
    timings: Option<Box<[Option<Duration>; 2]>>,
    event: Event,
    settled: bool,
    span: RequestSpan,
}

/// Where a request came in.
#[derive(Clone, Copy)]
pub(crate) struct Door {
    pub(crate) endpoint: Endpoint,
    pub(crate) operation: Operation,
    pub(crate) protocol: Protocol,
}

/// When tokens came.
#[derive(Default)]
struct Clock {
    first: Option<Instant>,
    last: Option<Instant>,
    /// The first text of the answer, unless a tag that comes later says that it was reasoning.
    answer: Option<Instant>,
    /// Such text has come in this frame, whose time is not known yet.
    answered: bool,
    max_gap: Option<Duration>,
    /// Events that bore a token.
    events: u32,
    /// Output tokens reported by cumulative usage when the last of these events ended.
    usage_tokens: Option<u32>,
    /// Tokens and steps reported by the handle by then, both modulo 2³², and how many tokens a step had.
    engine_tokens: u32,
    engine_steps: u32,
    step: u32,
    /// Tokens of the handle that had a sample of inter-token latency, and the seconds of gaps that had no token left.
    sampled: u32,
    unsampled: f64,
}

/// What the event at hand has shown so far.
#[derive(Default)]
struct Event {
    bears_token: bool,
    answers: bool,
    usage_tokens: Option<u32>,
}

impl Life {
    pub(crate) fn start(metrics: &LlmMetrics, door: Door, labels: Option<RawLabels>, kind: SpanKind) -> Self {
        let fixed = metrics.0.fixed();
        fixed.started(door.operation, door.endpoint).increment(1);
        fixed.in_flight(door.operation, Phase::Waiting).increment(1.0);
        Self {
            shared: Arc::new(Shared::new(metrics.clone(), door, labels)),
            started: Instant::now(),
            proxy: matches!(kind, SpanKind::Client),
            phase: Phase::Waiting,
            status: None,
            accepted: false,
            inspection: Inspection::None,
            stream: None,
            clock: Clock::default(),
            answer_model: None,
            tags: ThinkTags::default(),
            reasoned: false,
            produced: false,
            choices: Choices::default(),
            in_band_error: false,
            done: false,
            terminal: false,
            usage: Counts::default(),
            timings: None,
            event: Event::default(),
            settled: false,
            span: RequestSpan::open(door.operation, kind),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn span(&self) -> &RequestSpan {
        &self.span
    }

    pub(crate) fn is_proxy(&self) -> bool {
        self.proxy
    }

    pub(crate) fn handle(&self) -> InferenceHandle {
        InferenceHandle(Arc::clone(&self.shared))
    }

    /// The response's head came.
    pub(crate) fn head(&mut self, status: u16, stream: Option<bool>, inspection: Inspection) {
        self.status = Some(status);
        self.stream = stream;
        self.inspection = inspection;
        if (200..300).contains(&status) {
            self.accept();
            if self.shared.named_series(true).is_some() {
                self.publish_live();
            }
        }
    }

    /// The request is being served: its model's name may be learnt.
    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    pub(super) fn streams(&mut self, stream: bool) {
        self.stream = Some(stream);
    }

    /// What follows of the body cannot be read: from here on, transport decides.
    pub(crate) fn blind(&mut self, reason: SkipReason) {
        self.inspection = Inspection::None;
        self.skipped(reason);
    }

    pub(crate) fn skipped(&self, reason: SkipReason) {
        self.shared.metrics.0.fixed().skipped(reason).increment(1);
    }

    pub(super) fn failure(&self, kind: InspectionFailure) {
        self.shared.metrics.0.fixed().failure(self.shared.door.protocol, kind).increment(1);
    }

    pub(super) fn answer_model(&mut self, name: &str) {
        self.span.answering_model(name);
        if self.answer_model.is_none() && !self.shared.knows_model() {
            self.answer_model = Some(name.into());
        }
    }

    pub(super) fn choice(&mut self, index: u32) {
        self.choices.seen(index);
    }

    pub(super) fn finish_reason(&mut self, choice: u32, reason: FinishReason) {
        self.choices.finished(choice, reason);
        self.in_band_error |= matches!(reason, FinishReason::Error | FinishReason::Abort);
    }

    pub(super) fn in_band_error(&mut self) {
        self.in_band_error = true;
    }

    pub(super) fn done(&mut self) {
        self.done = true;
    }

    pub(super) fn timings(&mut self, prefill: Option<Duration>, decode: Option<Duration>) {
        **self.timings.get_or_insert_default() = [prefill, decode];
    }

    /// Text of an answer as its reader sees it, tags and all.
    pub(super) fn answer_text(&mut self, choice: u32, fragment: &[u8]) {
        self.produce();
        if choice > 0 {
            return;
        }
        let found = self.tags.read(fragment);
        self.reasoned |= found.reasoning;
        if found.reclassified {
            self.clock.answer = None;
            self.clock.answered = false;
            self.event.answers = false;
        }
        self.event.answers |= found.answer;
    }

    /// A tool call, or a refusal.
    pub(super) fn answer_part(&mut self) {
        self.produce();
        self.event.answers = true;
    }

    pub(super) fn reasoning_text(&mut self, fragment: &[u8]) {
        self.produce();
        self.reasoned = self.reasoned || !fragment.iter().all(u8::is_ascii_whitespace);
    }

    fn produce(&mut self) {
        self.produced = true;
        self.event.bears_token = true;
    }

    /// Token counts as the wire has them so far.
    pub(super) fn wire_usage(&mut self, usage: Usage) {
        self.usage = Counts::from(usage.or(self.usage.into()));
        if let Some(tokens) = usage.output {
            self.event.usage_tokens = u32::try_from(tokens).ok();
        }
    }

    /// Ends the event at hand, and tells how many tokens it bore: 0 for an event that bore none.
    pub(super) fn end_event(&mut self) -> u64 {
        let event = std::mem::take(&mut self.event);
        self.done |= self.inspection == Inspection::Document;
        self.terminal = self.done || self.choices.all_finished();
        let before = match event.usage_tokens {
            Some(tokens) => self.clock.usage_tokens.replace(tokens),
            None => None,
        };
        if !event.bears_token {
            return 0;
        }
        self.clock.events = self.clock.events.saturating_add(1);
        self.clock.answered |= event.answers;
        let reported = event.usage_tokens.zip(before).map_or(0, |(now, before)| now.saturating_sub(before));
        u64::from(reported.max(1))
    }

    /// Tokens came: `tokens` of them in `events` events that arrived together.
    pub(super) fn tick(&mut self, now: Instant, tokens: u64, events: u64) {
        if std::mem::take(&mut self.clock.answered) {
            self.clock.answer.get_or_insert(now);
        }
        let before = self.clock.last.replace(now);
        if self.stream != Some(true) {
            return;
        }
        let tokens = self.reported(events).unwrap_or(tokens);
        let Some(before) = before else {
            self.clock.first = Some(now);
            self.enter(Phase::Streaming);
            let series = self.series();
            let time = now - self.started;
            series.time_to_first_token().record(time.as_secs_f64());
            series.recent.record(now, [(Latency::FirstToken, time)]);
            self.span.first_chunk(time);
            return self.publish_live();
        };
        let gap = now - before;
        self.clock.max_gap = self.clock.max_gap.max(Some(gap));
        let options = &self.shared.metrics.0.options;
        let (stalled, sampled) = (gap > options.stall, options.inter_token_latency);
        let series = self.series();
        if stalled {
            series.stalls.increment(1);
        }
        if sampled {
            let gap = gap.as_secs_f64() + self.clock.unsampled;
            let histogram = series.inter_token_latency();
            match tokens {
                0 => {}
                1 => histogram.record(gap),
                _ => histogram.record_many(gap / tokens as f64, tokens.min(MAX_SAMPLES_AN_EVENT * events) as usize),
            }
            // The time belongs to the tokens that come next.
            self.clock.unsampled = if tokens == 0 { gap } else { 0.0 };
        }
        self.publish_live();
    }

    /// How many tokens an engine that reports them live had for these events; no token is sampled twice. It may be ahead of the
    /// wire, so that the steps since the last event are not the event's own: their size is.
    fn reported(&mut self, events: u64) -> Option<u64> {
        let (tokens, steps) = (self.shared.tokens(), self.shared.steps());
        if tokens == 0 {
            return None;
        }
        let clock = &mut self.clock;
        let new_tokens = (tokens as u32).wrapping_sub(std::mem::replace(&mut clock.engine_tokens, tokens as u32));
        let new_steps = steps.wrapping_sub(std::mem::replace(&mut clock.engine_steps, steps));
        clock.step = new_tokens.checked_div(new_steps).unwrap_or(clock.step).max(1);
        if clock.first.is_none() {
            return Some(0);
        }
        let unsampled = tokens.saturating_sub(1 + u64::from(clock.sampled));
        let sampled = (u64::from(clock.step) * events).min(unsampled);
        clock.sampled = clock.sampled.saturating_add(sampled as u32);
        Some(sampled)
    }

    /// Publishes output tokens as they become known.
    pub(super) fn publish_live(&mut self) {
        let total = if self.shared.tokens() > 0 {
            self.shared.tokens()
        } else if let Some(output) = self.usage.output() {
            output
        } else if self.shared.metrics.0.options.live_tokens {
            u64::from(self.clock.events)
        } else {
            return;
        };
        self.shared.publish(self.series(), total);
    }

    fn series(&self) -> &Series {
        self.shared.series(self.answer_model.as_deref(), self.accepted)
    }

    fn enter(&mut self, phase: Phase) {
        let fixed = self.shared.metrics.0.fixed();
        fixed.in_flight(self.shared.door.operation, self.phase).decrement(1.0);
        fixed.in_flight(self.shared.door.operation, phase).increment(1.0);
        self.phase = phase;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.settle(End::Dropped { panicking: std::thread::panicking() });
    }
}
