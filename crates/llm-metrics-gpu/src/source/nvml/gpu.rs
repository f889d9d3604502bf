//! One NVIDIA GPU: which calls are made when, and what their results mean.
//!
//! NVML's calls wait for a lock of the driver that the inference engine needs for its own allocations. Therefore, calls that a device does not
//! support are rarely repeated, values that change slowly are spread over ticks, and one batch call replaces twenty. On a device that supports
//! everything, a tick makes nine calls, and one more for a slow part.

use nvml_wrapper::{
    Device,
    enum_wrappers::device::{Clock, PcieUtilCounter, Sampling, TemperatureSensor, TemperatureThreshold},
    enums::device::SampleValue,
    error::NvmlError,
};

use super::{
    Context,
    batch::Batch,
    calls::{Call, Calls, Refusal},
    fault::{Fault, classify, driver_is_gone},
    fields::{FAST_FIELDS, SLOW_FIELDS, scaled},
    gpm::Gpm,
    raw::{self, ProcessList},
};
use crate::{
    catalog,
    source::{ErrorKind, ReadError, Readings, Ring, Sample, Series},
};

const MEGA: f64 = 1e6;
/// The two batches of fields.
const FAST: usize = 0;
const SLOW: usize = 1;

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
    calls: Calls,
    fields: [Batch; 2],
    gpm: Option<Gpm<'nvml>>,
}

/// A part of the slow values: one call, or a few that belong together.
type SlowPart<'nvml> = fn(&mut Gpu<'nvml>, &Context<'_>, &mut Readings) -> Result<(), ReadError>;

impl<'nvml> Gpu<'nvml> {
    pub(super) const SLOW_PARTS: [SlowPart<'nvml>; 10] = [
        Self::read_slow_fields,
        Self::read_temperature,
        Self::read_memory_clock,
        Self::read_power_limit,
        Self::read_link_generation,
        Self::read_link_width,
        Self::read_encoder,
        Self::read_decoder,
        Self::read_pcie_throughput,
        Self::read_processes,
    ];

