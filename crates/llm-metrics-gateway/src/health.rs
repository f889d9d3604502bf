//! `--check-health`: checks whether a running gateway is alive, for containers whose image has no other program for that.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The timeout of a check. The caller usually has a longer one (Docker: 30 s), with a less precise message.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Why a gateway is not alive, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HealthError {
    #[error("port 0 means any free port: use the port on which the gateway listens")]
    AnyPort,
    #[error("no connection to {address}: is the gateway running, with the same addresses as this check?")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("http://{address}/health did not answer")]
    Answer { address: SocketAddr, source: hyper::Error },
    #[error("http://{address}/health answered with status {status}")]
    Status { address: SocketAddr, status: StatusCode },
    #[error("http://{address}/health did not answer within {TIMEOUT:?}")]
    TimedOut { address: SocketAddr },
}

/// Checks the gateway whose own endpoints are on `listen`. Returns the address at which it answered.
pub(crate) async fn check(listen: SocketAddr) -> Result<SocketAddr, HealthError> {
    if listen.port() == 0 {
        return Err(HealthError::AnyPort);
    }
    let address = reachable(listen);
    match tokio::time::timeout(TIMEOUT, ask(address)).await {
        Ok(Ok(StatusCode::OK)) => Ok(address),
        Ok(Ok(status)) => Err(HealthError::Status { address, status }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(HealthError::TimedOut { address }),
    }
}

/// A gateway that listens on all addresses is checked on the loopback address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> Result<StatusCode, HealthError> {
    let socket = TcpStream::connect(address).await.map_err(|source| HealthError::Connect { address, source })?;
    let failed = |source| HealthError::Answer { address, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static("/health");
    let host = http::HeaderValue::try_from(address.to_string()).expect("an address is ASCII");
    request.headers_mut().insert(header::HOST, host);
    let answer = sender.send_request(request);
    tokio::select! {
        biased;
        answer = answer => Ok(answer.map_err(failed)?.status()),
        // The connection's error is reported by the request.
        Err(source) = connection => Err(failed(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_on_all_addresses_is_checked_on_loopback_and_others_on_their_address() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("10.0.0.5:8080", "10.0.0.5:8080"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
