//! The selection of devices.

use std::collections::HashSet;

use crate::source::{Enumeration, GpuIdentity};

/// Which devices of a driver are monitored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Selection {
    #[default]
    All,
    Uuids(Vec<String>),
    Cuda(CudaEnvironment),
}

/// The variables by which CUDA chooses and orders devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CudaEnvironment {
    /// `CUDA_VISIBLE_DEVICES`; unset means all, empty means none.
    pub(crate) visible: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub(crate) order: Option<String>,
}

impl CudaEnvironment {
    pub(crate) fn of_process() -> Self {
        let get = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self { visible: get("CUDA_VISIBLE_DEVICES"), order: get("CUDA_DEVICE_ORDER") }
    }
}

/// The result of a selection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) gpus: Vec<GpuIdentity>,
    /// Why the selection may not be what was meant.
    pub(crate) warning: Option<String>,
}

impl Selection {
    /// The devices with these UUIDs, each once.
    pub(crate) fn uuids(uuids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut unique: Vec<String> = Vec::new();
        for uuid in uuids.into_iter().map(Into::into) {
            if !unique.iter().any(|known| known.eq_ignore_ascii_case(&uuid)) {
                unique.push(uuid);
            }
        }
        Self::Uuids(unique)
    }

    pub(crate) fn choose(&self, found: Enumeration) -> Chosen {
        let there = found.found.len();
        let mut chosen = match self {
            Self::All => Chosen { gpus: found.found, warning: None },
            Self::Uuids(uuids) => choose_uuids(uuids, found.found),
            Self::Cuda(environment) => environment.choose(found),
        };
        if chosen.gpus.is_empty() && there > 0 {
            chosen.warning = Some(format!("no GPU is monitored: none of the {there} GPUs was selected"));
        }
        chosen
    }
}

fn choose_uuids(uuids: &[String], found: Vec<GpuIdentity>) -> Chosen {
    let is = |gpu: &GpuIdentity, uuid: &String| gpu.uuid.eq_ignore_ascii_case(uuid);
    let absent: Vec<_> = uuids.iter().filter(|uuid| !found.iter().any(|gpu| is(gpu, uuid))).cloned().collect();
    let warning = (!absent.is_empty()).then(|| format!("selected GPUs are missing: {}", absent.join(", ")));
    Chosen { gpus: found.into_iter().filter(|gpu| uuids.iter().any(|uuid| is(gpu, uuid))).collect(), warning }
}

impl CudaEnvironment {
    /// Parses the list as CUDA does, according to nvitop and PyTorch, which were compared with CUDA. The first entry determines
    /// whether the list contains indices, UUIDs of GPUs, or UUIDs of MIG devices. Entries are used in order, up to the first
    /// invalid one. If an entry occurs twice, the whole list is invalid. An index is a number at the beginning of an entry,
    /// followed by any text. The beginning of a UUID is enough if only one device has it. A MIG device selects the GPU that it
    /// is part of.
    ///
    /// An index is only used with `CUDA_DEVICE_ORDER=PCI_BUS_ID`, or if all devices are of one model: otherwise CUDA orders
    /// devices by speed, which the driver does not report. Then all devices are monitored, with a warning.
    fn choose(&self, found: Enumeration) -> Chosen {
        let Some(list) = &self.visible else { return Chosen { gpus: found.found, warning: None } };
        let entries = list.split(',').map(str::trim);
        let gpus = match list.trim_start() {
            list if list.starts_with(GPU) => by_names(entries, |entry| by_uuid(&found.found, entry)),
            list if list.starts_with(MIG) => by_names(entries, |entry| by_mig_uuid(&found.found, entry)),
            _ => {
                let indices = indices(entries);
                let by_bus = self.order.as_deref() == Some("PCI_BUS_ID");
                let models: HashSet<_> = found.found.iter().map(|gpu| &gpu.name).collect();
                if let Some(index) = indices.first().filter(|_| !by_bus && models.len() > 1) {
                    let warning = format!(
                        "CUDA_VISIBLE_DEVICES has the index {index}, which says nothing among different GPUs unless \
                         CUDA_DEVICE_ORDER=PCI_BUS_ID: watching all GPUs; set that, or name GPUs by UUID"
                    );
                    return Chosen { gpus: found.found, warning: Some(warning) };
                }
                by_indices(&found, &indices)
            }
        };
        Chosen { gpus, warning: None }
    }
}

const GPU: &str = "GPU-";
const MIG: &str = "MIG-";

/// The indices of a list; `None` if one occurs twice.
fn indices<'a>(entries: impl Iterator<Item = &'a str>) -> Vec<u64> {
    let mut indices = Vec::new();
    for index in entries.map_while(leading_number) {
        if indices.contains(&index) {
            return Vec::new();
        }
        indices.push(index);
    }
    indices
}

