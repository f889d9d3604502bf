//! The intervals of all reads, with a simulated clock and a driver that counts calls.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use llm_metrics::catalog::Registrar;

use super::*;
use crate::{
    catalog,
    source::{Enumeration, ErrorKind, GpuIdentity, Part, ReadError, Series},
    tests::support::{self, Page},
};

const SECOND: Duration = Duration::from_secs(1);

/// A driver with one or several devices, which counts the calls.
#[derive(Default)]
struct Driver {
    gpus: Vec<GpuIdentity>,
    missing: usize,
    denied: usize,
    /// The error that each read of a part returns.
    failing: HashMap<Part, ErrorKind>,
    lost: bool,
    changed: bool,
    reopening: Vec<Reopen>,
    /// The driver always has one more event.
    storm: bool,
    slow_parts: usize,
    reads: Vec<Part>,
    looks: usize,
    waits: Vec<Duration>,
    asked_to_reopen: usize,
}

impl Driver {
    fn with(uuids: &[&str]) -> Self {
        let gpus = uuids.iter().zip(0..).map(|(uuid, index)| GpuIdentity::new(index, *uuid)).collect();
        Self { gpus, slow_parts: 1, ..Self::default() }
    }

    fn reads_of(&self, part: Part) -> usize {
        self.reads.iter().filter(|read| **read == part).count()
    }
}

impl GpuSession for Driver {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        self.looks += 1;
        let mut found = Enumeration::new(self.gpus.clone(), self.missing);
        found.denied = self.denied;
        Ok(found)
    }

    fn slow_parts(&self) -> usize {
        self.slow_parts
    }

    fn has_changed(&mut self) -> bool {
        self.changed
    }

    fn reopen(&mut self) -> Reopen {
        self.asked_to_reopen += 1;
        self.reopening.pop().unwrap_or(Reopen::Refused)
    }

    fn read(&mut self, _index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        self.reads.push(part);
        if let Some(kind) = self.failing.get(&part) {
            out.failed(*kind);
        }
        if self.lost {
            return Err(ReadError::Lost);
        }
        out.gauge(Series::new(&catalog::MEMORY_USED, &[]), 1.0);
        Ok(())
    }

    fn wait(&mut self, at_most: Duration) -> Option<GpuEvent> {
        self.waits.push(at_most);
        if self.storm {
            return Some(GpuEvent::Xid { index: 0, xid: 31 });
        }
        thread::park_timeout(at_most);
        None
    }
}

struct Hand {
    sampler: Sampler,
    generation: Generation,
    driver: Driver,
    page: Page,
    now: Instant,
}

impl Hand {
    fn on(driver: Driver) -> Self {
        Self::selecting(Selection::All, driver)
    }

    fn selecting(selection: Selection, mut driver: Driver) -> Self {
        let (recorder, page) = support::page();
        let registrar = Registrar::new(catalog::SECTIONS).recorder(recorder);
        let mut sampler = Sampler::new(Intervals::default(), selection, registrar, Arc::new(Control::default()));
        let now = Instant::now();
        let generation = sampler.begin(&mut driver, now).unwrap();
        Self { sampler, generation, driver, page, now }
    }

    fn tick(&mut self) -> Result<(), SourceError> {
        let result = self.sampler.tick(&mut self.generation, &mut self.driver, self.now);
        self.now += SECOND;
        result
    }

    fn ticks(&mut self, count: usize) {
        (0..count).for_each(|_| self.tick().unwrap());
    }

    /// The seconds from now in which the value of `what` grows.
    fn when(&mut self, seconds: usize, what: impl Fn(&Driver) -> usize) -> Vec<usize> {
        let mut found = Vec::new();
        for second in 0..seconds {
            let before = what(&self.driver);
            self.ticks(1);
            if what(&self.driver) > before {
                found.push(second);
            }
        }
        found
    }

    /// The value of the one series of that name that has this label value.
    fn value(&self, name: &str, label: &str) -> Option<f64> {
        let label = format!("\"{label}\"");
        let labels: &[&str] = if label == "\"\"" { &[] } else { &[&label] };
        self.page.value(name, labels)
    }
}

#[test]
fn a_constant_value_that_could_not_be_read_is_retried_with_growing_pauses() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.failing.insert(Part::Static, ErrorKind::CallFailed);
    let mut hand = Hand::on(driver);
    assert_eq!(hand.when(200, |driver| driver.reads_of(Part::Static)), [0, 10, 30, 70, 150]);
    hand.driver.failing.clear();
    assert_eq!(hand.when(600, |driver| driver.reads_of(Part::Static)), [110], "and no more once it was");
}

