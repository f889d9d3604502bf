//! Service level objectives, evaluated for each request.

use std::{sync::Arc, time::Duration};

use super::policy::LabelPolicy;
use crate::catalog::LabelValueRule;

/// No request takes longer: a longer limit is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Limits that a request must meet: one, two or three latencies.
///
/// `llm_slo_requests_total` counts the requests that met it and those that missed it. Separate histograms cannot show how many requests met all
/// limits.
///
/// ```
/// use std::time::Duration;
/// use llm_metrics::{LlmMetrics, Objective};
///
/// let chat = Objective::new("chat")
///     .time_to_first_token(Duration::from_millis(500))
///     .time_per_output_token(Duration::from_millis(50));
/// let metrics = LlmMetrics::builder()
///     .objective(chat)
///     .objective(Objective::new("batch").duration(Duration::from_secs(60)).models(["Qwen3-14B"]))
///     .build()?;
/// # Ok::<(), llm_metrics::BuildError>(())
/// ```
///
/// - A request that ended with an error has missed it. Rejected and cancelled requests do not count.
/// - A limit that cannot be measured is ignored: the time to first token of a response that was not streamed, and the time per output token of a
///   response with a single token, with all tokens in one event, or with several choices. A success for which no limit can be measured does not
///   count.
/// - A latency equal to its limit meets the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an objective does nothing until it is given to the builder"]
pub struct Objective {
    name: Arc<str>,
    models: Option<Vec<String>>,
    time_to_first_token: Option<Duration>,
    time_per_output_token: Option<Duration>,
    duration: Option<Duration>,
}

impl Objective {
    /// An objective with this name, the value of the label `slo`. It needs at least one limit.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), models: None, time_to_first_token: None, time_per_output_token: None, duration: None }
    }

    /// Limits the time to first token, including reasoning.
    pub fn time_to_first_token(mut self, limit: Duration) -> Self {
        self.time_to_first_token = Some(limit);
        self
    }

    /// Limits the mean time per output token after the first.
    pub fn time_per_output_token(mut self, limit: Duration) -> Self {
        self.time_per_output_token = Some(limit);
        self
    }

    /// Limits the time from the arrival of the request to its end.
    pub fn duration(mut self, limit: Duration) -> Self {
        self.duration = Some(limit);
        self
    }

    /// Applies the objective only to requests for these models, with the names that requests use. Without this, it applies to all.
    ///
    /// A learnt name is known from its first accepted request on. Requests that fail before that count under `other`. Declare the models of such an
    /// objective.
    pub fn models<I>(mut self, models: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.models = Some(models.into_iter().map(Into::into).collect());
        self
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Validates the objective, and maps the names of its models to label values.
    pub(super) fn checked(mut self, models: &LabelPolicy) -> Result<Self, InvalidObjective> {
        if !LabelPolicy::is_label_value(&self.name) {
            return Err(InvalidObjective::Name);
        }
        let limits = [self.time_to_first_token, self.time_per_output_token, self.duration];
        if limits.iter().all(Option::is_none) {
            return Err(InvalidObjective::NoLimit);
        }
        if let Some(limit) = limits.into_iter().flatten().find(|limit| limit.is_zero() || *limit > LONGEST) {
            return Err(InvalidObjective::Limit { limit });
        }
        if let Some(own) = &mut self.models {
            if own.is_empty() {
                return Err(InvalidObjective::NoModel);
            }
            for model in own {
                let value = models.possible(model);
                *model = value.ok_or_else(|| InvalidObjective::Model { model: model.clone() })?;
            }
        }
        Ok(self)
    }

    pub(super) fn is_for(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|own| own == model))
    }

    /// Whether a successful request met every limit that can be measured; `None` if no limit can be measured.
    pub(super) fn is_met(&self, times: &Times) -> Option<bool> {
        let terms = [
            (self.time_to_first_token, times.time_to_first_token),
            (self.time_per_output_token, times.time_per_output_token),
            (self.duration, Some(times.duration)),
        ];
        let kept = terms.into_iter().filter_map(|(limit, time)| Some(time? <= limit?));
        kept.reduce(|all, kept| all && kept)
    }
}

/// The latencies of a request that objectives limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) duration: Duration,
    pub(crate) time_to_first_token: Option<Duration>,
    pub(crate) time_per_output_token: Option<Duration>,
}

/// Why an [`Objective`] is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidObjective {
    /// Its name is not a valid label value.
    #[error("its name is not a valid label value: {LabelValueRule}")]
    Name,
    /// Another objective has the same name.
    #[error("another objective has the same name: names have to be unique")]
    Taken,
    /// It has no limit.
    #[error("it has no limit: set a time to first token, a time per output token, or a duration")]
    NoLimit,
    /// A limit that every request, or no request, would meet.
    #[error("its limit {limit:?} is invalid: use more than zero and at most one day")]
    Limit {
        /// The limit.
        limit: Duration,
    },
    /// Its list of models is empty.
    #[error("its list of models is empty: name at least one, or leave out the list to apply it to all models")]
    NoModel,
    /// A model that can never be a value of the label `model`.
    #[error(
        "its model {model:?} can never be a value of the label `model`: add it to the fixed list of models, or check its spelling"
    )]
    Model {
        /// The model.
        model: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_equal_to_the_limit_meets_it_and_an_unknown_latency_is_ignored() {
        let [limit, more] = [Duration::from_nanos(7), Duration::from_nanos(8)];
        let objective = Objective::new("all").time_to_first_token(limit).time_per_output_token(limit);
        let judge = |first, each| {
            objective.is_met(&Times { duration: more, time_to_first_token: first, time_per_output_token: each })
        };
        assert_eq!(judge(Some(limit), Some(limit)), Some(true));
        assert_eq!(judge(Some(more), Some(limit)), Some(false));
        assert_eq!(judge(Some(limit), Some(more)), Some(false));
        assert_eq!(judge(Some(limit), None), Some(true));
        assert_eq!(judge(None, None), None);
        let whole = Objective::new("whole").duration(limit);
        let judge =
            |duration| whole.is_met(&Times { duration, time_to_first_token: Some(more), time_per_output_token: None });
        assert_eq!((judge(limit), judge(more)), (Some(true), Some(false)));
    }
}
