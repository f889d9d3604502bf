//! The parts of a dashboard: as much of Grafana's model as ours need, with nothing that could be omitted by mistake. Every panel has a title, a
//! description and a unit, because the constructors require them.

use llm_metrics::catalog::MetricDef;

use crate::promql::{Expr, Window};

/// Maps labels to the dashboard variables that filter them.
pub(crate) type Scope = &'static [(&'static str, &'static str)];

/// A dashboard.
#[derive(Clone, Debug)]
pub(crate) struct Dashboard {
    /// Its permanent id, used in URLs.
    pub(crate) uid: &'static str,
    /// The title.
    pub(crate) title: &'static str,
    /// Its purpose.
    pub(crate) description: &'static str,
    /// The variables at its top.
    pub(crate) variables: &'static [Variable],
    /// The default filters of its panels.
    pub(crate) scope: Scope,
    /// The panels, in rows.
    pub(crate) rows: Vec<Row>,
}

/// A variable of a dashboard: the values of a label of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) row: &'static MetricDef,
    pub(crate) label: &'static str,
    /// Only values that exist with the previous choices.
    pub(crate) within: Scope,
    /// One value at a time, without "all".
    pub(crate) single: bool,
}

/// Panels under a heading.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The heading.
    pub(crate) title: &'static str,
    /// The default text of an empty panel.
    pub(crate) empty: &'static str,
    /// From left to right, as many per line as fit.
    pub(crate) panels: Vec<Panel>,
}

impl Row {
    pub(crate) fn new(title: &'static str, empty: &'static str, panels: Vec<Panel>) -> Self {
        Self { title, empty, panels }
    }
}

/// A panel.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// Its visualization.
    pub(crate) kind: Kind,
    /// The title.
    pub(crate) title: &'static str,
    /// Its description: what it shows, and how to read it.
    pub(crate) description: String,
    /// Grafana's name of the unit.
    pub(crate) unit: &'static str,
    /// Its queries.
    pub(crate) targets: Vec<Target>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) decimals: Option<u32>,
    pub(crate) bounds: (Option<f64>, Option<f64>),
    pub(crate) reach: Option<f64>,
    /// Colours by value: each from its threshold on, the first below that.
    pub(crate) steps: (&'static str, Vec<(f64, &'static str)>),
    pub(crate) colors: Vec<(&'static str, &'static str)>,
    pub(crate) dashed: Vec<&'static str>,
    pub(crate) scope: Option<Scope>,
    /// A logarithmic axis, if one outlier would flatten everything else.
    pub(crate) log: bool,
    /// The text if it is empty, if it differs from that of its row.
    pub(crate) empty: Option<&'static str>,
    /// Series whose names match get this line style: dashes and gaps.
    pub(crate) strokes: Vec<(&'static str, &'static [u32])>,
    /// The display of a table's columns.
    pub(crate) columns: Vec<Column>,
    /// The columns by which a table is sorted, the highest first.
    pub(crate) sort: Vec<&'static str>,
}

