//! Lengths as a distribution.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A distribution of lengths: `64`, `32..128` (uniform), or `~64` (log-normal with a median of 64, like the lengths of real prompts and answers: many
/// short ones, few very long ones).
///
/// ```
/// use llm_metrics_baseline::Lengths;
///
/// assert_eq!("32..128".parse(), Ok(Lengths::Uniform(32, 128)));
/// assert_eq!("~64".parse(), Ok(Lengths::LogNormal(64)));
/// assert!("128..32".parse::<Lengths>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[non_exhaustive]
pub enum Lengths {
    /// Always this.
    Fixed(u32),
    /// Between these, both included.
    Uniform(u32, u32),
    /// Log-normal with this median and a deviation of 0.7 in the logarithm, up to 16 times the median.
    LogNormal(u32),
}

/// The text is not a length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid length: use a form such as 64, 32..128 or ~64, up to {MOST}")]
#[non_exhaustive]
pub struct InvalidLengths(String);

const MOST: u32 = 1 << 20;
const DEVIATION: f64 = 0.7;

impl Lengths {
    pub(crate) fn draw(self, random: &mut fastrand::Rng) -> u32 {
        match self {
            Self::Fixed(length) => length,
            Self::Uniform(least, most) => random.u32(least..=most),
            Self::LogNormal(median) => {
                // Box and Muller.
                let normal =
                    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (2.0 * std::f64::consts::PI * random.f64()).cos();
                let length = f64::from(median) * (DEVIATION * normal).exp();
                (length.round() as u32).min(median.saturating_mul(16))
            }
        }
    }
}

impl FromStr for Lengths {
    type Err = InvalidLengths;

    fn from_str(text: &str) -> Result<Self, InvalidLengths> {
        let number = |text: &str| text.trim().parse().ok().filter(|number| *number <= MOST);
        let lengths = match (text.split_once(".."), text.strip_prefix('~')) {
            (Some((least, most)), _) => number(least).zip(number(most)).map(|(least, most)| Self::Uniform(least, most)),
            (None, Some(median)) => number(median).map(Self::LogNormal),
            (None, None) => number(text).map(Self::Fixed),
        };
        lengths
            .filter(|lengths| !matches!(lengths, Self::Uniform(least, most) if least > most))
            .ok_or_else(|| InvalidLengths(text.to_owned()))
    }
}

impl TryFrom<String> for Lengths {
    type Error = InvalidLengths;

    fn try_from(text: String) -> Result<Self, InvalidLengths> {
        text.parse()
    }
}

impl From<Lengths> for String {
    fn from(lengths: Lengths) -> Self {
        lengths.to_string()
    }
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Uniform(least, most) => write!(f, "{least}..{most}"),
            Self::LogNormal(median) => write!(f, "~{median}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_can_be_read_back() {
        for text in ["0", "64", "32..128", "7..7", "~64"] {
            assert_eq!(text.parse::<Lengths>().unwrap().to_string(), text);
        }
        for wrong in ["", "-1", "1..", "..", "128..32", "~", "~-3", "1e3", "99999999"] {
            assert!(wrong.parse::<Lengths>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_log_normal_length_has_its_median_and_an_end() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut drawn: Vec<_> = (0..10_001).map(|_| Lengths::LogNormal(64).draw(&mut random)).collect();
        drawn.sort_unstable();
        assert!((60..=68).contains(&drawn[5000]), "{}", drawn[5000]);
        assert!(drawn[8413] > 118 && drawn[8413] < 140, "one deviation up is twice the median: {}", drawn[8413]);
        assert!(drawn[10_000] <= 64 * 16);
    }
}
