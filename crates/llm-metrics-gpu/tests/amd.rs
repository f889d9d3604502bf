//! AMD GPUs, on a tree of files that the test creates.

#![cfg(target_os = "linux")]

mod support;

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use llm_metrics_gpu::{
    GpuCollector,
    source::{AmdSource, AutoSource, GpuSession, GpuSource, NvmlSource},
};
use serde_json::json;
use support::{Fake, Page, device, machine, page};

const ADDRESS: &str = "0000:03:00.0";

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

/// A tree with one discrete card, one card of another vendor, and a connector, like those in `/sys`.
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
        ("gpu_temperature_celsius", &["sensor=\"junction\""], 70.0),
        ("gpu_temperature_celsius", &["sensor=\"memory\""], 66.0),
        ("gpu_temperature_limit_celsius", &["kind=\"gpu_max\""], 100.0),
        ("gpu_pcie_link_generation", &["state=\"current\""], 4.0),
        ("gpu_pcie_link_width", &["state=\"max\""], 16.0),
        ("gpu_pcie_replays_total", &[], 3.0),
    ] {
        assert_eq!(page.value(name, labels), Some(expected), "{name} {labels:?}");
    }
    assert_eq!(page.value("gpu_energy_joules_total", &[]), None, "this card has no such file");
}

/// A collector on this tree that ticks and searches as often as it can.
fn on(sys: &Path) -> (GpuCollector, Page) {
    let (recorder, page) = page();
    let quick = Duration::from_millis(100);
    let builder = GpuCollector::builder().recorder(recorder).source(AmdSource::at(sys));
    (builder.period(quick).slow_period(quick).rediscovery_interval(quick).start(), page)
}

/// Adds another card at this path below `devices`.
fn card(sys: &Path, number: u32, path: &str, files: &[(&str, &str)]) {
    let device = sys.join("devices").join(path);
    write(&device, &[("vendor", "0x1002"), ("device", "0x74a1"), ("power/runtime_status", "active")]);
    write(&device, files);
    let folder = sys.join(format!("class/drm/card{number}"));
    fs::create_dir_all(&folder).unwrap();
    symlink(device, folder.join("device")).unwrap();
}

/// MI300: the kernel does not show its `edge` sensor (Syllo/nvtop#514).
#[test]
fn a_card_without_an_edge_sensor_is_as_hot_as_its_hottest_spot() {
    let sys = tempfile::tempdir().unwrap();
    let files = [
        ("hwmon/hwmon4/temp2_label", "junction"),
        ("hwmon/hwmon4/temp2_input", "43000"),
        ("hwmon/hwmon4/temp2_crit", "100000"),
        ("hwmon/hwmon4/temp3_label", "mem"),
        ("hwmon/hwmon4/temp3_input", "37000"),
    ];
    card(sys.path(), 1, "pci0000:00/0000:05:00.0", &files);
    let (_collector, page) = on(sys.path());
    page.until("it is up", |page| page.value("gpu_temperature_celsius", &["sensor=\"memory\""]) == Some(37.0));
    assert_eq!(page.value("gpu_temperature_celsius", &["sensor=\"gpu\""]), Some(43.0));
    assert_eq!(page.value("gpu_temperature_celsius", &["sensor=\"junction\""]), Some(43.0));
    for kind in ["gpu_max", "junction_max"] {
        assert_eq!(page.value("gpu_temperature_limit_celsius", &[&format!("kind=\"{kind}\"")]), Some(100.0));
    }
}

/// LACT#334, Syllo/nvtop#138, nokyan/resources#512: the function reports the link inside the card, the port that of the slot.
#[test]
fn the_link_is_the_narrowest_between_the_slot_and_the_device() {
    let sys = tempfile::tempdir().unwrap();
    let bridge = |path: &str, speed: &str, width: &str| {
        let files = [
            ("class", "0x060400"),
            ("current_link_speed", speed),
            ("current_link_width", width),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("max_link_width", width),
        ];
        write(&sys.path().join("devices").join(path), &files);
    };
    // A device above the root port is not a bridge, so its link is ignored.
    write(
        &sys.path().join("devices/pci0000:00"),
        &[("current_link_width", "1"), ("current_link_speed", "2.5 GT/s PCIe")],
    );
    bridge("pci0000:00/0000:00:01.0", "8.0 GT/s PCIe", "4");
    bridge("pci0000:00/0000:00:01.0/0000:01:00.0", "16.0 GT/s PCIe", "16");
    let files = [
        ("current_link_speed", "16.0 GT/s PCIe"),
        ("current_link_width", "16"),
        ("max_link_speed", "16.0 GT/s PCIe"),
        ("max_link_width", "16"),
    ];
    card(sys.path(), 1, "pci0000:00/0000:00:01.0/0000:01:00.0/0000:03:00.0", &files);
    let (_collector, page) = on(sys.path());
    page.until("it is up", |page| page.value("gpu_pcie_link_width", &["state=\"current\""]) == Some(4.0));
    assert_eq!(page.value("gpu_pcie_link_generation", &["state=\"current\""]), Some(3.0));
    assert_eq!(page.value("gpu_pcie_link_generation", &["state=\"max\""]), Some(4.0));
    assert_eq!(page.value("gpu_pcie_link_width", &["state=\"max\""]), Some(4.0));
}

