//! A client that reads frame by frame and can disconnect.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinHandle};

/// A request body of any kind.
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// One connection. Dropping it closes the socket, whatever its state.
pub struct Client {
    sender: Sender,
    connection: JoinHandle<()>,
}

/// The HTTP version of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third one here")]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2 without TLS, with prior knowledge.
    Two,
}

impl Http {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::One, Self::Two];
}

enum Sender {
    Http1(conn::http1::SendRequest<AnyBody>),
    Http2(conn::http2::SendRequest<AnyBody>),
}

impl Client {
    /// Opens a connection.
    pub async fn open(http: Http, addr: SocketAddr) -> Self {
        match http {
            Http::One => Self::connect(addr).await,
            Http::Two => Self::connect_http2(addr).await,
        }
    }

    /// Opens an HTTP/1.1 connection.
    pub async fn connect(addr: SocketAddr) -> Self {
        let (sender, connection) = conn::http1::handshake(socket(addr).await).await.expect("a connection");
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender: Sender::Http1(sender), connection }
    }

    /// Opens an HTTP/2 connection without TLS, with prior knowledge.
    pub async fn connect_http2(addr: SocketAddr) -> Self {
        // hyper closes a connection on which about 10,000 frames of one byte wait to be read. So fewer bytes may be on their way.
        let mut builder = conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(8 << 10);
        let (sender, connection) = builder.handshake(socket(addr).await).await.expect("a connection");
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { sender: Sender::Http2(sender), connection }
    }

    /// Sends a request on the same connection, and waits for the response head.
    pub async fn send<B>(&mut self, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        self.try_send(request).await.expect("an answer")
    }

    /// Sends a request, and waits for the response head, if there is one.
    ///
    /// # Errors
    /// If the connection ends before the response head.
    pub async fn try_send<B>(&mut self, request: Request<B>) -> Result<Answer, hyper::Error>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Ok(Answer::new(response))
    }

    /// Closes the socket.
    pub fn hang_up(self) {}
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// An answer whose body the test reads piece by piece.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// Status and headers.
    pub head: Parts,
    body: Incoming,
}

impl Answer {
    fn new(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, hyper::Error>> {
        self.body.frame().await
    }

    /// Reads until at least this many bytes of data have arrived, and returns them.
    pub async fn bytes(&mut self, at_least: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < at_least {
            let frame = self.frame().await.expect("more of the answer").expect("no failure");
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data);
            }
        }
        read
    }

    /// Reads until `needle` has arrived.
    pub async fn until(&mut self, needle: &str) -> String {
        let mut read = Vec::new();
        loop {
            read.extend(self.bytes(1).await);
            let text = String::from_utf8_lossy(&read);
            if text.contains(needle) {
                return text.into_owned();
            }
        }
    }

    /// Reads to the end: all data and the trailers, if any.
    ///
    /// # Errors
    /// If the body fails.
    pub async fn finish(self) -> Result<(Bytes, Option<HeaderMap>), hyper::Error> {
        let collected = self.body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok((collected.to_bytes(), trailers))
    }

    /// Reads to the end.
    pub async fn text(self) -> String {
        let (bytes, _) = self.finish().await.expect("a whole answer");
        String::from_utf8(bytes.into()).expect("text")
    }
}

async fn socket(addr: SocketAddr) -> TokioIo<TcpStream> {
    let socket = TcpStream::connect(addr).await.expect("somebody listens");
    socket.set_nodelay(true).expect("a TCP socket");
    TokioIo::new(socket)
}

/// A `POST` with a JSON body, for a server at `addr`.
pub fn post(addr: SocketAddr, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://{addr}{path}"))
        .header("host", addr.to_string())
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .expect("a request")
}
