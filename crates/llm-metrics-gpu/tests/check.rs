//! The check for real machines, run with the fake driver: it completes, and prints everything that it should.

#![cfg(target_os = "linux")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use support::{example, fake_library};

#[test]
fn it_reports_every_getter_the_ring_gpm_and_the_output_of_nvidia_smi() {
    // An nvidia-smi that agrees on the power limit and differs in memory.
    let folder = tempfile::tempdir().unwrap();
    let smi = folder.path().join("nvidia-smi");
    let answer = "GPU-5d8f3a52-7c1e-4b6d-9f20-1a2b3c4d5e6f, 143771, 1, 614, 46, 52, 431.26, 402.70, 700.00, 700.00, \
                  1980, 3201, 1980, 41, 18, 5, 16, 3, 0";
    fs::write(&smi, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    fs::set_permissions(&smi, fs::Permissions::from_mode(0o755)).unwrap();

    let output = Command::new(example("gpu-check"))
        .env("NVML_LIB_PATH", fake_library())
        .env("FAKE_NVML_PROFILE", "h200")
        .env("FAKE_NVML_LIVE", "1")
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "driver 590.48.01, field ids of V13Update1",
        "| utilization_rates |",
        "| 12 fields in one call |",
        "| 253 | throttled by the power brake | Ok(U64(0)) |",
        "- utilisation: 100 samples over 16.5",
        "in order: true",
        "- over 100 ms (a sample",
        "ten waits of 100 ms:",
        "gpu_collector_up 1",
        "| enforced.power.limit | 700.00 | 700.00 | agrees |",
        "| memory.used | 1 |",
        "**differs**",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}
