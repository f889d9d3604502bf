//! Where Alertmanager sends its notifications.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::qwen_server::PATIENCE;

type Notices = Arc<Mutex<Vec<Value>>>;

/// A receiver that keeps what it is sent; dropping it closes it.
#[derive(Debug)]
pub struct Webhook {
    url: String,
    notices: Notices,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let notices = Notices::default();
        let keep = async |State(notices): State<Notices>, Json(notice): Json<Value>| {
            notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
        };
        let app = Router::new().route("/", post(keep)).with_state(Arc::clone(&notices));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("a bound socket"));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Self { url, notices, task }
    }

    /// Where to send notifications to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every alert that it received, firing and resolved, in the order of the notifications.
    #[must_use]
    pub fn alerts(&self) -> Vec<Value> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let alerts = notices.iter().filter_map(|notice| notice["alerts"].as_array());
        alerts.flatten().cloned().collect()
    }

    /// Waits for an alert that is as it should be.
    ///
    /// # Panics
    /// When it never comes.
    pub async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let alerts = self.alerts();
            if let Some(alert) = alerts.iter().find(|alert| is(alert)) {
                return alert.clone();
            }
            assert!(Instant::now() < deadline, "{what} never came, but {alerts:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}
