//! A request under observation: its life, and the reader of its answer.

use std::{io::IoSlice, sync::Arc};

use bytes::Buf;
use http::{HeaderMap, Response, header};
use http_body::Body;

use crate::{
    inference::{Door, End, InferenceHandle, Inspection, Life, Shared, SpanKind},
    record::{LlmMetrics, RawLabels},
    vocabulary::{ErrorType, SkipReason},
    wire::{Reader, Route},
};

pub(super) struct Observation {
    life: Life,
    route: &'static Route,
    reader: Option<Reader>,
    /// Bytes of the answer that are still to come, where its length is known.
    missing: Option<u64>,
}

impl Observation {
    pub(super) fn start(
        metrics: &LlmMetrics,
        route: &'static Route,
        labels: Option<RawLabels>,
        proxy: bool,
    ) -> Box<Self> {
        let door = Door { endpoint: route.endpoint, operation: route.operation, protocol: route.protocol };
        let kind = if proxy { SpanKind::Client } else { SpanKind::Server };
        let life = Life::start(metrics, door, labels, kind);
        Box::new(Self { life, route, reader: None, missing: None })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.life.shared())
    }

    pub(super) fn handle(&self) -> InferenceHandle {
        self.life.handle()
    }

    /// Makes the request's span the current one until what this returns is dropped.
    #[inline]
    pub(super) fn enter(&self) -> impl Sized + '_ {
        self.life.span().enter()
    }

    pub(super) fn is_proxy(&self) -> bool {
        self.life.is_proxy()
    }

    pub(super) fn skipped(&self, reason: SkipReason) {
        self.life.skipped(reason);
    }

    /// The response's head came.
    pub(super) fn head<B: Body>(&mut self, response: &Response<B>) {
        let status = response.status();
        let empty = response.body().is_end_stream();
        self.missing = response.body().size_hint().exact().or_else(|| content_length(response.headers()));
        if !status.is_success() {
            return self.life.head(status.as_u16(), None, Inspection::None);
        }
        let kind = BodyKind::of(response.headers());
        let stream = Some(kind == BodyKind::Events);
        let skip = if is_encoded(response.headers()) {
            Some(SkipReason::Compressed)
        } else if kind == BodyKind::Other {
            Some(SkipReason::ContentType)
        } else {
            None
        };
        // A stream that holds nothing is a stream that was cut short.
        if skip.is_some() || (empty && kind != BodyKind::Events) {
            self.life.head(status.as_u16(), stream, Inspection::None);
            if let Some(reason) = skip.filter(|_| !empty) {
                self.life.skipped(reason);
            }
            return;
        }
        let (reader, inspection) = match kind {
            BodyKind::Events => (self.route.stream_reader(), Inspection::Stream),
            _ => (self.route.unary_reader(), Inspection::Document),
        };
        self.reader = Some(reader);
        self.life.head(status.as_u16(), stream, inspection);
    }

    /// Reads a frame's data as it passes; `true` when it was the last of a body whose length was known.
    pub(super) fn read(&mut self, data: &impl Buf) -> bool {
        if let Some(reader) = &mut self.reader {
            let mut frame = self.life.frame();
            let complete = for_each_slice(data, |bytes| reader.read(bytes, &mut frame));
            frame.end();
            if !complete {
                self.reader = None;
                self.life.blind(SkipReason::TooLarge);
            }
        }
        let Some(missing) = &mut self.missing else { return false };
        *missing = missing.saturating_sub(data.remaining() as u64);
        *missing == 0
    }

    pub(super) fn end(mut self: Box<Self>, end: End) {
        if let Some(reader) = self.reader.as_mut().filter(|_| end == End::Complete) {
            let mut frame = self.life.frame();
            reader.end(&mut frame);
            frame.end();
        }
        self.life.settle(end);
    }

    pub(super) fn service_failed(mut self: Box<Self>, error: ErrorType) {
        self.life.settle(End::ServiceError(error));
    }
}

/// Ends an observation while a panic unwinds through it: once the panic is caught, nobody could tell any more.
pub(super) struct EndIfPanicking<'a, T>(pub(super) &'a mut Option<T>);

impl<T> Drop for EndIfPanicking<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0 = None;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    Events,
    Document,
    Other,
}

impl BodyKind {
    fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Self::Other };
        match value.as_bytes() {
            b"text/event-stream" => return Self::Events,
            b"application/json" => return Self::Document,
            _ => {}
        }
        let Ok(value) = value.to_str() else { return Self::Other };
        let media_type = value.split(';').next().unwrap_or(value).trim();
        if media_type.eq_ignore_ascii_case("text/event-stream") {
            Self::Events
        } else if media_type.eq_ignore_ascii_case("application/json") || media_type.ends_with("+json") {
            Self::Document
        } else {
            Self::Other
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a body is encoded in a way that its bytes are not what they say.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Shows every slice of a buffer without consuming it; `false` if there were more than can be shown.
pub(super) fn for_each_slice(data: &impl Buf, mut show: impl FnMut(&[u8])) -> bool {
    let first = data.chunk();
    if first.len() == data.remaining() {
        show(first);
        return true;
    }
    let mut slices = [IoSlice::new(&[]); 32];
    let shown = data.chunks_vectored(&mut slices);
    let complete = slices[..shown].iter().map(|slice| slice.len()).sum::<usize>() == data.remaining();
    if complete {
        slices[..shown].iter().for_each(|slice| show(slice));
    }
    complete
}
