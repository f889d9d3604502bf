//! The collector as an embedder has it: its thread, over the real `nvml-wrapper`, with a driver that misbehaves.

#![cfg(target_os = "linux")]

mod support;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use llm_metrics::catalog::Naming;
use llm_metrics_gpu::{
    GpuCollector, GpuCollectorBuilder, catalog,
    source::{
        ErrorKind, GpuEvent, GpuIdentity, GpuSession, GpuSource, Sample, Script, ScriptedGpu, Series, SourceError,
    },
};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use serde_json::{Value, json};
use support::{Fake, Page, device, machine, page};

const QUICK: Duration = Duration::from_millis(100);
/// For what must not wait at all: generous, and far below what it would wait.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A collector that ticks as fast as it may, and retries at once.
fn quick() -> (GpuCollectorBuilder, Page) {
    let (recorder, page) = page();
    let builder = GpuCollector::builder().recorder(recorder).period(QUICK).slow_period(QUICK);
    (builder.retry(QUICK / 10, QUICK).look_again(QUICK), page)
}

fn on(fake: &Fake) -> (GpuCollectorBuilder, Page) {
    let (builder, page) = quick();
    (builder.library_path(fake.path()), page)
}

fn with(mut state: Value, extra: Value) -> Value {
    for (key, value) in extra.as_object().unwrap() {
        state[key] = value.clone();
    }
    state
}

#[test]
fn a_machine_without_a_driver_is_no_error_and_a_driver_that_appears_is_picked_up() {
    let folder = tempfile::tempdir().unwrap();
    let (builder, page) = quick();
    let collector = builder.library_path(folder.path().join("libnvidia-ml.so.1")).start();
    page.until("it is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    assert_eq!(page.value("gpu_collector_last_success_timestamp_seconds", &[]), None, "there was none");
    page.until("it has tried twice", |page| {
        page.value("gpu_collector_errors_total", &["kind=\"no_driver\""]).is_some_and(|count| count >= 2.0)
    });
    // A driver is installed: all at once, as a package manager does it.
    std::fs::copy(support::fake_library(), folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), folder.path().join("libnvidia-ml.so.1")).unwrap();
    page.until("it is up", |page| page.value("gpu_collector_up", &[]) == Some(1.0));
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(0.0), "the first time is not again");
    assert!(collector.stop(AT_ONCE));
}

#[test]
fn a_driver_that_cannot_be_used_is_told_by_kind() {
    for (code, kind) in
        [(9, "no_driver"), (4, "permission"), (18, "version_mismatch"), (28, "call_failed"), (999, "call_failed")]
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
fn a_library_that_is_none_or_cannot_be_shut_down_is_refused() {
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
fn a_spike_between_two_scrapes_shows() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({ "utilization": [0, 0], "samples": [[1_000_000, 0]] }))]));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("the ring was read", |page| page.value("gpu_utilization_max_ratio", &[]) == Some(0.0));
    // 200 ms at 100 %, once each second, while the gauge says 0 whenever it is asked.
    for n in 1..=50 {
        fake.push_sample(0, 1_000_000 + n * 200_000, if n % 5 == 0 { 100 } else { 0 });
    }
    page.until("the peak", |page| page.value("gpu_utilization_max_ratio", &[]) == Some(1.0));
    page.until("its time", |page| page.value("gpu_busy_seconds_total", &[]) == Some(2.0));
    page.until("it is held", |page| page.value("gpu_utilization_ratio", &[]) == Some(0.0));
    assert_eq!(page.value("gpu_utilization_max_ratio", &[]), Some(1.0));
}

#[test]
fn xids_are_counted_as_they_happen_not_when_the_tick_comes() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({})), device("GPU-b", json!({}))]));
    let (builder, page) = on(&fake);
    let _collector = builder.period(Duration::from_secs(600)).start();
    page.until("it is up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    assert_eq!(page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"79\""]), Some(0.0), "it can be seen to rise");
    fake.push_xid(1, 79);
    fake.push_xid(1, 79);
    fake.push_xid(0, 31);
    page.until("both", |page| page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"79\""]) == Some(2.0));
    page.until("the other", |page| page.value("gpu_xid_errors_total", &["GPU-a", "xid=\"31\""]) == Some(1.0));
    assert!(page.value("gpu_xid_last_timestamp_seconds", &["GPU-b", "xid=\"79\""]).is_some_and(|at| at > 1.7e9));
}

