//! Objectives for a share of requests.

use std::{fmt, str::FromStr, time::Duration};

use llm_metrics_monitoring::slo::Slo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    latency::Share,
    observation::{End, Observation},
};

/// The measurement that an objective limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Indicator {
    /// Requests that are answered.
    Availability,
    /// Seconds to the first token.
    TimeToFirstToken,
    /// Mean seconds per token after the first, per request.
    TimePerOutputToken,
    /// Seconds to the end of the response.
    Duration,
}

/// A share of requests that must meet a limit: `ttft=500ms@95%`, `tpot=50ms@95%`, `duration=10s@99%`, `availability@99.5%`. The default share is 95
/// %.
///
/// ```
/// use llm_metrics_baseline::Objective;
///
/// let objective: Objective = "ttft=500ms@99%".parse()?;
/// assert_eq!((objective.seconds, objective.share), (Some(0.5), 0.99));
/// assert_eq!(objective.to_string(), "time_to_first_token=0.5s@99%");
/// # Ok::<(), llm_metrics_baseline::InvalidObjective>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Objective {
    /// The measurement.
    pub indicator: Indicator,
    /// The limit in seconds; `null` for availability.
    pub seconds: Option<f64>,
    /// The share of requests, between 0 and 1.
    pub share: f64,
}

/// The text is not an objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an objective: give one with its unit, such as ttft=500ms@95%, tpot=50ms@95%, duration=10s@99% or availability@99.5%"
)]
#[non_exhaustive]
pub struct InvalidObjective(String);

/// The result for an objective.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Attainment {
    /// The objective.
    pub objective: Objective,
    /// The number of requests that were evaluated: without those whose client disconnected on purpose, and for time per output token without those
    /// with a single token. `null` in files of older versions.
    #[serde(default)]
    pub requests: Option<u64>,
    /// The share of these that met the limit. A failed request misses it.
    pub kept: Share,
    /// Whether that share reaches the objective.
    pub held: bool,
}

impl Objective {
    /// The objectives of a `slo.yaml` that a client can measure per request.
    #[must_use]
    pub fn of(slo: &Slo) -> Vec<Self> {
        let objectives = &slo.objectives;
        let (first, gaps) = (&objectives.time_to_first_token, &objectives.inter_token_latency);
        vec![
            Self { indicator: Indicator::Availability, seconds: None, share: objectives.availability },
            Self { indicator: Indicator::TimeToFirstToken, seconds: Some(first.seconds), share: first.objective },
            Self { indicator: Indicator::TimePerOutputToken, seconds: Some(gaps.seconds), share: gaps.objective },
            Self { indicator: Indicator::Duration, seconds: Some(slo.alerts.duration_p95_seconds), share: 0.95 },
        ]
    }

    /// The objectives of an empty `slo.yaml`.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        Self::of(&Slo::default())
    }

    /// `None` if no request can be evaluated.
    pub(crate) fn attainment<'a>(&self, seen: impl IntoIterator<Item = &'a Observation>) -> Option<Attainment> {
        let (mut kept, mut evaluated) = (0, 0);
        for seen in seen {
            if let Some(keeps) = self.keeps(seen) {
                evaluated += 1;
                kept += u64::from(keeps);
            }
        }
        let kept = Share::of(kept, evaluated)?;
        Some(Attainment { objective: *self, requests: Some(evaluated), kept, held: kept.value >= self.share })
    }

    fn keeps(&self, seen: &Observation) -> Option<bool> {
        let limit = self.seconds.unwrap_or(f64::INFINITY);
        let measured = match (seen.end, self.indicator) {
            (End::HungUp, Indicator::TimeToFirstToken) => seen.time_to_first_token(),
            (End::HungUp, _) => None,
            (End::Failed(_) | End::Unfinished, _) => return Some(false),
            (End::Answered, Indicator::Availability) => return Some(true),
            // A stream without tokens has no time to first token, but did not miss it.
            (End::Answered, Indicator::TimeToFirstToken) if seen.streamed => {
                return Some(seen.time_to_first_token().is_some_and(|seconds| seconds <= limit));
            }
            (End::Answered, Indicator::TimeToFirstToken) => seen.time_to_first_token(),
            (End::Answered, Indicator::TimePerOutputToken) => seen.time_per_output_token(),
            (End::Answered, Indicator::Duration) => seen.duration(),
        };
        measured.map(|seconds| seconds <= limit)
    }
}

impl Indicator {
    /// Its name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::TimeToFirstToken => "time_to_first_token",
            Self::TimePerOutputToken => "time_per_output_token",
            Self::Duration => "duration",
        }
    }
}

impl FromStr for Objective {
    type Err = InvalidObjective;

