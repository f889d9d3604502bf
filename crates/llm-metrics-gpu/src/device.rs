//! What is published of one device: gauges that do not go stale, and counters that keep rising.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use llm_metrics::catalog::Unit;
use metrics::{Counter, Gauge, Label};

use crate::{
    catalog,
    load::LoadMeter,
    sink::{Own, Sink, Tally},
    source::{ErrorKind, GpuIdentity, Part, Readings, Series, Value},
};

/// XIDs that mean a device or its memory is broken, in NVIDIA's catalogue: they exist at 0, so that the first one shows as
/// an increase.
const GRAVE_XIDS: [u64; 8] = [48, 62, 64, 74, 79, 95, 119, 120];
/// How many kinds of XID a device has series for.
const XIDS: usize = 32;

/// A device's series. It outlives sessions, so that counters rise on after a driver was loaded anew.
pub(crate) struct Device {
    identity: GpuIdentity,
    labels: [Label; 2],
    up: bool,
    gauges: HashMap<Series, GaugeSlot>,
    counters: HashMap<Series, CounterSlot>,
    xids: BTreeMap<String, Xid>,
    busy: Option<Tally>,
    load: LoadMeter,
    round: u64,
}

struct GaugeSlot {
    handle: Gauge,
    value: f64,
    part: Part,
    round: u64,
}

struct CounterSlot {
    handle: Counter,
    count: RisingCount,
    per_unit: u64,
}

struct Xid {
    count: Tally,
    last: Option<(Gauge, f64)>,
}

impl Device {
    pub(crate) fn new(identity: GpuIdentity, sink: &Sink, window: Duration) -> Self {
        let labels = [Label::new("gpu", identity.index.to_string()), Label::new("gpu_uuid", identity.uuid.clone())];
        let mut device = Self {
            identity,
            labels,
            up: false,
            gauges: HashMap::new(),
            counters: HashMap::new(),
            xids: BTreeMap::new(),
            busy: None,
            load: LoadMeter::new(window),
            round: 0,
        };
        for xid in GRAVE_XIDS {
            device.xid_slot(xid, sink);
        }
        device
    }

    pub(crate) const fn index(&self) -> u32 {
        self.identity.index
    }

    pub(crate) const fn since(&self) -> u64 {
        self.load.since()
    }

    /// The device answers. A driver may have given it another number, or be another version, since it was last seen.
    pub(crate) fn found(&mut self, identity: GpuIdentity, sink: &Sink) {
        if self.identity != identity {
            self.silence();
            sink.gauge(&catalog::INFO, &self.info_labels()).set(0.0);
            if self.identity.index != identity.index {
                sink.gauge(&catalog::UP, &self.labels).set(0.0);
            }
            self.labels[0] = Label::new("gpu", identity.index.to_string());
            self.identity = identity;
            self.renew(sink);
        }
        self.up = true;
        self.publish_state(sink);
    }

    /// The device is gone: every gauge becomes NaN, once.
    pub(crate) fn lost(&mut self, sink: &Sink) {
        if self.up {
            self.silence();
            self.up = false;
            self.publish_state(sink);
        }
    }

    /// Publishes what was read of a part, and makes NaN of what was not.
    pub(crate) fn take(&mut self, part: Part, readings: &Readings, sink: &Sink, own: &Own) {
        self.round += 1;
        for &(series, value) in &readings.values {
            let accepted = match value {
                Value::Gauge(value) => {
                    plausible(series.row.unit, value).map(|value| self.gauge(series, value, part, sink))
                }
                Value::Count { count, per_unit } => {
                    let counted = plausible_count(count) && self.count(series, count, per_unit, readings.now(), sink);
                    counted.then_some(())
                }
            };
            if accepted.is_none() {
                own.error(ErrorKind::OutOfRange, 1);
            }
        }
        if let Some((gauge, ring)) = &readings.utilization {
            let load = self.load.take(readings.now(), *gauge, ring);
            own.error(ErrorKind::OutOfRange, load.implausible as u64);
            for (row, value) in [(&catalog::UTILIZATION, load.mean), (&catalog::UTILIZATION_MAX, load.max)] {
                if let Some(value) = value {
                    self.gauge(Series::new(row, &[]), value, part, sink);
                }
            }
            let labels = &self.labels;
            let busy = self.busy.get_or_insert_with(|| Tally::new(sink.counter(&catalog::BUSY, labels)));
            busy.add(load.busy_seconds);
        }
        for kind in &readings.failures {
            own.error(*kind, 1);
        }
        let round = self.round;
        for slot in self.gauges.values_mut().filter(|slot| slot.part == part && slot.round != round) {
            slot.silence();
        }
    }

