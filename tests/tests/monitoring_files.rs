//! The hand-written files of `examples/monitoring/`. promtool checks the configurations. Tests check the required fields and references of the
//! others. The tests of `llm-metrics-monitoring` check the generated files.

use std::{collections::BTreeMap, fs};

use llm_metrics_tests::{
    Tool,
    monitoring::{self, documents, files, parse, text},
    tool,
};
use serde_json::{Value, json};

#[test]
fn every_yaml_file_can_be_read() {
    let files = monitoring::yaml_files(monitoring::folder());
    for (path, text) in &files {
        assert!(!documents(text).is_empty(), "{}", path.display());
    }
    assert!(files.len() > 10, "{} files", files.len());
}

#[test]
fn promtool_accepts_prometheus_yml_alone_and_with_each_section_of_remote_write() {
    let Some(promtool) = tool("promtool") else { return };
    let config = text("prometheus.yml");
    assert!(check_config(&promtool, &config), "prometheus.yml");
    let sections = files("remote-write", ".yml");
    assert!(sections.len() >= 3);
    for section in sections {
        assert!(parse(&text(&section))["remote_write"][0]["url"].is_string(), "{section}");
        assert!(check_config(&promtool, &format!("{config}\n{}", text(&section))), "{section}");
    }
    assert!(!check_config(&promtool, &config.replace("file_sd_configs", "file_sd_config")), "promtool checks");
}

/// Debian's promtool does not support Kubernetes, so it checks everything except the service discovery.
#[test]
fn promtool_accepts_the_job_that_finds_pods() {
    let Some(promtool) = tool("promtool") else { return };
    let mut config = parse(&text("kubernetes/prometheus.yml"));
    let job = config["scrape_configs"][0].as_object_mut().expect("a job");
    let discovery = job.remove("kubernetes_sd_configs").expect("discovery");
    assert_eq!(discovery[0]["role"], "pod");
    assert!(check_config(&promtool, &config.to_string()));

    // The job selects the pods of the Deployment, and one of their ports.
    let server = Server::read();
    let selector = discovery[0]["selectors"][0]["label"].as_str().expect("a label");
    let (label, value) = selector.split_once('=').expect("LABEL=VALUE");
    assert_eq!(server.deployment["spec"]["template"]["metadata"]["labels"][label], value);
    let port = &config["scrape_configs"][0]["relabel_configs"][0]["regex"];
    assert!(server.ports().contains(port), "{port}");
}

