//! Every getter: its result, and how long it takes.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{
        Clock, EccCounter, MemoryError, PcieUtilCounter, Sampling, TemperatureSensor, TemperatureThreshold,
    },
    error::NvmlError,
    structs::device::FieldId,
};

/// The fields that the collector requests in batches, and others that may be useful.
pub(crate) const FIELDS: &[(u32, &str)] = &[
    (186, "power, instant (mW)"),
    (185, "power, average (mW)"),
    (82, "memory temperature"),
    (83, "energy (mJ)"),
    (94, "PCIe replays"),
    (142, "rows remapped, correctable"),
    (143, "rows remapped, uncorrectable"),
    (144, "row remapping pending"),
    (145, "row remapping failed"),
    (230, "recovery action"),
    (3, "ECC corrected, volatile"),
    (4, "ECC uncorrected, volatile"),
    (5, "ECC corrected, aggregate"),
    (6, "ECC uncorrected, aggregate"),
    (138, "NVLink data sent, link 0 (KiB)"),
    (139, "NVLink data received, link 0 (KiB)"),
    (74, "throttled by the power cap"),
    (76, "throttled by sync boost"),
    (251, "throttled by software, thermal"),
    (252, "throttled by hardware, thermal"),
    (253, "throttled by the power brake"),
    (193, "margin to shutdown"),
    (194, "margin to slowdown"),
    (195, "margin to the memory's maximum"),
    (196, "margin to the GPU's maximum"),
    (197, "PCIe bytes sent, cumulative"),
    (198, "PCIe bytes received, cumulative"),
];

/// How often each getter is called.
const TIMES: usize = 20;

pub(crate) fn timed<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let value = body();
    (value, began.elapsed())
}

pub(crate) fn report(device: &Device<'_>) {
    println!("| call | median us | max us | answer |\n| --- | ---: | ---: | --- |");
    row("utilization_rates", || device.utilization_rates());
    row("samples(utilisation)", || device.samples(Sampling::GpuUtilization, 0).map(|samples| samples.len()));
    row("memory_info (v2)", || device.memory_info());
    row("clock_info(SM)", || device.clock_info(Clock::SM));
    row("clock_info(memory)", || device.clock_info(Clock::Memory));
    row("max_clock_info(SM)", || device.max_clock_info(Clock::SM));
    row("current_throttle_reasons", || device.current_throttle_reasons());
    row("power_usage", || device.power_usage());
    row("enforced_power_limit", || device.enforced_power_limit());
    row("power_management_limit_default", || device.power_management_limit_default());
    row("power_management_limit_constraints", || device.power_management_limit_constraints());
    row("total_energy_consumption", || device.total_energy_consumption());
    row("temperature(GPU)", || device.temperature(TemperatureSensor::Gpu));
    for (name, threshold) in [
        ("slowdown", TemperatureThreshold::Slowdown),
        ("shutdown", TemperatureThreshold::Shutdown),
        ("mem_max", TemperatureThreshold::MemoryMax),
        ("gpu_max", TemperatureThreshold::GpuMax),
    ] {
        row(&format!("temperature_threshold({name})"), || device.temperature_threshold(threshold));
    }
    row("current_pcie_link_gen", || device.current_pcie_link_gen());
    row("current_pcie_link_width", || device.current_pcie_link_width());
    row("max_pcie_link_gen", || device.max_pcie_link_gen());
    row("max_pcie_link_width", || device.max_pcie_link_width());
    row("pcie_replay_counter", || device.pcie_replay_counter());
    row("pcie_throughput(send)", || device.pcie_throughput(PcieUtilCounter::Send));
    row("total_ecc_errors", || device.total_ecc_errors(MemoryError::Corrected, EccCounter::Aggregate));
    row("running_compute_processes", || device.running_compute_processes().map(|processes| processes.len()));
    row("mig_mode", || device.mig_mode());
    row("gpm_support", || device.gpm_support());
    row("gpm_sample", || device.gpm_sample().map(|_| "a sample"));
    let batch = |fields: &[(u32, &str)]| fields.iter().map(|(id, _)| FieldId(*id)).collect::<Vec<_>>();
    row("2 fields in one call", || device.field_values_for(&batch(&FIELDS[..2])).map(|values| values.len()));
    row("12 fields in one call", || device.field_values_for(&batch(&FIELDS[2..14])).map(|values| values.len()));

    println!("\n| field | what | answer |\n| ---: | --- | --- |");
    for (id, what) in FIELDS {
        let value = device.field_values_for(&[FieldId(*id)]).map(|mut values| values.remove(0));
        match value {
            Ok(Ok(sample)) => println!("| {id} | {what} | {} |", short(&sample.value)),
            Ok(Err(error)) | Err(error) => println!("| {id} | {what} | {} |", short(&error)),
        }
    }
}

fn row<T: Debug>(name: &str, mut call: impl FnMut() -> Result<T, NvmlError>) {
    let mut took = Vec::with_capacity(TIMES);
    let mut answer = String::new();
    for _ in 0..TIMES {
        let (result, duration) = timed(&mut call);
        took.push(duration);
        answer = match result {
            Ok(value) => short(&value),
            Err(error) => format!("**{}**", short(&error)),
        };
    }
    took.sort_unstable();
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    println!("| {name} | {:.1} | {:.1} | {answer} |", micros(took[TIMES / 2]), micros(took[TIMES - 1]));
}

fn short(value: &impl Debug) -> String {
    let text: String = format!("{value:?}").chars().take(160).collect();
    text.replace('|', "\\|")
}
