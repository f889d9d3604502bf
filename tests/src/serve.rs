//! Services on separate sockets.

use std::{error::Error, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tower::Service;

/// A running server; dropping it closes it and its connections.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    fn new(listener: &TcpListener, task: JoinHandle<()>) -> Self {
        Self { addr: listener.local_addr().expect("a bound socket"), task }
    }

    /// The URL of a path on it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// Serves HTTP/1 and HTTP/2 on a free port.
pub async fn serve<S, B>(service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let listener = std::sync::Arc::new(listen().await);
    let accepting = std::sync::Arc::clone(&listener);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = accepting.accept().await {
            socket.set_nodelay(true).expect("a TCP socket");
            let service = TowerToHyperService::new(service.clone());
            connections.spawn(async move {
                // A client that hangs up is what some tests are about.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(TokioIo::new(socket), service)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Server::new(&listener, task)
}

/// Answers every request, whatever it is, with these pieces of bytes, head and all, each written on its own; then closes.
pub async fn serve_raw(pieces: Vec<Bytes>) -> Server {
    let listener = std::sync::Arc::new(listen().await);
    let accepting = std::sync::Arc::clone(&listener);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut socket, _)) = accepting.accept().await {
            socket.set_nodelay(true).expect("a TCP socket");
            let pieces = pieces.clone();
            connections.spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    match socket.read_buf(&mut request).await {
                        Ok(read) if read > 0 => {}
                        _ => return,
                    }
                }
                for piece in pieces {
                    if socket.write_all(&piece).await.is_err() {
                        return;
                    }
                    // Let the reader see it before the next one comes.
                    tokio::task::yield_now().await;
                }
                // Closing with bytes unread would be a reset, which can overtake what was written.
                let _ = socket.shutdown().await;
                while matches!(socket.read_buf(&mut request).await, Ok(read) if read > 0) {}
            });
        }
    });
    Server::new(&listener, task)
}
