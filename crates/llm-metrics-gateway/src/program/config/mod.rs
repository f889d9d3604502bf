//! What the gateway is told: one TOML file, checked before anything runs.
//!
//! ```
//! use llm_metrics_gateway::Config;
//!
//! let config = Config::parse(
//!     r#"
//!     listen = "127.0.0.1:8080"
//!
//!     [upstreams.ollama]
//!     url = "http://127.0.0.1:11434"
//!     kind = "ollama"
//!     "#,
//! )?;
//! assert_eq!(config.upstreams[0].name, "ollama");
//!
//! let error = Config::parse("[upstreams.a]\nurl = \"ftp://x\"").unwrap_err();
//! assert_eq!((error.line, error.field.as_str()), (Some(2), "upstreams.a.url"));
//! # Ok::<(), llm_metrics_gateway::InvalidConfig>(())
//! ```

pub(super) mod ca_file;
mod check;
mod error;
mod file;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::uri::{Authority, Scheme};

pub use ca_file::CaFileError;
pub use error::InvalidConfig;
pub use values::{AcceptEncoding, InvalidUrl, Kind, UpstreamUrl};
use values::{duration, is_name};

/// Everything that the gateway is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/health`, `/ready` and `/debug/requests` are; `None` for the address of the clients.
    pub metrics_listen: Option<SocketAddr>,
    /// How long requests may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Whether requests are measured by the layer.
    pub measure: bool,
    /// Whether the text of answers is checked: loops, broken JSON, leaked tokens.
    pub check_outputs: bool,
    /// How many models may have a label of their own.
    pub max_models: usize,
    /// Which programs ask, as the label `client`: `None` for no such label.
    pub clients: Option<Vec<ClientPattern>>,
    /// What clients are held to.
    pub limits: Limits,
    /// Where requests are sent, by name.
    pub upstreams: Vec<UpstreamConfig>,
}

/// A program and how its user agent begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientPattern {
    /// The value of the label `client`.
    pub name: String,
    /// What the user agent begins with, in lower case.
    pub prefix: String,
}

/// What clients are held to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// The largest head of a request, in bytes: what is larger gets a 431.
    pub header_bytes: usize,
    /// How long a connection may take for the head of its next request, idle time included; `None` for as long as it likes.
    pub header_timeout: Option<Duration>,
    /// How much of a body is held to find the model where requests are routed by it, in bytes.
    pub model_lookup_bytes: usize,
}

/// Where requests are sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// The value of the label `upstream`.
    pub name: String,
    /// Where it is.
    pub url: UpstreamUrl,
    /// What it is.
    pub kind: Kind,
    /// The prefix of paths that are for it, which is taken off.
    pub path_prefix: Option<String>,
    /// The models that are for it; a `*` at the end stands for anything.
    pub models: Vec<String>,
    /// What happens to the header `accept-encoding`.
    pub accept_encoding: AcceptEncoding,
    /// Whether HTTP/2 is spoken without asking. With TLS it is negotiated.
    pub http2: bool,
    /// A file with certificates to trust beside the platform's.
    pub ca_file: Option<PathBuf>,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How long an HTTP/1.1 connection without a request is kept.
    pub keep_alive: Duration,
    /// How often it is probed; `None` for never.
    pub probe: Option<Duration>,
    /// How often its list of models is fetched; `None` for never.
    pub refresh_models: Option<Duration>,
    /// How often the engine's own figures are polled; `None` for never.
    pub poll: Option<Duration>,
}

/// How long each step may take; `None` for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until there is a connection, TLS included.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the head of the answer.
    pub head: Option<Duration>,
    /// Between two pieces of the answer.
    pub idle: Option<Duration>,
}

impl UpstreamConfig {
    /// An upstream with default settings.
    #[must_use]
    pub fn new(name: impl Into<String>, url: UpstreamUrl, kind: Kind) -> Self {
        // A hosted service has no answer for who brings no key, and thousands of models for who does.
        let asked = kind.is_local() && !(kind == Kind::Auto && url.is_https());
        Self {
            name: name.into(),
            kind,
            path_prefix: None,
            models: Vec::new(),
            accept_encoding: AcceptEncoding::Identity,
            http2: false,
            ca_file: None,
            timeouts: Timeouts::default(),
            // uvicorn and llama-server close after 5 s, Node after 5 s: we had better be first.
            keep_alive: Duration::from_secs(4),
            probe: Some(Duration::from_secs(15)),
            refresh_models: asked.then_some(Duration::from_secs(60)),
            poll: None,
            url,
        }
    }
}

impl UpstreamConfig {
    /// Checks a name: it becomes a label's value, and stands in the log.
    ///
    /// # Errors
    /// When it cannot be one; the error says why.
    pub fn check_name(name: &str) -> Result<(), String> {
        let rule = "it has to be 1 to 64 letters, digits and -_.: and not `other` or `unknown`";
        if is_name(name) { Ok(()) } else { Err(rule.to_owned()) }
    }

    /// Reads how often to poll, `15s` for example.
    ///
    /// # Errors
    /// When it is no time, or less than a second; the error says which.
    pub fn parse_poll(text: &str) -> Result<Duration, String> {
        let time = duration(text)?;
        if time < OFTENEST { Err(too_often(time)) } else { Ok(time) }
    }
}

/// The shortest time from one question of the gateway's own to the next.
const OFTENEST: Duration = Duration::from_secs(1);

fn too_often(time: Duration) -> String {
    format!("{time:?} is too often: a second is the least")
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(5)),
            head: Some(Duration::from_secs(600)),
            idle: Some(Duration::from_secs(300)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            header_bytes: 64 << 10,
            header_timeout: Some(Duration::from_secs(60)),
            model_lookup_bytes: 1 << 20,
        }
    }
}

/// The address on which the gateway listens unless told.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

impl Config {
    /// One upstream, which gets everything, and default settings.
    #[must_use]
    pub fn with_upstream(upstream: UpstreamConfig) -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            metrics_listen: None,
            drain_timeout: Duration::from_secs(30),
            measure: true,
            check_outputs: true,
            max_models: 64,
            clients: None,
            limits: Limits::default(),
            upstreams: vec![upstream],
        }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// When it is no TOML, has a field that nobody knows, or a value that cannot be. The error names line and field.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let file = file::parse(text)?;
        check::checked(text, file)
    }
}

impl UpstreamUrl {
    /// `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host and port, as they stand in the URL: what `Host` is set to.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}
