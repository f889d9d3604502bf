//! The handles of one set of labels.

use std::{array, collections::HashMap, hash::Hash, sync::Arc};

use metrics::{Counter, Histogram, Label, SharedString};

use super::{
    lazy_histogram::LazyHistogram,
    model::Model,
    objective::{Objective, Times},
    quality::QualityCounters,
};
use crate::{
    catalog::{self, MetricDef, Registrar, labels},
    quality::QualityChecks,
    recent,
    vocabulary::{
        DiscardReason, Endpoint, ErrorType, FinishReason, Flag, Operation, Outcome, SloResult, Thinking, UsageSource,
    },
};

/// The labels that distinguish one series of requests from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct LabelSet {
    pub(crate) model: Model,
    pub(crate) endpoint: Endpoint,
    pub(crate) operation: Operation,
    /// Values of the embedder's own labels, in the order of the labels.
    pub(crate) extra: Option<Arc<[Arc<str>]>>,
}

/// Handles for everything that is recorded about requests with the same labels. They are resolved once per set of labels, not once per request.
///
/// Counters whose labels form a closed set exist at 0 from the start: an error series that does not exist yet makes an
/// error *ratio* empty.
pub(crate) struct RequestHandles {
    registrar: Arc<Registrar>,
    key: LabelSet,
    model: Label,
    operation: Label,
    endpoint: Label,
    extra: Vec<Label>,

