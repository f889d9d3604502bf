//! AMD's GPUs, on a made-up tree of files.

#![cfg(target_os = "linux")]

mod support;

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use llm_metrics_gpu::{
    GpuCollector,
    source::{AmdSource, AutoSource, NvmlSource},
};
use support::page;

const ADDRESS: &str = "0000:03:00.0";

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

/// A tree with one discrete card, one card of another vendor, and a connector, as `/sys` has them.
fn tree() -> tempfile::TempDir {
    let sys = tempfile::tempdir().unwrap();
    let card = sys.path().join("devices/pci0000:00").join(ADDRESS);
    write(
        &card,
        &[
            ("vendor", "0x1002"),
            ("device", "0x744c"),
            ("unique_id", "be0ff0a1b2c3d4e5"),
            ("gpu_busy_percent", "37"),
            ("mem_busy_percent", "12"),
            ("mem_info_vram_used", "8589934592"),
            ("mem_info_vram_total", "25753026560"),
            ("current_link_speed", "16.0 GT/s PCIe"),
            ("current_link_width", "16"),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("max_link_width", "16"),
            ("pcie_replay_count", "3"),
            ("power/runtime_status", "active"),
            ("hwmon/hwmon4/power1_average", "145000000"),
            ("hwmon/hwmon4/power1_cap", "303000000"),
            ("hwmon/hwmon4/power1_cap_max", "348000000"),
            ("hwmon/hwmon4/freq1_input", "2526000000"),
            ("hwmon/hwmon4/freq2_input", "1249000000"),
            ("hwmon/hwmon4/temp1_label", "edge"),
            ("hwmon/hwmon4/temp1_input", "54000"),
            ("hwmon/hwmon4/temp1_crit", "100000"),
            ("hwmon/hwmon4/temp2_label", "junction"),
            ("hwmon/hwmon4/temp2_input", "70000"),
            ("hwmon/hwmon4/temp3_label", "mem"),
            ("hwmon/hwmon4/temp3_input", "66000"),
        ],
    );
    let other = sys.path().join("devices/pci0000:00/0000:00:02.0");
    write(&other, &[("vendor", "0x8086")]);
    for (card, device) in [("card0", other), ("card1", card.clone()), ("card1-DP-1", card)] {
        let folder = sys.path().join("class/drm").join(card);
        fs::create_dir_all(&folder).unwrap();
        symlink(device, folder.join("device")).unwrap();
    }
    sys
}

#[test]
fn the_kernels_files_become_metrics() {
    let sys = tree();
    let (recorder, page) = page();
    let source = AutoSource::new(NvmlSource::new().library_path("/nowhere"), AmdSource::at(sys.path()));
    let builder = GpuCollector::builder().recorder(recorder).source(source).period(Duration::from_millis(100));
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_utilization_ratio", &[]) == Some(0.37));
    for (name, labels, expected) in [
        ("gpu_info", &["name=\"AMD 0x744c\"", "pci_bus_id=\"0000:03:00.0\"", "AMD-be0ff0a1b2c3d4e5"][..], 1.0),
        ("gpu_memory_used_bytes", &[], 8_589_934_592.0),
        ("gpu_memory_total_bytes", &[], 25_753_026_560.0),
        ("gpu_memory_controller_utilization_ratio", &[], 0.12),
        ("gpu_power_watts", &["reading=\"driver\""], 145.0),
        ("gpu_power_limit_watts", &["kind=\"enforced\""], 303.0),
        ("gpu_power_limit_watts", &["kind=\"max\""], 348.0),
        ("gpu_clock_hertz", &["domain=\"sm\""], 2.526e9),
        ("gpu_temperature_celsius", &["sensor=\"gpu\""], 54.0),
        ("gpu_temperature_celsius", &["sensor=\"memory\""], 66.0),
        ("gpu_temperature_limit_celsius", &["kind=\"gpu_max\""], 100.0),
        ("gpu_pcie_link_generation", &["state=\"current\""], 4.0),
        ("gpu_pcie_link_width", &["state=\"max\""], 16.0),
        ("gpu_pcie_replays_total", &[], 3.0),
    ] {
        assert_eq!(page.value(name, labels), Some(expected), "{name} {labels:?}");
    }
    assert_eq!(page.value("gpu_energy_joules_total", &[]), None, "this card does not tell");
}

