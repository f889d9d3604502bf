//! Tests with a scripted server.

mod compare;
mod failures;
mod knee;
mod server;
mod tls;
