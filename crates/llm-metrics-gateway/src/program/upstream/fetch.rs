//! Requests of the gateway itself to an upstream: its state, models and metrics.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;

use super::{Upstream, send::SendError, upload::Source};

/// The timeout of a response, and its maximum size.
const LIMIT: Duration = Duration::from_secs(5);
const LARGEST: usize = 8 << 20;

/// Why no response was received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the response body is incomplete or too large")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no response within {LIMIT:?}")]
    Timeout,
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the response is not valid JSON of the expected form")]
    Unexpected(#[from] serde_json::Error),
}

impl Upstream {
    /// Gets a path that is independent of the URL's path: a `/v1` at the URL's end is ignored.
    ///
    /// It counts neither as an attempt nor as a request in flight.
    pub(crate) async fn fetch(self: &Arc<Self>, path: &str) -> Result<(StatusCode, Bytes), FetchError> {
        timeout(LIMIT, self.try_fetch(path)).await.map_err(|_| FetchError::Timeout)?
    }

    /// The same, but only a response with status 200 is accepted.
    pub(crate) async fn fetch_ok(self: &Arc<Self>, path: &str) -> Result<Bytes, FetchError> {
        match self.fetch(path).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(FetchError::Status(status)),
        }
    }

    async fn try_fetch(self: &Arc<Self>, path: &str) -> Result<(StatusCode, Bytes), FetchError> {
        let base = &self.config.url.base_path;
        let root = base.strip_suffix("/v1").unwrap_or(base);
        let target = format!("{root}{path}").parse().map_err(SendError::Path)?;
        let mut request = Request::new(Source::Empty);
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
            .insert(header::USER_AGENT, HeaderValue::from_static(concat!("llm-gateway/", env!("CARGO_PKG_VERSION"))));
        let (status, body) = self.ask(request, target).await?;
        let body = Limited::new(body, LARGEST).collect().await.map_err(FetchError::Body)?;
        Ok((status, body.to_bytes()))
    }
}
