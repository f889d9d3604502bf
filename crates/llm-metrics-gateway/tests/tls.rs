//! Upstreams with https.

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use llm_metrics_gateway::{Config, Gateway};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use support::exchange;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// An upstream with a self-signed certificate for `localhost`.
struct Upstream {
    addr: SocketAddr,
    /// The certificate, as a file.
    ca: tempfile::NamedTempFile,
    /// The HTTP version of each request.
    spoken: Arc<Mutex<Vec<Version>>>,
}

impl Upstream {
    async fn start(offers: &[&[u8]]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let ca = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca.path(), made.cert.pem()).expect("a file");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
            .expect("a configuration");
        config.alpn_protocols = offers.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let spoken = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&spoken);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let answer = service_fn(move |request: Request<Incoming>| {
                        seen.lock().unwrap().push(request.version());
                        async move { Ok::<_, std::convert::Infallible>(answer(request)) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { addr, ca, spoken }
    }

    fn spoken(&self) -> Vec<Version> {
        self.spoken.lock().unwrap().clone()
    }
}

/// `ok`, or a connection that sends back what it gets.
fn answer(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !request.headers().contains_key("upgrade") {
        return Response::new(Full::from("ok"));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut tunnel = TokioIo::new(upgrade.await.expect("an upgrade"));
        let mut echo = [0; 4];
        tunnel.read_exact(&mut echo).await.expect("four bytes");
        tunnel.write_all(&echo).await.expect("an open connection");
        tunnel.shutdown().await.expect("an open connection");
    });
    let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
    response.body(Full::default()).expect("a response")
}

async fn gateway(upstream: &Upstream, trusts: bool) -> SocketAddr {
    let port = upstream.addr.port();
    let ca = if trusts { format!("ca_file = \"{}\"", upstream.ca.path().display()) } else { String::new() };
    let text = format!("[upstreams.up]\nurl = \"https://localhost:{port}\"\nprobe = \"0\"\n{ca}");
    let gateway = Gateway::new(Config::parse(&text).expect("a configuration")).expect("a gateway");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    tokio::spawn(gateway.serve(listener, None, std::future::pending(), std::future::pending()));
    addr
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn the_protocol_is_the_best_that_both_speak() {
    for (offers, version) in
        [(&[&b"h2"[..], b"http/1.1"][..], Version::HTTP_2), (&[b"http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        let upstream = Upstream::start(offers).await;
        let gateway = gateway(&upstream, true).await;
        for _ in 0..2 {
            let answer = exchange(gateway, GET).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"), "{answer}");
        }
        assert_eq!(upstream.spoken(), [version; 2]);
    }
}

#[tokio::test]
async fn an_untrusted_server_gets_no_request() {
    let upstream = Upstream::start(&[b"h2"]).await;
    let gateway = gateway(&upstream, false).await;
    let answer = exchange(gateway, GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("cannot be reached"), "{answer}");
    assert_eq!(upstream.spoken(), []);
}

#[tokio::test]
async fn a_websocket_passes_also_if_the_upstream_uses_http2() {
    let upstream = Upstream::start(&[b"h2", b"http/1.1"]).await;
    let gateway = gateway(&upstream, true).await;
    assert!(exchange(gateway, GET).await.ends_with("ok"));
    let mut socket = TcpStream::connect(gateway).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nping"), "{answer}");
    assert_eq!(upstream.spoken(), [Version::HTTP_2, Version::HTTP_11]);
}
