//! Makes every call of the collector on a real GPU, and prints its result and its cost.
//!
//! ```text
//! cargo run --release -p llm-metrics-gpu --example gpu-check > docs/gpu-check-h200.md
//! ```
//!
//! The output is Markdown. It answers the questions that no documentation answers: how many samples the driver's ring holds and how far apart they
//! are, the unit of the throttle counters, whether PCIe throughput is in KB or KiB, how long GPM takes, how the wait for events behaves, and whether
//! any value differs from that of `nvidia-smi`. Run some load on the GPU meanwhile.

mod calls;
mod collector;
mod probes;

use std::{error::Error, ffi::OsString, path::PathBuf};

use nvml_wrapper::Nvml;

fn main() -> Result<(), Box<dyn Error>> {
    let library = std::env::var_os("NVML_LIB_PATH").unwrap_or_else(|| OsString::from("libnvidia-ml.so.1"));
    let mut builder = Nvml::builder();
    let (nvml, took) = calls::timed(|| builder.lib_path(&library).init());
    let nvml = nvml.map_err(|error| format!("cannot open {}: {error}", PathBuf::from(&library).display()))?;

    println!("# GPU check\n");
    println!("- library: `{}`, opened in {:.1} ms", PathBuf::from(&library).display(), took.as_secs_f64() * 1e3);
    println!("- driver {}, field ids of {:?}", nvml.sys_driver_version()?, nvml.field_id_scheme());
    println!("- CUDA {:?}", nvml.sys_cuda_driver_version());
    for index in 0..nvml.device_count()? {
        match nvml.device_by_index(index) {
            Ok(device) => {
                println!("\n## GPU {index}: {}\n", device.name().unwrap_or_default());
                calls::report(&device);
                probes::ring(&device);
                probes::throttle_counters(&device);
                probes::pcie(&device);
                probes::gpm(&nvml, &device);
            }
            Err(error) => println!("\n## GPU {index}: {error}"),
        }
    }
    println!("\n## The wait for events\n");
    probes::events(&nvml);
    drop(nvml);
    collector::report(&library);
    Ok(())
}
