//! The state of the GPUs.

use llm_metrics_gpu::catalog as gpu;

use super::{
    model::{BAD, Column, Dashboard, GOOD, Panel, RATE, Row, Scope, units},
    parts::{GPU_VARIABLES, gpu_memory_limits, gpu_memory_used},
};
use crate::{
    counter, gauge,
    promql::{Expr, Gauge, Window},
    recording::{Recording, alive},
    slo::Slo,
    vocabulary::{GPU, INSTANCE, JOB},
};

const SCOPE: Scope = &[(JOB, "job"), (INSTANCE, "instance"), (GPU, "gpu")];
const EACH: [&str; 2] = [INSTANCE, GPU];
const NAME: &str = "{{instance}} GPU {{gpu}}";

pub(super) fn dashboard(slo: &Slo, rules: &Recording) -> Dashboard {
    Dashboard {
        uid: "llm-gpu",
        title: "LLM GPUs",
        description: "The state of the GPUs. Values that a device does not report are missing.",
        variables: GPU_VARIABLES,
        scope: SCOPE,
        rows: vec![
            Row::new("Health", "No GPU is monitored", health()),
            Row::new("GPUs", "No GPU is monitored", at_a_glance(slo)),
            Row::new("Memory", "No GPU is monitored", memory(slo, rules)),
            Row::new("Load", "No GPU is monitored", load()),
            Row::new("Power, temperature and clocks", "No GPU is monitored", power(rules)),
            Row::new("Links", "No GPU is monitored", links()),
            Row::new("Devices", "No GPU is monitored", devices()),
        ],
    }
}

/// A gauge of each GPU that answers.
fn each(gauge: Gauge) -> Expr {
    alive(gauge.now()).max_by(EACH)
}

/// Lines have eight colours, enough for the GPUs of one machine. Here each of all GPUs has its name, and only shades represent values.
fn at_a_glance(slo: &Slo) -> Vec<Panel> {
    let clock = |gauge: Gauge| gauge.with("domain", "sm").now();
    let share =
        |title| Column { bar: true, decimals: Some(0), steps: vec![(2.0, BAD)], ..Column::new(title, units::RATIO) };
    vec![
        Panel::table(
            "GPUs, now",
            "One line per GPU, lost GPUs first. Click on a heading to sort. Memory is allocated memory, so engines that allocate everything at the start are always full.",
            &[
                (INSTANCE, "Instance"),
                (GPU, "GPU"),
                ("Value #F", "State"),
                ("Value #A", "Utilisation"),
                ("Value #B", "Memory"),
                ("Value #C", "Clock"),
                ("Value #D", "Temperature"),
                ("Value #E", "Power"),
            ],
        )
        .instant(each(gauge!(gpu::UTILIZATION)), "")
        .instant(gpu_memory_used(), "")
        .instant(alive(clock(gauge!(gpu::CLOCK)) / clock(gauge!(gpu::CLOCK_MAX))).max_by(EACH), "")
        .instant(each(gauge!(gpu::TEMPERATURE).with("sensor", "gpu")), "")
        .instant(each(gauge!(gpu::POWER).without("reading", "average_1s")), "")
        .instant(1.0 - gauge!(gpu::UP).now().min_by(EACH), "")
        .column(Column { width: Some(50), ..Column::new("GPU", units::NONE) })
        .column(Column {
            texts: vec![("0", "up".to_owned()), ("1", "lost".to_owned())],
            steps: vec![(1.0, BAD)],
            width: Some(60),
            ..Column::new("State", units::NONE)
        })
        .column(share("Utilisation"))
        .column(Column { steps: gpu_memory_limits(slo).into(), ..share("Memory") })
        .column(Column { decimals: Some(0), width: Some(70), ..Column::new("Clock", units::RATIO) })
        .column(Column { decimals: Some(0), width: Some(100), ..Column::new("Temperature", units::CELSIUS) })
        .column(Column { decimals: Some(0), width: Some(80), ..Column::new("Power", units::WATTS) })
        .sort("State")
        .sort("Memory")
        .size(12, 18),
        Panel {
            unit: units::RATIO,
            ..Panel::states(
                "Utilisation of each GPU",
                "Share of time in which at least one kernel ran, even a small one. Lighter is busier. If there are too many machines to read, select some above.",
                &[],
            )
        }
        .target(each(gauge!(gpu::UTILIZATION)), NAME)
        .decimals(0)
        .steps("#1f2d3d", &[(0.05, "dark-blue"), (0.25, "blue"), (0.5, "light-blue"), (0.75, "super-light-blue"), (0.9, "#f4f9ff")])
        .size(12, 18),
    ]
}

