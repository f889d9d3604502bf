//! How NVML's answers become metrics.

use serde_json::json;

use super::{
    by_hand, by_hand_from,
    support::{Fake, device, machine},
};

#[test]
fn values_come_out_in_base_units() {
    by_hand(&Fake::profile("h200"), |hand| {
        hand.ticks(2);
        for (name, labels, expected) in [
            ("gpu_up", &[][..], 1.0),
            ("gpu_utilization_ratio", &[], 0.41),
            ("gpu_memory_controller_utilization_ratio", &[], 0.18),
            ("gpu_memory_used_bytes", &[], 119_185_342_464.0),
            ("gpu_memory_reserved_bytes", &[], 643_825_664.0),
            ("gpu_memory_total_bytes", &[], 150_754_820_096.0),
            ("gpu_power_watts", &["reading=\"instant\""], 431.26),
            ("gpu_power_watts", &["reading=\"average_1s\""], 402.7),
            ("gpu_power_limit_watts", &["kind=\"enforced\""], 700.0),
            ("gpu_energy_joules_total", &[], 88_123_456.0),
            ("gpu_clock_hertz", &["domain=\"sm\""], 1.98e9),
            ("gpu_temperature_celsius", &["sensor=\"memory\""], 52.0),
            ("gpu_temperature_limit_celsius", &["kind=\"slowdown\""], 89.0),
            ("gpu_sm_active_ratio", &[], 0.365),
            ("gpu_tensor_active_ratio", &[], 0.1875),
            ("gpu_pcie_bytes_per_second", &["direction=\"tx\""], 114.0 * 1_048_576.0),
            ("gpu_ecc_errors_total", &["severity=\"corrected\"", "counter=\"aggregate\""], 3.0),
            ("gpu_recovery_action", &[], 0.0),
            ("gpu_collector_errors_total", &["kind=\"call_failed\""], 0.0),
        ] {
            assert_eq!(hand.value(name, labels), Some(expected), "{name} {labels:?}");
        }
    });
}

