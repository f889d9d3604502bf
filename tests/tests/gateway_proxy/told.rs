//! What an upstream on hyper was told, and what it says to that.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use llm_metrics_tests::{Script, Server, serve};
use tokio::sync::mpsc;
use tower::service_fn;

/// An upstream that keeps what it was sent.
pub(crate) struct Told {
    pub(crate) server: Server,
    requests: Arc<Mutex<Vec<(Parts, Bytes)>>>,
    let_go: mpsc::UnboundedReceiver<()>,
}

impl Told {
    /// Reads each request to its end, and answers.
    pub(crate) async fn start(
        answer: impl Fn(&Parts, &Bytes) -> Response<Script> + Clone + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let (tell, let_go) = mpsc::unbounded_channel();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (answer, kept, tell) = (answer.clone(), Arc::clone(&kept), tell.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let response = answer(&parts, &body).map(|script| Telling { script, tell });
                // What the gateway asks of its own is not what this is about.
                let own =
                    parts.headers.get("user-agent").is_some_and(|agent| agent.as_bytes().starts_with(b"llm-gateway/"));
                if !own {
                    kept.lock().unwrap().push((parts, body));
                }
                Ok::<_, hyper::Error>(response)
            }
        });
        Self { server: serve(service).await, requests, let_go }
    }

    /// Waits until an answer is let go, at its end or before.
    pub(crate) async fn let_go(&mut self) {
        self.let_go.recv().await.expect("the upstream runs");
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> (Parts, Bytes) {
        let mut requests = self.requests.lock().unwrap();
        assert_eq!(requests.len(), 1, "one request");
        requests.pop().expect("one request")
    }
}

/// A script that tells when it is dropped.
struct Telling {
    script: Script,
    tell: mpsc::UnboundedSender<()>,
}

impl Body for Telling {
    type Data = Bytes;
    type Error = <Script as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.script).poll_frame(cx)
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let _ = self.tell.send(());
    }
}