#[test]
fn the_xid_of_a_gpu_that_is_being_lost_is_counted() {
    let state = |lost: bool| machine(&[device("GPU-a", json!({})), device("GPU-b", json!({ "lost": lost }))]);
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.look_again(Duration::from_secs(600)).start();
    page.until("both are up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    fake.set(&state(true));
    page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
    fake.push_xid(1, 79);
    page.until("why", |page| page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"79\""]) == Some(1.0));
}

#[test]
fn xids_are_counted_also_where_a_tick_takes_longer_than_its_period() {
    let slow = json!({ "nvmlDeviceGetMemoryInfo_v2": 150_000 });
    let fake = Fake::state(&with(machine(&[device("GPU-a", json!({}))]), json!({ "latency_us": slow })));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_memory_used_bytes", &[]) == Some(300.0));
    fake.push_xid(0, 31);
    page.until("it is counted", |page| page.value("gpu_xid_errors_total", &["xid=\"31\""]) == Some(1.0));
}

#[test]
fn the_xid_of_the_only_gpu_that_is_being_lost_is_counted() {
    let state = |lost: bool| {
        let slow = json!({ "nvmlDeviceGetMemoryInfo_v2": 300_000 });
        with(machine(&[device("GPU-a", json!({ "lost": lost }))]), json!({ "latency_us": slow }))
    };
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_memory_used_bytes", &[]) == Some(300.0));
    // In the middle of a tick, which then ends the session.
    let calls = fake.calls("nvmlDeviceGetMemoryInfo_v2");
    page.until("a tick", |_| fake.calls("nvmlDeviceGetMemoryInfo_v2") > calls);
    fake.set(&state(true));
    fake.push_xid(0, 79);
    page.until("it is down", |page| page.value("gpu_up", &[]) == Some(0.0));
    page.until("why", |page| page.value("gpu_xid_errors_total", &["xid=\"79\""]) == Some(1.0));
}

#[test]
fn a_wait_for_events_that_fails_is_counted_and_set_up_anew() {
    let good = machine(&[device("GPU-a", json!({}))]);
    let fake = Fake::state(&good);
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    fake.set(&with(good.clone(), json!({ "force": { "nvmlEventSetWait_v2": 999 } })));
    page.until("it is counted", |page| {
        page.value("gpu_collector_errors_total", &["kind=\"call_failed\""]).is_some_and(|count| count > 0.0)
    });
    fake.set(&good);
    fake.push_xid(0, 79);
    page.until("XIDs again", |page| page.value("gpu_xid_errors_total", &["xid=\"79\""]) == Some(1.0));
    assert_eq!(fake.number("fake_nvml_event_sets"), 1);
}

#[test]
fn one_lost_gpu_leaves_the_others_alone_and_comes_back_by_itself() {
    let state = |lost: bool, energy: u64| {
        let a = device("GPU-a", json!({ "energy_mj": energy }));
        machine(&[a, device("GPU-b", json!({ "lost": lost, "energy_mj": 7_000_000 }))])
    };
    let fake = Fake::state(&state(false, 1_000_000));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("both are up", |page| {
        page.value("gpu_energy_joules_total", &["GPU-a"]) == Some(1000.0)
            && page.value("gpu_energy_joules_total", &["GPU-b"]) == Some(7000.0)
    });

    fake.set(&state(true, 5_000_000));
    page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
    assert_eq!(page.value("gpu_info", &["GPU-b"]), Some(0.0));
    for (name, value) in page.samples().iter().filter(|(name, _)| name.contains("GPU-b")) {
        let stays = ["gpu_up", "gpu_info", "_total"].iter().any(|kept| name.contains(kept));
        assert!(stays || value.is_nan(), "{name} {value}");
    }
    page.until("the other goes on", |page| page.value("gpu_energy_joules_total", &["GPU-a"]) == Some(5000.0));
    assert_eq!(page.value("gpu_up", &["GPU-a"]), Some(1.0));
    assert_eq!(page.value("gpu_collector_up", &[]), Some(1.0));

    // The driver was loaded anew: its counts begin again.
    fake.set(&state(false, 200_000));
    page.until("it is back", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    page.until("counters rise on", |page| page.value("gpu_energy_joules_total", &["GPU-a"]) == Some(5200.0));
    assert_eq!(page.value("gpu_collector_errors_total", &["kind=\"gpu_lost\""]), Some(1.0));
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
fn losing_every_gpu_ends_in_a_new_session() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({}))]));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    fake.set(&machine(&[device("GPU-a", json!({ "lost": true }))]));
    page.until("it is down", |page| page.value("gpu_up", &[]) == Some(0.0));
    fake.set(&machine(&[device("GPU-a", json!({}))]));
    page.until("it is back", |page| page.value("gpu_up", &[]) == Some(1.0));
}

