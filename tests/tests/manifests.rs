//! Validates every Kubernetes manifest in `examples/` with the schemas of its kind: those of Kubernetes in PyPI's `kubernetes-validate`, and those of
//! the Prometheus operator and KEDA in npm's `@kubernetes-models`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use llm_metrics_tests::{
    monitoring::{documents, yaml_files},
    node_with_packages, python_with,
};
use serde_json::{Value, json};

/// The oldest Kubernetes that supports all manifests, and the newest one with schemas.
const VERSIONS: [&str; 2] = ["1.30", "1.37"];
/// API groups of custom resources.
const CUSTOM: [&str; 2] = ["monitoring.coreos.com/", "keda.sh/"];

#[test]
fn the_schemas_of_kubernetes_accept_every_manifest_of_its_kinds() {
    let Some(python) = python_with(&["kubernetes_validate"]) else { return };
    let manifests = manifests(|api| !CUSTOM.iter().any(|group| api.starts_with(group)));
    for kind in ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"] {
        assert!(manifests.iter().any(|manifest| manifest.value["kind"] == kind), "{kind}");
    }
    for version in VERSIONS {
        let check = || {
            let mut command = python.command();
            command.arg(folder().join("check.py")).arg(version);
            command
        };
        all_are_accepted_and_no_wrong_field(&manifests, check);
    }
}

#[test]
fn the_schemas_of_the_operator_and_of_keda_accept_every_manifest_of_their_kinds() {
    let Some(node) = node_with_packages(&folder()) else { return };
    let manifests = manifests(|api| CUSTOM.iter().any(|group| api.starts_with(group)));
    for kind in ["PrometheusRule", "ScaledObject", "ServiceMonitor"] {
        assert!(manifests.iter().any(|manifest| manifest.value["kind"] == kind), "{kind}");
    }
    all_are_accepted_and_no_wrong_field(&manifests, || {
        let mut command = node.command();
        command.arg(folder().join("check.mjs"));
        command
    });
}

#[test]
fn pods_have_no_more_rights_than_they_need_and_stop_one_at_a_time() {
    let all = manifests(|_| true);
    let of = |kind: &str| all.iter().filter(|manifest| manifest.value["kind"] == kind).collect::<Vec<_>>();
    let deployments = of("Deployment");
    assert!(deployments.len() >= 2);
    for Manifest { file, value: deployment } in deployments {
        let (spec, pod) = (&deployment["spec"], &deployment["spec"]["template"]["spec"]);
        assert_eq!(spec["strategy"]["rollingUpdate"], json!({"maxSurge": 0, "maxUnavailable": 1}), "{file}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{file}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{file}");
        let containers = ["initContainers", "containers"].into_iter().filter_map(|kind| pod[kind].as_array()).flatten();
        let mut slept = 0;
        for container in containers {
            let (name, context) = (&container["name"], &container["securityContext"]);
            assert_eq!(context["allowPrivilegeEscalation"], false, "{file}: {name}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{file}: {name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{file}: {name}");
            // An image whose user is root, or has no numeric id, does not start with `runAsNonRoot` and without a user id.
            let of_pod = &pod["securityContext"];
            let user = context["runAsUser"].as_u64().or_else(|| of_pod["runAsUser"].as_u64());
            assert!(user.is_some_and(|user| user > 0), "{file}: {name} runs as {user:?}");
            assert!([context, of_pod].iter().any(|set| set["runAsNonRoot"] == true), "{file}: {name}");
            for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                let volume = pod["volumes"].as_array().into_iter().flatten().find(|one| one["name"] == mount["name"]);
                let writable = volume.is_some_and(|one| one["emptyDir"]["sizeLimit"].is_string());
                assert!(writable || mount["readOnly"] == true, "{file}: {name}: {mount} is written to without a limit");
            }
            for of in ["requests", "limits"] {
                assert!(container["resources"][of]["memory"].is_string(), "{file}: {name}: {of}");
            }
            slept += container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        }
        assert!(slept > 0 && pod["terminationGracePeriodSeconds"].as_u64().expect("seconds") > slept, "{file}");

        let labels = &spec["template"]["metadata"]["labels"];
        let budgets = of("PodDisruptionBudget");
        assert!(budgets.iter().any(|budget| budget.value["spec"]["selector"]["matchLabels"] == *labels), "{file}");
        let policies = of("NetworkPolicy");
        let policy = policies.iter().find(|policy| policy.value["spec"]["podSelector"]["matchLabels"] == *labels);
        let open = policy.and_then(|policy| policy.value["spec"]["ingress"].as_array()).expect("a policy");
        let to_metrics = open.iter().find(|rule| rule["ports"][0]["port"] == "metrics").expect("a rule");
        assert!(to_metrics["from"].is_array(), "{file}: not everybody reads the metrics");
    }
    for Manifest { file, value } in of("ServiceMonitor") {
        let relabelings = value["spec"]["endpoints"][0]["relabelings"].as_array();
        let job = relabelings.into_iter().flatten().find(|rule| rule["targetLabel"] == "job");
        assert_eq!(job.map(|rule| &rule["replacement"]), Some(&json!("llm")), "{file}: the job that the rules look at");
    }
}

