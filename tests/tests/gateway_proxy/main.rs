//! The gateway between real sockets, with scripted upstreams: which requests pass and which fail, and how, over HTTP/1.1 and HTTP/2.

mod failures;
mod faithful;
mod files;
mod http2;
mod limits;
mod polling;
mod protocols;
mod raw;
mod recording_upstream;
mod routing;
