//! Metrics of other projects, as rows like those of the catalogues: only those that rules and dashboards here use.
//!
//! Names and labels are those of the projects named in the sections; they never get a prefix.

use llm_metrics::catalog::MetricDef;

llm_metrics::catalogue! {
    "Prometheus, about its targets and alerts" {
        /// 1 if the last scrape of the target succeeded, else 0.
        UP = gauge("up", Count)[];
        /// Duration of the scrape.
        SCRAPE_DURATION = gauge("scrape_duration_seconds", Seconds)[];
        /// Samples that the target exposed.
        SCRAPE_SAMPLES = gauge("scrape_samples_scraped", Count)[];
        /// Samples that remained after relabelling.
        SCRAPE_SAMPLES_KEPT = gauge("scrape_samples_post_metric_relabeling", Count)[];
        /// Series that the scrape saw for the first time.
        SCRAPE_SERIES_ADDED = gauge("scrape_series_added", Count)[];
        /// Failed evaluations of rules.
        RULE_FAILURES = counter("prometheus_rule_evaluation_failures_total", Count)["rule_group"];
        /// Evaluations of a rule group that were skipped, because the previous one had not finished.
        RULE_GROUPS_MISSED = counter("prometheus_rule_group_iterations_missed_total", Count)["rule_group"];
        /// 1 if the configuration was last reloaded without an error, else 0.
        CONFIG_RELOAD_SUCCESSFUL = gauge("prometheus_config_last_reload_successful", Count)[];
        /// 1 for each alert that is pending or firing.
        ALERTS = gauge("ALERTS", Count)["alertname", "alertstate", "severity", "model", "gpu", "xid", "slo", "window", "upstream", "seen", "why"];
        /// When each pending or firing alert became pending.
        ALERTS_FOR_STATE = gauge("ALERTS_FOR_STATE", UnixSeconds)["alertname", "severity", "model", "gpu", "xid", "slo", "window", "upstream", "seen", "why"];
    }
    "The process (metrics-process, and most client libraries)" {
        /// CPU time that the process used.
        PROCESS_CPU = counter("process_cpu_seconds_total", Seconds)[];
        /// Resident memory of the process.
        PROCESS_RESIDENT_MEMORY = gauge("process_resident_memory_bytes", Bytes)[];
        /// Address space of the process.
        PROCESS_VIRTUAL_MEMORY = gauge("process_virtual_memory_bytes", Bytes)[];
        /// Open file descriptors, sockets included.
        PROCESS_OPEN_FDS = gauge("process_open_fds", Count)[];
        /// The limit of open file descriptors.
        PROCESS_MAX_FDS = gauge("process_max_fds", Count)[];
        /// Threads of the process.
        PROCESS_THREADS = gauge("process_threads", Count)[];
        /// When the process started.
        PROCESS_START_TIME = gauge("process_start_time_seconds", UnixSeconds)[];
    }
    "Node exporter" {
        /// Time that each CPU spent in each mode.
        NODE_CPU = counter("node_cpu_seconds_total", Seconds)["cpu", "mode"];
        /// The load average over one minute.
        NODE_LOAD1 = gauge("node_load1", Count)[];
        /// Total memory.
        NODE_MEMORY_TOTAL = gauge("node_memory_MemTotal_bytes", Bytes)[];
        /// Memory available to programs.
        NODE_MEMORY_AVAILABLE = gauge("node_memory_MemAvailable_bytes", Bytes)[];
        /// Free space of a file system.
        NODE_FILESYSTEM_AVAILABLE = gauge("node_filesystem_avail_bytes", Bytes)["device", "fstype", "mountpoint"];
        /// Size of a file system.
        NODE_FILESYSTEM_SIZE = gauge("node_filesystem_size_bytes", Bytes)["device", "fstype", "mountpoint"];
        /// Data read from a disk.
        NODE_DISK_READ = counter("node_disk_read_bytes_total", Bytes)["device"];
        /// Data written to a disk.
        NODE_DISK_WRITTEN = counter("node_disk_written_bytes_total", Bytes)["device"];
        /// Data received by a network device.
        NODE_NETWORK_RECEIVED = counter("node_network_receive_bytes_total", Bytes)["device"];
        /// Data sent by a network device.
        NODE_NETWORK_SENT = counter("node_network_transmit_bytes_total", Bytes)["device"];
    }
    "cAdvisor" {
        /// CPU time that a container used.
        CONTAINER_CPU = counter("container_cpu_usage_seconds_total", Seconds)["id", "image", "name", "cpu"];
        /// Working set memory of a container.
        CONTAINER_MEMORY = gauge("container_memory_working_set_bytes", Bytes)["id", "image", "name"];
        /// Processes of a container that the kernel killed because memory ran out.
        CONTAINER_OOM = counter("container_oom_events_total", Count)["id", "image", "name"];
        /// Time for which a container was throttled at its CPU limit.
        CONTAINER_THROTTLED = counter("container_cpu_cfs_throttled_seconds_total", Seconds)["id", "image", "name"];
        /// When a container started.
        CONTAINER_START_TIME = gauge("container_start_time_seconds", UnixSeconds)["id", "image", "name"];
    }
    "DCGM exporter" {
        /// Share of time in which a kernel ran, in percent.
        DCGM_UTILIZATION = gauge("DCGM_FI_DEV_GPU_UTIL", Count)["gpu", "UUID", "device", "modelName", "Hostname"];
        /// Share of time in which the memory bus was busy, in percent: not the amount of used memory.
        DCGM_MEMORY_COPY = gauge("DCGM_FI_DEV_MEM_COPY_UTIL", Count)["gpu", "UUID", "device", "modelName", "Hostname"];
        /// Device memory that is used, in MiB.
        DCGM_MEMORY_USED = gauge("DCGM_FI_DEV_FB_USED", Count)["gpu", "UUID", "device", "modelName", "Hostname"];
        /// Device memory that is free, in MiB.
        DCGM_MEMORY_FREE = gauge("DCGM_FI_DEV_FB_FREE", Count)["gpu", "UUID", "device", "modelName", "Hostname"];
        /// Temperature of the die.
        DCGM_TEMPERATURE = gauge("DCGM_FI_DEV_GPU_TEMP", Celsius)["gpu", "UUID", "device", "modelName", "Hostname"];
        /// Power draw of the board.
        DCGM_POWER = gauge("DCGM_FI_DEV_POWER_USAGE", Watts)["gpu", "UUID", "device", "modelName", "Hostname"];
        /// The last XID, 0 for none: a gauge, for which `increase` is meaningless.
        DCGM_XID = gauge("DCGM_FI_DEV_XID_ERRORS", Count)["gpu", "UUID", "device", "modelName", "Hostname"];
    }
}

/// Every row.
pub fn all() -> impl Iterator<Item = &'static MetricDef> {
    SECTIONS.iter().flat_map(|section| section.metrics)
}

pub(crate) fn contains(row: &MetricDef) -> bool {
    all().any(|known| known.name == row.name)
}

#[cfg(test)]
mod tests {
    use llm_metrics::catalog::Kind;

    use super::*;

    #[test]
    fn no_row_is_one_of_ours_and_none_is_there_twice() {
        let mut names: Vec<_> = all().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        let ours: Vec<_> = llm_metrics::catalog::all()
            .chain(llm_metrics_gpu::catalog::all())
            .chain(llm_metrics_gateway::catalog::all())
            .collect();
        assert!(ours.iter().all(|row| !names.contains(&row.name)));
        assert!(all().all(|row| (row.kind == Kind::Counter) == row.name.ends_with("_total")));
    }
}