#[test]
fn a_permanent_failure_is_not_retried() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.failing.insert(Part::Static, ErrorKind::Permission);
    assert_eq!(Hand::on(driver).when(100, |driver| driver.reads_of(Part::Static)), [0]);
}

#[test]
fn slow_parts_are_spread_over_their_period() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.slow_parts = 5;
    let mut hand = Hand::on(driver);
    hand.ticks(1);
    for part in 0..5 {
        assert_eq!(hand.driver.reads_of(Part::Slow(part)), 1, "all at first");
    }
    hand.driver.reads.clear();
    for tick in 0..20 {
        hand.ticks(1);
        let read: Vec<_> = hand.driver.reads.drain(..).collect();
        let mut expected = vec![Part::Fast];
        if tick % 2 == 1 {
            expected.push(Part::Slow(tick / 2 % 5));
        }
        assert_eq!(read, expected, "tick {tick}");
    }
    // Reads that were missed during a pause are not made up for.
    hand.now += SECOND * 3600;
    hand.ticks(1);
    assert_eq!(hand.driver.reads.drain(..).count(), 6, "each once, and the fast one");
    hand.ticks(1);
    assert!(hand.driver.reads.len() <= 2, "{:?}", hand.driver.reads);
}

#[test]
fn a_driver_that_reports_no_parts_is_read_anyway() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.slow_parts = 0;
    let mut hand = Hand::on(driver);
    hand.ticks(3);
    assert_eq!(hand.driver.reads_of(Part::Fast), 3);
}

#[test]
fn a_missing_device_is_searched_for_every_thirty_seconds_and_a_present_one_is_not() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.missing = 1;
    let mut hand = Hand::on(driver);
    assert_eq!(hand.when(100, |driver| driver.looks), [30, 60, 90]);
    hand.driver.missing = 0;
    assert_eq!(hand.when(100, |driver| driver.looks), [20], "found: no more");
    hand.driver.changed = true;
    assert_eq!(hand.when(100, |driver| driver.looks), [10, 40, 70], "unless that costs nothing");
    assert_eq!(hand.generation.searches(), 0, "and those are not in vain");
}

#[test]
fn a_device_that_was_just_lost_is_not_looked_for_at_once() {
    let mut hand = Hand::on(Driver::with(&["GPU-a", "GPU-b"]));
    hand.ticks(29);
    hand.sampler.lose("GPU-b", &mut hand.generation, hand.now);
    assert_eq!(hand.when(70, |driver| driver.looks), [30], "thirty seconds after it was lost");
}

#[test]
fn the_driver_is_reopened_after_ten_unsuccessful_searches_then_after_twenty_and_so_on() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.missing = 1;
    let mut hand = Hand::on(driver);
    let mut asked = Vec::new();
    for _ in 0..1300 {
        hand.ticks(1);
        let before = hand.driver.asked_to_reopen;
        assert!(!hand.sampler.is_to_reopen(&hand.generation, &mut hand.driver), "it is refused");
        if hand.driver.asked_to_reopen > before {
            asked.push(hand.generation.searches());
        }
    }
    assert_eq!(asked, [10, 20, 40]);
    // A device that came back and is lost again: the count of searches starts from zero.
    hand.driver.missing = 0;
    hand.ticks(60);
    (hand.driver.missing, hand.driver.changed) = (1, true);
    hand.driver.reopening = vec![Reopen::Ready, Reopen::Pending, Reopen::Pending];
    let (mut looks, mut waited) = (0, 0);
    while looks == 0 {
        hand.ticks(1);
        let before = hand.driver.asked_to_reopen;
        if hand.sampler.is_to_reopen(&hand.generation, &mut hand.driver) {
            looks = hand.generation.searches();
        } else if hand.driver.asked_to_reopen > before {
            waited += 1;
        }
    }
    assert_eq!((looks, waited), (10, 2), "after ten looks again, and when the answer is there");
}

#[test]
fn many_events_cause_no_busy_loop() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.storm = true;
    let mut hand = Hand::on(driver);
    hand.ticks(1);
    hand.sampler.wait_until(Instant::now() + SECOND / 4, &mut hand.generation, &mut hand.driver);
    assert_eq!(hand.driver.waits.len(), EVENTS);
    assert_eq!(hand.value("gpu_xid_errors_total", "31"), Some(EVENTS as f64), "those are counted");
}

