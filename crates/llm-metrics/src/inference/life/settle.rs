//! What is recorded when a request has ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Clock, Life};
#[cfg(feature = "tracing")]
use crate::inference::{handle::Asked, span::Ended};
use crate::{
    catalog::labels::STATUS_CODES,
    inference::{
        handle::{EngineReport, MAX_PLAUSIBLE_TOKENS},
        verdict::{End, Ending, Verdict},
    },
    recent::{Latency, RecentRequest},
    record::{Series, Times},
    vocabulary::{DiscardReason, ErrorType, FinishReason, InspectionFailure, Outcome, Thinking, Usage, UsageSource},
};

impl Life {
    /// Ends the request and records what is known at the end. Later calls do nothing.
    pub(crate) fn settle(&mut self, end: End) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let now = Instant::now();
        let live = self.shared.settle();
        self.accepted |= live > 0;
        self.series();
        let (asked, engine) = {
            let mut sides = self.shared.sides();
            (std::mem::take(&mut sides.asked), sides.engine.take().map(|report| *report).unwrap_or_default())
        };
        let ending = Ending {
            end,
            status: self.status,
            inspection: self.inspection,
            terminal: self.terminal,
            in_band_error: self.in_band_error,
            reported: engine.error,
            proxy: self.proxy,
        };
        let verdict = ending.verdict();
        let stream = self.stream.or(asked.stream).unwrap_or(false);
        let (usage, output) = self.count(&engine, live, stream);
        let thinking = self.thinking(usage, live, asked.thinking);
        if stream && !ending.terminal {
            self.trailing_silence(now);
        }

