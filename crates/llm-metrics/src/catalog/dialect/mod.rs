//! Other projects' names for the metrics of the catalogue.
//!
//! A request is recorded once, under the rows of the catalogue. A [`Dialect`] defines the names, labels and buckets under which an exporter shows
//! these rows: our own, OpenTelemetry's, or vLLM's. In a dialect of another project, each row has a [`Family`], or is in
//! [`Dialect::absent`] with the reason.
//!
//! ```
//! use llm_metrics::catalog::{self, Dialect};
//!
//! let vllm = Dialect::Vllm;
//! let first_token = vllm.families().into_iter().find(|family| family.name == "vllm:time_to_first_token_seconds").unwrap();
//! assert_eq!(first_token.sources[0].row, catalog::TIME_TO_FIRST_TOKEN);
//! assert!(first_token.buckets.contains(&2560.0));
//! assert!(vllm.absent().any(|(row, _)| row == catalog::DISCARDED_TOKENS));
//! ```

mod otel;
mod vllm;

use std::{borrow::Cow, fmt};

use crate::catalog::{self as rows, Kind, LabelDef, MetricDef};

/// The names under which metrics are shown. Pass dialects to `ExporterBuilder::dialects`. `METRICS.md` in the repository
/// lists the names of each, and `docs/dialects.md` describes the differences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The names of the catalogue. The default.
    #[default]
    Llm,
    /// OpenTelemetry's semantic conventions for generative AI.
    Otel(Otel),
    /// The names, labels and bucket bounds of vLLM. Its dashboards, and routers that read vLLM's metrics, work with them.
    Vllm,
}

/// Settings of OpenTelemetry's names. The conventions require a provider on each series, which only the embedder knows.
///
/// ```
/// use llm_metrics::catalog::Otel;
///
/// let serving = Otel::new("my-company");
/// let calling = Otel::new("openai").client();
/// # let _ = (serving, calling);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Otel {
    provider: Cow<'static, str>,
    client: bool,
    semconv_1_36: bool,
}

impl Otel {
    /// The names of v0.1.0 of the GenAI registry, for a service that answers requests. `provider` becomes `gen_ai.provider.name`: one of [the
    /// well-known values][values] if the models are from one of these providers, otherwise a name that you choose.
    ///
    /// [values]: https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
    #[must_use]
    pub fn new(provider: impl Into<Cow<'static, str>>) -> Self {
        Self { provider: provider.into(), client: false, semconv_1_36: false }
    }

    /// For a service that sends requests: durations are `gen_ai.client.…` instead of `gen_ai.server.…`.
    #[must_use]
    pub fn client(mut self) -> Self {
        self.client = true;
        self
    }

    /// The names of the semantic conventions 1.36, before the GenAI registry became separate. Most emitters and dashboards use these names.
    #[must_use]
    pub fn semconv_1_36(mut self) -> Self {
        self.semconv_1_36 = true;
        self
    }
}

impl From<Otel> for Dialect {
    fn from(otel: Otel) -> Self {
        Self::Otel(otel)
    }
}

/// Formats the name of the dialect. It does not have the provider, so it cannot be parsed.
impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Llm => "llm",
            Self::Otel(Otel { client: false, semconv_1_36: false, .. }) => "otel",
            Self::Otel(Otel { client: true, semconv_1_36: false, .. }) => "otel-client",
            Self::Otel(Otel { client: false, semconv_1_36: true, .. }) => "otel-1.36",
            Self::Otel(Otel { client: true, semconv_1_36: true, .. }) => "otel-client-1.36",
            Self::Vllm => "vllm",
        })
    }
}

/// A metric in a dialect.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Family {
    /// Its full name, with its unit and `_total`. OpenTelemetry's names have dots; a page without UTF-8 names has underscores instead.
    pub name: &'static str,
    /// The HELP text: that of the row, unless several rows make up the family.
    pub help: &'static str,
    /// The kind of the metric.
    pub kind: Kind,
    /// The rows that the family consists of. Series with the same labels in the dialect are added up.
    pub sources: Vec<Source>,
    /// The upper bounds of its buckets; empty unless it is a histogram.
    pub buckets: &'static [f64],
    /// Whether values of `le` are formatted as Python does: `1.0`, not `1`.
    pub python_floats: bool,
}

/// Where the series of a [`Family`] come from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Source {
    /// The row of the catalogue. Its labels that are not in `labels` are removed, and the series are added up.
    pub row: MetricDef,
    /// The labels that the family keeps.
    pub labels: &'static [LabelMapping],
    /// Labels with one value.
    pub constant: Vec<(&'static str, Cow<'static, str>)>,
}

/// How a label of the catalogue appears in a dialect. If several mappings of a source lead to one label, the first that gives it a value decides.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LabelMapping {
    /// Its name in the catalogue.
    pub from: LabelDef,
    /// Its name in the dialect.
    pub to: &'static str,
    /// How its values change.
    pub value: fn(&str) -> Value<'_>,
}

impl PartialEq for LabelMapping {
    fn eq(&self, other: &Self) -> bool {
        (self.from, self.to) == (other.from, other.to)
    }
}

/// How a value of a label changes in a dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// This value.
    Is(&'a str),
    /// The series does not have the label.
    NoLabel,
    /// The series is not in this family.
    NoSeries,
}

