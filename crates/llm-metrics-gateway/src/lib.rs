//! A reverse proxy that gives an unmodified Ollama, llama.cpp, vLLM or hosted API the metrics of `llm-metrics`.
//!
//! Most users run it as the program `llm-gateway`; its manual is `docs/gateway.md`:
//!
//! ```text
//! llm-gateway --upstream http://127.0.0.1:11434 --listen 127.0.0.1:8080
//! ```
//!
//! As a library, it can be embedded in another program:
//!
#![cfg_attr(feature = "program", doc = "```no_run")]
#![cfg_attr(not(feature = "program"), doc = "```ignore")]
//! use llm_metrics_gateway::{Config, Gateway, Kind, UpstreamConfig};
//! use tokio::net::TcpListener;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let ollama = UpstreamConfig::new("ollama", "http://127.0.0.1:11434".parse()?, Kind::Ollama);
//! let config = Config::with_upstream(ollama);
//! let listener = TcpListener::bind(config.listen).await?;
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! Gateway::new(config)?.serve(listener, None, stop, std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//! ```text
//! serve ─ endpoints            /metrics, /health, /ready, /debug/requests
//!   └─── proxy ─ route, peek   selects the upstream, by path or model
//!          └─── layer          of llm-metrics, around …
//!                 └─── upstream ─ send, pool, multiplexed, tunnel
//! poll ─ upstream              probes, and polls engines for their models and metrics
//! ```
//! A request, its upstream connection and its response are polled by one task, that of the client's connection: a chunk
//! of a stream goes from socket to socket without changing threads, back-pressure needs no code, and when a client
//! disconnects, its upstream connection is closed. HTTP/2 upstreams are the exception: their connection is shared.
//!
//! # Features
//! `program` (on by default) has everything except the [`catalog`].
//!
//! # External types in the public API
//! Types of `http` (`Scheme`, `Authority`) and `tokio` (`TcpListener`), traits of `serde` and `clap`, and in errors types of `rustls` and `rustls-native-certs`.

#![forbid(unsafe_code)]
#![deny(unreachable_pub)]

pub mod catalog;
#[cfg(feature = "program")]
mod program;

#[cfg(feature = "program")]
pub use program::*;
