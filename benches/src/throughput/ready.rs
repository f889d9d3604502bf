//! The worst case: hyper, with all chunks ready.
//!
//! Each chunk is written separately, as by an engine that generates tokens; a body that is always ready would be written in large pieces.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use llm_metrics::LlmMetrics;
use tower::{Layer, service_fn};

use super::{CONNECTIONS, Rounds, Server};
use crate::{
    sample,
    script::{Chunks, Script},
};

/// Chunks with a token per stream; each connection has one stream: ten thousand chunks per round.
const CHUNKS: usize = 10_000 / CONNECTIONS;

/// Rounds without the layer and with it.
///
/// # Errors
/// If a socket cannot be opened, or a connection breaks.
pub fn rounds(metrics: &LlmMetrics, count: usize) -> io::Result<[Rounds; 2]> {
    super::rounds(&[serve(None)?, serve(Some(metrics.clone()))?], 1, count)
}

fn serve(metrics: Option<LlmMetrics>) -> io::Result<Server> {
    Server::start(|listener| async move {
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
    })
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

/// Yields to other tasks before each chunk.
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
