//! The files in `examples/gateway` agree with each other and with the gateway.

use std::path::Path;

use llm_metrics_gateway::Config;
use llm_metrics_tests::monitoring::{documents, parse};
use serde_json::Value;

fn text(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gateway");
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_compose_file_has_prometheus_and_its_targets() {
    let compose = parse(&text("compose.yml"));
    let config = Config::parse(&text("gateway.toml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    assert!(services.contains_key(config.upstreams[0].url.authority().host()), "the upstream is a service");
    let gateway = &services["llm-gateway"];
    let metrics = config.metrics_listen.unwrap().port().to_string();
    assert_eq!(gateway["expose"][0], metrics);
    assert_eq!(gateway["ports"][0], format!("127.0.0.1:8080:{}", config.listen.port()), "loopback of the host alone");
    let scrape = parse(&text("prometheus.yml"));
    assert_eq!(scrape["scrape_configs"][0]["static_configs"][0]["targets"][0], format!("llm-gateway:{metrics}"));
    let seconds = |time: &Value| time.as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    assert!(seconds(&gateway["stop_grace_period"]) > config.drain_timeout.as_secs());
    for (name, service) in services {
        assert_eq!(service["security_opt"][0], "no-new-privileges:true", "{name}");
        let Some(image) = service["image"].as_str() else { continue };
        assert!(image.rsplit(':').next().unwrap().contains(|digit: char| digit.is_ascii_digit()), "{name}: {image}");
    }
}

#[test]
fn the_sidecar_gets_the_requests_and_only_the_sidecar_reaches_the_engine() {
    let all = documents(&text("kubernetes/sidecar.yaml"));
    let of = |kind: &str| all.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let config = Config::parse(of("ConfigMap")["data"]["gateway.toml"].as_str().unwrap()).unwrap();
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    let (sidecar, engine) = (&pod["initContainers"][0], &pod["containers"][0]);
    assert_eq!(sidecar["restartPolicy"], "Always", "without it, this is not a sidecar");
    let port = |name: &str| {
        let ports = sidecar["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64().unwrap()
    };
    assert_eq!(port("http"), u64::from(config.listen.port()));
    assert_eq!(port("metrics"), u64::from(config.metrics_listen.unwrap().port()));
    let arguments: Vec<&str> = engine["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let after = |flag: &str| arguments[arguments.iter().position(|argument| *argument == flag).unwrap() + 1];
    assert_eq!(format!("{}:{}", after("--host"), after("--port")), config.upstreams[0].url.authority().as_str());
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(sidecar[probe]["httpGet"]["port"], "metrics");
    }
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > config.drain_timeout.as_secs());
    let mount = &sidecar["volumeMounts"][0]["mountPath"];
    assert_eq!(sidecar["args"][1], format!("{}/gateway.toml", mount.as_str().unwrap()));
    assert_eq!(pod["volumes"][0]["configMap"]["name"], of("ConfigMap")["metadata"]["name"]);
    for port in of("Service")["spec"]["ports"].as_array().unwrap() {
        assert_eq!(port["targetPort"], port["name"]);
    }
}

#[test]
fn the_stop_timeout_of_the_unit_is_longer_than_the_drain() {
    let unit = text("llm-gateway.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap().parse::<u64>().unwrap();
    let config = Config::parse("[upstreams.a]\nurl = \"http://127.0.0.1:1\"").unwrap();
    assert!(stop > config.drain_timeout.as_secs());
    assert!(unit.contains("--check"), "wrong settings do not replace a gateway that runs");
}
