//! A client receives the same with and without the layer: head, bytes, trailers, and size hint.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body, SizeHint};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use llm_metrics_tests::{Client, Http, MODEL, MeasuredRequest, Script, Server, Step, Watched, post, serve, stream::*};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};

use crate::short;

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;

fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> AnyBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn script<S: Into<Step>>(steps: impl IntoIterator<Item = S>) -> AnyBody {
    Script::new(steps).boxed_unsync()
}

/// Status, content type, further headers, and body.
type Shape = (u16, &'static str, Vec<(&'static str, String)>, fn() -> AnyBody);

/// Answers of every kind, by number.
fn shapes() -> Vec<Shape> {
    const JSON: &str = "application/json";
    const EVENTS: &str = "text/event-stream";
    vec![
        (200, JSON, vec![], || full(completion("Hi", 9, 2))),
        (200, EVENTS, vec![], || full(short().concat())),
        (200, "text/event-stream; charset=utf-8", vec![], || script(short())),
        (200, EVENTS, vec![("trailer", "x-checksum".into())], || {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "abc".parse().unwrap());
            script(short().into_iter().map(Step::from).chain([Step::Trailers(trailers)]))
        }),
        (200, EVENTS, vec![("content-length", short().concat().len().to_string())], || script(short())),
        (200, JSON, vec![], empty),
        (200, EVENTS, vec![], empty),
        (200, JSON, vec![], || script([""; 0])),
        (200, EVENTS, vec![], || script(["", "", ""])),
        (204, JSON, vec![], empty),
        (304, JSON, vec![("etag", "\"a\"".into())], empty),
        (200, "text/html", vec![], || full("<html>")),
        (200, "no type at all", vec![], || script(short())),
        (200, "application/octet-stream", vec![], || full(&b"\0\xff"[..])),
        (200, EVENTS, vec![("content-encoding", "gzip".into())], || full(crate::bodies::GZIP)),
        (429, JSON, vec![("retry-after", "1".into())], || full("{\"error\":{}}")),
        (503, "text/plain", vec![], || script(["no", "t now"])),
    ]
}

fn answer(parts: &http::request::Parts) -> Response<AnyBody> {
    let shape: usize = parts.headers["x-shape"].to_str().unwrap().parse().unwrap();
    let (status, content_type, headers, body) = shapes().swap_remove(shape);
    let mut response = Response::new(body());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", content_type.parse().unwrap());
    // Otherwise it would be the current time.
    response.headers_mut().insert("date", "Sat, 01 Jan 2000 00:00:00 GMT".parse().unwrap());
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    if parts.method == Method::HEAD {
        // Every router does this.
        if let Some(length) = response.body().size_hint().exact() {
            response.headers_mut().entry("content-length").or_insert(length.into());
        }
        *response.body_mut() = empty();
    }
    response
}

/// The same service, bare and behind the layer.
async fn servers(watched: &Watched) -> [Server; 2] {
    async fn read<B: Body<Error: Into<BoxError>>>(request: Request<B>) -> Result<Response<AnyBody>, BoxError> {
        let (parts, body) = request.into_parts();
        body.collect().await.map_err(Into::into)?;
        Ok(answer(&parts))
    }
    let layer = watched.metrics.layer();
    [
        serve(service_fn(read::<hyper::body::Incoming>)).await,
        serve(ServiceBuilder::new().layer(layer).service(service_fn(|request: MeasuredRequest| read(request)))).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_every_shape_are_the_same_with_the_layer_and_without() {
    let watched = Watched::start().await;
    let servers = servers(&watched).await;
    for http in Http::BOTH {
        for (shape, (status, content_type, ..)) in shapes().into_iter().enumerate() {
            for method in [Method::POST, Method::HEAD, Method::GET] {
                let mut seen = Vec::new();
                for server in &servers {
                    let mut request = post(server.addr, CHAT, ask(MODEL));
                    *request.method_mut() = method.clone();
                    request.headers_mut().insert("x-shape", shape.into());
                    request.headers_mut().insert("te", "trailers".parse().unwrap());
                    let mut client = Client::open(http, server.addr).await;
                    let answer = client.send(request).await;
                    let head = (answer.head.status, answer.head.version, answer.head.headers.clone());
                    seen.push((head, answer.finish().await.unwrap()));
                }
                assert_eq!(seen[0], seen[1], "{http:?}, {method}, {status}, {content_type}, number {shape}");
                if method == Method::HEAD {
                    assert_eq!(seen[1].1, (Bytes::new(), None));
                }
            }
        }
    }
    let page = watched.settled().await;
    let posts = (2 * shapes().len()) as f64;
    assert_eq!(page.value("llm_requests_total", &[]), posts, "only POST requests are model calls");
}

/// The size hint and end of a body, before each frame and after the last.
async fn hints<B: Body<Data: Into<Bytes>, Error: std::fmt::Debug> + Unpin>(mut body: B) -> Vec<(SizeHintParts, bool)> {
    let mut seen = vec![known(&body)];
    while let Some(frame) = body.frame().await {
        drop(frame.unwrap());
        seen.push(known(&body));
    }
    seen
}

type SizeHintParts = (u64, Option<u64>);

fn known<B: Body>(body: &B) -> (SizeHintParts, bool) {
    let hint: SizeHint = body.size_hint();
    ((hint.lower(), hint.upper()), body.is_end_stream())
}

#[tokio::test]
async fn the_size_hint_and_end_of_a_body_pass_unchanged_before_and_after_each_frame() {
    let watched = Watched::start().await;
    for shape in 0..shapes().len() {
        let request = || Request::post(CHAT).header("x-shape", shape).body(Full::new(Bytes::from(ask(MODEL)))).unwrap();
        let bare = hints(answer(&request().into_parts().0).into_body()).await;
        let mut layered = watched.metrics.layer().layer(service_fn(
            |request: Request<llm_metrics::layer::RequestBody<Full<Bytes>>>| async move {
                let (parts, body) = request.into_parts();
                assert_eq!(hints(body).await, hints(Full::new(Bytes::from(ask(MODEL)))).await);
                Ok::<_, BoxError>(answer(&parts))
            },
        ));
        let body = layered.call(request()).await.unwrap().into_body();
        assert_eq!(hints(body).await, bare, "number {shape}");
    }
    assert_eq!(watched.settled().await.value("llm_requests_total", &[]), shapes().len() as f64);
}
