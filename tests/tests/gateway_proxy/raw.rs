//! Upstreams and clients that write and read raw bytes.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// An upstream; dropping it closes it.
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// A connection of an upstream.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    /// Handles each connection with `serve`.
    pub(crate) async fn start<F>(serve: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, serve)
    }

    pub(crate) fn on<F>(listener: TcpListener, serve: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let addr = listener.local_addr().expect("a bound socket");
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, counted) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).expect("a TCP socket");
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Peer { socket, requests: Arc::clone(&counted) }));
            }
        });
        Self { addr, connections, requests, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    /// The next request with its body, as raw text; `None` if the peer closes before it.
    pub(crate) async fn request(&mut self) -> Option<String> {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let chunked = head.contains("transfer-encoding: chunked");
                let complete = match length {
                    Some(length) => body.len() >= length.parse().expect("a length"),
                    None => !chunked || body.ends_with("0\r\n\r\n"),
                };
                if complete {
                    self.requests.fetch_add(1, Ordering::SeqCst);
                    return Some(text);
                }
            }
            match self.socket.read_buf(&mut read).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.socket.write_all(bytes.as_ref()).await;
        let _ = self.socket.flush().await;
    }

    /// Waits until the peer closes.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        while matches!(self.socket.read_buf(&mut rest).await, Ok(read) if read > 0) {}
    }

    /// Closes so that the peer gets a reset.
    pub(crate) fn reset(self) {
        self.socket.set_zero_linger().expect("a TCP socket");
    }
}

/// A client's connection.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.expect("somebody listens");
        socket.set_nodelay(true).expect("a TCP socket");
        Self(socket)
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("an open connection");
    }

    /// Reads until `needle` has arrived, and returns everything that was read.
    pub(crate) async fn until(&mut self, needle: &str) -> String {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if text.contains(needle) {
                return text;
            }
            let count = self.0.read_buf(&mut read).await.expect("an open connection");
            assert!(count > 0, "the connection was closed after {text:?}");
        }
    }

    /// Reads to the end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        let _ = self.0.read_to_end(&mut read).await;
        String::from_utf8_lossy(&read).into_owned()
    }
}

/// A complete response with a length.
pub(crate) fn unary(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The head of a stream.
pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A chunk of a stream.
pub(crate) fn piece(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// The end of a stream.
pub(crate) const END: &str = "0\r\n\r\n";

/// A chat request.
pub(crate) const CHAT: &str = "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: 27\r\n\r\n{\"model\":\"m\",\"stream\":true}";