impl Dialect {
    /// The metrics of this dialect. Empty for [`Dialect::Llm`], whose metrics are the catalogue itself.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        match self {
            Self::Llm => Vec::new(),
            Self::Otel(otel) => otel::families(otel),
            Self::Vllm => vllm::families(),
        }
    }

    /// The rows of the catalogue for which the dialect has no metric, with the reason.
    pub fn absent(&self) -> impl Iterator<Item = (MetricDef, &'static str)> + use<> {
        let groups = match self {
            Self::Llm => &[],
            Self::Otel(otel) => otel::absent(otel),
            Self::Vllm => vllm::ABSENT,
        };
        groups.iter().flat_map(|(reason, rows)| rows.iter().map(|row| (*row, *reason)))
    }

    /// The names of the families that a row is part of.
    pub(crate) fn names_of(&self, row: &MetricDef) -> Vec<&'static str> {
        let families = self.families().into_iter();
        families
            .filter(|family| family.sources.iter().any(|source| source.row == *row))
            .map(|family| family.name)
            .collect()
    }
}

type Absent = &'static [(&'static str, &'static [MetricDef])];

/// Rows that are absent in every other dialect.
const ABOUT_THIS_LIBRARY: (&str, &[MetricDef]) = (
    "It is about this library.",
    &[rows::LABEL_OVERFLOW, rows::INSPECTION_FAILURES, rows::BODIES_SKIPPED, rows::REQUESTS_PASSED, rows::BUILD_INFO],
);

const fn label(from: LabelDef, to: &'static str) -> LabelMapping {
    LabelMapping { from, to, value: same }
}

fn same(value: &str) -> Value<'_> {
    Value::Is(value)
}

impl Family {
    fn of(name: &'static str, row: MetricDef, labels: &'static [LabelMapping]) -> Self {
        Self {
            name,
            help: row.help,
            kind: row.kind,
            sources: vec![Source { row, labels, constant: Vec::new() }],
            buckets: &[],
            python_floats: false,
        }
    }

    fn with_buckets(mut self, buckets: &'static [f64]) -> Self {
        self.buckets = buckets;
        self
    }

    /// Adds a row whose series are part of the family.
    fn and(mut self, row: MetricDef, labels: &'static [LabelMapping]) -> Self {
        self.sources.push(Source { row, labels, constant: Vec::new() });
        self
    }

    /// Adds a label with one value to the series of the row that was added last.
    fn constant(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.sources.last_mut().expect("a family has a source").constant.push((name, value.into()));
        self
    }

    /// Adds a label with one value to all series.
    fn constant_everywhere(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        self.sources.iter_mut().for_each(|source| source.constant.push((name, value.clone())));
        self
    }

    /// The names of all labels of its series, with underscores.
    #[cfg(feature = "prometheus")]
    pub(crate) fn labels(&self) -> impl Iterator<Item = String> + '_ {
        self.sources.iter().flat_map(|source| {
            let mapped = source.labels.iter().map(|mapping| mapping.to);
            mapped.chain(source.constant.iter().map(|(name, _)| *name)).map(|name| name.replace('.', "_"))
        })
    }

    fn helped(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{all, buckets::validate};

    fn dialects() -> Vec<Dialect> {
        let otel = || Otel::new("p");
        vec![
            otel().into(),
            otel().client().into(),
            otel().semconv_1_36().into(),
            otel().client().semconv_1_36().into(),
            Dialect::Vllm,
        ]
    }

    #[test]
    fn each_dialect_has_its_own_name() {
        let names: Vec<_> = dialects().iter().map(Dialect::to_string).collect();
        assert_eq!(names, ["otel", "otel-client", "otel-1.36", "otel-client-1.36", "vllm"]);
        assert_eq!(format!("{:>5}", Dialect::Llm), "  llm");
    }

    #[test]
    fn each_row_has_a_family_or_a_reason_in_each_dialect() {
        for dialect in dialects() {
            let absent: Vec<_> = dialect.absent().collect();
            for row in all() {
                let reasons = absent.iter().filter(|(other, _)| other == row).count();
                let there = usize::from(!dialect.names_of(row).is_empty());
                assert_eq!(reasons + there, 1, "{} in {dialect:?}", row.name);
            }
            assert!(absent.iter().all(|(_, reason)| reason.ends_with('.')));
        }
    }

    #[test]
    fn families_only_use_labels_and_buckets_of_their_rows() {
        for family in dialects().iter().flat_map(Dialect::families) {
            assert_eq!(family.kind == Kind::Histogram, validate(family.buckets).is_ok(), "{}", family.name);
            for source in &family.sources {
                assert_eq!(source.row.kind, family.kind, "{}", family.name);
                for mapping in source.labels {
                    assert!(source.row.labels.contains(&mapping.from), "{}: {}", family.name, mapping.from);
                }
                let mut names: Vec<_> = source.labels.iter().map(|mapping| mapping.to).collect();
                for pair in source.labels.windows(2).filter(|pair| pair[0].to == pair[1].to) {
                    let leaves_it_out = |value: &&str| (pair[0].value)(value) == Value::NoLabel;
                    assert!(
                        pair[0].from.values.iter().any(leaves_it_out),
                        "{}: {} decides alone",
                        family.name,
                        pair[0].from
                    );
                }
                names.dedup();
                names.extend(source.constant.iter().map(|(name, _)| *name));
                names.sort_unstable();
                assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{}: {names:?}", family.name);
            }
        }
    }
}
