//! AMD's GPUs, through the files of the `amdgpu` kernel driver under `/sys`. No library is needed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use llm_metrics::catalog::MetricDef;

use super::{Enumeration, GpuIdentity, GpuSession, GpuSource, Part, ReadError, Readings, Ring, Series, SourceError};
use crate::catalog;

const AMD: &str = "0x1002";

/// AMD's GPUs, through sysfs.
///
/// There is no ring of samples: utilisation is the current value once per tick, and a peak between two ticks is not seen. A sleeping device is not
/// woken; its gauges are NaN meanwhile. There is no energy metric, because the driver has no such file.
///
/// Not tested on a real device yet, only on a simulated directory tree.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AmdSource {
    sysfs: PathBuf,
}

impl AmdSource {
    /// A source that reads `/sys`.
    #[must_use]
    pub fn new() -> Self {
        Self::at("/sys")
    }

    /// A source that reads a directory tree like that of `/sys`.
    #[must_use]
    pub fn at(sysfs: impl Into<PathBuf>) -> Self {
        Self { sysfs: sysfs.into() }
    }

    pub(super) fn has_cards(&self) -> bool {
        !self.cards().is_empty()
    }

    /// The indices and folders of the cards. A card keeps its index when another one disappears.
    fn cards(&self) -> BTreeMap<u32, PathBuf> {
        let drm = fs::read_dir(self.sysfs.join("class/drm")).into_iter().flatten().flatten();
        let cards = drm.filter_map(|entry| {
            // Connectors have names such as `card1-DP-1`.
            let number = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
            Some((number, fs::canonicalize(entry.path().join("device")).ok()?))
        });
        cards.filter(|(_, folder)| text(folder, "vendor").as_deref() == Some(AMD)).collect()
    }
}

impl Default for AmdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl GpuSource for AmdSource {
    fn session(&mut self, body: &mut dyn FnMut(&mut dyn GpuSession)) -> Result<(), SourceError> {
        if !self.has_cards() {
            let detail = format!("no AMD card under {}", self.sysfs.join("class/drm").display());
            return Err(SourceError::NotLoaded { detail });
        }
        body(&mut Session { source: self, cards: BTreeMap::new() });
        Ok(())
    }
}

struct Session<'source> {
    source: &'source AmdSource,
    cards: BTreeMap<u32, Card>,
}

struct Card {
    folder: PathBuf,
    sensors: Option<PathBuf>,
    /// The folders of the links between the slot and the device: its own, and those of the bridges on the card.
    links: Vec<PathBuf>,
}

impl GpuSession for Session<'_> {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        let driver_version = text(&self.source.sysfs, "module/amdgpu/version").unwrap_or_default();
        let mut found = Vec::new();
        let cards = self.source.cards();
        let ids: Vec<_> = cards.values().filter_map(|folder| text(folder, "unique_id")).collect();
        self.cards.clear();
        for (index, folder) in cards {
            // An id that two devices have, such as all zeros, identifies neither.
            let id = text(&folder, "unique_id").filter(|id| ids.iter().filter(|other| *other == id).count() == 1);
            let address = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let sensors = fs::read_dir(folder.join("hwmon")).into_iter().flatten().flatten().next();
            found.push(GpuIdentity {
                uuid: id.map_or_else(|| address.clone(), |id| format!("AMD-{id}")),
                name: text(&folder, "product_name")
                    .unwrap_or_else(|| format!("AMD {}", text(&folder, "device").unwrap_or_default())),
                pci_bus_id: address,
                driver_version: driver_version.clone(),
                ..GpuIdentity::new(index, "")
            });
            let card = Card { sensors: sensors.map(|entry| entry.path()), links: links_of(&folder), folder };
            self.cards.insert(index, card);
        }
        Ok(Enumeration::new(found, 0))
    }

    /// A new card has a new folder.
    fn has_changed(&mut self) -> bool {
        let cards = self.source.cards();
        cards.len() != self.cards.len()
            || cards.iter().any(|(index, folder)| self.cards.get(index).is_none_or(|card| card.folder != *folder))
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        let Some(card) = self.cards.get(&index).filter(|card| card.folder.is_dir()) else {
            return Err(ReadError::Lost);
        };
        // Reading most of these files would wake it.
        if text(&card.folder, "power/runtime_status").as_deref() == Some("suspended") {
            return Ok(());
        }
        match part {
            Part::Static => card.read_static(out),
            Part::Fast => card.read_fast(out),
            Part::Slow(_) => card.read_slow(out),
        }
        Ok(())
    }
}

impl Card {
    fn read_static(&self, out: &mut Readings) {
        self.link("max", out);
        self.sensor("power1_cap_default", Series::new(&catalog::POWER_LIMIT, &[("kind", "default")]), 1e6, out);
        self.sensor("power1_cap_max", Series::new(&catalog::POWER_LIMIT, &[("kind", "max")]), 1e6, out);
        self.temperatures("crit", &catalog::TEMPERATURE_LIMIT, LIMITS, out);
    }