/// Strix Halo and similar: the model is in system memory; the card's own memory is a carve-out of 512 MiB.
#[test]
fn memory_of_an_apu_is_more_than_its_carve_out() {
    let sys = tempfile::tempdir().unwrap();
    let files = [
        ("mem_info_vram_total", "536870912"),
        ("mem_info_vram_used", "402653184"),
        ("mem_info_gtt_total", "103079215104"),
        ("mem_info_gtt_used", "68719476736"),
    ];
    card(sys.path(), 1, "pci0000:00/0000:c5:00.0", &files);
    let (_collector, page) = on(sys.path());
    page.until("it is up", |page| page.value("gpu_up", &[]) == Some(1.0));
    for (name, bytes) in [
        ("gpu_memory_used_bytes", 402_653_184.0),
        ("gpu_memory_total_bytes", 536_870_912.0),
        ("gpu_system_memory_used_bytes", 68_719_476_736.0),
        ("gpu_system_memory_total_bytes", 103_079_215_104.0),
    ] {
        assert_eq!(page.value(name, &[]), Some(bytes), "{name}");
    }
}

#[test]
fn cards_with_the_same_id_are_distinguished_by_their_address() {
    let sys = tempfile::tempdir().unwrap();
    for n in 1..=2 {
        let busy = format!("{n}0");
        let files = [("gpu_busy_percent", busy.as_str()), ("unique_id", "0000000000000000")];
        card(sys.path(), n, &format!("pci0000:00/0000:0{n}:00.0"), &files);
    }
    card(sys.path(), 3, "pci0000:00/0000:03:00.0", &[("unique_id", "abc")]);
    let (_collector, page) = on(sys.path());
    page.until("all are up", |page| {
        page.value("gpu_utilization_ratio", &["gpu=\"1\"", "gpu_uuid=\"0000:01:00.0\""]) == Some(0.1)
            && page.value("gpu_utilization_ratio", &["gpu=\"2\"", "gpu_uuid=\"0000:02:00.0\""]) == Some(0.2)
            && page.value("gpu_up", &["gpu=\"3\"", "gpu_uuid=\"AMD-abc\""]) == Some(1.0)
    });
}

#[test]
fn it_may_freeze() {
    let sys = tempfile::tempdir().unwrap();
    card(
        sys.path(),
        1,
        "pci0000:00/0000:05:00.0",
        &[("hwmon/h/temp1_label", "edge"), ("hwmon/h/temp1_input", "-5000")],
    );
    let (_collector, page) = on(sys.path());
    page.until("it is read", |page| page.value("gpu_temperature_celsius", &["sensor=\"gpu\""]) == Some(-5.0));
    assert_eq!(page.value("gpu_collector_errors_total", &["kind=\"out_of_range\""]), Some(0.0));
}

/// The second die of an MI250: its power is included in that of the first (ml-energy/zeus#203).
#[test]
fn a_power_of_zero_is_not_reported() {
    let sys = tempfile::tempdir().unwrap();
    card(sys.path(), 1, "pci0000:00/0000:05:00.0", &[("gpu_busy_percent", "9"), ("hwmon/h/power1_average", "0")]);
    card(sys.path(), 2, "pci0000:00/0000:06:00.0", &[("gpu_busy_percent", "9"), ("hwmon/h/power1_input", "61000000")]);
    let (_collector, page) = on(sys.path());
    page.until("both are read", |page| {
        page.value("gpu_power_watts", &["gpu=\"2\"", "reading=\"instant\""]) == Some(61.0)
    });
    page.until("the first too", |page| page.value("gpu_up", &["gpu=\"1\""]) == Some(1.0));
    assert_eq!(page.value("gpu_power_watts", &["gpu=\"1\""]), None);
}