fn memory(slo: &Slo, rules: &Recording) -> Vec<Panel> {
    // Like the alert: a slope of less than an hour has no meaning.
    let known = rules.gpu_memory_ratio.gauge().offset(Window::hours(1)).now();
    let forecast = rules.gpu_memory_forecast.now().and(known);
    vec![
        Panel::lines(
            "Memory used",
            format!(
                "Share of the memory that is allocated. After the first hour, also the forecast for {} h, if the growth of the last hour and of the last 15 minutes continues.",
                slo.gpu.memory_forecast_hours
            ),
            units::RATIO,
        )
        .target(gpu_memory_used(), NAME)
        .target(forecast.max_by(EACH), "{{instance}} GPU {{gpu}}, forecast")
        .dashed("forecast")
        // Values above are full.
        .between(0.0, 1.2)
        .steps(GOOD, &gpu_memory_limits(slo)),
        Panel::lines("Memory in bytes", "Allocated memory, and total memory (dashed). An APU mostly uses system memory.", units::BYTES)
            .target(each(gauge!(gpu::MEMORY_USED)), NAME)
            .target(each(gauge!(gpu::MEMORY_TOTAL)), "{{instance}} GPU {{gpu}}, all")
            .target(each(gauge!(gpu::SYSTEM_MEMORY_USED)), "{{instance}} GPU {{gpu}}, system memory")
            .dashed(", all$"),
    ]
}

fn load() -> Vec<Panel> {
    let ratio = |title, description, gauge: Gauge| {
        Panel::lines(title, description, units::RATIO).target(each(gauge), NAME).between(0.0, 1.0).size(8, 7)
    };
    let by_gpm = |title, description, gauge: Gauge| {
        ratio(title, description, gauge).empty("Not reported (Hopper and later report it)")
    };
    let clock = |gauge: Gauge| gauge.with("domain", "sm").now();
    vec![
        ratio(
            "Utilisation",
            "Share of time in which at least one kernel ran, even a small one.",
            gauge!(gpu::UTILIZATION),
        ),
        ratio(
            "Utilisation, peaks",
            "The highest of the driver's samples in the last minute. It includes peaks between two scrapes.",
            gauge!(gpu::UTILIZATION_MAX),
        ),
        Panel::lines(
            "Busy",
            "Share of time in which a kernel ran, from a counter: nothing between two scrapes is lost.",
            units::RATIO,
        )
        .target(counter!(gpu::BUSY).rate(Window::minutes(5)).max_by(EACH), NAME)
        .between(0.0, 1.0)
        .size(8, 7),
        by_gpm(
            "Multiprocessors",
            "Share of the multiprocessors that were active, averaged over time. Hopper and later.",
            gauge!(gpu::SM_ACTIVE),
        ),
        by_gpm(
            "Tensor cores",
            "Share of time in which the tensor cores were active. Hopper and later.",
            gauge!(gpu::TENSOR_ACTIVE),
        ),
        by_gpm(
            "Memory bandwidth",
            "Share of the memory bandwidth that was used, which usually limits decoding. Hopper and later.",
            gauge!(gpu::DRAM_ACTIVE),
        ),
        by_gpm(
            "Occupancy",
            "Active warps, divided by the maximum of the multiprocessors. Hopper and later.",
            gauge!(gpu::SM_OCCUPANCY),
        ),
        ratio(
            "Memory controller",
            "Share of time in which memory was read or written. This is not the amount of used memory.",
            gauge!(gpu::MEMORY_CONTROLLER),
        ),
        Panel::lines("Clock", "The clock of the multiprocessors, divided by its maximum.", units::RATIO)
            .target(alive(clock(gauge!(gpu::CLOCK)) / clock(gauge!(gpu::CLOCK_MAX))).max_by(EACH), NAME)
            .between(0.0, 1.0)
            .size(8, 7),
        by_gpm(
            "Engine",
            "Share of time in which the graphics or compute engine was busy. Hopper and later.",
            gauge!(gpu::ENGINE_ACTIVE),
        ),
        Panel::lines(
            "Video",
            "Share of time in which the video encoder and decoder were active. A model that reads videos needs the decoder.",
            units::RATIO,
        )
        .target(each(gauge!(gpu::ENCODER)).gt(0.0), "{{instance}} GPU {{gpu}}, encoder")
        .target(each(gauge!(gpu::DECODER)).gt(0.0), "{{instance}} GPU {{gpu}}, decoder")
        .between(0.0, 1.0)
        .empty("Neither worked")
        .size(16, 7),
    ]
}

