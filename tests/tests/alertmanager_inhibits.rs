//! Inhibition: alerts are sent to an Alertmanager with the committed configuration, which reports the ones that it inhibits.

use std::{collections::BTreeMap, fs, time::Duration};

use llm_metrics_tests::{Daemon, free_address, monitoring, tool};
use serde_json::Value;

/// The labels of an alert, in the format of amtool (the first word is its name), and whether the alert is inhibited.
const ALERTS: &[(&str, bool)] = &[
    ("LlmTargetDown severity=critical job=llm instance=a:1", false),
    // About the target that is down.
    ("LlmGpuXid severity=critical job=llm instance=a:1 gpu=0 gpu_uuid=GPU-1 xid=79", true),
    ("LlmScrapeSlow severity=warning job=llm instance=a:1", true),
    // About another target, about another job, and about the whole service.
    ("LlmScrapeSlow severity=warning job=llm instance=b:1", false),
    ("LlmScrapeSlow severity=warning job=other instance=a:1", false),
    ("LlmErrorRatioHigh severity=critical job=llm model=n", false),
    // The same problem with a higher severity or burn rate, and other problems.
    ("LlmErrorBudgetBurn severity=critical job=llm model=m window=1h burn=14.4", false),
    ("LlmErrorBudgetBurn severity=critical job=llm model=m window=6h burn=6", true),
    ("LlmErrorBudgetBurn severity=warning job=llm model=m window=1d burn=3", true),
    ("LlmErrorBudgetBurn severity=warning job=llm model=n window=1d burn=3", false),
    // Requests that fail are also slow, and miss objectives.
    ("LlmErrorRatioHigh severity=critical job=llm model=m", true),
    ("LlmTimeToFirstTokenBudgetBurn severity=critical job=llm model=m window=6h burn=6", true),
    ("LlmRequestDurationP95High severity=warning job=llm model=m", true),
    ("LlmAttainmentLow severity=warning job=llm model=m slo=chat window=6h burn=6", true),
    ("LlmAttainmentLow severity=warning job=llm model=n slo=chat window=6h burn=6", true),
    ("LlmAttainmentLow severity=warning job=llm model=o slo=chat window=6h burn=6", false),
    // A server that hangs has a queue, and its clients give up.
    ("LlmStalled severity=critical job=hung instance=d:1", false),
    ("LlmModelStalled severity=critical job=hung instance=d:1 model=m seen=clients", true),
    ("LlmQueueGrowing severity=warning job=hung instance=d:1 queue=server why=long", true),
    ("LlmQueueGrowing severity=warning job=hung instance=e:1 queue=server why=long", false),
    ("LlmModelStalled severity=critical job=hung instance=e:1 model=p seen=clients", false),
    ("LlmMostlyCancelled severity=critical job=hung model=p", true),
    ("LlmMostlyCancelled severity=critical job=hung model=q", false),
    ("LlmTokenThroughputLow severity=warning job=hung", true),
    // A broken GPU is the cause.
    ("LlmStalled severity=critical job=llm instance=c:1", true),
    // A server that restarts repeatedly is down from time to time.
    ("LlmCrashLoop severity=critical job=llm instance=f:1 seen=scrapes", false),
    ("LlmTargetDown severity=critical job=llm instance=f:1", true),
    // For a GPU whose memory is full, the forecast is redundant.
    ("LlmGpuMemoryHigh severity=critical job=llm instance=b:1 gpu=0 gpu_uuid=GPU-2", false),
    ("LlmGpuMemoryHeadroomLow severity=warning job=llm instance=b:1 gpu=0 gpu_uuid=GPU-2", true),
    ("LlmGpuMemoryHeadroomLow severity=warning job=llm instance=b:1 gpu=1 gpu_uuid=GPU-3", false),
    // Alerts about a lost GPU that are not critical.
    ("LlmGpuLost severity=critical job=llm instance=c:1 gpu=0 gpu_uuid=GPU-4", false),
    ("LlmGpuThrottled severity=warning job=llm instance=c:1 gpu=0 gpu_uuid=GPU-4 reason=hw_slowdown", true),
    ("LlmGpuXid severity=critical job=llm instance=c:1 gpu=0 gpu_uuid=GPU-4 xid=79", false),
    // A GPU that was lost before the collector started has no UUID. This alert is redundant if another alert is about a lost GPU.
    ("LlmGpuMissing severity=critical job=llm instance=c:1", true),
    ("LlmGpuMissing severity=critical job=llm instance=g:1", false),
    ("LlmStalled severity=critical job=llm instance=g:1", true),
    // All alerts about a job that is gone, except the watchdog, which has no job.
    ("LlmTargetAbsent severity=critical job=gone", false),
    ("LlmRequestRateLow severity=info job=gone model=m", true),
    ("LlmWatchdog severity=none", false),
];

#[tokio::test]
async fn a_target_that_is_down_silences_its_instance_and_critical_silences_warning() {
    let (Some(alertmanager), Some(amtool)) = (tool("alertmanager"), tool("amtool")) else { return };
    let (folder, addr) = (tempfile::tempdir().expect("a temporary folder"), free_address());
    fs::write(folder.path().join("alertmanager.yml"), monitoring::text("alertmanager/alertmanager.yml"))
        .expect("a file");
    let listen = format!("--web.listen-address={addr}");
    let arguments = ["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=", &listen];
    let alertmanager = Daemon::start(&alertmanager, addr, folder, &arguments, "/-/ready").await;

    for (labels, _) in ALERTS {
        let add = amtool
            .command()
            .arg(format!("--alertmanager.url=http://{addr}"))
            .args(["alert", "add"])
            .args(labels.split(' '))
            .output();
        let add = add.expect("amtool runs");
        assert!(add.status.success(), "{labels}: {}", String::from_utf8_lossy(&add.stderr));
    }
    let expected: BTreeMap<_, _> = ALERTS.iter().map(|(labels, silenced)| (sorted(labels), *silenced)).collect();
    assert_eq!(expected.len(), ALERTS.len());
    // The state of an alert is known a moment after it arrived.
    let mut states = BTreeMap::new();
    for _ in 0..100 {
        states = held_back(&alertmanager).await;
        if states == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(states, expected);
}

/// Whether each alert is inhibited by another one.
async fn held_back(alertmanager: &Daemon) -> BTreeMap<String, bool> {
    let alerts: Value =
        serde_json::from_str(&alertmanager.get("/api/v2/alerts").await.expect("an answer")).expect("JSON");
    let of = |alert: &Value| {
        let labels = alert["labels"].as_object().expect("labels").iter();
        let words = labels.map(|(name, value)| match (name.as_str(), value.as_str().unwrap_or_default()) {
            ("alertname", value) => value.to_owned(),
            (name, value) => format!("{name}={value}"),
        });
        let by = alert["status"]["inhibitedBy"].as_array().expect("a list");
        (sorted(&words.collect::<Vec<_>>().join(" ")), !by.is_empty())
    };
    alerts.as_array().expect("a list").iter().map(of).collect()
}

fn sorted(labels: &str) -> String {
    let mut words: Vec<_> = labels.split(' ').collect();
    words.sort_unstable();
    words.join(" ")
}
