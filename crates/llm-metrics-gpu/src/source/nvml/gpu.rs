//! One NVIDIA GPU: which calls are made when, and what their answers mean.
//!
//! NVML's calls wait for a lock of the driver that the inference engine needs for its own allocations. Hence: what a device
//! does not support is asked once, what changes slowly is spread over ticks, and one batch call replaces twelve. On a
//! device that has everything a tick makes nine calls, and one more for a slow part.

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{Clock, PcieUtilCounter, Sampling, TemperatureSensor, TemperatureThreshold},
    enums::device::{SampleValue, UsedGpuMemory},
    error::NvmlError,
};

use super::{
    Options,
    fault::{Fault, classify, driver_is_gone},
    fields::{FAST_FIELDS, Field, SLOW_FIELDS, scaled},
    gpm::{self, Gpm},
    raw,
};
use crate::{
    catalog,
    source::{ErrorKind, ReadError, Readings, Ring, Sample, Series},
};

/// Fields, temperature, memory clock, power limit, link generation, link width, PCIe throughput, processes.
pub(super) const SLOW_PARTS: usize = 8;
const MEGA: f64 = 1e6;

/// Calls that a device may turn out not to support.
#[derive(Clone, Copy)]
enum Call {
    Utilization,
    Samples,
    MemoryV2,
    MemoryV1,
    Fields,
    PowerUsage,
    SmClock,
    MemoryClock,
    ClockEvents,
    Gpm,
    Temperature,
    PowerLimit,
    LinkGeneration,
    LinkWidth,
    PcieThroughput,
    Processes,
    /// Read once in any case.
    Static,
}

/// The bits of `nvmlClocksEventReasons`.
const CLOCK_EVENTS: [(u64, &[(&str, &str)]); 9] = [
    (0x001, &[("reason", "gpu_idle")]),
    (0x002, &[("reason", "applications_clocks_setting")]),
    (0x004, &[("reason", "sw_power_cap")]),
    (0x008, &[("reason", "hw_slowdown")]),
    (0x010, &[("reason", "sync_boost")]),
    (0x020, &[("reason", "sw_thermal_slowdown")]),
    (0x040, &[("reason", "hw_thermal_slowdown")]),
    (0x080, &[("reason", "hw_power_brake_slowdown")]),
    (0x100, &[("reason", "display_clock_setting")]),
];

pub(super) struct Gpu<'nvml> {
    device: Device<'nvml>,
    unsupported: u32,
    fast_fields: Vec<Field>,
    slow_fields: Vec<Field>,
    memory_v2_worked: bool,
    gpm: Option<Gpm<'nvml>>,
    answered: bool,
    failed: bool,
}

impl<'nvml> Gpu<'nvml> {
    pub(super) fn new(device: Device<'nvml>) -> Self {
        Self {
            gpm: Gpm::of(&device),
            device,
            unsupported: 0,
            fast_fields: FAST_FIELDS.to_vec(),
            slow_fields: SLOW_FIELDS.to_vec(),
            memory_v2_worked: false,
            answered: false,
            failed: false,
        }
    }