    fn read_fast(&self, out: &mut Readings) {
        if let Some(percent) = number::<f64>(&self.folder, "gpu_busy_percent") {
            out.utilization(Some(percent / 100.0), Ring::Unsupported);
        }
        self.file("mem_busy_percent", Series::new(&catalog::MEMORY_CONTROLLER, &[]), 100.0, out);
        self.file("mem_info_vram_used", Series::new(&catalog::MEMORY_USED, &[]), 1.0, out);
        self.file("mem_info_vram_total", Series::new(&catalog::MEMORY_TOTAL, &[]), 1.0, out);
        // The graphics translation table: the memory of an APU beyond its carve-out.
        self.file("mem_info_gtt_used", Series::new(&catalog::SYSTEM_MEMORY_USED, &[]), 1.0, out);
        self.file("mem_info_gtt_total", Series::new(&catalog::SYSTEM_MEMORY_TOTAL, &[]), 1.0, out);
        // Microwatts. Which of the two exists depends on the generation; the driver does not report the averaging period.
        // Neither exists for the second die of an MI250, whose power is included in that of the first.
        let draw = |name| self.value::<f64>(name).filter(|microwatts| *microwatts > 0.0);
        if let Some(microwatts) = draw("power1_input") {
            out.gauge(Series::new(&catalog::POWER, &[("reading", "instant")]), microwatts / 1e6);
        } else if let Some(microwatts) = draw("power1_average") {
            out.gauge(Series::new(&catalog::POWER, &[("reading", "driver")]), microwatts / 1e6);
        }
        self.sensor("freq1_input", Series::new(&catalog::CLOCK, &[("domain", "sm")]), 1.0, out);
    }

    fn read_slow(&self, out: &mut Readings) {
        self.temperatures("input", &catalog::TEMPERATURE, SENSORS, out);
        self.sensor("freq2_input", Series::new(&catalog::CLOCK, &[("domain", "memory")]), 1.0, out);
        self.sensor("power1_cap", Series::new(&catalog::POWER_LIMIT, &[("kind", "enforced")]), 1e6, out);
        if let Some(replays) = number(&self.folder, "pcie_replay_count") {
            out.count(Series::new(&catalog::PCIE_REPLAYS, &[]), replays, 1);
        }
        self.link("current", out);
    }

    /// Millidegrees of the sensors, by name. A device without `edge`, such as an MI300, has `junction` for the whole.
    fn temperatures(
        &self,
        file: &str,
        row: &'static MetricDef,
        [gpu, junction, memory]: [Labels; 3],
        out: &mut Readings,
    ) {
        let sensors = self.sensors.as_deref();
        let labels: Vec<_> = (1..=3).filter_map(|n| Some((n, text(sensors?, &format!("temp{n}_label"))?))).collect();
        let has_edge = labels.iter().any(|(_, label)| label == "edge");
        for (n, label) in labels {
            let Some(millidegrees) = self.value::<f64>(&format!("temp{n}_{file}")) else { continue };
            let mut report = |labels| out.gauge(Series::new(row, labels), millidegrees / 1000.0);
            match label.as_str() {
                "edge" => report(gpu),
                "junction" => {
                    report(junction);
                    if !has_edge {
                        report(gpu);
                    }
                }
                "mem" => report(memory),
                _ => {}
            }
        }
    }

    fn value<T: FromStr>(&self, sensor: &str) -> Option<T> {
        number(self.sensors.as_deref()?, sensor)
    }

    fn file(&self, name: &str, series: Series, per_unit: f64, out: &mut Readings) {
        if let Some(value) = number::<f64>(&self.folder, name) {
            out.gauge(series, value / per_unit);
        }
    }

    fn sensor(&self, name: &str, series: Series, per_unit: f64, out: &mut Readings) {
        if let Some(value) = self.value::<f64>(name) {
            out.gauge(series, value / per_unit);
        }
    }

    fn link(&self, state: &str, out: &mut Readings) {
        let labels: &'static [_] = if state == "max" { &[("state", "max")] } else { &[("state", "current")] };
        let links = self.links.iter();
        if let Some(width) =
            links.clone().filter_map(|link| number(link, &format!("{state}_link_width"))).reduce(f64::min)
        {
            out.gauge(Series::new(&catalog::PCIE_WIDTH, labels), width);
        }
        let speeds = links.filter_map(|link| generation(&text(link, &format!("{state}_link_speed"))?));
        if let Some(generation) = speeds.reduce(f64::min) {
            out.gauge(Series::new(&catalog::PCIE_GENERATION, labels), generation);
        }
    }
}

type Labels = &'static [(&'static str, &'static str)];

/// Of the device, of its hottest spot, and of its memory.
const SENSORS: [Labels; 3] = [&[("sensor", "gpu")], &[("sensor", "junction")], &[("sensor", "memory")]];
const LIMITS: [Labels; 3] = [&[("kind", "gpu_max")], &[("kind", "junction_max")], &[("kind", "mem_max")]];

/// The device's own folder, and those of the bridges above it. A card has an internal switch, whose link to the device is always fast; the link of
/// the slot is further up, and is the narrowest on the data path.
fn links_of(device: &Path) -> Vec<PathBuf> {
    const PCI_BRIDGE: &str = "0x0604";
    let is_bridge = |folder: &&Path| text(folder, "class").is_some_and(|class| class.starts_with(PCI_BRIDGE));
    let bridges = device.ancestors().skip(1).take_while(is_bridge);
    [device].into_iter().chain(bridges).map(Path::to_path_buf).collect()
}

/// The generation of a link with a speed such as `16.0 GT/s PCIe`.
fn generation(speed: &str) -> Option<f64> {
    let speeds = ["2.5", "5.0", "8.0", "16.0", "32.0", "64.0"];
    let at = speeds.iter().position(|known| speed.split_whitespace().next() == Some(known))?;
    Some((at + 1) as f64)
}

fn text(folder: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(file)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn number<T: FromStr>(folder: &Path, file: &str) -> Option<T> {
    text(folder, file)?.parse().ok()
}
