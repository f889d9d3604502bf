//! The Kubernetes manifests that contain rules or metric names.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    file::{File, GenerateError},
    promql::{Label, Names},
    recording::Recording,
    rule_file::{Group, HEADER, RuleFile, spell, yaml_after},
    slo::{Scaling, Slo},
    vocabulary::JOB,
};

/// The rules for the Prometheus operator, and the metrics by which KEDA scales.
pub(crate) fn files<'a>(
    rules: impl Iterator<Item = &'a RuleFile>,
    recording: &Recording,
    slo: &Slo,
    names: &Names,
) -> Result<Vec<File>, GenerateError> {
    Ok(vec![
        File::new("kubernetes/prometheusrule.yml", prometheus_rule(rules)?),
        File::new("kubernetes/scaledobject.yml", scaled_objects(recording, slo, names)?),
    ])
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PrometheusRule<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: RuleSpec<'a>,
}

#[derive(Serialize)]
struct Metadata {
    name: &'static str,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct RuleSpec<'a> {
    groups: Vec<&'a Group>,
}

const ABOUT_RULES: &str = "\
# For the Prometheus operator: the rules of ../rules. kube-prometheus-stack selects resources with the label of its own release.
";

fn prometheus_rule<'a>(rules: impl Iterator<Item = &'a RuleFile>) -> Result<String, GenerateError> {
    let rule = PrometheusRule {
        api_version: "monitoring.coreos.com/v1",
        kind: "PrometheusRule",
        metadata: Metadata { name: "llm-metrics", labels: [("app.kubernetes.io/name", "llm-metrics")].into() },
        spec: RuleSpec { groups: rules.flat_map(|file| &file.groups).collect() },
    };
    yaml_after(&format!("{HEADER}{ABOUT_RULES}"), &rule)
}

fn scaled_objects(recording: &Recording, slo: &Slo, names: &Names) -> Result<String, GenerateError> {
    let mut deployments: BTreeMap<String, (Scaling, Vec<&str>)> = BTreeMap::new();
    for job in &slo.service.jobs {
        let scaling = slo.of_job(job).scaling;
        let deployment = deployments.entry(scaling.deployment.clone()).or_insert_with(|| (scaling, Vec::new()));
        deployment.1.push(job);
    }
    let prometheus = &slo.service.prometheus;
    let documents =
        deployments.values().map(|(scaling, jobs)| scaled_object(recording, scaling, jobs, prometheus, names));
    Ok(HEADER.to_owned() + ABOUT + &documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))
}

const ABOUT: &str = "\
# For KEDA 2.17 or later. Scales to the number of replicas that the rules recommend, from the requests in flight and their forecast.
# GPU utilisation and memory do not show the load; do not scale by them.
";

fn scaled_object(
    recording: &Recording,
    scaling: &Scaling,
    jobs: &[&str],
    prometheus: &str,
    names: &Names,
) -> Result<String, GenerateError> {
    let hint = recording.desired_replicas.gauge();
    let hint = match jobs {
        [job] => hint.with(JOB, *job).now().max_by(Vec::<Label>::new()),
        jobs => hint.with_any(JOB, jobs.iter().copied()).now().sum(),
    };
    let query = spell("the ScaledObject", &hint, names)?.replace('\n', "\n          ");
    let Scaling { deployment, replicas_min, replicas_max, .. } = scaling;
    Ok(format!(
        "apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {deployment}
spec:
  scaleTargetRef:
    name: {deployment}
  pollingInterval: 15
  minReplicaCount: {replicas_min}
  maxReplicaCount: {replicas_max}
  # If Prometheus does not answer, or the rules are not loaded: keep the current number of replicas, at least two.
  fallback:
    failureThreshold: 4
    replicas: {fallback}
    behavior: currentReplicasIfHigher
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          # Longer than the loading of a model: a replica that is removed too early is missing for that time.
          stabilizationWindowSeconds: 600
          policies:
            - {{ type: Pods, value: 1, periodSeconds: 300 }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {prometheus}
        query: |-
          {query}
        # One replica per recommended replica.
        threshold: \"1\"
        # A missing value is an error, not zero: it leads to the fallback.
        ignoreNullValues: \"false\"
",
        fallback = (*replicas_min).max(2).min(*replicas_max),
    ))
}
