//! Finding and opening the driver's library.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use nvml_wrapper::{Nvml, error::NvmlError};

use super::{fault::source_error, raw};
use crate::source::SourceError;

/// Where the library is looked for: the loader's own path, WSL, the places of container runtimes and of the GPU operator.
const CANDIDATES: &[&str] = &[
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
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
    open_first(&candidates)
}

/// A library that is there and does not work, as one of another driver's version in a container, does not end the search;
/// but where nothing works, it is what there is to tell.
pub(super) fn open_first(candidates: &[PathBuf]) -> Result<Nvml, SourceError> {
    let mut told = SourceError::NoLibrary { detail: String::from("nowhere to look") };
    for (at, candidate) in candidates.iter().enumerate() {
        match open_at(candidate.as_os_str()) {
            Ok(nvml) => return Ok(nvml),
            Err(error) if at == 0 => told = error,
            Err(SourceError::NoLibrary { .. }) => {}
            Err(error) if matches!(told, SourceError::NoLibrary { .. }) => told = error,
            Err(_) => {}
        }
    }
    Err(told)
}

/// What `NVML_LIB_PATH` names, if it is set: the file or the folder that it is in.
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
        // Its drop would panic. A library that cannot be shut down is none that anybody has; it stays open.
        std::mem::forget(nvml);
        return Err(SourceError::Unfit { symbol });
    }
    Ok(nvml)
}
