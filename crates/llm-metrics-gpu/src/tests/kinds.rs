//! Differences between GPUs: GPM, processes, their own memory, and versions of the library.

use serde_json::json;

use super::{
    by_hand, by_hand_from,
    support::{Fake, device, machine},
};

#[test]
fn the_substitute_for_utilisation_expires() {
    let gpu = |force: serde_json::Value| {
        machine(&[device("GPU-a", json!({ "utilization": null, "gpm": { "1": 80.0, "2": 40.0 }, "force": force }))])
    };
    by_hand(&Fake::state(&gpu(json!({}))), |hand| {
        hand.ticks(3);
        assert_eq!(hand.value("gpu_utilization_ratio", &[]), Some(0.8));
        assert_eq!(hand.value("gpu_engine_active_ratio", &[]), Some(0.8));
        let busy = hand.value("gpu_busy_seconds_total", &[]);
        hand.fake.set(&gpu(json!({ "nvmlGpmSampleGet": 999 })));
        hand.ticks(10);
        for name in ["gpu_utilization_ratio", "gpu_engine_active_ratio", "gpu_sm_active_ratio"] {
            assert!(hand.value(name, &[]).unwrap().is_nan(), "{name}");
        }
        assert_eq!(hand.value("gpu_busy_seconds_total", &[]), busy, "of time that nobody saw");
    });
}

/// The library lacks the function that the wrapper calls when it drops a sample.
#[test]
fn a_library_that_lacks_a_part_of_gpm_has_none() {
    for symbol in ["nvmlGpmSampleFree", "nvmlGpmMetricsGet"] {
        let fake = Fake::without(&[symbol]);
        fake.set_profile("h200");
        by_hand(&fake, |hand| {
            hand.ticks(3);
            assert_eq!(hand.value("gpu_sm_active_ratio", &[]), None, "{symbol}");
            assert_eq!(hand.value("gpu_utilization_ratio", &[]), Some(0.41), "{symbol}");
        });
        assert_eq!(fake.calls("nvmlGpmSampleGet"), 0, "{symbol}");
    }
}

#[test]
fn mig_devices_are_known_by_the_gpu_that_they_are_on() {
    for (profile, devices) in [("h100-mig", true), ("h100", false)] {
        by_hand(&Fake::profile(profile), |hand| {
            let found = hand.session.enumerate().unwrap().found;
            assert_eq!(!found[0].mig_uuids.is_empty(), devices, "{profile}");
        });
    }
}

#[test]
fn a_division_by_zero_is_not_an_error() {
    by_hand(&Fake::profile("h100"), |hand| {
        hand.ticks(10);
        assert_eq!(hand.value("gpu_sm_active_ratio", &[]), Some(0.0));
        assert_eq!(hand.value("gpu_tensor_active_ratio", &[]), None);
        assert_eq!(hand.value("gpu_collector_errors_total", &["kind=\"out_of_range\""]), Some(0.0));
    });
}

#[test]
fn the_version_of_cuda_is_known_without_libcuda() {
    for code in [12, 13, 999] {
        let mut state = machine(&[device("GPU-a", json!({}))]);
        state["force"] = json!({ "nvmlSystemGetCudaDriverVersion_v2": code });
        by_hand(&Fake::state(&state), |hand| {
            hand.ticks(1);
            assert_eq!(hand.value("gpu_info", &["cuda_version=\"13.1\""]), Some(1.0), "code {code}");
        });
    }
}

#[test]
fn clients_of_mps_are_processes_too() {
    let gpu = json!({ "processes": [[1, 20], [7, 5]], "mps_processes": [[4242, 100], [2, 3], [7, 5]] });
    let fake = Fake::state(&machine(&[device("GPU-a", gpu)]));
    by_hand_from(fake.source().process_memory(true).host_pid(4242), &fake, |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"self\""]), Some(100.0));
        assert_eq!(
            hand.value("gpu_process_memory_bytes", &["scope=\"other\""]),
            Some(28.0),
            "a process in both lists counts once"
        );
    });
}

#[test]
fn an_own_process_that_is_not_listed_is_unknown_and_not_zero() {
    let mut state = machine(&[device("GPU-a", json!({ "processes": [[1, 20]], "mps_processes": [[4242, 100]] }))]);
    // A driver that cannot list the clients of MPS.
    state["force"] = json!({ "nvmlDeviceGetMPSComputeRunningProcesses_v3": 3 });
    let fake = Fake::state(&state);
    by_hand_from(fake.source().process_memory(true).host_pid(4242), &fake, |hand| {
        hand.ticks(1);
        assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"self\""]), None);
        assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"other\""]), Some(20.0));
    });
}

#[test]
fn processes_are_read_from_drivers_whose_entries_are_larger_than_they_say() {
    let processes: Vec<_> = (0..40_u32).map(|pid| json!([pid, 1000 + u64::from(pid)])).collect();
    for (driver, others) in [("535.54.03", 40_780.0), ("535.104.05", 40_780.0)] {
        let mut state = machine(&[device("GPU-a", json!({ "processes": processes }))]);
        state["driver_version"] = json!(driver);
        let fake = Fake::state(&state);
        by_hand_from(fake.source().process_memory(true).host_pid(1), &fake, |hand| {
            hand.ticks(1);
            assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"self\""]), Some(1001.0), "{driver}");
            assert_eq!(hand.value("gpu_process_memory_bytes", &["scope=\"other\""]), Some(others - 1001.0), "{driver}");
        });
    }
}

#[test]
fn the_link_of_a_gpu_in_the_processor_is_not_published() {
    by_hand(&Fake::profile("gb10"), |hand| {
        hand.ticks(60);
        assert!(!hand.page.text().contains("gpu_pcie_link"), "generation 1 with one lane is none that data go through");
        assert_eq!(hand.value("gpu_energy_joules_total", &[]), Some(812_345.0));
    });
}

#[test]
fn a_missing_library_is_reported_with_a_remedy() {
    use crate::source::{GpuSource, NvmlSource, SourceError};

    let error = NvmlSource::new().library_path("/nowhere/libnvidia-ml.so.1").session(&mut |_| {}).unwrap_err();
    assert!(matches!(error, SourceError::NoLibrary { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("/nowhere/libnvidia-ml.so.1 is configured") && !text.contains("set NVML"), "{text}");
}
