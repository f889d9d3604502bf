//! Derives a `slo.yaml` from a measurement: objectives and thresholds, each with its measurement in a comment.

mod edit;

use llm_metrics::catalog;
use llm_metrics_monitoring::slo::{InvalidSlo, Slo};

use crate::{
    Latency,
    baseline::{Baseline, Step, Verdict},
    figure,
};

/// The margin above the measurement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeadRoom {
    /// Factor for objectives: the result is rounded up to the next bucket bound.
    pub objectives: f64,
    /// Factor for alert thresholds: the result is rounded up likewise.
    pub alerts: f64,
    /// The share of its maximum requests in flight that a replica should have.
    pub replicas: f64,
}

impl Default for HeadRoom {
    fn default() -> Self {
        Self { objectives: 1.25, alerts: 1.5, replicas: 0.8 }
    }
}

/// Which part of the settings is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// For all models, at the top of the file.
    #[default]
    All,
    /// An override for the measured model. It has no values for replicas and GPUs, which are not per model.
    Model,
}

/// A line of `slo.yaml`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Proposal {
    /// Its path, such as `objectives.time_to_first_token.seconds`.
    pub field: String,
    /// The current value, or the default.
    pub now: String,
    /// The proposed value.
    pub value: String,
    /// The measurement from which it was derived.
    pub reason: String,
}

/// Why no settings could be proposed or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The server kept up with none of the rates.
    #[error(
        "the server kept up with none of the rates that were tried, so no objective can be proposed: try lower rates"
    )]
    NothingHeld,
    /// The existing settings are invalid.
    #[error(transparent)]
    Slo(#[from] InvalidSlo),
    /// The file has a layout that cannot be edited safely.
    #[error(
        "{0} cannot be edited in the way it is written: put each field on its own line, indented below its section, or start with a new file"
    )]
    Layout(String),
}

/// The settings derived from a measurement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Applied {
    /// Each line that was measured, whether or not it changes.
    pub proposals: Vec<Proposal>,
    /// The text of the new `slo.yaml`: the old text, with the proposals and their reasons.
    pub text: String,
}

/// Proposes objectives and thresholds at the highest rate at which every objective was met (otherwise at the highest rate well below the knee), and
/// writes them into the text of a `slo.yaml`, which may be empty. Settings that were not measured stay unchanged.
///
/// # Errors
/// If the server kept up with no rate, or the text is not a `slo.yaml`.
pub fn apply(baseline: &Baseline, text: &str, scope: Scope, room: &HeadRoom) -> Result<Applied, ApplyError> {
    let model = &baseline.settings.model;
    let seen = |slo: Slo| match scope {
        Scope::All => slo,
        Scope::Model => slo.effective(&slo.service.jobs[0], model),
    };
    let before = seen(Slo::parse(text)?);
    let step = operating_point(baseline).ok_or(ApplyError::NothingHeld)?;
    let mut proposals = propose(baseline, step, &before, room);
    let mut place = Vec::new();
    if scope == Scope::Model {
        proposals.retain(|proposal| proposal.field.starts_with("objectives.") || proposal.field.starts_with("alerts."));
        // Quoted, because names of models have colons.
        place = vec!["overrides".to_owned(), format!("- models: [{}]", serde_json::Value::from(model.as_str()))];
    }
    let source = format!(
        "Measured {} at {} requests/s of {}, by llm-metrics baseline",
        baseline.started_at,
        figure(step.rate),
        baseline.settings.model
    );
    let mut new = text.to_owned();
    for proposal in &proposals {
        let keys: Vec<_> = place.iter().map(String::as_str).chain(proposal.field.split('.')).collect();
        new = edit::set(&new, &keys, &proposal.value, &proposal.reason);
    }
    if scope == Scope::All {
        new = edit::head(&new, &source);
    }
    // The result must parse to the intended settings, whatever the text looked like.
    let after = Slo::parse(&new).map(seen).ok();
    for proposal in &proposals {
        let says_so = |after| value_of(after, &proposal.field) == proposal.value;
        if !after.as_ref().is_some_and(says_so) {
            return Err(ApplyError::Layout(proposal.field.clone()));
        }
    }
    if text.contains("\r\n") {
        new = new.replace('\n', "\r\n");
    }
    Ok(Applied { proposals, text: new })
}

/// The rate for which settings are proposed.
pub(crate) fn operating_point(baseline: &Baseline) -> Option<&Step> {
    let steps = baseline.by_rate();
    let kept_up = || steps.iter().copied().filter(|step| step.verdict == Verdict::KeptUp);
    if let Some(held) = &baseline.objectives_held {
        return kept_up().find(|step| step.rate == held.rate);
    }
    let below_knee = |step: &&Step| baseline.knee.as_ref().is_none_or(|knee| step.rate <= 0.8 * knee.rate);
    kept_up().rfind(below_knee).or_else(|| kept_up().next())
}

