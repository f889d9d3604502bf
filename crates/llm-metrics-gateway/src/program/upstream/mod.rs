//! An upstream: its connections, and how requests are sent to it.

mod body;
mod connect;
mod fetch;
mod multiplexed;
mod pool;
mod send;
mod stream;
mod throttle;
mod tunnel;
mod upload;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::{Method, uri::PathAndQuery};
use llm_metrics::catalog::Registrar;

pub(crate) use body::{BodyError, UpstreamBody};
pub(crate) use connect::ConnectError;
pub use connect::TlsError;
pub(crate) use fetch::FetchError;
pub(crate) use send::SendError;
pub(crate) use tunnel::Tunnel;
pub(crate) use upload::Source;

use self::{connect::Connector, multiplexed::Multiplexed, pool::Pool};
use crate::program::{
    config::{Kind, UpstreamConfig},
    record::UpstreamMetrics,
};

/// An upstream with its state.
pub(crate) struct Upstream {
    pub(crate) config: UpstreamConfig,
    pub(crate) metrics: UpstreamMetrics,
    connector: Connector,
    pool: Pool,
    multiplexed: Multiplexed,
    in_flight: AtomicUsize,
    health: AtomicU8,
    started: Instant,
    /// The second after the start in which a failure was last logged.
    warned: AtomicU64,
    /// The detected kind, if it is not configured.
    found: OnceLock<Kind>,
}

/// The result of the last probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// No probe so far.
    Unknown,
    Up,
    Down,
}

impl Upstream {
    pub(crate) fn new(config: UpstreamConfig, registrar: &Registrar) -> Result<Self, TlsError> {
        Ok(Self {
            connector: Connector::new(&config)?,
            metrics: UpstreamMetrics::new(registrar, &config.name),
            pool: Pool::new(config.keep_alive),
            multiplexed: Multiplexed::default(),
            in_flight: AtomicUsize::new(0),
            health: AtomicU8::new(Health::Unknown as u8),
            started: Instant::now(),
            warned: AtomicU64::new(u64::MAX),
            found: OnceLock::new(),
            config,
        })
    }

    /// Its kind, if it is known.
    pub(crate) fn kind(&self) -> Kind {
        match self.config.kind {
            Kind::Auto => self.found.get().copied().unwrap_or_default(),
            configured => configured,
        }
    }

    /// Stores its detected kind.
    pub(crate) fn found(&self, kind: Kind) {
        let _ = self.found.set(kind);
    }

    /// The number of clients' requests in its engine.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            up if up == Health::Up as u8 => Health::Up,
            down if down == Health::Down as u8 => Health::Down,
            _ => Health::Unknown,
        }
    }

    /// Stores the result of a probe.
    pub(crate) fn probed(&self, up: bool) {
        let health = if up { Health::Up } else { Health::Down };
        let before = self.health.swap(health as u8, Ordering::Relaxed);
        self.metrics.up(up);
        if before != health as u8 {
            let (name, url) = (&self.config.name, &self.config.url);
            if up {
                tracing::info!(upstream = %name, %url, "the upstream answers");
            } else {
                tracing::warn!(upstream = %name, %url, "the upstream does not answer");
            }
        }
    }

    /// Logs a failure, at most once a second: if an upstream is down, every request fails.
    pub(crate) fn warn(&self, failure: std::fmt::Arguments<'_>) {
        let now = self.started.elapsed().as_secs();
        if self.warned.swap(now, Ordering::Relaxed) != now {
            tracing::warn!(upstream = %self.config.name, "a request failed: {failure}");
        }
    }

    /// Closes idle connections.
    pub(crate) fn sweep(&self) {
        self.pool.sweep();
    }

    /// Opens a connection and closes it again.
    pub(crate) async fn reach(&self) -> Result<(), ConnectError> {
        self.connector.connect().await.map(drop)
    }

    /// Converts a client's path to a path of the upstream.
    fn target(&self, path: &PathAndQuery) -> Result<PathAndQuery, http::uri::InvalidUri> {
        let base = &self.config.url.base_path;
        // `OPTIONS *` is about the server, so it has no path.
        if base.is_empty() || path == "*" { Ok(path.clone()) } else { format!("{base}{path}").parse() }
    }
}

/// A request in flight at this upstream.
pub(crate) struct InFlight {
    upstream: Arc<Upstream>,
    counts: bool,
}

impl InFlight {
    /// Counts a request that gives work to the engine. Other requests do not keep a model loaded.
    pub(crate) fn new(upstream: &Arc<Upstream>, method: &Method) -> Self {
        let counts = *method == Method::POST;
        if counts {
            upstream.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Self { upstream: Arc::clone(upstream), counts }
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.counts {
            self.upstream.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
