//! Certificates in a file.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer,
    pem::{Error as PemError, PemObject},
};

/// Why a file has no usable certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaFileError {
    /// It cannot be read, or is not PEM.
    #[error("the certificates cannot be read")]
    Read(#[source] PemError),
    /// It contains no certificate.
    #[error("it contains no certificate: use a PEM file with a line -----BEGIN CERTIFICATE-----")]
    Empty,
}

/// All certificates in the file, at least one.
pub(in crate::program) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CaFileError> {
    let found = CertificateDer::pem_file_iter(path).map_err(CaFileError::Read)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(CaFileError::Read)?;
    if found.is_empty() { Err(CaFileError::Empty) } else { Ok(found) }
}
