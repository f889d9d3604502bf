//! Metrics of other projects, as rows like those of the catalogues: only those that rules and dashboards here use.
//!
//! Names and labels are those of the projects named in the sections; they never get a prefix.

use labels::*;

mod labels {
    llm_metrics::labels! {
        /// The name of the alert.
        ALERTNAME = "alertname";
        /// Whether the alert is pending or firing.
        ALERTSTATE = "alertstate": &["pending", "firing"];
        /// How urgent the alert is.
        SEVERITY = "severity";
        /// The model that the alert is about.
        MODEL = "model";
        /// The index of the GPU.
        GPU = "gpu";
        /// The XID that the alert is about.
        XID = "xid";
        /// The objective that the alert is about.
        SLO = "slo";
        /// The window of the alert's burn rate.
        WINDOW = "window";
        /// The upstream that the alert is about.
        UPSTREAM = "upstream";
        /// What the alert was seen by.
        SEEN = "seen";
        /// Why the alert fires.
        WHY = "why";
        /// The file and the name of the rule group.
        RULE_GROUP = "rule_group";
        /// The number of the CPU.
        CPU = "cpu";
        /// What the CPU did.
        MODE = "mode";
        /// The device: of a file system, a disk, a network or a GPU.
        DEVICE = "device";
        /// The type of the file system.
        FSTYPE = "fstype";
        /// Where the file system is mounted.
        MOUNTPOINT = "mountpoint";
        /// The cgroup of the container.
        ID = "id";
        /// The image of the container.
        IMAGE = "image";
        /// The name of the container.
        NAME = "name";
        /// The permanent id of the GPU.
        UUID = "UUID";
        /// The model of the GPU.
        MODEL_NAME = "modelName";
        /// The host of the GPU.
        HOSTNAME = "Hostname";
    }
}

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
        RULE_FAILURES = counter("prometheus_rule_evaluation_failures_total", Count)[RULE_GROUP];
        /// Evaluations of a rule group that were skipped, because the previous one had not finished.
        RULE_GROUPS_MISSED = counter("prometheus_rule_group_iterations_missed_total", Count)[RULE_GROUP];
        /// 1 if the configuration was last reloaded without an error, else 0.
        CONFIG_RELOAD_SUCCESSFUL = gauge("prometheus_config_last_reload_successful", Count)[];
        /// 1 for each alert that is pending or firing.
        ALERTS = gauge("ALERTS", Count)[ALERTNAME, ALERTSTATE, SEVERITY, MODEL, GPU, XID, SLO, WINDOW, UPSTREAM, SEEN, WHY];
        /// When each pending or firing alert became pending.
        ALERTS_FOR_STATE = gauge("ALERTS_FOR_STATE", UnixSeconds)[ALERTNAME, SEVERITY, MODEL, GPU, XID, SLO, WINDOW, UPSTREAM, SEEN, WHY];
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
        NODE_CPU = counter("node_cpu_seconds_total", Seconds)[CPU, MODE];
        /// The load average over one minute.
        NODE_LOAD1 = gauge("node_load1", Count)[];
        /// Total memory.
        NODE_MEMORY_TOTAL = gauge("node_memory_MemTotal_bytes", Bytes)[];
        /// Memory available to programs.
        NODE_MEMORY_AVAILABLE = gauge("node_memory_MemAvailable_bytes", Bytes)[];
        /// Free space of a file system.
        NODE_FILESYSTEM_AVAILABLE = gauge("node_filesystem_avail_bytes", Bytes)[DEVICE, FSTYPE, MOUNTPOINT];
        /// Size of a file system.
        NODE_FILESYSTEM_SIZE = gauge("node_filesystem_size_bytes", Bytes)[DEVICE, FSTYPE, MOUNTPOINT];
        /// Data read from a disk.
        NODE_DISK_READ = counter("node_disk_read_bytes_total", Bytes)[DEVICE];
        /// Data written to a disk.
        NODE_DISK_WRITTEN = counter("node_disk_written_bytes_total", Bytes)[DEVICE];
        /// Data received by a network device.
        NODE_NETWORK_RECEIVED = counter("node_network_receive_bytes_total", Bytes)[DEVICE];
        /// Data sent by a network device.
        NODE_NETWORK_SENT = counter("node_network_transmit_bytes_total", Bytes)[DEVICE];
    }
    "cAdvisor" {
        /// CPU time that a container used.
        CONTAINER_CPU = counter("container_cpu_usage_seconds_total", Seconds)[ID, IMAGE, NAME, CPU];
        /// Working set memory of a container.
        CONTAINER_MEMORY = gauge("container_memory_working_set_bytes", Bytes)[ID, IMAGE, NAME];
        /// Processes of a container that the kernel killed because memory ran out.
        CONTAINER_OOM = counter("container_oom_events_total", Count)[ID, IMAGE, NAME];
        /// Time for which a container was throttled at its CPU limit.
        CONTAINER_THROTTLED = counter("container_cpu_cfs_throttled_seconds_total", Seconds)[ID, IMAGE, NAME];
        /// When a container started.
        CONTAINER_START_TIME = gauge("container_start_time_seconds", UnixSeconds)[ID, IMAGE, NAME];
    }
    "DCGM exporter" {
        /// Share of time in which a kernel ran, in percent.
        DCGM_UTILIZATION = gauge("DCGM_FI_DEV_GPU_UTIL", Count)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
        /// Share of time in which the memory bus was busy, in percent: not the amount of used memory.
        DCGM_MEMORY_COPY = gauge("DCGM_FI_DEV_MEM_COPY_UTIL", Count)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
        /// Device memory that is used, in MiB.
        DCGM_MEMORY_USED = gauge("DCGM_FI_DEV_FB_USED", Count)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
        /// Device memory that is free, in MiB.
        DCGM_MEMORY_FREE = gauge("DCGM_FI_DEV_FB_FREE", Count)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
        /// Temperature of the die.
        DCGM_TEMPERATURE = gauge("DCGM_FI_DEV_GPU_TEMP", Celsius)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
        /// Power draw of the board.
        DCGM_POWER = gauge("DCGM_FI_DEV_POWER_USAGE", Watts)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
        /// The last XID, 0 for none: a gauge, for which `increase` is meaningless.
        DCGM_XID = gauge("DCGM_FI_DEV_XID_ERRORS", Count)[GPU, UUID, DEVICE, MODEL_NAME, HOSTNAME];
    }
}

#[cfg(test)]
mod tests {
    use llm_metrics::catalog::Kind;

    use super::*;

    #[test]
    fn no_row_is_in_another_catalogue_or_twice_in_this_one() {
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
