//! Hop-by-hop headers.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::program::config::AcceptEncoding;

/// Headers of RFC 9110, section 7.6.1, and their predecessors in older clients.
static HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Converts the headers of a client's request to those of the request to the upstream.
pub(crate) fn of_request(headers: &mut HeaderMap, encoding: AcceptEncoding) {
    let wants_trailers = has_token(headers, &header::TE, "trailers");
    remove_hop_by_hop(headers);
    join_cookies(headers);
    headers.remove(header::PROXY_AUTHORIZATION);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if encoding == AcceptEncoding::Identity {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Converts the headers of the upstream's response to those of the response to the client.
pub(crate) fn of_answer(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// Keeps the headers that a protocol upgrade needs.
pub(crate) fn keep_upgrade(headers: &mut HeaderMap, change: impl FnOnce(&mut HeaderMap)) {
    let protocol = headers.get(header::UPGRADE).cloned();
    change(headers);
    if let Some(protocol) = protocol {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Whether a request asks for another protocol on its connection. HTTP/2 (`h2c`), which Java's client asks for with each first request, does not
/// count: a response in HTTP/1.1 declines it.
pub(crate) fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let mut wanted = tokens(headers, &header::UPGRADE);
    wanted.any(|protocol| !protocol.eq_ignore_ascii_case("h2c")) && has_token(headers, &header::CONNECTION, "upgrade")
}

/// HTTP/2 may have a header per cookie, HTTP/1.1 has one for all (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // If a body is chunked, a length is wrong, and the bytes after it would be read as another request.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    // Most requests have only `keep-alive` or `close` here.
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|own| own.split(';').next().unwrap_or(own).trim().eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn hop_by_hop_headers_are_not_forwarded() {
        let mut request = headers(&[
            ("connection", "Keep-Alive, X-Private"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("x-private", "1"),
            ("authorization", "Bearer secret"),
            ("x-tenant", "a"),
        ]);
        of_request(&mut request, AcceptEncoding::Pass);
        assert_eq!(request, headers(&[("authorization", "Bearer secret"), ("x-tenant", "a")]));
    }

    #[test]
    fn a_content_length_is_removed_if_the_body_is_chunked() {
        let lies = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
        let mut request = lies.clone();
        of_request(&mut request, AcceptEncoding::Pass);
        assert_eq!(request, headers(&[]));
        let mut answer = lies;
        of_answer(&mut answer);
        assert_eq!(answer, headers(&[]));
    }

    #[test]
    fn cookies_are_one_header() {
        let mut request = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        of_request(&mut request, AcceptEncoding::Pass);
        assert_eq!(request, headers(&[("cookie", "a=1; b=2; c=3")]));
    }

    #[test]
    fn trailers_are_requested_if_the_client_accepts_them() {
        let mut request = headers(&[("te", "gzip;q=0.5, trailers")]);
        of_request(&mut request, AcceptEncoding::Pass);
        assert_eq!(request, headers(&[("te", "trailers")]));
    }

    #[test]
    fn compression_is_only_requested_if_configured() {
        let mut request = headers(&[("accept-encoding", "gzip, br")]);
        of_request(&mut request, AcceptEncoding::Identity);
        assert_eq!(request, headers(&[("accept-encoding", "identity")]));
        let mut request = headers(&[("accept-encoding", "gzip, br")]);
        of_request(&mut request, AcceptEncoding::Pass);
        assert_eq!(request, headers(&[("accept-encoding", "gzip, br")]));
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_keeps_them() {
        let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert!(asks_for_upgrade(&headers(&upgrade)));
        assert!(!asks_for_upgrade(&headers(&upgrade[..1])));
        assert!(!asks_for_upgrade(&headers(&upgrade[1..])));
        let h2c = [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")];
        assert!(!asks_for_upgrade(&headers(&h2c)));
        let mut request = headers(&h2c);
        of_request(&mut request, AcceptEncoding::Pass);
        assert_eq!(request, headers(&[]));
        let mut request = headers(&upgrade);
        keep_upgrade(&mut request, |headers| of_request(headers, AcceptEncoding::Pass));
        assert_eq!(request, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }
}
