//! Settings of overrides that would have no effect.

use super::{Override, Slo};
use crate::alerts::scoped::Reach;

/// Why a setting of the override has no effect, and what to do.
pub(super) fn missing(one: &Override, slo: &Slo) -> Option<String> {
    let jobs = &slo.service.jobs;
    let foreign = one.jobs.iter().find(|job| !jobs.contains(job));
    let names_all = jobs.iter().all(|job| one.jobs.contains(job));
    let why = |reach: Reach| {
        let why = match (reach, foreign) {
            (Reach::Nowhere, _) => "is the same for all models and jobs: it belongs at the top of the file",
            (Reach::ServiceJobs | Reach::Jobs, _) if !one.models.is_empty() => {
                "applies to a whole job, not to a model: set `jobs` only"
            }
            (Reach::ServiceJobs, Some(job)) => {
                return Some(format!(
                    "has no effect on {job:?}, which is not in `service.jobs`: add it there, or remove the setting here"
                ));
            }
            (Reach::ServiceJobs, None) if names_all => {
                "only has an effect on the jobs in `service.jobs`, and these are all of them: it belongs at the top of \
                 the file"
            }
            _ => return None,
        };
        Some(why.to_owned())
    };
    let no_effect = |(setting, reach)| Some(format!("{setting} {}", why(reach)?));
    settings(one).find_map(no_effect).or_else(|| other_limits(one, slo))
}

/// The settings that do not have an effect everywhere, and where they have one.
fn settings(one: &Override) -> impl Iterator<Item = (String, Reach)> {
    let alerts = one.alerts.fields().map(|field| format!("alerts.{field}"));
    let thresholds = alerts.chain(one.gpu.fields().map(|field| format!("gpu.{field}"))).map(|setting| {
        let reach = Reach::of_threshold(&setting);
        (setting, reach)
    });
    let scaling = one.scaling.fields().map(|field| {
        // The recommended number of replicas is a rule for all jobs. The rest is in the manifests for the Deployments of the service.
        let reach = if field == "requests_per_replica" { Reach::Jobs } else { Reach::ServiceJobs };
        (format!("scaling.{field}"), reach)
    });
    // A name that is not an alert is reported elsewhere.
    let disable = one.disable.iter().filter_map(|alert| Some((format!("disabling {alert}"), Reach::of_alert(alert)?)));
    thresholds.chain(scaling).chain(disable)
}

