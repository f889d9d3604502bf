//! Clients' connections: accepted, bounded, and let go.

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
};

/// How long to wait when no connection can be accepted, for lack of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections are for.
pub(crate) struct Service {
    pub(crate) endpoints: Arc<Endpoints>,
    /// Whether the endpoints are here, too, and not at an address of their own alone.
    pub(crate) own_endpoints: bool,
    /// `None` where there are the endpoints and nothing else.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) limits: Limits,
    pub(crate) connections: metrics::Gauge,
}

/// Serves connections until `stop` says so; then lets those that are open finish, for `drain` at most or until `hurry`.
/// Whether all of them did.
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
        // Connections that became something else have their place, too.
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let _ = room.acquire_many(all).await;
    };
    tokio::select! {
        () = everybody => true,
        () = tokio::time::sleep(drain) => false,
        () = hurry => false,
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("nobody closes it");
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
        // A piece of a stream is worth its packet.
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
            // A client that hangs up is no concern of the gateway.
            _ = &mut connection => return,
            // Which HTTP it speaks is found out without a clock of its own.
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
    // Whoever wants a date has sent one.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes)
        // Pieces that come together go out together: to copy some hundred bytes costs less than to write each piece.
        .writev(false)
        .auto_date_header(false);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(largest).auto_date_header(false);
    builder
}

/// A connection that is open, for the gauge.
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