/// Checks a configuration with promtool, next to the rules and targets.
fn check_config(promtool: &Tool, config: &str) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for part in ["rules", "targets"] {
        fs::create_dir(folder.path().join(part)).expect("a folder");
        for file in files(part, ".yml") {
            fs::write(folder.path().join(&file), text(&file)).expect("a file");
        }
    }
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, config).expect("a file");
    let output = promtool.command().args(["check", "config"]).arg(&path).output().expect("promtool runs");
    eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn the_services_of_the_compose_file_refer_to_existing_files_and_listen_only_on_loopback() {
    let compose = parse(&text("compose.yml"));
    let services = compose["services"].as_object().expect("services");
    let mut mounts = BTreeMap::new();
    for (name, service) in services {
        let keys = [
            "cap_add",
            "cap_drop",
            "command",
            "deploy",
            "environment",
            "healthcheck",
            "image",
            "mem_limit",
            "network_mode",
            "pid",
            "privileged",
            "profiles",
            "read_only",
            "restart",
            "security_opt",
            "volumes",
        ];
        assert!(service.as_object().expect(name).keys().all(|key| keys.contains(&key.as_str())), "{name}: {service}");
        let (_, tag) = service["image"].as_str().and_then(|image| image.rsplit_once(':')).expect("a tag");
        assert!(tag.contains(|digit: char| digit.is_ascii_digit()), "{name} is of a version: {tag}");
        assert_eq!(service["network_mode"], "host", "{name}: addresses are those of prometheus.yml");
        assert_eq!(service["privileged"] == true, name == "cadvisor", "{name}");
        assert!(service["mem_limit"].is_string(), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");

        for volume in strings(&service["volumes"]) {
            let (source, rest) = volume.split_once(':').expect("SOURCE:TARGET");
            if let Some(path) = source.strip_prefix("./") {
                let path = monitoring::folder().join(path);
                assert!(path.exists(), "{name}: {}", path.display());
                assert!(rest.ends_with(":ro"), "{name}: {volume}");
            } else if !source.starts_with('/') {
                assert!(compose["volumes"].get(source).is_some(), "{name}: {volume}");
            }
            mounts.insert((name.as_str(), rest.split(':').next().expect("a target").to_owned()), source.to_owned());
        }
        let environment = service["environment"].as_object().into_iter().flat_map(|set| set.values());
        let says = strings(&service["command"]).chain(environment.filter_map(Value::as_str));
        assert!(says.clone().any(|word| word.contains("127.0.0.1")), "{name} listens on the loopback address");
        assert!(says.clone().all(|word| !word.contains("0.0.0.0")), "{name}");
    }
    let mounted = |service, target: &str| mounts.get(&(service, target.to_owned())).map(String::as_str);
    assert_eq!(mounted("prometheus", "/etc/prometheus/prometheus.yml"), Some("./prometheus.yml"));
    for glob in strings(&parse(&text("prometheus.yml"))["rule_files"]) {
        let folder = glob.split('/').next().expect("a folder");
        assert!(mounted("prometheus", &format!("/etc/prometheus/{folder}")).is_some(), "{glob}");
    }
    let provider = parse(&text("grafana/provisioning/dashboards/llm-metrics.yml"));
    let path = provider["providers"][0]["options"]["path"].as_str().expect("a path");
    assert_eq!(mounted("grafana", path), Some("./grafana/dashboards"));
}

#[test]
fn the_programs_in_the_compose_file_accept_the_options_in_it() {
    let compose = parse(&text("compose.yml"));
    for (service, program) in [
        ("prometheus", "prometheus"),
        ("alertmanager", "alertmanager"),
        ("node-exporter", "node_exporter"),
        ("victoria-metrics", "victoria-metrics"),
    ] {
        let Some(tool) = tool(program) else { continue };
        let help = tool.command().arg("--help").output().expect("it runs");
        let help = [help.stdout, help.stderr].concat();
        let help = String::from_utf8_lossy(&help);
        let options: Vec<_> = strings(&compose["services"][service]["command"]).collect();
        assert!(!options.is_empty(), "{service}");
        for option in options {
            let name = option.split('=').next().expect("a name");
            assert!(
                help.split(|c: char| c.is_whitespace() || c == '=').any(|word| word == name),
                "{service}: {option}"
            );
        }
    }
}

#[test]
fn grafana_uses_the_prometheus_of_the_compose_file_with_its_scrape_interval() {
    let source = &parse(&text("grafana/provisioning/datasources/prometheus.yml"))["datasources"][0];
    assert_eq!(source["type"], "prometheus");
    let compose = parse(&text("compose.yml"));
    let prometheus = strings(&compose["services"]["prometheus"]["command"]);
    let listens = prometheus.filter_map(|option| option.strip_prefix("--web.listen-address=")).next();
    assert_eq!(source["url"].as_str(), listens.map(|address| format!("http://{address}")).as_deref());
    // If targets were scraped less often than Grafana expects, rates would have gaps.
    let config = parse(&text("prometheus.yml"));
    let jobs = config["scrape_configs"].as_array().expect("jobs").iter();
    let usual = &config["global"]["scrape_interval"];
    let seconds = |interval: &Value| -> u32 {
        interval.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok()).expect("seconds")
    };
    let longest = jobs.map(|job| seconds(job.get("scrape_interval").unwrap_or(usual))).max();
    assert_eq!(Some(seconds(&source["jsonData"]["timeInterval"])), longest);
}

#[test]
fn the_manifests_agree_with_each_other() {
    let server = Server::read();
    for file in files("kubernetes", ".yml").iter().filter(|file| !file.ends_with("/prometheus.yml")) {
        for manifest in documents(&text(file)) {
            for field in ["apiVersion", "kind"] {
                assert!(manifest[field].is_string(), "{file}: {field}");
            }
            let says = |field: &str| manifest[field].is_object();
            assert!(manifest["metadata"]["name"].is_string() && (says("spec") || says("data")), "{file}");
        }
    }
    let pods = &server.deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&server.deployment["spec"]["selector"]["matchLabels"], pods);
    assert_eq!(&server.service["spec"]["selector"], pods);
    for port in server.service["spec"]["ports"].as_array().expect("ports") {
        assert!(server.ports().contains(&port["targetPort"]), "{port}");
    }

    let monitor = parse(&text("kubernetes/servicemonitor.yml"));
    assert_eq!(
        (&monitor["apiVersion"], &monitor["kind"]),
        (&json!("monitoring.coreos.com/v1"), &json!("ServiceMonitor"))
    );
    assert_eq!(&monitor["spec"]["selector"]["matchLabels"], &server.service["metadata"]["labels"]);
    let endpoint = &monitor["spec"]["endpoints"][0];
    let ports = server.service["spec"]["ports"].as_array().expect("ports");
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"]), "{endpoint}");
    let job = endpoint["relabelings"].as_array().into_iter().flatten().find(|rule| rule["targetLabel"] == "job");
    assert_eq!(job.map(|rule| &rule["replacement"]), Some(&json!("llm")), "the job that the rules look at");
}

