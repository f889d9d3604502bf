use std::io::IoSlice;

use bytes::Buf;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    inference::{End, RequestTracker},
    vocabulary::{ErrorType, SkipReason},
    wire::{Framing, Reader, Route},
};

/// The parts of a response head that are needed.
///
/// ```
/// use llm_metrics::observe::ResponseHead;
///
/// let head = ResponseHead::new(200).content_type("text/event-stream");
/// # let _ = head;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ResponseHead<'a> {
    status: u16,
    content_type: Option<&'a [u8]>,
    encoded: bool,
    length: Option<u64>,
}

impl<'a> ResponseHead<'a> {
    /// A head with this status and without headers.
    pub const fn new(status: u16) -> Self {
        Self { status, content_type: None, encoded: false, length: None }
    }

    /// From a head of the crate `http`.
    pub fn of(status: StatusCode, headers: &'a HeaderMap) -> Self {
        Self {
            status: status.as_u16(),
            content_type: headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes),
            encoded: is_encoded(headers),
            length: headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()),
        }
    }

    /// Sets the header `content-type`.
    pub fn content_type(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.content_type = Some(value.as_ref());
        self
    }

    /// Sets the header `content-encoding`. A compressed body is not read.
    pub fn content_encoding(mut self, value: impl AsRef<[u8]>) -> Self {
        self.encoded |= is_encoding(value.as_ref());
        self
    }

    /// Sets the length of the body in bytes, if it is known: the response ends with the last of them. 0 means that there is no body.
    pub const fn content_length(mut self, bytes: u64) -> Self {
        self.length = Some(bytes);
        self
    }

    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn is_event_stream(&self) -> bool {
        self.framing() == Some(Framing::Events)
    }

    fn framing(&self) -> Option<Framing> {
        self.content_type.and_then(Framing::of_content_type)
    }
}

/// A response whose body is being sent. If it is dropped before its end, it counts as cancelled, unless it was already complete.
#[derive(Default)]
#[must_use = "dropping it records the request as cancelled"]
pub struct ObservedResponse(Option<Box<Observation>>);

impl ObservedResponse {
    pub(super) fn begin(mut measured: Box<Observation>, head: &ResponseHead<'_>) -> Self {
        measured.head(head);
        let is_delivered = measured.missing == Some(0);
        let mut response = Self(Some(measured));
        if is_delivered {
            response.settle(End::Complete);
        }
        response
    }

    /// Whether further calls have an effect: not if the request is not measured, and not after its end, which may be the last byte of a known length.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Reads the next bytes of the body, split at any place. Call it when they pass, and once for bytes that pass together, because the time of the
    /// call is their arrival time.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) {
        self.read_buf(&bytes);
    }

    /// Call it at the end of the body.
    pub fn end(mut self) {
        self.settle(End::Complete);
    }

    /// Call it if the body failed, and so is incomplete.
    pub fn fail(mut self) {
        self.settle(End::Failed);
    }

    /// Makes the request's span the current one until the returned guard is dropped.
    #[inline]
    pub(crate) fn enter(&self) -> impl Sized + '_ {
        self.0.as_ref().map(|measured| measured.tracker.span().enter())
    }

    #[inline]
    pub(crate) fn read_buf(&mut self, data: &impl Buf) {
        if self.0.as_mut().is_some_and(|measured| measured.read(data)) {
            self.settle(End::Complete);
        }
    }

    pub(crate) fn settle(&mut self, end: End) {
        if let Some(measured) = self.0.take() {
            measured.end(end);
        }
    }
}

impl std::fmt::Debug for ObservedResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObservedResponse").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// A request under observation: its tracker, and the reader of its response.
pub(super) struct Observation {
    pub(super) tracker: RequestTracker,
    pub(super) route: &'static Route,
    reader: Option<Reader>,
    /// Bytes of the response that are still to come, if its length is known.
    missing: Option<u64>,
}

impl Observation {
    #[inline(always)]
    pub(super) fn new(tracker: RequestTracker, route: &'static Route) -> Self {
        Self { tracker, route, reader: None, missing: None }
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        let no_content =
            [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT].iter().any(|status| head.status == *status);
        self.missing = if no_content { Some(0) } else { head.length };
        if !head.is_success() {
            return self.tracker.head(head.status, None, None);
        }
        let declared = head.framing();
        let stream = declared.map(Framing::is_stream);
        // An empty stream is a truncated stream.
        if self.missing == Some(0) && stream != Some(true) {
            return self.tracker.head(head.status, stream, None);
        }
        // Only if it matters, because it takes a lock.
        let requested = if self.route.streams_by_default { self.tracker.asked_for_stream() } else { None };
        let reader = self.route.reader(declared, head.encoded, requested);
        self.tracker.head(head.status, stream, reader.declared());
        if let Some(bytes) = self.missing {
            self.tracker.answer_is_at_most(bytes);
        }
        self.reader = Some(reader);
    }

    /// Returns `true` for the last bytes of a body of known length.
    fn read(&mut self, data: &impl Buf) -> bool {
        if let Some(reader) = &mut self.reader {
            let mut frame = self.tracker.frame();
            let complete = for_each_slice(data, |bytes| reader.read(bytes, &mut frame));
            frame.end();
            if !complete {
                self.reader = None;
                self.tracker.stop_inspecting(SkipReason::TooLarge);
            }
        }
        let Some(missing) = &mut self.missing else { return false };
        *missing = missing.saturating_sub(data.remaining() as u64);
        *missing == 0
    }

    fn end(mut self: Box<Self>, end: End) {
        if let Some(reader) = self.reader.as_mut().filter(|_| end == End::Complete) {
            let mut frame = self.tracker.last_frame();
            reader.end(&mut frame);
            frame.end();
        }
        self.tracker.settle(end);
    }

    pub(super) fn fail(&mut self, error: ErrorType) {
        self.tracker.settle(End::ServiceError(error));
    }
}

/// Ends an observation while a panic unwinds, because after the panic was caught its end would look normal.
pub(crate) struct EndIfPanicking<'a, T: Default>(pub(crate) &'a mut T);

impl<T: Default> Drop for EndIfPanicking<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0 = T::default();
        }
    }
}

/// Whether the content encoding makes a body unreadable here.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| is_encoding(value.as_bytes()))
}

fn is_encoding(value: &[u8]) -> bool {
    !value.eq_ignore_ascii_case(b"identity")
}

/// Passes every slice of a buffer to `read` without consuming the buffer; `false` if there are too many.
pub(super) fn for_each_slice(data: &impl Buf, mut show: impl FnMut(&[u8])) -> bool {
    /// Usual bodies: the list of slices is on the stack.
    const FEW: usize = 32;
    /// Bodies of very many slices: the list is on the heap.
    const MANY: usize = 4096;
    let first = data.chunk();
    if first.len() == data.remaining() {
        show(first);
        return true;
    }
    show_slices(data, &mut [IoSlice::new(&[]); FEW], &mut show)
        || show_slices(data, &mut vec![IoSlice::new(&[]); MANY], &mut show)
}

fn show_slices<'a>(data: &'a impl Buf, slices: &mut [IoSlice<'a>], show: &mut impl FnMut(&[u8])) -> bool {
    let filled = data.chunks_vectored(slices);
    let slices = &slices[..filled];
    let complete = slices.iter().map(|slice| slice.len()).sum::<usize>() == data.remaining();
    if complete {
        slices.iter().for_each(|slice| show(slice));
    }
    complete
}
