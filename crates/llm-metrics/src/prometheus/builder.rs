use std::{io, iter, sync::Arc};

use metrics::Label;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::{
    Exporter,
    configured::{self, Settings},
    histogram::Buckets,
    recorder::{Counted, ExporterRecorder},
    series_names::SeriesNames,
    unknown_prefix::UnknownPrefix,
    worker::Worker,
};
use crate::{
    LlmMetrics,
    catalog::{
        self, Dialect, InvalidLabel, InvalidRow, Kind, LabelValueRule, MetricDef, Naming, Registrar, Section,
        buckets::{self, InvalidBuckets},
        valid,
    },
    record::RecentGauges,
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
/// # Ok::<(), llm_metrics::prometheus::ExporterError>(())
/// ```
#[must_use = "a builder does nothing until `install` or `build`"]
pub struct ExporterBuilder {
    naming: Naming,
    dialects: Vec<Dialect>,
    catalogues: Vec<(&'static [Section], Naming)>,
    overrides: Vec<(String, Vec<f64>)>,
    labels: Vec<Label>,
    process_metrics: bool,
    exporter: PrometheusBuilder,
    /// The first setting that would be lost.
    unused: Option<ExporterError>,
}

impl Default for ExporterBuilder {
    fn default() -> Self {
        Self {
            naming: Naming::new(),
            dialects: vec![Dialect::Llm],
            catalogues: Vec::new(),
            overrides: Vec::new(),
            labels: Vec::new(),
            process_metrics: true,
            exporter: PrometheusBuilder::new(),
            unused: None,
        }
    }
}

impl ExporterBuilder {
    /// Spells the names with `naming`. [`Builder::exporter`](crate::Builder::exporter) uses the same naming.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// The dialects whose names are on the page, one or several. The default is [`Dialect::Llm`].
    ///
    /// ```
    /// use llm_metrics::{catalog::{Dialect, Otel}, prometheus::Exporter};
    ///
    /// // For vLLM's dashboards, and for ours.
    /// let exporter = Exporter::builder().dialects([Dialect::Llm, Dialect::Vllm]).build()?;
    /// // OpenTelemetry's names alone.
    /// let otel = Exporter::builder().dialects([Otel::new("my-company").into()]).build()?;
    /// # drop((exporter, otel));
    /// # Ok::<(), llm_metrics::prometheus::ExporterError>(())
    /// ```
    ///
    /// A request is recorded once, however many dialects are shown. Each further dialect adds its lines to the page, and its bucket bounds that the
    /// others lack. Without `Llm`, a row that is [absent](Dialect::absent) from the dialects is not on the page. Other catalogues, such as that of
    /// the GPUs, and `process_…` are on every page.
    pub fn dialects(mut self, dialects: impl IntoIterator<Item = Dialect>) -> Self {
        self.dialects = dialects.into_iter().collect();
        self
    }

    /// Exports the metrics of another catalogue, too, such as `llm-metrics-gpu`'s or your service's: with its buckets, and counted by this exporter as the
    /// metrics of llm-metrics are. Building fails if a row is invalid, if its series have
    /// the name of other series (of a dialect and of the process metrics, too), or if a row has a constant label.
    pub fn catalogue(mut self, sections: &'static [Section], naming: Naming) -> Self {
        self.catalogues.push((sections, naming));
        self
    }

    /// Replaces the upper bounds of a histogram. `metric` is its name in the catalogue, whatever the prefix. Bounds in other
    /// [dialects](Self::dialects) do not change.
    pub fn buckets(mut self, metric: impl Into<String>, bounds: impl Into<Vec<f64>>) -> Self {
        self.overrides.push((metric.into(), bounds.into()));
        self
    }

    /// Adds a label with the same value to every series, process metrics included. Building fails if the value is not a
    /// [label value](crate::LabelPolicy::is_label_value), or if a metric has a label of that name, in the catalogue or in one of the
    /// [dialects](Self::dialects). A series that is recorded with a label of that name keeps its own value.
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.labels.push(Label::new(name.clone(), value.clone()));
        self.exporter = self.exporter.add_global_label(name, value);
        self
    }

    /// Whether `process_…` metrics are exported. On by default.
    pub fn process_metrics(mut self, on: bool) -> Self {
        self.process_metrics = on;
        self
    }

    /// Changes the settings of the underlying `PrometheusBuilder`, which exports everything that is not in a catalogue. For services with other
    /// metrics in the same process: for example to set the buckets of these metrics.
    ///
    /// Only the recorder of that exporter is used. Building fails if a setting would be lost, and the error names the alternative: listeners, push
    /// gateways, an upkeep interval, global labels, and buckets for metrics of the catalogues by their full names.
    ///
    /// An idle timeout applies only to your own metrics. Do not set one if you cache their handles: after the timeout, a cached handle records
    /// nothing.
    pub fn configure(mut self, change: impl FnOnce(PrometheusBuilder) -> PrometheusBuilder) -> Self {
        let (exporter, unused) = configured::change(self.exporter, change);
        self.exporter = exporter;
        self.unused = self.unused.or(unused);
        self
    }

    /// Builds the exporter and installs its recorder globally. Do this before the first request: earlier values are lost.
    ///
    /// # Errors
    /// If bucket bounds, labels or rows of a catalogue are invalid, a setting of `configure` would be lost, a global recorder is already installed, or the exporter's
    /// thread cannot be spawned.
    pub fn install(self) -> Result<Exporter, ExporterError> {
        let (recorder, exporter) = self.build()?;
        metrics::set_global_recorder(recorder).map_err(|_| ExporterError::AlreadyInstalled)?;
        Ok(exporter)
    }

    /// Builds the exporter without installing its recorder globally: build metrics [with the exporter](crate::Builder::exporter), and pass the
    /// recorder to other code that records.
    ///
    /// # Errors
    /// If bucket bounds, labels or rows of a catalogue are invalid, a setting of `configure` would be lost, or the exporter's thread cannot be spawned.
    pub fn build(mut self) -> Result<(Arc<ExporterRecorder>, Exporter), ExporterError> {
        if let Some(unused) = self.unused.take() {
            return Err(unused);
        }
        self.check_labels()?;
        check_dialects(&self.dialects, &self.labels)?;
        self.check_overrides()?;
        let settings = Settings::of(&self.exporter);
        let (counted, histograms) = self.counted(&settings)?;
        let recorder = ExporterRecorder::new(
            self.exporter.build_recorder(),
            counted,
            self.labels,
            UnknownPrefix::new(settings, histograms),
        );
        let recorder = Arc::new(recorder);
        let recent_gauges = RecentGauges::default();
        let worker = Worker::start(Arc::clone(&recorder), recent_gauges.clone(), self.process_metrics);
        let worker = Arc::new(worker.map_err(ExporterError::Thread)?);
        Ok((Arc::clone(&recorder), Exporter { worker, recorder, naming: self.naming, recent_gauges }))
    }

    /// The catalogue of llm-metrics, and the others.
    fn catalogues(&self) -> impl Iterator<Item = (&'static [Section], &Naming)> {
        let others = self.catalogues.iter().map(|(sections, naming)| (*sections, naming));
        iter::once((catalog::SECTIONS, &self.naming)).chain(others)
    }

    /// The rows of all catalogues, each with its full name.
    fn rows(&self) -> impl Iterator<Item = (&'static MetricDef, String)> {
        self.catalogues().flat_map(|(sections, naming)| {
            let rows = sections.iter().flat_map(|section| section.metrics);
            rows.map(|row| (row, naming.name(row).into_owned()))
        })
    }

    fn check_labels(&self) -> Result<(), ExporterError> {
        for (sections, _) in self.catalogues() {
            let add = |registrar: Registrar, label: &Label| registrar.constant_label(label.key(), label.value());
            let _checked = self.labels.iter().try_fold(Registrar::new(sections), add).map_err(ExporterError::Label)?;
        }
        Ok(())
    }

    fn check_overrides(&self) -> Result<(), ExporterError> {
        let is_known = |metric: &str| self.rows().any(|(row, _)| row.kind == Kind::Histogram && row.name == metric);
        match self.overrides.iter().find(|(metric, _)| !is_known(metric)) {
            Some((metric, _)) => Err(ExporterError::UnknownHistogram { metric: metric.clone() }),
            None => Ok(()),
        }
    }

    /// What this exporter counts itself, and the histograms among it.
    fn counted(&self, settings: &Settings) -> Result<(Counted, Vec<&'static MetricDef>), ExporterError> {
        let (mut counted, mut histograms) = (Counted::default(), Vec::new());
        let families: Vec<_> = self.dialects.iter().flat_map(Dialect::families).collect();
        // Bounds that only other dialects show.
        let others = |row: &MetricDef| -> Vec<f64> {
            let of_row = families.iter().filter(|family| family.sources.iter().any(|source| source.row == *row));
            of_row.flat_map(|family| family.buckets).copied().collect()
        };
        // Incremented last, so read first: a request that is on the page as ended is there with all its values.
        counted.counters.bind(self.naming.name(&catalog::REQUESTS).into_owned(), ());
        let mut series_names = SeriesNames::new(&self.dialects, self.process_metrics);
        for (row, name) in self.rows() {
            series_names.add(row, &name).map_err(ExporterError::Row)?;
            match row.kind {
                Kind::Counter => counted.counters.bind(name, ()),
                Kind::Gauge => counted.gauges.bind(name, ()),
                Kind::Histogram => {
                    counted
                        .histograms
                        .bind(name.clone(), Buckets::new(self.bounds(row, &name, settings)?, &others(row)));
                    histograms.push(row);
                }
            }
        }
        if !self.dialects.contains(&Dialect::Llm) {
            for name in catalog::all().map(|row| self.naming.name(row)) {
                counted.counters.hide(&name);
                counted.gauges.hide(&name);
                counted.histograms.hide(&name);
            }
        }
        families.into_iter().for_each(|family| counted.views.add(family, &self.naming));
        Ok((counted, histograms))
    }

    /// The bucket bounds of a histogram.
    fn bounds(&self, row: &'static MetricDef, name: &str, settings: &Settings) -> Result<&[f64], ExporterError> {
        if settings.bind(name) {
            return Err(ExporterError::Bound { metric: row.name.into() });
        }
        let replaced = self.overrides.iter().rfind(|(metric, _)| metric == row.name);
        let bounds = replaced.map_or(row.buckets, |(_, bounds)| bounds);
        let invalid = |source| ExporterError::InvalidBuckets { metric: row.name.into(), source };
        buckets::validate(bounds).map_err(invalid)?;
        Ok(bounds)
    }
}

fn check_dialects(dialects: &[Dialect], constant: &[Label]) -> Result<(), ExporterError> {
    if dialects.is_empty() {
        return Err(ExporterError::NoDialect);
    }
    let providers = dialects.iter().filter_map(|dialect| match dialect {
        Dialect::Otel(otel) => Some(otel.provider()),
        _ => None,
    });
    if !providers.clone().all(valid::is_label_value) {
        return Err(ExporterError::InvalidProvider);
    }
    if let Some((first, second)) = providers.clone().zip(providers.skip(1)).find(|(first, second)| first != second) {
        return Err(ExporterError::Providers { first: first.to_owned(), second: second.to_owned() });
    }
    let mut taken = dialects.iter().flat_map(Dialect::families).flat_map(|family| family.labels().collect::<Vec<_>>());
    if let Some(name) = taken.find(|name| constant.iter().any(|label| label.key() == name)) {
        return Err(ExporterError::Label(InvalidLabel::Taken { name }));
    }
    Ok(())
}

/// Sets the buckets of a catalogue's histograms on the exporter that the service already has. Without them, it exports summaries, which rules and
/// dashboards cannot use.
///
/// ```
/// use llm_metrics::{LlmMetrics, catalog::{self, Naming}, prometheus::{bind_buckets, render}};
/// use metrics_exporter_prometheus::PrometheusBuilder;
///
/// let naming = Naming::new();
/// let recorder = bind_buckets(PrometheusBuilder::new(), catalog::SECTIONS, &naming)?.build_recorder();
/// let page = recorder.handle();
/// // Without `recorder`, the global recorder is used.
/// let metrics = LlmMetrics::builder().recorder(recorder).naming(naming).models(["Qwen3-4B"]).build()?;
///
/// // Call `render` for each scrape, and `page.run_upkeep()` once per second, as with any histogram.
/// assert!(render(&metrics, &page).contains("llm_requests_total{"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If a row of the catalogue cannot be exported, or the buckets of a histogram are invalid.
pub fn bind_buckets(
    builder: PrometheusBuilder,
    sections: &[Section],
    naming: &Naming,
) -> Result<PrometheusBuilder, ExporterError> {
    sections.iter().flat_map(|section| section.metrics).try_fold(builder, |builder, row| {
        let name = naming.name(row).into_owned();
        if let Some(reason) = valid::fault(row) {
            return Err(ExporterError::Row(InvalidRow::new(name, reason)));
        }
        if row.kind != Kind::Histogram {
            return Ok(builder);
        }
        let invalid = |source| ExporterError::InvalidBuckets { metric: row.name.into(), source };
        buckets::validate(row.buckets).map_err(invalid)?;
        // Its only error is an empty list.
        let bound = builder.set_buckets_for_metric(Matcher::Full(name), row.buckets);
        bound.map_err(|_| invalid(InvalidBuckets::Empty))
    })
}

/// Renders the page of the exporter that the service already has, after updating the recent window of these metrics. The first page with a request on
/// it is [checked](LlmMetrics::check_page) for summaries and for other buckets than ours.
#[must_use]
pub fn render(metrics: &LlmMetrics, page: &PrometheusHandle) -> String {
    metrics.refresh();
    let page = page.render();
    metrics.check_first_page(&page);
    page
}

impl std::fmt::Debug for ExporterBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExporterBuilder")
            .field("naming", &self.naming)
            .field("dialects", &self.dialects)
            .field("overrides", &self.overrides)
            .field("process_metrics", &self.process_metrics)
            .finish_non_exhaustive()
    }
}