/// Checks the manifests unchanged, and each with one wrong field, in every place where a field can be.
#[track_caller]
fn all_are_accepted_and_no_wrong_field(manifests: &[Manifest], check: impl Fn() -> Command) {
    for (manifest, fault) in manifests.iter().zip(faults(check(), manifests.iter().map(|manifest| &manifest.value))) {
        assert_eq!(fault, Value::Null, "{}", manifest.file);
    }
    let wrong: Vec<_> = manifests.iter().flat_map(|manifest| with_a_wrong_field(&manifest.value)).collect();
    assert!(wrong.len() > 2 * manifests.len());
    for ((place, _), fault) in wrong.iter().zip(faults(check(), wrong.iter().map(|(_, value)| value))) {
        assert!(fault.is_string(), "{place}: a field that does not exist is let pass");
    }
}

/// A manifest and its path.
struct Manifest {
    file: String,
    value: Value,
}

/// All manifests of `examples/` whose `apiVersion` satisfies a condition.
fn manifests(wanted: impl Fn(&str) -> bool) -> Vec<Manifest> {
    let is_manifest = |value: &Value| value["kind"].is_string() && value["apiVersion"].as_str().is_some_and(&wanted);
    let files = yaml_files(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"));
    let manifests = files.iter().flat_map(|(path, text)| {
        let values = documents(text).into_iter().filter(is_manifest);
        values.map(|value| Manifest { file: path.display().to_string(), value })
    });
    manifests.collect()
}

/// The manifest with one wrong field: at the top, in its `spec`, and in the first element of the first list in `spec`.
fn with_a_wrong_field(manifest: &Value) -> Vec<(String, Value)> {
    let places =
        ["", "/metadata", "/spec", "/spec/template/spec/containers/0", "/spec/ports/0", "/spec/ingress/0/ports/0"];
    let custom =
        ["/spec/endpoints/0", "/spec/groups/0", "/spec/groups/0/rules/0", "/spec/triggers/0", "/spec/fallback"];
    let with = |place: &str| {
        let mut wrong = manifest.clone();
        wrong.pointer_mut(place)?.as_object_mut()?.insert("noSuchField".to_owned(), json!("value"));
        Some((format!("{} {place}", manifest["kind"]), wrong))
    };
    places.into_iter().chain(custom).filter_map(with).collect()
}

/// The result for each manifest: a text, or `null`.
fn faults<'a>(mut check: Command, manifests: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let manifests: Vec<_> = manifests.collect();
    let mut child = check.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(json!(manifests).to_string().as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let faults: Vec<Value> = serde_json::from_slice(&output.stdout).expect("an array");
    assert_eq!(faults.len(), manifests.len());
    faults
}

/// The folder of the checks.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}
