//! The published state of one device: gauges that do not become stale, and counters that never decrease.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use llm_metrics::catalog::Registrar;
use metrics::{Counter, Gauge, Label};

use crate::{
    catalog::{
        self,
        labels::{CUDA_VERSION, DRIVER_VERSION, GPU, GPU_UUID, NAME, PCI_BUS_ID, XID},
    },
    collector_metrics::{CollectorMetrics, PersistentCounter},
    count::{RisingCount, most_per_second, plausible_count},
    load::LoadMeter,
    plausible::plausible,
    source::{ErrorKind, GpuIdentity, Part, Readings, Series, Value},
};

/// The maximum number of XIDs with a series per device.
const XIDS: usize = 32;
/// The value for all other XIDs.
const OTHER: &str = "other";

/// A device's series. It outlives sessions, so that counters continue after a driver was loaded again.
pub(crate) struct Device {
    identity: GpuIdentity,
    labels: [Label; 2],
    state: State,
    /// This loss was counted; the next one counts after the device has answered in between.
    loss_counted: bool,
    denial_reported: bool,
    gauges: HashMap<Series, GaugeSlot>,
    counters: HashMap<Series, CounterSlot>,
    xids: BTreeMap<String, Xid>,
    busy: Option<PersistentCounter>,
    load: LoadMeter,
    round: u64,
}

/// Whether a device answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Unknown: it was found, but not read yet. Nothing is published.
    Unread,
    Up,
    Lost,
    /// It is not read, because the collector is paused.
    Unknown,
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
    count: PersistentCounter,
    last: Option<(Gauge, f64)>,
}

impl Device {
    /// A device that was not read yet.
    pub(crate) fn new(identity: GpuIdentity, window: Duration) -> Self {
        Self {
            labels: [GPU.label(identity.index.to_string()), GPU_UUID.label(identity.uuid.clone())],
            identity,
            state: State::Unread,
            loss_counted: false,
            denial_reported: false,
            gauges: HashMap::new(),
            counters: HashMap::new(),
            xids: BTreeMap::new(),
            busy: None,
            load: LoadMeter::new(window),
            round: 0,
        }
    }

    pub(crate) const fn index(&self) -> u32 {
        self.identity.index
    }

