//! Services in which new users install the layer.
#![cfg(all(feature = "axum", feature = "prometheus", feature = "test-util", feature = "tower"))]

use std::{fmt, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::Request,
    middleware::{self, Next},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use http_body_util::Full;
use llm_metrics::{
    InferenceHandle, Usage,
    catalog::{self, Naming},
    layer::TowerErrors,
    prometheus::bind_buckets,
    testing::{self, Page},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn};

const CHAT: &str = "/v1/chat/completions";

fn question(path: &str) -> Request {
    let body = Body::from("{\"model\": \"Qwen3-4B\", \"messages\": []}");
    Request::post(path).header("content-type", "application/json").body(body).unwrap()
}

/// An answer without a model, so the model must be read from the request.
fn answer() -> Json<Value> {
    Json(json!({"choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}]}))
}

async fn ask(app: Router, path: &str) -> u16 {
    let response = app.oneshot(question(path)).await.unwrap();
    let status = response.status().as_u16();
    to_bytes(response.into_body(), 1 << 20).await.unwrap();
    status
}

#[tokio::test]
async fn middleware_of_axum_works_directly_inside_the_layer() {
    async fn auth(request: Request, next: Next) -> Response {
        next.run(request).await
    }
    async fn chat(Json(_): Json<Value>) -> Json<Value> {
        answer()
    }
    let (metrics, page) = testing::metrics();
    let inside = ServiceBuilder::new()
        .layer(metrics.layer().proxy().request_body(Body::new))
        .layer(middleware::from_fn(auth))
        .concurrency_limit(8);
    let app = Router::new().route(CHAT, post(chat)).layer(inside);
    assert_eq!(ask(app, CHAT).await, 200);
    assert_eq!(page.value(&catalog::REQUESTS, &[("model", "Qwen3-4B"), ("outcome", "success")]), Some(1.0));
}

#[tokio::test]
async fn a_handler_takes_the_handle_whether_or_not_its_route_is_measured() {
    async fn chat(handle: InferenceHandle, Json(_): Json<Value>) -> Json<Value> {
        handle.model("Qwen3-4B-by-the-handle");
        handle.usage(Usage::new().input(9).output(18));
        handle.tokens(1);
        handle.queue_time(Duration::from_millis(1));
        handle.queue_time(Duration::MAX);
        handle.request_id("7");
        handle.input_truncated();
        answer()
    }
    let (metrics, page) = testing::metrics();
    let app = Router::new()
        .route(CHAT, post(chat))
        .route("/own", post(chat))
        .layer(metrics.layer())
        .route("/late", post(chat));
    for path in [CHAT, "/own", "/late"] {
        assert_eq!(ask(app.clone(), path).await, 200, "{path}");
    }
    assert_eq!(page.value(&catalog::INPUT_TOKENS, &[("model", "Qwen3-4B-by-the-handle")]), Some(9.0));
    assert_eq!(page.value(&catalog::REQUESTS, &[]), Some(1.0));
    let nothing = InferenceHandle::of(question("/own").extensions());
    assert_eq!(format!("{nothing:?}"), "InferenceHandle { settled: true, .. }");
}

/// An error that tower's buffer and others have wrapped.
#[derive(Debug)]
struct Wrapped(BoxError);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrapped")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

async fn failed(error: impl Fn() -> BoxError, proxy: bool) -> Page {
    let (metrics, page) = testing::metrics();
    let layer = if proxy { metrics.layer().proxy() } else { metrics.layer() };
    let service = layer
        .classify_error(TowerErrors)
        .layer(service_fn(|_| async { Err::<http::Response<Full<Bytes>>, BoxError>(error()) }));
    service.oneshot(question(CHAT)).await.unwrap_err();
    page
}

#[tokio::test]
async fn errors_of_tower_are_known() {
    let elapsed = || -> BoxError { Box::new(tower::timeout::error::Elapsed::new()) };
    let overloaded = || -> BoxError { Box::new(tower::load_shed::error::Overloaded::new()) };
    let other = || -> BoxError { "out of paper".into() };
    for (page, error_type) in [
        (failed(elapsed, false).await, "timeout"),
        (failed(overloaded, true).await, "overloaded"),
        (failed(|| Box::new(Wrapped(Box::new(Wrapped(elapsed())))), false).await, "timeout"),
        (failed(other, false).await, "internal"),
        (failed(other, true).await, "upstream_error"),
    ] {
        assert_eq!(page.value(&catalog::REQUEST_ERRORS, &[("error_type", error_type)]), Some(1.0), "{}", page.text());
    }
}

#[test]
fn an_existing_exporter_exports_histograms_of_the_catalogue() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let recorder = bind_buckets(PrometheusBuilder::new(), catalog::SECTIONS, &naming).unwrap().build_recorder();
    let page = recorder.handle();
    let metrics = llm_metrics::LlmMetrics::builder().recorder(recorder).naming(naming).build().unwrap();
    let mut inference = metrics.start(llm_metrics::Operation::Chat, "Qwen3-4B");
    inference.tokens(1);
    inference.finish(llm_metrics::FinishReason::Stop);
    metrics.refresh();
    let text = page.render();
    assert!(text.contains("# TYPE qwen_time_to_first_token_seconds histogram"), "{text}");
    assert!(!text.contains(" summary"), "{text}");
}

#[tokio::test]
async fn the_inner_service_can_be_read_changed_and_taken_out() {
    #[derive(Clone, Debug, PartialEq)]
    struct Counted(u32);
    let (metrics, _) = testing::metrics();
    let mut service = metrics.layer().layer(Counted(1));
    service.get_mut().0 += 1;
    assert_eq!((service.get_ref(), service.clone().into_inner()), (&Counted(2), Counted(2)));
    let mut service = metrics.layer().without_request_body().layer(Counted(1));
    service.get_mut().0 += 1;
    assert_eq!((service.get_ref(), service.clone().into_inner()), (&Counted(2), Counted(2)));
    let mut service = metrics.layer().request_body::<Full<Bytes>, _>(Body::new).layer(Counted(1)).into_inner();
    service.get_mut().0 += 1;
    assert_eq!((service.get_ref(), service.clone().into_inner()), (&Counted(2), Counted(2)));

    let request = Request::post(CHAT).body(Full::new(Bytes::from("{}"))).unwrap();
    let handler = service_fn(async |mut request: http::Request<llm_metrics::layer::RequestBody<Full<Bytes>>>| {
        assert_eq!(http_body::Body::size_hint(request.body().get_ref()).exact(), Some(2));
        *request.body_mut().get_mut() = Full::new(Bytes::from("{ }"));
        let body = to_bytes(Body::new(request.into_body().into_inner()), 9).await.unwrap();
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(body)))
    });
    let mut response = metrics.layer().layer(handler).oneshot(request).await.unwrap();
    assert_eq!(http_body::Body::size_hint(response.body().get_ref()).exact(), Some(3));
    *response.body_mut().get_mut() = Full::new(Bytes::from("{}"));
    assert_eq!(to_bytes(Body::new(response.into_body().into_inner()), 9).await.unwrap(), "{}");
}

#[tokio::test]
async fn a_response_body_that_is_taken_out_before_its_end_is_cancelled() {
    let (metrics, page) = testing::metrics();
    let handler = service_fn(async |_: http::Request<llm_metrics::layer::RequestBody<Body>>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from("{\"model\": \"Qwen3-4B\"}"))))
    });
    let response = metrics.layer().layer(handler).oneshot(question(CHAT)).await.unwrap();
    let body = response.into_body().into_inner();
    assert_eq!(page.value(&catalog::REQUESTS, &[("outcome", "cancelled")]), Some(1.0));
    drop(body);
    assert_eq!(page.value(&catalog::REQUESTS, &[]), Some(1.0));
}
