//! Maps the codes and types of errors in answers to error types.

use super::ErrorType;

/// Codes and types by error type: those of OpenAI, Azure, Anthropic, vLLM, SGLang, llama.cpp, Google and OpenRouter. Case, and the
/// separators between the parts of a word, are ignored.
pub(crate) const ERROR_WORDS: &[(ErrorType, &[&str])] = &[
    (
        ErrorType::InvalidRequest,
        &[
            "bad_request",
            "bad_request_error",
            "billing_error",
            "content_filter",
            "content_policy_violation",
            "context_length_exceeded",
            "context_window_exceeded",
            "exceed_context_size_error",
            "failed_precondition",
            "invalid_argument",
            "invalid_image",
            "invalid_parameter",
            "invalid_prompt",
            "invalid_request",
            "invalid_request_error",
            "invalid_value",
            "request_too_large",
            "string_above_max_length",
            "unprocessable_entity",
            "unprocessable_entity_error",
            "unsupported_parameter",
            "unsupported_value",
            "validation_error",
            "value_error",
        ],
    ),
    (
        ErrorType::Unauthorized,
        &[
            "authentication_error",
            "forbidden",
            "invalid_api_key",
            "permission_denied",
            "permission_denied_error",
            "permission_error",
            "unauthenticated",
            "unauthorized",
        ],
    ),
    (ErrorType::NotFound, &["model_not_found", "not_found", "not_found_error"]),
    (
        ErrorType::RateLimited,
        &[
            "insufficient_quota",
            "rate_limit",
            "rate_limit_error",
            "rate_limit_exceeded",
            "rate_limited",
            "resource_exhausted",
            "throttling_exception",
            "too_many_requests",
        ],
    ),
    (
        ErrorType::Overloaded,
        &[
            "engine_overloaded",
            "model_overloaded",
            "overloaded",
            "overloaded_error",
            "server_overloaded",
            "service_unavailable",
            "service_unavailable_error",
            "slow_down",
            "unavailable",
            "unavailable_error",
        ],
    ),
    (ErrorType::Timeout, &["deadline_exceeded", "request_timeout", "timed_out", "timeout", "timeout_error"]),
];