    pub(super) fn read_static(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        for (clock, labels) in [(Clock::SM, &[("domain", "sm")]), (Clock::Memory, &[("domain", "memory")])] {
            let max = self.ask(Call::Static, out, |device| device.max_clock_info(clock))?;
            report(out, Series::new(&catalog::CLOCK_MAX, labels), max, MEGA);
        }
        for (threshold, labels) in [
            (TemperatureThreshold::Slowdown, &[("kind", "slowdown")]),
            (TemperatureThreshold::Shutdown, &[("kind", "shutdown")]),
            (TemperatureThreshold::MemoryMax, &[("kind", "mem_max")]),
            (TemperatureThreshold::GpuMax, &[("kind", "gpu_max")]),
        ] {
            let limit = self.ask(Call::Static, out, |device| device.temperature_threshold(threshold))?;
            report(out, Series::new(&catalog::TEMPERATURE_LIMIT, labels), limit, 1.0);
        }
        let default = self.ask(Call::Static, out, Device::power_management_limit_default)?;
        report(out, Series::new(&catalog::POWER_LIMIT, &[("kind", "default")]), default, 0.001);
        let range = self.ask(Call::Static, out, Device::power_management_limit_constraints)?;
        let max = range.map(|range| range.max_limit);
        report(out, Series::new(&catalog::POWER_LIMIT, &[("kind", "max")]), max, 0.001);
        let generation = self.ask(Call::Static, out, Device::max_pcie_link_gen)?;
        report(out, Series::new(&catalog::PCIE_GENERATION, &[("state", "max")]), generation, 1.0);
        let width = self.ask(Call::Static, out, Device::max_pcie_link_width)?;
        report(out, Series::new(&catalog::PCIE_WIDTH, &[("state", "max")]), width, 1.0);
        Ok(())
    }

    pub(super) fn read_fast(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        (self.answered, self.failed) = (false, false);
        self.read_memory(out)?;
        self.read_gpm(out)?;
        self.read_load(out)?;
        self.read_power(out)?;
        let clock = self.ask(Call::SmClock, out, |device| device.clock_info(Clock::SM))?;
        report(out, Series::new(&catalog::CLOCK, &[("domain", "sm")]), clock, MEGA);
        if let Some(reasons) = self.ask(Call::ClockEvents, out, raw::clock_event_reasons)? {
            for (bit, labels) in CLOCK_EVENTS {
                out.gauge(Series::new(&catalog::CLOCK_EVENT, labels), if reasons & bit == 0 { 0.0 } else { 1.0 });
            }
        }
        // A container that lost its GPUs gets "unknown error" from every call, which is as good as a lost device.
        if self.failed && !self.answered { Err(ReadError::Lost) } else { Ok(()) }
    }

    pub(super) fn read_slow(
        &mut self,
        part: usize,
        options: &Options,
        own_pid: Option<u32>,
        out: &mut Readings,
    ) -> Result<(), ReadError> {
        match part {
            0 => {
                let fields = std::mem::take(&mut self.slow_fields);
                self.slow_fields = self.read_fields(fields, out)?;
            }
            1 => {
                let celsius = self.ask(Call::Temperature, out, |device| device.temperature(TemperatureSensor::Gpu))?;
                report(out, Series::new(&catalog::TEMPERATURE, &[("sensor", "gpu")]), celsius, 1.0);
            }
            2 => {
                let clock = self.ask(Call::MemoryClock, out, |device| device.clock_info(Clock::Memory))?;
                report(out, Series::new(&catalog::CLOCK, &[("domain", "memory")]), clock, MEGA);
            }
            3 => {
                let limit = self.ask(Call::PowerLimit, out, Device::enforced_power_limit)?;
                report(out, Series::new(&catalog::POWER_LIMIT, &[("kind", "enforced")]), limit, 0.001);
            }
            4 => {
                let generation = self.ask(Call::LinkGeneration, out, Device::current_pcie_link_gen)?;
                report(out, Series::new(&catalog::PCIE_GENERATION, &[("state", "current")]), generation, 1.0);
            }
            5 => {
                let width = self.ask(Call::LinkWidth, out, Device::current_pcie_link_width)?;
                report(out, Series::new(&catalog::PCIE_WIDTH, &[("state", "current")]), width, 1.0);
            }
            6 if options.pcie_throughput && !self.gpm.as_ref().is_some_and(Gpm::has_pcie) => {
                self.read_pcie_throughput(out)?;
            }
            7 if options.process_memory => self.read_processes(own_pid, out)?,
            _ => {}
        }
        Ok(())
    }

