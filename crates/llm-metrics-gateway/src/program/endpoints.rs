//! The gateway's own endpoints: `/metrics`, `/health`, `/ready`, `/debug/requests`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use llm_metrics::{LlmMetrics, RecentLatency, RecentModel, RecentRequest, prometheus::MetricsService};
use serde_json::{Map, Value, json};
use tower_service::Service;

use crate::program::{
    answer::json_response,
    upstream::{Health, Upstream},
};

/// The default number of requests on `/debug/requests`.
const DEFAULT_LIMIT: usize = 100;

/// The data of the endpoints.
pub(crate) struct Endpoints {
    pub(crate) scrape: MetricsService,
    pub(crate) metrics: LlmMetrics,
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) draining: AtomicBool,
}

impl Endpoints {
    /// Whether a path is one of the endpoints.
    pub(crate) fn has(&self, path: &str) -> bool {
        matches!(path, "/metrics" | "/health" | "/ready" | "/debug/requests")
    }

    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if path == "/metrics" {
            return self.scrape.clone().call(request).await.unwrap_or_else(|never| match never {});
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "use GET"}));
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/health" => json_response(StatusCode::OK, &json!({"status": "ok"})),
            "/ready" => self.ready(),
            "/debug/requests" => self.requests(request.uri().query()),
            _ => {
                let error = "here are /metrics, /health, /ready and /debug/requests";
                json_response(StatusCode::NOT_FOUND, &json!({"error": error}))
            }
        }
    }

    /// The gateway is ready if an upstream answers, and it is not shutting down.
    fn ready(&self) -> Response<Full<Bytes>> {
        // An upstream that is not probed counts as answering.
        let is_up = |upstream: &Upstream| match upstream.health() {
            Health::Up => true,
            Health::Unknown => upstream.config.probe.is_none(),
            Health::Down => false,
        };
        let upstreams: Map<String, Value> = self
            .upstreams
            .iter()
            .map(|upstream| {
                let health = match upstream.health() {
                    Health::Unknown => "unknown",
                    Health::Up => "up",
                    Health::Down => "down",
                };
                (upstream.config.name.clone(), health.into())
            })
            .collect();
        let status = if self.draining.load(Ordering::Relaxed) {
            "draining"
        } else if self.upstreams.iter().any(|upstream| is_up(upstream)) {
            "ready"
        } else {
            "no upstream answers"
        };
        let code = if status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_response(code, &json!({"status": status, "upstreams": upstreams}))
    }

    /// The newest request is first. It contains nothing from a prompt or a response, because the metrics keep none.
    fn requests(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let limit = query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("limit="));
        let Ok(limit) = limit.map_or(Ok(DEFAULT_LIMIT), str::parse) else {
            let error = "limit must be a number, such as ?limit=20";
            return json_response(StatusCode::BAD_REQUEST, &json!({"error": error}));
        };
        let now = SystemTime::now();
        let models: Vec<Value> = self.metrics.recent_models().iter().map(model).collect();
        let recent = self.metrics.recent_requests(limit);
        let requests: Vec<Value> = recent.iter().map(|recent| self::request(recent, now)).collect();
        json_response(StatusCode::OK, &json!({"models": models, "requests": requests}))
    }
}

fn model(recent: &RecentModel) -> Value {
    json!({
        "model": &*recent.model,
        "duration_seconds": recent.duration.map(latency),
        "time_to_first_token_seconds": recent.time_to_first_token.map(latency),
        "time_per_output_token_seconds": recent.time_per_output_token.map(latency),
    })
}

fn latency(recent: RecentLatency) -> Value {
    json!({
        "count": recent.count,
        "p50": recent.p50.as_secs_f64(),
        "p95": recent.p95.as_secs_f64(),
        "p99": recent.p99.as_secs_f64(),
        "max": recent.max.as_secs_f64(),
    })
}

fn request(recent: &RecentRequest, now: SystemTime) -> Value {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let age = recent.ended.elapsed();
    let ended = now.checked_sub(age).and_then(|ended| ended.duration_since(SystemTime::UNIX_EPOCH).ok());
    json!({
        "ended_unix_seconds": seconds(ended),
        "age_seconds": age.as_secs_f64(),
        "model": &*recent.model,
        "operation": recent.operation.as_str(),
        "endpoint": recent.endpoint.as_str(),
        "outcome": recent.outcome.as_str(),
        "error_type": recent.error_type.map(|error| error.as_str()),
        "status": recent.status,
        "finish_reason": recent.finish_reason.map(|reason| reason.as_str()),
        "stream": recent.stream,
        "thinking": recent.thinking.as_str(),
        "duration_seconds": recent.duration.as_secs_f64(),
        "time_to_first_token_seconds": seconds(recent.time_to_first_token),
        "time_to_first_answer_token_seconds": seconds(recent.time_to_first_answer_token),
        "time_per_output_token_seconds": seconds(recent.time_per_output_token),
        "input_tokens": recent.usage.input,
        "cached_input_tokens": recent.usage.cached_input,
        "output_tokens": recent.usage.output,
        "reasoning_tokens": recent.usage.reasoning,
    })
}
