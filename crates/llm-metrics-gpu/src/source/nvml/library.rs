//! Finds and opens the driver's library.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use nvml_wrapper::{Nvml, error::NvmlError};

use super::{fault::source_error, raw};
use crate::source::SourceError;

/// Candidates: the loader's own path, WSL, NixOS, the folders of container runtimes and of the GPU operator.
const CANDIDATES: &[&str] = &[
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",
    "/usr/local/nvidia/lib/libnvidia-ml.so.1",
    "/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
    "/run/nvidia/driver/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
];
const FILE: &str = if cfg!(target_os = "linux") { "libnvidia-ml.so.1" } else { "nvml.dll" };

/// Opens the library at `path`, or the first candidate that works.
pub(super) fn open(path: Option<&Path>) -> Result<Nvml, SourceError> {
    let candidates = match path {
        Some(path) => vec![in_folder(path)],
        None if cfg!(target_os = "linux") => CANDIDATES.iter().map(PathBuf::from).collect(),
        None => vec![PathBuf::from(FILE)],
    };
    open_first(&candidates).map_err(|error| match (error, path) {
        (SourceError::NoLibrary { detail }, Some(path)) => {
            let path = path.display();
            SourceError::NoLibrary {
                detail: format!("{detail}; {path} is configured (by NVML_LIB_PATH or in the program)"),
            }
        }
        (SourceError::NoLibrary { detail }, None) => {
            SourceError::NoLibrary { detail: format!("{detail}; set NVML_LIB_PATH if it is in an unusual place") }
        }
        (error, _) => error,
    })
}

/// Whether the library's file was deleted or replaced: the driver was upgraded, and the library on disk does not match the loaded kernel module.
pub(super) fn was_replaced(nvml: &Nvml) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    raw::address_in_library(nvml).is_some_and(|address| is_of_deleted_file(&maps, address))
}

/// Whether an address is in a deleted file, by lines such as `7f12-7f34 r-xp 00000000 08:01 1234  /path (deleted)`.
fn is_of_deleted_file(maps: &str, address: usize) -> bool {
    maps.lines().any(|line| {
        let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let bounds = range.map(|(from, to)| (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16)));
        matches!(bounds, Some((Ok(from), Ok(to))) if (from..to).contains(&address)) && line.ends_with(" (deleted)")
    })
}

/// A library that does not work, such as one of another driver version in a container, does not end the search. If none works, its error is returned.
pub(super) fn open_first(candidates: &[PathBuf]) -> Result<Nvml, SourceError> {
    let mut reported = SourceError::NoLibrary { detail: String::from("nowhere to look") };
    for (at, candidate) in candidates.iter().enumerate() {
        match open_at(candidate.as_os_str()) {
            Ok(nvml) => return Ok(nvml),
            Err(error) if at == 0 => reported = error,
            Err(SourceError::NoLibrary { .. }) => {}
            Err(error) if matches!(reported, SourceError::NoLibrary { .. }) => reported = error,
            Err(_) => {}
        }
    }
    Err(reported)
}

/// The value of `NVML_LIB_PATH`, if it is set: the file or its folder.
pub(super) fn from_environment() -> Option<PathBuf> {
    std::env::var_os("NVML_LIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn in_folder(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(FILE) } else { path.to_owned() }
}

fn open_at(path: &OsStr) -> Result<Nvml, SourceError> {
    let nvml = Nvml::builder().lib_path(path).init().map_err(|error| match &error {
        NvmlError::FailedToLoadSymbol(_) => SourceError::Unfit { symbol: "nvmlInit_v2" },
        _ => source_error(&error),
    })?;
    if let Some(symbol) = raw::missing_destructor(&nvml) {
        // Dropping it would panic. A library that cannot be shut down is useless; it stays open.
        std::mem::forget(nvml);
        return Err(SourceError::Unfit { symbol });
    }
    Ok(nvml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_whose_file_is_gone_is_recognised_by_its_address() {
        let maps = "55d0-55d8 r--p 00000000 08:01 12 /usr/bin/server\n\
                    7f10-7f20 r-xp 00000000 08:01 13                         /usr/lib/libnvidia-ml.so.590 (deleted)\n\
                    7f20-7f30 r-xp 00000000 08:01 14                         /usr/lib/libc.so.6\n\
                    nonsense\n";
        for (address, gone) in [(0x7f10, true), (0x7f1f, true), (0x7f20, false), (0x55d1, false), (0x1, false)] {
            assert_eq!(is_of_deleted_file(maps, address), gone, "{address:x}");
        }
        assert!(!is_of_deleted_file("", 1));
    }
}