        let series = self.series();
        let times = self.times(now, output);
        if self.accepted {
            self.record_choices(series, verdict);
            self.record_stream(series, thinking, times);
            self.record_tokens(series, usage, output, verdict, stream);
            match asked.max_tokens {
                Some(limit) if limit > MAX_PLAUSIBLE_TOKENS => self.failure(InspectionFailure::Implausible),
                Some(limit) => series.request_max_tokens().record(limit as f64),
                None => {}
            }
            self.record_engine(series, &engine);
        }
        series.duration(thinking, verdict.outcome).record(times.duration.as_secs_f64());
        series.judge(verdict.outcome, &times);
        let request = RecentRequest {
            ended: now,
            model: Arc::clone(series.recent.name()),
            operation: self.shared.door.operation,
            endpoint: self.shared.door.endpoint,
            outcome: verdict.outcome,
            error_type: verdict.error,
            status: self.status,
            finish_reason: self.choices.reasons().next().map(|(reason, _)| reason),
            stream,
            thinking,
            duration: times.duration,
            time_to_first_token: times.time_to_first_token,
            time_to_first_answer_token: times.time_to_first_token.and_then(|_| self.since_start(self.clock.answer)),
            time_per_output_token: times.time_per_output_token,
            usage: Usage { output: output.known(), ..usage },
        };
        self.record_recent(series, request);
        if let Some(error) = verdict.error {
            series.error(error, status_word(self.status)).increment(1);
        }
        // Last, so that a request that a scrape sees as ended is there with all that is to be known of it.
        series.requests(stream, thinking, verdict.outcome).increment(1);
        self.shared.metrics.0.fixed().in_flight(self.shared.door.operation, self.phase).decrement(1.0);
        #[cfg(feature = "tracing")]
        self.end_span(&asked, &engine, usage, output, stream, verdict);
    }

    #[cfg(feature = "tracing")]
    fn end_span(
        &mut self,
        asked: &Asked,
        engine: &EngineReport,
        usage: Usage,
        output: Output,
        stream: bool,
        verdict: Verdict,
    ) {
        let span = std::mem::take(&mut self.span);
        let ended = Ended {
            label: self.series().recent.name(),
            requested: asked.model.as_deref().or(engine.model.as_deref()),
            proxy: self.proxy,
            stream,
            max_tokens: asked.max_tokens.filter(|limit| *limit <= MAX_PLAUSIBLE_TOKENS),
            usage: Usage { output: output.known(), ..usage },
            verdict,
        };
        span.end(self.shared.door.operation, &ended, self.choices.reasons().map(|(reason, _)| reason));
    }

    /// Token counts by order of trust, and where the count of output tokens comes from.
    fn count(&self, engine: &EngineReport, live: u64, stream: bool) -> (Usage, Output) {
        let wire = Usage::from(self.usage);
        let usage = engine.usage.or(wire);
        let live = Some(live).filter(|tokens| *tokens > 0);
        let output = if let Some(tokens) = engine.usage.output.or(live) {
            Output { tokens, source: UsageSource::Engine }
        } else if let Some(tokens) = wire.output {
            Output { tokens, source: UsageSource::Upstream }
        } else if stream && self.clock.events > 0 {
            Output { tokens: u64::from(self.clock.events), source: UsageSource::Estimated }
        } else {
            Output { tokens: 0, source: UsageSource::Missing }
        };
        (usage, output)
    }

    fn thinking(&self, usage: Usage, live: u64, asked: Option<bool>) -> Thinking {
        if self.reasoned || usage.reasoning.is_some_and(|tokens| tokens > 0) {
            return Thinking::True;
        }
        let produced = self.produced || usage.output.is_some_and(|tokens| tokens > 0) || live > 0;
        match asked {
            _ if produced => Thinking::False,
            Some(true) => Thinking::True,
            Some(false) => Thinking::False,
            None => Thinking::Unknown,
        }
    }

    /// Nobody saw a token after the last one, and the stream was not complete: the silence before its end counts.
    fn trailing_silence(&mut self, now: Instant) {
        let Some(last) = self.clock.last.filter(|_| self.clock.first.is_some()) else { return };
        let gap = now - last;
        self.clock.max_gap = self.clock.max_gap.max(Some(gap));
        if gap > self.shared.metrics.0.options.stall {
            self.series().stalls.increment(1);
        }
    }

    fn record_choices(&self, series: &Series, verdict: Verdict) {
        for (reason, count) in self.choices.reasons() {
            series.finish_reason(reason).increment(count);
        }
        let ended_open = verdict.outcome == Outcome::Success || verdict.error == Some(ErrorType::StreamTruncated);
        if ended_open {
            series.finish_reason(FinishReason::Missing).increment(self.choices.open());
        }
    }

    /// What the request took, as far as it can be told.
    fn times(&self, now: Instant, output: Output) -> Times {
        let time_per_output_token = match self.clock {
            // Tokens that all came at once have no time between them that could be told.
            Clock { first: Some(first), last: Some(last), .. } if output.tokens > 1 && last > first => {
                Some((last - first).div_f64((output.tokens - 1) as f64))
            }
            _ => None,
        };
        Times {
            duration: now - self.started,
            time_to_first_token: self.since_start(self.clock.first),
            time_per_output_token,
        }
    }

    fn since_start(&self, then: Option<Instant>) -> Option<Duration> {
        then.map(|then| then - self.started)
    }

    /// The first token is there already. What ended before its time, by the caller's fault or will, says nothing about how long
    /// requests take.
    fn record_recent(&self, series: &Series, request: RecentRequest) {
        let ours = matches!(request.outcome, Outcome::Success | Outcome::Error);
        let duration = ours.then_some((Latency::Duration, request.duration));
        let each = request.time_per_output_token.filter(|_| self.accepted);
        let samples = duration.into_iter().chain(each.map(|each| (Latency::PerToken, each)));
        series.recent.record(request.ended, samples);
        self.shared.metrics.0.recent.finished(request);
    }

    fn record_stream(&self, series: &Series, thinking: Thinking, times: Times) {
        let Clock { first: Some(first), answer, max_gap, .. } = self.clock else { return };
        if let Some(answer) = answer {
            series.time_to_first_answer_token().record((answer - self.started).as_secs_f64());
            if self.reasoned {
                series.reasoning_duration().record((answer - first).as_secs_f64());
            }
        }
        if let Some(each) = times.time_per_output_token {
            series.time_per_output_token(thinking).record(each.as_secs_f64());
        }
        if let Some(gap) = max_gap {
            series.max_gap().record(gap.as_secs_f64());
        }
    }

    fn record_tokens(&self, series: &Series, usage: Usage, output: Output, verdict: Verdict, stream: bool) {
        series.usage_report(stream, output.source).increment(1);
        if let Some(tokens) = usage.input {
            series.input_tokens.increment(tokens);
            series.request_input_tokens().record(tokens as f64);
        }
        if let Some(tokens) = usage.cached_input {
            series.input_cached_tokens.increment(tokens);
        }
        if let Some(tokens) = usage.reasoning {
            series.output_reasoning_tokens.increment(tokens);
        }
        let live = self.shared.metrics.0.options.live_tokens;
        let known = output.known().is_some();
        if known || (live && output.source == UsageSource::Estimated) {
            self.shared.publish(series, output.tokens);
        }
        if known && verdict.outcome == Outcome::Success {
            series.request_output_tokens().record(output.tokens as f64);
        }
        if let Some(reason) = discarded(verdict) {
            series.discarded(reason).increment(output.tokens);
        }
    }

    fn record_engine(&self, series: &Series, engine: &EngineReport) {
        if let Some(time) = engine.queue {
            series.queue().record(time.as_secs_f64());
        }
        let [prefill, decode] = self.timings.as_deref().copied().unwrap_or_default();
        if let Some(time) = engine.prefill.or(prefill) {
            series.prefill().record(time.as_secs_f64());
        }
        if let Some(time) = engine.decode.or(decode) {
            series.decode().record(time.as_secs_f64());
        }
    }
}

/// How many output tokens, and who says so.
#[derive(Clone, Copy)]
struct Output {
    tokens: u64,
    source: UsageSource,
}

impl Output {
    /// The tokens, where somebody counted them.
    fn known(self) -> Option<u64> {
        matches!(self.source, UsageSource::Engine | UsageSource::Upstream).then_some(self.tokens)
    }
}

fn discarded(verdict: Verdict) -> Option<DiscardReason> {
    match (verdict.outcome, verdict.error) {
        (Outcome::Cancelled, _) => Some(DiscardReason::ClientDisconnect),
        (_, Some(ErrorType::StreamError)) => Some(DiscardReason::StreamError),
        (_, Some(ErrorType::StreamTruncated)) => Some(DiscardReason::StreamTruncated),
        (_, Some(ErrorType::Timeout)) => Some(DiscardReason::Timeout),
        _ => None,
    }
}

/// The status as a label: the codes that servers use, so that an odd one cannot add series.
fn status_word(status: Option<u16>) -> &'static str {
    let Some(status) = status else { return "none" };
    STATUS_CODES.iter().find(|(code, _)| *code == status).map_or("other", |(_, word)| word)
}
