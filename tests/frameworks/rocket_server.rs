// docs: middleware
use std::{
    io, mem,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
};

use llm_metrics::observe::{ObservedRequest, ObservedResponse, Observer, RequestReader, ResponseHead};
use rocket::{
    Data, Request, Response,
    data::{FromData, Limits, Outcome},
    fairing::{Fairing, Info, Kind},
    http::Status,
    response::Body,
    tokio::io::{AsyncRead, AsyncSeek, ReadBuf},
};
use serde_json::Value;

/// Passes the heads and the response body to the observer. The request body is not visible to fairings.
struct Measured(Observer);

/// A request that waits for its response, and the reader of its body.
#[derive(Default)]
struct Seen(Mutex<(Option<ObservedRequest>, RequestReader)>);

#[rocket::async_trait]
impl Fairing for Measured {
    fn info(&self) -> Info {
        Info { name: "llm-metrics", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        let mut head = http::Request::builder().method(request.method().as_str()).uri(request.uri().to_string());
        for header in request.headers().iter() {
            head = head.header(header.name.as_str(), header.value());
        }
        let Ok(head) = head.body(()) else { return };
        let observed = self.0.request(&head.into_parts().0);
        let body = observed.body_reader();
        request.local_cache(|| Seen(Mutex::new((Some(observed), body))));
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let seen = request.local_cache(Seen::default);
        let Some(observed) = seen.0.lock().unwrap().0.take() else { return };
        let length = response.body_mut().size().await;
        let mut head = ResponseHead::new(response.status().code);
        if let Some(content_type) = response.headers().get_one("content-type") {
            head = head.content_type(content_type);
        }
        if let Some(encoding) = response.headers().get_one("content-encoding") {
            head = head.content_encoding(encoding);
        }
        if let Some(bytes) = length {
            head = head.content_length(bytes as u64);
        }
        let observed = observed.response(head);
        if observed.is_open() {
            let chunk = response.body().max_chunk_size();
            let body = ObservedBody { body: response.body_mut().take(), observed: Some(observed) };
            match length {
                Some(bytes) => response.set_sized_body(bytes, body),
                None => response.set_streamed_body(body),
            }
            response.set_max_chunk_size(chunk);
        }
    }
}

/// A body that passes its bytes to the observer. Rocket drops it when the client has left; then the request is cancelled.
struct ObservedBody<'r> {
    body: Body<'r>,
    observed: Option<ObservedResponse>,
}

impl AsyncRead for ObservedBody<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.body).poll_read(context, buffer));
        match (&read, &buffer.filled()[before..]) {
            (Err(_), _) => drop(self.observed.take().map(ObservedResponse::fail)),
            (Ok(()), []) => drop(self.observed.take().map(ObservedResponse::end)),
            (Ok(()), bytes) => {
                if let Some(observed) = &mut self.observed {
                    observed.read(bytes);
                }
            }
        }
        Poll::Ready(read)
    }
}

/// Only bodies whose size is known need this, and rocket does not seek in them if it knows the size.
impl AsyncSeek for ObservedBody<'_> {
    fn start_seek(self: Pin<&mut Self>, _: io::SeekFrom) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// JSON whose bytes are passed to the observer. Use it instead of `Json` in handlers: without it, the model is only known from the response.
struct Question(Value);

#[rocket::async_trait]
impl<'r> FromData<'r> for Question {
    type Error = io::Error;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let limit = request.limits().get("json").unwrap_or(Limits::JSON);
        let bytes = match data.open(limit).into_bytes().await {
            Ok(bytes) => bytes,
            Err(error) => return Outcome::Error((Status::BadRequest, error)),
        };
        let mut reader = mem::take(&mut request.local_cache(Seen::default).0.lock().unwrap().1);
        reader.read(&bytes);
        if !bytes.is_complete() {
            return Outcome::Error((Status::PayloadTooLarge, io::ErrorKind::UnexpectedEof.into()));
        }
        reader.end();
        match serde_json::from_slice(&bytes) {
            Ok(question) => Outcome::Success(Self(question)),
            Err(error) => Outcome::Error((Status::BadRequest, error.into())),
        }
    }
}
// end

// docs: server
use llm_metrics::LlmMetrics;
use rocket::{Build, Rocket, post, routes};

fn app(metrics: &LlmMetrics) -> Rocket<Build> {
    rocket::build().attach(Measured(metrics.observer())).mount("/", routes![chat])
}
// end

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use llm_metrics::testing;
use rocket::{
    Config, Either,
    config::{LogLevel, Shutdown},
    fairing::AdHoc,
    http::ContentType,
    response::stream::ByteStream,
};

use crate::asked::{self, Answer};

type Events = ByteStream<BoxStream<'static, Bytes>>;
type Answered = Result<Either<(ContentType, Events), (ContentType, &'static str)>, Status>;

#[post("/v1/chat/completions", data = "<question>")]
fn chat(question: Question) -> Answered {
    match asked::answer(&question.0) {
        Answer::Events(events) => {
            let events = events.map(|event| event.unwrap_or_else(|never| match never {})).boxed();
            Ok(Either::Left((ContentType::EventStream, ByteStream(events))))
        }
        Answer::Json(answer) => Ok(Either::Right((ContentType::JSON, answer))),
        Answer::Busy => Err(Status::ServiceUnavailable),
        Answer::Broken => Err(Status::InternalServerError),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_measures_a_server_on_rocket() {
    let (metrics, page) = testing::metrics();
    let config = Config {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        log_level: LogLevel::Off,
        shutdown: Shutdown { ctrlc: false, ..Shutdown::default() },
        ..Config::default()
    };
    let (started, port) = tokio::sync::oneshot::channel();
    let started = Mutex::new(Some(started));
    let liftoff = AdHoc::on_liftoff("port", move |rocket| {
        let sent = started.lock().unwrap().take().map(|started| started.send(rocket.config().port));
        Box::pin(async move { assert_eq!(sent, Some(Ok(()))) })
    });
    tokio::spawn(app(&metrics).configure(config).attach(liftoff).launch());
    asked::assert_measured(&format!("http://127.0.0.1:{}", port.await.unwrap()), &metrics, &page).await;
}