fn power(rules: &Recording) -> Vec<Panel> {
    vec![
        Panel::lines("Power", "Power draw of the board, and the enforced limit (dashed).", units::WATTS)
            .target(each(gauge!(gpu::POWER).without("reading", "average_1s")), NAME)
            .target(each(gauge!(gpu::POWER_LIMIT).with("kind", "enforced")), "{{instance}} GPU {{gpu}}, limit")
            .dashed(", limit$")
            .decimals(0),
        Panel::lines(
            "Temperature",
            "Temperature of the die, and the temperature at which the device slows down (dashed).",
            units::CELSIUS,
        )
        .target(each(gauge!(gpu::TEMPERATURE).with("sensor", "gpu")), NAME)
        .target(each(gauge!(gpu::TEMPERATURE_LIMIT).with("kind", "slowdown")), "{{instance}} GPU {{gpu}}, slows down")
        .dashed("slows down$")
        .decimals(0),
        Panel::states(
            "Throttled GPUs",
            "Number of GPUs, by reason. Normal reasons, such as `sw_power_cap` at full load, are in the panel below.",
            &[("0", "none", "semi-dark-blue"), ("1", "1 GPU", "orange")],
        )
        .target(
            alive(
                gauge!(gpu::CLOCK_EVENT)
                    .without_any(
                        "reason",
                        [
                            "gpu_idle",
                            "applications_clocks_setting",
                            "display_clock_setting",
                            "sync_boost",
                            "sw_power_cap",
                        ],
                    )
                    .now(),
            )
            .sum_by(["reason"]),
            "{{reason}}",
        )
        .steps("semi-dark-blue", &[(1.0, "orange"), (2.0, "dark-red")]),
        Panel::lines(
            "Energy per token",
            "Energy of the GPUs divided by output tokens. It includes the energy for prompts. Recorded over five minutes.",
            units::JOULES_PER_TOKEN,
        )
        .target(rules.joules_per_token.now(), "{{instance}}")
        .empty("No tokens, or no GPU reports its energy"),
        Panel::lines(
            "Throttled time",
            "Share of time, from the driver's counter. It includes events that are shorter than the polling interval.",
            units::RATIO,
        )
        .target(
            counter!(gpu::CLOCK_EVENT_SECONDS).rate(RATE).max_by([INSTANCE, GPU, "reason"]).gt(0.0),
            "{{instance}} GPU {{gpu}} {{reason}}",
        )
        .between(0.0, 1.0)
        .empty("No GPU was throttled, or no driver reports it")
        .size(24, 7),
    ]
}

