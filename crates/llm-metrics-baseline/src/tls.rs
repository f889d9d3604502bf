//! Trusted certificates for servers with TLS.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The platform has no trusted certificates.
    #[error(
        "no trusted certificates were found on this machine: install ca-certificates, or name a file with --ca-file"
    )]
    NoRoots(#[source] Option<rustls_native_certs::Error>),
    /// The file with certificates cannot be read.
    #[error("{}: the certificates cannot be read", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("{}: it contains no certificate: it needs one or more in PEM (-----BEGIN CERTIFICATE-----)", .0.display())]
    Empty(PathBuf),
    /// A certificate is invalid.
    #[error("{}: a certificate is invalid", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// A connector that trusts the certificates of the platform (or of `SSL_CERT_FILE` and `SSL_CERT_DIR`) and those of the file.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca_file)?)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(client)))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        let unreadable = |source| TlsError::CaFile { path: path.to_owned(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            let invalid = |source| TlsError::Certificate { path: path.to_owned(), source };
            roots.add(certificate.map_err(unreadable)?).map_err(invalid)?;
        }
        if roots.is_empty() {
            return Err(TlsError::Empty(path.to_owned()));
        }
    }
    let mut native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() { Err(TlsError::NoRoots(native.errors.pop())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_without_certificates_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let error = |text: &str| {
            fs::write(&path, text).unwrap();
            connector(Some(&path)).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(error("").contains("ca.pem: it contains no certificate"));
        assert!(error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("is invalid"));
        assert!(error("-----BEGIN CERTIFICATE-----\nAAAA\n").contains("cannot be read"));
        assert!(connector(Some(Path::new("/no/such/file"))).err().unwrap().to_string().contains("/no/such/file"));
    }
}