/// All values differ, so that a mix-up is noticed.
#[test]
fn every_fact_comes_out_under_its_own_name() {
    let seconds = |seconds: u64| seconds * 1_000_000_000;
    let gpu = json!({
        "fields": {
            "3": 3, "4": 4, "5": 5, "6": 6, "38": 38, "45": 45, "52": 52, "59": 59, "82": 82, "83": 83_000, "94": 94,
            "74": seconds(74), "76": seconds(76), "251": seconds(251), "252": seconds(252), "253": seconds(253),
            "138": 138, "139": 139, "142": 142, "143": 143, "144": 144, "145": 145, "185": 185_000, "186": 186_000, "230": 230,
        },
        "utilization": [31, 32], "encoder": 33, "decoder": 34, "temperature": 35,
        "temperature_limits": { "0": 40, "1": 41, "2": 42, "3": 43 },
        "memory": { "total": 50, "reserved": 51, "used": 52 },
        "power": { "enforced_limit": 60_000, "default_limit": 61_000, "max_limit": 62_000 },
        "clocks_mhz": { "1": [70, 71], "2": [72, 73] },
        "pcie": { "generation": 3, "max_generation": 5, "width": 8, "max_width": 16 },
        "gpm": { "1": 81, "2": 82, "3": 83, "5": 85, "10": 86, "20": 87, "21": 88 },
    });
    let mib = 1_048_576.0;
    by_hand(&Fake::state(&machine(&[device("GPU-a", gpu)])), |hand| {
        hand.ticks(12);
        for (name, labels, expected) in [
            ("gpu_utilization_ratio", &[][..], 0.31),
            ("gpu_memory_controller_utilization_ratio", &[], 0.32),
            ("gpu_encoder_utilization_ratio", &[], 0.33),
            ("gpu_decoder_utilization_ratio", &[], 0.34),
            ("gpu_engine_active_ratio", &[], 0.81),
            ("gpu_sm_active_ratio", &[], 0.82),
            ("gpu_sm_occupancy_ratio", &[], 0.83),
            ("gpu_tensor_active_ratio", &[], 0.85),
            ("gpu_dram_active_ratio", &[], 0.86),
            ("gpu_memory_total_bytes", &[], 50.0),
            ("gpu_memory_reserved_bytes", &[], 51.0),
            ("gpu_memory_used_bytes", &[], 52.0),
            ("gpu_power_watts", &["average_1s"], 185.0),
            ("gpu_power_watts", &["instant"], 186.0),
            ("gpu_power_limit_watts", &["enforced"], 60.0),
            ("gpu_power_limit_watts", &["default"], 61.0),
            ("gpu_power_limit_watts", &["max"], 62.0),
            ("gpu_energy_joules_total", &[], 83.0),
            ("gpu_clock_hertz", &["sm"], 70e6),
            ("gpu_clock_max_hertz", &["sm"], 71e6),
            ("gpu_clock_hertz", &["memory"], 72e6),
            ("gpu_clock_max_hertz", &["memory"], 73e6),
            ("gpu_clock_event_seconds_total", &["sw_power_cap"], 74.0),
            ("gpu_clock_event_seconds_total", &["sync_boost"], 76.0),
            ("gpu_clock_event_seconds_total", &["sw_thermal_slowdown"], 251.0),
            ("gpu_clock_event_seconds_total", &["hw_thermal_slowdown"], 252.0),
            ("gpu_clock_event_seconds_total", &["hw_power_brake_slowdown"], 253.0),
            ("gpu_temperature_celsius", &["sensor=\"gpu\""], 35.0),
            ("gpu_temperature_celsius", &["sensor=\"memory\""], 82.0),
            ("gpu_temperature_limit_celsius", &["shutdown"], 40.0),
            ("gpu_temperature_limit_celsius", &["slowdown"], 41.0),
            ("gpu_temperature_limit_celsius", &["mem_max"], 42.0),
            ("gpu_temperature_limit_celsius", &["gpu_max"], 43.0),
            ("gpu_pcie_bytes_per_second", &["tx"], 87.0 * mib),
            ("gpu_pcie_bytes_per_second", &["rx"], 88.0 * mib),
            ("gpu_pcie_replays_total", &[], 94.0),
            ("gpu_pcie_link_generation", &["current"], 3.0),
            ("gpu_pcie_link_generation", &["max"], 5.0),
            ("gpu_pcie_link_width", &["current"], 8.0),
            ("gpu_pcie_link_width", &["max"], 16.0),
            ("gpu_nvlink_bytes_total", &["tx"], 138.0 * 1024.0),
            ("gpu_nvlink_bytes_total", &["rx"], 139.0 * 1024.0),
            ("gpu_nvlink_errors_total", &["crc_flit"], 38.0),
            ("gpu_nvlink_errors_total", &["crc_data"], 45.0),
            ("gpu_nvlink_errors_total", &["replay"], 52.0),
            ("gpu_nvlink_errors_total", &["recovery"], 59.0),
            ("gpu_ecc_errors_total", &["\"corrected", "volatile"], 3.0),
            ("gpu_ecc_errors_total", &["\"uncorrected", "volatile"], 4.0),
            ("gpu_ecc_errors_total", &["\"corrected", "aggregate"], 5.0),
            ("gpu_ecc_errors_total", &["\"uncorrected", "aggregate"], 6.0),
            ("gpu_remapped_rows", &["\"correctable"], 142.0),
            ("gpu_remapped_rows", &["\"uncorrectable"], 143.0),
            ("gpu_row_remap_pending", &[], 144.0),
            ("gpu_row_remap_failed", &[], 145.0),
            ("gpu_recovery_action", &[], 230.0),
        ] {
            assert_eq!(hand.value(name, labels), Some(expected), "{name} {labels:?}");
        }
    });
}

/// The bits of `nvmlClocksEventReasons`, by `nvml.h`.
#[test]
fn each_reason_of_the_clocks_is_distinguished() {
    let reasons = [
        (0x001, "gpu_idle"),
        (0x002, "applications_clocks_setting"),
        (0x004, "sw_power_cap"),
        (0x008, "\"hw_slowdown"),
        (0x010, "sync_boost"),
        (0x020, "sw_thermal_slowdown"),
        (0x040, "hw_thermal_slowdown"),
        (0x080, "hw_power_brake_slowdown"),
        (0x100, "display_clock_setting"),
    ];
    let state = |bits: u64| machine(&[device("GPU-a", json!({ "clock_event_reasons": bits }))]);
    by_hand(&Fake::state(&state(0)), |hand| {
        for (bit, _) in reasons {
            hand.fake.set(&state(bit));
            hand.ticks(1);
            for (other, reason) in reasons {
                let expected = if bit == other { 1.0 } else { 0.0 };
                assert_eq!(hand.value("gpu_clock_event_active", &[reason]), Some(expected), "{reason} at {bit:#x}");
            }
        }
    });
}