fn propose(baseline: &Baseline, step: &Step, now: &Slo, room: &HeadRoom) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    let mut put = |field: &str, value: String, reason: String| {
        proposals.push(Proposal { field: field.to_owned(), now: value_of(now, field), value, reason });
    };
    let at = format!("at {} requests/s", figure(step.rate));
    let client = &step.client;

    for (field, row, latency, share) in [
        (
            "objectives.time_to_first_token.seconds",
            &catalog::TIME_TO_FIRST_TOKEN,
            &client.time_to_first_token,
            now.objectives.time_to_first_token.objective,
        ),
        (
            "objectives.inter_token_latency.seconds",
            &catalog::INTER_TOKEN_LATENCY,
            &client.inter_token_latency,
            now.objectives.inter_token_latency.objective,
        ),
    ] {
        if let Some((name, measured)) = latency.as_ref().and_then(|latency| quantile(latency, share)) {
            let bound = bound(now.bounds_of(row), measured * room.objectives, 0);
            let reason = format!(
                "{name} was {} s {at}; {} times that, up to the next bucket bound",
                figure(measured),
                room.objectives
            );
            put(field, number(bound), reason);
        }
    }
    if let Some(duration) = &client.duration {
        let mut least = 0.0f64;
        for (field, name, measured) in [
            ("alerts.duration_p95_seconds", "p95", duration.p95.value),
            ("alerts.duration_p99_seconds", "p99", duration.p99.value),
        ] {
            // No quantile is above the last bound, so the alert would never fire.
            let bound = bound(now.bounds_of(&catalog::REQUEST_DURATION), measured * room.alerts, 1).max(least);
            least = bound;
            let reason = format!(
                "{name} was {} s {at}; {} times that, up to the next bucket bound",
                figure(measured),
                room.alerts
            );
            put(field, number(bound), reason);
        }
    }
    if let Some(knee) = &baseline.knee {
        let most = round_down(0.9 * knee.rate).max(now.alerts.requests_per_second_min);
        let reason = format!(
            "one replica answers {} requests/s at most; 90 % of that, for one: multiply by the number of replicas",
            figure(knee.rate)
        );
        put("alerts.requests_per_second_max", number(most), reason);
    }
    let replicas = (client.in_flight * room.replicas).floor().max(1.0);
    let reason = format!("{} were in flight on average {at}; {} of that", figure(client.in_flight), room.replicas);
    put("scaling.requests_per_replica", number(replicas), reason);
    if let Some((used, total)) = gpu_memory(baseline) {
        let (least, most) = (used.0 / total, used.1 / total);
        // Preallocated memory is used from the first reading on, and does not grow under load.
        let preallocated = least > 0.85 && most - least < 0.02;
        let reason = format!(
            "between {:.0} % and {:.0} % of the GPU memory was used over the whole run",
            least * 100.0,
            most * 100.0
        );
        put("gpu.memory_preallocated", preallocated.to_string(), reason.clone());
        if !preallocated {
            let headroom = ((most * 1.1 * 100.0).ceil() / 100.0).clamp(0.5, 0.9);
            put("gpu.memory_headroom_ratio", number(headroom), format!("{reason}; a tenth more than the most"));
            let ratio = now.gpu.memory_ratio.max(((headroom + 0.05) * 100.0).round() / 100.0);
            put("gpu.memory_ratio", number(ratio), format!("{reason}; above the headroom"));
        }
    }
    proposals
}

/// The measured quantile for this share: p50, p95 or p99, whichever is the next one that is not below.
fn quantile(latency: &Latency, share: f64) -> Option<(&'static str, f64)> {
    let quantiles = [(0.5, "p50", latency.p50), (0.95, "p95", latency.p95), (0.99, "p99", latency.p99)];
    let (_, name, quantile) = quantiles.into_iter().find(|(of, ..)| *of >= share).unwrap_or(quantiles[2]);
    Some((name, quantile.value)).filter(|(_, value)| *value > 0.0)
}

/// The smallest bound that is not below `least`, without the last `but` bounds.
fn bound(bounds: &[f64], least: f64, but: usize) -> f64 {
    let bounds = &bounds[..(bounds.len() - but).max(1)];
    bounds.iter().copied().find(|bound| *bound >= least).unwrap_or(bounds[bounds.len() - 1])
}

fn gpu_memory(baseline: &Baseline) -> Option<((f64, f64), f64)> {
    let used = || baseline.memory.iter().filter_map(|point| point.gpu_bytes);
    let range = (used().reduce(f64::min)?, used().reduce(f64::max)?);
    Some((range, baseline.server.gpu_memory_bytes.filter(|total| *total > 0.0)?))
}

