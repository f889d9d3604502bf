//! A program that only exports GPU metrics: one process, one port, the metrics of this machine's GPUs.
//!
//! ```text
//! cargo run --release -p llm-metrics-gpu --example gpu-exporter -- --listen 0.0.0.0:9835
//! ```
//!
//! `kill -USR1` closes the driver, so that a GPU can be reset or the driver upgraded; a second `kill -USR1` opens it again.

use std::{error::Error, io, iter, net::SocketAddr, path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use clap::Parser;
use llm_metrics::{catalog::Naming, prometheus::Exporter};
use llm_metrics_gpu::{GpuCollector, catalog};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// How long a pause may wait for a running driver call. No scrape is answered meanwhile.
const PAUSE_WITHIN: Duration = Duration::from_millis(500);

/// Serves the metrics of this machine's GPUs to Prometheus, at /metrics.
#[derive(Parser)]
struct Flags {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:9835")]
    listen: SocketAddr,
    /// The interval, in seconds, at which values that change fast are read.
    #[arg(long, default_value_t = 1.0)]
    period: f64,
    /// The window, in seconds, of gpu_utilization_max_ratio: longer than the scrape interval.
    #[arg(long, default_value_t = 60.0)]
    max_window: f64,
    /// Monitor only this GPU; may be given several times.
    #[arg(long)]
    uuid: Vec<String>,
    /// Monitor only the GPUs in CUDA_VISIBLE_DEVICES.
    #[arg(long, conflicts_with = "uuid")]
    cuda_visible: bool,
    /// Measure PCIe throughput on GPUs without GPM too (slow calls: 40 ms per GPU).
    #[arg(long)]
    pcie_throughput: bool,
    /// Read the memory of each process (slow calls: milliseconds per GPU).
    #[arg(long)]
    process_memory: bool,
    /// Do not read XIDs from the kernel log.
    #[arg(long)]
    no_kernel_log: bool,
    /// The NVML library, or its directory; by default NVML_LIB_PATH or the usual places.
    #[arg(long)]
    library: Option<PathBuf>,
    /// The prefix of all metric names, instead of `gpu`.
    #[arg(long)]
    prefix: Option<String>,
    /// A label for all series, as name=value; may be given several times.
    #[arg(long, value_parser = label)]
    label: Vec<(String, String)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = iter::successors(Some(&*error), |&error| error.source()).map(ToString::to_string);
            eprintln!("error: {}", causes.collect::<Vec<_>>().join(": "));
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Flags) -> Result<(), Box<dyn Error>> {
    let naming = match flags.prefix {
        Some(prefix) => Naming::new().prefix(prefix)?,
        None => Naming::new(),
    };
    let mut exporter = Exporter::builder().catalogue(catalog::SECTIONS, naming.clone());
    for (name, value) in flags.label {
        exporter = exporter.constant_label(name, value);
    }
    let exporter = exporter.install()?;

    let mut collector = GpuCollector::builder()
        .period(Duration::try_from_secs_f64(flags.period)?)
        .max_window(Duration::try_from_secs_f64(flags.max_window)?)
        .pcie_throughput(flags.pcie_throughput)
        .process_memory(flags.process_memory)
        .kernel_log(!flags.no_kernel_log)
        .naming(naming);
    if !flags.uuid.is_empty() {
        collector = collector.only_uuids(flags.uuid);
    }
    if flags.cuda_visible {
        collector = collector.only_cuda_visible();
    }
    if let Some(library) = flags.library {
        collector = collector.library_path(library);
    }
    let collector = collector.start();

    let listener = TcpListener::bind(flags.listen).await;
    let listener = listener.map_err(|error| format!("cannot listen on {}: {error}", flags.listen))?;
    println!("listening on http://{}/metrics", listener.local_addr()?);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut pause = signal(SignalKind::user_defined1())?;
    let mut paused = false;
    let mut serving = pin!(exporter.serve(listener));
    loop {
        tokio::select! {
            never = &mut serving => match never {},
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = pause.recv() => {
                paused = !paused;
                if !paused {
                    collector.resume();
                } else if !collector.pause(PAUSE_WITHIN) {
                    eprintln!("a call into the driver has not returned yet; the driver is closed when it does");
                }
            }
        }
    }
    drop(collector);
    Ok(())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is written as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}