#[test]
fn the_server_runs_with_minimal_permissions() {
    let server = Server::read();
    let pod = &server.deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(
        (&context["readOnlyRootFilesystem"], &context["allowPrivilegeEscalation"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    for of in ["requests", "limits"] {
        assert!(container["resources"][of]["memory"].is_string(), "{of}");
    }
    // With a read-only root file system, each writable path needs a mount.
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        let volumes = pod["volumes"].as_array().expect("volumes");
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
    }
    // A server that is being stopped gets no new requests, and has enough time.
    let slept = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("seconds");
    let drain = strings(&container["args"]).last().and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
    assert!(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds") > slept + drain.expect("--drain-timeout"));
    let pods = &server.deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&server.policy["spec"]["podSelector"]["matchLabels"], pods);
    assert_eq!(&server.budget["spec"]["selector"]["matchLabels"], pods);
    let open = server.policy["spec"]["ingress"].as_array().expect("rules");
    let metrics = open.iter().find(|rule| rule["ports"][0]["port"] == "metrics").expect("a rule for the metrics");
    assert!(metrics["from"].is_array(), "not everybody reads the metrics");
}

#[test]
fn the_operator_gets_the_rules_that_prometheus_gets() {
    let rule = parse(&text("kubernetes/prometheusrule.yml"));
    assert_eq!((&rule["apiVersion"], &rule["kind"]), (&json!("monitoring.coreos.com/v1"), &json!("PrometheusRule")));
    let groups = |file: &Value| file["groups"].as_array().expect("groups").clone();
    let mut all: Vec<_> = monitoring::rule_files().iter().flat_map(|file| groups(&parse(&text(file)))).collect();
    let mut told = groups(&rule["spec"]);
    all.sort_by_key(|group| group["name"].to_string());
    told.sort_by_key(|group| group["name"].to_string());
    assert_eq!(told, all);
    assert!(
        told.windows(2).all(|pair| pair[0]["name"] != pair[1]["name"]),
        "names of groups are unique in a PrometheusRule"
    );

    let Some(promtool) = tool("promtool") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("rules.yml");
    fs::write(&path, rule["spec"].to_string()).expect("a file");
    let output = promtool.command().args(["check", "rules"]).arg(path).output().expect("promtool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn keda_scales_the_server_by_a_recorded_series() {
    let scaled = parse(&text("kubernetes/scaledobject.yml"));
    assert_eq!((&scaled["apiVersion"], &scaled["kind"]), (&json!("keda.sh/v1alpha1"), &json!("ScaledObject")));
    let (spec, server) = (&scaled["spec"], Server::read());
    assert_eq!(spec["scaleTargetRef"]["name"], server.deployment["metadata"]["name"]);
    assert!(server.deployment["spec"].get("replicas").is_none(), "two would decide");
    assert!(spec["minReplicaCount"].as_u64().expect("a number") < spec["maxReplicaCount"].as_u64().expect("a number"));
    assert_eq!(
        spec["fallback"]["behavior"], "currentReplicasIfHigher",
        "a missing answer is not a reason to scale down"
    );
    let trigger = &spec["triggers"][0];
    assert_eq!((&trigger["type"], &trigger["metricType"]), (&json!("prometheus"), &json!("AverageValue")));
    for field in ["serverAddress", "query", "threshold", "ignoreNullValues"] {
        assert!(trigger["metadata"][field].is_string(), "{field}: KEDA takes strings alone");
    }
    let query = trigger["metadata"]["query"].as_str().expect("a query");
    assert!(monitoring::recorded_series().iter().any(|series| query.contains(&series.expr)), "{query}");
}

/// `kubernetes/server.yml`.
struct Server {
    deployment: Value,
    service: Value,
    policy: Value,
    budget: Value,
}

impl Server {
    fn read() -> Self {
        let [deployment, service, policy, budget] =
            documents(&text("kubernetes/server.yml")).try_into().expect("four documents");
        assert_eq!((&deployment["kind"], &service["kind"]), (&json!("Deployment"), &json!("Service")));
        Self { deployment, service, policy, budget }
    }

    /// The names of the ports of the container.
    fn ports(&self) -> Vec<Value> {
        let ports = self.deployment["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().expect("ports");
        ports.iter().map(|port| port["name"].clone()).collect()
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> + Clone {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(Value::as_str)
}
