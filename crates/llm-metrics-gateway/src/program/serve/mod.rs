//! Connections of clients: accepts, limits and closes them.

mod interim;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use interim::ClientSocket;
pub(crate) use interim::Interim;

use crate::program::{
    answer::{Answer, AnswerBody, Timed},
    config::Limits,
    endpoints::Endpoints,
    proxy::Proxy,
    upstream::Tunnel,
    windows,
};

/// How long to wait if a connection cannot be accepted, for example because there are no file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections share.
pub(crate) struct Service {
    pub(crate) endpoints: Arc<Endpoints>,
    /// Whether the endpoints are served here, too, and not only on a separate address.
    pub(crate) own_endpoints: bool,
    /// `None` if only the endpoints are served here.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) limits: Limits,
    pub(crate) connections: metrics::Gauge,
}

/// Serves connections until `stop`. Then lets open connections finish, for at most `drain` or until `hurry`. Returns whether all of them finished.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let all = service.limits.connections;
    let room = Arc::new(Semaphore::new(all));
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (socket, permit) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let connection =
            Connection { service: Arc::clone(&service), interim: Interim::default(), permit: Arc::new(permit) };
        tokio::spawn(connection.serve(socket, graceful.watcher()));
    }
    drop(listener);
    let everybody = async {
        graceful.shutdown().await;
        // Upgraded connections count against the limit, too.
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let _ = room.acquire_many(all).await;
    };
    tokio::select! {
        () = everybody => true,
        () = tokio::time::sleep(drain) => false,
        () = hurry => false,
    }
}

/// The next connection, when the limit allows it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("it is never closed");
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return (socket, permit),
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[derive(Clone)]
struct Connection {
    service: Arc<Service>,
    interim: Interim,
    permit: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    async fn serve(self, socket: TcpStream, watcher: hyper_util::server::graceful::Watcher) {
        let _open = Open::new(&self.service.connections);
        // A piece of a stream is sent immediately, in its own packet.
        let _ = socket.set_nodelay(true);
        let limits = self.service.limits;
        let builder = builder(limits);
        let socket = TokioIo::new(ClientSocket::new(socket, self.interim.clone()));
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        let answer = service_fn(move |request| {
            seen.store(true, Ordering::Relaxed);
            let connection = self.clone();
            let answering = Timed::new(async move { connection.answer(request).await });
            async move { Ok::<Response<AnswerBody>, Infallible>(answering.await) }
        });
        let connection = builder.serve_connection_with_upgrades(socket, answer).into_owned();
        let mut connection = std::pin::pin!(watcher.watch(connection));
        let silence = async {
            match limits.header_timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A client that disconnects is not an error of the gateway.
            _ = &mut connection => return,
            // Detecting the version of HTTP needs no separate timer.
            () = silence, if !asked.load(Ordering::Relaxed) => {}
        }
        if asked.load(Ordering::Relaxed) {
            let _ = connection.await;
        }
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let service = &self.service;
        if service.own_endpoints && service.endpoints.has(request.uri().path()) {
            return Answer::own(service.endpoints.answer(request).await);
        }
        let Some(proxy) = &service.proxy else { return Answer::own(service.endpoints.answer(request).await) };
        if request.version() == Version::HTTP_11 {
            request.extensions_mut().insert(self.interim.clone());
        }
        let tunnel = || -> Tunnel { Arc::clone(&self.permit) as Tunnel };
        let answer = proxy.forward(request, tunnel).await;
        self.interim.close();
        answer
    }
}

fn builder(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let largest = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    // A `date` header of the upstream is kept, and none is added.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes)
        // Pieces that arrive together are written together: copying some hundred bytes costs less than several writes.
        .writev(false)
        .auto_date_header(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(largest)
        .initial_stream_window_size(windows::STREAM)
        .initial_connection_window_size(windows::CONNECTION)
        .auto_date_header(false);
    builder
}

/// An open connection, for the gauge.
struct Open(metrics::Gauge);

impl Open {
    fn new(gauge: &metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
