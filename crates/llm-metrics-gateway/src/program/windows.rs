//! The windows of HTTP/2's flow control.

/// The bytes of one body that the gateway holds while the receiver does not read.
pub(crate) const STREAM: u32 = 256 << 10;

/// The same for all bodies of a connection. By default hyper has 5 MiB as a client and 1 MiB as a server: a few bodies that are not read would stop all
/// others, and many small frames would close the connection, because their overhead may only be half of this window.
pub(crate) const CONNECTION: u32 = 64 << 20;
