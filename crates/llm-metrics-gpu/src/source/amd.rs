//! AMD's GPUs, through the files that the `amdgpu` kernel driver shows under `/sys`. No library is needed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{Enumeration, GpuIdentity, GpuSession, GpuSource, Part, ReadError, Readings, Ring, Series, SourceError};
use crate::catalog;

const AMD: &str = "0x1002";

/// AMD's GPUs, through sysfs.
///
/// There is no ring of samples to drain: utilisation is the figure of the moment, once a tick, and a peak between two
/// ticks is not seen. A device that sleeps is left asleep; its gauges are NaN meanwhile.
///
/// Not tried on a device yet, only on a made-up directory tree.
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

    /// A source that reads a tree of files like that of `/sys`.
    #[must_use]
    pub fn at(sysfs: impl Into<PathBuf>) -> Self {
        Self { sysfs: sysfs.into() }
    }

    /// The numbers and folders of the cards. A number stays with its card when another one leaves.
    fn cards(&self) -> BTreeMap<u32, PathBuf> {
        let drm = fs::read_dir(self.sysfs.join("class/drm")).into_iter().flatten().flatten();
        let cards = drm.filter_map(|entry| {
            // Its connectors are `card1-DP-1` and the like.
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
        if self.cards().is_empty() {
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
}

impl GpuSession for Session<'_> {
    fn enumerate(&mut self) -> Result<Enumeration, SourceError> {
        let driver_version = text(&self.source.sysfs, "module/amdgpu/version").unwrap_or_default();
        let mut found = Vec::new();
        for (index, folder) in self.source.cards() {
            let address = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let sensors = fs::read_dir(folder.join("hwmon")).into_iter().flatten().flatten().next();
            found.push(GpuIdentity {
                uuid: text(&folder, "unique_id").map_or_else(|| address.clone(), |id| format!("AMD-{id}")),
                name: text(&folder, "product_name")
                    .unwrap_or_else(|| format!("AMD {}", text(&folder, "device").unwrap_or_default())),
                pci_bus_id: address,
                driver_version: driver_version.clone(),
                ..GpuIdentity::new(index, "")
            });
            self.cards.insert(index, Card { sensors: sensors.map(|entry| entry.path()), folder });
        }
        Ok(Enumeration::new(found, 0))
    }

    fn read(&mut self, index: u32, part: Part, out: &mut Readings) -> Result<(), ReadError> {
        let Some(card) = self.cards.get(&index).filter(|card| card.folder.is_dir()) else {
            return Err(ReadError::Lost);
        };
        // To read most of these files would wake it.
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
        for (n, label) in self.temperatures() {
            let series = match label.as_str() {
                "edge" => Series::new(&catalog::TEMPERATURE_LIMIT, &[("kind", "gpu_max")]),
                "mem" => Series::new(&catalog::TEMPERATURE_LIMIT, &[("kind", "mem_max")]),
                _ => continue,
            };
            self.sensor(&format!("temp{n}_crit"), series, 1000.0, out);
        }
    }

    fn read_fast(&self, out: &mut Readings) {
        if let Some(percent) = number::<f64>(&self.folder, "gpu_busy_percent") {
            out.utilization(Some(percent / 100.0), Ring::Unsupported);
        }
        self.file("mem_busy_percent", Series::new(&catalog::MEMORY_CONTROLLER, &[]), 100.0, out);
        self.file("mem_info_vram_used", Series::new(&catalog::MEMORY_USED, &[]), 1.0, out);
        self.file("mem_info_vram_total", Series::new(&catalog::MEMORY_TOTAL, &[]), 1.0, out);
        // Microwatts. Which of the two there is depends on the generation; the driver does not say over how long it averages.
        let input = Series::new(&catalog::POWER, &[("reading", "instant")]);
        if !self.sensor("power1_input", input, 1e6, out) {
            self.sensor("power1_average", Series::new(&catalog::POWER, &[("reading", "driver")]), 1e6, out);
        }
        self.sensor("freq1_input", Series::new(&catalog::CLOCK, &[("domain", "sm")]), 1.0, out);
    }

    fn read_slow(&self, out: &mut Readings) {
        for (n, label) in self.temperatures() {
            let series = match label.as_str() {
                "edge" => Series::new(&catalog::TEMPERATURE, &[("sensor", "gpu")]),
                "mem" => Series::new(&catalog::TEMPERATURE, &[("sensor", "memory")]),
                _ => continue,
            };
            self.sensor(&format!("temp{n}_input"), series, 1000.0, out);
        }
        self.sensor("freq2_input", Series::new(&catalog::CLOCK, &[("domain", "memory")]), 1.0, out);
        self.sensor("power1_cap", Series::new(&catalog::POWER_LIMIT, &[("kind", "enforced")]), 1e6, out);
        if let Some(microjoules) = self.sensors.as_deref().and_then(|sensors| number(sensors, "energy1_input")) {
            out.count(Series::new(&catalog::ENERGY, &[]), microjoules, 1_000_000);
        }
        if let Some(replays) = number(&self.folder, "pcie_replay_count") {
            out.count(Series::new(&catalog::PCIE_REPLAYS, &[]), replays, 1);
        }
        self.link("current", out);
    }

    /// The numbers and names of the temperature sensors.
    fn temperatures(&self) -> impl Iterator<Item = (usize, String)> {
        let sensors = self.sensors.as_deref();
        (1..=3).filter_map(move |n| Some((n, text(sensors?, &format!("temp{n}_label"))?)))
    }

    fn file(&self, name: &str, series: Series, per_unit: f64, out: &mut Readings) -> bool {
        let value = number::<f64>(&self.folder, name);
        value.map(|value| out.gauge(series, value / per_unit)).is_some()
    }

    fn sensor(&self, name: &str, series: Series, per_unit: f64, out: &mut Readings) -> bool {
        let value = self.sensors.as_deref().and_then(|sensors| number::<f64>(sensors, name));
        value.map(|value| out.gauge(series, value / per_unit)).is_some()
    }

    fn link(&self, state: &str, out: &mut Readings) {
        let labels: &'static [_] = if state == "max" { &[("state", "max")] } else { &[("state", "current")] };
        self.file(&format!("{state}_link_width"), Series::new(&catalog::PCIE_WIDTH, labels), 1.0, out);
        let speed = text(&self.folder, &format!("{state}_link_speed"));
        if let Some(generation) = speed.as_deref().and_then(generation) {
            out.gauge(Series::new(&catalog::PCIE_GENERATION, labels), generation);
        }
    }
}

/// The generation of a link whose speed reads like `16.0 GT/s PCIe`.
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