    /// The time of the last utilisation sample that was used.
    pub(crate) const fn since(&self) -> u64 {
        self.load.since()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Whether this loss was not counted yet. After this call, it is.
    pub(crate) const fn is_newly_lost(&mut self) -> bool {
        !std::mem::replace(&mut self.loss_counted, true)
    }

    /// The driver has found it under this identity: its index or version may have changed since it was last seen. Whether it answers is not known
    /// yet.
    pub(crate) fn found(&mut self, identity: GpuIdentity, registrar: &Registrar) {
        if self.identity == identity {
            return;
        }
        self.mark_stale();
        registrar.gauge(&catalog::INFO, self.info_labels()).set(0.0);
        if self.identity.index != identity.index {
            // Not 0: the device with this index works, or will be reported under another one.
            registrar.gauge(&catalog::UP, self.labels.clone()).set(f64::NAN);
            if self.state != State::Up {
                self.state = State::Unread;
            }
        }
        self.labels[0] = GPU.label(identity.index.to_string());
        self.identity = identity;
        self.renew(registrar);
    }

    /// It was read. Returns whether it was lost before.
    pub(crate) fn answered(&mut self, registrar: &Registrar) -> bool {
        let before = std::mem::replace(&mut self.state, State::Up);
        self.loss_counted = false;
        if before != State::Up {
            self.publish_state(registrar);
        }
        before == State::Lost
    }

    /// It is lost: every gauge becomes NaN, once.
    pub(crate) fn lost(&mut self, registrar: &Registrar) {
        self.leave(State::Lost, registrar);
    }

    /// It is no longer read: every gauge becomes NaN, including whether it answers.
    pub(crate) fn unknown(&mut self, registrar: &Registrar) {
        if self.state != State::Unread {
            self.leave(State::Unknown, registrar);
        }
    }

    fn leave(&mut self, state: State, registrar: &Registrar) {
        if self.state != state {
            self.mark_stale();
            self.counters.values_mut().for_each(|slot| slot.count.interrupt());
            self.state = state;
            self.publish_state(registrar);
        }
    }

    /// Publishes the readings of a part, and sets values that are missing to NaN.
    pub(crate) fn apply(&mut self, part: Part, readings: &Readings, registrar: &Registrar, metrics: &CollectorMetrics) {
        self.round += 1;
        for &(series, value) in &readings.values {
            let accepted = match value {
                Value::Gauge(value) => {
                    plausible(series.row.unit, value).map(|value| self.gauge(series, value, part, registrar))
                }
                Value::Count { count, per_unit } => {
                    let counted =
                        plausible_count(count) && self.count(series, count, per_unit, readings.now(), registrar);
                    counted.then_some(())
                }
            };
            if accepted.is_none() {
                metrics.error(ErrorKind::OutOfRange, 1);
            }
        }
        if let Some((gauge, ring)) = &readings.utilization {
            let load = self.load.apply(readings.now(), *gauge, ring);
            metrics.error(ErrorKind::OutOfRange, load.implausible as u64);
            for (row, value) in [(&catalog::UTILIZATION, load.mean), (&catalog::UTILIZATION_MAX, load.max)] {
                if let Some(value) = value {
                    self.gauge(Series::new(row, &[]), value, part, registrar);
                }
            }
            let labels = &self.labels;
            let busy = self
                .busy
                .get_or_insert_with(|| PersistentCounter::new(registrar.counter(&catalog::BUSY, labels.clone())));
            busy.add(load.busy_seconds);
        }
        for kind in &readings.failures {
            metrics.error(*kind, 1);
            if *kind == ErrorKind::Permission && !std::mem::replace(&mut self.denial_reported, true) {
                tracing::warn!(
                    gpu = self.index(),
                    uuid = self.identity.uuid,
                    "this process has no permission to read all of this GPU, so its values are incomplete: with MIG, root is required"
                );
            }
        }
        let round = self.round;
        for slot in self.gauges.values_mut().filter(|slot| slot.part == part && slot.round != round) {
            slot.mark_stale();
        }
    }

    /// Creates the series of these XIDs at 0, so that the first one shows as an increase.
    pub(crate) fn expect_xids(&mut self, xids: &[u64], registrar: &Registrar) {
        for xid in xids {
            let name = xid.to_string();
            if !self.xids.contains_key(&name) {
                let count = PersistentCounter::new(registrar.counter(&catalog::XID_ERRORS, self.xid_labels(&name)));
                self.xids.insert(name, Xid { count, last: None });
            }
        }
    }

    /// Counts an error that the driver reported. Returns whether it is the first of its kind.
    pub(crate) fn xid(&mut self, xid: u64, registrar: &Registrar) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let known = xid.to_string();
        let name = if self.xids.len() < XIDS || self.xids.contains_key(&known) { known } else { OTHER.into() };
        let labels = self.xid_labels(&name);
        let slot = self.xids.entry(name).or_insert_with(|| Xid {
            count: PersistentCounter::new(registrar.counter(&catalog::XID_ERRORS, labels.clone())),
            last: None,
        });
        slot.count.add(1);
        let first = slot.last.is_none();
        let last = slot.last.get_or_insert_with(|| (registrar.gauge(&catalog::XID_LAST, labels.clone()), now));
        last.1 = now;
        last.0.set(now);
        first
    }

    /// Registers every series again, with its last value.
    pub(crate) fn renew(&mut self, registrar: &Registrar) {
        for (series, slot) in &mut self.gauges {
            if !slot.value.is_nan() {
                slot.handle = registrar.gauge(series.row, labels_of(&self.labels, series));
                slot.handle.set(slot.value);
            }
        }
        for (series, slot) in &mut self.counters {
            slot.handle = registrar.counter(series.row, labels_of(&self.labels, series));
            slot.publish();
        }
        if let Some(busy) = &mut self.busy {
            busy.renew(registrar.counter(&catalog::BUSY, self.labels.clone()));
        }
        for (xid, slot) in &mut self.xids {
            let labels = [self.labels[0].clone(), self.labels[1].clone(), XID.label(xid.clone())];
            slot.count.renew(registrar.counter(&catalog::XID_ERRORS, labels.clone()));
            if let Some((handle, at)) = &mut slot.last {
                *handle = registrar.gauge(&catalog::XID_LAST, labels.clone());
                handle.set(*at);
            }
        }
        self.publish_state(registrar);
    }