#[test]
fn the_thread_never_sleeps_for_longer_than_a_stop_may_take() {
    let mut hand = Hand::on(Driver::with(&["GPU-a"]));
    hand.sampler.wait_until(Instant::now() + SECOND / 3, &mut hand.generation, &mut hand.driver);
    let waits = &hand.driver.waits;
    assert!(!waits.is_empty() && waits.iter().all(|wait| *wait <= Duration::from_millis(100)), "{waits:?}");
}

#[test]
fn a_tick_of_more_than_a_second_is_slow() {
    let hand = Hand::on(Driver::with(&["GPU-a"]));
    hand.sampler.took(SECOND);
    assert_eq!(hand.value("gpu_collector_errors_total", "slow_tick"), Some(0.0));
    hand.sampler.took(SECOND + Duration::from_micros(1));
    assert_eq!(hand.value("gpu_collector_errors_total", "slow_tick"), Some(1.0));
}

#[test]
fn failures_in_a_read_that_ended_in_a_loss_are_counted() {
    let mut driver = Driver::with(&["GPU-a"]);
    (driver.lost, driver.failing) = (true, HashMap::from([(Part::Fast, ErrorKind::CallFailed)]));
    let mut hand = Hand::on(driver);
    assert_eq!(hand.tick(), Err(SourceError::AllLost));
    assert_eq!(hand.value("gpu_collector_errors_total", "call_failed"), Some(1.0));
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(1.0));
    assert_eq!(hand.value("gpu_up", ""), Some(0.0));
    assert_eq!(hand.driver.reads, [Part::Fast], "a device that does not answer that is asked nothing else");
}

#[test]
fn series_are_registered_again_once_per_slow_period() {
    let mut hand = Hand::on(Driver::with(&["GPU-a"]));
    hand.ticks(1);
    let due = hand.sampler.renew_at.unwrap();
    assert_eq!(due, hand.now - SECOND + SECOND * 10);
    hand.ticks(9);
    assert_eq!(hand.sampler.renew_at, Some(due));
    hand.ticks(1);
    assert_eq!(hand.sampler.renew_at, Some(due + SECOND * 10));
}

#[test]
fn the_xid_of_an_unwatched_device_is_ignored() {
    let driver = Driver::with(&["GPU-a", "GPU-b"]);
    let mut hand = Hand::selecting(Selection::uuids(["GPU-b"]), driver);
    hand.ticks(1);
    hand.sampler.event(GpuEvent::Xid { index: 0, xid: 48 }, &mut hand.generation);
    assert_eq!(hand.value("gpu_xid_errors_total", "48"), None);
    hand.sampler.event(GpuEvent::Xid { index: 1, xid: 48 }, &mut hand.generation);
    assert_eq!(hand.value("gpu_xid_errors_total", "48"), Some(1.0));
    hand.sampler.lose("GPU-b", &mut hand.generation, hand.now);
    hand.sampler.event(GpuEvent::Xid { index: 0, xid: 48 }, &mut hand.generation);
    assert_eq!(hand.value("gpu_xid_errors_total", "48"), Some(1.0), "nor is it that of one that is lost");
    hand.sampler.event(GpuEvent::WaitFailed { kind: ErrorKind::CallFailed }, &mut hand.generation);
    assert_eq!(hand.value("gpu_collector_errors_total", "call_failed"), Some(1.0));
}

#[test]
fn a_collector_that_was_left_behind_counts_no_event() {
    let mut hand = Hand::on(Driver::with(&["GPU-a"]));
    hand.ticks(1);
    hand.sampler.control.abandon();
    hand.sampler.event(GpuEvent::Xid { index: 0, xid: 31 }, &mut hand.generation);
    assert_eq!(hand.value("gpu_xid_errors_total", "31"), None);
}

#[test]
fn a_stop_ends_a_tick_between_two_parts_and_publishes_nothing_more() {
    struct Stopping(Driver, Arc<Control>);
    impl GpuSession for Stopping {
        fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
            self.0.enumerate()
        }
        fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
            if index == 1 {
                self.1.stop();
            }
            self.0.read(index, part, out)
        }
    }
    let mut hand = Hand::on(Driver::with(&["GPU-a", "GPU-b", "GPU-c"]));
    let control = Arc::clone(&hand.sampler.control);
    let mut stopping = Stopping(std::mem::take(&mut hand.driver), control);
    hand.sampler.tick(&mut hand.generation, &mut stopping, hand.now).unwrap();
    assert_eq!(stopping.0.reads_of(Part::Fast), 2, "the third was not asked");
    assert_eq!(hand.value("gpu_memory_used_bytes", "GPU-a"), Some(1.0));
    assert_eq!(hand.value("gpu_memory_used_bytes", "GPU-b"), None);
    assert_eq!(hand.value("gpu_up", "GPU-b"), None);
}