/// A Deployment of several jobs has the limits of the first one.
fn other_limits(one: &Override, slo: &Slo) -> Option<String> {
    one.jobs.iter().find_map(|job| {
        let own = slo.of_job(job).scaling;
        let shares = |first: &&String| slo.of_job(first).scaling.deployment == own.deployment;
        let first = slo.service.jobs.iter().find(shares)?;
        let limits = slo.of_job(first).scaling;
        let limits = [
            ("replicas_min", one.scaling.replicas_min, own.replicas_min, limits.replicas_min),
            ("replicas_max", one.scaling.replicas_max, own.replicas_max, limits.replicas_max),
        ];
        let (limit, ..) = limits.into_iter().find(|(_, set, own, used)| set.is_some() && own != used)?;
        Some(format!(
            "scaling.{limit} has no effect on {job:?}, which shares the Deployment {:?} with {first:?}: name both jobs in \
             one override, or set another scaling.deployment for one of them",
            own.deployment
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        alerts::{self, Alert, Variant},
        instructions, kubernetes,
        promql::Names,
        recording::Recording,
        rule::Rule,
        slo::{Alerts, Gpu, Scaling},
        vocabulary::OVERRIDE,
    };

    /// All alerts and rules, and the manifest for KEDA. Dashboards do not depend on overrides.
    fn generated(slo: &Slo) -> (Vec<Vec<Variant>>, Vec<Rule>, Vec<String>) {
        let recording = Recording::new(slo);
        let alerts = alerts::topics(slo, &recording).into_iter().flat_map(|topic| topic.alerts);
        let files = kubernetes::files(std::iter::empty(), &recording, slo, &Names::new()).unwrap();
        (
            alerts.map(|alert| variants(&alert)).collect(),
            recording.all().cloned().collect(),
            files.into_iter().map(|file| file.text).collect(),
        )
    }

    /// With their texts, and without the name of the override.
    fn variants(alert: &Alert) -> Vec<Variant> {
        let variant = |variant: &Variant| {
            let (summary, description) = variant.texts(alert);
            let texts = Some((summary.to_owned(), description.to_owned()));
            let mut variant = Variant { texts, ..variant.clone() };
            variant.labels.retain(|(label, _)| label != OVERRIDE);
            variant
        };
        alert.variants.iter().map(variant).collect()
    }

    /// Each setting of an override alone, with an unusual value.
    fn settings() -> Vec<Value> {
        let alerts = Alerts {
            least_events: 30.0,
            least_failures: 7.0,
            duration_p95_seconds: 5.0,
            duration_p99_seconds: 20.0,
            error_ratio: 0.06,
            cancelled_ratio: 0.6,
            rejected_ratio: 0.6,
            requests_per_second_min: 0.1,
            requests_per_second_max: 200.0,
            queue_requests: 17.0,
            cut_ratio: 0.3,
            kv_cache_ratio: 0.9,
            scrape_seconds: 3.0,
        };
        let gpu = Gpu {
            memory_preallocated: true,
            memory_headroom_ratio: 0.7,
            memory_ratio: 0.95,
            memory_forecast_hours: 5.0,
            stale_seconds: 90.0,
            join_label: "node".to_owned(),
        };
        let scaling =
            Scaling { requests_per_replica: 9.0, deployment: "other".to_owned(), replicas_min: 2, replicas_max: 9 };
        let sections = [("alerts", json!(alerts)), ("gpu", json!(gpu)), ("scaling", json!(scaling))];
        let fields = sections.iter().flat_map(|(section, fields)| {
            fields.as_object().unwrap().iter().map(move |(field, value)| json!({ *section: { field: value } }))
        });
        let objectives = [
            json!({ "availability": 0.9 }),
            json!({ "attainment": 0.8 }),
            json!({ "time_to_first_token": { "seconds": 5 } }),
            json!({ "time_to_first_token": { "objective": 0.9 } }),
            json!({ "time_to_first_token": { "count_tokenless": false } }),
            json!({ "inter_token_latency": { "seconds": 0.5 } }),
            json!({ "inter_token_latency": { "objective": 0.9 } }),
        ];
        let objectives = objectives.into_iter().map(|objective| json!({ "objectives": objective }));
        let disable = instructions::alerts().map(|alert| json!({ "disable": [alert] }));
        fields.chain(objectives).chain([json!({ "labels": { "team": "x" } })]).chain(disable).collect()
    }

    #[test]
    fn exactly_the_settings_without_an_effect_of_their_own_on_the_generated_rules_are_rejected() {
        let base = Slo::parse("service: {jobs: [llm, batch]}").unwrap();
        let before = generated(&base);
        let parsed = |setting: &Value| serde_json::from_value::<Override>(setting.clone()).unwrap();
        let (mut accepted, mut rejected) = (0, 0);
        for setting in settings() {
            let mut at_the_top = base.clone();
            parsed(&setting).apply(&mut at_the_top);
            let at_the_top = generated(&at_the_top);
            for of in [
                json!({ "models": ["a"] }),
                json!({ "jobs": ["batch"] }),
                json!({ "jobs": ["elsewhere"] }),
                json!({ "jobs": ["llm", "batch"] }),
            ] {
                let mut one = setting.clone();
                one.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
                let slo = Slo { overrides: vec![parsed(&one)], ..base.clone() };
                let (missing, generated) = (missing(&slo.overrides[0], &slo), generated(&slo));
                let has_effect = generated != before && generated != at_the_top;
                assert_eq!(missing.is_none(), has_effect, "{one}: {missing:?}");
                *if has_effect { &mut accepted } else { &mut rejected } += 1;
            }
        }
        assert!(accepted > 100 && rejected > 50, "{accepted} {rejected}");
    }
}