    fn publish_state(&self, registrar: &Registrar) {
        let up = match self.state {
            State::Unread => return,
            State::Up => 1.0,
            State::Lost => 0.0,
            State::Unknown => f64::NAN,
        };
        registrar.gauge(&catalog::UP, self.labels.clone()).set(up);
        registrar.gauge(&catalog::INFO, self.info_labels()).set(up);
    }

    fn mark_stale(&mut self) {
        self.gauges.values_mut().for_each(GaugeSlot::mark_stale);
        self.load.interrupt();
    }

    fn gauge(&mut self, series: Series, value: f64, part: Part, registrar: &Registrar) {
        let round = self.round;
        let register = |labels: &[Label; 2]| registrar.gauge(series.row, labels_of(labels, &series));
        let slot = self.gauges.entry(series).or_insert_with(|| GaugeSlot {
            handle: register(&self.labels),
            value: f64::NAN,
            part,
            round,
        });
        if slot.value.is_nan() {
            // It may have been idle for long enough to be removed by the recorder.
            slot.handle = register(&self.labels);
        }
        (slot.value, slot.part, slot.round) = (value, part, round);
        slot.handle.set(value);
    }

    /// Adds a reading of a driver's count. Returns whether it is plausible.
    fn count(&mut self, series: Series, count: u64, per_unit: u64, now: Instant, registrar: &Registrar) -> bool {
        let labels = &self.labels;
        let slot = self.counters.entry(series).or_insert_with(|| {
            let handle = registrar.counter(series.row, labels_of(labels, &series));
            CounterSlot { handle, count: RisingCount::default(), per_unit }
        });
        let most = most_per_second(series.row.unit) * per_unit as f64;
        let taken = slot.count.apply(now, count, most);
        slot.publish();
        taken
    }

    fn xid_labels(&self, xid: &str) -> [Label; 3] {
        let [gpu, uuid] = self.labels.clone();
        [gpu, uuid, XID.label(xid.to_owned())]
    }

    fn info_labels(&self) -> Vec<Label> {
        let identity = &self.identity;
        let facts = [
            NAME.label(identity.name.clone()),
            DRIVER_VERSION.label(identity.driver_version.clone()),
            CUDA_VERSION.label(identity.cuda_version.clone()),
            PCI_BUS_ID.label(identity.pci_bus_id.clone()),
        ];
        self.labels.iter().cloned().chain(facts).collect()
    }
}

impl GaugeSlot {
    fn mark_stale(&mut self) {
        if !self.value.is_nan() {
            self.value = f64::NAN;
            self.handle.set(f64::NAN);
        }
    }
}

impl CounterSlot {
    /// Sets the total instead of adding, so that repeating it, as a restarted collector does, changes nothing.
    fn publish(&self) {
        self.handle.absolute(self.count.total() / self.per_unit);
    }
}