#[test]
fn gpm_samples_that_would_be_too_close_are_not_taken_and_the_values_stay() {
    by_hand(&Fake::profile("h200"), |hand| {
        hand.ticks(2);
        let samples = hand.fake.calls("nvmlGpmSampleGet");
        hand.now -= std::time::Duration::from_millis(910);
        hand.ticks(1);
        assert_eq!(hand.fake.calls("nvmlGpmSampleGet"), samples);
        assert_eq!(hand.value("gpu_sm_active_ratio", &[]), Some(0.365));
    });
}

#[test]
fn a_library_that_does_not_work_does_not_end_the_search() {
    use crate::source::{SourceError, nvml::search};

    let broken = Fake::state(&json!({ "init_return": 18 }));
    let good = Fake::profile("h200");
    let places = ["/nowhere/libnvidia-ml.so.1".into(), broken.path().to_owned(), good.path().to_owned()];
    assert_eq!(search(&places), Ok(()));
    assert_eq!(search(&places[..2]), Err(SourceError::VersionMismatch), "rather than that there is none");
    // The error is that of the first library that does not work; if none was found, it is that of the first place.
    let unloaded = Fake::state(&json!({ "init_return": 9 }));
    let [nowhere, broken, _] = places;
    let both = [nowhere.clone(), broken.clone(), unloaded.path().to_owned()];
    assert_eq!(search(&both), Err(SourceError::VersionMismatch));
    assert_eq!(search(&[broken, nowhere.clone()]), Err(SourceError::VersionMismatch));
    let elsewhere = "/elsewhere/libnvidia-ml.so.1".into();
    assert!(
        matches!(search(&[nowhere, elsewhere]), Err(SourceError::NoLibrary { detail }) if detail.contains("/nowhere/"))
    );
}

/// If the ring cannot be read once, it is not taken for missing: otherwise the gauge would be counted in addition.
#[test]
fn busy_time_is_not_counted_twice_when_the_ring_fails_for_a_tick() {
    let state = |failing: bool| {
        let gpu = device("GPU-a", json!({ "utilization": [100, 0], "samples": [[1_000_000, 100]] }));
        let mut state = machine(&[gpu]);
        if failing {
            state["force"] = json!({ "nvmlDeviceGetSamples": 999 });
        }
        state
    };
    by_hand(&Fake::state(&state(false)), |hand| {
        hand.ticks(1);
        hand.fake.set(&state(true));
        hand.ticks(1);
        hand.fake.set(&state(false));
        for n in 1..=10 {
            hand.fake.push_sample(0, 1_000_000 + n * 200_000, 100);
        }
        hand.ticks(1);
        assert_eq!(hand.value("gpu_busy_seconds_total", &[]), Some(2.0));
    });
}

#[test]
fn nvlink_is_counted_over_all_links() {
    by_hand(&Fake::profile("h200"), |hand| {
        hand.ticks(1);
        let rx = hand.value("gpu_nvlink_bytes_total", &["direction=\"rx\""]);
        assert_eq!(rx, Some(2.0 * 2_097_152.0 * 1024.0));
    });
}

#[test]
fn fields_that_newer_drivers_renumbered_are_requested_by_their_new_number() {
    let seconds = [("74", "sw_power_cap"), ("251", "sw_thermal_slowdown"), ("252", "hw_thermal_slowdown")];
    for driver in ["570.86.16", "580.95.05", "590.48.01"] {
        let ns = json!({ "74": 1_999_999_999_u64, "251": 7_000_000_000_u64, "252": 8_500_000_000_u64 });
        let fake = Fake::state(
            &json!({ "driver_version": driver, "devices": [device("GPU-a", json!({ "clock_event_ns": ns }))] }),
        );
        by_hand(&fake, |hand| {
            hand.ticks(1);
            let reported = seconds
                .map(|(_, reason)| hand.value("gpu_clock_event_seconds_total", &[&format!("reason=\"{reason}\"")]));
            assert_eq!(reported, [Some(1.0), Some(7.0), Some(8.0)], "{driver}");
            assert_eq!(hand.value("gpu_clock_event_seconds_total", &["sync_boost"]), None);
        });
    }
}

