//! The machine that generates the load.

use std::{env::consts, fs, thread};

use crate::baseline::Machine;

pub(crate) fn this() -> Machine {
    // The value of the first line that begins with the key, in the format of /proc: `key : value`.
    let value = |path: &str, key: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kibibytes = value("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    Machine {
        os: consts::OS.to_owned(),
        architecture: consts::ARCH.to_owned(),
        cpus: thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64),
        cpu_model: value("/proc/cpuinfo", "model name"),
        memory_bytes: kibibytes.map(|kibibytes| kibibytes * 1024),
    }
}