fn links() -> Vec<Panel> {
    let directions = |title, description, expr: Expr| {
        Panel::lines(title, description, units::BYTES_PER_SECOND)
            .target(expr, "{{instance}} GPU {{gpu}} {{direction}}")
            .empty("No GPU has it, or reports it")
            .size(8, 7)
    };
    vec![
        directions(
            "PCIe",
            "Traffic from the view of the device: `tx` is sent by it.",
            alive(gauge!(gpu::PCIE_THROUGHPUT).now()).max_by([INSTANCE, GPU, "direction"]),
        ),
        directions(
            "NVLink",
            "Traffic over all links, without protocol overhead.",
            counter!(gpu::NVLINK).rate(RATE).sum_by([INSTANCE, GPU, "direction"]),
        ),
        Panel::bars("Repeated PCIe transfers", "More than occasional repeats mean a bad slot or cable.", units::COUNT)
            .target(counter!(gpu::PCIE_REPLAYS).increase(RATE).sum_by(EACH).gt(0.0), NAME)
            .empty("None")
            .size(8, 7),
        Panel::bars("NVLink errors", "By kind. Occasional replays are normal; recoveries are not.", units::COUNT)
            .target(
                counter!(gpu::NVLINK_ERRORS).increase(RATE).sum_by([INSTANCE, GPU, "error"]).gt(0.0),
                "{{instance}} GPU {{gpu}} {{error}}",
            )
            .empty("None, or NVLink does not report it")
            .size(24, 7),
    ]
}

/// Problems that cause a page.
fn health() -> Vec<Panel> {
    vec![
        Panel::stat("GPUs lost", "GPUs that do not answer, or that are configured but missing.", units::COUNT)
            .target(gauge!(gpu::DEVICES).with("state", "missing").now().sum(), "lost")
            .steps("blue", &[(1.0, "dark-red")])
            .size(4, 7),
        Panel::table(
            "XIDs",
            "When the driver last reported each of them, per GPU. The runbook lists the critical ones.",
            &[(INSTANCE, "Instance"), (GPU, "GPU"), ("xid", "XID"), ("Value", "Last")],
        )
        .instant(gauge!(gpu::XID_LAST).now() * 1000.0, "")
        .column(Column { width: Some(160), ..Column::new("Last", units::TIME) })
        .sort("Last")
        .empty("None")
        .size(8, 7),
        Panel::bars(
            "Memory errors",
            "Corrected errors need attention if they are frequent, uncorrected errors always.",
            units::COUNT,
        )
        .target(
            counter!(gpu::ECC_ERRORS).with("counter", "volatile").increase(RATE).sum_by(["severity"]),
            "{{severity}}",
        )
        .colors(&[("corrected", "yellow"), ("uncorrected", "dark-red")])
        .empty("No GPU reports them")
        .size(12, 7),
    ]
}

fn devices() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Remapped memory rows",
            "By cause. Also GPUs that need a reset to remap a row, and GPUs whose remapping failed, which must be replaced. Lost GPUs are not counted.",
            units::COUNT,
        )
        .target(alive(gauge!(gpu::REMAPPED_ROWS).now()).sum_by(["cause"]), "{{cause}}")
        .target(alive(gauge!(gpu::ROW_REMAP_PENDING).now()).sum(), "GPUs that need a reset")
        .target(alive(gauge!(gpu::ROW_REMAP_FAILED).now()).sum(), "GPUs to replace")
        .colors(&[
            ("correctable", "blue"),
            ("uncorrectable", "super-light-blue"),
            ("GPUs that need a reset", "orange"),
            ("GPUs to replace", "dark-red"),
        ])
        .reach(1.0)
        .empty("Not reported (Ampere and later report it)")
        .size(8, 7),
        Panel::table(
            "Devices",
            "GPUs that answer.",
            &[
                (INSTANCE, "Instance"),
                (GPU, "GPU"),
                ("name", "Name"),
                ("driver_version", "Driver"),
                ("cuda_version", "CUDA"),
                ("pci_bus_id", "PCI"),
                ("gpu_uuid", "UUID"),
            ],
        )
        .instant(gauge!(gpu::INFO).now().equals(1.0), "")
        .column(Column { width: Some(50), ..Column::new("GPU", units::NONE) })
        .column(Column { width: Some(200), ..Column::new("Name", units::NONE) })
        .column(Column { width: Some(110), ..Column::new("Driver", units::NONE) })
        .column(Column { width: Some(70), ..Column::new("CUDA", units::NONE) })
        .column(Column { width: Some(340), ..Column::new("UUID", units::NONE) })
        .size(16, 7),
    ]
}
