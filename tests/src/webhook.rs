//! A receiver for the notifications of Alertmanager.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::post};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::qwen_server::TIMEOUT;

type Notices = Arc<Mutex<Vec<Value>>>;

/// A receiver that stores notifications. Dropping it closes it.
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
    /// If there is no free port.
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

    /// The URL for notifications.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every received alert, firing or resolved, in the order of the notifications.
    #[must_use]
    pub fn alerts(&self) -> Vec<Value> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let alerts = notices.iter().filter_map(|notice| notice["alerts"].as_array());
        alerts.flatten().cloned().collect()
    }

    /// Waits for an alert that satisfies a condition.
    ///
    /// # Panics
    /// If it does not arrive in time.
    pub async fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
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
