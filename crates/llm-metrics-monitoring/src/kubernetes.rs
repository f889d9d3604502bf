//! The manifests for Kubernetes that hold rules or names of metrics.

use crate::{
    generate::{File, GenerateError},
    promql::{Label, Names},
    recording::Recording,
    rule_file::{HEADER, spell},
    slo::Slo,
    vocabulary::JOB,
};

/// The rules of these files for the Prometheus operator, and what KEDA scales by.
pub(crate) fn files(
    rules: &[File],
    recording: &Recording,
    slo: &Slo,
    names: &Names,
) -> Result<Vec<File>, GenerateError> {
    Ok(vec![
        File::new("kubernetes/prometheusrule.yml", prometheus_rule(rules)),
        File::new("kubernetes/scaledobject.yml", scaled_object(recording, slo, names)?),
    ])
}

fn prometheus_rule(rules: &[File]) -> String {
    let mut text = format!(
        "{HEADER}# For the Prometheus operator: the rules of ../rules. kube-prometheus-stack picks up what has its own release label.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: llm-metrics
  labels: {{ app.kubernetes.io/name: llm-metrics }}
spec:
  groups:
"
    );
    for file in rules {
        let groups = file.text.split_once("groups:\n").map_or("", |(_, groups)| groups);
        for line in groups.lines() {
            text += format!("  {line}").trim_end();
            text.push('\n');
        }
    }
    text
}

fn scaled_object(recording: &Recording, slo: &Slo, names: &Names) -> Result<String, GenerateError> {
    let hint = recording.desired_replicas.gauge().with(JOB, slo.service.jobs[0].clone()).now();
    let query = spell("the ScaledObject", &hint.max_by(Vec::<Label>::new()), names)?.replace('\n', "\n          ");
    Ok(format!(
        "{HEADER}# For KEDA 2.12 or later: as many replicas as the rules hint at, from requests in flight and where they are going. GPU
# utilisation and memory say nothing about load; do not scale by them.
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: qwen-server
spec:
  scaleTargetRef:
    name: qwen-server
  pollingInterval: 15
  minReplicaCount: 1
  maxReplicaCount: 8
  # Where Prometheus does not answer.
  fallback:
    failureThreshold: 4
    replicas: 2
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          # Longer than a model takes to load: what is given back too early is missed for that long.
          stabilizationWindowSeconds: 600
          policies:
            - {{ type: Pods, value: 1, periodSeconds: 300 }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: http://prometheus-operated.monitoring.svc:9090
        query: |-
          {query}
        # One replica for each that is hinted at.
        threshold: \"1\"
        # No answer is no reason to scale down.
        ignoreNullValues: \"false\"
"
    ))
}
