//! Certificates in a file.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer,
    pem::{Error as PemError, PemObject},
};

/// Why a file has no certificates to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaFileError {
    /// It cannot be read, or is no PEM.
    #[error("the certificates cannot be read")]
    Read(#[source] PemError),
    /// There is none in it.
    #[error("there is no certificate in it: it has to be PEM, with a line -----BEGIN CERTIFICATE-----")]
    Empty,
}

/// All that are in it, one at least.
pub(in crate::program) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let found = CertificateDer::pem_file_iter(path).map_err(CaFileError::Read)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(CaFileError::Read)?;
    if found.is_empty() { Err(CaFileError::Empty) } else { Ok(found) }
}
