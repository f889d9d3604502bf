//! Measurements of behaviour that is not documented.

use std::{
    fs, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::event::EventTypes,
    enum_wrappers::device::{PcieUtilCounter, Sampling},
    enums::{device::SampleValue, gpm::GpmMetricId},
    gpm::gpm_metrics_get,
    structs::device::FieldId,
};

use crate::calls::timed;

/// Length, spacing and clock of the driver's ring of samples.
pub(crate) fn ring(device: &Device<'_>) {
    println!("\n### The ring of samples\n");
    for (name, kind) in [
        ("utilisation", Sampling::GpuUtilization),
        ("memory controller", Sampling::MemoryUtilization),
        ("power", Sampling::Power),
    ] {
        let samples = match device.samples(kind, 0) {
            Ok(samples) => samples,
            Err(error) => {
                println!("- {name}: {error}");
                continue;
            }
        };
        let mut steps: Vec<u64> = samples.windows(2).map(|w| w[1].timestamp.saturating_sub(w[0].timestamp)).collect();
        steps.sort_unstable();
        let (first, last) = (samples.first().map_or(0, |s| s.timestamp), samples.last().map_or(0, |s| s.timestamp));
        let most = samples.iter().map(|sample| number(&sample.value)).fold(f64::NEG_INFINITY, f64::max);
        println!(
            "- {name}: {} samples over {:.2} s; spacing {} / {} / {} us (min, median, max); highest {most}; in order: {}",
            samples.len(),
            last.saturating_sub(first) as f64 / 1e6,
            steps.first().unwrap_or(&0),
            steps.get(steps.len() / 2).unwrap_or(&0),
            steps.last().unwrap_or(&0),
            samples.is_sorted_by_key(|sample| sample.timestamp),
        );
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as f64;
        let age = (unix - last as f64) / 1e6;
        println!("  - the newest is {age:.3} s old if its clock is Unix time");
    }
    let mut seen = device.samples(Sampling::GpuUtilization, 0).ok().and_then(|s| s.last().map(|s| s.timestamp));
    let (began, mut news) = (Instant::now(), Vec::new());
    while seen.is_some() && began.elapsed() < Duration::from_secs(5) {
        let samples = device.samples(Sampling::GpuUtilization, seen).unwrap_or_default();
        if let Some(last) = samples.last().map(|sample| sample.timestamp).filter(|last| Some(*last) != seen) {
            news.push((began.elapsed(), samples.len()));
            seen = Some(last);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let counts: Vec<_> = news.iter().map(|(_, count)| *count).collect();
    println!("- asked every 20 ms for 5 s: {} times something new, {counts:?} samples at a time", news.len());
}

/// The unit of the throttle counters: their growth in a second of wall time, while throttled.
pub(crate) fn throttle_counters(device: &Device<'_>) {
    println!("\n### Throttle counters over two seconds\n");
    let read = || {
        let ids = [74, 76, 251, 252, 253].map(FieldId);
        let values = device.field_values_for(&ids).unwrap_or_default().into_iter();
        values.map(|value| value.ok().and_then(|value| value.value.ok()).map(|v| number(&v))).collect::<Vec<_>>()
    };
    let (before, began) = (read(), Instant::now());
    thread::sleep(Duration::from_secs(2));
    let (after, took) = (read(), began.elapsed().as_secs_f64());
    println!("reasons now: {:?}\n", device.current_throttle_reasons());
    for (id, (before, after)) in [74, 76, 251, 252, 253].iter().zip(before.iter().zip(&after)) {
        match (before, after) {
            (Some(before), Some(after)) => {
                println!("- {id}: {before} to {after}: {:.0} a second (1e9 is ns, 1e6 us)", (after - before) / took);
            }
            _ => println!("- {id}: no value"),
        }
    }
}

/// Three ways to the same figure: the call, the cumulative fields, GPM (in its own section).
pub(crate) fn pcie(device: &Device<'_>) {
    println!("\n### PCIe throughput\n");
    let bytes = |id| {
        let mut values = device.field_values_for(&[FieldId(id)]).ok()?;
        values.remove(0).ok()?.value.ok().map(|value| number(&value))
    };
    for (name, counter, id) in [("sent", PcieUtilCounter::Send, 197), ("received", PcieUtilCounter::Receive, 198)] {
        let (before, began) = (bytes(id), Instant::now());
        let (throughput, took) = timed(|| device.pcie_throughput(counter));
        thread::sleep(Duration::from_millis(500).saturating_sub(began.elapsed()));
        let rate = bytes(id).zip(before).map(|(after, before)| (after - before) / began.elapsed().as_secs_f64());
        println!("- {name}: the call says {throughput:?} KB/s in {took:?}; field {id} grows by {rate:?} a second");
    }
}

/// Values and costs over two spans.
pub(crate) fn gpm(nvml: &Nvml, device: &Device<'_>) {
    println!("\n### GPM\n");
    if !device.gpm_support().unwrap_or(false) {
        println!("not supported");
        return;
    }
    let ids = [
        GpmMetricId::GraphicsUtil,
        GpmMetricId::SmUtil,
        GpmMetricId::SmOccupancy,
        GpmMetricId::AnyTensorUtil,
        GpmMetricId::DramBwUtil,
        GpmMetricId::PcieTxPerSec,
        GpmMetricId::PcieRxPerSec,
    ];
    for span in [100, 1000] {
        let (first, sample_took) = timed(|| device.gpm_sample());
        thread::sleep(Duration::from_millis(span));
        let second = device.gpm_sample();
        let (Ok(first), Ok(second)) = (first, second) else {
            println!("- no sample could be taken");
            return;
        };
        let (metrics, get_took) = timed(|| gpm_metrics_get(nvml, &first, &second, &ids));
        println!("- over {span} ms (a sample {sample_took:?}, the metrics {get_took:?}):");
        for (id, metric) in ids.iter().zip(metrics.unwrap_or_default()) {
            match metric {
                Ok(metric) => println!("  - {id:?}: {} {}", metric.value, metric.metric_info.unit),
                Err(error) => println!("  - {id:?}: {error}"),
            }
        }
    }
}

/// How long ten waits of 100 ms take, and how much CPU.
pub(crate) fn events(nvml: &Nvml) {
    let Ok(mut set) = nvml.create_event_set() else {
        println!("no event set can be made");
        return;
    };
    for index in 0..nvml.device_count().unwrap_or(0) {
        let Ok(device) = nvml.device_by_index(index) else { continue };
        println!("- GPU {index} has events of {:?}", device.supported_event_types());
        match device.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
            Ok(registered) => set = registered,
            Err(error) => {
                println!("- GPU {index}: {error}");
                return;
            }
        }
    }
    let (cpu, mut took) = (cpu_ns(), Vec::new());
    for _ in 0..10 {
        let (result, duration) = timed(|| set.wait(100).map(|event| event.event_type));
        took.push(format!(
            "{:.1} ms ({})",
            duration.as_secs_f64() * 1e3,
            result.map_or_else(|e| e.to_string(), |_| "event".into())
        ));
    }
    println!("- ten waits of 100 ms: {}", took.join(", "));
    println!("- time on the CPU meanwhile: {:.3} ms", cpu_ns().saturating_sub(cpu) as f64 / 1e6);
}

fn cpu_ns() -> u64 {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn number(value: &SampleValue) -> f64 {
    match *value {
        SampleValue::F64(value) => value,
        SampleValue::U32(value) => value.into(),
        SampleValue::U64(value) => value as f64,
        SampleValue::I64(value) => value as f64,
    }
}
