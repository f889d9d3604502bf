//! One run of the server, from the sockets to the drain.

use std::{
    io::Write,
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use axum::middleware;
use llm_metrics::LoadedModel;
use tokio::{net::TcpListener, runtime::Handle, sync::oneshot};

use crate::{
    cli::{Args, Model, ModelError},
    engine::{self, Engine, LoadError, Options},
    server::{self, App},
    spans::continue_trace,
    telemetry::{EngineMetrics, Telemetry, TelemetryError, model_loaded},
};

/// How often the loading of a large model is logged.
const PROGRESS: Duration = Duration::from_secs(5);

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the metrics could not be set up")]
    Telemetry(#[from] TelemetryError),
    #[error("the model could not be loaded")]
    Load(#[from] LoadError),
    #[error("the server stopped")]
    Serve(#[from] std::io::Error),
}

/// Serves until Ctrl-C, SIGTERM, or a failure.
///
/// Prints `listening on http://ADDRESS`, and `metrics on http://ADDRESS/metrics`, as its only lines on standard output.
pub(crate) async fn run(args: Args, exports_spans: bool) -> Result<(), RunError> {
    let model = args.model()?;
    let listener = bind(args.listen).await?;
    let scrapes = match args.metrics_addr {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let telemetry = Telemetry::install(&model.name, args.objectives(), args.watches_gpus(), args.checks())?;
    let app = App::new(model.name.clone(), crate::api::unix_seconds(), args.limits(), args.demo);
    if args.demo {
        tracing::warn!("--demo: a message that begins with `/demo NAME` is answered by a script, and not by the model");
    }

    let address = listener.local_addr()?;
    announce(&format!("listening on http://{address}"));
    let mut router = server::router(&app, &telemetry.metrics);
    let watching = server::watching(&telemetry.metrics, telemetry.exporter.service());
    match scrapes {
        Some(listener) => {
            announce(&format!("metrics on http://{}/metrics", listener.local_addr()?));
            tokio::spawn(server::serve(listener, watching, std::future::pending()));
        }
        None => {
            announce(&format!("metrics on http://{address}/metrics"));
            router = router.merge(watching);
        }
    }
    if exports_spans {
        router = router.layer(middleware::from_fn(continue_trace));
    }
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(server::serve(listener, router, async {
        let _ = stopped.await;
    }));

    let work = async {
        let started = Instant::now();
        let engine = load(&model, args.options(), telemetry.metrics.engine(&model.name)).await?;
        let context = engine.facts().context_length;
        tracing::info!("serving {} with a context of {context} tokens, loaded in {:?}", model.name, started.elapsed());
        let guard: LoadedModel =
            model_loaded(&telemetry.metrics, &model.name, &model.quantization, context, started.elapsed());
        app.model_is_loaded(engine);
        std::future::pending::<()>().await;
        drop(guard);
        Ok(())
    };
    // Pinned here, so that the model counts as loaded until the drain is over.
    let (mut work, mut serving) = (pin!(work), pin!(serving));
    tokio::select! {
        failed = &mut work => return failed,
        ended = &mut serving => return Ok(ended.map_err(std::io::Error::other)??),
        () = interrupt() => {}
    }

    tracing::info!(
        "shutting down: running requests may go on for {:?}; interrupt again to stop now",
        args.drain_timeout
    );
    app.start_draining();
    let _ = stop.send(());
    tokio::select! {
        ended = &mut serving => Ok(ended.map_err(std::io::Error::other)??),
        () = tokio::time::sleep(args.drain_timeout) => {
            tracing::warn!("some requests did not end in time, and are cut off");
            Ok(())
        }
        () = interrupt() => {
            tracing::warn!("interrupted again: stopping now");
            Ok(())
        }
    }
}

/// Prints a line. A closed output is not an error.
fn announce(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

/// Loads on a separate thread, because mistral.rs blocks, and logs every few seconds that it is still loading.
async fn load(model: &Model, options: Options, gauges: EngineMetrics) -> Result<Engine, LoadError> {
    let started = Instant::now();
    let source = model.source.clone();
    let runtime = Handle::current();
    let loading = tokio::task::spawn_blocking(move || runtime.block_on(engine::load(&source, &options, gauges)));
    let mut loading = pin!(loading);
    loop {
        tokio::select! {
            loaded = &mut loading => return loaded.unwrap_or_else(|_| {
                Err(LoadError::Engine("mistral.rs gave up on it; see above".to_owned()))
            }),
            () = tokio::time::sleep(PROGRESS) => {
                tracing::info!("still loading {}, for {} s now", model.name, started.elapsed().as_secs());
            }
        }
    }
}

/// Ctrl-C or, on Unix, SIGTERM.
async fn interrupt() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
