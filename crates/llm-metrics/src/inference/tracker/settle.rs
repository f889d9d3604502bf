//! What is recorded when a request has ended.

use std::{sync::Arc, time::Instant};

use super::{RequestTracker, Stage, measured::Measured};
use crate::{
    catalog::labels::{self, STATUS_CODES},
    catch::catch_panic,
    inference::{
        EndedSpan,
        quality::EndedRequest,
        shared::{EngineReport, RequestParams},
        timing::Time,
        verdict::{AnswerState, End, OutcomeFacts, Verdict},
    },
    recent::{Latency, RecentRequest},
    record::{Hint, RequestHandles},
    vocabulary::{ErrorType, FinishReason, InspectionFailure, MAX_PLAUSIBLE_TOKENS, Outcome, UsageSource},
};

impl RequestTracker {
    /// Ends the request and records what is known at the end. Later calls do nothing.
    pub(crate) fn settle(&mut self, end: End) {
        let Stage::InFlight(phase) = std::mem::replace(&mut self.stage, Stage::Settled) else { return };
        let now = Instant::now();
        let live = self.shared.settle();
        self.accepted |= live > 0;
        // First, so that the request does not stay in flight if the code below panics (a subscriber of spans may). The panic is caught
        // here, because a request may be settled while another panic unwinds.
        self.shared.metrics.0.global().in_flight(self.shared.route.operation, phase).decrement(1.0);
        let (params, engine) = self.shared.take_reports();
        let _ = catch_panic(|| self.settle_at(now, end, live, params, engine));
    }

    fn settle_at(&mut self, now: Instant, end: End, live: u64, params: RequestParams, engine: EngineReport) {
        let answer = self.answer.state(|| params.background);
        let (status, framing, reported) = (self.status(), self.answer.framing, engine.error);
        let facts = OutcomeFacts { end, status, framing, answer, reported, proxy: self.role.is_client() };
        let verdict = facts.verdict();
        if answer == AnswerState::Deferred && verdict.outcome == Outcome::Success {
            self.answer.no_generation = true;
            self.forget_quality();
        }
        // The model name of a request that failed without the caller's fault may be learnt: during an outage, errors must be counted by model.
        let model = engine.model.as_deref().or(params.model.as_deref()).or_else(|| self.answered_by());
        self.shared.series(model, self.accepted || verdict.outcome == Outcome::Error);
        let measured = self.measure(now, verdict, live, params, engine);
        if facts.was_dropped() {
            self.shared.metrics.0.dropped(now, measured.times.duration);
        }
        if measured.implausible {
            self.failure(InspectionFailure::Implausible);
        }
        if measured.stream && !self.answer.terminal {
            self.trailing_silence(now);
        }
        if self.quality.is_some() {
            self.judge_quality(&EndedRequest {
                outcome: verdict.outcome,
                usage: measured.usage,
                max_tokens: measured.params.max_tokens.get(),
                choices: self.answer.choices.reasons(true).map(|(_, count)| count).sum(),
                input_truncated: measured.engine.input_truncated,
            });
        }
        let series = self.series();
        self.record(series, &measured);
        self.record_recent(series, now, &measured);
        // Incremented last, and our exporter reads it first: if a scrape includes a request as ended, it also includes all its other values.
        series.requests(measured.stream, measured.thinking, verdict.outcome).increment(1);
        self.end_span(&measured);
    }

    /// No token arrived between the last one and the end of an incomplete stream: this time counts as a gap.
    fn trailing_silence(&mut self, now: Instant) {
        if let Some(last) = self.timing.last.filter(|_| self.timing.first.is_some()) {
            self.gap(self.since_arrival(now).since(last));
        }
    }

    fn record(&self, series: &RequestHandles, measured: &Measured) {
        let Measured { verdict, times, thinking, .. } = measured;
        if self.accepted {
            self.record_choices(series, *verdict);
            self.record_stream(series, measured);
            self.record_tokens(series, measured);
            self.record_engine(series, measured);
        }
        series.duration(*thinking, verdict.outcome).record(times.duration.as_secs_f64());
        series.count_objectives(verdict.outcome, times);
        if let Some(error) = verdict.error {
            series.error(error, status_word(self.status())).increment(1);
        }
    }

    fn record_choices(&self, series: &RequestHandles, verdict: Verdict) {
        let success = verdict.outcome == Outcome::Success;
        let mut outputs = 0;
        for (reason, count) in self.answer.choices.reasons(success) {
            series.finish_reason(reason).increment(count);
            outputs += count;
        }
        if success || verdict.error == Some(ErrorType::StreamTruncated) {
            let open = self.answer.choices.open(success);
            if open > 0 {
                series.finish_reason(FinishReason::Missing).increment(open);
                outputs += open;
            }
        }
        if let Some(quality) = &series.quality {
            quality.outputs.increment(outputs);
        }
        let read = self.answer.framing.is_some() && !self.answer.unreadable;
        let generates = self.shared.route.operation.generates() && !self.answer.no_generation;
        if success && read && generates && !self.answer.choices.any() && !self.answer.produced {
            self.failure(InspectionFailure::NoChoices);
        }
    }