    fn from_str(text: &str) -> Result<Self, InvalidObjective> {
        let wrong = || InvalidObjective(text.to_owned());
        let (limit, share) = text.split_once('@').unwrap_or((text, "95%"));
        let share = match share.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
            None => share.parse(),
        };
        let share = share.ok().filter(|share| *share > 0.0 && *share <= 1.0).ok_or_else(wrong)?;
        let (name, seconds) = match limit.split_once('=') {
            Some((name, limit)) => (name, Some(seconds(limit).ok_or_else(wrong)?)),
            None => (limit, None),
        };
        let indicator = match name {
            "availability" => Indicator::Availability,
            "ttft" | "time_to_first_token" => Indicator::TimeToFirstToken,
            "tpot" | "time_per_output_token" => Indicator::TimePerOutputToken,
            "e2e" | "duration" => Indicator::Duration,
            _ => return Err(wrong()),
        };
        if (indicator == Indicator::Availability) != seconds.is_none() {
            return Err(wrong());
        }
        Ok(Self { indicator, seconds, share })
    }
}

/// `500ms`, `0.5s`, `1m 30s`. A number without a unit is rejected, because `ttft=500` hardly means 500 seconds.
fn seconds(text: &str) -> Option<f64> {
    let fraction = text
        .strip_suffix("ms")
        .map(|number| (number, 1e-3))
        .or_else(|| text.strip_suffix('s').map(|number| (number, 1.0)));
    let seconds = fraction.and_then(|(number, unit)| number.trim().parse::<f64>().ok().map(|number| number * unit));
    let seconds = seconds.or_else(|| humantime::parse_duration(text).ok().as_ref().map(Duration::as_secs_f64));
    seconds.filter(|seconds| seconds.is_finite() && *seconds > 0.0)
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.indicator.name())?;
        if let Some(seconds) = self.seconds {
            write!(f, "={seconds}s")?;
        }
        // 0.995 is 99.5 %, and not 99.49999 %.
        write!(f, "@{}%", (self.share * 1e6).round() / 1e4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::ErrorKind;

    #[test]
    fn objectives_are_read_as_they_are_written() {
        for (text, same) in [
            ("ttft=500ms@95%", "time_to_first_token=0.5s@95%"),
            ("tpot=12.5ms", "time_per_output_token=0.0125s@95%"),
            ("e2e=1m@0.5", "duration=60s@50%"),
            ("availability@99.5%", "availability@99.5%"),
        ] {
            let objective: Objective = text.parse().unwrap();
            assert_eq!(objective.to_string(), same);
            assert_eq!(same.parse(), Ok(objective));
        }
        for wrong in [
            "",
            "ttft",
            "ttft=",
            "ttft=x",
            "ttft=500",
            "ttft=0.5",
            "ttft=ms",
            "ttft=-1",
            "ttft=1s@0%",
            "ttft=1s@101%",
            "availability=3@9%",
            "x=1s",
        ] {
            assert!(wrong.parse::<Objective>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_stream_without_tokens_misses_time_to_first_token() {
        let mut seen = Observation::new(Duration::ZERO);
        (seen.end, seen.ended) = (End::Answered, Duration::from_millis(1));
        let kept =
            |seen: &Observation| "ttft=1s".parse::<Objective>().unwrap().attainment([seen]).map(|kept| kept.held);
        seen.streamed = true;
        assert_eq!(kept(&seen), Some(false));
        seen.streamed = false;
        assert_eq!(kept(&seen), None, "it was to come in one piece");
    }

    #[test]
    fn failures_miss_the_objective_and_disconnects_do_not_count() {
        let at = Duration::from_millis;
        let seen = |end, first: u64| {
            let mut seen = Observation::new(at(0));
            (seen.end, seen.first_token, seen.ended) = (end, Some(at(first)), at(2 * first));
            seen
        };
        let all = [
            seen(End::Answered, 100),
            seen(End::Answered, 900),
            seen(End::HungUp, 100),
            seen(End::Failed(ErrorKind::StreamError), 100),
            seen(End::Unfinished, 100),
        ];
        let kept =
            |text: &str| text.parse::<Objective>().unwrap().attainment(&all).map(|attainment| attainment.kept.value);
        assert_eq!(kept("ttft=500ms"), Some(2.0 / 5.0));
        assert_eq!(kept("duration=500ms"), Some(1.0 / 4.0));
        assert_eq!(kept("availability@99%"), Some(2.0 / 4.0));
        assert_eq!(
            "tpot=1s".parse::<Objective>().unwrap().attainment(&all[..3]),
            None,
            "one token each: nothing to evaluate"
        );
        assert!("ttft=500ms@40%".parse::<Objective>().unwrap().attainment(&all).unwrap().held);
        assert!(!"ttft=500ms@41%".parse::<Objective>().unwrap().attainment(&all).unwrap().held);
    }
}