#[test]
fn the_first_version_of_the_memory_call_stands_in_for_the_second() {
    // By a code that says so, by a code without a name (25), and by a library without this symbol.
    let coded = |code: u32| {
        let mut state = machine(&[device("GPU-a", json!({}))]);
        state["force"] = json!({ "nvmlDeviceGetMemoryInfo_v2": code });
        Fake::state(&state)
    };
    let symbolless = Fake::without(&["nvmlDeviceGetMemoryInfo_v2"]);
    symbolless.set(&machine(&[device("GPU-a", json!({}))]));
    for fake in [coded(13), coded(25), coded(999), symbolless] {
        by_hand(&fake, |hand| {
            hand.ticks(3);
            assert_eq!(hand.value("gpu_memory_used_bytes", &[]), Some(400.0), "the first version counts the reserve");
            assert_eq!(hand.value("gpu_memory_reserved_bytes", &[]), None);
        });
    }
}

#[test]
fn a_second_version_that_fails_once_is_not_replaced_by_the_first() {
    let state = machine(&[device("GPU-a", json!({}))]);
    by_hand(&Fake::state(&state), |hand| {
        hand.ticks(1);
        let mut failing = state.clone();
        failing["force"] = json!({ "nvmlDeviceGetMemoryInfo_v2": 999 });
        hand.fake.set(&failing);
        hand.ticks(1);
        assert!(hand.value("gpu_memory_used_bytes", &[]).unwrap().is_nan(), "not a figure with another meaning");
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"call_failed\""]), Some(1.0));
        hand.fake.set(&state);
        hand.ticks(1);
        assert_eq!(hand.value("gpu_memory_used_bytes", &[]), Some(300.0));
    });
}

#[test]
fn unsupported_values_are_absent() {
    by_hand(&Fake::profile("rtx4090"), |hand| {
        hand.ticks(12);
        for absent in ["gpu_ecc_errors_total", "gpu_remapped_rows", "gpu_sm_active_ratio", "gpu_nvlink_bytes_total"] {
            assert!(!hand.page.text().lines().any(|line| line.starts_with(absent)), "{absent}");
        }
        assert_eq!(hand.value("gpu_temperature_celsius", &["sensor=\"memory\""]), None);
    });
}

#[test]
fn the_constant_zero_of_unified_memory_is_not_published() {
    by_hand(&Fake::profile("gb10"), |hand| {
        hand.ticks(2);
        assert_eq!(hand.value("gpu_utilization_ratio", &[]), Some(0.55));
        assert_eq!(hand.value("gpu_memory_controller_utilization_ratio", &[]), None);
        assert_eq!(hand.value("gpu_memory_used_bytes", &[]), None);
    });
}

#[test]
fn symbols_that_an_old_library_lacks_only_remove_their_metrics() {
    let fake = Fake::without(&[
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetSamples",
        "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlGpmQueryDeviceSupport",
        "nvmlGpmSampleFree",
        "nvmlEventSetFree",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlDeviceGetMigMode",
    ]);
    fake.set_profile("old-driver");
    by_hand(&fake, |hand| {
        hand.ticks(12);
        assert_eq!(hand.value("gpu_power_watts", &[]), Some(31.0));
        assert_eq!(hand.value("gpu_clock_event_active", &["reason=\"sw_power_cap\""]), Some(1.0));
        assert_eq!(hand.value("gpu_utilization_ratio", &[]), Some(0.23));
        assert_eq!(hand.value("gpu_busy_seconds_total", &[]), Some(2.0), "23 % of 11 s, from the gauge");
        assert_eq!(hand.value("gpu_energy_joules_total", &[]), None);
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"call_failed\""]), Some(0.0));
    });
    assert_eq!(fake.violations(), "");
}

#[test]
fn return_codes_without_a_name_do_no_harm() {
    for code in [23, 24, 25, 26, 27, 29, 30, 77] {
        let mut state = machine(&[device("GPU-a", json!({}))]);
        state["force"] = json!({ "nvmlDeviceGetUtilizationRates": code, "nvmlDeviceGetSamples": code });
        by_hand(&Fake::state(&state), |hand| {
            hand.ticks(3);
            assert_eq!(hand.value("gpu_up", &[]), Some(1.0), "code {code}");
            assert_eq!(hand.value("gpu_utilization_ratio", &[]), None, "code {code}");
        });
    }
}

