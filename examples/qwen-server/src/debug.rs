//! `GET /debug/requests`: the last minute and the last requests.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use llm_metrics::{LlmMetrics, RecentLatency, RecentModel, RecentRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::ApiError;

/// The default number of requests.
const DEFAULT_LIMIT: usize = 100;

#[derive(Deserialize)]
pub(crate) struct RequestsQuery {
    limit: Option<String>,
}

/// The newest request is first. It contains nothing from a prompt or a response, because the metrics keep none.
pub(crate) async fn requests(State(metrics): State<LlmMetrics>, Query(query): Query<RequestsQuery>) -> Response {
    let limit = match query.limit.as_deref().map_or(Ok(DEFAULT_LIMIT), str::parse) {
        Ok(limit) => limit,
        Err(_) => return ApiError::invalid("limit", "limit must be a number, like ?limit=20").into_response(),
    };
    let now = SystemTime::now();
    let models: Vec<Value> = metrics.recent_models().iter().map(model).collect();
    let requests: Vec<Value> = metrics.recent_requests(limit).iter().map(|recent| request(recent, now)).collect();
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({"models": models, "requests": requests}))).into_response()
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