/// Parses like `strtoul`: a sign may come first, and any text may follow.
fn leading_number(entry: &str) -> Option<u64> {
    let digits = entry.strip_prefix('+').unwrap_or(entry);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn by_indices(found: &Enumeration, indices: &[u64]) -> Vec<GpuIdentity> {
    indices.iter().map_while(|index| by_index(found, *index).cloned()).collect()
}

/// The n-th device by bus address. While one is missing, the driver's own indices, which also follow the bus, are safer.
fn by_index(found: &Enumeration, index: u64) -> Option<&GpuIdentity> {
    if found.missing > 0 {
        return found.found.iter().find(|gpu| u64::from(gpu.index) == index);
    }
    let mut gpus: Vec<_> = found.found.iter().collect();
    gpus.sort_by_key(|gpu| gpu.pci_bus_id.to_ascii_lowercase());
    gpus.get(usize::try_from(index).ok()?).copied()
}

/// The GPUs of a list of names. Each name is resolved to the UUID of a device, and the GPU that has this device. No GPU if a
/// device occurs twice.
fn by_names<'a>(
    entries: impl Iterator<Item = &'a str>,
    resolve: impl Fn(&str) -> Option<(String, GpuIdentity)>,
) -> Vec<GpuIdentity> {
    let (mut devices, mut gpus) = (HashSet::new(), Vec::new());
    for (device, gpu) in entries.map_while(resolve) {
        if !devices.insert(device) {
            return Vec::new();
        }
        if !gpus.contains(&gpu) {
            gpus.push(gpu);
        }
    }
    gpus
}

fn by_uuid(gpus: &[GpuIdentity], entry: &str) -> Option<(String, GpuIdentity)> {
    let gpu = unique(gpus.iter().filter(|gpu| begins(&gpu.uuid, entry, GPU)))?;
    Some((gpu.uuid.clone(), gpu.clone()))
}

fn by_mig_uuid(gpus: &[GpuIdentity], entry: &str) -> Option<(String, GpuIdentity)> {
    // The older form of a MIG device's name: `MIG-GPU-<uuid>/<instance>/<instance>`.
    if let Some((uuid, _)) = entry.strip_prefix(MIG).and_then(|rest| rest.split_once('/')) {
        let gpu = gpus.iter().find(|gpu| gpu.uuid.eq_ignore_ascii_case(uuid))?;
        return Some((entry.to_ascii_lowercase(), gpu.clone()));
    }
    let devices = gpus.iter().flat_map(|gpu| gpu.mig_uuids.iter().map(move |uuid| (uuid, gpu)));
    let (uuid, gpu) = unique(devices.filter(|(uuid, _)| begins(uuid, entry, MIG)))?;
    Some((uuid.clone(), gpu.clone()))
}

fn begins(uuid: &str, start: &str, kind: &str) -> bool {
    let head = uuid.get(..start.len());
    start.starts_with(kind) && start.len() > kind.len() && head.is_some_and(|head| head.eq_ignore_ascii_case(start))
}