    /// The replacements for labels that have no series.
    none: Counter,
    requests: Box<[Counter]>,
    finish_reasons: Box<[Counter]>,
    usage_reports: Box<[Counter]>,
    discarded: Box<[Counter]>,
    errors: std::sync::Mutex<HashMap<(ErrorType, &'static str), Counter>>,
    pub(crate) stalls: Counter,
    pub(crate) input_tokens: Counter,
    pub(crate) input_cached_tokens: Counter,
    pub(crate) input_cache_write_tokens: Counter,
    pub(crate) output_tokens: Counter,
    pub(crate) output_reasoning_tokens: Counter,
    objectives: Box<[(Objective, [Counter; SloResult::ALL.len()])]>,
    pub(crate) recent: Arc<recent::Model>,
    /// The embedder's own labels, for the listener and for spans.
    pub(crate) request_labels: Arc<[(Arc<str>, Arc<str>)]>,
    /// `None` if nothing is checked, or there is no output to check.
    pub(crate) quality: Option<QualityCounters>,

    durations: [LazyHistogram; Thinking::ALL.len() * Outcome::ALL.len()],
    times_per_output_token: [LazyHistogram; Thinking::ALL.len()],
    time_to_first_token: LazyHistogram,
    time_to_first_answer_token: LazyHistogram,
    reasoning_duration: LazyHistogram,
    inter_token_latency: LazyHistogram,
    max_gap: LazyHistogram,
    request_input_tokens: LazyHistogram,
    request_output_tokens: LazyHistogram,
    request_max_tokens: LazyHistogram,
    request_inputs: LazyHistogram,
    queue: LazyHistogram,
    prefill: LazyHistogram,
    decode: LazyHistogram,
}

/// The labels of requests without output: not streamed, and `thinking` is unknown.
const UNARY: (&str, &str) = (Flag::False.as_str(), Thinking::Unknown.as_str());

/// One accessor per histogram whose labels are the model and the operation.
macro_rules! histograms {
    ($($field:ident = $row:ident;)+) => {
        $(pub(crate) fn $field(&self) -> &Histogram {
            self.$field.resolve(|| {
                self.registrar.histogram(&catalog::$row, self.labels(&[self.model.clone(), self.operation.clone()]))
            })
        })+
    };
}

impl RequestHandles {
    pub(crate) fn new(
        registrar: &Arc<Registrar>,
        key: &LabelSet,
        extra_names: &[SharedString],
        objectives: &[Objective],
        recent: Arc<recent::Model>,
        checks: QualityChecks,
    ) -> Self {
        let value = |name, value: &Arc<str>| Label::new::<SharedString, _>(name, Arc::clone(value));
        let model = labels::MODEL.label(Arc::clone(key.model.name()));
        let operation = labels::OPERATION.label(key.operation.as_str());
        let endpoint = labels::ENDPOINT.label(key.endpoint.as_str());
        let extra: Vec<Label> = extra_names
            .iter()
            .zip(key.extra.iter().flat_map(|values| values.iter()))
            .map(|(name, extra)| value(name.clone(), extra))
            .collect();

        let values = key.extra.iter().flat_map(|values| values.iter().cloned());
        let request_labels = extra_names.iter().map(|name| Arc::from(&**name)).zip(values).collect();

        let counter = |row: &MetricDef, own: &[Label]| registrar.counter(row, own.iter().chain(&extra).cloned());
        let by_operation = |row: &MetricDef| counter(row, &[model.clone(), operation.clone()]);
        // A counter that can never increase has no series.
        let generates = key.operation.generates();
        let of_output = |row: &MetricDef| if generates { by_operation(row) } else { Counter::noop() };
        let requests = product3(Flag::WORDS, Thinking::WORDS, Outcome::WORDS)
            .map(|(stream, thinking, outcome)| {
                let closed =
                    [labels::STREAM.label(stream), labels::THINKING.label(thinking), labels::OUTCOME.label(outcome)];
                if !generates && (stream, thinking) != UNARY {
                    return Counter::noop();
                }
                let [stream, thinking, outcome] = closed;
                let own = [model.clone(), operation.clone(), endpoint.clone(), stream, thinking, outcome];
                counter(&catalog::REQUESTS, &own)
            })
            .collect();
        let finish_reasons = FinishReason::WORDS
            .iter()
            .filter(|_| generates)
            .map(|reason| {
                let reason = labels::FINISH_REASON.label(*reason);
                counter(&catalog::FINISH_REASONS, &[model.clone(), operation.clone(), reason])
            })
            .collect();
        let usage_reports = Flag::WORDS
            .iter()
            .filter(|_| generates)
            .flat_map(|stream| UsageSource::WORDS.iter().map(move |source| (stream, source)))
            .map(|(stream, source)| {
                let stream = labels::STREAM.label(*stream);
                let source = labels::SOURCE.label(*source);
                counter(&catalog::USAGE_REPORTS, &[model.clone(), stream, source])
            })
            .collect();
        let discarded = DiscardReason::WORDS
            .iter()
            .filter(|_| generates)
            .map(|reason| {
                let reason = labels::DISCARD_REASON.label(*reason);
                counter(&catalog::DISCARDED_TOKENS, &[model.clone(), reason])
            })
            .collect();
        let objectives = objectives
            .iter()
            .filter(|objective| objective.is_for(&key.model))
            .map(|objective| {
                let slo = labels::SLO.label(Arc::clone(objective.name()));
                let results = array::from_fn(|result| {
                    let result = labels::SLO_RESULT.label(SloResult::WORDS[result]);
                    counter(&catalog::SLO_REQUESTS, &[slo.clone(), model.clone(), result])
                });
                (objective.clone(), results)
            })
            .collect();
        let checked = checks.any() && generates;
        // The gauge is 0 from now on while nothing is in flight.
        key.model.in_flight(registrar);
        Self {
            none: Counter::noop(),
            quality: checked.then(|| QualityCounters::new(registrar, checks, &model, &operation, &extra)),
            requests,
            objectives,
            recent,
            request_labels,
            finish_reasons,
            usage_reports,
            discarded,
            errors: std::sync::Mutex::default(),
            stalls: of_output(&catalog::STREAM_STALLS),
            input_tokens: by_operation(&catalog::INPUT_TOKENS),
            input_cached_tokens: of_output(&catalog::INPUT_CACHED_TOKENS),
            input_cache_write_tokens: of_output(&catalog::INPUT_CACHE_WRITE_TOKENS),
            output_tokens: of_output(&catalog::OUTPUT_TOKENS),
            output_reasoning_tokens: of_output(&catalog::OUTPUT_REASONING_TOKENS),
            durations: Default::default(),
            times_per_output_token: Default::default(),
            time_to_first_token: LazyHistogram::default(),
            time_to_first_answer_token: LazyHistogram::default(),
            reasoning_duration: LazyHistogram::default(),
            inter_token_latency: LazyHistogram::default(),
            max_gap: LazyHistogram::default(),
            request_input_tokens: LazyHistogram::default(),
            request_output_tokens: LazyHistogram::default(),
            request_max_tokens: LazyHistogram::default(),
            request_inputs: LazyHistogram::default(),
            queue: LazyHistogram::default(),
            prefill: LazyHistogram::default(),
            decode: LazyHistogram::default(),
            registrar: Arc::clone(registrar),
            key: key.clone(),
            model,
            operation,
            endpoint,
            extra,
        }
    }

    pub(crate) fn model(&self) -> &Model {
        &self.key.model
    }

    pub(super) fn operation(&self) -> Operation {
        self.key.operation
    }

    pub(crate) fn requests(&self, stream: bool, thinking: Thinking, outcome: Outcome) -> &Counter {
        let (stream, thinking) =
            if self.operation().generates() { (stream, thinking) } else { (false, Thinking::Unknown) };
        let row = usize::from(stream) * Thinking::ALL.len() + thinking as usize;
        &self.requests[row * Outcome::ALL.len() + outcome as usize]
    }

    pub(crate) fn finish_reason(&self, reason: FinishReason) -> &Counter {
        self.finish_reasons.get(reason as usize).unwrap_or(&self.none)
    }

    pub(crate) fn usage_report(&self, stream: bool, source: UsageSource) -> &Counter {
        self.usage_reports.get(usize::from(stream) * UsageSource::ALL.len() + source as usize).unwrap_or(&self.none)
    }

    pub(crate) fn discarded(&self, reason: DiscardReason) -> &Counter {
        self.discarded.get(reason as usize).unwrap_or(&self.none)
    }

