//! Which devices are watched.

use std::collections::HashSet;

use crate::source::{Enumeration, GpuIdentity};

/// Which of the devices that a driver has are watched.
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
    /// `CUDA_VISIBLE_DEVICES`; nothing is "all", empty is "none".
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

/// What was chosen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) gpus: Vec<GpuIdentity>,
    /// Why that may not be what was meant.
    pub(crate) warning: Option<String>,
}

impl Selection {
    pub(crate) fn choose(&self, found: Enumeration) -> Chosen {
        match self {
            Self::All => Chosen { gpus: found.found, warning: None },
            Self::Uuids(uuids) => {
                let wanted = |gpu: &GpuIdentity| uuids.iter().any(|uuid| gpu.uuid.eq_ignore_ascii_case(uuid));
                Chosen { gpus: found.found.into_iter().filter(wanted).collect(), warning: None }
            }
            Self::Cuda(environment) => environment.choose(found),
        }
    }
}

impl CudaEnvironment {
    /// Follows CUDA: entries are taken in order up to the first that is not valid; an entry is an index, a UUID, the
    /// beginning of one that is unique, or a MIG device, which stands for the GPU that it is on.
    ///
    /// An index means something only under `CUDA_DEVICE_ORDER=PCI_BUS_ID` or if all devices are of one model: else CUDA
    /// orders them by speed, which the driver does not tell. Then all devices are watched, with a warning.
    fn choose(&self, found: Enumeration) -> Chosen {
        let Some(list) = &self.visible else { return Chosen { gpus: found.found, warning: None } };
        let by_bus = self.order.as_deref() == Some("PCI_BUS_ID");
        let one_model = found.found.iter().map(|gpu| &gpu.name).collect::<HashSet<_>>().len() <= 1;
        let mut chosen = Chosen::default();
        for entry in list.split(',').map(str::trim) {
            let gpu = match entry.parse::<i64>() {
                Ok(_) if !by_bus && !one_model => {
                    let warning = format!(
                        "CUDA_VISIBLE_DEVICES has the index {entry}, which says nothing among different GPUs unless \
                         CUDA_DEVICE_ORDER=PCI_BUS_ID: watching all GPUs; set that, or name GPUs by UUID"
                    );
                    return Chosen { gpus: found.found, warning: Some(warning) };
                }
                Ok(index) => by_index(&found, index),
                Err(_) => by_uuid(&found.found, entry),
            };
            let Some(gpu) = gpu else { break };
            if !chosen.gpus.contains(gpu) {
                chosen.gpus.push(gpu.clone());
            }
        }
        chosen
    }
}

/// The n-th device by bus address. While one is missing the driver's own numbers, which follow the bus too, are safer.
fn by_index(found: &Enumeration, index: i64) -> Option<&GpuIdentity> {
    if found.missing > 0 {
        return found.found.iter().find(|gpu| i64::from(gpu.index) == index);
    }
    let mut gpus: Vec<_> = found.found.iter().collect();
    gpus.sort_by_key(|gpu| gpu.pci_bus_id.to_ascii_lowercase());
    gpus.get(usize::try_from(index).ok()?).copied()
}

fn by_uuid<'a>(gpus: &'a [GpuIdentity], entry: &str) -> Option<&'a GpuIdentity> {
    // The older way to name a MIG device: `MIG-GPU-<uuid>/<instance>/<instance>`.
    if let Some((uuid, _)) = entry.strip_prefix("MIG-").and_then(|rest| rest.split_once('/')) {
        return gpus.iter().find(|gpu| gpu.uuid.eq_ignore_ascii_case(uuid));
    }
    if entry.starts_with("MIG-") {
        return unique(gpus.iter().filter(|gpu| gpu.mig_uuids.iter().any(|uuid| begins(uuid, entry))));
    }
    entry.starts_with("GPU-").then(|| unique(gpus.iter().filter(|gpu| begins(&gpu.uuid, entry))))?
}

fn begins(uuid: &str, start: &str) -> bool {
    uuid.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)) && start.len() > "GPU-".len()
}

fn unique<'a>(mut matches: impl Iterator<Item = &'a GpuIdentity>) -> Option<&'a GpuIdentity> {
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
        assert_eq!(visible("MIG-GPU-aacc0000-1/1/0"), [1]);
        assert_eq!(visible("1,1"), [1]);
    }

    #[test]
    fn without_the_variable_all_devices_are_watched() {
        assert_eq!(CudaEnvironment::default().choose(three()).gpus.len(), 3);
    }

    #[test]
    fn an_index_among_different_models_is_refused_unless_the_order_is_known() {
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
