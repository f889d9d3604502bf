//! Sends one request, and records the times of its response.

use std::{
    future::poll_fn,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};

use crate::{
    connection::{HttpClient, LastArrival, cause},
    framing::Framer,
    observation::{End, ErrorKind, Failure, Observation},
    protocol::{Facts, Malformed, Protocol, Question, Reader, complaint},
    target::Target,
};

/// The maximum number of recorded gaps per response.
const MOST_GAPS: usize = 1 << 16;
/// The maximum bytes that are read of an error response.
const MOST_COMPLAINT: usize = 16 << 10;

/// Sends requests to one server in one protocol.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) http: HttpClient,
    pub(crate) target: Target,
    pub(crate) protocol: Protocol,
    pub(crate) key: Option<HeaderValue>,
    /// For the whole request, from the time when it was due.
    pub(crate) timeout: Duration,
    /// Without any data.
    pub(crate) silence: Duration,
}

impl Asker {
    /// Sends a request, and reads the response to its end, or disconnects after a number of events with tokens.
    ///
    /// `due` is when the request should have been sent, `epoch` when its step began.
    pub(crate) async fn ask(
        &self,
        question: &Question<'_>,
        hang_up_after: Option<u64>,
        epoch: Instant,
        due: Instant,
    ) -> Observation {
        let mut request = Request::new(Full::new(Bytes::from(self.protocol.body(question).to_string().into_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri(self.protocol.path());
        *request.headers_mut() = self.protocol.headers(self.key.as_ref());
        request.headers_mut().insert(header::HOST, self.target.host.clone());
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));

        let mut observed = Observed::new(epoch, due, self.protocol);
        observed.seen.thinking = question.thinking;
        observed.seen.sent = epoch.elapsed();
        let read = observed.answer(self.http.request(request), hang_up_after, self.silence);
        let read = tokio::time::timeout_at((due + self.timeout).into(), read).await;
        match read.unwrap_or_else(|_| Err(ErrorKind::Timeout.into())) {
            Ok(end) => observed.finish(end),
            Err(Failure { kind, why }) => {
                // Some servers repeat a rejected key in their message.
                let secret = self.key.as_ref().and_then(|key| key.to_str().ok()).filter(|key| !key.is_empty());
                observed.seen.why = why.filter(|why| secret.is_none_or(|secret| !why.contains(secret)));
                observed.finish(End::Failed(kind))
            }
        }
    }
}

/// A request in flight.
struct Observed {
    seen: Observation,
    epoch: Instant,
    reader: Reader,
    last_event: Option<Instant>,
    last_arrival: Option<Instant>,
    complete: bool,
}

impl Observed {
    fn new(epoch: Instant, due: Instant, protocol: Protocol) -> Self {
        Self {
            seen: Observation::new(due.saturating_duration_since(epoch)),
            epoch,
            reader: Reader::new(protocol),
            last_event: None,
            last_arrival: None,
            complete: false,
        }
    }

    async fn answer(
        &mut self,
        answering: impl Future<Output = Result<Response<Incoming>, hyper_util::client::legacy::Error>>,
        hang_up_after: Option<u64>,
        silence: Duration,
    ) -> Result<End, Failure> {
        let response = match tokio::time::timeout(silence, answering).await {
            Err(_) => return Err(ErrorKind::Stalled.into()),
            Ok(Err(error)) => return Err(Failure::because(kind_of(&error), &cause(&error))),
            Ok(Ok(response)) => response,
        };
        let arrival = response.extensions().get::<LastArrival>().cloned();
        self.last_arrival = arrival.as_ref().and_then(LastArrival::at);
        let status = response.status().as_u16();
        if let Some(kind) = ErrorKind::of_status(status) {
            let body = Limited::new(response.into_body(), MOST_COMPLAINT).collect();
            let body = tokio::time::timeout(silence, body).await.ok().and_then(Result::ok);
            let said = body.and_then(|body| complaint(&body.to_bytes()));
            return Err(Failure::because(
                kind,
                &said.map_or_else(|| format!("status {status}"), |said| format!("status {status}: {said}")),
            ));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or("").to_ascii_lowercase();
        self.seen.streamed = !content_type.starts_with("application/json");
        let mut framer = Framer::new(&content_type);
        let mut body = response.into_body();
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            let frame = tokio::time::timeout(silence, frame).await.map_err(|_| ErrorKind::Stalled)?;
            // The time when its bytes arrived, not when this task processed them.
            let now = arrival.as_ref().and_then(LastArrival::at).unwrap_or_else(Instant::now);
            self.last_arrival = Some(now);
            let bytes = match frame {
                None => break,
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                // SDKs close the connection at the last event, and so do servers: data after it does not matter.
                Some(Err(_)) if self.complete => return Ok(End::Answered),
                Some(Err(_)) => return Err(ErrorKind::StreamTruncated.into()),
            };
            let mut messages = Vec::new();
            let pushed = framer.push(bytes.chunk(), |message| messages.push(self.reader.read(message)));
            pushed.map_err(|_| ErrorKind::Malformed)?;
            for message in messages {
                self.message(message.map_err(|Malformed| malformed(&content_type))?, now)?;
            }
            if hang_up_after.is_some_and(|events| self.seen.events >= events) && !self.complete {
                return Ok(End::HungUp);
            }
        }
        let mut messages = Vec::new();
        framer.end(|message| messages.push(self.reader.read(message)));
        let now = self.last_arrival.unwrap_or_else(Instant::now);
        for message in messages {
            self.message(message.map_err(|Malformed| malformed(&content_type))?, now)?;
        }
        if self.complete { Ok(End::Answered) } else { Err(ErrorKind::StreamTruncated.into()) }
    }

    fn message(&mut self, facts: Facts, now: Instant) -> Result<(), Failure> {
        if let Some(failure) = facts.error {
            return Err(failure);
        }
        let at = now.saturating_duration_since(self.epoch);
        let seen = &mut self.seen;
        if facts.tokens {
            seen.events += 1;
            seen.first_token.get_or_insert(at);
            if let Some(last) = self.last_event.replace(now)
                && seen.gaps.len() < MOST_GAPS
            {
                seen.gaps.push(u32::try_from((now - last).as_micros()).unwrap_or(u32::MAX));
            }
        }
        if facts.answer {
            seen.first_answer.get_or_insert(at);
        }
        if (facts.tokens || facts.finished) && seen.first_token.is_some() {
            seen.last_token = Some(at);
        }
        // Counts may come with each event: they never fall.
        seen.input_tokens = seen.input_tokens.max(facts.input_tokens);
        seen.output_tokens = seen.output_tokens.max(facts.output_tokens);
        self.complete |= facts.complete;
        Ok(())
    }

    fn finish(mut self, end: End) -> Observation {
        let now = match (end, self.last_arrival) {
            (End::Answered, Some(arrival)) => arrival,
            _ => Instant::now(),
        };
        self.seen.ended = now.saturating_duration_since(self.epoch).max(self.seen.scheduled);
        self.seen.end = end;
        self.seen
    }
}

fn malformed(content_type: &str) -> Failure {
    let content_type = if content_type.is_empty() { "no content type" } else { content_type };
    Failure::because(ErrorKind::Malformed, &format!("an answer of {content_type} that is not of the protocol"))
}

fn kind_of(error: &hyper_util::client::legacy::Error) -> ErrorKind {
    if error.is_connect() {
        return ErrorKind::Unreachable;
    }
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        // The server answered with something that is not HTTP.
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return ErrorKind::Malformed;
        }
        source = error.source();
    }
    ErrorKind::ConnectionLost
}
