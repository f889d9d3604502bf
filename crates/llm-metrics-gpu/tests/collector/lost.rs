//! GPUs that are lost, before the collector starts or while it runs, one or all, and how they come back.

use std::fs;

use llm_metrics_gpu::{
    catalog,
    source::{GpuIdentity, Script, ScriptedGpu, Series, SourceError},
};
use serde_json::json;

use super::{
    devices, errors, for_a_while, for_ticks, on, quick,
    support::{Fake, Page, device, machine},
    with,
};

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

    // The driver was loaded again, so its counters start from zero.
    fake.set(&state(false, 200_000));
    page.until("it is back", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    page.until("counters rise on", |page| page.value("gpu_energy_joules_total", &["GPU-a"]) == Some(5200.0));
    assert_eq!(page.value("gpu_collector_errors_total", &["kind=\"gpu_lost\""]), Some(1.0));
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
fn a_gpu_that_only_a_reopened_driver_finds_comes_back_without_effect_on_the_others() {
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
    // The directory of the library can be given instead of the library.
    let _collector = builder.library_path(fake.path().parent().unwrap()).start();
    page.until("the first is up", |page| page.value("gpu_up", &["GPU-a"]) == Some(1.0));
    assert_eq!(page.value("gpu_up", &["GPU-b"]), None, "nobody knows its name yet");
    fake.set(&state(false));
    page.until("the second is up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    fake.push_xid(1, 48);
    page.until("its events", |page| page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"48\""]) == Some(1.0));
}

/// The engine died of XID 79, the supervisor restarted it, and the GPU is still lost: its UUID cannot be read.
#[test]
fn the_only_gpu_is_reported_if_it_is_lost_from_the_start() {
    let state = |lost: bool| machine(&[device("GPU-a", json!({ "lost": lost }))]);
    let fake = Fake::state(&state(true));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is missing", |page| devices(page, "missing") == Some(1.0));
    page.until("it was tried again", |page| {
        assert_eq!(page.value("gpu_collector_up", &[]), Some(0.0), "a driver none of whose GPUs answers");
        fake.calls("nvmlInit_v2") > 5
    });
    assert_eq!((devices(&page, "found"), devices(&page, "missing")), (Some(0.0), Some(1.0)));
    assert_eq!(errors(&page, "gpu_lost"), 1.0, "once, however often it is tried");
    fake.set(&state(false));
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    page.until("none is missing", |page| (devices(page, "found"), devices(page, "missing")) == (Some(1.0), Some(0.0)));
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(0.0), "it had not worked before");
    fake.set(&state(true));
    page.until("it is lost again", |page| errors(page, "gpu_lost") >= 2.0);
    for_a_while(&page, |page| assert_eq!(errors(page, "gpu_lost"), 2.0));
}