#[test]
fn a_device_that_fails_every_call_is_lost() {
    let state = machine(&[device("GPU-a", json!({})), device("GPU-b", json!({}))]);
    by_hand(&Fake::state(&state), |hand| {
        hand.ticks(1);
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
        let mut failing = state.clone();
        failing["devices"][0]["force"] = unknown.into();
        hand.fake.set(&failing);
        hand.ticks(1);
        assert_eq!(hand.value("gpu_up", &["GPU-a"]), Some(0.0));
        assert_eq!(hand.value("gpu_up", &["GPU-b"]), Some(1.0));
    });
}

#[test]
fn a_device_that_a_new_session_does_not_find_is_lost() {
    let state = |lost| machine(&[device("GPU-a", json!({})), device("GPU-b", json!({ "lost": lost }))]);
    by_hand(&Fake::state(&state(false)), |hand| {
        hand.ticks(1);
        hand.fake.set(&state(true));
        hand.generation = hand.sampler.begin(hand.session, hand.now).unwrap();
        assert_eq!(hand.value("gpu_up", &["GPU-b"]), Some(0.0));
        assert!(hand.value("gpu_memory_used_bytes", &["GPU-b"]).unwrap().is_nan());
        assert_eq!(hand.value("gpu_up", &["GPU-a"]), Some(1.0));
    });
}

#[test]
fn a_driver_that_goes_away_ends_the_session() {
    let state = machine(&[device("GPU-a", json!({}))]);
    by_hand(&Fake::state(&state), |hand| {
        hand.ticks(1);
        let mut failing = state.clone();
        failing["force"] = json!({ "nvmlDeviceGetUtilizationRates": 9, "nvmlDeviceGetCount_v2": 9 });
        hand.fake.set(&failing);
        assert!(hand.tick().is_err());
    });
}

#[test]
fn a_device_that_calls_the_driver_gone_ends_nothing_while_the_driver_answers() {
    for code in [1, 9, 12, 18] {
        let b = device("GPU-b", json!({ "force": { "nvmlDeviceGetClockInfo": code } }));
        by_hand(&Fake::state(&machine(&[device("GPU-a", json!({})), b])), |hand| {
            hand.ticks(3);
            for uuid in ["GPU-a", "GPU-b"] {
                assert_eq!(hand.value("gpu_memory_used_bytes", &[uuid]), Some(300.0), "code {code}");
            }
            assert!(hand.value("gpu_collector_errors_total", &["kind=\"call_failed\""]).unwrap() > 0.0);
        });
    }
}

#[test]
fn a_device_that_calls_the_driver_gone_when_it_is_looked_for_is_missing_while_the_driver_answers() {
    for code in [1, 9, 12, 18] {
        let b = device("GPU-b", json!({ "force": { "nvmlDeviceGetUUID": code } }));
        by_hand(&Fake::state(&machine(&[device("GPU-a", json!({})), b])), |hand| {
            hand.ticks(1);
            assert_eq!(hand.value("gpu_up", &["GPU-a"]), Some(1.0), "code {code}");
            assert_eq!(hand.value("gpu_devices", &["missing"]), Some(1.0), "code {code}");
        });
    }
}

#[test]
fn a_device_that_may_not_be_read_is_counted() {
    let state = json!({ "devices": [device("GPU-a", json!({}))], "force": { "nvmlDeviceGetHandleByIndex_v2": 4 } });
    by_hand(&Fake::state(&state), |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"permission\""]), Some(1.0));
        assert_eq!(hand.value("gpu_collector_up", &[]), Some(1.0), "the driver is well");
    });
}

#[test]
fn facts_that_could_not_be_read_at_first_are_read_later() {
    let good = machine(&[device("GPU-a", json!({ "clocks_mhz": { "1": [100, 200] } }))]);
    let mut failing = good.clone();
    failing["force"] = json!({ "nvmlDeviceGetMaxClockInfo": 999 });
    by_hand(&Fake::state(&failing), |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_clock_max_hertz", &["domain=\"sm\""]), None);
        hand.fake.set(&good);
        hand.ticks(11);
        assert_eq!(hand.value("gpu_clock_max_hertz", &["domain=\"sm\""]), Some(2e8));
    });
}

#[test]
fn a_jump_of_the_energy_counter_is_not_energy() {
    let state = |mj: u64| machine(&[device("GPU-a", json!({ "energy_mj": mj }))]);
    by_hand(&Fake::state(&state(1_000_000)), |hand| {
        hand.ticks(1);
        hand.fake.set(&state(1 << 60));
        hand.ticks(10);
        hand.fake.set(&state(2_000_000));
        hand.ticks(20);
        assert_eq!(hand.value("gpu_energy_joules_total", &[]), Some(2000.0));
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"out_of_range\""]), Some(1.0));
    });
}

