//! Errors of drivers, and values that they do not support, for a while or permanently. NVIDIA's own DCGM works around some of these
//! (dcgmlib/src/DcgmCacheManager.cpp).

use serde_json::json;

use super::{
    by_hand,
    support::{Fake, device, machine},
};

#[test]
fn integers_with_the_tag_of_a_double_are_integers() {
    let mistagged = |value: u64| json!({ "mistagged": value });
    // nvbugs 4300930 (driver 545): memory temperature; 2032468: memory errors.
    let fields = json!({ "82": mistagged(52), "6": mistagged(7), "3": mistagged(1 << 40) });
    by_hand(&Fake::state(&machine(&[device("GPU-a", json!({ "fields": fields }))])), |hand| {
        hand.ticks(12);
        assert_eq!(hand.value("gpu_temperature_celsius", &["sensor=\"memory\""]), Some(52.0));
        assert_eq!(hand.value("gpu_ecc_errors_total", &["uncorrected", "aggregate"]), Some(7.0));
        assert_eq!(hand.value("gpu_ecc_errors_total", &["\"corrected", "volatile"]), Some((1_u64 << 40) as f64));
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"out_of_range\""]), Some(0.0));
    });
}

/// NVML bug 2009232, with ECC off.
#[test]
fn fields_that_the_driver_left_as_they_were_are_not_supported() {
    let untouched = json!({ "untouched": true });
    let fields = json!({ "3": untouched, "4": untouched, "5": untouched, "6": untouched, "142": untouched });
    by_hand(&Fake::state(&machine(&[device("GPU-a", json!({ "fields": fields }))])), |hand| {
        hand.ticks(60);
        assert_eq!(hand.value("gpu_remapped_rows", &["cause=\"correctable\""]), None, "no confident 0");
        assert!(!hand.page.text().contains("gpu_ecc_errors_total{"));
        for kind in ["out_of_range", "call_failed"] {
            assert_eq!(hand.value("gpu_collector_errors_total", &[&format!("kind=\"{kind}\"")]), Some(0.0), "{kind}");
        }
    });
}

#[test]
fn negative_numbers_are_not_values() {
    let fields = json!({ "82": -5, "4": -1 });
    by_hand(&Fake::state(&machine(&[device("GPU-a", json!({ "fields": fields }))])), |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_temperature_celsius", &["sensor=\"memory\""]), None);
        assert_eq!(hand.value("gpu_ecc_errors_total", &["uncorrected", "volatile"]), None);
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"out_of_range\""]), Some(2.0));
    });
}

#[test]
fn values_that_were_unsupported_for_a_while_come_back() {
    let mig = |on: bool| {
        let mut gpu = device(
            "GPU-a",
            json!({ "samples": [[1_000_000, 50]], "mig_capable": true, "nvlink_kib": { "tx": [1], "rx": [1] } }),
        );
        if on {
            gpu["mig"] = json!([]);
            // The fabric manager is not running.
            gpu["nvlink_kib"] = json!(null);
        }
        machine(&[gpu])
    };
    by_hand(&Fake::state(&mig(true)), |hand| {
        hand.ticks(30);
        assert_eq!(hand.value("gpu_utilization_ratio", &[]), None);
        assert_eq!(hand.value("gpu_nvlink_bytes_total", &["tx"]), None);
        hand.fake.set(&mig(false));
        // It was tried after ten seconds and after thirty; the next time is after seventy.
        hand.ticks(60);
        assert_eq!(hand.value("gpu_utilization_ratio", &[]), Some(0.5));
        assert_eq!(hand.value("gpu_nvlink_bytes_total", &["tx"]), Some(1024.0));
        hand.fake.set(&mig(true));
        hand.ticks(1);
        assert!(hand.value("gpu_utilization_ratio", &[]).unwrap().is_nan());
        hand.fake.set(&mig(false));
        hand.ticks(12);
        assert_eq!(hand.value("gpu_utilization_ratio", &[]), Some(0.5), "the pace begins again");
    });
}

#[test]
fn power_falls_back_if_the_driver_refuses_the_fields_with_another_code() {
    // At once after a code for an unknown field; after three failures with a code that may be temporary.
    for (code, ticks, failures) in [(2, 1, 0.0), (999, 3, 6.0)] {
        let refused = json!({ "185": { "error": code }, "186": { "error": code } });
        let gpu = device("GPU-a", json!({ "power": { "usage": 31000 }, "fields": refused }));
        by_hand(&Fake::state(&machine(&[gpu])), |hand| {
            hand.ticks(ticks);
            assert_eq!(hand.value("gpu_power_watts", &["reading=\"driver\""]), Some(31.0), "code {code}");
            hand.ticks(5);
            let failed = hand.value("gpu_collector_errors_total", &["kind=\"call_failed\""]);
            assert_eq!(failed, Some(failures), "code {code}: asked no more for now");
        });
    }
}

#[test]
fn a_field_that_fails_once_keeps_its_place() {
    let state = |failing: bool| {
        let fields = if failing { json!({ "186": { "error": 999 } }) } else { json!({}) };
        machine(&[device("GPU-a", json!({ "power": { "usage": 1, "instant": 2000 }, "fields": fields }))])
    };
    by_hand(&Fake::state(&state(false)), |hand| {
        hand.ticks(1);
        hand.fake.set(&state(true));
        hand.ticks(9);
        assert!(hand.value("gpu_power_watts", &["instant"]).unwrap().is_nan());
        assert_eq!(hand.value("gpu_power_watts", &["driver"]), None, "not a figure with another meaning");
        hand.fake.set(&state(false));
        hand.ticks(1);
        assert_eq!(hand.value("gpu_power_watts", &["instant"]), Some(2.0));
    });
}

#[test]
fn a_driver_without_fields_has_the_other_values() {
    let mut state = machine(&[device("GPU-a", json!({ "power": { "usage": 31000 } }))]);
    state["unknown_field"] = json!(2);
    by_hand(&Fake::state(&state), |hand| {
        hand.ticks(30);
        assert_eq!(hand.value("gpu_power_watts", &["driver"]), Some(31.0));
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"call_failed\""]), Some(0.0));
    });
}
