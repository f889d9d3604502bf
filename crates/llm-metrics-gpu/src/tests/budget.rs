//! The number of calls per tick, and that memory does not grow.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    by_hand,
    support::{Fake, device, machine},
};

#[test]
fn a_tick_makes_at_most_ten_calls_a_device() {
    // One more call if an unsupported value is tried again; three more with GPM.
    let limits = [("h200", 10), ("l40s", 9), ("old-driver", 9), ("rtx4090", 9), ("gb10", 8), ("h100-mig", 7)];
    for (profile, most) in limits {
        by_hand(&Fake::profile(profile), |hand| {
            // The first ticks read everything and find out what is not supported.
            hand.ticks(1);
            println!("{profile}: {} calls up to the end of the first tick", hand.fake.calls(""));
            hand.ticks(2);
            let (mut worst, mut total) = (0, 0);
            for second in 0..60 {
                if profile != "h100-mig" {
                    // Two calls are needed if the ring holds samples.
                    hand.fake.push_sample(0, 1_000_000 * (second + 1), 50);
                }
                hand.fake.reset_calls();
                hand.ticks(1);
                worst = worst.max(hand.fake.calls(""));
                total += hand.fake.calls("");
            }
            println!("{profile}: {worst} calls in the worst tick, {:.1} in the mean", total as f64 / 60.0);
            assert!(worst <= most, "{profile}: {worst} calls in a tick");
        });
    }
}

#[test]
fn calls_grow_with_devices_and_not_faster() {
    let gpus: Vec<Value> = (0..8).map(|n| device(&format!("GPU-{n}"), json!({}))).collect();
    by_hand(&Fake::state(&machine(&gpus)), |hand| {
        hand.ticks(3);
        for _ in 0..60 {
            hand.fake.reset_calls();
            hand.ticks(1);
            assert!(hand.fake.calls("") <= 80);
        }
    });
}

#[test]
fn unsupported_calls_are_made_once_in_a_long_while() {
    by_hand(&Fake::profile("gb10"), |hand| {
        hand.ticks(60);
        for call in ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetEnforcedPowerLimit"] {
            assert_eq!(hand.fake.calls(call), 3, "{call}: at first, after ten seconds, after twenty more");
        }
        assert_eq!(hand.fake.calls("nvmlDeviceGetPcieThroughput"), 0, "opt-in");
        assert_eq!(hand.fake.calls("nvmlDeviceGetComputeRunningProcesses_v3"), 0, "opt-in");
    });
}

/// Runs in a separate process, because the memory of the whole process is measured.
#[test]
fn memory_does_not_grow_over_two_thousand_ticks() {
    if std::env::var_os("ALONE").is_none() {
        let this = ["--exact", "tests::budget::memory_does_not_grow_over_two_thousand_ticks", "--nocapture"];
        let alone = Command::new(std::env::current_exe().unwrap()).args(this).env("ALONE", "1").output().unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
        return;
    }
    let fake = Fake::profile("h200");
    by_hand(&fake, |hand| {
        hand.ticks(20);
        let (series, memory) = (hand.page.samples().len(), resident_kib());
        for second in 0..2000 {
            hand.fake.push_sample(0, 1_000_000 * (second + 1), (second % 100) as u32);
            hand.ticks(1);
        }
        assert_eq!(hand.page.samples().len(), series, "series");
        assert!(hand.fake.number("fake_nvml_gpm_samples") <= 2);
        assert_eq!(hand.fake.number("fake_nvml_event_sets"), 1);
        let grown = resident_kib().saturating_sub(memory);
        println!("{grown} KiB more after 2000 ticks");
        assert!(grown < 8 * 1024, "{grown} KiB more");
    });
    for left in ["fake_nvml_initialised", "fake_nvml_gpm_samples", "fake_nvml_event_sets"] {
        assert_eq!(fake.number(left), 0, "{left}");
    }
}

#[test]
fn labels_do_not_grow_over_a_thousand_xids() {
    use crate::source::GpuEvent;

    by_hand(&Fake::profile("h200"), |hand| {
        hand.ticks(1);
        for xid in 0..1000 {
            hand.sampler.event(GpuEvent::Xid { index: 0, xid }, &mut hand.generation);
        }
        let xids: Vec<_> =
            hand.page.samples().into_iter().filter(|(key, _)| key.starts_with("gpu_xid_errors_total")).collect();
        assert_eq!(xids.len(), 33);
        assert_eq!(xids.iter().map(|(_, count)| count).sum::<f64>(), 1000.0);
        assert!(hand.value("gpu_xid_errors_total", &["xid=\"other\""]).is_some_and(|count| count > 900.0));
        assert_eq!(hand.value("gpu_xid_errors_total", &["xid=\"79\""]), Some(1.0));
    });
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
