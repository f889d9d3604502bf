//! Against a server that does what it is told.

mod compare;
mod failures;
mod knee;
mod server;
mod tls;
