//! The names of the series on a page, each with its owner.

use std::{collections::HashMap, fmt};

use crate::catalog::{Dialect, InvalidRow, Kind, MetricDef, valid};

/// Finds metrics whose series would have the name of others.
pub(super) struct SeriesNames {
    owners: HashMap<String, Owner>,
    process_metrics: bool,
}

#[derive(Clone)]
enum Owner {
    Dialect(Dialect),
    Metric(&'static str),
}

impl SeriesNames {
    pub(super) fn new(dialects: &[Dialect], process_metrics: bool) -> Self {
        let mut owners = HashMap::new();
        for dialect in dialects {
            for family in dialect.families() {
                let names = series_names(family.kind, &family.name.replace('.', "_"));
                owners.extend(names.into_iter().map(|name| (name, Owner::Dialect(dialect.clone()))));
            }
        }
        Self { owners, process_metrics }
    }

    /// Adds a row of a catalogue under its full name.
    pub(super) fn add(&mut self, row: &'static MetricDef, name: &str) -> Result<(), InvalidRow> {
        let series = series_names(row.kind, name);
        if let Some((series, owner)) = series.iter().find_map(|series| self.owners.get_key_value(series)) {
            return Err(InvalidRow::new(name, format!("{owner} has a series {series:?}, too: {}", owner.remedy())));
        }
        if self.process_metrics && name.starts_with("process_") {
            let reason = "names that begin with `process_` are those of the process metrics";
            return Err(InvalidRow::new(name, reason));
        }
        if let Some(reason) = valid::fault(row) {
            return Err(InvalidRow::new(name, reason));
        }
        self.owners.extend(series.into_iter().map(|series| (series, Owner::Metric(row.name))));
        Ok(())
    }
}

impl Owner {
    const fn remedy(&self) -> &'static str {
        match self {
            Self::Dialect(_) => "use another prefix in the `Naming`, or leave out the dialect",
            Self::Metric(_) => "give each catalogue once, and use another name or another prefix in its `Naming`",
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialect(dialect) => write!(f, "the dialect {dialect}"),
            Self::Metric(row) => write!(f, "the metric {row:?} of a catalogue"),
        }
    }
}

fn series_names(kind: Kind, name: &str) -> Vec<String> {
    match kind {
        Kind::Histogram => ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).into(),
        Kind::Counter | Kind::Gauge => vec![name.to_owned()],
    }
}