#[test]
fn devices_are_counted_by_state_from_the_first_look_on() {
    let mut driver = Driver::with(&["GPU-a", "GPU-b", "GPU-c"]);
    (driver.missing, driver.denied) = (2, 1);
    let mut hand = Hand::on(driver);
    let counted = |hand: &Hand| ["found", "missing", "denied"].map(|state| hand.value("gpu_devices", state).unwrap());
    assert_eq!(counted(&hand), [3.0, 2.0, 1.0]);
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(2.0));
    assert_eq!(hand.value("gpu_collector_errors_total", "permission"), Some(1.0));
    hand.ticks(1);
    hand.sampler.lose("GPU-b", &mut hand.generation, hand.now);
    assert_eq!(counted(&hand), [2.0, 3.0, 1.0]);
    hand.sampler.lose("GPU-b", &mut hand.generation, hand.now);
    hand.sampler.lose("GPU-nobody", &mut hand.generation, hand.now);
    assert_eq!(counted(&hand), [2.0, 3.0, 1.0], "once, and nobody");
    // The next search finds one of them, whichever number it has.
    hand.driver.missing = 1;
    hand.driver.gpus.retain(|gpu| gpu.uuid != "GPU-b");
    hand.driver.gpus.push(GpuIdentity::new(7, "GPU-d"));
    hand.ticks(31);
    assert_eq!(counted(&hand), [3.0, 1.0, 1.0]);
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(3.0));
}

#[test]
fn a_working_driver_is_logged_once_and_again_after_a_failure() {
    let mut hand = Hand::on(Driver::with(&["GPU-a"]));
    let said = |hand: &mut Hand| {
        let lines = support::logged(|| hand.ticks(3));
        lines.iter().filter(|line| line.contains("collecting GPU metrics")).count()
    };
    assert_eq!([said(&mut hand), said(&mut hand)], [1, 0]);
    hand.sampler.down(&SourceError::VersionMismatch);
    assert_eq!([said(&mut hand), said(&mut hand)], [1, 0]);
}

#[test]
fn missing_permissions_are_mentioned() {
    for denied in [0, 1] {
        let mut driver = Driver::with(&["GPU-a"]);
        driver.denied = denied;
        let lines = support::logged(|| drop(Hand::on(driver)));
        assert_eq!(lines.iter().filter(|line| line.contains("no permission")).count(), denied, "{lines:?}");
    }
}

#[test]
fn a_device_that_a_look_does_not_find_is_lost_before_it_is_read() {
    let mut driver = Driver::with(&["GPU-a", "GPU-b"]);
    driver.changed = true;
    let mut hand = Hand::on(driver);
    hand.ticks(30);
    hand.driver.gpus.truncate(1);
    hand.driver.missing = 1;
    let reads = hand.driver.reads_of(Part::Fast);
    hand.ticks(1);
    assert_eq!(hand.driver.reads_of(Part::Fast), reads + 1, "of the other one");
    assert_eq!(hand.value("gpu_up", "GPU-b"), Some(0.0));
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(1.0));
    assert_eq!(hand.value("gpu_devices", "missing"), Some(1.0));
}

#[test]
fn a_session_that_does_not_find_a_device_of_an_earlier_session_counts_it_as_lost() {
    let mut hand = Hand::on(Driver::with(&["GPU-a", "GPU-b", "GPU-c"]));
    hand.ticks(1);
    assert_eq!(hand.value("gpu_collector_reinits_total", ""), Some(0.0));
    hand.driver.gpus.truncate(1);
    hand.generation = hand.sampler.begin(&mut hand.driver, hand.now).unwrap();
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(2.0));
    assert_eq!(hand.value("gpu_collector_reinits_total", ""), Some(1.0));
    assert_eq!((hand.value("gpu_up", "GPU-a"), hand.value("gpu_up", "GPU-b")), (Some(1.0), Some(0.0)));
    assert_eq!((hand.value("gpu_devices", "found"), hand.value("gpu_devices", "missing")), (Some(1.0), Some(2.0)));
    hand.generation = hand.sampler.begin(&mut hand.driver, hand.now).unwrap();
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(2.0), "once");
    // An XID of a lost device is still counted for that device.
    hand.sampler.event(GpuEvent::Xid { index: 2, xid: 79 }, &mut hand.generation);
    assert_eq!(hand.page.value("gpu_xid_errors_total", &["gpu_uuid=\"GPU-c\"", "xid=\"79\""]), Some(1.0));
}

