//! How are the GPUs?

use llm_metrics_gpu::catalog as gpu;

use super::{
    model::{Dashboard, Panel, RATE, Row, Scope, units},
    parts::{ALL, GPU_VARIABLES},
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
        description: "How are the GPUs? What a device does not tell is not there.",
        variables: GPU_VARIABLES,
        scope: SCOPE,
        rows: vec![
            Row::new("Memory", memory(slo, rules)),
            Row::new("Load", load()),
            Row::new("Power, temperature and clocks", power(rules)),
            Row::new("Links", links()),
            Row::new("Health", health()),
        ],
    }
}

/// A gauge of each GPU that answers.
fn each(gauge: Gauge) -> Expr {
    alive(gauge.now()).max_by(EACH)
}

fn memory(slo: &Slo, rules: &Recording) -> Vec<Panel> {
    let used = || alive(gauge!(gpu::MEMORY_USED).now() / gauge!(gpu::MEMORY_TOTAL).now()).max_by(EACH);
    let limits = [(slo.gpu.memory_headroom_ratio, "orange"), (slo.gpu.memory_ratio, "red")];
    vec![
        Panel::bar_gauge(
            "Memory used now",
            "Share of the memory that is allocated. Engines that take it all when they start are always full.",
            units::RATIO,
        )
        .target(used(), NAME)
        .between(0.0, 1.0)
        .steps("green", &limits)
        .decimals(0)
        .size(8, 8),
        Panel::lines(
            "Memory used",
            format!(
                "Share of the memory that is allocated, and where it will be in {} h if it goes on as in the last hour.",
                slo.gpu.memory_forecast_hours
            ),
            units::RATIO,
        )
        .target(used(), NAME)
        .target(rules.gpu_memory_forecast.now().max_by(EACH), "{{instance}} GPU {{gpu}}, forecast")
        .dashed("forecast")
        .at_least(0.0)
        .reach(1.0)
        .steps("green", &limits)
        .size(16, 8),
        Panel::lines("Memory in bytes", "What is allocated, and what there is (dashed).", units::BYTES)
            .target(each(gauge!(gpu::MEMORY_USED)), NAME)
            .target(each(gauge!(gpu::MEMORY_TOTAL)), "{{instance}} GPU {{gpu}}, all")
            .dashed(", all$")
            .size(24, 7),
    ]
}

fn load() -> Vec<Panel> {
    let ratio = |title, description, gauge: Gauge| {
        Panel::lines(title, description, units::RATIO).target(each(gauge), NAME).between(0.0, 1.0).size(8, 7)
    };
    let clock = |gauge: Gauge| gauge.with("domain", "sm").now();
    vec![
        ratio(
            "Utilisation",
            "Share of time in which at least one kernel ran, on however little of the GPU.",
            gauge!(gpu::UTILIZATION),
        ),
        ratio(
            "Utilisation, peaks",
            "The highest of the driver's samples in the last minute: a peak between two scrapes is here.",
            gauge!(gpu::UTILIZATION_MAX),
        ),
        Panel::lines(
            "Busy",
            "Share of time in which a kernel ran, integrated: nothing between two scrapes is lost.",
            units::RATIO,
        )
        .target(counter!(gpu::BUSY).rate(Window::minutes(5)).max_by(EACH), NAME)
        .between(0.0, 1.0)
        .size(8, 7),
        ratio(
            "Multiprocessors",
            "Share of the multiprocessors that had work, over time. Hopper and later.",
            gauge!(gpu::SM_ACTIVE),
        ),
        ratio(
            "Tensor cores",
            "Share of time in which the tensor cores worked. Hopper and later.",
            gauge!(gpu::TENSOR_ACTIVE),
        ),
        ratio(
            "Memory bandwidth",
            "Share of the bandwidth that was used: decoding is mostly bound by it. Hopper and later.",
            gauge!(gpu::DRAM_ACTIVE),
        ),
        ratio(
            "Occupancy",
            "Warps in flight over those that the multiprocessors can hold. Hopper and later.",
            gauge!(gpu::SM_OCCUPANCY),
        ),
        ratio(
            "Memory controller",
            "Share of time in which memory was read or written. This is not how much of it is used.",
            gauge!(gpu::MEMORY_CONTROLLER),
        ),
        Panel::lines("Clock", "The multiprocessors' clock, of the highest that they can have.", units::RATIO)
            .target(alive(clock(gauge!(gpu::CLOCK)) / clock(gauge!(gpu::CLOCK_MAX))).max_by(EACH), NAME)
            .between(0.0, 1.0)
            .size(8, 7),
    ]
}

