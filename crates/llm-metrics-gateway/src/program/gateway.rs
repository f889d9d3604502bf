//! The whole gateway.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use http::header;
use llm_metrics::{
    LabelPolicy, LlmMetrics, QualityChecks,
    catalog::{Naming, Registrar},
    prometheus::{self, Exporter},
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::catalog;
use crate::program::{
    clients::Clients,
    config::Config,
    endpoints::Endpoints,
    models::ModelNames,
    poll::{self, Engines},
    proxy::{Proxy, Routed},
    record,
    route::Routes,
    serve::{self, Service},
    upstream::{TlsError, Upstream},
};

/// A gateway that is set up but does not serve yet.
#[must_use = "it does nothing until `serve`"]
pub struct Gateway {
    config: Config,
    exporter: Exporter,
    metrics: LlmMetrics,
    models: ModelNames,
    upstreams: Vec<Arc<Upstream>>,
    registrar: Registrar,
}

/// Why a gateway could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The exporter could not be set up.
    #[error("the exporter could not be set up")]
    Exporter(#[from] prometheus::ExporterError),
    /// The metrics could not be set up.
    #[error("the metrics could not be set up")]
    Metrics(#[from] llm_metrics::BuildError),
    /// An upstream is the gateway itself, so each request would be sent in an endless loop.
    #[error(
        "upstreams.{upstream}.url: {address} is the address of this gateway itself: use the address of the engine, or another `listen`"
    )]
    Itself {
        /// The upstream's name.
        upstream: String,
        /// The address of the gateway.
        address: SocketAddr,
    },
    /// TLS cannot be set up for an upstream.
    #[error("upstreams.{upstream}: TLS cannot be set up")]
    Tls {
        /// The upstream's name.
        upstream: String,
        /// The cause.
        source: TlsError,
    },
}

impl Gateway {
    /// Sets up everything that needs neither sockets nor a runtime.
    ///
    /// # Errors
    /// If an upstream is the gateway itself, certificates cannot be read, or the exporter's thread cannot be spawned.
    pub fn new(config: Config) -> Result<Self, GatewayError> {
        let (recorder, exporter) = Exporter::builder().catalogue(catalog::SECTIONS, Naming::new()).build()?;
        let registrar = record::registrar(recorder);
        let mut upstreams = Vec::with_capacity(config.upstreams.len());
        for upstream in &config.upstreams {
            let mut own = [Some(config.listen), config.metrics_listen].into_iter().flatten();
            if let Some(address) = own.find(|address| upstream.url.is_served_on(*address)) {
                return Err(GatewayError::Itself { upstream: upstream.name.clone(), address });
            }
            let failed = |source| GatewayError::Tls { upstream: upstream.name.clone(), source };
            upstreams.push(Arc::new(Upstream::new(upstream.clone(), &registrar).map_err(failed)?));
        }
        let models = ModelNames::new(upstreams.len());
        let metrics = self::metrics(&config, &exporter, &models)?;
        Ok(Self { config, exporter, metrics, models, upstreams, registrar })
    }

    /// The metrics of the forwarded requests.
    #[must_use]
    pub fn metrics(&self) -> &LlmMetrics {
        &self.metrics
    }

    /// Serves clients on `listener`, and the gateway's own endpoints on `own` (or on `listener`, too, without `own`), until `stop`. Requests in
    /// flight may then continue until the drain time is over, or until `hurry`, which is polled from then on.
    ///
    /// Returns whether all of them ended.
    pub async fn serve(
        self,
        listener: TcpListener,
        own: Option<TcpListener>,
        stop: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> bool {
        let endpoints = Arc::new(Endpoints {
            scrape: self.exporter.service(),
            metrics: self.metrics.clone(),
            upstreams: self.upstreams.clone(),
            draining: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let engines = Engines::new(self.metrics.clone());
        for upstream in &self.upstreams {
            tasks.spawn(poll::watch(Arc::clone(upstream), self.models.clone(), engines.clone()));
        }
        let limits = self.config.limits;
        let own_endpoints = own.is_none();
        if let Some(own) = own {
            let service = Service {
                endpoints: Arc::clone(&endpoints),
                own_endpoints: true,
                proxy: None,
                limits,
                connections: metrics::Gauge::noop(),
            };
            tasks.spawn(async move {
                let never = std::future::pending;
                serve::serve(own, Arc::new(service), never(), never(), self.config.drain_timeout).await;
            });
        }
        let measured = self.config.measure.then_some(&self.metrics);
        let service = Service {
            endpoints: Arc::clone(&endpoints),
            own_endpoints,
            proxy: Some(Proxy::new(Routes::new(&self.upstreams), limits, measured)),
            limits,
            connections: self.registrar.gauge(&catalog::CONNECTIONS, []),
        };
        let stop = async {
            stop.await;
            endpoints.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        serve::serve(listener, Arc::new(service), stop, hurry, self.config.drain_timeout).await
    }
}

fn metrics(config: &Config, exporter: &Exporter, models: &ModelNames) -> Result<LlmMetrics, llm_metrics::BuildError> {
    let names = config.upstreams.iter().map(|upstream| upstream.name.clone());
    let mut builder = LlmMetrics::builder()
        .exporter(exporter)
        .quality(if config.check_outputs { QualityChecks::all() } else { QualityChecks::none() })
        .model_labels(models.policy(config.max_models))
        .max_label_sets((config.max_models * 8).max(500))
        .request_label("upstream", LabelPolicy::only(names).reserved(), |parts| {
            Some(parts.extensions.get::<Routed>()?.name().to_owned())
        });
    if let Some(own) = &config.clients {
        let clients = Clients::new(own.clone());
        builder = builder.request_label("client", clients.policy(), move |parts| {
            let agent = parts.headers.get(header::USER_AGENT)?.to_str().ok()?;
            Some(clients.name(agent).to_owned())
        });
    }
    builder.build()
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("config", &self.config).finish_non_exhaustive()
    }
}
