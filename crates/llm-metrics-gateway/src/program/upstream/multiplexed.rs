//! HTTP/2 connections, each for many concurrent requests.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{stream::Stream, upload::Upload};
use crate::program::windows;

/// A connection without data is pinged after this time.
const PING: Duration = Duration::from_secs(20);

/// The connections to one upstream.
#[derive(Default)]
pub(crate) struct Multiplexed {
    open: Mutex<Vec<Shared>>,
    /// Locked while a connection is opened, so that a burst of requests opens one and not hundreds.
    opening: tokio::sync::Mutex<()>,
}

/// A connection. The number of requests that use it is the number of other clones of `uses`.
struct Shared {
    sender: SendRequest<Upload>,
    uses: Uses,
}

/// Counts the requests of a connection by its clones, and identifies the connection. Contains the number of concurrent requests that the upstream
/// allows.
pub(crate) type Uses = Arc<AtomicUsize>;

impl Multiplexed {
    /// A connection that can take another request.
    pub(crate) fn take(&self) -> Option<(SendRequest<Upload>, Uses)> {
        let mut open = self.open();
        open.retain(|shared| !shared.sender.is_closed());
        // Two clones are not requests: that of this list, and that of the task.
        let has_room = |shared: &&Shared| Arc::strong_count(&shared.uses) < shared.uses.load(Ordering::Relaxed) + 2;
        open.iter().find(has_room).map(|shared| (shared.sender.clone(), Arc::clone(&shared.uses)))
    }

    /// Opens a connection, unless another request opens one meanwhile.
    pub(crate) async fn open_with<E>(
        &self,
        connect: impl Future<Output = Result<Stream, E>>,
        failed: impl FnOnce(hyper::Error) -> E,
    ) -> Result<(SendRequest<Upload>, Uses), E> {
        let _opening = self.opening.lock().await;
        if let Some(open) = self.take() {
            return Ok(open);
        }
        self.start(connect.await?).await.map_err(failed)
    }

    /// Starts HTTP/2 on a connection.
    pub(crate) async fn start(&self, stream: Stream) -> hyper::Result<(SendRequest<Upload>, Uses)> {
        let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .initial_stream_window_size(windows::STREAM)
            .initial_connection_window_size(windows::CONNECTION)
            .handshake(TokioIo::new(stream))
            .await?;
        let uses = Uses::new(AtomicUsize::new(connection.current_max_send_streams()));
        let allowed = Arc::clone(&uses);
        // Its requests report its errors.
        tokio::spawn(std::future::poll_fn(move |cx| {
            let ended = Pin::new(&mut connection).poll(cx).map(drop);
            allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
            ended
        }));
        self.open().push(Shared { sender: sender.clone(), uses: Arc::clone(&uses) });
        Ok((sender, uses))
    }

    /// Removes a connection on which a request could not be sent.
    pub(crate) fn forget(&self, uses: &Uses) {
        self.open().retain(|shared| !Arc::ptr_eq(&shared.uses, uses));
    }

    /// Whether HTTP/2 is used with this upstream.
    pub(crate) fn is_spoken(&self) -> bool {
        !self.open().is_empty()
    }

    fn open(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
