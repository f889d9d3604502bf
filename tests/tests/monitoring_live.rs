//! All of `examples/monitoring/`, live: the Qwen server under load, a Prometheus with the committed configuration and rules, an Alertmanager with the
//! committed routes, and long-term storage with `remote_write`.
//!
//! The test changes only addresses and times: intervals, `for`, `keep_firing_for`, `group_wait` and `group_interval`. Every expression, window, label
//! and route is as committed.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use llm_metrics_tests::{
    Busy, Case, Daemon, Everything, Gatewayed, MODEL, Prometheus, Tool, Watched, Webhook, everything,
    everything_can_happen, free_address, monitoring,
    qwen_server::{Launch, QwenServer, TINY, binary, made_up_driver},
    stream::{CHAT, COMPLETIONS},
    tool,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// The limit for all waits. On a quiet machine the test takes half a minute.
const LIMIT: Duration = Duration::from_secs(280);

#[tokio::test(flavor = "multi_thread")]
async fn measurements_are_recorded_shown_stored_and_alerted_on() {
    let Some(tools) = Tools::find() else { return };
    // Both may have to be built first, and that time is not limited.
    let _ = (binary(), made_up_driver());
    let all = async {
        let mut stack = Stack::start(&tools).await;
        a_model_that_repeats_itself_is_reported(&stack).await;
        a_server_that_dies_is_reported(&mut stack).await;
        an_error_of_the_gpu_is_reported(&stack).await;
        // While the server is gone, so that there are alerts.
        every_rule_and_every_query_has_data(&stack.prometheus).await;
        long_term_storage_has_the_recorded_values(&stack).await;
        its_return_is_reported_too(&mut stack).await;
        assert!(stack.load.try_join_next().is_none(), "the load went on to the end");
    };
    tokio::time::timeout(LIMIT, all).await.expect("all of it in time");
}

/// Queries that have no data here, by the title of the panel or by a metric, with the reason. They are still evaluated, because a query that
/// Prometheus rejects is an error.
const EMPTY: [(&str, &str); 17] = [
    ("Restarts", "nothing was restarted in the last seconds"),
    ("New versions", "all are of one version"),
    ("Video", "nothing is encoded or decoded"),
    ("Throttled time", "no GPU is throttled"),
    ("Repeated PCIe transfers", "there are none"),
    ("NVLink errors", "there are none"),
    ("CPU of containers", "no cAdvisor runs"),
    ("Memory of containers", "no cAdvisor runs"),
    ("Throttled or killed", "no cAdvisor runs"),
    ("Batch size", "the server does not report it"),
    ("Tokens per step", "the server does not report them"),
    ("Prefix cache hit ratio", "the server does not report it"),
    ("Draft tokens accepted", "nothing is drafted"),
    ("Failed polls", "there are none"),
    ("gpu_system_memory_used_bytes", "no GPU takes memory of the system"),
    ("offset 1h", "no forecast of memory is drawn of a GPU that is known for less than an hour"),
    (
        "job:llm_requests_in_flight:forecast15m",
        "there is none of a job that is known for less than a quarter of an hour",
    ),
];

/// A query that marks an event has no data a few seconds later. So the test checks whether it had data in the last minutes.
const EVENT: &str = "Model switches";

