//! The program, without its command line.

mod answer;
mod client_body;
mod clients;
mod config;
mod endpoints;
mod gateway;
mod headers;
mod models;
mod peek;
mod poll;
mod proxy;
mod record;
mod route;
mod serve;
mod upstream;
mod windows;

pub use config::{
    AcceptEncoding, CaFileError, ClientPattern, Config, DEFAULT_LISTEN, InvalidConfig, InvalidUrl, Kind, Limits,
    Timeouts, UpstreamConfig, UpstreamUrl,
};
pub use gateway::{Gateway, GatewayError};
pub use upstream::TlsError;
