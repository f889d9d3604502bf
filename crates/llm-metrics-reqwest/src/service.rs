//! The layer around a client that is a tower service.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Extensions;
use llm_metrics::layer::{self, ClassifyError};
use pin_project_lite::pin_project;
use reqwest::{Client, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    ReqwestErrors, ReqwestLayer,
    exchange::{Exchange, Sender, Sent, from_http},
};

impl<S> Layer<S> for ReqwestLayer {
    type Service = ReqwestService<S>;

    fn layer(&self, inner: S) -> ReqwestService<S> {
        ReqwestService { inner, layer: self.clone() }
    }
}

/// A client whose requests are measured; see [`ReqwestLayer`].
#[derive(Clone, Debug)]
pub struct ReqwestService<S> {
    inner: S,
    layer: ReqwestLayer,
}

impl<S> ReqwestService<S> {
    /// A reference to the inner client.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// A mutable reference to the inner client.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner client.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl ReqwestService<Client> {
    /// Sends a request, as [`Client::execute`] does.
    ///
    /// # Errors
    /// Those of [`Client::execute`].
    pub async fn execute(&self, request: Request) -> Result<Response, reqwest::Error> {
        self.clone().call(request).await
    }
}

impl<S> Service<Request> for ReqwestService<S>
where
    S: Service<Request, Response = Response>,
    ReqwestErrors: ClassifyError<S::Error>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let inner = match Exchange::of(request, Extensions::new()) {
            Err(request) => Inner::Passing { future: self.inner.call(*request) },
            Ok(Exchange { shown, request }) => {
                let sender = Sender::new(request, |request, _| self.inner.call(request));
                Inner::Measured { future: self.layer.layer.layer(sender).call(shown) }
            }
        };
        ResponseFuture { inner }
    }
}

pin_project! {
    /// Resolves to the response head. If it is dropped before that, the request counts as cancelled.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Inner<F>,
    }
}

pin_project! {
    #[project = InnerProjection]
    #[derive(Debug)]
    enum Inner<F> {
        Passing { #[pin] future: F },
        Measured { #[pin] future: layer::ResponseFuture<Sent<F>, ReqwestErrors> },
    }
}

impl<F, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, E>>,
    ReqwestErrors: ClassifyError<E>,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.project() {
            InnerProjection::Passing { future } => future.poll(cx),
            InnerProjection::Measured { future } => Poll::Ready(ready!(future.poll(cx)).map(from_http)),
        }
    }
}
