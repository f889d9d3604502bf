//! `llm-gateway`: Prometheus metrics for unmodified engines. See the README of this crate.

#![forbid(unsafe_code)]

mod cli;
mod health;
mod log;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::Parser;
use llm_metrics_gateway::{Config, Gateway, GatewayError};
use tokio::net::TcpListener;

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Settings(#[from] cli::SettingsError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Health(#[from] health::HealthError),
    #[error("the runtime could not be started")]
    Runtime(#[source] io::Error),
}

fn main() -> ExitCode {
    let args = cli::Args::parse();
    log::start();
    let outcome = if args.check_health { check_health(args) } else { start(args) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
            // Not through the log, which may be off.
            let _ = writeln!(io::stderr(), "error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Checks the settings, and serves unless only the check was requested. Returns whether all requests ended.
fn start(args: cli::Args) -> Result<bool, RunError> {
    let checks = args.check;
    let mut config = args.settings()?;
    config.limits.connections = config.limits.connections.min(allowed_connections());
    let gateway = Gateway::new(config.clone())?;
    if checks {
        announce("the settings are valid");
        return Ok(true);
    }
    run(config, gateway)
}

/// Checks the running gateway with these settings.
fn check_health(args: cli::Args) -> Result<bool, RunError> {
    let listen = args.health_address()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?;
    let address = runtime.block_on(health::check(listen))?;
    announce(&format!("http://{address}/health: ok"));
    Ok(true)
}

/// The number of connections that the process can have: a stream needs two files, and a few more are needed.
fn allowed_connections() -> usize {
    // The usual soft limit is 1024; the hard limit is much higher.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => usize::try_from(files.saturating_sub(64) / 2).unwrap_or(usize::MAX).max(1),
        Err(error) => {
            tracing::warn!("the limit of open files could not be raised: {error}");
            usize::MAX
        }
    }
}

/// Serves until Ctrl-C or SIGTERM. Returns whether all requests ended.
fn run(config: Config, gateway: Gateway) -> Result<bool, RunError> {
    let runtime = tokio::runtime::Runtime::new().map_err(RunError::Runtime)?;
    let finished = runtime.block_on(serve(&config, gateway))?;
    // Tasks that are still running have had their time.
    runtime.shutdown_background();
    Ok(finished)
}

async fn serve(config: &Config, gateway: Gateway) -> Result<bool, RunError> {
    let listener = bind(config.listen).await?;
    let own = match config.metrics_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let address = |listener: &TcpListener, configured| listener.local_addr().unwrap_or(configured);
    let clients = address(&listener, config.listen);
    announce(&format!("listening on http://{clients}"));
    let metrics = own.as_ref().map_or(clients, |own| address(own, clients));
    announce(&format!("metrics on http://{metrics}/metrics"));
    for upstream in &config.upstreams {
        tracing::info!(name = %upstream.name, url = %upstream.url, kind = upstream.kind.as_str(), "upstream");
    }
    if !config.listen.ip().is_loopback() {
        tracing::warn!("all clients that can connect to {clients} can use the upstreams: the gateway requires no key");
    }
    let drain = config.drain_timeout;
    let stop = async move {
        interrupt().await;
        tracing::info!("shutting down: requests have {drain:?} to end; interrupt again to stop immediately");
    };
    let finished = gateway.serve(listener, own, stop, interrupt()).await;
    if !finished {
        tracing::warn!("some requests did not end in time, and were cut off");
    }
    Ok(finished)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

/// Prints a line. A closed output is not an error.
fn announce(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
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
