//! The checks of values, and their messages.

use std::collections::BTreeMap;

use garde::{Error, Path, Report};
use llm_metrics::{
    MAX_NAME_BYTES,
    catalog::{MetricDef, buckets::validate},
};

use super::{Bounds, Slo, histogram_of};
use crate::vocabulary;

pub(super) type Checked = garde::Result;

/// A part of `slo.yaml` that can be checked. Not garde's own trait, which would be in our public API: a new garde version would require a new major
/// version of this crate.
pub(super) trait Section {
    fn check(&self, findings: &mut Findings<'_>);
}

/// All problems, each with the path of its field.
pub(super) struct Findings<'a> {
    pub(super) bounds: &'a Bounds,
    path: Path,
    report: &'a mut Report,
}

impl Findings<'_> {
    pub(super) fn field(&mut self, name: &str, checked: Checked) {
        if let Err(error) = checked {
            self.report.append(self.path.join(name), error);
        }
    }

    /// Each item of a list.
    pub(super) fn items(&mut self, name: &str, items: &[String], check: impl Fn(&str, &Bounds) -> Checked) {
        for (index, item) in items.iter().enumerate() {
            if let Err(error) = check(item, self.bounds) {
                self.report.append(self.path.join(name).join(index), error);
            }
        }
    }

    pub(super) fn section(&mut self, name: &str, section: &impl Section) {
        let path = self.path.join(name);
        section.check(&mut Findings { path, bounds: self.bounds, report: self.report });
    }

    pub(super) fn sections(&mut self, name: &str, sections: &[impl Section]) {
        for (index, section) in sections.iter().enumerate() {
            let path = self.path.join(name).join(index);
            section.check(&mut Findings { path, bounds: self.bounds, report: self.report });
        }
    }
}

/// Settings that serde-saphyr checks after reading them, because it knows the line of each.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct CheckedSlo(pub(super) Slo);

impl garde::Validate for CheckedSlo {
    type Context = Bounds;

    fn validate_into(&self, bounds: &Bounds, parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        self.0.check(&mut Findings { bounds, path: parent(), report });
    }
}

impl Slo {
    pub(super) fn findings(&self, bounds: &Bounds) -> Report {
        let mut report = Report::new();
        self.check(&mut Findings { bounds, path: Path::empty(), report: &mut report });
        report
    }
}

/// A bucket bound of the histogram.
pub(super) fn bound(row: &'static MetricDef) -> impl Fn(&f64, &Bounds) -> Checked {
    move |value, own| {
        let bounds = own.of(row);
        if bounds.contains(value) {
            return Ok(());
        }
        let below = bounds.iter().rev().find(|bound| *bound < value);
        let above = bounds.iter().find(|bound| *bound > value);
        let nearest = match (below, above) {
            (Some(below), Some(above)) => format!("the nearest are {below} and {above}"),
            (Some(last), None) => format!("it is beyond the last one, {last}: Prometheus cannot see beyond that"),
            (None, Some(first)) => format!("the nearest is {first}"),
            (None, None) => "it is not a number".to_owned(),
        };
        Err(Error::new(format!("{value} is not a bucket bound of {}; {nearest}", row.name)))
    }
}

/// A bucket bound of the histogram that a quantile can exceed: a quantile is never above the last bound.
pub(super) fn bound_below_last(row: &'static MetricDef) -> impl Fn(&f64, &Bounds) -> Checked {
    move |value, own| match own.of(row) {
        [.., before, last] if value == last => Err(Error::new(format!(
            "no quantile of {} is ever above {last}, its last bucket bound, so this alert would never fire; \
             the nearest is {before}",
            row.name
        ))),
        _ => bound(row)(value, own),
    }
}

/// A ratio that leaves a budget.
pub(super) fn objective(value: &f64, _: &Bounds) -> Checked {
    if (0.5..1.0).contains(value) {
        return Ok(());
    }
    Err(Error::new(format!("{value} is not a valid objective: use a ratio of at least 0.5 and below 1, such as 0.995")))
}

/// A ratio.
pub(super) fn ratio(value: &f64, _: &Bounds) -> Checked {
    if *value > 0.0 && *value < 1.0 {
        return Ok(());
    }
    Err(Error::new(format!("{value} is not a ratio: use a number between 0 and 1, such as 0.05 for 5 %")))
}

pub(super) fn not_negative(value: &f64, _: &Bounds) -> Checked {
    if value.is_finite() && *value >= 0.0 {
        return Ok(());
    }
    Err(Error::new(format!("{value} has to be a number, and 0 or more")))
}

pub(super) fn above_zero(value: &f64, _: &Bounds) -> Checked {
    if value.is_finite() && (0.0..=1e9).contains(value) && *value > 0.0 {
        return Ok(());
    }
    Err(Error::new(format!("{value} has to be above 0, and at most a billion: beyond that it would never alert")))
}

pub(super) fn whole_within(least: u32, most: u32) -> impl Fn(&u32, &Bounds) -> Checked {
    move |value, _| {
        if (least..=most).contains(value) {
            return Ok(());
        }
        Err(Error::new(format!("{value} has to be between {least} and {most}")))
    }
}

#[allow(clippy::unnecessary_wraps, clippy::trivially_copy_pass_by_ref, reason = "it has the type of the other checks")]
pub(super) fn anything(_: &bool, _: &Bounds) -> Checked {
    Ok(())
}

pub(super) fn number_within(least: f64, most: f64) -> impl Fn(&f64, &Bounds) -> Checked {
    move |value, _| {
        if (least..=most).contains(value) {
            return Ok(());
        }
        Err(Error::new(format!("{value} has to be between {least} and {most}")))
    }
}

