//! The HTTP side: routes, sockets, and a shutdown that lets running requests end.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
    serve::ListenerExt,
};
use llm_metrics::LlmMetrics;
use tokio::net::TcpListener;

use crate::{api, debug, engine::Engine, health, telemetry::MetricsService};

/// The state for all handlers.
pub(crate) struct App {
    /// The name under which the model is served.
    pub(crate) name: String,
    /// When the server started, in Unix seconds.
    pub(crate) created: u64,
    pub(crate) limits: Limits,
    /// Whether requests may ask for a demonstration.
    pub(crate) demo: bool,
    engine: OnceLock<Engine>,
    draining: AtomicBool,
}

/// The limits of a request.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) request_timeout: Option<Duration>,
    /// Tokens per choice.
    pub(crate) max_tokens: Option<usize>,
    /// Bytes of a request body.
    pub(crate) body: usize,
}

impl App {
    pub(crate) fn new(name: String, created: u64, limits: Limits, demo: bool) -> Arc<Self> {
        Arc::new(Self { name, created, limits, demo, engine: OnceLock::new(), draining: AtomicBool::new(false) })
    }

    /// The engine, once the model is loaded.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.engine.get()
    }

    pub(crate) fn model_is_loaded(&self, engine: Engine) {
        // There is one loader, so the cell is empty.
        let _ = self.engine.set(engine);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// All routes. The metrics layer is outside of everything that may reject a request, so that rejections count: the time limit, the queue limit and
/// the body limit are in the handlers. `/health` and routes that are added outside are not measured.
pub(crate) fn router(app: &Arc<App>, metrics: &LlmMetrics) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(api::chat_completions))
        .route("/v1/completions", post(api::completions))
        .route("/v1/responses", post(api::responses))
        .route("/v1/messages", post(api::messages))
        .route("/v1/messages/count_tokens", post(api::count_tokens))
        .route("/api/chat", post(api::ollama_chat))
        .route("/api/generate", post(api::ollama_generate))
        .route("/api/tags", get(api::ollama_models))
        .route("/api/show", post(api::ollama_show))
        .route("/api/ps", get(api::ollama_ps))
        .route("/api/version", get(api::ollama_version))
        .route("/v1/models", get(api::models))
        .route("/v1/models/{*id}", get(api::model))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(DefaultBodyLimit::max(app.limits.body))
        .layer(metrics.layer().ollama())
        .with_state(Arc::clone(app))
}

/// Routes for operators.
pub(crate) fn watching(metrics: &LlmMetrics, scrape: MetricsService) -> Router {
    Router::new()
        .route("/debug/requests", get(debug::requests))
        .with_state(metrics.clone())
        .route_service("/metrics", scrape)
}

/// Serves until `shutdown`, then lets running requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // A stream of small chunks stalls for 40 ms at a time while Nagle's algorithm waits for the client's delayed ACK.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!("TCP_NODELAY could not be set: {error}");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

#[cfg(test)]
mod tests;
