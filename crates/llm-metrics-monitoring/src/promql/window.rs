//! Durations in expressions.

use std::fmt;

/// A duration: the window of a range, an offset, or the `for` of an alert.
///
/// ```
/// use llm_metrics_monitoring::promql::Window;
///
/// assert_eq!(Window::minutes(90).to_string(), "90m");
/// assert_eq!(Window::hours(72).to_string(), "3d");
/// assert_eq!(Window::RATE.to_string(), "$__rate_interval");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(Length);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Seconds(u32),
    Variable(&'static str),
}

impl Window {
    /// Grafana's window for `rate`: at least four scrapes, more if the graph has a low resolution. Dashboards only.
    pub const RATE: Self = Self(Length::Variable("$__rate_interval"));
    /// The distance between two points of the graph. Dashboards only.
    pub const STEP: Self = Self(Length::Variable("$__interval"));
    /// The whole time range of the dashboard. Dashboards only.
    pub const RANGE: Self = Self(Length::Variable("$__range"));

    /// This many seconds.
    #[must_use]
    pub const fn seconds(seconds: u32) -> Self {
        Self(Length::Seconds(seconds))
    }

    /// This many minutes.
    #[must_use]
    pub const fn minutes(minutes: u32) -> Self {
        Self::seconds(minutes * 60)
    }

    /// This many hours.
    #[must_use]
    pub const fn hours(hours: u32) -> Self {
        Self::minutes(hours * 60)
    }

    /// This many days.
    #[must_use]
    pub const fn days(days: u32) -> Self {
        Self::hours(days * 24)
    }

    /// The seconds, unless it is a dashboard variable.
    #[must_use]
    pub const fn as_seconds(self) -> Option<u32> {
        match self.0 {
            Length::Seconds(seconds) => Some(seconds),
            Length::Variable(_) => None,
        }
    }

    pub(crate) const fn is_variable(self) -> bool {
        matches!(self.0, Length::Variable(_))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];
        match self.0 {
            Length::Variable(name) => f.write_str(name),
            Length::Seconds(seconds) => {
                let fits = |(size, _): &&(u32, &str)| seconds >= *size && seconds % size == 0;
                let (size, unit) = UNITS.iter().find(fits).copied().unwrap_or((1, "s"));
                write!(f, "{}{unit}", seconds / size)
            }
        }
    }
}
