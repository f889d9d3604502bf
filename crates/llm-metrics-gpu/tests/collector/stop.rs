//! Starting, stopping, pausing and dropping the collector.

use std::time::{Duration, Instant};

use llm_metrics_gpu::source::{GpuIdentity, Script, ScriptedGpu, SourceError};
use serde_json::json;

use super::{
    AT_ONCE, QUICK, devices, errors, for_a_while, on, quick,
    support::{Fake, device, machine},
    with,
};

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
        if call == "nvmlShutdown" {
            page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
        } else {
            page.until("it is stuck", |_| fake.calls(call) > 0);
        }
        let began = Instant::now();
        drop(collector);
        assert!(began.elapsed() < AT_ONCE, "drop waited for {call}");
        page.until("it is stuck", |_| fake.calls(call) > 0);
        assert_eq!(fake.number("fake_nvml_initialised"), u64::from(call != "nvmlInit_v2"), "{call} returned");
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
    // A call that began before the latency was set may come first.
    page.until("it is stuck", |_| fake.calls(call) > before + 1);
    let calls = fake.calls(call);
    drop(collector);
    page.until("it has ended", |_| fake.number("fake_nvml_initialised") == 0);
    assert_eq!(fake.calls(call), calls);
    assert_eq!(page.value("gpu_up", &["GPU-7"]), Some(1.0), "it may be its successor's");
    assert_eq!(fake.violations(), "");
}

#[test]
fn stop_returns_whether_the_thread_has_ended() {
    let slow = json!({ "latency_us": { "nvmlDeviceGetUtilizationRates": 2_000_000 } });
    let fake = Fake::state(&with(machine(&[device("GPU-a", json!({}))]), slow));
    let (builder, page) = on(&fake);
    let collector = builder.start();
    page.until("it is stuck", |_| fake.calls("nvmlDeviceGetUtilizationRates") == 1);
    assert!(!collector.stop(QUICK));
    page.until("it is closed", |_| fake.number("fake_nvml_initialised") == 0);
}

#[test]
fn durations_that_are_too_large_are_shortened() {
    let most = Duration::MAX;
    let script = Script::new();
    script.set(vec![ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")), ScriptedGpu::default().lost(true)]);
    let (builder, page) = quick();
    let builder = builder.period(most).slow_period(most).max_window(most).rediscovery_interval(most).retry(most, most);
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
fn after_a_stop_no_series_says_that_the_collector_works() {
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
fn a_paused_collector_closes_the_driver_and_causes_no_alert() {
    let state =
        |mj: u64| machine(&[device("GPU-a", json!({ "energy_mj": mj })), device("GPU-b", json!({ "lost": true }))]);
    let fake = Fake::state(&state(3_000_000));
    let (builder, page) = on(&fake);
    let collector = builder.start();
    page.until("it is up", |page| page.value("gpu_energy_joules_total", &[]) == Some(3000.0));
    assert!(collector.pause(AT_ONCE));
    assert_eq!(fake.number("fake_nvml_initialised"), 0, "it is closed when that returns");
    let inits = fake.calls("nvmlInit_v2");
    page.until("it says so", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    for_a_while(&page, |page| {
        for unknown in ["gpu_up", "gpu_memory_used_bytes", "gpu_collector_last_success_timestamp_seconds"] {
            assert!(page.value(unknown, &[]).unwrap().is_nan(), "{unknown}");
        }
        assert!(devices(page, "missing").unwrap().is_nan());
        assert_eq!(page.value("gpu_energy_joules_total", &[]), Some(3000.0), "counters stay");
    });
    assert_eq!((fake.calls("nvmlInit_v2"), errors(&page, "gpu_lost")), (inits, 1.0));
    assert!(collector.pause(AT_ONCE), "it is already");

    // The driver was loaded again meanwhile.
    fake.set(&state(200_000));
    collector.resume();
    page.until("it is up again", |page| page.value("gpu_up", &[]) == Some(1.0));
    page.until("its count goes on", |page| page.value("gpu_energy_joules_total", &[]) == Some(3200.0));
    assert_eq!(devices(&page, "missing"), Some(1.0));
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(1.0));
    assert_eq!(errors(&page, "gpu_lost"), 1.0, "the one that was lost before");
    assert!(collector.stop(AT_ONCE));
    assert_eq!(fake.violations(), "");
}

#[test]
fn a_collector_can_be_paused_before_there_is_a_driver_and_stopped_while_it_is_paused() {
    let fake = Fake::state(&json!({ "init_return": 9 }));
    let (builder, page) = on(&fake);
    // The next attempt would be in a day.
    let collector = builder.retry(Duration::MAX, Duration::MAX).start();
    page.until("it was tried", |page| errors(page, "no_driver") == 1.0);
    assert!(collector.pause(AT_ONCE));
    fake.set(&machine(&[device("GPU-a", json!({}))]));
    collector.resume();
    page.until("it is tried at once", |page| page.value("gpu_up", &[]) == Some(1.0));
    assert!(collector.pause(AT_ONCE));
    let began = Instant::now();
    assert!(collector.stop(Duration::from_secs(60)));
    assert!(began.elapsed() < AT_ONCE);
    assert_eq!(page.value("gpu_collector_up", &[]), Some(0.0));
}

#[test]
fn a_pause_does_not_wait_for_a_call_that_does_not_return_and_takes_effect_when_it_does() {
    let slow = json!({ "latency_us": { "nvmlDeviceGetUtilizationRates": 1_500_000 } });
    let fake = Fake::state(&with(machine(&[device("GPU-a", json!({})), device("GPU-b", json!({}))]), slow));
    let (builder, page) = on(&fake);
    let collector = builder.start();
    page.until("it is stuck", |_| fake.calls("nvmlDeviceGetUtilizationRates") == 1);
    assert!(!collector.pause(QUICK));
    page.until("it is closed", |_| fake.number("fake_nvml_initialised") == 0);
    assert_eq!(fake.calls("nvmlDeviceGetUtilizationRates"), 1, "no further GPU was asked");
    assert!(collector.pause(AT_ONCE));
    for_a_while(&page, |page| assert_ne!(page.value("gpu_up", &["GPU-a"]), Some(1.0)));
}

/// After `pause` returned true, the driver is closed, whenever it was called.
#[test]
fn pauses_at_any_moment_leave_no_driver_open() {
    let fake = Fake::profile("h200");
    let (builder, _page) = on(&fake);
    let collector = builder.start();
    for n in 0..100_u64 {
        std::thread::sleep(Duration::from_micros(n * 37));
        assert!(collector.pause(AT_ONCE));
        assert_eq!(fake.number("fake_nvml_initialised"), 0);
        collector.resume();
    }
    drop(collector);
    for left in ["fake_nvml_initialised", "fake_nvml_gpm_samples", "fake_nvml_event_sets"] {
        assert_eq!(fake.number(left), 0, "{left}");
    }
    assert_eq!(fake.violations(), "");
}
