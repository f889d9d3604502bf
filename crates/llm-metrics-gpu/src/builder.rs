//! Settings of a collector, and the handle that stops it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, Thread},
    time::Duration,
};

use llm_metrics::catalog::{InvalidLabel, Naming, Registrar};
use metrics::Recorder;

use crate::{
    catalog,
    control::Control,
    sampler::{Intervals, Sampler},
    select::{CudaEnvironment, Selection},
    source::{AmdSource, AutoSource, GpuSource, NvmlSource},
};

/// How long [`GpuCollector`] waits for its thread when it is dropped.
const STOP_WITHIN: Duration = Duration::from_millis(200);
/// Shorter periods would be a burden on the driver.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Longer than any sensible setting, and short enough for time arithmetic.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A running collector. Dropping it stops it.
///
/// It owns one thread, which sleeps inside the driver's wait for events. If the thread is stuck in a driver call, it is left behind instead of waited
/// for. When the call returns, the thread sees that it must stop, between two parts of a device: it only closes the driver, and publishes nothing
/// more. Its gauges then keep their values.
///
/// Use one collector per recorder: two would contradict each other, and errors would count twice.
#[derive(Debug)]
#[must_use = "dropping the collector stops it"]
pub struct GpuCollector {
    control: Arc<Control>,
    /// The channel is closed when the thread ends. It has one receiver; the lock makes the collector `Sync`.
    thread: Option<(Thread, Mutex<Receiver<()>>)>,
}

impl GpuCollector {
    /// A collector with the defaults: all devices, every second, into the global recorder.
    pub fn builder() -> GpuCollectorBuilder {
        GpuCollectorBuilder::default()
    }

    /// Closes the driver and does not use it until [`resume`](Self::resume). Waits for at most `budget` until the driver is closed, and returns
    /// whether it is. If a call into the driver hangs, it will be closed when that returns.
    ///
    /// An open driver prevents a GPU reset, a change of its MIG mode, and unloading the driver: pause the collector if the server should keep running
    /// meanwhile. While it is paused, `gpu_collector_up` is 0, and the gauges are NaN, including `gpu_up`, because the state of the devices is
    /// unknown.
    pub fn pause(&self, budget: Duration) -> bool {
        self.control.pause();
        self.wake();
        self.control.wait_until_closed(budget)
    }

    /// Opens the driver again after a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.control.resume();
        self.wake();
    }

    fn wake(&self) {
        if let Some((thread, _)) = &self.thread {
            thread.unpark();
        }
    }

    /// Stops it and waits for at most `budget`. Returns whether its thread has ended.
    #[must_use = "if it is `false`, a call to the driver still hangs"]
    pub fn stop(mut self, budget: Duration) -> bool {
        self.stop_within(budget)
    }

    fn stop_within(&mut self, budget: Duration) -> bool {
        self.control.stop();
        let Some((thread, ended)) = self.thread.take() else { return true };
        thread.unpark();
        let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let done = ended.recv_timeout(budget) == Err(RecvTimeoutError::Disconnected);
        if !done {
            self.control.abandon();
        }
        done
    }
}

impl Drop for GpuCollector {
    fn drop(&mut self) {
        self.stop_within(STOP_WITHIN);
    }
}

/// Settings of a [`GpuCollector`].
#[must_use = "a builder does nothing until `start`"]
pub struct GpuCollectorBuilder {
    intervals: Intervals,
    selection: Selection,
    nvml: NvmlSource,
    source: Option<Box<dyn GpuSource>>,
    registrar: Registrar,
}

impl Default for GpuCollectorBuilder {
    fn default() -> Self {
        Self {
            intervals: Intervals::default(),
            selection: Selection::default(),
            nvml: NvmlSource::default(),
            source: None,
            registrar: Registrar::new(catalog::SECTIONS),
        }
    }
}

impl fmt::Debug for GpuCollectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuCollectorBuilder")
            .field("intervals", &self.intervals)
            .field("selection", &self.selection)
            .field("registrar", &self.registrar)
            .finish_non_exhaustive()
    }
}

impl GpuCollectorBuilder {
    /// The period of reading values that change fast: 1 s by default. Like all times here, it is limited to 100 ms to one day.
    ///
    /// Every tick reads the driver's own samples, so a longer period loses no peak as long as it is shorter than the driver's ring, which holds about
    /// 15 s.
    pub fn period(mut self, period: Duration) -> Self {
        self.intervals.fast = period.clamp(SHORTEST_PERIOD, LONGEST);
        self
    }