    pub(super) fn new(device: Device<'nvml>) -> Self {
        Self {
            gpm: Gpm::of(&device),
            device,
            calls: Calls::default(),
            fields: [Batch::new(&FAST_FIELDS), Batch::new(&SLOW_FIELDS)],
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
        if self.has_own_memory() {
            let generation = self.ask(Call::Static, out, Device::max_pcie_link_gen)?;
            report(out, Series::new(&catalog::PCIE_GENERATION, &[("state", "max")]), generation, 1.0);
            let width = self.ask(Call::Static, out, Device::max_pcie_link_width)?;
            report(out, Series::new(&catalog::PCIE_WIDTH, &[("state", "max")]), width, 1.0);
        }
        Ok(())
    }

    pub(super) fn read_fast(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        self.calls.begin_tick();
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
        // In a container that lost its GPUs, every call returns "unknown error", which is treated like a lost device.
        if self.calls.only_failed() { Err(ReadError::Lost) } else { Ok(()) }
    }

    pub(super) fn read_slow(
        &mut self,
        part: usize,
        context: &Context<'_>,
        out: &mut Readings,
    ) -> Result<(), ReadError> {
        Self::SLOW_PARTS.get(part).map_or(Ok(()), |read| read(self, context, out))
    }

    /// The second version of the call, or the first if there is no other.
    fn read_memory(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        if let Some(memory) = self.ask(Call::MemoryV2, out, Device::memory_info)? {
            out.gauge(Series::new(&catalog::MEMORY_USED, &[]), memory.used as f64);
            out.gauge(Series::new(&catalog::MEMORY_RESERVED, &[]), memory.reserved as f64);
            out.gauge(Series::new(&catalog::MEMORY_TOTAL, &[]), memory.total as f64);
            return Ok(());
        }
        if self.calls.has_worked(Call::MemoryV2) {
            // Do not fall back after a transient failure: the first version's "used" includes reserved memory.
            return Ok(());
        }
        if let Some(memory) = self.ask(Call::MemoryV1, out, raw::memory_v1)? {
            out.gauge(Series::new(&catalog::MEMORY_USED, &[]), memory.used as f64);
            out.gauge(Series::new(&catalog::MEMORY_TOTAL, &[]), memory.total as f64);
        }
        Ok(())
    }

    /// Not if the device uses system memory: the memory controller then reads a constant 0, and the link has generation 1 and one lane, both without
    /// meaning.
    fn has_own_memory(&self) -> bool {
        !(self.calls.is_unsupported(Call::MemoryV2) && self.calls.is_unsupported(Call::MemoryV1))
    }

    fn read_gpm(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        let Some(mut gpm) = self.gpm.take() else { return Ok(()) };
        let tick = out.tick();
        let sampled = self.ask(Call::Gpm, out, |device| gpm.sample(device, || tick.clock()));
        match sampled {
            Ok(Some(())) => gpm.report(out),
            _ => gpm.forget(),
        }
        self.gpm = Some(gpm);
        sampled.map(drop)
    }

    fn read_load(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        let rates = self.ask(Call::Utilization, out, Device::utilization_rates)?;
        if let Some(rates) = rates.as_ref().filter(|_| self.has_own_memory()) {
            out.gauge(Series::new(&catalog::MEMORY_CONTROLLER, &[]), f64::from(rates.memory) / 100.0);
        }
        let since = out.since();
        let samples = self.ask(Call::Samples, out, |device| match device.samples(Sampling::GpuUtilization, since) {
            Err(NvmlError::NotFound) => Ok(Vec::new()),
            other => other,
        })?;
        let ring = match samples {
            None if self.calls.is_refused(Call::Samples) => Ring::Unsupported,
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
        let gauge = gauge.or_else(|| self.calls.is_refused(Call::Utilization).then(stand_in).flatten());
        if gauge.is_some() || ring != Ring::Unsupported {
            out.utilization(gauge, ring);
        }
        Ok(())
    }

    /// The fields with a defined meaning, or the single value of drivers and devices without these fields.
    fn read_power(&mut self, out: &mut Readings) -> Result<(), ReadError> {
        self.read_fields(FAST, out)?;
        if self.fields[FAST].is_empty() || self.calls.is_refused(Call::Fields) {
            let power = self.ask(Call::PowerUsage, out, Device::power_usage)?;
            report(out, Series::new(&catalog::POWER, &[("reading", "driver")]), power, 0.001);
        }
        Ok(())
    }

    fn read_fields(&mut self, batch: usize, out: &mut Readings) -> Result<(), ReadError> {
        let now = out.now();
        let requests = self.fields[batch].requests(&mut self.calls, now);
        if requests.is_empty() {
            return Ok(());
        }
        match self.ask(Call::Fields, out, |device| raw::fields(device, &requests))? {
            Some(answers) => self.fields[batch].publish(answers, now, out),
            None => Ok(()),
        }
    }

    fn read_slow_fields(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        self.read_fields(SLOW, out)
    }

    fn read_temperature(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        let celsius = self.ask(Call::Temperature, out, |device| device.temperature(TemperatureSensor::Gpu))?;
        report(out, Series::new(&catalog::TEMPERATURE, &[("sensor", "gpu")]), celsius, 1.0);
        Ok(())
    }

    fn read_memory_clock(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        let clock = self.ask(Call::MemoryClock, out, |device| device.clock_info(Clock::Memory))?;
        report(out, Series::new(&catalog::CLOCK, &[("domain", "memory")]), clock, MEGA);
        Ok(())
    }

    fn read_power_limit(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        let limit = self.ask(Call::PowerLimit, out, Device::enforced_power_limit)?;
        report(out, Series::new(&catalog::POWER_LIMIT, &[("kind", "enforced")]), limit, 0.001);
        Ok(())
    }

    fn read_link_generation(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        if self.has_own_memory() {
            let generation = self.ask(Call::LinkGeneration, out, Device::current_pcie_link_gen)?;
            report(out, Series::new(&catalog::PCIE_GENERATION, &[("state", "current")]), generation, 1.0);
        }
        Ok(())
    }

    fn read_link_width(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        if self.has_own_memory() {
            let width = self.ask(Call::LinkWidth, out, Device::current_pcie_link_width)?;
            report(out, Series::new(&catalog::PCIE_WIDTH, &[("state", "current")]), width, 1.0);
        }
        Ok(())
    }

    fn read_encoder(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        let load = self.ask(Call::Encoder, out, Device::encoder_utilization)?;
        report(out, Series::new(&catalog::ENCODER, &[]), load.map(|load| load.utilization), 0.01);
        Ok(())
    }

    fn read_decoder(&mut self, _context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        let load = self.ask(Call::Decoder, out, Device::decoder_utilization)?;
        report(out, Series::new(&catalog::DECODER, &[]), load.map(|load| load.utilization), 0.01);
        Ok(())
    }

    fn read_pcie_throughput(&mut self, context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        if !context.options.pcie_throughput || self.gpm.as_ref().is_some_and(Gpm::has_pcie) {
            return Ok(());
        }
        for (counter, labels) in
            [(PcieUtilCounter::Send, &[("direction", "tx")]), (PcieUtilCounter::Receive, &[("direction", "rx")])]
        {
            let kilobytes = self.ask(Call::PcieThroughput, out, |device| device.pcie_throughput(counter))?;
            report(out, Series::new(&catalog::PCIE_THROUGHPUT, labels), kilobytes, 1000.0);
        }
        Ok(())
    }

    fn read_processes(&mut self, context: &Context<'_>, out: &mut Readings) -> Result<(), ReadError> {
        let Some(own_pid) = context.own_pid.filter(|_| context.options.process_memory) else { return Ok(()) };
        let wide = context.wide_processes;
        let list = |list| move |device: &Device<'nvml>| raw::processes(device, list, wide);
        let Some(mut processes) = self.ask(Call::Processes, out, list(ProcessList::Compute))? else { return Ok(()) };
        let clients = self.ask(Call::MpsProcesses, out, list(ProcessList::MpsClients))?;
        for client in clients.into_iter().flatten() {
            if processes.iter().all(|process| process.pid != client.pid) {
                processes.push(client);
            }
        }
        // If the driver does not report the memory of one process, there is no sum.
        let sum = |of: fn(u32, u32) -> bool| {
            let mut processes = processes.iter().filter(|process| of(process.pid, own_pid));
            processes.try_fold(0_u64, |sum, process| Some(sum.saturating_add(process.used_memory?)))
        };
        let other = sum(|pid, own| pid != own);
        // A process that is not listed may still hold memory, such as under MPS if this driver does not list its clients.
        let own = sum(|pid, own| pid == own).filter(|_| processes.iter().any(|process| process.pid == own_pid));
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
        let now = out.now();
        if !self.calls.may(call, now) {
            return Ok(None);
        }
        let error = match body(&self.device) {
            Ok(value) => {
                self.calls.answered(call);
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        match classify(&error) {
            Fault::Unsupported => drop(self.calls.refused(call, Refusal::Unsupported, now)),
            Fault::Permission => {
                if self.calls.refused(call, Refusal::Denied, now) {
                    out.failed(ErrorKind::Permission);
                }
            }
            Fault::Nothing => self.calls.answered(call),
            Fault::Lost => return Err(ReadError::Lost),
            Fault::Source(error) if driver_is_gone(self.device.nvml()) => return Err(error.into()),
            Fault::Source(_) | Fault::Failed => {
                self.calls.failed(call, now);
                out.failed(ErrorKind::CallFailed);
            }
        }
        Ok(None)
    }
}

fn report(out: &mut Readings, series: Series, value: Option<u32>, scale: f64) {
    if let Some(value) = value {
        out.gauge(series, scaled(value.into(), scale));
    }
}