fn unique<T>(mut matches: impl Iterator<Item = T>) -> Option<T> {
    let first = matches.next()?;
    matches.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(index: u32, uuid: &str, name: &str, bus: &str) -> GpuIdentity {
        GpuIdentity { name: name.into(), pci_bus_id: bus.into(), ..GpuIdentity::new(index, uuid) }
    }

    fn three() -> Enumeration {
        let mut third = gpu(2, "GPU-ccdd0000-2", "H100", "00000000:30:00.0");
        third.mig_uuids = vec!["MIG-11112222-a".into(), "MIG-33334444-b".into()];
        let gpus = vec![
            gpu(0, "GPU-aabb0000-0", "H100", "00000000:10:00.0"),
            gpu(1, "GPU-aacc0000-1", "H100", "00000000:20:00.0"),
            third,
        ];
        Enumeration::new(gpus, 0)
    }

    fn visible(list: &str) -> Vec<u32> {
        let environment = CudaEnvironment { visible: Some(list.into()), order: None };
        let chosen = environment.choose(three());
        assert_eq!(chosen.warning, None);
        chosen.gpus.iter().map(|gpu| gpu.index).collect()
    }

    #[test]
    fn the_list_is_read_as_cuda_reads_it() {
        assert_eq!(visible("2,1"), [2, 1], "in the order of the list");
        assert_eq!(visible("0,2,-1,1"), [0, 2], "up to the first that is not valid");
        assert_eq!(visible("0,7,1"), [0]);
        assert_eq!(visible("no"), [0; 0]);
        assert_eq!(visible(""), [0; 0], "empty is none");
        assert_eq!(visible("GPU-aabb0000-0,GPU-ccdd0000-2"), [0, 2]);
        assert_eq!(visible("GPU-aab, GPU-cc"), [0, 2], "the beginning of a UUID is enough");
        assert_eq!(visible("GPU-aa"), [0; 0], "unless it is that of two");
        assert_eq!(visible("GPU-"), [0; 0]);
        assert_eq!(visible("MIG-33334444-b"), [2], "the GPU that it is on");
        assert_eq!(visible("MIG-1111"), [2]);
        assert_eq!(visible("MIG-11112222-a,MIG-33334444-b"), [2], "two devices on one GPU");
        assert_eq!(visible("MIG-GPU-aacc0000-1/1/0"), [1]);
        assert_eq!(visible("MIG-GPU-aacc0000-1/1/0,MIG-GPU-aacc0000-1/2/0"), [1]);
        assert_eq!(visible("MIG-GPU-nobody/1/0"), [0; 0]);
    }

    #[test]
    fn a_prefix_of_every_uuid_selects_no_device_even_if_there_is_only_one() {
        let mut one = three();
        one.found.drain(..2);
        one.found[0].mig_uuids.truncate(1);
        for start in ["GPU-", "MIG-"] {
            let environment = CudaEnvironment { visible: Some(start.into()), order: None };
            assert_eq!(environment.choose(one.clone()).gpus, [], "{start}");
        }
    }

    #[test]
    fn a_duplicate_makes_the_whole_list_invalid() {
        for list in ["1,1", "0,1,0", "1,01", "GPU-aabb,GPU-aabb", "GPU-aabb,GPU-aabb0000-0", "MIG-1111,MIG-11112222-a"]
        {
            assert_eq!(visible(list), [0; 0], "{list}");
        }
        assert_eq!(visible("MIG-GPU-aacc0000-1/1/0,MIG-GPU-aacc0000-1/1/0"), [0; 0]);
    }

    #[test]
    fn the_first_entry_decides_the_kind_of_the_list() {
        assert_eq!(visible("0,GPU-ccdd0000-2"), [0]);
        assert_eq!(visible("GPU-ccdd0000-2,0"), [2]);
        assert_eq!(visible("MIG-1111,GPU-aabb"), [2]);
        assert_eq!(visible("GPU-aabb,MIG-1111"), [0]);
    }

    #[test]
    fn a_number_at_the_beginning_is_an_index_whatever_follows() {
        assert_eq!(visible("1gpu2,2ampere"), [1, 2]);
        assert_eq!(visible("+1, 2"), [1, 2]);
        assert_eq!(visible("-1"), [0; 0]);
        assert_eq!(visible("1,,2"), [1]);
        assert_eq!(visible("NoDevFiles"), [0; 0]);
        assert_eq!(visible("gpu-aabb0000-0"), [0; 0], "no UUID begins like that");
    }

    #[test]
    fn a_selected_uuid_that_is_missing_is_reported() {
        let chosen = Selection::uuids(["GPU-AABB0000-0", "gpu-aabb0000-0", "GPU-gone"]);
        assert_eq!(chosen, Selection::Uuids(vec!["GPU-AABB0000-0".into(), "GPU-gone".into()]), "each once");
        let chosen = chosen.choose(three());
        assert_eq!(chosen.gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0]);
        assert!(chosen.warning.is_some_and(|text| text.contains("GPU-gone") && !text.contains("AABB")));
        let chosen = Selection::uuids(["GPU-gone"]).choose(three());
        assert!(chosen.gpus.is_empty() && chosen.warning.is_some_and(|text| text.contains("none of the 3")));
        assert_eq!(Selection::uuids(["GPU-gone"]).choose(Enumeration::default()).gpus, []);
    }

    #[test]
    fn while_a_device_is_missing_an_index_is_the_drivers_number() {
        let mut gpus = three();
        gpus.found.remove(0);
        let environment = CudaEnvironment { visible: Some("1".into()), order: None };
        let watched = |gpus: &Enumeration| environment.choose(gpus.clone()).gpus[0].uuid.clone();
        assert_eq!(watched(&gpus), "GPU-ccdd0000-2", "the second that there is");
        gpus.missing = 1;
        assert_eq!(watched(&gpus), "GPU-aacc0000-1", "which is still the second");
    }

    #[test]
    fn without_the_variable_all_devices_are_watched() {
        assert_eq!(CudaEnvironment::default().choose(three()).gpus.len(), 3);
        assert_eq!(Selection::All.choose(Enumeration::default()).warning, None, "none is there, and none was chosen");
    }

    #[test]
    fn an_index_among_different_models_is_rejected_unless_the_order_is_known() {
        let mut mixed = three();
        mixed.found[0].name = "RTX 3060".into();
        let mut environment = CudaEnvironment { visible: Some("0".into()), order: Some("FASTEST_FIRST".into()) };
        let chosen = environment.choose(mixed.clone());
        assert!(chosen.gpus.len() == 3 && chosen.warning.is_some_and(|text| text.contains("PCI_BUS_ID")));
        environment.order = Some("PCI_BUS_ID".into());
        assert_eq!(environment.choose(mixed).gpus.len(), 1);
    }

    #[test]
    fn an_index_follows_the_bus_address_not_the_drivers_number() {
        let mut gpus = three();
        gpus.found.reverse();
        for (index, gpu) in gpus.found.iter_mut().enumerate() {
            gpu.index = index as u32;
        }
        let environment = CudaEnvironment { visible: Some("0".into()), order: None };
        assert_eq!(environment.choose(gpus).gpus[0].uuid, "GPU-aabb0000-0");
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in ["é,ß", "GPU-é", "MIG-/", "MIG-é/1", ",,,", "99999999999999999999", "GPU-\u{0}", " 1"] {
            let environment = CudaEnvironment { visible: Some(text.into()), order: None };
            environment.choose(three());
        }
    }
}
