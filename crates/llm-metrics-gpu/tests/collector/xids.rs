//! XIDs from the driver's events and from the kernel log.

use std::time::Duration;

use llm_metrics_gpu::{
    catalog::{CRITICAL_XIDS, KERNEL_LOG_XIDS},
    source::{GpuIdentity, Script, ScriptedGpu},
};
use serde_json::{Value, json};

use super::{
    AT_ONCE, errors, for_ticks, on, quick,
    support::{Fake, Page, device, machine},
    with,
};

fn xids(page: &Page, uuid: &str, xid: u64) -> Option<f64> {
    page.value("gpu_xid_errors_total", &[uuid, &format!("xid=\"{xid}\"")])
}

/// Two GPUs, at `0000:0a:00` and `0000:0b:00`.
fn two(second: Value) -> Value {
    let b = with(device("GPU-b", json!({ "bus_id": "00000000:0B:00.0" })), second);
    machine(&[device("GPU-a", json!({ "bus_id": "00000000:0A:00.0" })), b])
}

#[test]
fn xids_are_counted_as_they_happen_not_when_the_tick_comes() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({})), device("GPU-b", json!({}))]));
    let (builder, page) = on(&fake);
    let _collector = builder.period(Duration::from_secs(600)).start();
    page.until("it is up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    assert_eq!(page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"48\""]), Some(0.0), "it can be seen to rise");
    fake.push_xid(1, 48);
    fake.push_xid(1, 48);
    fake.push_xid(0, 31);
    page.until("both", |page| page.value("gpu_xid_errors_total", &["GPU-b", "xid=\"48\""]) == Some(2.0));
    page.until("the other", |page| page.value("gpu_xid_errors_total", &["GPU-a", "xid=\"31\""]) == Some(1.0));
    assert!(page.value("gpu_xid_last_timestamp_seconds", &["GPU-b", "xid=\"48\""]).is_some_and(|at| at > 1.7e9));
}

#[test]
fn the_xid_of_a_gpu_that_is_lost_is_counted() {
    let fake = Fake::state(&two(json!({})));
    let (builder, page) = on(&fake);
    let _collector = builder.rediscovery_interval(Duration::from_secs(600)).start();
    page.until("both are up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
    fake.set(&two(json!({ "lost": true })));
    page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
    // The driver has no more events for it, but the log does.
    page.until("it is left out of the set", |_| fake.calls("nvmlEventSetCreate") > 1);
    for_ticks(&page, 2.0, |_| {});
    fake.log_xid("0000:0b:00", 48);
    page.until("why", |page| xids(page, "GPU-b", 48) == Some(1.0));
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
        let extra = json!({ "latency_us": slow, "wait_while_lost": "events_first" });
        with(machine(&[device("GPU-a", json!({ "lost": lost }))]), extra)
    };
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_memory_used_bytes", &[]) == Some(300.0));
    // In the middle of a tick, which then ends the session.
    let calls = fake.calls("nvmlDeviceGetMemoryInfo_v2");
    page.until("a tick", |_| fake.calls("nvmlDeviceGetMemoryInfo_v2") > calls);
    fake.set(&state(true));
    fake.push_xid(0, 48);
    page.until("it is down", |page| page.value("gpu_up", &[]) == Some(0.0));
    page.until("why", |page| page.value("gpu_xid_errors_total", &["xid=\"48\""]) == Some(1.0));
}

#[test]
fn a_failed_wait_for_events_is_counted_and_set_up_again() {
    let good = machine(&[device("GPU-a", json!({}))]);
    let fake = Fake::state(&good);
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    fake.set(&with(good.clone(), json!({ "force": { "nvmlEventSetWait_v2": 999 } })));
    page.until("it is counted", |page| {
        page.value("gpu_collector_errors_total", &["kind=\"call_failed\""]).is_some_and(|count| count > 0.0)
    });
    // After one second, then after two more: not in every slice of the wait.
    let made = fake.calls("nvmlEventSetCreate");
    for_ticks(&page, 20.0, |_| {});
    assert!(fake.calls("nvmlEventSetCreate") <= made + 2);
    fake.set(&good);
    fake.push_xid(0, 48);
    page.until("XIDs again", |page| page.value("gpu_xid_errors_total", &["xid=\"48\""]) == Some(1.0));
    assert_eq!(fake.number("fake_nvml_event_sets"), 1);
}