/// Rounds down to two digits.
fn round_down(value: f64) -> f64 {
    let unit = 10f64.powf(value.max(1e-6).log10().floor() - 1.0);
    let rounded = (value / unit).floor() * unit;
    // Removes digits that only come from the binary representation, such as those of 0.1.
    (rounded * 1e6).round() / 1e6
}

fn number(value: f64) -> String {
    format!("{value}")
}

/// A field of the settings as text.
fn value_of(slo: &Slo, field: &str) -> String {
    let value = serde_json::to_value(slo).unwrap_or_default();
    let value = field.split('.').fold(&value, |value, key| &value[key]);
    value.as_f64().map_or_else(|| value.to_string(), number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryPoint,
        testing::{baseline, step},
    };

    fn measured() -> Baseline {
        let latency =
            |seconds: f64| Latency::of((1..=100).map(|percent| seconds * f64::from(percent) / 95.0).collect());
        let mut steps = vec![step(10.0, Verdict::KeptUp, 10.0), step(40.0, Verdict::Saturated, 19.9)];
        let client = &mut steps[0].client;
        client.time_to_first_token = latency(0.3);
        client.inter_token_latency = latency(0.02);
        client.duration = latency(4.0);
        client.in_flight = 21.0;
        baseline(steps)
    }

    fn lines(applied: &Applied) -> Vec<String> {
        applied.proposals.iter().map(|proposal| format!("{}: {}", proposal.field, proposal.value)).collect()
    }

    #[test]
    fn each_line_is_a_bucket_bound_with_its_measurement() {
        let applied = apply(&measured(), "", Scope::All, &HeadRoom::default()).unwrap();
        assert_eq!(
            lines(&applied),
            [
                "objectives.time_to_first_token.seconds: 0.4",
                "objectives.inter_token_latency.seconds: 0.025",
                "alerts.duration_p95_seconds: 6",
                "alerts.duration_p99_seconds: 8",
                "alerts.requests_per_second_max: 17",
                "scaling.requests_per_replica: 16",
            ]
        );
        assert_eq!(applied.proposals[0].now, "2.5");
        let slo = Slo::parse(&applied.text).unwrap();
        assert_eq!((slo.objectives.time_to_first_token.seconds, slo.scaling.requests_per_replica), (0.4, 16.0));
        assert_eq!(slo.service, Slo::default().service);
        assert!(
            applied.text.contains("    # measured: p95 was 0.3 s at 10 requests/s; 1.25 times that"),
            "{}",
            applied.text
        );
    }

    #[test]
    fn other_content_is_kept_and_applying_again_changes_nothing() {
        let text = "# Ours.\nservice:\n  jobs: [qwen] # two of them\n\nobjectives:\n  availability: 0.999\n  time_to_first_token:\n    \
                    objective: 0.99\n    seconds: 1\nalerts:\n  error_ratio: 0.07\n";
        let applied = apply(&measured(), text, Scope::All, &HeadRoom::default()).unwrap();
        let slo = Slo::parse(&applied.text).unwrap();
        assert_eq!(
            (slo.service.jobs[0].as_str(), slo.objectives.availability, slo.alerts.error_ratio),
            ("qwen", 0.999, 0.07)
        );
        assert!(applied.text.contains("# Ours.") && applied.text.contains("# two of them"), "{}", applied.text);
        assert!(
            applied.proposals[0].reason.starts_with("p99 was"),
            "the share that is promised: {:?}",
            applied.proposals[0]
        );
        assert_eq!(apply(&measured(), &applied.text, Scope::All, &HeadRoom::default()).unwrap().text, applied.text);
    }

    #[test]
    fn four_spaces_and_other_ends_of_lines_stay_as_they_are() {
        let text = "objectives:\r\n    availability: 0.999\r\n    time_to_first_token:\r\n        seconds: 1\r\noverrides:\r\n- models: [\"other\"]\r\n  \
                    objectives:\r\n    availability: 0.99\r\n";
        let mut measured = measured();
        measured.settings.model = "qwen3:14b".to_owned();
        for scope in [Scope::All, Scope::Model] {
            let applied = apply(&measured, text, scope, &HeadRoom::default()).unwrap();
            assert!(applied.text.contains("\r\n    availability: 0.999\r\n"), "{}", applied.text);
            assert_eq!(applied.text.matches('\n').count(), applied.text.matches("\r\n").count());
            assert_eq!(apply(&measured, &applied.text, scope, &HeadRoom::default()).unwrap().text, applied.text);
        }
    }

    #[test]
    fn a_model_has_its_own_lines_beside_those_of_others() {
        let of = |model: &str, text: &str| {
            let mut baseline = measured();
            baseline.settings.model = model.to_owned();
            apply(&baseline, text, Scope::Model, &HeadRoom::default()).unwrap()
        };
        let one = of("qwen3:14b", "objectives:\n  availability: 0.999\n");
        let both = of("Qwen/Qwen3-4B", &one.text);
        assert_eq!(of("qwen3:14b", &both.text).text, both.text);
        let slo = Slo::parse(&both.text).unwrap();
        assert_eq!(slo.overrides.len(), 2, "{}", both.text);
        for (model, seconds) in [("qwen3:14b", 0.4), ("Qwen/Qwen3-4B", 0.4), ("other", 2.5)] {
            let objectives = slo.effective("llm", model).objectives;
            assert_eq!((objectives.time_to_first_token.seconds, objectives.availability), (seconds, 0.999), "{model}");
        }
        assert!(lines(&one).iter().all(|line| !line.starts_with("scaling") && !line.starts_with("gpu")));
    }

    #[test]
    fn the_buckets_of_the_service_are_those_that_count() {
        let text = "buckets:\n  llm_time_to_first_token_seconds: [0.2, 0.45, 2.5]\n";
        let applied = apply(&measured(), text, Scope::All, &HeadRoom::default()).unwrap();
        assert_eq!(lines(&applied)[0], "objectives.time_to_first_token.seconds: 0.45");
    }

    #[test]
    fn a_layout_that_cannot_be_edited_is_an_error() {
        let text = "objectives: {\n  time_to_first_token: {seconds: 1}\n}\n";
        let error = apply(&measured(), text, Scope::All, &HeadRoom::default()).unwrap_err();
        assert!(error.to_string().starts_with("objectives.time_to_first_token.seconds cannot be edited"), "{error}");
    }

    #[test]
    fn only_mappings_in_braces_whose_fields_change_become_blocks() {
        let text = "objectives: {time_to_first_token: {seconds: 1, objective: 0.99}, availability: 0.999}\nlabels: {team: a}\n";
        let applied = apply(&measured(), text, Scope::All, &HeadRoom::default()).unwrap();
        let objectives = Slo::parse(&applied.text).unwrap().objectives;
        let first = &objectives.time_to_first_token;
        assert_eq!((first.seconds, first.objective, objectives.availability), (0.4, 0.99, 0.999), "{}", applied.text);
        assert!(applied.text.contains("\nlabels: {team: a}\n"), "{}", applied.text);
    }

    #[test]
    fn gpu_memory_is_proposed_where_it_was_read() {
        let with = |low: f64, high: f64| {
            let mut baseline = measured();
            baseline.server.gpu_memory_bytes = Some(100.0);
            baseline.memory = [low, high]
                .map(|used| MemoryPoint { seconds: 0.0, gpu_bytes: Some(used), resident_bytes: None })
                .to_vec();
            let applied = apply(&baseline, "", Scope::All, &HeadRoom::default()).unwrap();
            lines(&applied).split_off(6)
        };
        assert_eq!(with(90.0, 90.5), ["gpu.memory_preallocated: true"]);
        assert_eq!(
            with(20.0, 60.0),
            ["gpu.memory_preallocated: false", "gpu.memory_headroom_ratio: 0.66", "gpu.memory_ratio: 0.9"]
        );
        assert_eq!(with(20.0, 95.0)[1..], ["gpu.memory_headroom_ratio: 0.9", "gpu.memory_ratio: 0.95"]);
    }

    #[test]
    fn a_value_beyond_all_buckets_gets_the_last_bound_that_can_be_exceeded() {
        let mut baseline = measured();
        baseline.steps[0].client.duration = Latency::of(vec![5000.0; 100]);
        let applied = apply(&baseline, "", Scope::All, &HeadRoom::default()).unwrap();
        assert_eq!(lines(&applied)[2..4], ["alerts.duration_p95_seconds: 900", "alerts.duration_p99_seconds: 900"]);
    }

    #[test]
    fn without_a_rate_that_the_server_kept_up_with_nothing_is_proposed() {
        let none = baseline(vec![step(10.0, Verdict::Saturated, 5.0)]);
        assert!(matches!(apply(&none, "", Scope::All, &HeadRoom::default()), Err(ApplyError::NothingHeld)));
    }

    #[test]
    fn without_objectives_that_held_it_is_well_below_the_knee() {
        let mut steps: Vec<_> = [5.0, 10.0, 15.0, 18.0].map(|rate| step(rate, Verdict::KeptUp, rate)).to_vec();
        steps.push(step(40.0, Verdict::Saturated, 20.0));
        steps.iter_mut().for_each(|step| step.attainment[0].held = false);
        assert_eq!(operating_point(&baseline(steps)).unwrap().rate, 15.0);
    }
}
