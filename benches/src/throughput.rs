//! hyper over loopback, with and without the layer.
//!
//! One thread serves, and what counts is its processor time, the kernel's share included: that is what limits how much it
//! can serve. Each chunk is written on its own, as an engine that produces tokens has it: a body that is always ready
//! would be written in large pieces.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use cpu_time::ThreadTime;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use llm_metrics::LlmMetrics;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::{mpsc, oneshot},
};
use tower::{Layer, service_fn};

use crate::{
    sample,
    script::{Chunks, Script},
};

/// Chunks of a stream.
const CHUNKS: usize = 200;
/// Connections at a time.
const CONNECTIONS: usize = 8;
/// Streams on each of them in a round.
const STREAMS: usize = 2;

/// What a round cost the serving thread without the layer and with it, in turn, in seconds.
///
/// # Errors
/// When a socket cannot be had, or a connection breaks.
pub fn rounds(metrics: &LlmMetrics, count: usize) -> io::Result<[Vec<f64>; 2]> {
    let servers = [serve(None)?, serve(Some(metrics.clone()))?];
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=count {
        for (server, times) in servers.iter().zip(&mut times) {
            let time = runtime.block_on(round_of(server))?;
            if round > 0 {
                times.push(time.as_secs_f64());
            }
        }
    }
    Ok(times)
}

/// A server on a thread of its own, until the process ends.
struct Server {
    address: SocketAddr,
    /// Asks for the processor time of its thread so far.
    clock: mpsc::UnboundedSender<oneshot::Sender<Duration>>,
}

impl Server {
    async fn processor_time(&self) -> io::Result<Duration> {
        let (reply, time) = oneshot::channel();
        self.clock.send(reply).map_err(io::Error::other)?;
        time.await.map_err(io::Error::other)
    }
}

fn serve(metrics: Option<LlmMetrics>) -> io::Result<Server> {
    let (clock, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<Duration>>();
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("server".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::spawn(async move {
                while let Some(reply) = asked.recv().await {
                    let _ = reply.send(ThreadTime::now().as_duration());
                }
            });
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = TokioIo::new(stream);
                match &metrics {
                    None => {
                        let service = TowerToHyperService::new(service_fn(answer));
                        tokio::spawn(http1::Builder::new().serve_connection(stream, service));
                    }
                    Some(metrics) => {
                        let service = TowerToHyperService::new(metrics.layer().layer(service_fn(answer)));
                        tokio::spawn(http1::Builder::new().serve_connection(stream, service));
                    }
                }
            }
            #[allow(unreachable_code, reason = "says what the type of an error is")]
            io::Result::Ok(())
        })
    })?;
    Ok(Server { address, clock })
}

async fn answer<B>(request: Request<B>) -> Result<Response<Paced>, B::Error>
where
    B: Body,
{
    request.into_body().collect().await?;
    let script = Script::stream(sample::text_chunks(), CHUNKS);
    let mut response = Response::new(Paced { chunks: Chunks::new(&script), waited: false });
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// Lets others run before each chunk.
struct Paced {
    chunks: Chunks,
    waited: bool,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.waited = !self.waited;
        if self.waited {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.chunks).poll_frame(context)
    }
}

/// Reads all streams of a round, and says what they cost the server.
async fn round_of(server: &Server) -> io::Result<Duration> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = TcpStream::connect(server.address).await?;
        connection.set_nodelay(true)?;
        connections.push(connection);
    }
    let start = server.processor_time().await?;
    let asking: Vec<_> = connections.into_iter().map(|connection| tokio::spawn(streams(connection))).collect();
    for connection in asking {
        connection.await??;
    }
    Ok(server.processor_time().await? - start)
}

async fn streams(mut connection: TcpStream) -> io::Result<()> {
    let question = sample::question(true);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        question.len()
    );
    let request = [head.as_bytes(), &question].concat();
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..STREAMS {
        connection.write_all(&request).await?;
        let mut end = [0; 5];
        while end != *b"0\r\n\r\n" {
            let read = connection.read(&mut buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let kept = read.min(end.len());
            end.rotate_left(kept);
            let from = end.len() - kept;
            end[from..].copy_from_slice(&buffer[read - kept..read]);
        }
    }
    Ok(())
}