/// A name of a scrape job: any name that can be in a file.
pub(super) fn job(value: &str, _: &Bounds) -> Checked {
    if !value.is_empty() && !value.contains(char::is_control) {
        return Ok(());
    }
    Err(Error::new(format!("{value:?} is not a valid job: use the job_name of the scrape configuration")))
}

pub(super) fn not_empty(jobs: &[String], _: &Bounds) -> Checked {
    if jobs.is_empty() { Err(Error::new("name at least one job")) } else { Ok(()) }
}

/// Each of them once: two alerts about one job could not be distinguished.
pub(super) fn distinct(jobs: &[String], _: &Bounds) -> Checked {
    match jobs.iter().enumerate().find(|(index, job)| jobs[..*index].contains(job)) {
        Some((_, job)) => Err(Error::new(format!("{job:?} is listed twice"))),
        None => Ok(()),
    }
}

/// Additional labels, which must not exist already.
pub(super) fn by_labels(labels: &[String], bounds: &Bounds) -> Checked {
    distinct(labels, bounds)?;
    match labels.iter().find(|label| vocabulary::is_taken(label)) {
        Some(label) => {
            Err(Error::new(format!("{label:?} is already a label of series or alerts; choose another name")))
        }
        None => Ok(()),
    }
}

pub(super) fn alert_labels(labels: &BTreeMap<String, String>, bounds: &Bounds) -> Checked {
    let names: Vec<_> = labels.keys().cloned().collect();
    by_labels(&names, bounds)?;
    for (name, value) in labels {
        label(name, bounds)?;
        if value.is_empty() || value.contains("{{") || value.contains(char::is_control) {
            return Err(Error::new(format!(
                "{name}: {value:?} is not a valid label value: use text without control characters and {{{{"
            )));
        }
    }
    Ok(())
}

pub(super) fn alert_names(names: &[String], bounds: &Bounds) -> Checked {
    distinct(names, bounds)?;
    let known = crate::instructions::alerts();
    match names.iter().find(|name| !known.clone().any(|known| known == name.as_str())) {
        Some(name) => {
            let known: Vec<_> = known.collect();
            Err(Error::new(format!("{name:?} is not an alert; the alerts are {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// The service's own bounds of known histograms.
pub(super) fn buckets(own: &BTreeMap<String, Vec<f64>>, _: &Bounds) -> Checked {
    for (name, bounds) in own {
        if histogram_of(name).is_none() {
            return Err(Error::new(format!(
                "{name} is not a histogram of llm-metrics; use its name with the prefix `llm_`"
            )));
        }
        validate(bounds).map_err(|error| Error::new(format!("{name}: {error}")))?;
    }
    Ok(())
}

/// A valid name in Kubernetes (RFC 1123).
pub(super) fn service_name(value: &str, _: &Bounds) -> Checked {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&value.len()) && value.bytes().all(fits) && !value.starts_with('-') && !value.ends_with('-') {
        return Ok(());
    }
    Err(Error::new(format!(
        "{value:?} is not a valid service name: use up to 63 lower-case letters, digits and dashes"
    )))
}

pub(super) fn override_name(value: &str, _: &Bounds) -> Checked {
    if value.len() <= MAX_NAME_BYTES && !value.contains(char::is_control) && !value.contains("{{") {
        return Ok(());
    }
    Err(Error::new(format!("use a name of at most {MAX_NAME_BYTES} bytes, without control characters and {{{{")))
}

pub(super) fn runbooks(value: &str, _: &Bounds) -> Checked {
    if !value.is_empty() && !value.ends_with('/') && !value.contains(char::is_whitespace) && !value.contains("{{") {
        return Ok(());
    }
    Err(Error::new("use a URL or a folder, without a trailing slash"))
}

/// The URL of a server that a program in the cluster calls. A URL with a password is rejected, because the manifest is not a secret.
pub(super) fn server_url(value: &str, _: &Bounds) -> Checked {
    let rest = ["http://", "https://"].iter().find_map(|scheme| value.strip_prefix(scheme)).unwrap_or_default();
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, None),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "80"),
    };
    let is_name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let is_host = !host.is_empty()
        && match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%+=@".contains(&byte);
    let is_path = |path: &str| !path.is_empty() && !path.ends_with('/') && path.bytes().all(in_path);
    if is_host && port.parse::<u16>().is_ok_and(|port| port > 0) && path.is_none_or(is_path) {
        return Ok(());
    }
    Err(Error::new(format!(
        "{value:?} is not a valid URL of a server: use http:// or https://, a host, and if needed a port and a path, \
         such as http://prometheus.monitoring.svc:9090, without a trailing slash"
    )))
}

/// A label name for targets.
pub(super) fn label(value: &str, _: &Bounds) -> Checked {
    let begins =
        value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !value.starts_with("__");
    if begins && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(Error::new(format!(
        "{value:?} is not a valid label name: use letters, digits and underscores, and begin with a letter"
    )))
}

/// A label by which servers and GPUs are joined: one of their targets, because a label of some series joins nothing.
pub(super) fn join_label(value: &str, bounds: &Bounds) -> Checked {
    label(value, bounds)?;
    if vocabulary::is_of_our_series(value) {
        return Err(Error::new(format!(
            "{value:?} is a label of series, not of their targets; use `instance`, or a label that the scrape \
             configuration sets on both"
        )));
    }
    Ok(())
}

/// Not lower than another field.
pub(super) fn at_least<N: PartialOrd + std::fmt::Display + Copy>(
    field: &'static str,
    least: N,
) -> impl Fn(&N, &Bounds) -> Checked {
    move |value, _| {
        if *value >= least {
            return Ok(());
        }
        Err(Error::new(format!("{value} is below {field}, which is {least}")))
    }
}
