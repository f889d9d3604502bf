//! Idle HTTP/1.1 connections.
//!
//! A connection has no task: it is polled by the task of the request that uses it, so that a piece of a response passes from one socket to the other
//! without changing threads, and when a client disconnects, the connection is closed. An idle connection is not polled: whether the upstream has
//! closed it is checked when it is taken.

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::{
    stream::{Look, Stream},
    upload::Upload,
};

/// The maximum number of idle connections.
const MAX_IDLE: usize = 256;

/// How long a connection is not used after a stream. llama-server announces that it keeps a connection and closes it after each stream; a request
/// that is sent before the close is seen would be lost.
const REST: Duration = Duration::from_millis(50);

/// The read buffer of a connection. An idle connection keeps up to twice that. With hyper's default of 400 KB, idle connections were most of the
/// gateway's memory. The head of a response must fit into it.
const READ_BYTES: usize = 32 << 10;

/// The future that drives a connection.
pub(crate) type Driver = Pin<Box<http1::Connection<TokioIo<Stream>, Upload>>>;

/// A connection, and the future that drives it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Upload>,
    /// `None` after it has ended.
    pub(crate) driver: Option<Driver>,
    look: Look,
    usable_from: Instant,
}

/// The idle connections to one upstream.
pub(crate) struct Pool {
    idle: Mutex<Vec<Connection>>,
    keep_alive: Duration,
}

impl Connection {
    /// Starts HTTP/1.1 on a connection.
    pub(crate) async fn start(stream: Stream) -> hyper::Result<Self> {
        let look = stream.look();
        let (sender, driver) = http1::Builder::new().max_buf_size(READ_BYTES).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), look, usable_from: Instant::now() })
    }

    /// Polls the connection. The response's head and body go to their receivers.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            // Dropping it reports the failure to its request.
            self.driver = None;
        }
    }

    /// Whether it can send another request.
    pub(crate) fn is_open(&mut self, cx: &mut Context<'_>) -> bool {
        self.look.closely();
        self.drive(cx);
        self.driver.is_some() && self.sender.is_ready()
    }
}

impl Pool {
    pub(crate) fn new(keep_alive: Duration) -> Self {
        Self { idle: Mutex::default(), keep_alive }
    }

    /// The open connection that was used last.
    pub(crate) fn take(&self, cx: &mut Context<'_>) -> Option<Connection> {
        let now = Instant::now();
        loop {
            let mut connection = {
                let mut idle = self.idle();
                let rested = idle.iter().rposition(|connection| connection.usable_from <= now)?;
                idle.remove(rested)
            };
            if now.duration_since(connection.usable_from) < self.keep_alive && connection.is_open(cx) {
                return Some(connection);
            }
        }
    }

    /// Returns a connection after its request, if it can send another.
    pub(crate) fn put(&self, mut connection: Connection, streamed: bool, cx: &mut Context<'_>) {
        connection.drive(cx);
        if connection.driver.is_none() || !connection.sender.is_ready() {
            return;
        }
        connection.usable_from = Instant::now() + if streamed { REST } else { Duration::ZERO };
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// Closes connections that were idle for too long, and those that the upstream has closed.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let mut cx = Context::from_waker(Waker::noop());
        let all = std::mem::take(&mut *self.idle());
        let mut kept: Vec<_> = all
            .into_iter()
            .filter_map(|mut connection| {
                let waited = now.saturating_duration_since(connection.usable_from);
                (waited < self.keep_alive && connection.is_open(&mut cx)).then_some(connection)
            })
            .collect();
        let mut idle = self.idle();
        kept.append(&mut idle);
        kept.truncate(MAX_IDLE);
        *idle = kept;
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a result of a connection, while driving it.
pub(crate) async fn driven<T>(connection: &mut Connection, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    std::future::poll_fn(|cx| {
        connection.drive(cx);
        poll(cx)
    })
    .await
}
