//! Service level objectives, judged request by request.

use std::{sync::Arc, time::Duration};

use super::policy::{LabelPolicy, is_label_value};

/// What no request takes: a longer limit is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a request has to keep to be a good one: any of three limits, and all that are given.
///
/// `llm_slo_requests_total` counts the requests that met it and those that missed it, because from separate histograms nobody
/// can tell later which requests kept all limits at once.
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
/// - A limit that cannot be measured is left out: the time to the first token of an answer that was not streamed, the time per
///   token of one that has a single token, all at once, or several choices. A success of which no limit can be measured does not count.
/// - What takes exactly as long as the limit keeps it.
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
    /// An objective of this name, the value of the label `slo`. It needs at least one limit.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), models: None, time_to_first_token: None, time_per_output_token: None, duration: None }
    }

    /// Limits the time to the first token, reasoning included.
    pub fn time_to_first_token(mut self, limit: Duration) -> Self {
        self.time_to_first_token = Some(limit);
        self
    }

    /// Limits the mean time a token after the first one.
    pub fn time_per_output_token(mut self, limit: Duration) -> Self {
        self.time_per_output_token = Some(limit);
        self
    }

    /// Limits the time from arrival to end.
    pub fn duration(mut self, limit: Duration) -> Self {
        self.duration = Some(limit);
        self
    }

    /// Judges requests for these models alone, named as requests name them. Without, it judges all.
    ///
    /// A learnt name is known from its first accepted request on: what fails before counts under `other`. Declare models that
    /// have objectives of their own.
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

    /// Checks it, and names its models as their label does.
    pub(super) fn checked(mut self, models: &LabelPolicy) -> Result<Self, InvalidObjective> {
        if !is_label_value(&self.name) {
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

    /// Whether a request that succeeded kept every limit that can be measured; `None` where none can.
    pub(super) fn judge(&self, times: &Times) -> Option<bool> {
        let terms = [
            (self.time_to_first_token, times.time_to_first_token),
            (self.time_per_output_token, times.time_per_output_token),
            (self.duration, Some(times.duration)),
        ];
        let kept = terms.into_iter().filter_map(|(limit, time)| Some(time? <= limit?));
        kept.reduce(|all, kept| all && kept)
    }
}

/// What objectives judge of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) duration: Duration,
    pub(crate) time_to_first_token: Option<Duration>,
    pub(crate) time_per_output_token: Option<Duration>,
}

/// What is wrong with an [`Objective`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidObjective {
    /// Its name is not a valid label value.
    #[error("its name is not a valid label value: use 1 to 128 bytes, without control characters and backslashes")]
    Name,
    /// Another objective has the same name.
    #[error("another objective has the same name: names have to be unique")]
    Taken,
    /// It has no limit.
    #[error("it has no limit: set a time to first token, a time per output token, or a duration")]
    NoLimit,
    /// A limit that every request would meet, or none.
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
    fn what_takes_exactly_as_long_as_the_limit_keeps_it_and_what_cannot_be_measured_is_left_out() {
        let [limit, more] = [Duration::from_nanos(7), Duration::from_nanos(8)];
        let objective = Objective::new("all").time_to_first_token(limit).time_per_output_token(limit);
        let judge = |first, each| {
            objective.judge(&Times { duration: more, time_to_first_token: first, time_per_output_token: each })
        };
        assert_eq!(judge(Some(limit), Some(limit)), Some(true));
        assert_eq!(judge(Some(more), Some(limit)), Some(false));
        assert_eq!(judge(Some(limit), Some(more)), Some(false));
        assert_eq!(judge(Some(limit), None), Some(true));
        assert_eq!(judge(None, None), None);
        let whole = Objective::new("whole").duration(limit);
        let judge =
            |duration| whole.judge(&Times { duration, time_to_first_token: Some(more), time_per_output_token: None });
        assert_eq!((judge(limit), judge(more)), (Some(true), Some(false)));
    }
}