/// A driver without events, and one that temporarily cannot create an event set.
#[test]
fn xids_come_from_the_log_until_a_set_of_events_can_be_created() {
    for (code, failed) in [(3, false), (999, true)] {
        let good = two(json!({}));
        let fake = Fake::state(&with(good.clone(), json!({ "force": { "nvmlEventSetCreate": code } })));
        let (builder, page) = on(&fake);
        let _collector = builder.start();
        page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
        fake.log_xid("0000:0b:00", 48);
        page.until("the log has it", |page| xids(page, "GPU-b", 48) == Some(1.0));
        let tried = fake.calls("nvmlEventSetCreate");
        for_ticks(&page, 15.0, |_| {});
        assert_eq!(errors(&page, "call_failed") > 0.0, failed, "code {code}");
        assert!(fake.calls("nvmlEventSetCreate") <= tried + 2, "code {code}: not once in each slice");
        if failed {
            fake.set(&good);
            fake.push_xid(0, 31);
            page.until("the driver has it", |page| xids(page, "GPU-a", 31) == Some(1.0));
        }
    }
}

#[test]
fn the_sleep_between_ticks_is_not_a_busy_loop() {
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
fn xids_that_nvml_does_not_deliver_are_read_from_the_kernel_log() {
    let fake = Fake::state(&two(json!({})));
    fake.log_xid("0000:0b:00", 119);
    let (builder, page) = on(&fake);
    let _collector = builder.rediscovery_interval(Duration::from_secs(600)).period(Duration::from_secs(600)).start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    for xid in CRITICAL_XIDS {
        assert_eq!(xids(&page, "GPU-b", xid), Some(0.0), "{xid} can be seen to rise; earlier lines are not counted");
    }
    // Once as an event, which no driver sends for this XID, and once in the log.
    fake.push_xid(1, 79);
    fake.log_xid("0000:0b:00", 79);
    fake.log_xid("0000:0b:00", 79);
    page.until("both lines", |page| xids(page, "GPU-b", 79) == Some(2.0));
    assert!(page.value("gpu_xid_last_timestamp_seconds", &["GPU-b", "xid=\"79\""]).is_some_and(|at| at > 1.7e9));
    assert_eq!(xids(&page, "GPU-a", 79), Some(0.0));
}

#[test]
fn a_gpu_that_fell_off_the_bus_or_is_stuck_is_not_read_any_more() {
    for xid in KERNEL_LOG_XIDS {
        let fake = Fake::state(&two(json!({})));
        let (builder, page) = on(&fake);
        let _collector = builder.rediscovery_interval(Duration::from_secs(600)).start();
        page.until("both are up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
        // Reading it would take tens of seconds to fail, and no other GPU would be read meanwhile.
        fake.log_xid("0000:0b:00", xid);
        page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
        assert!(page.value("gpu_memory_used_bytes", &["GPU-b"]).unwrap().is_nan());
        fake.reset_calls();
        for_ticks(&page, 5.0, |page| assert_eq!(page.value("gpu_up", &["GPU-a"]), Some(1.0)));
        let calls = fake.calls("nvmlDeviceGetMemoryInfo_v2");
        assert!(calls <= 7, "only of the other one: {calls}");
        assert_eq!(errors(&page, "gpu_lost"), 1.0);
    }
}

#[test]
fn a_gpu_that_was_wrongly_reported_as_stuck_comes_back() {
    let fake = Fake::state(&two(json!({})));
    let (builder, page) = on(&fake);
    let _collector = builder.rediscovery_interval(Duration::from_secs(1)).start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    fake.log_xid("0000:0b:00", 119);
    page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
    page.until("it is back", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    assert_eq!(xids(&page, "GPU-b", 119), Some(1.0));
}

#[test]
fn without_permission_for_the_kernel_log_the_xids_that_only_it_has_are_absent() {
    let fake = Fake::state(&two(json!({})));
    let (builder, page) = quick();
    let _collector = builder.source(fake.source().kernel_log(false)).start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    for xid in CRITICAL_XIDS {
        let expected = if KERNEL_LOG_XIDS.contains(&xid) { None } else { Some(0.0) };
        assert_eq!(xids(&page, "GPU-b", xid), expected, "{xid}");
    }
}

#[test]
fn a_gpu_without_events_gets_its_xids_from_the_log() {
    let fake = Fake::state(&two(json!({ "no_xid_events": true })));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    assert_eq!(xids(&page, "GPU-b", 48), Some(0.0));
    fake.log_xid("0000:0b:00", 48);
    fake.log_xid("0000:0a:00", 48);
    fake.push_xid(0, 48);
    page.until("both", |page| xids(page, "GPU-b", 48) == Some(1.0) && xids(page, "GPU-a", 48) == Some(1.0));
    for_ticks(&page, 3.0, |page| {
        assert_eq!(xids(page, "GPU-a", 48), Some(1.0), "an XID from both sources counts once")
    });

    let (builder, page) = quick();
    let _collector = builder.source(fake.source().kernel_log(false)).start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    assert!(CRITICAL_XIDS.iter().all(|xid| xids(&page, "GPU-b", *xid).is_none()), "there is no source for them");
}

#[test]
fn the_xid_of_the_only_gpu_that_is_lost_is_counted_after_the_session_is() {
    let state = |lost: bool| machine(&[device("GPU-a", json!({ "lost": lost, "bus_id": "00000000:0A:00.0" }))]);
    let fake = Fake::state(&state(false));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    fake.set(&state(true));
    page.until("it is down", |page| page.value("gpu_collector_up", &[]) == Some(0.0));
    fake.log_xid("0000:0a:00", 79);
    fake.set(&state(false));
    page.until("why", |page| xids(page, "GPU-a", 79) == Some(1.0));
    page.until("it is back", |page| page.value("gpu_up", &[]) == Some(1.0));
}

#[test]
fn xids_of_other_gpus_are_counted_while_one_is_lost() {
    for wait in ["says_so", "events_first", "nothing"] {
        let state = |lost: bool| with(two(json!({ "lost": lost })), json!({ "wait_while_lost": wait }));
        let fake = Fake::state(&state(false));
        let (builder, page) = on(&fake);
        let collector = builder.rediscovery_interval(Duration::from_secs(600)).start();
        page.until("both are up", |page| page.value("gpu_memory_used_bytes", &["GPU-b"]) == Some(300.0));
        fake.set(&state(true));
        page.until("one is down", |page| page.value("gpu_up", &["GPU-b"]) == Some(0.0));
        let sets = fake.calls("nvmlEventSetCreate");
        fake.push_xid(0, 48);
        page.until("the other one is heard", |page| xids(page, "GPU-a", 48) == Some(1.0));
        for_ticks(&page, 20.0, |_| {});
        let made = fake.calls("nvmlEventSetCreate") - sets;
        assert!(made <= 4, "{wait}: {made} sets were made in two seconds");
        assert_eq!(fake.number("fake_nvml_event_sets"), 1);
        assert!(collector.stop(AT_ONCE));
        assert_eq!(fake.violations(), "");
    }
}

/// A lost device that can nevertheless be added to an event set.
#[test]
fn a_wait_that_always_reports_a_loss_is_not_a_busy_loop() {
    let lost = json!({ "force": { "nvmlEventSetWait_v2": 15 } });
    let fake = Fake::state(&with(two(json!({})), lost));
    let (builder, page) = on(&fake);
    let _collector = builder.start();
    page.until("both are up", |page| page.value("gpu_up", &["GPU-b"]) == Some(1.0));
    fake.reset_calls();
    for_ticks(&page, 20.0, |_| {});
    let (sets, waits) = (fake.calls("nvmlEventSetCreate"), fake.calls("nvmlEventSetWait_v2"));
    assert!(sets * 3 <= waits * 2, "{sets} sets for {waits} waits, and not more than one a second");
}

#[test]
fn a_driver_without_xids_has_no_series_of_them() {
    use llm_metrics_gpu::source::AmdSource;

    let sys = tempfile::tempdir().unwrap();
    let card = sys.path().join("class/drm/card0/device");
    std::fs::create_dir_all(&card).unwrap();
    std::fs::write(card.join("vendor"), "0x1002").unwrap();
    let (builder, page) = quick();
    let _collector = builder.source(AmdSource::at(sys.path())).start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    assert!(!page.text().contains("gpu_xid_errors_total{"), "a 0 that nobody could ever raise");

    let script = Script::new();
    script.set(vec![ScriptedGpu::new(GpuIdentity::new(0, "GPU-a"))]);
    let (builder, page) = quick();
    let _collector = builder.source(script.source()).start();
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    assert_eq!(xids(&page, "GPU-a", 79), Some(0.0), "a script may have any");
}
