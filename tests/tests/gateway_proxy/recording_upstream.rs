//! An upstream on hyper that records its requests and answers with a function.

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

/// An upstream that records its requests.
pub(crate) struct RecordingUpstream {
    pub(crate) server: Server,
    requests: Arc<Mutex<Vec<(Parts, Bytes)>>>,
    answer_dropped: mpsc::UnboundedReceiver<()>,
}

impl RecordingUpstream {
    /// Reads each request to its end, and answers.
    pub(crate) async fn start(
        answer: impl Fn(&Parts, &Bytes) -> Response<Script> + Clone + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let (dropped, answer_dropped) = mpsc::unbounded_channel();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (answer, kept, dropped) = (answer.clone(), Arc::clone(&kept), dropped.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let response = answer(&parts, &body).map(|script| NotifyOnDrop { script, dropped });
                // The gateway's own requests are not recorded.
                let own =
                    parts.headers.get("user-agent").is_some_and(|agent| agent.as_bytes().starts_with(b"llm-gateway/"));
                if !own {
                    kept.lock().unwrap().push((parts, body));
                }
                Ok::<_, hyper::Error>(response)
            }
        });
        Self { server: serve(service).await, requests, answer_dropped }
    }

    /// Waits until an answer is dropped, at its end or before.
    pub(crate) async fn answer_dropped(&mut self) {
        self.answer_dropped.recv().await.expect("the upstream runs");
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> (Parts, Bytes) {
        let mut requests = self.requests.lock().unwrap();
        assert_eq!(requests.len(), 1, "one request");
        requests.pop().expect("one request")
    }
}

/// A script that reports when it is dropped.
struct NotifyOnDrop {
    script: Script,
    dropped: mpsc::UnboundedSender<()>,
}

impl Body for NotifyOnDrop {
    type Data = Bytes;
    type Error = <Script as Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.script).poll_frame(cx)
    }
}

impl Drop for NotifyOnDrop {
    fn drop(&mut self) {
        let _ = self.dropped.send(());
    }
}
