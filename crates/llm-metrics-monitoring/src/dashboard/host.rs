//! The server processes, and the machines on which they run.

use llm_metrics::catalog;

use super::{
    model::{Dashboard, Panel, RATE, Row, Scope, Variable, units},
    parts::{INSTANCE_VARIABLE, JOB_VARIABLE, NOTHING, TARGET},
};
use crate::{
    counter,
    external::{
        CONTAINER_CPU, CONTAINER_MEMORY, CONTAINER_OOM, CONTAINER_THROTTLED, NODE_CPU, NODE_DISK_READ,
        NODE_DISK_WRITTEN, NODE_FILESYSTEM_AVAILABLE, NODE_FILESYSTEM_SIZE, NODE_LOAD1, NODE_MEMORY_AVAILABLE,
        NODE_MEMORY_TOTAL, NODE_NETWORK_RECEIVED, NODE_NETWORK_SENT, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS,
        PROCESS_RESIDENT_MEMORY, PROCESS_START_TIME, PROCESS_THREADS,
    },
    gauge,
    promql::{Expr, Gauge},
    vocabulary::{INSTANCE, JOB},
};

const NODE: Scope = &[(JOB, "node_job"), (INSTANCE, "node")];
const VARIABLES: &[Variable] = &[
    JOB_VARIABLE,
    INSTANCE_VARIABLE,
    Variable { name: "node_job", title: "Node job", row: &NODE_LOAD1, label: JOB, within: &[], single: false },
    Variable {
        name: "node",
        title: "Node",
        row: &NODE_LOAD1,
        label: INSTANCE,
        within: &[(JOB, "node_job")],
        single: false,
    },
];
const NAME: &str = "{{instance}}";
/// Mounts that are not disks of the machine.
const NO_DISK: [&str; 6] = ["tmpfs", "devtmpfs", "overlay", "squashfs", "ramfs", "fuse.lxcfs"];

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-host",
        title: "LLM hosts and processes",
        description: "The state of the server processes and their machines. Machine metrics need a node exporter.",
        variables: VARIABLES,
        scope: TARGET,
        rows: vec![
            Row::new("Server processes", "No server is scraped", processes()),
            Row::new("Machines", "No node exporter is scraped", machines()),
            Row::new("Containers (needs cAdvisor)", "No cAdvisor, or no containers", containers()),
        ],
    }
}

/// Only processes with llm-metrics: other exporters export their own processes, too.
fn ours(expr: Expr) -> Expr {
    expr.and_on([JOB, INSTANCE], gauge!(catalog::BUILD_INFO).now()).max_by([INSTANCE])
}

fn processes() -> Vec<Panel> {
    let panel = |title, description, unit, expr| Panel::lines(title, description, unit).target(expr, NAME).size(8, 7);
    let now = |gauge: Gauge| ours(gauge.now());
    vec![
        panel("CPU", "CPU cores that the process uses.", units::CORES, ours(counter!(PROCESS_CPU).rate(RATE))),
        panel("Memory", "Resident memory of the process.", units::BYTES, now(gauge!(PROCESS_RESIDENT_MEMORY))),
        panel("Threads", "Threads of the process.", units::COUNT, now(gauge!(PROCESS_THREADS))),
        panel("File descriptors", "Open files and sockets.", units::COUNT, now(gauge!(PROCESS_OPEN_FDS))),
        panel(
            "File descriptors, share",
            "Open file descriptors, divided by their limit.",
            units::RATIO,
            ours(gauge!(PROCESS_OPEN_FDS).now() / gauge!(PROCESS_MAX_FDS).now()),
        ),
        panel(
            "Uptime",
            "Time since the process started. A drop is a restart.",
            units::CLOCK,
            ours(Expr::time() - gauge!(PROCESS_START_TIME).now()),
        ),
    ]
}

fn machines() -> Vec<Panel> {
    let panel = |title, description, unit| Panel::lines(title, description, unit).scope(NODE).size(8, 7);
    let disk = |gauge: Gauge| gauge.without_any("fstype", NO_DISK).now();
    let filled = 1.0 - disk(gauge!(NODE_FILESYSTEM_AVAILABLE)) / disk(gauge!(NODE_FILESYSTEM_SIZE));
    vec![
        panel("CPU busy", "Share of CPU time that is not idle.", units::RATIO)
            .target(1.0 - counter!(NODE_CPU).with("mode", "idle").rate(RATE).avg_by([INSTANCE]), NAME)
            .between(0.0, 1.0),
        panel(
            "Load",
            "The load average over one minute, divided by the number of CPUs. Above 1, processes wait.",
            units::COUNT,
        )
        .target(
            gauge!(NODE_LOAD1).now().max_by([INSTANCE])
                / counter!(NODE_CPU).with("mode", "idle").rate(RATE).count_by([INSTANCE]),
            NAME,
        ),
        panel("Memory used", "Share of memory that is not available to programs.", units::RATIO)
            .target(
                (1.0 - gauge!(NODE_MEMORY_AVAILABLE).now() / gauge!(NODE_MEMORY_TOTAL).now()).max_by([INSTANCE]),
                NAME,
            )
            .between(0.0, 1.0),
        panel("Disks", "Bytes read from and written to all disks.", units::BYTES_PER_SECOND)
            .target(counter!(NODE_DISK_READ).rate(RATE).sum_by([INSTANCE]), "{{instance}} read")
            .target(counter!(NODE_DISK_WRITTEN).rate(RATE).sum_by([INSTANCE]), "{{instance}} written"),
        panel("Network", "Bytes received and sent, over all devices except `lo`.", units::BYTES_PER_SECOND)
            .target(
                counter!(NODE_NETWORK_RECEIVED).without("device", "lo").rate(RATE).sum_by([INSTANCE]),
                "{{instance}} received",
            )
            .target(
                counter!(NODE_NETWORK_SENT).without("device", "lo").rate(RATE).sum_by([INSTANCE]),
                "{{instance}} sent",
            ),
        panel("File systems", "Share of each file system that is used.", units::RATIO)
            .target(filled.max_by([INSTANCE, "mountpoint"]), "{{instance}} {{mountpoint}}")
            .between(0.0, 1.0)
            .steps("blue", &[(0.9, "dark-red")]),
    ]
}

fn containers() -> Vec<Panel> {
    const NAME: &str = "{{instance}} {{name}}";
    let panel = |title, description, unit| Panel::lines(title, description, unit).scope(NOTHING).size(8, 7);
    let each = [INSTANCE, "name"];
    vec![
        panel("CPU of containers", "CPU cores that each container uses: the ten busiest.", units::CORES)
            .target(counter!(CONTAINER_CPU).without("name", "").rate(RATE).sum_by(each).topk(10), NAME),
        panel("Memory of containers", "Working set of the ten largest containers.", units::BYTES)
            .target(gauge!(CONTAINER_MEMORY).without("name", "").now().max_by(each).topk(10), NAME),
        panel(
            "Throttled or killed",
            "Share of time in which a container was throttled at its CPU limit, and the number of its processes that the kernel killed because memory ran out.",
            units::COUNT,
        )
        .target(counter!(CONTAINER_THROTTLED).without("name", "").rate(RATE).sum_by(each).gt(0.0), "{{instance}} {{name}} held back")
        .target(counter!(CONTAINER_OOM).without("name", "").increase(RATE).sum_by(each).gt(0.0), "{{instance}} {{name}} killed")
        .empty("None, or no cAdvisor"),
    ]
}
