//! A driver that is missing, unusable, goes away, or is installed later.

use llm_metrics_gpu::source::{GpuSession, GpuSource, SourceError};
use serde_json::json;

use super::{
    AT_ONCE, errors, on, quick,
    support::{self, Fake, device, machine},
    with,
};

#[test]
fn a_machine_without_a_driver_is_not_an_error_and_a_driver_that_appears_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let (builder, page) = quick();
    let collector = builder.library_path(folder.path().join("libnvidia-ml.so.1")).start();
    page.until("it is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    assert_eq!(page.value("gpu_collector_last_success_timestamp_seconds", &[]), None, "there was none");
    page.until("it has tried twice", |page| {
        page.value("gpu_collector_errors_total", &["kind=\"no_driver\""]).is_some_and(|count| count >= 2.0)
    });
    // A driver is installed atomically, as package managers do.
    std::fs::copy(support::fake_library(), folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), folder.path().join("libnvidia-ml.so.1")).unwrap();
    page.until("it is up", |page| page.value("gpu_collector_up", &[]) == Some(1.0));
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(0.0), "the first time is not again");
    assert!(collector.stop(AT_ONCE));
}

#[test]
fn an_unusable_driver_is_reported_by_kind() {
    for (code, kind) in
        [(9, "no_driver"), (4, "permission"), (18, "version_mismatch"), (28, "no_driver"), (999, "call_failed")]
    {
        let fake = Fake::state(&json!({ "init_return": code }));
        let (builder, page) = on(&fake);
        let _collector = builder.start();
        page.until(kind, |page| {
            page.value("gpu_collector_errors_total", &[&format!("kind=\"{kind}\"")]).is_some_and(|count| count > 0.0)
        });
        assert_eq!(page.value("gpu_collector_up", &[]), Some(0.0));
    }
}

#[test]
fn a_file_that_is_not_the_library_or_cannot_be_shut_down_is_rejected() {
    let without_shutdown = Fake::without(&["nvmlShutdown"]);
    for path in ["libc.so.6", without_shutdown.path().to_str().unwrap()] {
        let (builder, page) = quick();
        let _collector = builder.library_path(path).start();
        page.until(path, |page| {
            page.value("gpu_collector_errors_total", &["kind=\"no_driver\""]).is_some_and(|count| count > 1.0)
        });
    }
}

#[test]
fn a_driver_that_goes_away_is_opened_again() {
    let good = machine(&[device("GPU-a", json!({ "energy_mj": 3_000_000 }))]);
    let fake = Fake::state(&good);
    let (builder, page) = on(&fake);
    let collector = builder.start();
    page.until("it is up", |page| page.value("gpu_energy_joules_total", &[]) == Some(3000.0));
    fake.set(&with(
        good.clone(),
        json!({ "init_return": 9, "force": { "nvmlDeviceGetMemoryInfo_v2": 9, "nvmlDeviceGetCount_v2": 9 } }),
    ));
    page.until("it is down", |page| {
        page.value("gpu_collector_up", &[]) == Some(0.0) && page.value("gpu_up", &[]) == Some(0.0)
    });
    fake.set(&with(good, json!({ "driver_version": "600.1" })));
    page.until("it is back", |page| {
        page.value("gpu_collector_reinits_total", &[]).is_some_and(|count| count >= 1.0)
            && page.value("gpu_up", &[]) == Some(1.0)
    });
    assert_eq!(page.value("gpu_energy_joules_total", &[]), Some(3000.0), "not counted twice");
    assert_eq!(page.value("gpu_info", &["driver_version=\"590.48.01\""]), Some(0.0));
    assert_eq!(page.value("gpu_info", &["driver_version=\"600.1\""]), Some(1.0));
    assert!(collector.stop(AT_ONCE));
    assert_eq!(fake.number("fake_nvml_initialised"), 0);
    assert_eq!(fake.violations(), "");
}

#[test]
fn a_driver_that_names_devices_and_reads_none_is_never_up() {
    let calls = [
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetPowerUsage",
    ];
    let unknown: serde_json::Map<_, _> = calls.iter().map(|call| ((*call).into(), json!(999))).collect();
    let fake = Fake::state(&with(machine(&[device("GPU-a", json!({}))]), json!({ "force": unknown })));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it was tried", |page| {
        assert_eq!(page.value("gpu_collector_up", &[]).unwrap_or(0.0), 0.0);
        assert_ne!(page.value("gpu_up", &[]), Some(1.0));
        fake.calls("nvmlInit_v2") >= 6
    });
    assert_eq!(page.value("gpu_up", &[]), Some(0.0));
    assert_eq!(errors(&page, "gpu_lost"), 1.0, "it was lost once, however often it was tried");
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(0.0), "it never worked");
}

#[test]
fn a_source_that_panics_takes_nothing_down_with_it() {
    struct Broken;
    impl GpuSource for Broken {
        fn session(&mut self, _body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
            panic!("a bug in a source");
        }
    }
    let (builder, page) = quick();
    let collector = builder.source(Broken).start();
    assert!(collector.stop(AT_ONCE));
    assert_eq!(page.value("gpu_collector_up", &[]), Some(0.0));
}
