//! The meaning of return codes.

use nvml_wrapper::{Nvml, error::NvmlError};

use crate::source::SourceError;

/// How to handle a call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This device or driver does not support it: do not call again.
    Unsupported,
    /// This process has no permission: do not call again.
    Permission,
    /// There is no value at the moment, which is not an error.
    Nothing,
    /// The device is gone.
    Lost,
    /// The driver is gone.
    Source(SourceError),
    /// It failed, and may succeed next time.
    Failed,
}

const GPU_NOT_FOUND: u32 = 28;

/// By number if the wrapper has no name: codes 23 to 30 are newer than it.
pub(super) fn classify(error: &NvmlError) -> Fault {
    const ARGUMENT_VERSION_MISMATCH: u32 = 25;
    const DEPRECATED: u32 = 26;
    const NOT_READY: u32 = 27;

    match error {
        NvmlError::NotSupported
        | NvmlError::FunctionNotFound
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::VgpuEccNotSupported
        | NvmlError::UnexpectedVariant(ARGUMENT_VERSION_MISMATCH | DEPRECATED) => Fault::Unsupported,
        NvmlError::NoPermission => Fault::Permission,
        NvmlError::NotFound | NvmlError::NoData | NvmlError::Timeout | NvmlError::UnexpectedVariant(NOT_READY) => {
            Fault::Nothing
        }
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::UnexpectedVariant(GPU_NOT_FOUND) => Fault::Lost,
        NvmlError::Uninitialized
        | NvmlError::DriverNotLoaded
        | NvmlError::LibRmVersionMismatch
        | NvmlError::LibraryNotFound => Fault::Source(source_error(error)),
        _ => Fault::Failed,
    }
}

/// Whether the whole driver reports the same, after a device reported that it is gone.
pub(super) fn driver_is_gone(nvml: &Nvml) -> bool {
    nvml.device_count().is_err()
}

/// The same for a call about the whole driver.
pub(super) fn source_error(error: &NvmlError) -> SourceError {
    let detail = error.to_string();
    match error {
        NvmlError::LibloadingError(_) => SourceError::NoLibrary { detail },
        NvmlError::DriverNotLoaded | NvmlError::Uninitialized | NvmlError::LibraryNotFound => {
            SourceError::NotLoaded { detail }
        }
        NvmlError::LibRmVersionMismatch => SourceError::VersionMismatch,
        NvmlError::NoPermission | NvmlError::OperatingSystem => SourceError::Permission { detail },
        NvmlError::UnexpectedVariant(GPU_NOT_FOUND) => SourceError::NoDevice { detail },
        NvmlError::FailedToLoadSymbol(_) => SourceError::Unfit { symbol: "nvmlInit_v2" },
        _ => SourceError::Failed { detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_whole_driver_is_reported_with_its_reason() {
        let error = |code: u32| source_error(&NvmlError::from(code));
        for code in [1, 9, 12] {
            assert!(matches!(error(code), SourceError::NotLoaded { .. }), "code {code}");
        }
        for code in [4, 17] {
            assert!(matches!(error(code), SourceError::Permission { .. }), "code {code}");
        }
        assert_eq!(error(18), SourceError::VersionMismatch);
        assert!(matches!(error(28), SourceError::NoDevice { .. }));
        assert!(matches!(error(999), SourceError::Failed { .. }));
        let symbol = NvmlError::FailedToLoadSymbol("nvmlInit_v2".into());
        assert_eq!(source_error(&symbol), SourceError::Unfit { symbol: "nvmlInit_v2" });
    }

    #[test]
    fn every_return_code_has_a_meaning() {
        let expected = |code: u32| match code {
            3 | 13 | 22 | 25 | 26 => "unsupported",
            4 => "permission",
            6 | 10 | 21 | 27 => "nothing",
            15 | 16 | 28 => "lost",
            1 | 9 | 12 | 18 => "source",
            _ => "failed",
        };
        for code in (1..=30).chain([999, 4_000_000]) {
            let meaning = match classify(&NvmlError::from(code)) {
                Fault::Unsupported => "unsupported",
                Fault::Permission => "permission",
                Fault::Nothing => "nothing",
                Fault::Lost => "lost",
                Fault::Source(_) => "source",
                Fault::Failed => "failed",
            };
            assert_eq!(meaning, expected(code), "code {code}");
        }
    }
}
