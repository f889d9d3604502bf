//! The layer in different positions: server, client, gateway.

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};
use llm_metrics::layer::RequestBody;
use llm_metrics_tests::{Client, MODEL, MeasuredRequest, Script, Watched, post, serve, serve_raw, stream::*};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use crate::{assert_ended, assert_error};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_measured_around_its_calls() {
    let watched = Watched::start().await;
    // The server itself is not measured.
    let server = serve(service_fn(|_: Request<Incoming>| async { Ok::<_, BoxError>(Script::stream(well(3))) })).await;
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<RequestBody<Full<Bytes>>>();
    let mut client = ServiceBuilder::new().layer(watched.metrics.layer().proxy()).service(client);
    for _ in 0..2 {
        let response = client.ready().await.unwrap().call(post(server.addr, CHAT, ask(MODEL))).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), well(3).concat());
    }
    let page = watched.settled().await;
    assert_ended(&page, 2, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[("model", MODEL)]), 6.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[]), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_server_is_gone_counts_an_upstream_error() {
    let watched = Watched::start().await;
    let server = serve(service_fn(|_: Request<Incoming>| async { Ok::<_, BoxError>(Script::stream(well(1))) })).await;
    let addr = server.addr;
    drop(server);
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<RequestBody<Full<Bytes>>>();
    let client = ServiceBuilder::new().layer(watched.metrics.layer().proxy()).service(client);
    // The port may take a moment to close. A request that still gets through succeeds.
    while client.clone().oneshot(post(addr, CHAT, ask(MODEL))).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let page = watched.settled().await;
    assert_error(&page, "upstream_error", "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_written_byte_by_byte_on_the_wire_reads_the_same_at_the_client() {
    let watched = Watched::start().await;
    let mut raw = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".to_vec();
    let stream = [role(), thought("Hm 🦀"), token("Hi"), finish("stop"), usage(9, 4), DONE.to_owned()].concat();
    raw.extend_from_slice(stream.as_bytes());
    let server = serve_raw(raw.into_iter().map(|byte| Bytes::from(vec![byte])).collect()).await;
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<RequestBody<Full<Bytes>>>();
    let client = ServiceBuilder::new().layer(watched.metrics.layer().proxy()).service(client);
    let response = client.oneshot(post(server.addr, CHAT, ask(MODEL))).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), stream);
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[]), 4.0);
    assert_eq!(page.count("llm_time_to_first_answer_token_seconds", &[]), 1.0);
    assert_eq!(page.value("llm_requests_total", &[("thinking", "true")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_closes_the_socket_mid_chunk_is_truncated() {
    let watched = Watched::start().await;
    let token = token("Hi");
    let raw = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{token}\r\nff\r\ndata: {{",
        token.len()
    );
    let server = serve_raw(vec![Bytes::from(raw)]).await;
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<RequestBody<Full<Bytes>>>();
    let client = ServiceBuilder::new().layer(watched.metrics.layer().proxy()).service(client);
    let response = client.oneshot(post(server.addr, CHAT, ask(MODEL))).await.unwrap();
    response.into_body().collect().await.expect_err("the connection broke");
    let page = watched.settled().await;
    assert_ended(&page, 1, "error");
    assert_error(&page, "stream_truncated", "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_forwards_both_bodies_is_measured_and_changes_nothing() {
    let watched = Watched::start().await;
    let upstream = serve(service_fn(|request: Request<Incoming>| async move {
        let body = request.into_body().collect().await?.to_bytes();
        assert_eq!(body, ask(MODEL));
        Ok::<_, BoxError>(Script::stream(well(5)))
    }))
    .await;
    let to = upstream.addr;
    let client = legacy::Client::builder(TokioExecutor::new()).build_http::<RequestBody<Incoming>>();
    let gateway = service_fn(move |mut request: MeasuredRequest| {
        let client = client.clone();
        async move {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = format!("http://{to}{path}").parse::<Uri>()?;
            Ok::<Response<Incoming>, BoxError>(client.request(request).await?)
        }
    });
    let gateway = serve(ServiceBuilder::new().layer(watched.metrics.layer().proxy()).service(gateway)).await;
    let mut client = Client::connect(gateway.addr).await;
    for _ in 0..3 {
        let answer = client.send(post(gateway.addr, CHAT, ask(MODEL))).await;
        assert_eq!(answer.text().await, well(5).concat());
    }
    let page = watched.settled().await;
    assert_ended(&page, 3, "success");
    assert_eq!(page.value("llm_output_tokens_total", &[("model", MODEL)]), 15.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_request_body_the_model_is_the_one_that_answers() {
    let watched = Watched::start().await;
    let service = service_fn(|request: Request<Incoming>| async move {
        request.into_body().collect().await?;
        Ok::<_, BoxError>(Script::stream(well(3)))
    });
    let layer = watched.metrics.layer().without_request_body();
    let server = serve(ServiceBuilder::new().layer(layer).service(service)).await;
    let mut client = Client::connect(server.addr).await;
    client.send(post(server.addr, CHAT, ask("another-name"))).await.text().await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "success");
    assert_eq!(page.value("llm_requests_total", &[("model", MODEL), ("stream", "true")]), 1.0);
    assert_eq!(page.value("llm_output_tokens_total", &[("model", MODEL)]), 3.0);
    assert_eq!(page.count("llm_time_to_first_token_seconds", &[("model", MODEL)]), 1.0, "under the right name");
    assert_eq!(page.label_values("llm_requests_total", "model").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_measured_and_serves_its_own_metrics_on_the_same_port() {
    let watched = Watched::start().await;
    let chat = || async {
        let body = axum::body::Body::new(Script::stream(well(2)).into_body());
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    };
    let router = axum::Router::new()
        .route(CHAT, axum::routing::post(chat))
        .layer(watched.metrics.layer())
        .route_service("/metrics", watched.exporter().service());
    let server = serve(router).await;
    let mut client = Client::connect(server.addr).await;
    client.send(post(server.addr, CHAT, ask(MODEL))).await.text().await;
    watched.settled().await;
    let get = Request::get("/metrics").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    let page = llm_metrics_tests::Page::parse(client.send(get).await.text().await);
    assert_ended(&page, 1, "success");
    assert_eq!(client.send(post(server.addr, "/metrics", "")).await.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_is_learnt_if_a_router_rejects_a_request_unread() {
    let watched = Watched::start().await;
    let router = axum::Router::new()
        .route(CHAT, axum::routing::post(|| async { (http::StatusCode::TOO_MANY_REQUESTS, "wait") }))
        .layer(watched.metrics.layer());
    let server = serve(router).await;
    Client::connect(server.addr).await.send(post(server.addr, CHAT, ask(MODEL))).await.text().await;
    let page = watched.settled().await;
    assert_ended(&page, 1, "rejected");
    assert_error(&page, "rate_limited", "429");
    // It depends on the network whether the request was in memory by then. If the name was read, it is `other`, because the request was rejected.
    let by = |model| page.value("llm_requests_total", &[("model", model)]);
    assert_eq!(by("other") + by("unknown"), 1.0);
}