#[test]
fn a_driver_none_of_whose_devices_answers_is_down_and_one_without_devices_is_not() {
    let mut hand = Hand::on(Driver::default());
    assert_eq!(hand.value("gpu_collector_up", ""), Some(1.0));
    assert_eq!(hand.value("gpu_devices", "found"), Some(0.0));
    hand.driver.missing = 1;
    assert_eq!(hand.sampler.begin(&mut hand.driver, hand.now).map(drop), Err(SourceError::AllLost));
    hand.sampler.down(&SourceError::AllLost);
    assert_eq!((hand.value("gpu_collector_up", ""), hand.value("gpu_devices", "missing")), (Some(0.0), Some(1.0)));
    assert_eq!(hand.value("gpu_collector_errors_total", "gpu_lost"), Some(1.0), "and not again for the driver");
    hand.sampler.down(&SourceError::VersionMismatch);
    assert_eq!(hand.value("gpu_collector_errors_total", "version_mismatch"), Some(1.0));
    assert!(hand.value("gpu_devices", "missing").unwrap().is_nan());
}

#[test]
fn only_a_device_selected_by_uuid_is_missing_until_it_answers() {
    let mut driver = Driver::with(&["GPU-a", "GPU-b"]);
    driver.missing = 5;
    let mut hand = Hand::selecting(Selection::uuids(["GPU-b", "GPU-z"]), driver);
    assert_eq!((hand.value("gpu_devices", "found"), hand.value("gpu_devices", "missing")), (Some(1.0), Some(1.0)));
    hand.driver.gpus.push(GpuIdentity::new(2, "GPU-z"));
    hand.ticks(31);
    assert_eq!((hand.value("gpu_devices", "found"), hand.value("gpu_devices", "missing")), (Some(2.0), Some(0.0)));
    assert_eq!(hand.value("gpu_up", "GPU-z"), Some(1.0));
}

#[test]
fn a_device_with_another_number_is_read_by_it() {
    let mut driver = Driver::with(&["GPU-a"]);
    driver.changed = true;
    let mut hand = Hand::on(driver);
    hand.ticks(1);
    hand.driver.gpus[0].index = 4;
    hand.ticks(31);
    assert_eq!(hand.page.value("gpu_memory_used_bytes", &["gpu=\"4\""]), Some(1.0));
    assert!(hand.page.value("gpu_memory_used_bytes", &["gpu=\"0\""]).unwrap().is_nan());
    assert_eq!(hand.driver.reads_of(Part::Static), 2, "everything is read again");
}

/// Always fails, and counts how often it is opened.
struct Shut(Arc<std::sync::atomic::AtomicUsize>);

impl GpuSource for Shut {
    fn session(&mut self, _body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err(SourceError::VersionMismatch)
    }
}

#[test]
fn a_driver_that_cannot_be_opened_is_retried_with_growing_pauses() {
    let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (recorder, _page) = support::page();
    let registrar = Registrar::new(catalog::SECTIONS).recorder(recorder);
    let intervals = Intervals { retry: (SECOND / 50, SECOND * 60), ..Intervals::default() };
    let control = Arc::new(Control::default());
    let mut sampler = Sampler::new(intervals, Selection::All, registrar, Arc::clone(&control));
    let source = Box::new(Shut(Arc::clone(&opened)));
    let thread = thread::spawn(move || sampler.run(source));
    let began = Instant::now();
    thread::sleep(SECOND);
    control.stop();
    thread.thread().unpark();
    thread.join().unwrap();
    // 20, 40, 80 ms and so on: each pause is as long as all before it together.
    let most = (began.elapsed().as_millis() / 20).ilog2() + 2;
    let opened = opened.load(std::sync::atomic::Ordering::Relaxed);
    assert!((2..=most as usize).contains(&opened), "{opened} times, and {most} at most");
}

/// Stops the collector, then fails.
struct Stopped(Arc<Control>);

impl GpuSource for Stopped {
    fn session(&mut self, _body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        self.0.stop();
        Err(SourceError::VersionMismatch)
    }
}

#[test]
fn a_driver_that_fails_because_it_is_to_stop_has_not_failed() {
    let (recorder, page) = support::page();
    let registrar = Registrar::new(catalog::SECTIONS).recorder(recorder);
    let control = Arc::new(Control::default());
    let mut sampler = Sampler::new(Intervals::default(), Selection::All, registrar, Arc::clone(&control));
    sampler.run(Box::new(Stopped(control)));
    let failed = page.value("gpu_collector_errors_total", &["kind=\"version_mismatch\""]);
    assert!(failed.is_none_or(|count| count == 0.0), "{failed:?}");
}