/// Why an exporter could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExporterError {
    /// Bucket bounds are invalid; the source says why.
    #[error("the buckets of {metric} are invalid")]
    InvalidBuckets {
        /// The histogram.
        metric: String,
        /// Why they are invalid.
        source: InvalidBuckets,
    },
    /// A constant label has an invalid name or value, or a name that is in use.
    #[error(transparent)]
    Label(InvalidLabel),
    /// Buckets were given for a name that is not a histogram of the catalogue.
    #[error(
        "{metric:?} is not a histogram of the catalogues. Use its name in the catalogue, without the prefix of a `Naming` (docs/METRICS.md has the names of \
         llm-metrics); give other catalogues to `catalogue`, or use `configure` for metrics without a catalogue"
    )]
    UnknownHistogram {
        /// The name.
        metric: String,
    },
    /// A row of a catalogue cannot be exported.
    #[error(transparent)]
    Row(InvalidRow),
    /// A setting of the underlying exporter would be lost.
    #[error("`configure` has set {setting}, which would be lost: {remedy}")]
    Unused {
        /// The setting.
        setting: &'static str,
        /// The alternative.
        remedy: &'static str,
    },
    /// `configure` has set the buckets of a histogram of the catalogue.
    #[error(
        "`configure` has set the buckets of {metric}, which would be lost: use `ExporterBuilder::buckets(\"{metric}\", …)`"
    )]
    Bound {
        /// The histogram, by its name in the catalogue.
        metric: String,
    },
    /// The list of dialects is empty.
    #[error("the list of dialects is empty: name at least one, or leave out `dialects` for `Dialect::Llm`")]
    NoDialect,
    /// The provider is not a valid label value.
    #[error("the provider given to `Otel::new` is not a valid label value: {LabelValueRule}")]
    InvalidProvider,
    /// Dialects of OpenTelemetry have different providers.
    #[error(
        "`Otel::new` was given the providers {first:?} and {second:?}, but a series can have only one: use the same provider in all dialects, or \
         build an exporter for each provider"
    )]
    Providers {
        /// The provider of a dialect.
        first: String,
        /// That of the next.
        second: String,
    },
    /// A global recorder is already installed.
    #[error(
        "a global recorder is already installed. To export through it, apply `prometheus::bind_buckets` to its builder and use \
         `LlmMetrics::new()`; to export separately, use `build` instead of `install`, and `LlmMetrics::builder().exporter(…)`"
    )]
    AlreadyInstalled,
    /// The upkeep thread could not be spawned.
    #[error("the exporter's upkeep thread could not be spawned")]
    Thread(#[source] io::Error),
}
