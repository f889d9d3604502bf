//! Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::engine::Fault;

/// A rejection or a failure, with the status that it has before the response head is sent.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    /// Seconds after which a retry makes sense.
    retry_after: Option<u16>,
}

impl ApiError {
    fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, code, param: None, message: message.into(), retry_after: None }
    }

    fn at(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    fn retry_after(self, seconds: u16) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The body is not a JSON object.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, None, message)
    }

    /// The field `param` is missing, of the wrong type or out of range.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, None, message).at(param)
    }

    /// The field `param` is valid, but this server does not support it.
    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Some("unsupported_parameter"), message).at(param)
    }

    pub(crate) fn context_length_exceeded(context: usize, prompt: usize, param: &str) -> Self {
        let message = format!(
            "This model's maximum context length is {context} tokens, and the prompt alone has at least {prompt}. Shorten it."
        );
        Self::new(StatusCode::BAD_REQUEST, Some("context_length_exceeded"), message).at(param)
    }

    pub(crate) fn model_not_found(asked: &str, served: &str) -> Self {
        let message = format!("The model `{asked}` does not exist. This server has `{served}`.");
        Self::new(StatusCode::NOT_FOUND, Some("model_not_found"), message).at("model")
    }

    pub(crate) fn no_such_route(method: &str, path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Some("unknown_url"), format!("Unknown request URL: {method} {path}."))
    }

    pub(crate) fn method_not_allowed(method: &str, path: &str) -> Self {
        let message = format!("Not allowed to {method} on {path}.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported"), message)
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than the limit of {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Some("request_too_large"), message)
    }

    pub(crate) fn timeout(limit: std::time::Duration) -> Self {
        let message = format!("The request took longer than the limit of {limit:?}.");
        Self::new(StatusCode::GATEWAY_TIMEOUT, Some("timeout"), message)
    }

    /// 503 and not 429: the server is full, while the caller has not sent too many requests. Load balancers try another instance on a 503, and it
    /// correctly counts against this server's availability.
    pub(crate) fn overloaded() -> Self {
        let message = "The server is full: the limit of running and waiting requests is reached. Try again later.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("overloaded"), message).retry_after(1)
    }

    pub(crate) fn loading() -> Self {
        let message = "The model is still loading. GET /ready reports when it is loaded.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("model_loading"), message).retry_after(5)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn code(&self) -> Option<&'static str> {
        self.code
    }

    /// A response with this error in the shape of another API.
    pub(super) fn respond(&self, body: Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// The same error as a value, for a stream whose head was already sent.
    pub(crate) fn body(&self) -> Value {
        let kind = if self.status.is_client_error() { "invalid_request_error" } else { "server_error" };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let message = fault.to_string();
        match fault {
            Fault::Invalid(_) => Self::new(StatusCode::BAD_REQUEST, None, message),
            Fault::Failed(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Some("engine_failed"), message),
            Fault::Gone => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("engine_restarting"), message).retry_after(1)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_four_fields_that_clients_read() {
        let error = ApiError::invalid("temperature", "must be a number");
        assert_eq!(
            error.body(),
            json!({"error": {"message": "must be a number", "type": "invalid_request_error",
                "param": "temperature", "code": null}})
        );
    }

    #[test]
    fn a_full_server_sends_retry_after() {
        let response = ApiError::overloaded().into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn an_engine_failure_is_a_server_error_and_a_rejected_prompt_a_client_error() {
        assert_eq!(ApiError::from(Fault::Failed("x".into())).body()["error"]["type"], "server_error");
        assert_eq!(ApiError::from(Fault::Invalid("x".into())).body()["error"]["type"], "invalid_request_error");
    }
}