    /// The period of reading values that change slowly: 10 s by default, at least 100 ms, and never shorter than the fast period.
    pub fn slow_period(mut self, period: Duration) -> Self {
        self.intervals.slow = period.clamp(SHORTEST_PERIOD, LONGEST);
        self
    }

    /// How long `gpu_utilization_max_ratio` holds a maximum: 60 s by default. Choose more than the scrape interval, so that each peak is in a scrape.
    pub fn max_window(mut self, window: Duration) -> Self {
        self.intervals.window = window.min(LONGEST);
        self
    }

    /// The first and the longest pause before the driver is tried again: 1 s and 60 s by default.
    pub fn retry(mut self, first: Duration, most: Duration) -> Self {
        let first = first.clamp(SHORTEST_PAUSE, LONGEST);
        self.intervals.retry = (first, most.clamp(first, LONGEST));
        self
    }

    /// The interval of looking for a lost device: 30 s by default.
    pub fn rediscovery_interval(mut self, after: Duration) -> Self {
        self.intervals.rediscovery = after.clamp(SHORTEST_PAUSE, LONGEST);
        self
    }

    /// Monitors only the devices with these UUIDs, such as those that an engine uses.
    pub fn only_uuids<I: IntoIterator<Item: Into<String>>>(mut self, uuids: I) -> Self {
        self.selection = Selection::uuids(uuids);
        self
    }

    /// Monitors only the devices that CUDA shows to this process, by `CUDA_VISIBLE_DEVICES`.
    ///
    /// Indices are resolved by bus address, and only if they certainly mean the same as in CUDA: with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, or if all
    /// devices are of one model. Otherwise all devices are monitored, with a warning.
    pub fn only_cuda_visible(mut self) -> Self {
        self.selection = Selection::Cuda(CudaEnvironment::of_process());
        self
    }

    /// The NVML library to load, or its folder. By default: `NVML_LIB_PATH`, then the usual places.
    pub fn library_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.nvml = self.nvml.library_path(path);
        self
    }

    /// See [`NvmlSource::kernel_log`].
    pub fn kernel_log(mut self, on: bool) -> Self {
        self.nvml = self.nvml.kernel_log(on);
        self
    }

    /// See [`NvmlSource::pcie_throughput`].
    pub fn pcie_throughput(mut self, on: bool) -> Self {
        self.nvml = self.nvml.pcie_throughput(on);
        self
    }

    /// See [`NvmlSource::process_memory`].
    pub fn process_memory(mut self, on: bool) -> Self {
        self.nvml = self.nvml.process_memory(on);
        self
    }

    /// Reads another source instead of the machine's own driver. The NVML settings here do not apply to it.
    pub fn source(mut self, source: impl GpuSource) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Registers with this recorder instead of the global one.
    pub fn recorder(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.registrar = self.registrar.recorder(recorder);
        self
    }

    /// Spells the names differently. A prefix replaces `gpu`: with `qwen_gpu`, `gpu_up` becomes `qwen_gpu_up`.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.registrar = self.registrar.naming(naming);
        self
    }

    /// Adds a label with the same value to every series.
    ///
    /// # Errors
    /// If the name is invalid in Prometheus, if a GPU metric has a label of that name, if it was added before, or if the value is not a
    /// [label value](llm_metrics::LabelPolicy::is_label_value).
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self, InvalidLabel> {
        self.registrar = self.registrar.constant_label(name, value)?;
        Ok(self)
    }

    /// Starts the collector's thread.
    ///
    /// This neither fails nor waits for a device. Without a driver it logs that once, `gpu_collector_up` is 0, and the driver is used as soon as it
    /// appears.
    pub fn start(self) -> GpuCollector {
        let source = self.source.unwrap_or_else(|| Box::new(AutoSource::new(self.nvml, AmdSource::new())));
        let control = Arc::new(Control::default());
        let sampler = Sampler::new(self.intervals, self.selection, self.registrar, Arc::clone(&control));
        let (end, ended) = mpsc::channel();
        let spawned = thread::Builder::new().name("gpu-sampler".into()).spawn(move || {
            // Signals that the thread has ended, even by a panic: dropped last, after the sampler.
            let _end: mpsc::Sender<()> = end;
            let mut sampler = sampler;
            if catch_unwind(AssertUnwindSafe(|| sampler.run(source))).is_err() {
                tracing::error!("the GPU collector panicked: no GPU metrics until this process is started again");
            }
        });
        let thread = spawned
            .inspect_err(|error| tracing::warn!(%error, "no GPU metrics: the thread could not be spawned"))
            .ok()
            .map(|handle| (handle.thread().clone(), Mutex::new(ended)));
        GpuCollector { control, thread }
    }
}