#[test]
fn values_out_of_range_are_dropped_and_counted() {
    let good = machine(&[device("GPU-a", json!({ "temperature": 40 }))]);
    by_hand(&Fake::state(&good), |hand| {
        hand.ticks(1);
        let bad = json!({
            "utilization": [180, 4_294_967_295_u32], "samples": [[1, 0], [200_000, 4_294_967_295_u32]],
            "memory": { "total": 1000, "reserved": 100, "used": u64::MAX - 5000 }, "power": { "instant": u32::MAX },
            "energy_mj": u64::MAX,
        });
        hand.fake.set(&machine(&[device("GPU-a", bad)]));
        hand.ticks(11);
        for name in ["gpu_utilization_ratio", "gpu_memory_controller_utilization_ratio", "gpu_memory_used_bytes"] {
            assert!(hand.value(name, &[]).unwrap().is_nan(), "{name}");
        }
        assert_eq!(hand.value("gpu_power_watts", &["reading=\"instant\""]), None);
        assert!(hand.value("gpu_collector_errors_total", &["kind=\"out_of_range\""]).unwrap() >= 5.0);
    });
}

#[test]
fn a_mig_parent_has_the_values_that_it_supports() {
    by_hand(&Fake::profile("h100-mig"), |hand| {
        hand.ticks(3);
        assert_eq!(hand.value("gpu_up", &[]), Some(1.0));
        assert_eq!(hand.value("gpu_power_watts", &["reading=\"instant\""]), Some(190.01));
        for absent in ["gpu_utilization_ratio", "gpu_memory_used_bytes", "gpu_remapped_rows", "gpu_sm_active_ratio"] {
            assert_eq!(hand.value(absent, &[]), None, "{absent}");
        }
        assert_eq!(
            hand.value("gpu_collector_errors_total", &["kind=\"permission\""]),
            Some(2.0),
            "counted once per call"
        );
    });
}

#[test]
fn own_memory_is_distinguished_from_that_of_others() {
    let fake = Fake::state(&machine(&[device("GPU-a", json!({ "processes": [[4242, 100], [1, 20], [2, 3]] }))]));
    by_hand_from(fake.source().process_memory(true).host_pid(4242), &fake, |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"self\""]), Some(100.0));
        assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"other\""]), Some(23.0));
    });
}

#[test]
fn memory_of_processes_is_absent_if_that_of_one_process_is_unknown() {
    let big = 1_u64 << 63;
    for (processes, own, other) in [
        (json!([[4242, u64::MAX], [1, 20]]), None, Some(20.0)),
        (json!([[4242, 100], [1, 20], [2, u64::MAX]]), Some(100.0), None),
        (json!([[4242, 100], [1, big], [2, big]]), Some(100.0), None),
    ] {
        let fake = Fake::state(&machine(&[device("GPU-a", json!({ "processes": processes }))]));
        by_hand_from(fake.source().process_memory(true).host_pid(4242), &fake, |hand| {
            hand.ticks(2);
            assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"self\""]), own, "{processes}");
            assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"other\""]), other, "{processes}");
        });
    }
}

#[test]
fn pcie_throughput_is_measured_if_enabled_and_not_in_gpm() {
    let fake = Fake::profile("rtx4090");
    by_hand_from(fake.source().pcie_throughput(true), &fake, |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_pcie_bytes_per_second", &["direction=\"rx\""]), Some(1_250_000.0));
    });
    // GPM has no value for PCIe.
    let gpu = json!({ "gpm": { "1": 50 }, "pcie": { "tx_kb": 7, "rx_kb": 8 } });
    let fake = Fake::state(&machine(&[device("GPU-a", gpu)]));
    by_hand_from(fake.source().pcie_throughput(true), &fake, |hand| {
        hand.ticks(30);
        assert_eq!(hand.value("gpu_pcie_bytes_per_second", &["direction=\"tx\""]), Some(7_000.0));
    });
    assert!(fake.calls("nvmlDeviceGetPcieThroughput") > 4, "each time that it is due");
    let fake = Fake::profile("h200");
    by_hand_from(fake.source().pcie_throughput(true), &fake, |hand| hand.ticks(30));
    assert!(fake.calls("nvmlDeviceGetPcieThroughput") <= 2, "GPM has it from the second tick on");
}