fn power(rules: &Recording) -> Vec<Panel> {
    vec![
        Panel::lines("Power", "Draw of the board, and the limit that is enforced (dashed).", units::WATTS)
            .target(each(gauge!(gpu::POWER).without("reading", "average_1s")), NAME)
            .target(each(gauge!(gpu::POWER_LIMIT).with("kind", "enforced")), "{{instance}} GPU {{gpu}}, limit")
            .dashed(", limit$")
            .decimals(0),
        Panel::lines("Temperature", "Of the die, and where the device slows down (dashed).", units::CELSIUS)
            .target(each(gauge!(gpu::TEMPERATURE).with("sensor", "gpu")), NAME)
            .target(
                each(gauge!(gpu::TEMPERATURE_LIMIT).with("kind", "slowdown")),
                "{{instance}} GPU {{gpu}}, slows down",
            )
            .dashed("slows down$")
            .decimals(0),
        Panel::states(
            "GPUs whose clocks are held down",
            "How many GPUs, by reason. `sw_power_cap` is normal at full load; the others are not.",
            &[("0", "none", "semi-dark-green"), ("1", "1 GPU", "orange")],
        )
        .target(
            gauge!(gpu::CLOCK_EVENT)
                .without_any(
                    "reason",
                    ["gpu_idle", "applications_clocks_setting", "display_clock_setting", "sync_boost"],
                )
                .now()
                .sum_by(["reason"]),
            "{{reason}}",
        )
        .steps("semi-dark-green", &[(1.0, "orange"), (2.0, "red")]),
        Panel::lines(
            "Energy of a token",
            "Energy of the GPUs over output tokens, prompts included. Recorded over five minutes.",
            units::JOULES_PER_TOKEN,
        )
        .target(rules.joules_per_token.now(), "{{instance}}"),
    ]
}

fn links() -> Vec<Panel> {
    let directions = |title, description, expr: Expr| {
        Panel::lines(title, description, units::BYTES_PER_SECOND)
            .target(expr, "{{instance}} GPU {{gpu}} {{direction}}")
            .size(8, 7)
    };
    vec![
        directions(
            "PCIe",
            "Traffic as the device sees it: `tx` leaves it.",
            alive(gauge!(gpu::PCIE_THROUGHPUT).now()).max_by([INSTANCE, GPU, "direction"]),
        ),
        directions(
            "NVLink",
            "Traffic over all links, without protocol overhead.",
            counter!(gpu::NVLINK).rate(RATE).sum_by([INSTANCE, GPU, "direction"]),
        ),
        Panel::bars(
            "PCIe transfers repeated",
            "More than a few now and then: a slot or cable that is not good.",
            units::COUNT,
        )
        .target(counter!(gpu::PCIE_REPLAYS).increase(RATE).sum_by(EACH), NAME)
        .size(8, 7),
    ]
}

fn health() -> Vec<Panel> {
    vec![
        Panel::bars("XIDs", "Errors that the driver reported. The runbook says which of them are grave.", units::COUNT)
            .target(counter!(gpu::XID_ERRORS).increase(RATE).sum_by(["xid"]), "XID {{xid}}")
            .size(8, 7),
        Panel::bars(
            "Memory errors",
            "Corrected ones are reason for attention when they come often, uncorrected ones always.",
            units::COUNT,
        )
        .target(
            counter!(gpu::ECC_ERRORS).with("counter", "volatile").increase(RATE).sum_by(["severity"]),
            "{{severity}}",
        )
        .colors(&[("corrected", "yellow"), ("uncorrected", "red")])
        .size(8, 7),
        Panel::lines(
            "Rows of memory that were replaced",
            "By cause. `failure` means that the device has to go.",
            units::COUNT,
        )
        .target(gauge!(gpu::REMAPPED_ROWS).now().sum_by(["cause"]), "{{cause}}")
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
        .size(20, 6),
        Panel::stat("GPUs lost", "GPUs that were there and do not answer any more.", units::COUNT)
            .target(gauge!(gpu::UP).now().count_by(ALL) - gauge!(gpu::UP).now().sum(), "lost")
            .steps("green", &[(1.0, "red")])
            .size(4, 6),
    ]
}
