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
    /// The address of the server.
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    fn new(listener: &TcpListener, task: JoinHandle<()>) -> Self {
        Self { addr: listener.local_addr().expect("a bound socket"), task }
    }

    /// The URL of a path on this server.
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
                // Some tests are about clients that disconnect, so errors are ignored.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(TokioIo::new(socket), service)
                    .await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Server::new(&listener, task)
}

/// Answers every request with these pieces of bytes, which include the head. Each piece is written separately. Then closes the connection.
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
                    // Lets the peer read this piece before the next one is sent.
                    tokio::task::yield_now().await;
                }
                // Closing a socket with unread bytes would send a reset, which can overtake the written bytes.
                let _ = socket.shutdown().await;
                while matches!(socket.read_buf(&mut request).await, Ok(read) if read > 0) {}
            });
        }
    });
    Server::new(&listener, task)
}
