//! The gateway between real sockets: what passes, what fails and how, over HTTP/1.1 and HTTP/2, with scripted
//! upstreams.

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