/// The display of a table column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) decimals: Option<u32>,
    /// The links of its cells: (title, address).
    pub(crate) links: Vec<(&'static str, String)>,
    /// Texts that replace values.
    pub(crate) texts: Vec<(&'static str, String)>,
    /// Colours by value.
    pub(crate) steps: Vec<(f64, &'static str)>,
    pub(crate) width: Option<u32>,
    /// As a bar, for values from 0 to 1.
    pub(crate) bar: bool,
}

impl Column {
    pub(crate) fn new(title: &'static str, unit: &'static str) -> Self {
        let (links, texts, steps) = (Vec::new(), Vec::new(), Vec::new());
        Self { title, unit, decimals: None, links, texts, steps, width: None, bar: false }
    }
}

/// A visualization.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Lines over time.
    Lines,
    /// Areas over time, one on top of the other.
    Stacked,
    /// Bars over time, one on top of the other, for counts.
    Bars,
    /// One value.
    Stat,
    /// A table with a line per series, and these columns: (label, title).
    Table(Vec<(&'static str, &'static str)>),
    /// A heat map: the distribution of values over time.
    Heatmap,
    /// A band per series, in the colours of its states: (value, text, colour).
    States(Vec<(&'static str, &'static str, &'static str)>),
}

/// A query of a panel.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its expression.
    pub(crate) expr: Expr,
    /// The legend of its series.
    pub(crate) legend: &'static str,
    /// Only the value at the end of the time range.
    pub(crate) instant: bool,
}

impl Target {
    pub(crate) fn new(expr: impl Into<Expr>, legend: &'static str) -> Self {
        Self { expr: expr.into(), legend, instant: false }
    }
}

impl Panel {
    fn new(kind: Kind, title: &'static str, description: impl Into<String>, unit: &'static str) -> Self {
        Self {
            kind,
            title,
            description: description.into(),
            unit,
            targets: Vec::new(),
            width: 12,
            height: 8,
            decimals: None,
            bounds: (None, None),
            reach: None,
            steps: (GOOD, Vec::new()),
            colors: Vec::new(),
            dashed: Vec::new(),
            scope: None,
            log: false,
            empty: None,
            strokes: Vec::new(),
            columns: Vec::new(),
            sort: Vec::new(),
        }
    }

    pub(crate) fn log(mut self) -> Self {
        self.bounds.0 = None;
        Self { log: true, ..self }
    }

    pub(crate) fn empty(self, text: &'static str) -> Self {
        Self { empty: Some(text), ..self }
    }

    pub(crate) fn stroke(mut self, pattern: &'static str, dash: &'static [u32]) -> Self {
        self.strokes.push((pattern, dash));
        self
    }

    pub(crate) fn column(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }

    /// Sorts by this column, if the columns named before it are equal.
    pub(crate) fn sort(mut self, column: &'static str) -> Self {
        self.sort.push(column);
        self
    }

    pub(crate) fn lines(title: &'static str, description: impl Into<String>, unit: &'static str) -> Self {
        Self::new(Kind::Lines, title, description, unit).at_least(0.0)
    }

    pub(crate) fn stacked(title: &'static str, description: impl Into<String>, unit: &'static str) -> Self {
        Self::new(Kind::Stacked, title, description, unit).at_least(0.0)
    }

    pub(crate) fn bars(title: &'static str, description: impl Into<String>, unit: &'static str) -> Self {
        // Increases are extrapolated: one event may give 1.09. Whole numbers should not use the unit's thousands, which would show 1 K, 1 K, 2 K.
        let unit = if unit == units::COUNT { units::NONE } else { unit };
        Self::new(Kind::Bars, title, description, unit).at_least(0.0).reach(1.0).decimals(0)
    }

    pub(crate) fn stat(title: &'static str, description: impl Into<String>, unit: &'static str) -> Self {
        Self::new(Kind::Stat, title, description, unit).size(3, 4)
    }

    /// Shows the series of its target as table lines. The value is a column only if `columns` has `Value`.
    pub(crate) fn table(
        title: &'static str,
        description: impl Into<String>,
        columns: &[(&'static str, &'static str)],
    ) -> Self {
        Self::new(Kind::Table(columns.to_vec()), title, description, units::NONE)
    }

    /// `buckets` with the label `le`, and the unit of the observations.
    pub(crate) fn heatmap(
        title: &'static str,
        description: impl Into<String>,
        unit: &'static str,
        buckets: Expr,
    ) -> Self {
        Self::new(Kind::Heatmap, title, description, unit).target(buckets, "{{le}}")
    }

    pub(crate) fn states(
        title: &'static str,
        description: impl Into<String>,
        states: &[(&'static str, &'static str, &'static str)],
    ) -> Self {
        Self::new(Kind::States(states.to_vec()), title, description, units::COUNT)
    }

    pub(crate) fn target(mut self, expr: impl Into<Expr>, legend: &'static str) -> Self {
        self.targets.push(Target::new(expr, legend));
        self
    }

    /// The value at the end of the time range, for values that are computed over all of it.
    pub(crate) fn instant(mut self, expr: impl Into<Expr>, legend: &'static str) -> Self {
        self.targets.push(Target { instant: true, ..Target::new(expr, legend) });
        self
    }

    pub(crate) fn size(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    pub(crate) fn decimals(self, decimals: u32) -> Self {
        Self { decimals: Some(decimals), ..self }
    }

    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.bounds.0 = Some(least);
        self
    }

    pub(crate) fn between(self, least: f64, most: f64) -> Self {
        Self { bounds: (Some(least), Some(most)), ..self }
    }

    /// The axis extends at least to this value.
    pub(crate) fn reach(self, value: f64) -> Self {
        Self { reach: Some(value), ..self }
    }

    /// `below` up to the first value, then each colour from its value on. On a graph, these are lines.
    pub(crate) fn steps(self, below: &'static str, steps: &[(f64, &'static str)]) -> Self {
        Self { steps: (below, steps.to_vec()), ..self }
    }

    /// A line for a limit.
    pub(crate) fn limit(self, value: f64) -> Self {
        self.steps(GOOD, &[(value, BAD)])
    }

    pub(crate) fn colors(self, colors: &[(&'static str, &'static str)]) -> Self {
        Self { colors: colors.to_vec(), ..self }
    }

    /// Series whose names match are limits or forecasts: thin, dashed, not filled.
    pub(crate) fn dashed(mut self, pattern: &'static str) -> Self {
        self.dashed.push(pattern);
        self
    }

    pub(crate) fn scope(self, scope: Scope) -> Self {
        Self { scope: Some(scope), ..self }
    }
}

/// The colour of good values. Colour-blind people can distinguish blue, orange and dark red.
pub(crate) const GOOD: &str = "blue";
/// The colour of values that need attention.
pub(crate) const WARN: &str = "orange";
/// The colour of bad values.
pub(crate) const BAD: &str = "dark-red";

/// Grafana's names of units.
pub(crate) mod units {
    pub(crate) const COUNT: &str = "short";
    /// Unchanged.
    pub(crate) const NONE: &str = "none";
    pub(crate) const RATIO: &str = "percentunit";
    pub(crate) const SECONDS: &str = "s";
    /// Seconds, as hours, minutes and seconds.
    pub(crate) const CLOCK: &str = "dthms";
    pub(crate) const BYTES: &str = "bytes";
    pub(crate) const BYTES_PER_SECOND: &str = "binBps";
    pub(crate) const REQUESTS_PER_SECOND: &str = "reqps";
    pub(crate) const TOKENS: &str = "suffix:tok";
    pub(crate) const TOKENS_PER_SECOND: &str = "suffix:tok/s";
    pub(crate) const PER_SECOND: &str = "cps";
    pub(crate) const JOULES_PER_TOKEN: &str = "suffix:J/tok";
    pub(crate) const CORES: &str = "suffix:cores";
    pub(crate) const WATTS: &str = "watt";
    pub(crate) const CELSIUS: &str = "celsius";
    /// A time in milliseconds, as time of day, with the date if it is not today. Not "an hour ago", which Grafana also shows for 46 minutes.
    pub(crate) const TIME: &str = "dateTimeAsIsoNoDateIfToday";
    /// Multiples.
    pub(crate) const TIMES: &str = "suffix: x";
}

/// The window of rates on dashboards.
pub(crate) const RATE: Window = Window::RATE;
