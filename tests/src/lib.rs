//! Helpers for whole-system tests: services on sockets, clients that read frame by frame, scripted answers, a strict parser of `/metrics`, and a
//! Prometheus.

mod busy;
mod client;
mod collector;
mod daemon;
mod ended;
pub mod gateway;
mod gatewayed;
pub mod memory;
pub mod monitoring;
mod page;
mod prometheus;
pub mod qwen_server;
mod script;
mod serve;
pub mod stream;
mod tools;
mod watched;
mod webhook;

pub use busy::{Busy, Case, Everything, everything, everything_can_happen};
pub use client::{Answer, Client, Http, post};
pub use collector::{Collector, ExportedSpan, collector};
pub use daemon::{Daemon, free_address};
pub use ended::{assert_ended, assert_error};
pub use gatewayed::Gatewayed;
pub use page::{Family, Histogram, Page, Sample};
pub use prometheus::{Prometheus, start_prometheus};
pub use script::{Gate, Script, Step};
pub use serve::{Server, serve, serve_raw};
pub use tools::{Tool, node_with_packages, python_with, python_with_client, tool};
pub use watched::{MODEL, MeasuredRequest, Watched};
pub use webhook::Webhook;