#[test]
fn a_gpu_that_only_a_driver_opened_anew_can_find_comes_back_and_the_others_do_not_notice() {
    let state = |lost| machine(&[device("GPU-a", json!({})), device("GPU-b", json!({ "lost_until_init": lost }))]);
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("both are up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    fake.set(&state(true));
    page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
    page.until("it is back", |page| {
        assert_eq!(page.value("gpu_up", &["GPU-a"]), Some(1.0));
        assert_eq!(page.value("gpu_memory_used_bytes", &["GPU-a"]), Some(300.0));
        assert_eq!(page.value("gpu_collector_up", &[]), Some(1.0));
        page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0)
    });
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(1.0));
    assert_eq!(page.value("gpu_collector_errors_total", &["kind=\"call_failed\""]), Some(0.0));
}

#[test]
fn a_gpu_that_is_late_is_picked_up() {
    let state = |late| machine(&[device("GPU-a", json!({})), device("GPU-b", json!({ "lost": late }))]);
    let fake = Fake::state(&state(true));
    let (builder, page) = quick();
    // The folder of the library is as good as the library.
    let _collector = builder.library_path(fake.path().parent().unwrap()).start();
    page.until("the first is up", |page| page.value("gpu_up", &["GPU-a"]) == Some(1.0));
    assert_eq!(page.value("gpu_up", &["GPU-b"]), None, "nobody knows its name yet");
    fake.set(&state(false));
    page.until("the second is up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    fake.push_xid(1, 48);
    page.until("its events", |page| page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"48\""]) == Some(1.0));
}

#[test]
fn neither_start_nor_drop_waits_for_a_call_that_does_not_return() {
    let ten_seconds = 10_000_000;
    let state = machine(&[device("GPU-a", json!({}))]);
    for call in ["nvmlInit_v2", "nvmlDeviceGetUtilizationRates", "nvmlEventSetWait_v2", "nvmlShutdown"] {
        let fake = Fake::state(&with(state.clone(), json!({ "latency_us": { call: ten_seconds } })));
        let (builder, page) = on(&fake);
        let began = Instant::now();
        let collector = builder.start();
        assert!(began.elapsed() < AT_ONCE, "start waited for {call}");
        if call != "nvmlShutdown" {
            page.until("it is stuck", |_| fake.calls(call) > 0);
        }
        let began = Instant::now();
        drop(collector);
        assert!(began.elapsed() < AT_ONCE, "drop waited for {call}");
        fake.leave_open();
    }
}

