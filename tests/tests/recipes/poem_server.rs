// docs: middleware
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, combinators::BoxBody};
use llm_metrics::observe::{ObservedResponse, Observer, RequestReader, ResponseHead};
use poem::{Body, Endpoint, IntoResponse, Request, Response, Result};

async fn measure(observer: Observer, next: Arc<impl Endpoint>, mut request: Request) -> Result<Response> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.original_uri().clone();
    head.headers = request.headers().clone();
    let observed = observer.request(&head);
    if let Some(handle) = observed.handle() {
        request.extensions_mut().insert(handle); // for a handler that can report more than the bytes show
        let body = request.take_body();
        request.set_body(read_as_it_passes(body, observed.body_reader()));
    }
    match next.call(request).await {
        Ok(response) => {
            let mut response = response.into_response();
            let body: BoxBody<Bytes, io::Error> = response.take_body().into();
            let mut seen = ResponseHead::of(response.status(), response.headers());
            if let Some(bytes) = http_body::Body::size_hint(&body).exact() {
                seen = seen.content_length(bytes);
            }
            let observed = observed.response(seen);
            if observed.is_open() {
                response.set_body(ObservedBody { body, observed: Some(observed) }.boxed());
            } else {
                response.set_body(body); // not measured, or already ended
            }
            Ok(response)
        }
        Err(error) => {
            observed.response(ResponseHead::new(error.status().as_u16())).end();
            Err(error)
        }
    }
}

fn read_as_it_passes(body: Body, reader: RequestReader) -> Body {
    let (mut body, mut reader) = (Box::pin(body.into_bytes_stream()), Some(reader));
    Body::from_bytes_stream(stream::poll_fn(move |context| {
        let chunk = ready!(body.as_mut().poll_next(context));
        match (&chunk, &mut reader) {
            (Some(Ok(bytes)), Some(reader)) => reader.read(bytes),
            (None, reader) => drop(reader.take().map(RequestReader::end)),
            _ => {}
        }
        Poll::Ready(chunk)
    }))
}

/// A body that passes its bytes to the observer. poem drops it when the client has left; then the request is cancelled.
struct ObservedBody {
    body: BoxBody<Bytes, io::Error>,
    observed: Option<ObservedResponse>,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => match (frame.data_ref(), &mut self.observed) {
                (Some(bytes), Some(observed)) => observed.read(bytes),
                (None, observed) => drop(observed.take().map(ObservedResponse::end)), // trailers end the body
                _ => {}
            },
            Some(Err(_)) => drop(self.observed.take().map(ObservedResponse::fail)),
            None => drop(self.observed.take().map(ObservedResponse::end)),
        }
        Poll::Ready(frame)
    }

    // `is_end_stream` stays `false`, so the body is polled until it returns `None`.

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
// end

// docs: server
use llm_metrics::LlmMetrics;
use poem::{EndpointExt, Route, post};

fn app(metrics: &LlmMetrics) -> impl Endpoint + use<> {
    let observer = metrics.observer();
    Route::new()
        .at("/v1/chat/completions", post(poem::endpoint::make(chat)))
        .around(move |next, request| measure(observer.clone(), next, request))
}
// end

use llm_metrics::{InferenceHandle, testing};
use poem::{Server, http::StatusCode, listener::TcpAcceptor};

use crate::asked::{self, Answer};

async fn chat(mut request: Request) -> Result<Response> {
    assert!(request.data::<InferenceHandle>().is_some());
    let question = request.take_body().into_json().await?;
    Ok(match asked::answer(&question) {
        Answer::Events(events) => {
            use futures_util::TryStreamExt;
            let events = events.map_err(|never| match never {});
            Response::builder()
                .content_type("text/event-stream")
                .body(Body::from_bytes_stream::<_, _, io::Error>(events))
        }
        Answer::Json(answer) => Response::builder().content_type("application/json").body(answer),
        Answer::Busy => StatusCode::SERVICE_UNAVAILABLE.into(),
        Answer::Broken => return Err(StatusCode::INTERNAL_SERVER_ERROR.into()),
    })
}

#[tokio::test]
async fn the_recipe_measures_a_server_on_poem() {
    let (metrics, page) = testing::metrics();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let acceptor = TcpAcceptor::from_tokio(listener).unwrap();
    tokio::spawn(Server::new_with_acceptor(acceptor).run(app(&metrics)));
    asked::assert_measured(&url, &metrics, &page).await;
}