fn labels_of(device: &[Label; 2], series: &Series) -> Vec<Label> {
    let own = series.labels.iter().map(|&(name, value)| Label::from_static_parts(name, value));
    device.iter().cloned().chain(own).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{
        source::{Ring, Sample},
        tests::support::{self, Page},
    };

    const SECOND: Duration = Duration::from_secs(1);
    const TEMPERATURE: Series = Series::new(&catalog::TEMPERATURE, &[("sensor", "gpu")]);
    const POWER: Series = Series::new(&catalog::POWER, &[("reading", "instant")]);
    const REPLAYS: Series = Series::new(&catalog::PCIE_REPLAYS, &[]);

    struct Hand {
        device: Device,
        registrar: Registrar,
        metrics: CollectorMetrics,
        page: Page,
        now: Instant,
    }

    impl Hand {
        fn new() -> Self {
            let (recorder, page) = support::page();
            let registrar = Registrar::new(catalog::SECTIONS).recorder(recorder);
            let metrics = CollectorMetrics::register(&registrar);
            let device = Device::new(GpuIdentity::new(3, "GPU-a"), SECOND * 60);
            Self { device, registrar, metrics, page, now: Instant::now() }
        }

        /// A second later, a part is read.
        fn read(&mut self, part: Part, read: impl FnOnce(&mut Readings)) {
            self.now += SECOND;
            let mut readings = Readings::new(self.now);
            readings.start(self.now, self.device.since());
            read(&mut readings);
            self.device.apply(part, &readings, &self.registrar, &self.metrics);
        }

        fn value(&self, name: &str) -> Option<f64> {
            self.page.value(name, &[])
        }
    }

    #[test]
    fn a_gauge_that_is_left_out_of_the_part_that_had_it_is_nan_and_no_other() {
        let mut hand = Hand::new();
        hand.read(Part::Fast, |out| out.gauge(POWER, 1.0));
        hand.read(Part::Slow(0), |out| out.gauge(TEMPERATURE, 40.0));
        assert_eq!((hand.value("gpu_power_watts"), hand.value("gpu_temperature_celsius")), (Some(1.0), Some(40.0)));
        hand.read(Part::Slow(0), |_| {});
        assert_eq!(hand.value("gpu_power_watts"), Some(1.0));
        assert!(hand.value("gpu_temperature_celsius").unwrap().is_nan());
        hand.read(Part::Slow(0), |out| out.gauge(TEMPERATURE, 41.0));
        assert_eq!(hand.value("gpu_temperature_celsius"), Some(41.0));
    }

    #[test]
    fn a_maximum_does_not_come_back_with_a_device_that_was_away() {
        let mut hand = Hand::new();
        hand.device.answered(&hand.registrar);
        hand.read(Part::Fast, |out| out.utilization(Some(0.9), Ring::Unsupported));
        hand.device.lost(&hand.registrar);
        assert!(hand.value("gpu_utilization_max_ratio").unwrap().is_nan());
        hand.read(Part::Fast, |out| out.utilization(Some(0.1), Ring::Unsupported));
        assert_eq!(hand.value("gpu_utilization_max_ratio"), Some(0.1));
        assert_eq!(hand.value("gpu_busy_seconds_total"), Some(0.0));
    }

    #[test]
    fn samples_are_requested_from_the_last_one_on() {
        let mut hand = Hand::new();
        assert_eq!(hand.device.since(), 0);
        hand.read(Part::Fast, |out| out.utilization(Some(0.5), Ring::New(vec![Sample::new(7_000_000, 0.5)])));
        assert_eq!(hand.device.since(), 7_000_000);
    }

    #[test]
    fn a_value_that_a_device_cannot_report_is_counted_and_not_published() {
        let mut hand = Hand::new();
        hand.read(Part::Fast, |out| {
            out.gauge(TEMPERATURE, 251.0);
            out.count(REPLAYS, u64::from(u32::MAX), 1);
            out.utilization(Some(1.5), Ring::New(vec![Sample::new(1, 2.0), Sample::new(2, 0.5)]));
            out.failed(ErrorKind::CallFailed);
        });
        let counted = |kind: &str| hand.page.value("gpu_collector_errors_total", &[&format!("kind=\"{kind}\"")]);
        assert_eq!((counted("out_of_range"), counted("call_failed")), (Some(4.0), Some(1.0)));
        assert_eq!((hand.value("gpu_temperature_celsius"), hand.value("gpu_pcie_replays_total")), (None, None));
    }

    #[test]
    fn missing_permissions_are_logged_once_per_device_and_nothing_else_is() {
        for (kind, said) in [(ErrorKind::Permission, 1), (ErrorKind::CallFailed, 0)] {
            let mut hand = Hand::new();
            let lines = support::logged(|| (0..3).for_each(|_| hand.read(Part::Fast, |out| out.failed(kind))));
            assert_eq!(lines.len(), said, "{lines:?}");
        }
    }

    #[test]
    fn a_count_in_parts_of_a_unit_may_rise_by_as_many_of_them() {
        let mut hand = Hand::new();
        let energy = Series::new(&catalog::ENERGY, &[]);
        // In millijoules. The maximum is 200,000 J in two seconds.
        for (count, joules) in [(0, 0.0), (150_000_000, 150_000.0), (450_000_000, 150_000.0)] {
            hand.read(Part::Slow(0), |out| out.count(energy, count, 1000));
            assert_eq!(hand.value("gpu_energy_joules_total"), Some(joules), "{count}");
        }
    }

    #[test]
    fn a_count_that_starts_again_after_a_loss_continues_at_any_value() {
        let mut hand = Hand::new();
        hand.device.answered(&hand.registrar);
        hand.read(Part::Slow(0), |out| out.count(REPLAYS, 10, 1));
        // While it is there, less is a glitch.
        hand.read(Part::Slow(0), |out| out.count(REPLAYS, 8, 1));
        hand.read(Part::Slow(0), |out| out.count(REPLAYS, 8, 1));
        assert_eq!(hand.value("gpu_pcie_replays_total"), Some(10.0));
        hand.device.lost(&hand.registrar);
        for _ in 0..2 {
            hand.read(Part::Slow(0), |out| out.count(REPLAYS, 8, 1));
        }
        assert_eq!(hand.value("gpu_pcie_replays_total"), Some(18.0));
    }

    #[test]
    fn the_identity_is_the_last_known_one_and_losses_count_once() {
        let mut hand = Hand::new();
        assert!(!hand.device.is_up() && !hand.device.is_lost());
        hand.device.unknown(&hand.registrar);
        assert_eq!(hand.value("gpu_up"), None, "nothing was known before either");
        assert!(!hand.device.answered(&hand.registrar), "it is there for the first time, and not back");
        assert_eq!((hand.value("gpu_up"), hand.value("gpu_info")), (Some(1.0), Some(1.0)));
        assert!(hand.device.is_up());
        hand.device.lost(&hand.registrar);
        assert!(hand.device.is_lost() && hand.device.is_newly_lost() && !hand.device.is_newly_lost());
        assert_eq!((hand.value("gpu_up"), hand.value("gpu_info")), (Some(0.0), Some(0.0)));
        hand.device.unknown(&hand.registrar);
        assert!(hand.value("gpu_up").unwrap().is_nan() && !hand.device.is_lost());
        hand.device.lost(&hand.registrar);
        assert!(!hand.device.is_newly_lost(), "it did not answer in between");
        assert!(hand.device.answered(&hand.registrar), "it is back");
        hand.device.lost(&hand.registrar);
        assert!(hand.device.is_newly_lost());
    }

    #[test]
    fn another_driver_or_number_ends_the_old_series() {
        let mut hand = Hand::new();
        hand.device.answered(&hand.registrar);
        hand.read(Part::Fast, |out| out.gauge(POWER, 1.0));
        hand.device.found(GpuIdentity::new(3, "GPU-a"), &hand.registrar);
        assert_eq!(hand.value("gpu_power_watts"), Some(1.0), "the same as before");
        let renumbered = GpuIdentity { driver_version: "2".into(), ..GpuIdentity::new(5, "GPU-a") };
        hand.device.found(renumbered, &hand.registrar);
        assert_eq!(hand.device.index(), 5);
        let up = |gpu: &str| hand.page.value("gpu_up", &[&format!("gpu=\"{gpu}\"")]);
        assert!(up("3").unwrap().is_nan());
        assert_eq!(up("5"), Some(1.0), "it answers, by whatever number");
        assert_eq!(hand.page.value("gpu_info", &["driver_version=\"2\""]), Some(1.0));
        assert_eq!(hand.page.value("gpu_info", &["gpu=\"3\""]), Some(0.0));
        assert!(hand.page.value("gpu_power_watts", &["gpu=\"3\""]).unwrap().is_nan());
        // Nothing is known about a device with a new index that does not answer.
        hand.device.lost(&hand.registrar);
        hand.device.found(GpuIdentity::new(6, "GPU-a"), &hand.registrar);
        assert_eq!(hand.page.value("gpu_up", &["gpu=\"6\""]), None);
    }

    #[test]
    fn thirty_two_kinds_of_xid_have_series_and_the_first_of_each_is_news() {
        let mut hand = Hand::new();
        hand.device.expect_xids(&[48, 79], &hand.registrar);
        assert!(hand.device.xid(48, &hand.registrar) && !hand.device.xid(48, &hand.registrar));
        hand.device.expect_xids(&[48], &hand.registrar);
        assert_eq!(hand.page.value("gpu_xid_errors_total", &["xid=\"48\""]), Some(2.0), "counts stay");
        assert_eq!(hand.page.value("gpu_xid_errors_total", &["xid=\"79\""]), Some(0.0));
        for xid in 1000..1030 {
            assert!(hand.device.xid(xid, &hand.registrar));
        }
        assert!(hand.device.xid(2000, &hand.registrar) && !hand.device.xid(2001, &hand.registrar), "both are others");
        assert_eq!(hand.page.value("gpu_xid_errors_total", &["other"]), Some(2.0));
        assert_eq!(hand.page.value("gpu_xid_errors_total", &["xid=\"1029\""]), Some(1.0));
    }
}
