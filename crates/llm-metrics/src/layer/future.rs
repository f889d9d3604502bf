use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    ClassifyError, ResponseBody,
    observation::{EndIfPanicking, Observation},
};

pin_project! {
    /// Waits for the response's head. Dropped before it came, the request counts as cancelled.
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: F,
        observed: Option<(Box<Observation>, C)>,
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) fn passing(inner: F) -> Self {
        Self { inner, observed: None }
    }

    pub(super) fn observed(inner: F, observation: Box<Observation>, classify: C) -> Self {
        Self { inner, observed: Some((observation, classify)) }
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
            let _inside = observed.0.as_ref().map(|(observation, _)| observation.enter());
            ready!(this.inner.poll(cx))
        };
        let Some((mut observation, classify)) = this.observed.take() else {
            return Poll::Ready(result.map(|response| response.map(ResponseBody::passing)));
        };
        Poll::Ready(match result {
            Ok(response) => {
                observation.head(&response);
                Ok(response.map(|body| ResponseBody::observed(body, observation)))
            }
            Err(error) => {
                let error_type = classify.classify(&error, observation.is_proxy());
                observation.service_failed(error_type);
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
