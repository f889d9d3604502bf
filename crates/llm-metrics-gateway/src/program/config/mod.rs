//! The configuration of the gateway: one TOML file, which is checked before anything runs.
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

/// The configuration of the gateway.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The address for clients.
    pub listen: SocketAddr,
    /// The address of `/metrics`, `/health`, `/ready` and `/debug/requests`; `None` for the address of the clients.
    pub metrics_listen: Option<SocketAddr>,
    /// How long requests may continue after SIGTERM.
    pub drain_timeout: Duration,
    /// Whether requests are measured by the layer.
    pub measure: bool,
    /// Whether output is checked: loops, invalid JSON, leaked tokens.
    pub check_outputs: bool,
    /// The maximum number of models with their own label value.
    pub max_models: usize,
    /// Programs for the label `client`; `None` for no such label.
    pub clients: Option<Vec<ClientPattern>>,
    /// Limits for clients.
    pub limits: Limits,
    /// The upstreams, by name.
    pub upstreams: Vec<UpstreamConfig>,
}

/// A program, and the beginning of its user agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientPattern {
    /// The value of the label `client`.
    pub name: String,
    /// The beginning of the user agent, in lower case.
    pub prefix: String,
}

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum number of connections; further ones wait to be accepted.
    pub connections: usize,
    /// The maximum size of a request head in bytes; a larger one gets a 431.
    pub header_bytes: usize,
    /// How long a connection may take to send the head of its next request, including idle time; `None` for no limit.
    pub header_timeout: Option<Duration>,
    /// The maximum size of a body that is buffered to find the model, if requests are routed by model, in bytes.
    pub model_lookup_bytes: usize,
}

/// An upstream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// The value of the label `upstream`.
    pub name: String,
    /// Its URL.
    pub url: UpstreamUrl,
    /// Its kind.
    pub kind: Kind,
    /// The prefix of the paths that are sent to it. It is removed from the path.
    pub path_prefix: Option<String>,
    /// The models that are sent to it; a `*` at the end matches any text.
    pub models: Vec<String>,
    /// How the header `accept-encoding` is changed.
    pub accept_encoding: AcceptEncoding,
    /// Whether HTTP/2 is used without negotiation. With TLS it is negotiated.
    pub http2: bool,
    /// A file with trusted certificates, in addition to the platform's.
    pub ca_file: Option<PathBuf>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// How long an idle HTTP/1.1 connection is kept.
    pub keep_alive: Duration,
    /// The interval of probes; `None` for never.
    pub probe: Option<Duration>,
    /// The interval of fetching its list of models; `None` for never.
    pub refresh_models: Option<Duration>,
    /// The interval of polling the engine's own metrics; `None` for never.
    pub poll: Option<Duration>,
}

/// Timeouts; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until a connection is established, including TLS.
    pub connect: Option<Duration>,
    /// From the last byte of the request to the response head.
    pub head: Option<Duration>,
    /// Between two pieces of the response.
    pub idle: Option<Duration>,
}

impl UpstreamConfig {
    /// An upstream with default settings.
    #[must_use]
    pub fn new(name: impl Into<String>, url: UpstreamUrl, kind: Kind) -> Self {
        // A hosted service does not answer without a key, and has thousands of models.
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
            // uvicorn, llama-server and Node close idle connections after 5 s: the gateway should close them first.
            keep_alive: Duration::from_secs(4),
            probe: Some(Duration::from_secs(15)),
            refresh_models: asked.then_some(Duration::from_secs(60)),
            poll: None,
            url,
        }
    }
}

impl UpstreamConfig {
    /// Checks a name, which becomes a label value and is logged.
    ///
    /// # Errors
    /// If it is not valid; the error has the reason.
    pub fn check_name(name: &str) -> Result<(), String> {
        let rule = "use 1 to 64 letters, digits and -_.: and not `other` or `unknown`";
        if is_name(name) { Ok(()) } else { Err(rule.to_owned()) }
    }

    /// Parses a poll interval, such as `15s`.
    ///
    /// # Errors
    /// If it is not a time, or less than a second.
    pub fn parse_poll(text: &str) -> Result<Duration, String> {
        let time = duration(text)?;
        if time < OFTENEST { Err(too_often(time)) } else { Ok(time) }
    }
}

/// The shortest interval between two polls of the gateway.
const OFTENEST: Duration = Duration::from_secs(1);

fn too_often(time: Duration) -> String {
    format!("{time:?} is too short: use at least one second")
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

/// The default address on which the gateway listens.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

impl Config {
    /// A configuration with one upstream, which gets all requests, and default settings.
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

    /// Parses a configuration.
    ///
    /// # Errors
    /// If it is not TOML, has an unknown field, or an invalid value. The error has the line and the field.
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

    /// Host and port as in the URL: the value of `Host`.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}
