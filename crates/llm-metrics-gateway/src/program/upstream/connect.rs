//! Opens connections.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::program::config::{CaFileError, UpstreamConfig, UpstreamUrl, ca_file::certificates};

/// Opens connections to one upstream.
pub(crate) struct Connector {
    url: UpstreamUrl,
    tls: Option<Tls>,
    limit: Option<Duration>,
}

struct Tls {
    /// Offers HTTP/2 and HTTP/1.1 by ALPN.
    any: TlsConnector,
    /// Offers only HTTP/1.1, which upgrades need.
    http1: TlsConnector,
    name: ServerName<'static>,
}

/// Why no connection was established.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{host} cannot be resolved")]
    Resolve { host: String, source: io::Error },
    #[error("no connection to {address}")]
    Refused { address: String, source: io::Error },
    #[error("no TLS connection to {address}")]
    Tls { address: String, source: io::Error },
    #[error("no connection to {address} within {limit:?}")]
    Timeout { address: String, limit: Duration },
}

/// Why TLS could not be set up for an upstream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The platform has no trusted certificates.
    #[error("no trusted certificates were found on this machine: install ca-certificates, or set ca_file")]
    NoRoots(#[source] Option<rustls_native_certs::Error>),
    /// The file with certificates cannot be read.
    #[error("{path}: the certificates cannot be used")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: CaFileError,
    },
    /// A certificate is invalid.
    #[error("{path}: a certificate is invalid")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
    /// The host is not a valid name for a certificate.
    #[error("{host} is not a valid server name for TLS")]
    Host {
        /// The host.
        host: String,
        /// The cause.
        #[source]
        source: InvalidDnsNameError,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

impl Connector {
    pub(crate) fn new(config: &UpstreamConfig) -> Result<Self, TlsError> {
        let tls = if config.url.is_https() { Some(Tls::new(config)?) } else { None };
        Ok(Self { url: config.url.clone(), tls, limit: config.timeouts.connect })
    }

    /// A new connection, to the first address of the host that accepts one.
    pub(crate) async fn connect(&self) -> Result<Stream, ConnectError> {
        self.in_time(self.try_connect(self.tls.as_ref().map(|tls| &tls.any))).await
    }

    /// A new HTTP/1.1 connection.
    pub(crate) async fn connect_http1(&self) -> Result<Stream, ConnectError> {
        self.in_time(self.try_connect(self.tls.as_ref().map(|tls| &tls.http1))).await
    }

    async fn in_time<T>(&self, connecting: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
        let Some(limit) = self.limit else { return connecting.await };
        let timed_out = |_| ConnectError::Timeout { address: self.url.authority().to_string(), limit };
        timeout(limit, connecting).await.map_err(timed_out)?
    }

    async fn try_connect(&self, tls: Option<&TlsConnector>) -> Result<Stream, ConnectError> {
        let (host, port) = (self.url.host(), self.url.port());
        let unresolved = |source| ConnectError::Resolve { host: host.to_owned(), source };
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host((host, port)).await.map_err(unresolved)? {
            match TcpStream::connect(address).await {
                Ok(socket) => return self.encrypted(socket, tls).await,
                Err(error) => refused = error,
            }
        }
        Err(ConnectError::Refused { address: self.url.authority().to_string(), source: refused })
    }

    async fn encrypted(&self, socket: TcpStream, connector: Option<&TlsConnector>) -> Result<Stream, ConnectError> {
        // A piece of a stream is sent immediately, in its own packet.
        let _ = socket.set_nodelay(true);
        let (Some(tls), Some(connector)) = (&self.tls, connector) else { return Ok(Stream::plain(socket)) };
        let failed = |source| ConnectError::Tls { address: self.url.authority().to_string(), source };
        Ok(Stream::tls(connector.connect(tls.name.clone(), socket).await.map_err(failed)?))
    }
}

impl Tls {
    fn new(config: &UpstreamConfig) -> Result<Self, TlsError> {
        let host = config.url.host().to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|source| TlsError::Host { host, source })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(config.ca_file.as_deref())?)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(client.clone()));
        client.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Self { any: TlsConnector::from(Arc::new(client)), http1, name })
    }
}

/// The platform's certificates, and those of the file.
fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        let unreadable = |source| TlsError::CaFile { path: path.to_owned(), source };
        for certificate in certificates(path).map_err(unreadable)? {
            let invalid = |source| TlsError::Certificate { path: path.to_owned(), source };
            roots.add(certificate).map_err(invalid)?;
        }
    }
    let mut native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() { Err(TlsError::NoRoots(native.errors.pop())) } else { Ok(roots) }
}
