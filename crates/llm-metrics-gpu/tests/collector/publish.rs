//! What is published, to which recorder, and under which names.

use std::{
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use llm_metrics::catalog::{InvalidLabel, Naming};
use llm_metrics_gpu::{
    GpuCollector, catalog,
    source::{ErrorKind, GpuEvent, GpuIdentity, Sample, Script, ScriptedGpu, Series, SourceError},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_util::MetricKindMask;
use serde_json::json;

use super::{
    AT_ONCE, QUICK, for_ticks, on, quick,
    support::{Fake, Page, device, machine, page},
    ticks, with,
};

#[test]
fn a_spike_between_two_scrapes_shows() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({ "utilization": [0, 0], "samples": [[1_000_000, 0]] }))]));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("the ring was read", |page| page.value("gpu_utilization_max_ratio", &[]) == Some(0.0));
    // 200 ms at 100 % in every second, while the gauge is 0 at every read.
    for n in 1..=50 {
        fake.push_sample(0, 1_000_000 + n * 200_000, if n % 5 == 0 { 100 } else { 0 });
    }
    page.until("the peak", |page| page.value("gpu_utilization_max_ratio", &[]) == Some(1.0));
    page.until("its time", |page| page.value("gpu_busy_seconds_total", &[]) == Some(2.0));
    page.until("it is held", |page| page.value("gpu_utilization_ratio", &[]) == Some(0.0));
    assert_eq!(page.value("gpu_utilization_max_ratio", &[]), Some(1.0));
}

#[test]
fn names_labels_and_devices_can_be_chosen() {
    let fake = Fake::profile("two-mixed");
    let (builder, page) = on(&fake);
    let naming = Naming::new().prefix("qwen_gpu").unwrap();
    let builder = builder.naming(naming).constant_label("region", "eu").unwrap();
    let _collector = builder.only_uuids(["GPU-11112222-bbbb-4000-8000-000000000002"]).start();
    page.until("it is up", |page| page.value("qwen_gpu_up", &["region=\"eu\"", "gpu=\"1\""]) == Some(1.0));
    assert_eq!(page.value("qwen_gpu_up", &["gpu=\"0\""]), None);
}

#[test]
fn a_constant_label_that_prometheus_would_reject_is_an_error() {
    for name in ["1st", "gpu_uuid", "reading", "le"] {
        assert!(GpuCollector::builder().constant_label(name, "x").is_err(), "{name}");
    }
    let once = GpuCollector::builder().constant_label("region", "eu").unwrap();
    assert_eq!(once.constant_label("region", "us").unwrap_err(), InvalidLabel::Taken { name: "region".to_owned() });
}

/// In a separate process, because it reads the environment of the process.
#[test]
fn the_variables_of_cuda_choose_the_gpus() {
    if std::env::var_os("ALONE").is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "publish::the_variables_of_cuda_choose_the_gpus", "--nocapture"]);
        let alone = alone.env("ALONE", "1").env("CUDA_VISIBLE_DEVICES", "1").env("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        let alone = alone.output().unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
        return;
    }
    // The second by its address is the driver's first. Without the order, which is of two models would not be known.
    let a = device("GPU-a", json!({ "bus_id": "00000000:0B:00.0", "name": "One" }));
    let fake = Fake::state(&machine(&[a, device("GPU-b", json!({ "bus_id": "00000000:0A:00.0", "name": "Other" }))]));
    let (builder, page) = on(&fake);
    let _collector = builder.only_cuda_visible().start();
    page.until("it is up", |page| page.value("gpu_up", &["GPU-a"]) == Some(1.0));
    for_ticks(&page, 3.0, |page| assert_eq!(page.value("gpu_up", &["GPU-b"]), None));
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
        "# HELP gpu_memory_used_bytes Allocated device memory",
        "gpu_pcie_replays_total{gpu=\"0\",gpu_uuid=\"GPU-a\"} 17",
        "gpu_xid_errors_total{gpu=\"0\",gpu_uuid=\"GPU-a\",xid=\"79\"} 1",
        "gpu_collector_up 1",
        "gpu_collector_last_success_timestamp_seconds ",
        "gpu_collector_reinits_total ",
        "gpu_collector_errors_total{kind=\"version_mismatch\"} 0",
        "gpu_devices{state=\"missing\"} 0",
        "gpu_collector_tick_seconds",
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
        let before = ticks(&page);
        page.until("a tick", |page: &Page| ticks(page) > before);
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
    let _collector = builder.period(QUICK).slow_period(QUICK).retry(QUICK, QUICK).rediscovery_interval(QUICK).start();
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
fn a_count_that_goes_back_a_little_is_not_counted_twice() {
    let script = Script::new();
    let energy = Series::new(&catalog::ENERGY, &[]);
    let at = |joules: u64| vec![ScriptedGpu::new(GpuIdentity::new(0, "GPU-a")).count(energy, joules * 1000, 1000)];
    script.set(at(5_000_000));
    let (builder, page) = quick();
    let _collector = builder.source(script.source()).start();
    page.until("it is up", |page| page.value("gpu_energy_joules_total", &[]) == Some(5_000_000.0));
    let before = ticks(&page);
    // 0.3 % less for a while, as in ROCm/amdsmi#115.
    script.set(at(4_985_000));
    page.until("it goes on", |page| ticks(page) > before + 4.0);
    script.set(at(5_000_100));
    page.until("it is where it was", |page| page.value("gpu_energy_joules_total", &[]) == Some(5_000_100.0));
}

#[test]
fn samples_of_gpm_are_never_closer_than_they_may_be() {
    let gpu = device("GPU-a", json!({ "gpm": { "1": 50.0, "2": 40.0 } }));
    let slow = |micros: u64| {
        with(machine(std::slice::from_ref(&gpu)), json!({ "latency_us": { "nvmlDeviceGetMemoryInfo_v2": micros } }))
    };
    let fake = Fake::state(&slow(0));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_sm_active_ratio", &[]) == Some(0.4));
    for _ in 0..8 {
        // The sample of this tick is taken 80 ms late, that of the next one on time.
        fake.set(&slow(80_000));
        thread::sleep(Duration::from_millis(130));
        fake.set(&slow(0));
        thread::sleep(Duration::from_millis(230));
    }
    assert_eq!(fake.violations(), "");
    assert_eq!(page.value("gpu_sm_active_ratio", &[]), Some(0.4));
}
