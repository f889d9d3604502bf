//! A gateway with values for all its metrics. Its upstream has a loaded model, as Ollama does, and reports the remaining quota, as hosted APIs do.

use std::{net::SocketAddr, time::Duration};

use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use tower::service_fn;

use crate::{
    Client, Script, Server,
    gateway::Running,
    post, serve,
    stream::{CHAT, ask_whole, completion},
};

const LOADED: &str = "qwen3:4b";
/// The headers with the remaining quota.
const ALLOWANCE: [(&str, &str); 4] = [
    ("x-ratelimit-limit-requests", "60"),
    ("x-ratelimit-remaining-requests", "45"),
    ("x-ratelimit-limit-tokens", "90000"),
    ("x-ratelimit-remaining-tokens", "9000"),
];

/// The gateway and its upstream. Dropping it ends both.
#[derive(Debug)]
pub struct Gatewayed {
    gateway: Running,
    _upstream: Server,
}

impl Gatewayed {
    /// Starts both.
    pub async fn start() -> Self {
        let upstream = serve(service_fn(|request: http::Request<Incoming>| async move {
            let (parts, body) = request.into_parts();
            let asked = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(answer(&parts.method, parts.uri.path(), &asked))
        }))
        .await;
        let config =
            format!("[upstreams.ollama]\nurl = \"http://{}\"\nkind = \"ollama\"\npoll = \"1s\"", upstream.addr);
        Self { gateway: Running::start(&config).await, _upstream: upstream }
    }

    /// The address of its metrics page.
    #[must_use]
    pub fn own(&self) -> SocketAddr {
        self.gateway.own
    }

    /// Sends requests that are answered and rejected in turn. The number is limited, but larger than a test needs.
    pub async fn ask(&self) {
        let mut client = Client::connect(self.gateway.addr).await;
        for model in [LOADED, "too-much"].into_iter().cycle().take(1000) {
            client.send(post(self.gateway.addr, CHAT, ask_whole(model))).await.text().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn answer(method: &Method, path: &str, asked: &[u8]) -> Response<Script> {
    let model = json!({"name": LOADED, "size": 4_000_000_000_u64, "size_vram": 3_000_000_000_u64, "expires_at": "2099-01-01T00:00:00Z"});
    match (method.as_str(), path) {
        ("GET", "/api/version") => Script::json("{\"version\":\"0.12.0\"}"),
        ("GET", "/api/tags" | "/api/ps") => Script::json(json!({"models": [model]}).to_string()),
        ("POST", CHAT) => {
            let refused = String::from_utf8_lossy(asked).contains("too-much");
            let mut response = if refused {
                Script::json("{\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\"}}")
            } else {
                Script::json(completion("Hi", 1, 1))
            };
            let headers = ALLOWANCE.into_iter().chain(refused.then_some(("retry-after", "2")));
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().expect("a header"));
            }
            if refused {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            }
            response
        }
        _ => {
            let mut response = Script::json("{}");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}
