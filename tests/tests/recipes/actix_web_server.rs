// docs: middleware
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::{
    Error, HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::{CONTENT_ENCODING, CONTENT_TYPE},
    middleware::Next,
    web::Bytes,
};
use futures_util::{Stream, stream};
use http::request::Parts;
use llm_metrics::observe::{ObservedResponse, Observer, RequestReader, ResponseHead};

async fn measure(
    observer: Observer,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(head) = head(&request) else { return Ok(next.call(request).await?.map_into_boxed_body()) };
    let observed = observer.request(&head);
    if let Some(handle) = observed.handle() {
        request.extensions_mut().insert(handle); // for a handler that can report more than the bytes show
        let payload = request.take_payload();
        request.set_payload(read_as_it_passes(payload, observed.body_reader()));
    }
    match next.call(request).await {
        Ok(response) => Ok(response.map_body(|head, body| {
            let mut seen = ResponseHead::new(head.status.as_u16());
            if let Some(value) = head.headers().get(CONTENT_TYPE) {
                seen = seen.content_type(value.as_bytes());
            }
            if let Some(value) = head.headers().get(CONTENT_ENCODING) {
                seen = seen.content_encoding(value.as_bytes());
            }
            match body.size() {
                BodySize::None => seen = seen.content_length(0),
                BodySize::Sized(bytes) => seen = seen.content_length(bytes),
                BodySize::Stream => {}
            }
            let observed = observed.response(seen);
            if !observed.is_open() {
                return body.boxed(); // not measured, or already ended
            }
            ObservedBody { body: body.boxed(), observed: Some(observed) }.boxed()
        })),
        Err(error) => {
            observed.response(ResponseHead::new(error.as_response_error().status_code().as_u16())).end();
            Err(error)
        }
    }
}

/// Converts the head to the types of `http` 1; actix-web uses `http` 0.2.
fn head(request: &ServiceRequest) -> Option<Parts> {
    let method = request.method().as_str();
    let mut head = http::Request::builder().method(method).uri(request.uri().to_string());
    for (name, value) in request.headers() {
        head = head.header(name.as_str(), value.as_bytes());
    }
    Some(head.body(()).ok()?.into_parts().0)
}

fn read_as_it_passes(mut payload: Payload, reader: RequestReader) -> Payload {
    let mut reader = Some(reader);
    let payload = stream::poll_fn(move |context| {
        let chunk = ready!(Pin::new(&mut payload).poll_next(context));
        match (&chunk, &mut reader) {
            (Some(Ok(bytes)), Some(reader)) => reader.read(bytes),
            (None, reader) => drop(reader.take().map(RequestReader::end)),
            _ => {}
        }
        Poll::Ready(chunk)
    });
    Payload::Stream { payload: Box::pin(payload) }
}

/// A body that passes its bytes to the observer. actix-web drops it when the client has left; then the request is cancelled.
struct ObservedBody {
    body: BoxBody,
    observed: Option<ObservedResponse>,
}

impl MessageBody for ObservedBody {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let chunk = ready!(Pin::new(&mut self.body).poll_next(context));
        match &chunk {
            Some(Ok(bytes)) => {
                if let Some(observed) = &mut self.observed {
                    observed.read(bytes);
                }
            }
            Some(Err(_)) => drop(self.observed.take().map(ObservedResponse::fail)),
            None => drop(self.observed.take().map(ObservedResponse::end)),
        }
        Poll::Ready(chunk)
    }
}
// end

// docs: server
use std::net::TcpListener;

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn, web};
use llm_metrics::LlmMetrics;

fn server(metrics: &LlmMetrics, listener: TcpListener) -> std::io::Result<Server> {
    let observer = metrics.observer();
    let server = HttpServer::new(move || {
        let observer = observer.clone();
        App::new()
            .route("/v1/chat/completions", web::post().to(chat))
            // The last `wrap` is the outermost, so compression goes after this one.
            .wrap(from_fn(move |request, next: Next<BoxBody>| measure(observer.clone(), request, next)))
    });
    // Without this, actix-web notices only at the next write that a client has left.
    Ok(server.h1_allow_half_closed(false).listen(listener)?.run())
}
// end

use actix_web::HttpResponse;
use llm_metrics::{InferenceHandle, testing};
use serde_json::Value;

use crate::asked::{self, Answer};

async fn chat(request: actix_web::HttpRequest, question: Bytes) -> Result<HttpResponse, Error> {
    assert!(request.extensions().get::<InferenceHandle>().is_some());
    let question: Value = serde_json::from_slice(&question)?;
    Ok(match asked::answer(&question) {
        Answer::Events(events) => HttpResponse::Ok().content_type("text/event-stream").streaming(events),
        Answer::Json(answer) => HttpResponse::Ok().content_type("application/json").body(answer),
        Answer::Busy => HttpResponse::ServiceUnavailable().finish(),
        Answer::Broken => return Err(actix_web::error::ErrorInternalServerError("on purpose")),
    })
}

#[tokio::test]
async fn the_recipe_measures_a_server_on_actix_web() {
    let (metrics, page) = testing::metrics();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let theirs = metrics.clone();
    // It has its own runtime, and serves until the process ends.
    std::thread::spawn(move || actix_web::rt::System::new().block_on(async move { server(&theirs, listener)?.await }));
    asked::assert_measured(&url, &metrics, &page).await;
    asked::assert_hang_up_is_noticed_in_silence(&url, &metrics).await;
}
