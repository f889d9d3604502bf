//! Computes the figures of a step from its observations.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{
    Interval,
    baseline::{ByThinking, ClientView, Samples, StepEnded, Verdict},
    latency::Latency,
    observation::{End, Observation},
    step::StepSeen,
};

/// The minimum number of requests for a result.
const FEW: f64 = 5.0;
/// The maximum number of stored samples per step.
const MOST_SAMPLES: usize = 1000;
/// The share of failed requests above which a step says little about load.
const FAILING: f64 = 0.05;
/// The share of rejected or late requests that is allowed if a server keeps up.
const TURNED_AWAY: f64 = 0.01;
/// If requests in flight grow by more than this share of the arrivals (plus what is random), the server does not keep up.
const GROWTH: f64 = 0.05;

pub(crate) fn client_view(step: &StepSeen) -> ClientView {
    let measured = || step.measured();
    let count = |end: End| measured().filter(|seen| seen.end == end).count() as u64;
    let mut errors = BTreeMap::new();
    for seen in measured() {
        if let End::Failed(kind) = seen.end {
            *errors.entry(kind).or_default() += 1;
        }
    }
    let seconds = step.seconds().max(f64::MIN_POSITIVE);
    let served = |seen: &&Observation| {
        step.from <= seen.ended && seen.ended < step.to && matches!(seen.end, End::Answered | End::HungUp)
    };
    let requests = measured().count() as u64;
    let input: Option<u64> =
        step.seen.iter().filter(served).filter(|seen| seen.end == End::Answered).map(|seen| seen.input_tokens).sum();
    let output: u64 = step.seen.iter().filter(served).map(output_tokens).sum();
    let latency = |of: fn(&Observation) -> Option<f64>| Latency::of(measured().filter_map(of).collect());
    let ends = step.seen.iter().filter(served).map(|seen| (seen.ended - step.from).as_secs_f64());
    ClientView {
        requests,
        arrival_rate: requests as f64 / seconds,
        answered: count(End::Answered),
        hung_up: count(End::HungUp),
        unfinished: count(End::Unfinished),
        errors,
        not_sent: step.not_sent,
        answer_rate: step.seen.iter().filter(served).count() as f64 / seconds,
        answer_rate_interval: Interval::of_rate(ends, seconds),
        input_tokens_per_second: input.filter(|tokens| *tokens > 0).map(|tokens| tokens as f64 / seconds),
        output_tokens_per_second: output as f64 / seconds,
        in_flight: step.in_flight(),
        in_flight_max: step.in_flight_max,
        time_to_first_token: latency(Observation::time_to_first_token),
        time_to_first_answer_token: latency(Observation::time_to_first_answer_token),
        time_per_output_token: latency(Observation::time_per_output_token),
        inter_token_latency: gaps(measured()),
        duration: latency(Observation::duration),
        lateness: latency(|seen| (seen.end != End::Unfinished).then(|| seen.lateness())),
    }
}

/// Without usage, the number of events is the best estimate.
pub(crate) fn output_tokens(seen: &Observation) -> u64 {
    seen.output_tokens.unwrap_or(seen.events)
}

fn gaps<'a>(measured: impl Iterator<Item = &'a Observation>) -> Option<Latency> {
    let mut micros = Histogram::<u64>::new(3).ok()?;
    for gap in measured.flat_map(|seen| &seen.gaps) {
        micros.record(u64::from(*gap)).ok()?;
    }
    Latency::of_histogram(&micros)
}

/// Whether the server kept up. Unknown if the step was cut off before half of `least_seconds`.
pub(crate) fn verdict(step: &StepSeen, least_seconds: f64) -> Verdict {
    let requests = step.measured().count() as f64;
    let cut_off = step.ended == StepEnded::RunEnded && step.seconds() < least_seconds / 2.0;
    if cut_off || (requests < FEW && step.not_sent == 0) {
        return if step.ended == StepEnded::Failing { Verdict::Failing } else { Verdict::Unknown };
    }
    let failed = |overload: bool| {
        let failed = |seen: &&Observation| matches!(seen.end, End::Failed(_)) && seen.is_overload() == overload;
        step.measured().filter(failed).count() as f64
    };
    let unfinished = step.measured().any(|seen| seen.end == End::Unfinished);
    // The numbers of requests in flight at two times differ by chance, even if no request waits: like two independent draws from a Poisson distribution,
    // whose mean is the number of arrivals during a fast request.
    let mut durations: Vec<_> = step.measured().filter_map(Observation::duration).collect();
    durations.sort_by(f64::total_cmp);
    let fast = durations.get(durations.len() / 10).copied().unwrap_or(0.0);
    let nobody_waits = requests / step.seconds() * fast;
    let by_chance = 2.0 * (2.0 * nobody_waits.min(step.in_flight())).sqrt();
    let behind = step.backlog() > GROWTH * requests + by_chance;
    if failed(false) > FAILING * requests {
        Verdict::Failing
    } else if step.not_sent > 0 || step.ended == StepEnded::Behind || behind || failed(true) > TURNED_AWAY * requests {
        Verdict::Saturated
    } else if step.ended == StepEnded::Failing {
        Verdict::Failing
    } else if step.ended == StepEnded::RunEnded && unfinished {
        Verdict::Unknown
    } else if unfinished {
        Verdict::Saturated
    } else {
        Verdict::KeptUp
    }
}

/// Both modes, if both were requested.
pub(crate) fn by_thinking(step: &StepSeen) -> Vec<ByThinking> {
    let half = |thinking: bool| {
        let measured = || step.measured().filter(move |seen| seen.thinking == Some(thinking));
        let latency = |of: fn(&Observation) -> Option<f64>| Latency::of(measured().filter_map(of).collect());
        let answered = || measured().filter(|seen| seen.end == End::Answered);
        let tokens: u64 = answered().map(output_tokens).sum();
        let duration = latency(Observation::duration)?;
        Some(ByThinking {
            thinking,
            time_to_first_token: latency(Observation::time_to_first_token),
            time_to_first_answer_token: latency(Observation::time_to_first_answer_token),
            output_tokens: Some(tokens as f64 / duration.count as f64),
            duration: Some(duration),
        })
    };
    [false, true].into_iter().map(half).collect::<Option<_>>().unwrap_or_default()
}

pub(crate) fn samples(step: &StepSeen) -> Samples {
    let samples = |of: fn(&Observation) -> Option<f64>| {
        let all: Vec<_> = step.measured().filter_map(of).collect();
        let every = all.len().div_ceil(MOST_SAMPLES).max(1);
        // Microseconds: more digits would only make the file longer.
        all.into_iter().step_by(every).map(|seconds| (seconds * 1e6).round() / 1e6).collect()
    };
    Samples {
        time_to_first_token: samples(Observation::time_to_first_token),
        time_per_output_token: samples(Observation::time_per_output_token),
        duration: samples(Observation::duration),
    }
}