#[test]
fn a_card_that_sleeps_is_left_asleep_and_one_that_is_gone_is_lost() {
    let sys = tree();
    let card = sys.path().join("devices/pci0000:00").join(ADDRESS);
    let (recorder, page) = page();
    let builder = GpuCollector::builder().recorder(recorder).source(AmdSource::at(sys.path()));
    let _collector = builder.period(Duration::from_millis(100)).start();
    page.until("it is up", |page| page.value("gpu_utilization_ratio", &[]) == Some(0.37));
    write(&card, &[("power/runtime_status", "suspended")]);
    page.until("it sleeps", |page| page.value("gpu_memory_used_bytes", &[]).is_some_and(f64::is_nan));
    assert_eq!(page.value("gpu_up", &[]), Some(1.0));
    fs::remove_dir_all(&card).unwrap();
    page.until("it is gone", |page| page.value("gpu_up", &[]) == Some(0.0));
}

#[test]
fn the_driver_of_nvidia_takes_over_when_it_appears() {
    let sys = tree();
    let (recorder, page) = page();
    let library = sys.path().join("libnvidia-ml.so.1");
    let source = AutoSource::new(NvmlSource::new().library_path(&library), AmdSource::at(sys.path()));
    let builder = GpuCollector::builder().recorder(recorder).source(source).period(Duration::from_millis(100));
    let _collector = builder.start();
    page.until("it is up", |page| page.value("gpu_up", &["AMD-be0ff0a1b2c3d4e5"]) == Some(1.0));
    fs::copy(support::fake_library(), sys.path().join("new")).unwrap();
    fs::rename(sys.path().join("new"), library).unwrap();
    page.until("the other is asked", |page| page.value("gpu_up", &["AMD-be0ff0a1b2c3d4e5"]) == Some(0.0));
    assert_eq!(page.value("gpu_collector_reinits_total", &[]), Some(1.0));
}

#[test]
fn a_card_keeps_its_number_when_another_one_leaves() {
    let sys = tree();
    let second = sys.path().join("devices/pci0000:00/0000:83:00.0");
    write(&second, &[("vendor", "0x1002"), ("unique_id", "b"), ("gpu_busy_percent", "10")]);
    let folder = sys.path().join("class/drm/card2");
    fs::create_dir_all(&folder).unwrap();
    symlink(&second, folder.join("device")).unwrap();
    let (recorder, page) = page();
    let builder = GpuCollector::builder().recorder(recorder).source(AmdSource::at(sys.path()));
    let again = Duration::from_millis(100);
    let _collector = builder.period(again).look_again(again).start();
    page.until("both are up", |page| page.value("gpu_utilization_ratio", &["AMD-b", "gpu=\"2\""]) == Some(0.1));
    fs::remove_dir_all(sys.path().join("devices/pci0000:00").join(ADDRESS)).unwrap();
    page.until("one is gone", |page| page.value("gpu_up", &["gpu=\"1\""]) == Some(0.0));
    write(&second, &[("gpu_busy_percent", "20")]);
    page.until("the other goes on", |page| page.value("gpu_utilization_ratio", &["AMD-b", "gpu=\"2\""]) == Some(0.2));
}

#[test]
fn a_machine_without_such_a_card_has_no_driver() {
    let sys = tempfile::tempdir().unwrap();
    let (recorder, page) = page();
    let _collector = GpuCollector::builder().recorder(recorder).source(AmdSource::at(sys.path())).start();
    page.until("it is down", |page| {
        page.value("gpu_collector_errors_total", &["kind=\"no_driver\""]).is_some_and(|count| count > 0.0)
    });
}