    /// The second version of the call, or the first where there is no other.
    fn read_memory(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        if let Some(memory) = self.ask(Call::MemoryV2, out, Device::memory_info)? {
            self.memory_v2_worked = true;
            out.gauge(Series::new(&catalog::MEMORY_USED, &[]), memory.used as f64);
            out.gauge(Series::new(&catalog::MEMORY_RESERVED, &[]), memory.reserved as f64);
            out.gauge(Series::new(&catalog::MEMORY_TOTAL, &[]), memory.total as f64);
            return Ok(());
        }
        if self.memory_v2_worked {
            // Not for one failure a figure with another meaning.
            return Ok(());
        }
        if let Some(memory) = self.ask(Call::MemoryV1, out, raw::memory_v1)? {
            out.gauge(Series::new(&catalog::MEMORY_USED, &[]), memory.used as f64);
            out.gauge(Series::new(&catalog::MEMORY_TOTAL, &[]), memory.total as f64);
        }
        Ok(())
    }

    fn read_gpm(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        let Some(mut gpm) = self.gpm.take() else { return Ok(()) };
        let mut never = false;
        let now = out.now();
        let sampled =
            self.ask(Call::Gpm, out, |device| gpm.sample(device, now).inspect_err(|error| never = gpm::never(error)))?;
        if sampled.is_some() {
            gpm.report(out);
        }
        if !never {
            self.gpm = Some(gpm);
        }
        Ok(())
    }

    fn read_load(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        let rates = self.ask(Call::Utilization, out, Device::utilization_rates)?;
        // Where the memory is the machine's own, the figure is a constant 0 and means nothing.
        let has_memory = !(self.is_unsupported(Call::MemoryV2) && self.is_unsupported(Call::MemoryV1));
        if let Some(rates) = rates.as_ref().filter(|_| has_memory) {
            out.gauge(Series::new(&catalog::MEMORY_CONTROLLER, &[]), f64::from(rates.memory) / 100.0);
        }
        let since = out.since();
        let samples = self.ask(Call::Samples, out, |device| match device.samples(Sampling::GpuUtilization, since) {
            Err(NvmlError::NotFound) => Ok(Vec::new()),
            other => other,
        })?;
        let ring = match samples {
            None if self.is_unsupported(Call::Samples) => Ring::Unsupported,
            None => Ring::Empty,
            Some(samples) => {
                let ratio = |value| match value {
                    SampleValue::U32(percent) => Some(f64::from(percent) / 100.0),
                    SampleValue::U64(percent) => Some(percent as f64 / 100.0),
                    _ => None,
                };
                let samples = samples.iter().filter_map(|s| Some(Sample::new(s.timestamp, ratio(s.value.clone())?)));
                let samples: Vec<_> = samples.collect();
                if samples.is_empty() { Ring::Empty } else { Ring::New(samples) }
            }
        };
        let gauge = rates.map(|rates| f64::from(rates.gpu) / 100.0);
        let stand_in = || self.gpm.as_ref().and_then(Gpm::utilization);
        let gauge = gauge.or_else(|| self.is_unsupported(Call::Utilization).then(stand_in).flatten());
        if gauge.is_some() || ring != Ring::Unsupported {
            out.utilization(gauge, ring);
        }
        Ok(())
    }

    /// The fields that say what they are, or the one figure of drivers and devices that lack them.
    fn read_power(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        let fields = std::mem::take(&mut self.fast_fields);
        self.fast_fields = self.read_fields(fields, out)?;
        if self.fast_fields.is_empty() {
            let power = self.ask(Call::PowerUsage, out, Device::power_usage)?;
            report(out, Series::new(&catalog::POWER, &[("reading", "driver")]), power, 0.001);
        }
        Ok(())
    }

