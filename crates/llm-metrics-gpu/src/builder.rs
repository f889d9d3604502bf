//! Setting a collector up, and the handle that stops it.

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

use llm_metrics::catalog::Naming;
use metrics::{Label, Recorder};

use crate::{
    control::Control,
    sampler::{Intervals, Sampler},
    select::{CudaEnvironment, Selection},
    sink::Sink,
    source::{AmdSource, AutoSource, GpuSource, NvmlSource},
};

/// How long [`GpuCollector`] waits for its thread when it is dropped.
const STOP_WITHIN: Duration = Duration::from_millis(200);
/// Below this the calls are a burden on the driver.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Longer than anybody means, and short enough to reckon with.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A running collector. Dropping it stops it.
///
/// It owns one thread, which sleeps inside the driver's wait for events. If that thread is stuck in a driver call it is left
/// behind rather than waited for: once it gets to ask whether it is to stop, between two parts of a device, it makes no more
/// calls than it takes to close the driver, and it publishes nothing more. Its gauges then stay as they were.
///
/// One collector to a recorder: two would contradict each other, and errors would count twice.
#[derive(Debug)]
#[must_use = "dropping the collector stops it"]
pub struct GpuCollector {
    control: Arc<Control>,
    /// The channel is closed when the thread ends. Only whoever stops it receives; the lock makes the collector `Sync`.
    thread: Option<(Thread, Mutex<Receiver<()>>)>,
}

impl GpuCollector {
    /// A collector with the defaults: all devices, every second, into the global recorder.
    pub fn builder() -> GpuCollectorBuilder {
        GpuCollectorBuilder::default()
    }

    /// Closes the driver and leaves it alone until [`resume`](Self::resume), and waits for that for at most `budget`. Says
    /// whether the driver is closed; if it is not yet, because a call into it hangs, it will be once that returns.
    ///
    /// An open driver keeps a GPU from being reset, its MIG mode from being changed, and the driver from being unloaded: this
    /// is for a server that is to go on meanwhile. `gpu_collector_up` is 0 while it is paused, and the gauges are NaN, those
    /// of the device and `gpu_up` included: it is not known whether a device answers that is not asked.
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

    /// Stops it and waits for at most `budget`. Says whether its thread has ended.
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

/// Sets a [`GpuCollector`] up.
#[must_use = "a builder does nothing until `start`"]
#[derive(Default)]
pub struct GpuCollectorBuilder {
    intervals: Intervals,
    selection: Selection,
    nvml: NvmlSource,
    source: Option<Box<dyn GpuSource>>,
    recorder: Option<Box<dyn Recorder + Send + Sync>>,
    naming: Naming,
    constant_labels: Vec<Label>,
}

impl fmt::Debug for GpuCollectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuCollectorBuilder")
            .field("intervals", &self.intervals)
            .field("selection", &self.selection)
            .field("naming", &self.naming)
            .field("constant_labels", &self.constant_labels)
            .finish_non_exhaustive()
    }
}

impl GpuCollectorBuilder {
    /// How often what changes fast is read: 1 s unless told otherwise, 100 ms at least and a day at most, like
    /// all times here.
    ///
    /// The driver's own samples are drained in every tick, so that a longer period loses no peak as long as it is shorter
    /// than the driver's ring, which holds some 15 s.
    pub fn period(mut self, period: Duration) -> Self {
        self.intervals.fast = period.clamp(SHORTEST_PERIOD, LONGEST);
        self
    }

    /// How often what changes slowly is read: 10 s unless told otherwise, 100 ms at least, and in no case more
    /// often than once a period.
    pub fn slow_period(mut self, period: Duration) -> Self {
        self.intervals.slow = period.clamp(SHORTEST_PERIOD, LONGEST);
        self
    }

    /// For how long `gpu_utilization_max_ratio` holds a maximum: 60 s unless told otherwise. Longer than the interval of
    /// scrapes, so that each peak is in one.
    pub fn max_window(mut self, window: Duration) -> Self {
        self.intervals.window = window.min(LONGEST);
        self
    }

    /// How long to wait before the driver is tried again, at first and at most: 1 s and 60 s unless told otherwise.
    pub fn retry(mut self, first: Duration, most: Duration) -> Self {
        let first = first.clamp(SHORTEST_PAUSE, LONGEST);
        self.intervals.retry = (first, most.clamp(first, LONGEST));
        self
    }

    /// How long after a device was lost it is looked for again: 30 s unless told otherwise.
    pub fn look_again(mut self, after: Duration) -> Self {
        self.intervals.look_again = after.clamp(SHORTEST_PAUSE, LONGEST);
        self
    }

    /// Watches only the devices with these UUIDs, as an engine tells those that it uses.
    pub fn only_uuids<I: IntoIterator<Item: Into<String>>>(mut self, uuids: I) -> Self {
        self.selection = Selection::uuids(uuids);
        self
    }

    /// Watches only the devices that CUDA shows to this process, by `CUDA_VISIBLE_DEVICES`.
    ///
    /// Indices are resolved by bus address, and only if they are certain to mean what CUDA means: under
    /// `CUDA_DEVICE_ORDER=PCI_BUS_ID`, or if all devices are of one model. Else all are watched, and a warning says so.
    pub fn only_cuda_visible(mut self) -> Self {
        self.selection = Selection::Cuda(CudaEnvironment::of_process());
        self
    }

    /// The NVML library to load, or its folder. Unless told: `NVML_LIB_PATH`, then the usual places.
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

    /// Reads another source than the machine's own driver. What was set up for NVML here does not concern it.
    pub fn source(mut self, source: impl GpuSource) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Registers with this recorder instead of the global one.
    pub fn recorder(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.recorder = Some(Box::new(recorder));
        self
    }

    /// Spells the names differently. A prefix takes the place of `gpu`: with `qwen_gpu`, `gpu_up` becomes `qwen_gpu_up`.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Adds a label to every series.
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.constant_labels.push(Label::new(name.into(), value.into()));
        self
    }

    /// Starts the collector's thread.
    ///
    /// Neither fails nor waits for a device. Without a driver it says so once in the log, `gpu_collector_up` is 0, and the
    /// driver is picked up when one appears.
    pub fn start(self) -> GpuCollector {
        let source = self.source.unwrap_or_else(|| Box::new(AutoSource::new(self.nvml, AmdSource::new())));
        let sink = Sink { recorder: self.recorder, naming: self.naming, constant_labels: self.constant_labels };
        let control = Arc::new(Control::default());
        let sampler = Sampler::new(self.intervals, self.selection, sink, Arc::clone(&control));
        let (end, ended) = mpsc::channel();
        let spawned = thread::Builder::new().name("gpu-sampler".into()).spawn(move || {
            // Says that the thread has ended, even by a panic: the last to be dropped, after the sampler.
            let _end: mpsc::Sender<()> = end;
            let mut sampler = sampler;
            if catch_unwind(AssertUnwindSafe(|| sampler.run(source))).is_err() {
                tracing::error!("the GPU collector panicked: no GPU metrics until this process is started again");
            }
        });
        let thread = spawned
            .inspect_err(|error| tracing::warn!(%error, "no GPU metrics: the system gave no thread for them"))
            .ok()
            .map(|handle| (handle.thread().clone(), Mutex::new(ended)));
        GpuCollector { control, thread }
    }
}