    /// Counts an error that the driver reported. Says whether it is the first of its kind.
    pub(crate) fn xid(&mut self, xid: u64, sink: &Sink) -> bool {
        let labels = &self.labels;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (name, labels) = {
            let known = xid.to_string();
            let name = if self.xids.len() < XIDS || self.xids.contains_key(&known) { known } else { "other".into() };
            let labels = [labels[0].clone(), labels[1].clone(), Label::new("xid", name.clone())];
            (name, labels)
        };
        let slot = self
            .xids
            .entry(name)
            .or_insert_with(|| Xid { count: Tally::new(sink.counter(&catalog::XID_ERRORS, &labels)), last: None });
        slot.count.add(1);
        let first = slot.last.is_none();
        let last = slot.last.get_or_insert_with(|| (sink.gauge(&catalog::XID_LAST, &labels), now));
        last.1 = now;
        last.0.set(now);
        first
    }

    /// Registers every series anew, and says again what each said.
    pub(crate) fn renew(&mut self, sink: &Sink) {
        for (series, slot) in &mut self.gauges {
            if !slot.value.is_nan() {
                slot.handle = sink.gauge(series.row, &labels_of(&self.labels, series));
                slot.handle.set(slot.value);
            }
        }
        for (series, slot) in &mut self.counters {
            slot.handle = sink.counter(series.row, &labels_of(&self.labels, series));
            slot.publish();
        }
        if let Some(busy) = &mut self.busy {
            busy.renew(sink.counter(&catalog::BUSY, &self.labels));
        }
        for (xid, slot) in &mut self.xids {
            let labels = [self.labels[0].clone(), self.labels[1].clone(), Label::new("xid", xid.clone())];
            slot.count.renew(sink.counter(&catalog::XID_ERRORS, &labels));
            if let Some((handle, at)) = &mut slot.last {
                *handle = sink.gauge(&catalog::XID_LAST, &labels);
                handle.set(*at);
            }
        }
        self.publish_state(sink);
    }

    fn publish_state(&self, sink: &Sink) {
        let up = if self.up { 1.0 } else { 0.0 };
        sink.gauge(&catalog::UP, &self.labels).set(up);
        sink.gauge(&catalog::INFO, &self.info_labels()).set(up);
    }

    fn silence(&mut self) {
        self.gauges.values_mut().for_each(GaugeSlot::silence);
        self.load.interrupt();
    }

    fn gauge(&mut self, series: Series, value: f64, part: Part, sink: &Sink) {
        let round = self.round;
        let register = |labels: &[Label; 2]| sink.gauge(series.row, &labels_of(labels, &series));
        let slot = self.gauges.entry(series).or_insert_with(|| GaugeSlot {
            handle: register(&self.labels),
            value: f64::NAN,
            part,
            round,
        });
        if slot.value.is_nan() {
            // It may have been away for long enough to be thrown out.
            slot.handle = register(&self.labels);
        }
        (slot.value, slot.part, slot.round) = (value, part, round);
        slot.handle.set(value);
    }

    /// Takes a driver's count in. Says whether it can be.
    fn count(&mut self, series: Series, count: u64, per_unit: u64, now: Instant, sink: &Sink) -> bool {
        let labels = &self.labels;
        let slot = self.counters.entry(series).or_insert_with(|| {
            let handle = sink.counter(series.row, &labels_of(labels, &series));
            CounterSlot { handle, count: RisingCount::default(), per_unit }
        });
        let most = most_per_second(series.row.unit) * per_unit as f64;
        let taken = slot.count.take(now, count, most);
        slot.publish();
        taken
    }

    fn xid_slot(&mut self, xid: u64, sink: &Sink) {
        let labels = [self.labels[0].clone(), self.labels[1].clone(), Label::new("xid", xid.to_string())];
        let count = sink.counter(&catalog::XID_ERRORS, &labels);
        self.xids.insert(xid.to_string(), Xid { count: Tally::new(count), last: None });
    }

    fn info_labels(&self) -> Vec<Label> {
        let identity = &self.identity;
        let facts = [
            ("name", &identity.name),
            ("driver_version", &identity.driver_version),
            ("cuda_version", &identity.cuda_version),
            ("pci_bus_id", &identity.pci_bus_id),
        ];
        let facts = facts.into_iter().map(|(name, value)| Label::new(name, value.clone()));
        self.labels.iter().cloned().chain(facts).collect()
    }
}

impl GaugeSlot {
    fn silence(&mut self) {
        if !self.value.is_nan() {
            self.value = f64::NAN;
            self.handle.set(f64::NAN);
        }
    }
}

impl CounterSlot {
    /// The total, not what was added: to say it twice, as a collector that is started anew does, changes nothing.
    fn publish(&self) {
        self.handle.absolute(self.count.total / self.per_unit);
    }
}

