//! Servers with TLS, with trusted and untrusted certificates.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, sync::atomic::Ordering};

use llm_metrics_baseline::{Access, Baseline, Ended, Rates, RunError, Settings, Verdict, run};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::server::{Script, Scripted};

/// A server behind TLS, with a self-signed certificate for `localhost`.
struct Encrypted {
    server: Scripted,
    address: SocketAddr,
    certificate: tempfile::NamedTempFile,
}

impl Encrypted {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(certificate.path(), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = Scripted::start(Script { slots: 64, ..Script::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), server.address);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut socket) = acceptor.accept(socket).await else { return };
                    let mut plain = TcpStream::connect(behind).await.unwrap();
                    plain.set_nodelay(true).unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut plain).await;
                });
            }
        });
        Self { server, address, certificate }
    }

    fn settings(&self, host: &str) -> Settings {
        let mut settings = self.server.settings(Rates::Fixed(vec![20.0]));
        settings.target = format!("https://{host}:{}", self.address.port());
        settings.step.least_seconds = 3.0;
        settings.step.most_seconds = 3.0;
        settings
    }

    fn asked(&self) -> u64 {
        self.server.asked.load(Ordering::Relaxed)
    }
}

async fn measure(settings: Settings, ca_file: Option<PathBuf>) -> Result<Baseline, RunError> {
    let mut access = Access::default();
    access.ca_file = ca_file;
    run(settings, access, std::future::pending(), &mut |_| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_is_measured_like_any_other() {
    let encrypted = Encrypted::start().await;
    let ca_file = Some(encrypted.certificate.path().to_owned());
    let baseline = measure(encrypted.settings("localhost"), ca_file).await.unwrap();
    assert_eq!((baseline.ended, baseline.steps.len()), (Ended::Complete, 1), "{:?}", baseline.findings);
    let step = &baseline.steps[0];
    assert_eq!((step.verdict, step.client.answered), (Verdict::KeptUp, step.client.requests));
    // Its metrics are read over TLS, too.
    let counts: Vec<_> = step.comparison.iter().filter(|seen| seen.figure == "answered").collect();
    assert!(counts.len() == 1 && counts[0].client == counts[0].server, "{counts:?}");
    let first = step.client.time_to_first_token.as_ref().unwrap().p50.value;
    assert!((0.1 - 1e-3..0.2).contains(&first), "when its bytes came, with no connection set up in between: {first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untrusted_server_gets_no_request_and_the_error_says_what_to_do() {
    let encrypted = Encrypted::start().await;
    let ca_file = Some(encrypted.certificate.path().to_owned());
    for (settings, ca_file, says) in [
        (encrypted.settings("localhost"), None, "UnknownIssuer"),
        (encrypted.settings("127.0.0.1"), ca_file, "not valid for name"),
    ] {
        let error = measure(settings, ca_file).await.unwrap_err();
        assert!(matches!(error, RunError::Handshake { .. }), "{error}");
        let cause = std::error::Error::source(&error).expect("a cause").to_string();
        let error = error.to_string();
        assert!(cause.contains(says) && error.contains("--ca-file") && !error.contains(says), "{error}: {cause}");
    }
    assert_eq!(encrypted.asked(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_or_with_only_tls_is_distinguished_from_a_missing_one() {
    let encrypted = Encrypted::start().await;
    let mut settings = encrypted.settings("localhost");
    settings.target = format!("https://{}", encrypted.server.address);
    assert!(matches!(measure(settings.clone(), None).await, Err(RunError::Handshake { .. })));

    settings.target = format!("http://{}", encrypted.address);
    let baseline = measure(settings.clone(), None).await.unwrap();
    assert_eq!((baseline.ended, encrypted.asked()), (Ended::ServerFailing, 0), "{:?}", baseline.findings);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    settings.target = format!("https://{nobody}");
    let baseline = measure(settings, None).await.unwrap();
    assert!(
        baseline.findings.iter().any(|finding| finding.contains("unreachable (Connection refused")),
        "{:?}",
        baseline.findings
    );
}