async fn every_rule_and_every_query_has_data(prometheus: &Prometheus) {
    let mut all = monitoring::recorded_series();
    assert!(all.len() > 50, "there are rules: {all:?}");
    let panels = monitoring::dashboard_queries();
    assert!(panels.len() > 50, "there are dashboards: {panels:?}");
    all.extend(panels);
    let is_of = |query: &monitoring::Query, what: &str| {
        query.place.ends_with(&format!(": {what}")) || query.expr.contains(what)
    };
    for (what, _) in EMPTY {
        assert!(all.iter().any(|query| is_of(query, what)), "nothing is called {what}");
    }
    let excused = |query: &monitoring::Query| EMPTY.iter().any(|(what, _)| is_of(query, what));
    let (excused, mut waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(excused);
    let events: Vec<_> = waiting.iter_mut().filter(|query| is_of(query, EVENT)).collect();
    assert!(!events.is_empty(), "nothing is called {EVENT}");
    for query in events {
        query.expr = format!("last_over_time(({})[5m:5s])", query.expr);
    }
    for query in excused {
        let _ = prometheus.query(&query.expr).await;
    }

    for _ in 0..60 {
        let mut empty = Vec::new();
        for query in waiting {
            if !prometheus.query(&query.expr).await.iter().any(|(_, value)| !value.is_nan()) {
                empty.push(query);
            }
        }
        if empty.is_empty() {
            return;
        }
        waiting = empty;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{} have no data: {waiting:#?}", waiting.len());
}

async fn long_term_storage_has_the_recorded_values(stack: &Stack) {
    let recorded = "job_model:llm_requests:rate5m";
    let samples = loop {
        let samples = stack.prometheus.samples(&format!("{recorded}[1m]")).await;
        if samples.iter().any(|(_, samples)| samples.len() > 3) {
            break samples;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    for _ in 0..300 {
        let exported = stack.storage.get(&format!("/api/v1/export?match%5B%5D={recorded}")).await.expect("an answer");
        let stored: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        if samples.iter().all(|(labels, samples)| samples.iter().all(|sample| has(&stored, labels, *sample))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not all of it was stored: {samples:?}\n{}", stack.prometheus.log());
}

/// Whether the export of VictoriaMetrics has a sample. VictoriaMetrics stores values as decimal numbers with about fifteen digits.
fn has(stored: &[Value], labels: &Value, (time, value): (i64, f64)) -> bool {
    stored.iter().filter(|series| series["metric"] == *labels).any(|series| {
        let times = series["timestamps"].as_array().expect("times");
        let at = times.iter().position(|stored| stored.as_i64() == Some(time));
        at.and_then(|at| series["values"][at].as_f64()).is_some_and(|stored| (stored - value).abs() <= value * 1e-12)
    })
}

async fn a_server_that_dies_is_reported(stack: &mut Stack) {
    let instance = stack.second_at.to_string();
    let up = format!("up{{instance=\"{instance}\"}}");
    while stack.prometheus.value(&up).await != Some(1.0) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!stack.webhook.alerts().iter().any(|alert| is_down(alert, &instance)), "it was up");
    stack.second = None;
    let alert = stack.webhook.until("the alert", |alert| is_down(alert, &instance)).await;
    assert_eq!((&alert["status"], &alert["labels"]["severity"]), (&json!("firing"), &json!("critical")), "{alert}");
    for annotation in ["summary", "description", "runbook"] {
        assert!(alert["annotations"][annotation].as_str().is_some_and(|text| text.len() > 10), "{alert}");
    }
    let summary = alert["annotations"]["summary"].as_str().unwrap_or_default();
    assert!(summary.contains(&instance), "the summary says which: {summary}");
}

async fn its_return_is_reported_too(stack: &mut Stack) {
    let instance = stack.second_at.to_string();
    let is_over = |alert: &Value| is_down(alert, &instance) && alert["status"] == "resolved";
    assert!(!stack.webhook.alerts().iter().any(is_over), "it is down");
    stack.second = Some(Launch::bare(&["--no-gpu", "--listen", &instance]).start().await);
    stack.webhook.until("that it is over", is_over).await;
}

/// Whether the alert is about a target that is or was down.
fn is_down(alert: &Value, instance: &str) -> bool {
    alert["labels"]["alertname"] == "LlmTargetDown" && alert["labels"]["instance"] == instance
}

async fn a_model_that_repeats_itself_is_reported(stack: &Stack) {
    let told = |alert: &Value| {
        let labels = &alert["labels"];
        let of = (&labels["alertname"], &labels["severity"], &alert["status"]);
        of == (&json!("LlmOutputRepeats"), &json!("critical"), &json!("firing")) && labels["model"] == TINY
    };
    // Many answers without loops.
    let outputs = format!("sum(increase(llm_outputs_total{{model=\"{TINY}\"}}[15m]))");
    while stack.prometheus.value(&outputs).await.is_none_or(|outputs| outputs < 30.0) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!stack.webhook.alerts().iter().any(told), "it was well");
    for _ in 0..30 {
        let request = json!({"messages": [{"role": "user", "content": "/demo cycle"}]});
        assert_eq!(stack.first.ask(CHAT, &request).await.status, 200);
    }
    let alert = stack.webhook.until("the alert", told).await;
    let runbook = alert["annotations"]["runbook"].as_str().unwrap_or_default();
    assert!(runbook.contains("LlmOutputRepeats"), "{alert}");
}

async fn an_error_of_the_gpu_is_reported(stack: &Stack) {
    let told = |alert: &Value| {
        let labels = &alert["labels"];
        labels["alertname"] == "LlmGpuXid" && labels["severity"] == "critical" && alert["status"] == "firing"
    };
    assert!(!stack.webhook.alerts().iter().any(told), "there was none");
    let written = stack.folder.path().join("written");
    fs::write(&written, "0 48\n0 31\n").expect("a file");
    fs::rename(written, stack.folder.path().join("xids")).expect("a file");
    let alert = stack.webhook.until("the alert", told).await;
    assert_eq!(alert["labels"]["xid"], "48", "{alert}");
    assert_eq!(alert["labels"]["instance"], stack.first.api.to_string(), "{alert}");
}

/// Other programs.
struct Tools {
    prometheus: Tool,
    alertmanager: Tool,
    node_exporter: Tool,
    victoria_metrics: Tool,
}

impl Tools {
    fn find() -> Option<Self> {
        Some(Self {
            prometheus: tool("prometheus")?,
            alertmanager: tool("alertmanager")?,
            node_exporter: tool("node_exporter")?,
            victoria_metrics: tool("victoria-metrics")?,
        })
    }
}

/// All running programs. Dropping it stops them, the load first.
struct Stack {
    load: JoinSet<()>,
    prometheus: Prometheus,
    storage: Daemon,
    webhook: Webhook,
    /// With a GPU, and under load.
    first: Arc<QwenServer>,
    /// Without a GPU and without load.
    second: Option<QwenServer>,
    second_at: SocketAddr,
    /// The folder with the file from which the driver reads XIDs.
    folder: TempDir,
    _kept: (Daemon, Daemon, Arc<Watched>, Everything),
}

impl Stack {
    async fn start(tools: &Tools) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = Launch::new(&["--demo", "--slo", "chat:ttft=2500ms,tpot=200ms"])
            .env("NVML_LIB_PATH", made_up_driver())
            .env("FAKE_NVML_PROFILE", "h200")
            .env("FAKE_NVML_LIVE", "1")
            .env("FAKE_NVML_XIDS", folder.path().join("xids"))
            .env("CUDA_VISIBLE_DEVICES", "0");
        let first = Arc::new(first.start().await);
        let second = QwenServer::start(&["--no-gpu"]).await;
        // mistral.rs reports neither queue and prefill times nor its cache, so a scripted engine does.
        let scripted = Arc::new(Watched::with(everything_can_happen, |exporter| exporter).await);
        let everything = everything(&scripted).await;

        let webhook = Webhook::start().await;
        let alertmanager = start_alertmanager(&tools.alertmanager, webhook.url()).await;
        let node = free_address();
        let listen = format!("--web.listen-address={node}");
        let node = Daemon::start(&tools.node_exporter, node, temporary(), &[&listen], "/").await;
        let storage = free_address();
        let listen = format!("-httpListenAddr={storage}");
        let arguments = ["-storageDataPath=data", "-memory.allowedBytes=64MB", &listen];
        let storage = Daemon::start(&tools.victoria_metrics, storage, temporary(), &arguments, "/health").await;

        // The metrics of a gateway, with an upstream that reports everything.
        let gateway = Gatewayed::start().await;

        let servers = [first.api, second.api, scripted.addr, gateway.own()];
        let prometheus =
            start_prometheus(&tools.prometheus, &servers, node.addr, alertmanager.addr, storage.addr).await;
        let mut load = JoinSet::new();
        load.spawn(ask(Arc::clone(&first)));
        load.spawn(talk(Arc::clone(&first)));
        load.spawn(demonstrate(Arc::clone(&first)));
        load.spawn(act(Arc::clone(&scripted)));
        load.spawn(async move { gateway.ask().await });
        let kept = (alertmanager, node, scripted, everything);
        let second_at = second.api;
        Self { load, prometheus, storage, webhook, first, second: Some(second), second_at, folder, _kept: kept }
    }
}

/// With the committed configuration, the section for `remote_write`, and rules with short times.
async fn start_prometheus(
    tool: &Tool,
    servers: &[SocketAddr],
    node: SocketAddr,
    alertmanager: SocketAddr,
    storage: SocketAddr,
) -> Prometheus {
    let (folder, addr) = (temporary(), free_address());
    let write = |file: &str, content: &Value| write(&folder.path().join(file), &content.to_string());
    for file in monitoring::rule_files() {
        let mut rules = monitoring::parse(&monitoring::text(&file));
        monitoring::hurry_rules(&mut rules);
        write(&file, &rules);
    }
    for file in monitoring::files("targets", ".yml") {
        write(&file, &monitoring::parse(&monitoring::text(&file)));
    }
    write("targets/llm.yml", &json!([{"targets": servers}]));
    write("targets/node.yml", &json!([{"targets": [node]}]));

    let config = monitoring::text("prometheus.yml") + &monitoring::text("remote-write/victoria-metrics.yml");
    let config = move_to(config, &[(9090, addr), (9093, alertmanager), (8428, storage)]);
    let mut config = monitoring::parse(&config);
    config["global"] = json!({"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"});
    for job in config["scrape_configs"].as_array_mut().expect("jobs") {
        job.as_object_mut().expect("a job").remove("scrape_interval");
    }
    write("prometheus.yml", &config);
    Prometheus::start(tool, addr, folder).await
}

/// With the committed routes, short times, and one webhook for all receivers.
async fn start_alertmanager(tool: &Tool, webhook: &str) -> Daemon {
    let (folder, addr) = (temporary(), free_address());
    let mut config = monitoring::parse(&monitoring::text("alertmanager/alertmanager.yml"));
    monitoring::hurry_routes(&mut config);
    for receiver in config["receivers"].as_array_mut().expect("receivers") {
        *receiver = json!({"name": receiver["name"], "webhook_configs": [{"url": webhook, "send_resolved": true}]});
    }
    write(&folder.path().join("alertmanager.yml"), &config.to_string());
    let listen = format!("--web.listen-address={addr}");
    let arguments = ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=", &listen];
    Daemon::start(tool, addr, folder, &arguments, "/-/ready").await
}

/// Replaces the addresses on this machine by others, by port.
fn move_to(mut text: String, places: &[(u16, SocketAddr)]) -> String {
    for (port, addr) in places {
        let place = format!("127.0.0.1:{port}");
        assert!(text.contains(&place), "{place}");
        text = text.replace(&place, &addr.to_string());
    }
    text
}

/// Requests of all kinds, one after the other. The number is limited, but larger than the test needs.
async fn ask(server: Arc<QwenServer>) {
    let user = json!([{"role": "user", "content": "What is a token?"}]);
    let requests = [
        (CHAT, json!({"messages": user, "max_tokens": 12})),
        (CHAT, json!({"messages": user, "max_tokens": 6, "n": 2, "enable_thinking": false})),
        (COMPLETIONS, json!({"prompt": "Measure at", "max_tokens": 6})),
        (CHAT, json!({"messages": user, "max_tokens": 20, "response_format": {"type": "json_object"}})),
        (CHAT, json!({"messages": user, "model": "another"})),
        (CHAT, json!({"messages": 1})),
    ];
    for (path, request) in requests.iter().cycle().take(1000) {
        server.ask(path, request).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Streams. Some of their clients disconnect.
async fn talk(server: Arc<QwenServer>) {
    for round in 0_u32..1000 {
        let request = json!({
            "stream": true, "max_tokens": 100, "enable_thinking": round % 3 != 0,
            "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "What is a token?"}],
        });
        let mut answer = server.open(CHAT, &request).await;
        answer.until_tokens(3).await;
        if round % 5 == 0 {
            answer.hang_up();
        } else {
            answer.rest().await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Faults that a healthy model does not produce, except loops.
async fn demonstrate(server: Arc<QwenServer>) {
    let tools = json!([{"type": "function", "function": {"name": "weather"}}]);
    let scripts = ["tool_call", "unknown_tool", "refusal", "special_token_leak", "input_truncated"];
    for script in scripts.into_iter().cycle().take(1000) {
        let message = json!({"role": "user", "content": format!("/demo {script}")});
        server.ask(CHAT, &json!({"messages": [message], "tools": tools})).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Values that the Qwen server does not report: an engine that reports everything, and requests that fail.
async fn act(watched: Arc<Watched>) {
    let busy = Busy::start(&watched).await;
    for case in [Case::Engine, Case::Thinking, Case::Whole, Case::Failed].into_iter().cycle().take(1000) {
        busy.send(MODEL, case).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}