fn labels_of(device: &[Label; 2], series: &Series) -> Vec<Label> {
    let own = series.labels.iter().map(|&(name, value)| Label::from_static_parts(name, value));
    device.iter().cloned().chain(own).collect()
}

/// A driver's count, which may fall back, as one that does not.
///
/// It begins with the driver's own figure: a restart of this process is then no jump, and what a device has collected over
/// its life is not forgotten. A figure below the last one, or further above it than a device can count, may be a glitch:
/// only the second in a row is believed.
#[derive(Debug, Default)]
struct RisingCount {
    last: Option<(u64, Instant)>,
    total: u64,
    fell: bool,
    leapt: Option<(u64, Instant)>,
}

impl RisingCount {
    /// Takes a reading in, of a count that rises by no more than `most` a second. Says whether it can be.
    fn take(&mut self, now: Instant, count: u64, most: f64) -> bool {
        let possible = |from: u64, at: Instant| {
            let seconds = now.saturating_duration_since(at).as_secs_f64();
            count >= from && (count - from) as f64 <= most * (seconds + 1.0)
        };
        let risen = match self.last {
            Some((last, _)) if count < last && !self.fell => {
                (self.fell, self.leapt) = (true, None);
                return true;
            }
            Some((last, _)) if count < last => count,
            Some((last, at)) => {
                if !possible(last, at) && !self.leapt.is_some_and(|(leapt, at)| possible(leapt, at)) {
                    self.leapt = Some((count, now));
                    return false;
                }
                count - last
            }
            None => count,
        };
        (self.last, self.fell, self.leapt) = (Some((count, now)), false, None);
        self.total = self.total.saturating_add(risen);
        true
    }
}

/// How fast a device of this decade can count, by unit.
const fn most_per_second(unit: Unit) -> f64 {
    match unit {
        Unit::Joules => 100_000.0,
        Unit::Bytes => 1e14,
        _ => 1e9,
    }
}

/// What a device of this decade can say, by unit; drivers use the largest integers for "unknown".
fn plausible(unit: Unit, value: f64) -> Option<f64> {
    const ROUNDING: f64 = 0.01;
    let most = match unit {
        // A quotient of two counters may come out a little above.
        Unit::Ratio if value > 1.0 && value <= 1.0 + ROUNDING => return Some(1.0),
        Unit::Ratio => 1.0,
        Unit::Celsius => 250.0,
        Unit::Watts => 100_000.0,
        Unit::Hertz => 1e11,
        Unit::BytesPerSecond => 1e14,
        Unit::Bytes => 1e15,
        _ => 1e9,
    };
    (0.0..=most).contains(&value).then_some(value)
}

fn plausible_count(count: u64) -> bool {
    count != u64::from(u32::MAX) && count < 1 << 62
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The total after readings that are ten seconds apart, and how many of them were refused.
    fn counted(readings: &[u64], most: f64) -> (u64, usize) {
        let (mut count, start) = (RisingCount::default(), Instant::now());
        let at = |n: u64| start + Duration::from_secs(10 * n);
        let refused = readings.iter().zip(0..).filter(|&(&reading, n)| !count.take(at(n), reading, most)).count();
        (count.total, refused)
    }

    #[test]
    fn a_count_that_falls_back_goes_on_rising() {
        assert_eq!(counted(&[1000, 5000, 200, 300, 700], 1e9), (5000 + 700, 0));
    }

    #[test]
    fn a_count_that_dips_once_is_not_counted_twice() {
        assert_eq!(counted(&[1000, 5000, 0, 5100], 1e9), (5100, 0));
    }

    #[test]
    fn a_count_that_leaps_once_is_not_believed() {
        assert_eq!(counted(&[1000, 5000, 1 << 60, 5100], 1000.0), (5100, 1));
        assert_eq!(counted(&[1000, 5000, 1 << 60, 1 << 50, 5100], 1000.0), (5100, 2));
    }

    #[test]
    fn a_count_that_stays_where_it_leapt_to_is_believed() {
        assert_eq!(counted(&[1000, 1_000_000, 1_000_500], 1000.0), (1_000_500, 1));
    }

    #[test]
    fn words_for_unknown_are_not_values() {
        assert_eq!(plausible(Unit::Ratio, 42_949_672.95), None);
        assert_eq!(plausible(Unit::Count, f64::from(u32::MAX)), None);
        assert_eq!(plausible(Unit::Bytes, u64::MAX as f64), None);
        assert_eq!(plausible(Unit::Celsius, f64::NAN), None);
        assert_eq!(plausible(Unit::Ratio, 1.004), Some(1.0));
        assert!(!plausible_count(u64::MAX) && !plausible_count(9_223_372_036_854_775_794) && plausible_count(0));
    }
}