#[test]
fn a_thread_that_was_left_behind_calls_no_further_device_and_publishes_nothing() {
    let gpus: Vec<_> = (0..8).map(|n| device(&format!("GPU-{n}"), json!({}))).collect();
    let fake = Fake::state(&machine(&gpus));
    let (builder, page) = on(&fake);
    let collector = builder.start();
    page.until("it is up", |page| page.value("gpu_memory_used_bytes", &["GPU-7"]) == Some(300.0));
    let call = "nvmlDeviceGetMemoryInfo_v2";
    fake.set(&with(machine(&gpus), json!({ "latency_us": { call: 2_000_000 } })));
    let before = fake.calls(call);
    // One that began before the latency did may be in between.
    page.until("it is stuck", |_| fake.calls(call) > before + 1);
    let calls = fake.calls(call);
    drop(collector);
    page.until("it has ended", |_| fake.number("fake_nvml_initialised") == 0);
    assert_eq!(fake.calls(call), calls);
    assert_eq!(page.value("gpu_up", &["GPU-7"]), Some(1.0), "it may be its successor's");
    assert_eq!(fake.violations(), "");
}

#[test]
fn times_that_are_beyond_reckoning_are_shortened() {
    let most = Duration::MAX;
    let script = Script::new();
    script.set(vec![ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")), ScriptedGpu::default().lost(true)]);
    let (builder, page) = quick();
    let builder = builder.period(most).slow_period(most).max_window(most).look_again(most).retry(most, most);
    let collector = builder.source(script.source()).start();
    page.until("it is up", |page| page.value("gpu_collector_tick_seconds_count", &[]) == Some(1.0));
    assert!(collector.stop(most));
    script.fail(Some(SourceError::VersionMismatch));
    let (builder, page) = quick();
    let collector = builder.retry(most, most).source(script.source()).start();
    page.until("it is down", |page| {
        page.value("gpu_collector_errors_total", &["kind=\"version_mismatch\""]) == Some(1.0)
    });
    assert!(collector.stop(most));
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
        page.value("gpu_collector_errors_total", &["kind=\"gpu_lost\""]).is_some_and(|count| count >= 6.0)
    });
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(0.0), "it never worked");
}

#[test]
fn a_stopped_collector_leaves_nothing_that_looks_alive() {
    let fake = Fake::profile("h200");
    let (builder, page) = on(&fake);
    let collector = builder.period(Duration::from_secs(600)).start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    assert!(collector.stop(AT_ONCE), "it sleeps for ten minutes and wakes at once");
    assert_eq!(page.value("gpu_collector_up", &[]), Some(0.0));
    assert_eq!(page.value("gpu_up", &[]), Some(0.0));
    assert!(page.value("gpu_memory_used_bytes", &[]).unwrap().is_nan());
    assert_eq!(fake.number("fake_nvml_initialised"), 0);
    assert_eq!(fake.violations(), "");
}

#[test]
fn the_sleep_between_ticks_is_no_busy_loop() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({}))]));
    let mut state = machine(&[device("GPU-a", json!({}))]);
    // An event call that returns at once, as when a signal arrives or a device is lost.
    state["force"] = json!({ "nvmlEventSetWait_v2": 10 });
    fake.set(&state);
    let (builder, page) = on(&fake);
    let collector = builder.start();
    page.until("ten ticks", |page| page.value("gpu_collector_tick_seconds_count", &[]).is_some_and(|n| n >= 10.0));
    assert!(collector.stop(AT_ONCE));
    let ticks = page.value("gpu_collector_tick_seconds_count", &[]).unwrap();
    let waits = fake.calls("nvmlEventSetWait_v2") as f64;
    assert!(waits <= ticks * 4.0, "{waits} waits in {ticks} ticks of 100 ms");
}

#[test]
fn names_labels_and_devices_can_be_chosen() {
    let fake = Fake::profile("two-mixed");
    let (builder, page) = on(&fake);
    let naming = Naming::new().prefix("qwen_gpu").unwrap();
    let builder = builder.naming(naming).constant_label("region", "eu");
    let _collector = builder.only_uuids(["GPU-11112222-bbbb-4000-8000-000000000002"]).start();
    page.until("it is up", |page| page.value("qwen_gpu_up", &["region=\"eu\"", "gpu=\"1\""]) == Some(1.0));
    assert_eq!(page.value("qwen_gpu_up", &["gpu=\"0\""]), None);
}