    fn record_stream(&self, series: &RequestHandles, measured: &Measured) {
        if let Some(each) = measured.times.time_per_output_token {
            series.time_per_output_token(measured.thinking).record(each.as_secs_f64());
        }
        let Some(first) = self.timing.first else { return };
        if let Some(answer) = self.timing.answer {
            series.time_to_first_answer_token().record(answer.duration().as_secs_f64());
            if self.answer.reasoned {
                series.reasoning_duration().record(answer.since(first).seconds());
            }
        }
        if let Some(gap) = self.timing.max_gap {
            series.max_gap().record(gap.seconds());
        }
    }

    fn record_tokens(&self, series: &RequestHandles, measured: &Measured) {
        let Measured { usage, output, verdict, params, .. } = measured;
        if !self.answer.no_generation {
            series.usage_report(measured.stream, output.source).increment(1);
        }
        if output.source == UsageSource::Estimated {
            self.shared.metrics.0.hint(Hint::NoUsage);
        }
        if **series.recent.name() == *labels::UNKNOWN {
            self.shared.metrics.0.hint(Hint::NoModel);
        }
        if let Some(tokens) = usage.input {
            series.input_tokens.increment(tokens);
            series.request_input_tokens().record(tokens as f64);
        }
        if let Some(tokens) = usage.cached_input {
            series.input_cached_tokens.increment(tokens);
        }
        if let Some(tokens) = usage.cache_write {
            series.input_cache_write_tokens.increment(tokens);
        }
        if let Some(tokens) = usage.reasoning {
            series.output_reasoning_tokens.increment(tokens);
        }
        if let Some(tokens) = usage.output {
            self.shared.publish(series, tokens);
            if verdict.outcome == Outcome::Success {
                series.request_output_tokens().record(tokens as f64);
            }
        }
        if let Some(reason) = verdict.discard {
            series.discarded(reason).increment(output.tokens);
        }
        match params.max_tokens.get() {
            Some(limit) if limit > MAX_PLAUSIBLE_TOKENS => self.failure(InspectionFailure::Implausible),
            Some(limit) => series.request_max_tokens().record(limit as f64),
            None => {}
        }
        if let Some(inputs) = params.inputs.get() {
            series.request_inputs().record(inputs as f64);
        }
    }

    fn record_engine(&self, series: &RequestHandles, measured: &Measured) {
        let engine = &measured.engine;
        let wire = self.timings.as_deref().copied().unwrap_or_default();
        // A request waits for its model to be loaded before its prompt is processed.
        if let Some(time) = engine.queue.or(wire.load) {
            series.queue().record(time.as_secs_f64());
        }
        if let Some(time) = engine.prefill.or(wire.prefill) {
            series.prefill().record(time.as_secs_f64());
        }
        // With fewer than two tokens, there is no time after the first token.
        let alone = wire.usage.output.or(measured.usage.output).is_some_and(|tokens| tokens < 2);
        if let Some(time) = engine.decode.or_else(|| wire.decode.filter(|_| !alone)) {
            series.decode().record(time.as_secs_f64());
        }
    }

    /// The time to first token was recorded when it arrived. The duration of rejected and cancelled requests is left out: it does not show how long
    /// requests take.
    fn record_recent(&self, series: &RequestHandles, now: Instant, measured: &Measured) {
        let Measured { verdict, times, .. } = measured;
        let request = RecentRequest {
            ended: now,
            model: Arc::clone(series.recent.name()),
            operation: self.shared.route.operation,
            endpoint: self.shared.route.endpoint,
            outcome: verdict.outcome,
            error_type: verdict.error,
            status: self.status(),
            finish_reason: self
                .answer
                .choices
                .reasons(verdict.outcome == Outcome::Success)
                .next()
                .map(|(reason, _)| reason),
            stream: measured.stream,
            thinking: measured.thinking,
            duration: times.duration,
            time_to_first_token: times.time_to_first_token,
            time_to_first_answer_token: times.time_to_first_token.and(self.timing.answer).map(Time::duration),
            time_per_output_token: times.time_per_output_token,
            usage: measured.usage,
            labels: Arc::clone(&series.request_labels),
        };
        let included = matches!(verdict.outcome, Outcome::Success | Outcome::Error);
        let duration = included.then_some((Latency::Duration, times.duration));
        let each = times.time_per_output_token.filter(|_| self.accepted);
        let samples = duration.into_iter().chain(each.map(|each| (Latency::PerToken, each)));
        series.recent.record(now, samples);
        self.shared.metrics.0.recent.finished(request);
    }

    fn end_span(&mut self, measured: &Measured) {
        let span = std::mem::take(&mut self.span);
        let Measured { params, engine, verdict, .. } = measured;
        let ended = EndedSpan {
            label: self.series().recent.name(),
            requested: params.model.as_deref().or(engine.model.as_deref()),
            role: self.role,
            stream: measured.stream,
            max_tokens: params.max_tokens.get().filter(|limit| *limit <= MAX_PLAUSIBLE_TOKENS),
            usage: measured.usage,
            verdict: *verdict,
        };
        let reasons = self.answer.choices.reasons(verdict.outcome == Outcome::Success);
        span.end(self.shared.route.operation, &ended, reasons.map(|(reason, _)| reason));
    }
}

/// The status as a label value: one of the codes that servers use, or `other`, so that unusual codes add no series.
fn status_word(status: Option<u16>) -> &'static str {
    let Some(status) = status else { return "none" };
    STATUS_CODES.iter().find(|(code, _)| *code == status).map_or("other", |(_, word)| word)
}
