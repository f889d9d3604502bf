use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::{ClassifyError, ResponseBody};
use crate::{
    catch::catch_panic,
    inference::server_error,
    observe::{EndIfPanicking, ObservedRequest, ResponseHead},
};

pin_project! {
    /// Resolves to the response head. If it is dropped before that, the request counts as cancelled.
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: F,
        observed: Option<(ObservedRequest, C)>,
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn passing(inner: F) -> Self {
        Self { inner, observed: None }
    }

    pub(super) fn observed(inner: F, request: ObservedRequest, classify: C) -> Self {
        Self { inner, observed: Some((request, classify)) }
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: ClassifyError<E>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = {
            let observed = EndIfPanicking(&mut *this.observed);
            let _inside = observed.0.as_ref().map(|(request, _)| request.enter());
            ready!(this.inner.poll(cx))
        };
        let Some((request, classify)) = this.observed.take() else {
            return Poll::Ready(result.map(|response| response.map(ResponseBody::passing)));
        };
        Poll::Ready(match result {
            Ok(response) => {
                let mut head = ResponseHead::of(response.status(), response.headers());
                let body = response.body();
                let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
                if let Some(length) = length {
                    head = head.content_length(length);
                }
                let observed = request.response(head);
                Ok(response.map(|body| ResponseBody::observed(body, observed)))
            }
            Err(error) => {
                let proxy = request.is_proxy();
                let classified = catch_panic(|| (classify.classify(&error, proxy), classify.knows(&error)));
                let (error_type, known) = classified.unwrap_or_else(|| (server_error(proxy), true));
                if !known {
                    request.unclassified(std::any::type_name::<E>(), error_type);
                }
                request.fail(error_type);
                Err(error)
            }
        })
    }
}

impl<F, C> std::fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").field("observed", &self.observed.is_some()).finish_non_exhaustive()
    }
}
