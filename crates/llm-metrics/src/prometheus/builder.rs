use std::{io, sync::Arc};

use metrics::Label;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use super::{Exporter, histogram::Histograms, recorder::ExporterRecorder, worker::Worker};
use crate::{
    catalog::{
        self, Kind, Naming, Section,
        buckets::{self, InvalidBuckets},
        labels::{self, InvalidLabel},
    },
    record::Refreshed,
};

/// Settings for an [`Exporter`].
///
/// ```
/// use llm_metrics::prometheus::Exporter;
///
/// let exporter = Exporter::builder()
///     .constant_label("service", "assistant")
///     .buckets("llm_time_to_first_token_seconds", [0.1, 0.2, 0.5, 1.0, 2.0])
///     .install()?;
/// # let _ = exporter;
/// # Ok::<(), llm_metrics::prometheus::Error>(())
/// ```
#[must_use = "a builder does nothing until `install` or `build`"]
pub struct ExporterBuilder {
    naming: Naming,
    catalogues: Vec<(&'static [Section], Naming)>,
    overrides: Vec<(String, Vec<f64>)>,
    labels: Vec<Label>,
    process_metrics: bool,
    exporter: PrometheusBuilder,
}

impl Default for ExporterBuilder {
    fn default() -> Self {
        Self {
            naming: Naming::new(),
            catalogues: Vec::new(),
            overrides: Vec::new(),
            labels: Vec::new(),
            process_metrics: true,
            exporter: PrometheusBuilder::new(),
        }
    }
}

impl ExporterBuilder {
    /// Spells the names as `naming` says. [`Builder::exporter`](crate::Builder::exporter) takes it over.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Binds the buckets of another catalogue as well, `llm-metrics-gpu`'s for example.
    pub fn catalogue(mut self, sections: &'static [Section], naming: Naming) -> Self {
        self.catalogues.push((sections, naming));
        self
    }

    /// Gives a histogram other upper bounds than the catalogue's. `metric` is its name in the catalogue, whatever the
    /// prefix.
    pub fn buckets(mut self, metric: impl Into<String>, bounds: impl Into<Vec<f64>>) -> Self {
        self.overrides.push((metric.into(), bounds.into()));
        self
    }

    /// Adds a label with the same value to every series, process metrics included.
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.labels.push(Label::new(name.clone(), value.clone()));
        self.exporter = self.exporter.add_global_label(name, value);
        self
    }

    /// Whether `process_…` metrics are exported. They are by default.
    pub fn process_metrics(mut self, on: bool) -> Self {
        self.process_metrics = on;
        self
    }

    /// Changes the settings of the exporter underneath, which has everything but the histograms of the catalogues: to bind
    /// buckets for metrics of your own, for example. A global label that is added here is on no histogram of the catalogues: use
    /// [`constant_label`](Self::constant_label).
    ///
    /// A histogram of your own whose name ends like one of the catalogues, `http_request_duration_seconds` say, has that one's
    /// buckets, unless you bind others to its full name.
    ///
    /// Do not set an idle timeout: handles that are cached, as ours are, would record into nothing afterwards.
    pub fn configure(mut self, change: impl FnOnce(PrometheusBuilder) -> PrometheusBuilder) -> Self {
        self.exporter = change(self.exporter);
        self
    }

    /// Builds the exporter and installs its recorder for the whole process. Do this before the first request: what is
    /// recorded before is lost.
    ///
    /// # Errors
    /// When buckets or labels cannot be, the process has a recorder already, or no thread can be started.
    pub fn install(self) -> Result<Exporter, Error> {
        let (recorder, exporter) = self.build()?;
        metrics::set_global_recorder(recorder).map_err(|_| Error::AlreadyInstalled)?;
        Ok(exporter)
    }

    /// Builds the exporter without installing its recorder for the whole process: build metrics
    /// [with the exporter](crate::Builder::exporter), and hand the recorder to whatever else records.
    ///
    /// # Errors
    /// When buckets or labels cannot be, or no thread can be started.
    pub fn build(self) -> Result<(Arc<ExporterRecorder>, Exporter), Error> {
        labels::check_own(self.labels.iter().map(Label::key)).map_err(Error::Label)?;
        let mut exporter = self.exporter;
        let mut histograms = Histograms::default();
        let naming = self.naming.clone();
        let own = (catalog::SECTIONS, self.naming);
        let known = |metric: &str| {
            let all = std::iter::once(&own).chain(&self.catalogues).flat_map(|(sections, _)| *sections);
            all.flat_map(|section| section.metrics).any(|row| row.kind == Kind::Histogram && row.name == metric)
        };
        if let Some((metric, _)) = self.overrides.iter().find(|(metric, _)| !known(metric)) {
            return Err(Error::UnknownHistogram { metric: metric.clone() });
        }
        for (sections, naming) in std::iter::once(&own).chain(&self.catalogues) {
            let rows = sections.iter().flat_map(|section| section.metrics).filter(|row| row.kind == Kind::Histogram);
            for row in rows {
                let own = self.overrides.iter().rfind(|(metric, _)| metric == row.name);
                let bounds = own.map_or(row.buckets, |(_, bounds)| bounds);
                let invalid = |source| Error::InvalidBuckets { metric: row.name.into(), source };
                buckets::validate(bounds).map_err(invalid)?;
                histograms.bind(naming.name(row).into_owned(), bounds);
                // By its stem as well: a prefix that the exporter was not told of must not make a summary of it.
                let stem = Matcher::Suffix(row.name.find('_').map_or(row.name, |at| &row.name[at..]).to_owned());
                exporter = exporter.set_buckets_for_metric(stem, bounds).map_err(|_| invalid(InvalidBuckets::Empty))?;
            }
        }
        let recorder = Arc::new(ExporterRecorder::new(exporter.build_recorder(), histograms, self.labels));
        let refreshed = Refreshed::default();
        let worker = Worker::start(Arc::clone(&recorder), refreshed.clone(), self.process_metrics);
        let worker = Arc::new(worker.map_err(Error::Thread)?);
        Ok((Arc::clone(&recorder), Exporter { worker, recorder, naming, refreshed }))
    }
}

impl std::fmt::Debug for ExporterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExporterBuilder")
            .field("naming", &self.naming)
            .field("overrides", &self.overrides)
            .field("process_metrics", &self.process_metrics)
            .finish_non_exhaustive()
    }
}

/// Why an exporter could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bounds that cannot be the buckets of a histogram.
    #[error("the buckets of {metric} cannot be used: {source}")]
    InvalidBuckets {
        /// The histogram.
        metric: String,
        /// What is wrong with them.
        source: InvalidBuckets,
    },
    /// A constant label that cannot be.
    #[error(transparent)]
    Label(InvalidLabel),
    /// Buckets were given for what is no histogram of the catalogue.
    #[error(
        "{metric:?} is no histogram of the catalogue: see docs/METRICS.md for the names, or use `configure` for metrics of your own"
    )]
    UnknownHistogram {
        /// The name.
        metric: String,
    },
    /// The process has a global recorder.
    #[error(
        "a global recorder is installed already: use `build` instead of `install`, and `LlmMetrics::builder().exporter(…)`"
    )]
    AlreadyInstalled,
    /// The thread for upkeep could not be started.
    #[error("the exporter's thread could not be started")]
    Thread(#[source] io::Error),
}
