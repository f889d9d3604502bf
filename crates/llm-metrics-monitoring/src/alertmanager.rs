//! The configuration of Alertmanager: who is told, what is told together, and what silences what.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    alerts::{
        Severity,
        gpu::{GPU_LOST, MEMORY_HEADROOM_LOW, MEMORY_HIGH},
        targets::{TARGET_ABSENT, TARGET_DOWN},
    },
    generate::GenerateError,
    rule_file::yaml,
    vocabulary::{GPU_UUID, INSTANCE, JOB},
};

/// What is told together.
const TOGETHER: [&str; 3] = ["alertname", JOB, "model"];

#[derive(Serialize)]
struct Config {
    route: Route,
    inhibit_rules: Vec<Inhibit>,
    receivers: Vec<Receiver>,
}

#[derive(Default, Serialize)]
struct Route {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matchers: Vec<String>,
    receiver: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    group_by: Vec<&'static str>,
    group_wait: &'static str,
    group_interval: &'static str,
    repeat_interval: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Self>,
}

#[derive(Serialize)]
struct Inhibit {
    source_matchers: Vec<String>,
    target_matchers: Vec<String>,
    equal: Vec<&'static str>,
}

#[derive(Serialize)]
struct Receiver {
    name: &'static str,
    webhook_configs: Vec<BTreeMap<&'static str, String>>,
}

/// The receiver for what has that severity. Each is a webhook to be replaced by what you have.
const fn receiver(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "page",
        Severity::Warning => "ticket",
        Severity::Info => "log",
        Severity::None => "watchdog",
    }
}

pub(crate) fn config() -> Result<String, GenerateError> {
    let receivers = Severity::ALL.map(|severity| Receiver {
        name: receiver(severity),
        webhook_configs: vec![[("url", format!("http://127.0.0.1:9099/{}", receiver(severity)))].into()],
    });
    yaml(&Config { route: route(), inhibit_rules: inhibitions(), receivers: receivers.into() })
}

fn route() -> Route {
    let child = |severity: Severity, group_wait, group_interval, repeat_interval| Route {
        matchers: vec![format!("severity = {}", severity.as_str())],
        receiver: receiver(severity),
        group_wait,
        group_interval,
        repeat_interval,
        ..Route::default()
    };
    Route {
        // What has no severity that we know is still seen by somebody.
        receiver: receiver(Severity::Warning),
        group_by: TOGETHER.into(),
        group_wait: "30s",
        group_interval: "5m",
        repeat_interval: "12h",
        routes: vec![
            child(Severity::None, "0s", "1m", "1m"),
            child(Severity::Critical, "15s", "5m", "1h"),
            child(Severity::Warning, "1m", "5m", "12h"),
            child(Severity::Info, "5m", "30m", "24h"),
        ],
        ..Route::default()
    }
}

fn inhibitions() -> Vec<Inhibit> {
    let lesser = format!("severity =~ \"{}|{}\"", Severity::Warning.as_str(), Severity::Info.as_str());
    let named = |name: &str| vec![format!("alertname = {name}")];
    let all_but = |name: &str| vec![format!("alertname != {name}"), format!("severity != {}", Severity::None.as_str())];
    vec![
        // Of a target that is down nothing else is news, nor of a job that is gone.
        Inhibit {
            source_matchers: named(TARGET_DOWN),
            target_matchers: all_but(TARGET_DOWN),
            equal: vec![JOB, INSTANCE],
        },
        Inhibit { source_matchers: named(TARGET_ABSENT), target_matchers: all_but(TARGET_ABSENT), equal: vec![JOB] },
        // The same alert about the same thing, only graver.
        Inhibit {
            source_matchers: vec![format!("severity = {}", Severity::Critical.as_str())],
            target_matchers: vec![lesser.clone()],
            equal: vec!["alertname", JOB, INSTANCE, "model", GPU_UUID],
        },
        Inhibit {
            source_matchers: named(MEMORY_HIGH),
            target_matchers: named(MEMORY_HEADROOM_LOW),
            equal: vec![JOB, INSTANCE, GPU_UUID],
        },
        Inhibit {
            source_matchers: named(GPU_LOST),
            target_matchers: vec!["alertname =~ \"LlmGpu.*\"".to_owned(), lesser],
            equal: vec![JOB, INSTANCE, GPU_UUID],
        },
    ]
}