#[test]
fn one_of_two_gpus_is_reported_if_it_is_lost_from_the_start() {
    let state =
        |a: bool, b: bool| machine(&[device("GPU-a", json!({ "lost": a })), device("GPU-b", json!({ "lost": b }))]);
    let fake = Fake::state(&state(false, true));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("the other one is up", |page| page.value("gpu_up", &["GPU-a"]) == Some(1.0));
    for_a_while(&page, |page| {
        assert_eq!(devices(page, "missing"), Some(1.0));
        assert_eq!(devices(page, "found"), Some(1.0));
        assert_eq!(errors(page, "gpu_lost"), 1.0);
        assert_eq!(page.value("gpu_collector_up", &[]), Some(1.0));
    });
    fake.set(&state(true, true));
    page.until("both are", |page| devices(page, "missing") == Some(2.0) && errors(page, "gpu_lost") == 2.0);
    page.until("the driver is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    assert_eq!(devices(&page, "found"), Some(0.0));
    fake.set(&state(false, false));
    page.until("both are up", |page| devices(page, "found") == Some(2.0) && devices(page, "missing") == Some(0.0));
    assert_eq!(errors(&page, "gpu_lost"), 2.0);
}

#[test]
fn gpus_are_counted_by_state() {
    let a = device("GPU-a", json!({ "force": { "nvmlDeviceGetHandleByIndex_v2": 4 } }));
    let fake = Fake::state(&machine(&[a, device("GPU-b", json!({})), device("GPU-c", json!({ "lost": true }))]));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("one is up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    let counted = ["found", "missing", "denied"].map(|state| devices(&page, state));
    assert_eq!(counted, [Some(1.0); 3]);
    // Without a driver, no devices are known.
    fake.set(&json!({ "init_return": 9, "force": { "nvmlDeviceGetMemoryInfo_v2": 9, "nvmlDeviceGetCount_v2": 9 } }));
    page.until("it is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    assert!(["found", "missing", "denied"].iter().all(|state| devices(&page, state).is_some_and(f64::is_nan)));
}

#[test]
fn only_a_gpu_that_was_selected_by_uuid_can_be_missing() {
    let state = |lost: bool| {
        machine(&[
            device("GPU-a", json!({})),
            device("GPU-b", json!({ "lost": lost })),
            device("GPU-c", json!({ "lost": true })),
        ])
    };
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.only_uuids(["GPU-a", "GPU-b", "gpu-A"]).start();
    page.until("both are up", |page| devices(page, "found") == Some(2.0));
    assert_eq!(devices(&page, "missing"), Some(0.0), "the third is none of ours");
    fake.set(&state(true));
    page.until("one is", |page| devices(page, "missing") == Some(1.0) && devices(page, "found") == Some(1.0));

    let (builder, page) = on(&fake);
    let _collector = builder.only_uuids(["GPU-a", "GPU-nobody"]).start();
    page.until("it is missing", |page| devices(page, "missing") == Some(1.0) && devices(page, "found") == Some(1.0));
    assert_eq!(errors(&page, "gpu_lost"), 1.0);
}

/// Opening the driver loads the library on disk, which may have been replaced meanwhile, and the open call may hang.
#[test]
fn the_others_go_on_while_the_driver_cannot_be_reopened() {
    let state = |lost: bool| machine(&[device("GPU-a", json!({})), device("GPU-b", json!({ "lost": lost }))]);
    let refused = json!({ "init_return": 18 });
    let hanging = json!({ "latency_us": { "nvmlInit_v2": 4_000_000 } });
    for (case, extra) in [("refused", refused), ("hanging", hanging), ("replaced", json!({}))] {
        let fake = Fake::state(&state(false));
        let (builder, page) = on(&fake);
        let collector = builder.start();
        page.until("both are up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
        if case == "replaced" {
            // As package managers replace a library: another file with the same name.
            let new = fake.path().with_file_name("new");
            fs::copy(fake.path(), &new).unwrap();
            fs::rename(&new, fake.path()).unwrap();
        }
        let inits = fake.calls("nvmlInit_v2");
        fake.set(&with(state(true), extra));
        page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
        // The tenth search is after a second or a little more, the twentieth after two.
        for_ticks(&page, 30.0, |page| {
            assert_eq!(page.value("gpu_up", &["GPU-a"]), Some(1.0), "{case}");
            assert_eq!(page.value("gpu_memory_used_bytes", &["GPU-a"]), Some(300.0), "{case}");
        });
        assert_eq!(fake.calls("nvmlInit_v2") > inits, case != "replaced", "{case}: it was tried, or not even that");
        assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(0.0), "{case}");
        fake.set(&state(false));
        page.until("it is back", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
        drop(collector);
        page.until("nothing is left open", |_| fake.number("fake_nvml_initialised") == 0);
    }
}

/// After a GSP timeout the handle still exists, but each call takes long and then fails.
#[test]
fn a_lost_gpu_whose_reads_take_long_to_fail_is_not_up_meanwhile() {
    let state = |lost: bool| {
        let slow = json!({ "nvmlDeviceGetMemoryInfo_v2": 500_000, "nvmlDeviceGetMaxClockInfo": 500_000 });
        let b = if lost { json!({ "lost": true, "keeps_identity": true, "latency_us": slow }) } else { json!({}) };
        machine(&[device("GPU-a", json!({})), device("GPU-b", b)])
    };
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    fake.set(&state(true));
    page.until("it is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
    fake.reset_calls();
    page.until("it was looked at three times more", |page| {
        assert_eq!(page.value("gpu_up", &["GPU-b"]), Some(0.0));
        assert_eq!(page.value("gpu_info", &["GPU-b"]), Some(0.0));
        fake.calls("nvmlDeviceGetUUID") >= 6
    });
    assert_eq!(errors(&page, "gpu_lost"), 1.0);
    assert_eq!(page.value("gpu_collector_up", &[]), Some(1.0));
}

#[test]
fn a_gpu_is_up_when_something_was_read_of_it() {
    let slow = json!({ "nvmlDeviceGetMemoryInfo_v2": 1_000_000 });
    let fake = Fake::state(&with(machine(&[device("GPU-a", json!({}))]), json!({ "latency_us": slow })));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is being read", |_| fake.calls("nvmlDeviceGetMemoryInfo_v2") == 1);
    assert_eq!((page.value("gpu_up", &[]), page.value("gpu_info", &[])), (None, None));
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    assert_eq!(page.value("gpu_memory_used_bytes", &[]), Some(300.0), "a page with gpu_up 1 also has its values");
}

/// GPU 0 fell off the bus and is gone when the driver is reopened: the former GPU 1 is now GPU 0, and works.
#[test]
fn a_gpu_that_has_another_number_is_not_down() {
    let script = Script::new();
    let gpu = |index, uuid: &str| {
        ScriptedGpu::new(GpuIdentity::new(index, uuid)).gauge(Series::new(&catalog::MEMORY_USED, &[]), 5.0)
    };
    script.set(vec![gpu(0, "GPU-a"), gpu(1, "GPU-b")]);
    let (builder, page) = quick();
    let _collector = builder.source(script.source()).start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    script.fail(Some(SourceError::VersionMismatch));
    page.until("it is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    script.set(vec![gpu(0, "GPU-b")]);
    script.fail(None);
    page.until("it is back", |page| page.value("gpu_up", &["GPU-b", "gpu=\"0\""]) == Some(1.0));
    for_ticks(&page, 5.0, |page| {
        let old = page.value("gpu_up", &["GPU-b", "gpu=\"1\""]);
        assert!(old.is_some_and(f64::is_nan), "`gpu_up == 0` would fire forever for a GPU that is well: {old:?}");
    });
    assert_eq!(page.value("gpu_up", &["GPU-a"]), Some(0.0));
    assert_eq!((devices(&page, "found"), devices(&page, "missing")), (Some(1.0), Some(1.0)));
    // When it is lost, it is reported lost under its new number.
    script.set(vec![gpu(0, "GPU-b").lost(true)]);
    page.until("it is lost", |page| page.value("gpu_up", &["GPU-b", "gpu=\"0\""]) == Some(0.0));
    assert!(page.value("gpu_up", &["GPU-b", "gpu=\"1\""]).is_some_and(f64::is_nan));
}

#[test]
fn a_gpu_that_a_reopened_driver_no_longer_has_is_missing() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({})), device("GPU-b", json!({}))]));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    fake.set(&machine(&[device("GPU-a", json!({}))]));
    page.until("it is reopened", |page| page.value("gpu_collector_reinits_total", &[]) == Some(1.0));
    for_ticks(&page, 3.0, |page: &Page| {
        assert_eq!(page.value("gpu_up", &["GPU-b"]), Some(0.0));
        assert_eq!((devices(page, "found"), devices(page, "missing")), (Some(1.0), Some(1.0)));
        assert_eq!(errors(page, "gpu_lost"), 1.0);
    });
}
