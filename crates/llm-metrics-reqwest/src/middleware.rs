//! The layer as a middleware of reqwest-middleware.

use http::Extensions;
use llm_metrics::InferenceHandle;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, Result};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    ReqwestLayer,
    exchange::{Exchange, Sender, from_http},
};

#[cfg_attr(docsrs, doc(cfg(feature = "middleware")))]
#[async_trait::async_trait]
impl Middleware for ReqwestLayer {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response> {
        let Exchange { shown, request } = match Exchange::of(request, extensions.clone()) {
            Ok(exchange) => exchange,
            Err(request) => return next.run(*request, extensions).await,
        };
        let before: Option<InferenceHandle> = extensions.get().cloned();
        let sender = Sender::new(request, |request, handle| {
            if let Some(handle) = handle {
                extensions.insert(handle);
            }
            next.run(request, &mut *extensions)
        });
        let answer = self.layer.layer(sender).call(shown).await;
        // The next request with these extensions is another attempt, which must not count as already measured.
        extensions.remove::<InferenceHandle>();
        if let Some(handle) = before {
            extensions.insert(handle);
        }
        answer.map(from_http)
    }
}
