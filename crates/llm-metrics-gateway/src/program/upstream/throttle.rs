//! Quotas and throttling, as reported in responses.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::Upstream;
use crate::program::record::{Quota, Throttled};

/// How much of a 429's body is read for its reason.
const KEPT: usize = 4096;

/// Records the headers of a response. Returns a reader if its body is needed, too.
pub(super) fn observe(
    upstream: &Arc<Upstream>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Box<RejectionReader>> {
    for kind in Quota::ALL {
        if let Some(ratio) = remaining(headers, kind) {
            upstream.metrics.quota_remaining(kind, ratio);
        }
    }
    let exhausted = status == StatusCode::TOO_MANY_REQUESTS && is_exhausted(headers);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
        && let Some(wait) = retry_after(headers)
    {
        upstream.metrics.retry_after(wait);
    }
    (status == StatusCode::TOO_MANY_REQUESTS)
        .then(|| Box::new(RejectionReader { upstream: Arc::clone(upstream), exhausted, kept: Vec::new() }))
}

/// The headers with the limit and the rest of a quota: OpenAI's and Anthropic's. `HeaderName`s, because building them for each response cost more
/// than looking them up.
type RateLimitHeaders = [HeaderName; 2];

static REQUESTS: [RateLimitHeaders; 2] = [
    rate_limit_headers("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
    rate_limit_headers("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining"),
];

static TOKENS: [RateLimitHeaders; 6] = [
    rate_limit_headers("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
    rate_limit_headers("x-ratelimit-limit-input-tokens", "x-ratelimit-remaining-input-tokens"),
    rate_limit_headers("x-ratelimit-limit-output-tokens", "x-ratelimit-remaining-output-tokens"),
    rate_limit_headers("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining"),
    rate_limit_headers("anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining"),
    rate_limit_headers("anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining"),
];

const fn rate_limit_headers(limit: &'static str, left: &'static str) -> RateLimitHeaders {
    [HeaderName::from_static(limit), HeaderName::from_static(left)]
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// Whether any quota is used up.
fn is_exhausted(headers: &HeaderMap) -> bool {
    REQUESTS.iter().chain(&TOKENS).any(|[_, left]| number(headers, left) == Some(0.0))
}

/// The remaining share of a quota. If an upstream reports several, the lowest counts.
fn remaining(headers: &HeaderMap, kind: Quota) -> Option<f64> {
    let ratio = |[limit, left]: &RateLimitHeaders| {
        let (limit, left) = (number(headers, limit)?, number(headers, left)?);
        (limit > 0.0 && left >= 0.0).then(|| (left / limit).min(1.0))
    };
    let quotas: &[RateLimitHeaders] = match kind {
        Quota::Requests => &REQUESTS,
        Quota::Tokens => &TOKENS,
    };
    quotas.iter().filter_map(ratio).reduce(f64::min)
}

/// Seconds, or OpenAI's milliseconds. A date is ignored: it would need the upstream's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(header::RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok().filter(|wait| *wait <= Duration::from_secs(7 * 24 * 3600))
}

/// Reads the reason of a 429, and counts it when the response has ended.
pub(super) struct RejectionReader {
    upstream: Arc<Upstream>,
    exhausted: bool,
    kept: Vec<u8>,
}

impl RejectionReader {
    pub(super) fn read(&mut self, data: &[u8]) {
        let room = KEPT - self.kept.len();
        self.kept.extend_from_slice(&data[..data.len().min(room)]);
    }
}

impl Drop for RejectionReader {
    fn drop(&mut self) {
        self.upstream.metrics.throttled(reason(&self.kept, self.exhausted));
    }
}

/// Codes and types of OpenAI, Azure, Anthropic, Mistral, DashScope, DeepSeek and vLLM. The text of a message is ignored.
fn reason(body: &[u8], exhausted: bool) -> Throttled {
    const QUOTA: [&str; 5] = ["quota", "rate_limit", "ratelimit", "rate limit", "throttling"];
    const OVERLOAD: [&str; 4] = ["overload", "capacity", "server_busy", "unavailable"];
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = if body["error"].is_object() { &body["error"] } else { &body };
    let words: Vec<String> =
        ["code", "type"].iter().filter_map(|key| Some(error[*key].as_str()?.to_ascii_lowercase())).collect();
    let says = |known: &[&str]| words.iter().any(|word| known.iter().any(|part| word.contains(part)));
    if says(&OVERLOAD) {
        Throttled::Overload
    } else if exhausted || says(&QUOTA) {
        Throttled::Quota
    } else {
        Throttled::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_remaining_quota_is_a_share_of_the_limit() {
        let openai = headers(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "45"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "0"),
        ]);
        assert_eq!(remaining(&openai, Quota::Requests), Some(0.75));
        assert_eq!(remaining(&openai, Quota::Tokens), Some(0.0));
        let anthropic = headers(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-input-tokens-limit", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "900"),
            ("anthropic-ratelimit-output-tokens-limit", "1000"),
            ("anthropic-ratelimit-output-tokens-remaining", "100"),
        ]);
        assert_eq!(remaining(&anthropic, Quota::Requests), Some(0.98));
        assert_eq!(remaining(&anthropic, Quota::Tokens), Some(0.1), "the scarcest");
    }

    #[test]
    fn a_quota_that_an_upstream_does_not_report_is_absent() {
        assert_eq!(remaining(&headers(&[]), Quota::Requests), None);
        for limit in ["0", "-1", "many", ""] {
            let odd = headers(&[("x-ratelimit-limit-requests", limit), ("x-ratelimit-remaining-requests", "1")]);
            assert_eq!(remaining(&odd, Quota::Requests), None, "{limit:?}");
        }
        assert_eq!(remaining(&headers(&[("x-ratelimit-remaining-requests", "1")]), Quota::Requests), None);
        let endless = headers(&[("x-ratelimit-limit-requests", "1"), ("x-ratelimit-remaining-requests", "1e400")]);
        assert_eq!(remaining(&endless, Quota::Requests), None);
    }

    #[test]
    fn a_quota_is_used_up_if_none_of_it_remains() {
        assert!(is_exhausted(&headers(&[("x-ratelimit-remaining-requests", "0")])), "without its limit, too");
        assert!(is_exhausted(&headers(&[("anthropic-ratelimit-input-tokens-remaining", "0")])));
        assert!(!is_exhausted(&headers(&[("x-ratelimit-remaining-requests", "1")])));
        assert!(!is_exhausted(&headers(&[("x-ratelimit-limit-requests", "0")])));
    }

    #[test]
    fn retry_after_is_seconds_or_milliseconds() {
        assert_eq!(retry_after(&headers(&[("retry-after", "20")])), Some(Duration::from_secs(20)));
        let both = headers(&[("retry-after", "1"), ("retry-after-ms", "250")]);
        assert_eq!(retry_after(&both), Some(Duration::from_millis(250)));
        for odd in ["soon", "-1", "1e300", "NaN", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(retry_after(&headers(&[("retry-after", odd)])), None, "{odd:?}");
        }
    }

    #[test]
    fn a_429_is_quota_or_overload_by_its_code() {
        for (body, exhausted, kind) in [
            (
                r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                false,
                Throttled::Quota,
            ),
            (r#"{"error":{"type":"tokens","code":"rate_limit_exceeded"}}"#, false, Throttled::Quota),
            (r#"{"type":"error","error":{"type":"rate_limit_error","message":"…"}}"#, false, Throttled::Quota),
            (r#"{"type":"error","error":{"type":"overloaded_error"}}"#, true, Throttled::Overload),
            (r#"{"error":{"type":"engine_overloaded_error"}}"#, false, Throttled::Overload),
            (r#"{"code":"Throttling.RateQuota","message":"…"}"#, false, Throttled::Quota),
            (r#"{"error":{"message":"quota"}}"#, false, Throttled::Unknown),
            ("not json", false, Throttled::Unknown),
            ("", true, Throttled::Quota),
        ] {
            assert_eq!(reason(body.as_bytes(), exhausted), kind, "{body}");
        }
    }
}