    /// Reads fields in one call, and returns those that are worth asking again.
    fn read_fields(&mut self, mut fields: Vec<Field>, out: &mut Readings) -> Result<Vec<Field>, ReadError> {
        if fields.is_empty() {
            return Ok(fields);
        }
        let requests: Vec<_> = fields.iter().map(|field| field.request).collect();
        let Some(values) = self.ask(Call::Fields, out, |device| raw::fields(device, requests.into_iter()))? else {
            if self.is_unsupported(Call::Fields) {
                fields.clear();
            }
            return Ok(fields);
        };
        let mut values = values.into_iter();
        let mut lost = false;
        fields.retain(|field| match values.next() {
            Some(Ok(value)) => {
                field.publish(value, out);
                true
            }
            Some(Err(error)) => match classify(&error) {
                Fault::Unsupported | Fault::Permission => false,
                Fault::Lost => {
                    lost = true;
                    true
                }
                Fault::Nothing => true,
                Fault::Source(_) | Fault::Failed => {
                    out.failed(ErrorKind::CallFailed);
                    true
                }
            },
            None => true,
        });
        if lost { Err(ReadError::Lost) } else { Ok(fields) }
    }

    fn read_pcie_throughput(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        for (counter, labels) in
            [(PcieUtilCounter::Send, &[("direction", "tx")]), (PcieUtilCounter::Receive, &[("direction", "rx")])]
        {
            let kilobytes = self.ask(Call::PcieThroughput, out, |device| device.pcie_throughput(counter))?;
            report(out, Series::new(&catalog::PCIE_THROUGHPUT, labels), kilobytes, 1000.0);
        }
        Ok(())
    }

    fn read_processes(&mut self, own_pid: Option<u32>, out: &mut Readings) -> Result<(), ReadError> {
        let Some(own_pid) = own_pid else { return Ok(()) };
        let Some(processes) = self.ask(Call::Processes, out, Device::running_compute_processes)? else {
            return Ok(());
        };
        // With one process whose memory the driver does not tell, there is no sum.
        let (mut own, mut other) = (Some(0_u64), Some(0_u64));
        for process in processes {
            let sum = if process.pid == own_pid { &mut own } else { &mut other };
            *sum = match (*sum, process.used_gpu_memory) {
                (Some(sum), UsedGpuMemory::Used(bytes)) => Some(sum.saturating_add(bytes)),
                _ => None,
            };
        }
        for (sum, labels) in [(own, &[("scope", "self")]), (other, &[("scope", "other")])] {
            if let Some(bytes) = sum {
                out.gauge(Series::new(&catalog::PROCESS_MEMORY, labels), bytes as f64);
            }
        }
        Ok(())
    }

    /// Makes a call, unless the device is known not to support it. `Ok(None)` is "no value".
    fn ask<T>(
        &mut self,
        call: Call,
        out: &mut Readings,
        body: impl FnOnce(&Device<'nvml>) -> Result<T, NvmlError>,
    ) -> Result<Option<T>, ReadError> {
        if self.is_unsupported(call) {
            return Ok(None);
        }
        let error = match body(&self.device) {
            Ok(value) => {
                self.answered = true;
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        match classify(&error) {
            Fault::Unsupported => {
                self.answered = true;
                self.set_unsupported(call);
            }
            Fault::Permission => {
                self.answered = true;
                self.set_unsupported(call);
                out.failed(ErrorKind::Permission);
            }
            Fault::Nothing => self.answered = true,
            Fault::Lost => return Err(ReadError::Lost),
            Fault::Source(error) if driver_is_gone(self.device.nvml()) => return Err(error.into()),
            Fault::Source(_) | Fault::Failed => {
                self.failed = true;
                out.failed(ErrorKind::CallFailed);
            }
        }
        Ok(None)
    }

    const fn is_unsupported(&self, call: Call) -> bool {
        self.unsupported & (1 << call as u32) != 0
    }

    const fn set_unsupported(&mut self, call: Call) {
        if !matches!(call, Call::Static) {
            self.unsupported |= 1 << call as u32;
        }
    }
}

fn report(out: &mut Readings, series: Series, value: Option<u32>, scale: f64) {
    if let Some(value) = value {
        out.gauge(series, scaled(value.into(), scale));
    }
}
