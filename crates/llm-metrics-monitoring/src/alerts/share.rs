//! Alerts on a share of events, each in one entry, from which expression, guard, texts and cases are built.

use super::{
    Alert, Case, Severity, TestSeries, Values, Variant,
    case::{just_above, percent},
};
use crate::{
    promql::{Counter, Expr, Window},
    rule::{Level, Rule},
};

/// A share needs at least this many events in the window.
const LEAST_EVENTS: f64 = 20.0;

/// The alert: too high a share of these events, relative to all of them.
pub(super) struct Share<'a> {
    pub(super) name: &'static str,
    /// The text after the value, with its verb: "… of answers".
    pub(super) are: &'a str,
    pub(super) description: &'a str,
    pub(super) settings: &'static [&'static str],
    /// The severity for each threshold, the highest first.
    pub(super) levels: &'a [(Severity, f64)],
    pub(super) window: Window,
    pub(super) hold: u32,
    pub(super) bad: Counter,
    /// The counter of the other events, if it is of the same metric.
    pub(super) good: Option<Counter>,
    pub(super) all: Counter,
    /// The counter of events of the same metric that are in neither.
    pub(super) neither: Option<Counter>,
    /// The rule that records the share over the window, if there is one.
    pub(super) recorded: Option<&'a Rule>,
}

impl Share<'_> {
    pub(super) fn alert(self) -> Alert {
        let summary = format!("{{{{ $labels.model }}}}: {{{{ $value | humanizePercentage }}}} {}", self.are);
        let description = format!("{} The share is over {}.", self.description, self.window);
        let mut alert = Alert::new(self.name, summary, description).settings(self.settings);
        for (index, (severity, limit)) in self.levels.iter().enumerate() {
            let hold = Window::minutes(self.hold);
            alert =
                alert.variant(Variant::new(*severity, hold, self.above(*limit)).keep_firing_for(Window::minutes(10)));
            // A share above one threshold is also above the lower ones.
            let fire = |case: Case, share: f64| {
                let levels = self.levels.iter().enumerate().filter(|(_, (_, limit))| share > *limit);
                levels.fold(case, |case, (variant, _)| case.firing(variant, percent(share), &[]))
            };
            let (above, below) = (just_above(*limit), limit * 0.99);
            let at = self.hold + 5;
            let case = |what: &str, at, share| {
                Case::quiet(format!("{what} {}", percent(*limit)), at, self.series(share, 1000.0))
            };
            alert =
                alert.case(fire(case("just above", at, above), above)).case(fire(case("just below", at, below), below));
            if index == 0 {
                alert = alert.case(case("not yet for long enough above", self.hold - 1, above));
            }
        }
        let minutes = self.window.as_seconds().unwrap_or(60) / 60;
        let all = |case: Case, share: f64| {
            (0..self.levels.len()).fold(case, |case, variant| case.firing(variant, percent(share), &[]))
        };
        let at = self.hold + minutes + 15;
        let nearly_all = just_above(self.levels[0].1).max(0.99);
        let events = |part: f64| self.series(nearly_all, LEAST_EVENTS * part / f64::from(minutes));
        // In parts of 1024, a counter is exact: no rounding error makes it decrease.
        let highest_severity_share = (just_above(self.levels[0].1) * 1024.0).ceil() / 1024.0;
        let over_at = self.hold + 6;
        let over =
            self.series(highest_severity_share, 1024.0).into_iter().map(|series| series.ends_at(over_at)).collect();
        alert
            .case(Case::quiet("too few events", at, events(0.95)))
            .case(all(Case::quiet("just enough events", at, events(1.05)), nearly_all))
            .case(all(Case::quiet("over for a moment", over_at + minutes + 2, over), highest_severity_share))
    }

    fn above(&self, limit: f64) -> Expr {
        let by_model = |expr: Expr| expr.sum_by(Level::JobModel.labels());
        let share = match self.recorded {
            Some(rule) => rule.now(),
            None => by_model(self.bad.clone().rate(self.window)) / by_model(self.all.clone().rate(self.window)),
        };
        share.gt(limit).and(by_model(self.all.clone().increase(self.window)).gt(LEAST_EVENTS))
    }

    /// This many events per minute, with this share of bad ones.
    fn series(&self, share: f64, events: f64) -> Vec<TestSeries> {
        let bad = self.bad.clone().series(Values::rising(share * events));
        let neither = self.neither.clone().map(|neither| neither.series(Values::rising(1000.0)));
        let rest = match &self.good {
            Some(good) => good.clone().series(Values::rising((1.0 - share) * events)),
            None => self.all.clone().series(Values::rising(events)),
        };
        [bad, rest].into_iter().chain(neither).collect()
    }
}