    /// Error series exist from their first error: every type with every status would be hundreds of series per model.
    pub(crate) fn error(&self, error: ErrorType, status: &'static str) -> Counter {
        let mut errors = self.errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let register = || {
            let error = labels::ERROR_TYPE.label(error.as_str());
            let status = labels::STATUS.label(status);
            let own = [self.model.clone(), self.operation.clone(), self.endpoint.clone(), error, status];
            self.registrar.counter(&catalog::REQUEST_ERRORS, self.labels(&own))
        };
        errors.entry((error, status)).or_insert_with(register).clone()
    }

    pub(crate) fn duration(&self, thinking: Thinking, outcome: Outcome) -> &Histogram {
        self.durations[thinking as usize * Outcome::ALL.len() + outcome as usize].resolve(|| {
            let thinking = labels::THINKING.label(thinking.as_str());
            let outcome = labels::OUTCOME.label(outcome.as_str());
            let own = [self.model.clone(), self.operation.clone(), thinking, outcome];
            self.registrar.histogram(&catalog::REQUEST_DURATION, self.labels(&own))
        })
    }

    pub(crate) fn time_per_output_token(&self, thinking: Thinking) -> &Histogram {
        self.times_per_output_token[thinking as usize].resolve(|| {
            let thinking = labels::THINKING.label(thinking.as_str());
            let own = [self.model.clone(), self.operation.clone(), thinking];
            self.registrar.histogram(&catalog::TIME_PER_OUTPUT_TOKEN, self.labels(&own))
        })
    }

    /// Counts whether the request met its objectives. Only requests that succeeded or failed are evaluated.
    pub(crate) fn count_objectives(&self, outcome: Outcome, times: &Times) {
        for (objective, results) in &self.objectives {
            let met = match outcome {
                Outcome::Success => objective.is_met(times),
                Outcome::Error => Some(false),
                Outcome::Rejected | Outcome::Cancelled => None,
            };
            if let Some(met) = met {
                let result = if met { SloResult::Met } else { SloResult::Missed };
                results[result as usize].increment(1);
            }
        }
    }

    histograms! {
        time_to_first_token = TIME_TO_FIRST_TOKEN;
        time_to_first_answer_token = TIME_TO_FIRST_ANSWER_TOKEN;
        reasoning_duration = REASONING_DURATION;
        inter_token_latency = INTER_TOKEN_LATENCY;
        max_gap = STREAM_MAX_GAP;
        request_input_tokens = REQUEST_INPUT_TOKENS;
        request_output_tokens = REQUEST_OUTPUT_TOKENS;
        request_max_tokens = REQUEST_MAX_TOKENS;
        request_inputs = REQUEST_INPUTS;
    }

    pub(crate) fn queue(&self) -> &Histogram {
        self.queue.resolve(|| self.by_model(&catalog::REQUEST_QUEUE))
    }

    pub(crate) fn prefill(&self) -> &Histogram {
        self.prefill.resolve(|| self.by_model(&catalog::REQUEST_PREFILL))
    }

    pub(crate) fn decode(&self) -> &Histogram {
        self.decode.resolve(|| self.by_model(&catalog::REQUEST_DECODE))
    }

    fn by_model(&self, row: &MetricDef) -> Histogram {
        self.registrar.histogram(row, self.labels(std::slice::from_ref(&self.model)))
    }

    fn labels(&self, own: &[Label]) -> Vec<Label> {
        own.iter().chain(&self.extra).cloned().collect()
    }
}

/// Every combination, in the order of the index into `requests`.
fn product3(
    first: &'static [&'static str],
    second: &'static [&'static str],
    third: &'static [&'static str],
) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    first.iter().flat_map(move |a| second.iter().flat_map(move |b| third.iter().map(move |c| (*a, *b, *c))))
}

#[cfg(test)]
mod tests {
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;
    use crate::{LlmMetrics, vocabulary::Thinking};

    #[test]
    fn each_combination_of_labels_has_its_own_handles() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        let metrics = LlmMetrics::builder().recorder(recorder).models(["m"]).build().unwrap();
        let series = metrics.0.series(Endpoint::Completions, Operation::TextCompletion, Some("m"), None, true);
        let mut expected = Vec::new();
        for thinking in Thinking::ALL {
            for outcome in Outcome::ALL {
                series.duration(*thinking, *outcome).record(1.0);
                for stream in [false, true] {
                    series.requests(stream, *thinking, *outcome).increment(1);
                }
                expected.push([thinking.as_str(), outcome.as_str()].map(str::to_owned));
            }
        }
        let mut durations = Vec::new();
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let (_, key) = key.into_parts();
            let label = |name| key.labels().find(|label| label.key() == name).unwrap().value().to_owned();
            if key.name() == catalog::REQUEST_DURATION.name {
                durations.push([label("thinking"), label("outcome")]);
            } else if key.name() == catalog::REQUESTS.name && label("operation") == "text_completion" {
                assert_eq!(value, metrics_util::debugging::DebugValue::Counter(1), "{key}");
            }
        }
        durations.sort();
        expected.sort();
        assert_eq!(durations, expected);
    }
}
