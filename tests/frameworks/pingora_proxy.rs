// docs: proxy
use std::{mem, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use llm_metrics::{
    ErrorType as Kind,
    observe::{ObservedRequest, ObservedResponse, Observer, RequestReader, ResponseHead},
};
use pingora::{
    Error, ErrorSource,
    ErrorType::{ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, ReadTimedout, WriteTimedout},
    Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};

struct Proxy {
    /// `metrics.observer().proxy()`: a 5xx is the upstream's.
    observer: Observer,
    upstream: SocketAddr,
}

/// The observation of a request. pingora drops it when the request is over. If the observation has not ended by then, the request is cancelled.
#[derive(Default)]
struct Seen {
    request: Option<ObservedRequest>,
    body: RequestReader,
    response: Option<ObservedResponse>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Seen;

    fn new_ctx(&self) -> Seen {
        Seen::default()
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Seen) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    async fn request_filter(&self, session: &mut Session, seen: &mut Seen) -> Result<bool> {
        let request = self.observer.request(session.req_header());
        seen.body = request.body_reader();
        seen.request = Some(request);
        Ok(false)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        bytes: &mut Option<Bytes>,
        is_end: bool,
        seen: &mut Seen,
    ) -> Result<()> {
        if let Some(bytes) = bytes {
            seen.body.read(bytes);
        }
        if is_end {
            mem::take(&mut seen.body).end();
        }
        Ok(())
    }

    async fn upstream_request_filter(&self, _: &mut Session, head: &mut RequestHeader, _: &mut Seen) -> Result<()> {
        head.insert_header("accept-encoding", "identity") // compressed bodies cannot be read
    }

    async fn response_filter(&self, _: &mut Session, head: &mut ResponseHeader, seen: &mut Seen) -> Result<()> {
        if let Some(request) = seen.request.take() {
            seen.response = Some(request.response(ResponseHead::of(head.status, &head.headers)));
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        bytes: &mut Option<Bytes>,
        is_end: bool,
        seen: &mut Seen,
    ) -> Result<Option<Duration>> {
        if let (Some(bytes), Some(response)) = (bytes, &mut seen.response) {
            response.read(bytes);
        }
        if let Some(response) = seen.response.take_if(|_| is_end) {
            response.end();
        }
        Ok(None)
    }

    async fn logging(&self, _: &mut Session, error: Option<&Error>, seen: &mut Seen) {
        let Some(error) = error.filter(|error| *error.esource() != ErrorSource::Downstream) else { return };
        let kind = match error.etype() {
            ConnectRefused | ConnectNoRoute | ConnectError => Kind::UpstreamUnavailable,
            ConnectTimedout | ReadTimedout | WriteTimedout => Kind::Timeout,
            _ => Kind::UpstreamError,
        };
        if let Some(request) = seen.request.take() {
            request.fail(kind);
        }
        if let Some(response) = seen.response.take() {
            response.fail();
        }
    }
}
// end

use axum::{
    Json, Router,
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use llm_metrics::{
    LlmMetrics, Outcome,
    testing::{self, Page},
};
use pingora::{
    proxy::http_proxy_service,
    server::{RunArgs, Server, configuration::ServerConf},
};
use serde_json::{Value, json};

use crate::asked::{self, Answer};

async fn chat(Json(question): Json<Value>) -> Response {
    if question["model"] == "breaks" {
        let events = asked::answer(&json!({"model": "x", "stream": true}));
        let Answer::Events(events) = events else { unreachable!() };
        use futures_util::{StreamExt, stream};
        let broken = stream::once(async {
            tokio::time::sleep(Duration::from_millis(20)).await; // so that the previous bytes are sent
            Err(std::io::Error::other("broken"))
        });
        let events = events.map(|event| event.map_err(|never| match never {})).take(1).chain(broken);
        return ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response();
    }
    match asked::answer(&question) {
        Answer::Events(events) => {
            ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
        }
        Answer::Json(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Answer::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Answer::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A proxy in front of an upstream, with its own address.
async fn start(upstream: SocketAddr) -> (String, LlmMetrics, Page) {
    let (metrics, page) = testing::metrics();
    let observer = metrics.observer().proxy();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Proxy { observer, upstream });
    service.add_tcp(&address);
    server.add_service(service);
    std::thread::spawn(|| server.run(RunArgs::default()));
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (format!("http://{address}"), metrics, page)
}

async fn ask(url: &str, model: &str) -> reqwest::Result<String> {
    let question = json!({"model": model, "stream": true, "messages": []});
    let request = reqwest::Client::new().post(format!("{url}/v1/chat/completions")).json(&question);
    request.send().await?.text().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_measures_a_proxy_on_pingora() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().route("/v1/chat/completions", post(chat))).await });
    let (url, metrics, page) = start(upstream).await;
    asked::assert_proxied(&url, &metrics, &page).await;

    assert!(ask(&url, "breaks").await.is_err());
    let request = asked::ended(&metrics, 6).await;
    assert_eq!((&*request.model, request.outcome), ("breaks", Outcome::Error));
    assert_eq!(request.error_type, Some(Kind::StreamTruncated));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_not_there_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, metrics, _page) = start(free).await;
    ask(&url, "m").await.unwrap();
    let request = asked::ended(&metrics, 1).await;
    assert_eq!((request.outcome, request.error_type), (Outcome::Error, Some(Kind::UpstreamUnavailable)));
}
