//! The address of the server, resolved once, so that the permitted address is the one that is used.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;

/// A server that this process may load-test.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The given host, for the `Host` header.
    pub(crate) host: HeaderValue,
    pub(crate) address: SocketAddr,
    /// The name that its certificate must have; `None` without TLS.
    pub(crate) certificate: Option<ServerName<'static>>,
    /// The prefix of each path: empty, or `/prefix`.
    base: String,
}

/// Why the server is not load-tested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTarget {
    /// It is not an address.
    #[error("{0:?} is not the address of a server; an example is http://127.0.0.1:8080")]
    NotAnAddress(String),
    /// The name cannot be resolved.
    #[error("{name}: the name cannot be resolved")]
    Unresolved {
        /// The name.
        name: String,
        /// The resolver's error.
        source: std::io::Error,
    },
    /// It is on another machine, and the load test was not permitted.
    #[error(
        "{name} is {address}, which is not this machine: a load test harms its other users. If you may load it, add \
         --yes-this-is-mine"
    )]
    NotLoopback {
        /// The given host.
        name: String,
        /// Its address.
        address: IpAddr,
    },
}

impl Target {
    pub(crate) fn resolve(text: &str, anywhere: bool) -> Result<Self, InvalidTarget> {
        let wrong = || InvalidTarget::NotAnAddress(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (is_https, usual_port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        // A password in a URL would be written to baseline.json.
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong());
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut addresses = (name.as_str(), uri.port_u16().unwrap_or(usual_port))
            .to_socket_addrs()
            .map_err(|source| InvalidTarget::Unresolved { name: name.clone(), source })?
            .collect::<Vec<_>>();
        if let Some(elsewhere) = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback())
            && !anywhere
        {
            return Err(InvalidTarget::NotLoopback { name, address: elsewhere.ip() });
        }
        // Servers on a laptop often listen only on 127.0.0.1.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let certificate = if is_https { Some(ServerName::try_from(name).map_err(|_| wrong())?) } else { None };
        Ok(Self {
            certificate,
            host: authority.as_str().parse().map_err(|_| wrong())?,
            address: *addresses.first().ok_or_else(wrong)?,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    pub(crate) fn has_path(&self) -> bool {
        !self.base.is_empty()
    }

    /// The URI of a path below the given address.
    pub(crate) fn uri(&self, path: &str) -> Uri {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let text = format!("{scheme}://{}{}{path}", self.address, self.base);
        text.parse().expect("an address, and a path that was part of one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_only_tested_with_permission() {
        for here in ["http://127.0.0.1:8080", "http://127.9.9.9", "http://localhost:1/", "http://[::1]:80"] {
            assert!(Target::resolve(here, false).is_ok(), "{here}");
        }
        for elsewhere in ["http://192.0.2.1:8080", "http://10.0.0.1", "http://[2001:db8::1]/", "http://0.0.0.0:80"] {
            let error = Target::resolve(elsewhere, false).unwrap_err();
            assert!(error.to_string().contains("--yes-this-is-mine"), "{error}");
            assert!(Target::resolve(elsewhere, true).is_ok());
        }
        assert!(Target::resolve("http://[::ffff:127.0.0.1]:80", false).is_ok(), "it is this machine in other words");
    }

    #[test]
    fn an_invalid_address_is_an_error() {
        for wrong in
            ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "/v1", "", "http://me:secret@127.0.0.1", "http://[::1"]
        {
            assert!(matches!(Target::resolve(wrong, true), Err(InvalidTarget::NotAnAddress(_))), "{wrong:?}");
        }
        assert!(matches!(Target::resolve("http://no.such.name.invalid", true), Err(InvalidTarget::Unresolved { .. })));
    }

    #[test]
    fn paths_are_appended_to_the_base_path() {
        let target = Target::resolve("http://localhost:8080/llm/", false).unwrap();
        assert_eq!(target.uri("/v1/models").path(), "/llm/v1/models");
        assert_eq!(target.host, "localhost:8080");
    }

    #[test]
    fn with_https_the_certificate_must_be_for_the_name_or_the_address() {
        for (text, name, port) in [
            ("https://localhost/llm", "localhost", 443),
            ("https://127.0.0.1:8443", "127.0.0.1", 8443),
            ("https://[::1]", "::1", 443),
        ] {
            let target = Target::resolve(text, false).unwrap();
            let expected = ServerName::try_from(name).unwrap();
            assert_eq!((target.certificate.as_ref(), target.address.port()), (Some(&expected), port), "{text}");
            assert_eq!(target.uri("/v1/models").scheme_str(), Some("https"));
        }
        assert_eq!(Target::resolve("http://localhost", false).unwrap().certificate, None);
        assert!(Target::resolve("https://192.0.2.1", false).unwrap_err().to_string().contains("--yes-this-is-mine"));
    }
}
