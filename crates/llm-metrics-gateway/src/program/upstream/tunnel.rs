//! Requests that upgrade their connection, such as WebSockets.

use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use hyper::{
    body::Incoming,
    client::conn::http1,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    InFlight, SendError, Upstream, UpstreamBody,
    body::{AbortOnDrop, Transport},
    upload::{Source, Upload},
};
use crate::program::{client_body::ClientBody, headers};

/// Keeps a value for as long as a tunnel is open.
pub(crate) type Tunnel = Arc<dyn Send + Sync>;

impl Upstream {
    /// Sends an upgrade request on its own connection. If the upstream agrees, bytes pass in both directions from then on, and are not inspected.
    pub(crate) async fn upgrade(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        tunnel: Tunnel,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let in_flight = InFlight::new(self, request.method());
        let client = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| "/".parse().expect("a path"));
        let encoding = self.config.accept_encoding;
        headers::keep_upgrade(&mut parts.headers, |headers| headers::of_request(headers, encoding));
        let host = self.config.url.authority().as_str().parse().ok();
        if let Some(host) = host {
            parts.headers.insert(header::HOST, host);
        }
        parts.uri = self.target(&path)?.into();
        parts.extensions = http::Extensions::new();

        let stream = TokioIo::new(self.connector.connect_http1().await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(SendError::broken)?;
        let task = tokio::spawn(async move {
            // Its errors are reported to the request.
            let _ = connection.with_upgrades().await;
        });
        let abort = AbortOnDrop(task.abort_handle());
        let (upload, _) = Upload::new(Source::Plain(ClientBody::new(body)));
        let answer = sender.send_request(Request::from_parts(parts, upload));
        let answer = match self.config.timeouts.head {
            Some(limit) => timeout(limit, answer).await.map_err(|_| SendError::HeadTimeout(limit))?,
            None => answer.await,
        };
        let mut answer = answer.map_err(SendError::broken)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upstream = hyper::upgrade::on(&mut answer);
            tokio::spawn(pass(client, upstream, (in_flight, abort, tunnel)));
            let (mut parts, body) = answer.into_parts();
            headers::keep_upgrade(&mut parts.headers, headers::of_answer);
            parts.extensions = http::Extensions::new();
            let body = UpstreamBody::new(body, Transport::One(None), InFlight::new(self, &http::Method::GET));
            return Ok(Response::from_parts(parts, body));
        }
        headers::of_answer(answer.headers_mut());
        Ok(answer.map(|body| UpstreamBody::new(body, Transport::Task(abort), in_flight)))
    }
}

async fn pass<K>(client: OnUpgrade, upstream: OnUpgrade, kept: K) {
    if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
        let (mut client, mut upstream): (TokioIo<Upgraded>, TokioIo<Upgraded>) =
            (TokioIo::new(client), TokioIo::new(upstream));
        // The end of one side ends the other; there is nothing else to report.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    }
    drop(kept);
}