#[test]
fn a_card_that_comes_later_is_found_while_another_one_is_well() {
    let sys = tempfile::tempdir().unwrap();
    card(sys.path(), 1, "pci0000:00/0000:05:00.0", &[("gpu_busy_percent", "1")]);
    // A collector with default settings.
    let (recorder, page) = page();
    let quick = Duration::from_millis(100);
    let source = AutoSource::new(NvmlSource::new().library_path("/nowhere"), AmdSource::at(sys.path()));
    let builder = GpuCollector::builder().recorder(recorder).source(source);
    let _collector = builder.period(quick).slow_period(quick).rediscovery_interval(quick).start();
    page.until("it is up", |page| page.value("gpu_up", &["gpu=\"1\""]) == Some(1.0));
    card(sys.path(), 2, "pci0000:00/0000:06:00.0", &[("gpu_busy_percent", "2")]);
    page.until("the other is too", |page| page.value("gpu_utilization_ratio", &["gpu=\"2\""]) == Some(0.02));
    assert_eq!(page.value("gpu_devices", &["state=\"found\""]), Some(2.0));
}

#[test]
fn a_card_that_comes_goes_or_takes_the_number_of_another_is_a_change_and_nothing_else_is() {
    let sys = tempfile::tempdir().unwrap();
    card(sys.path(), 1, "pci0000:00/0000:05:00.0", &[]);
    let mut source = AmdSource::at(sys.path());
    let opened = source.session(&mut |session| {
        let found = |session: &mut dyn GpuSession| {
            assert!(session.has_changed());
            let found = session.enumerate().unwrap().found;
            assert!(!session.has_changed(), "it was looked at");
            found.into_iter().map(|gpu| gpu.uuid).collect::<Vec<_>>()
        };
        assert_eq!(found(session), ["0000:05:00.0"]);
        card(sys.path(), 2, "pci0000:00/0000:06:00.0", &[]);
        assert_eq!(found(session), ["0000:05:00.0", "0000:06:00.0"]);
        fs::remove_dir_all(sys.path().join("class/drm/card2")).unwrap();
        assert_eq!(found(session), ["0000:05:00.0"]);
        fs::remove_dir_all(sys.path().join("class/drm/card1")).unwrap();
        card(sys.path(), 1, "pci0000:00/0000:07:00.0", &[]);
        assert_eq!(found(session), ["0000:07:00.0"], "in the slot of the other");
    });
    opened.unwrap();
}

/// An eGPU that is not connected: some drivers then fail to initialise.
#[test]
fn a_driver_of_nvidias_without_a_gpu_does_not_hide_the_other_vendors_card() {
    for state in [machine(&[]), json!({ "init_return": 28 })] {
        let sys = tree();
        let fake = Fake::state(&state);
        let (recorder, page) = page();
        let source = AutoSource::new(fake.source(), AmdSource::at(sys.path()));
        let builder = GpuCollector::builder().recorder(recorder).source(source).period(Duration::from_millis(100));
        let _collector = builder.start();
        page.until("it is up", |page| page.value("gpu_utilization_ratio", &[]) == Some(0.37));
        // It is connected.
        fake.set(&machine(&[device("GPU-a", json!({}))]));
        page.until("it is preferred", |page| page.value("gpu_up", &["GPU-a"]) == Some(1.0));
    }
}

#[test]
fn a_card_that_comes_after_a_driver_without_a_gpu_is_found() {
    let sys = tempfile::tempdir().unwrap();
    let fake = Fake::state(&machine(&[]));
    let (recorder, page) = page();
    let source = AutoSource::new(fake.source(), AmdSource::at(sys.path()));
    let builder = GpuCollector::builder().recorder(recorder).source(source).period(Duration::from_millis(100));
    let _collector = builder.start();
    page.until("the driver is up", |page| page.value("gpu_collector_up", &[]) == Some(1.0));
    assert_eq!(page.value("gpu_devices", &["state=\"found\""]), Some(0.0));
    card(sys.path(), 1, "pci0000:00/0000:05:00.0", &[("gpu_busy_percent", "7")]);
    page.until("it is found", |page| page.value("gpu_utilization_ratio", &[]) == Some(0.07));
    assert_eq!(fake.number("fake_nvml_initialised"), 0, "the other driver is closed");
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
    let fake = Fake::profile("h200");
    fs::hard_link(fake.path(), library).unwrap();
    page.until("the other is asked", |page| page.value("gpu_up", &["AMD-be0ff0a1b2c3d4e5"]) == Some(0.0));
    page.until("the change is counted", |page| page.value("gpu_collector_reinits_total", &[]) == Some(1.0));
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
    let _collector = builder.period(again).rediscovery_interval(again).start();
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