#[test]
fn a_recorder_that_is_installed_later_gets_everything() {
    let script = Script::new();
    let used = Series::new(&catalog::MEMORY_USED, &[]);
    let gpu = ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")).gauge(used, 5.0);
    script.set(vec![gpu.count(Series::new(&catalog::PCIE_REPLAYS, &[]), 17, 1).failure(ErrorKind::CallFailed)]);
    script.push(GpuEvent::Xid { index: 0, xid: 79 });
    let builder = GpuCollector::builder().source(script.source()).period(QUICK).slow_period(QUICK);
    let _collector = builder.start();
    thread::sleep(QUICK * 3);
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let began = Instant::now();
    let expected = [
        "gpu_memory_used_bytes{gpu=\"0\",gpu_uuid=\"GPU-a\"} 5",
        "# HELP gpu_memory_used_bytes Device memory",
        "gpu_pcie_replays_total{gpu=\"0\",gpu_uuid=\"GPU-a\"} 17",
        "gpu_xid_errors_total{gpu=\"0\",gpu_uuid=\"GPU-a\",xid=\"79\"} 1",
    ];
    while !expected.iter().all(|text| handle.render().contains(text)) {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", handle.render());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_collector_that_is_started_again_does_not_count_twice() {
    let script = Script::new();
    let energy = Series::new(&catalog::ENERGY, &[]);
    script.set(vec![ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")).count(energy, 1_000_000_000, 1000)]);
    let (recorder, page) = page();
    let recorder = Arc::new(recorder);
    for _ in 0..2 {
        let builder = GpuCollector::builder().recorder(Arc::clone(&recorder)).source(script.source());
        let collector = builder.start();
        let ticks = |page: &Page| page.value("gpu_collector_tick_seconds_count", &[]).unwrap_or(0.0);
        let before = ticks(&page);
        page.until("a tick", |page| ticks(page) > before);
        assert!(collector.stop(AT_ONCE));
        assert_eq!(page.value("gpu_energy_joules_total", &[]), Some(1_000_000.0));
    }
}

#[test]
fn series_that_a_recorder_threw_out_come_back_with_the_device() {
    let idle = Duration::from_millis(700);
    let recorder = PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(idle)).build_recorder();
    let handle = recorder.handle();
    let script = Script::new();
    let gpu = |lost| {
        let gpu = ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")).lost(lost);
        vec![gpu.gauge(Series::new(&catalog::MEMORY_USED, &[]), 5.0)]
    };
    script.set(gpu(false));
    let builder = GpuCollector::builder().recorder(recorder).source(script.source());
    let _collector = builder.period(QUICK).slow_period(QUICK).retry(QUICK, QUICK).look_again(QUICK).start();
    let until = |text: &str, there: bool| {
        let began = Instant::now();
        while handle.render().contains(text) != there {
            assert!(began.elapsed() < Duration::from_secs(60), "{text} {there}\n{}", handle.render());
            thread::sleep(Duration::from_millis(20));
        }
    };
    until("gpu_memory_used_bytes{", true);
    script.set(gpu(true));
    until("gpu_memory_used_bytes{", false);
    script.set(gpu(false));
    until("gpu_memory_used_bytes{", true);
    thread::sleep(idle * 2);
    until("gpu_memory_used_bytes{", true);
    until("gpu_xid_errors_total{", true);
}

#[test]
fn a_source_of_another_vendor_needs_nothing_else() {
    let script = Script::new();
    let ring = vec![Sample::new(1_000_000, 0.0), Sample::new(2_000_000, 0.5)];
    let gpu = ScriptedGpu::new(GpuIdentity::new(3, "XPU-a")).utilization(Some(0.25), Some(ring));
    script.set(vec![gpu.count(Series::new(&catalog::ENERGY, &[]), 7_900, 1000)]);
    let (builder, page) = quick();
    let _collector = builder.source(script.source()).start();
    page.until("it is up", |page| page.value("gpu_up", &["gpu=\"3\"", "XPU-a"]) == Some(1.0));
    page.until("its energy", |page| page.value("gpu_energy_joules_total", &[]) == Some(7.0));
    script.fail(Some(SourceError::VersionMismatch));
    page.until("it is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    script.fail(None);
    page.until("it is back", |page| page.value("gpu_collector_up", &[]) == Some(1.0));
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
