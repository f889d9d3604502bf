//! Values with their own syntax.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use serde::Deserialize;

/// The kind of an upstream. It decides which data the gateway polls, and which protocols are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[non_exhaustive]
pub enum Kind {
    /// Detected by requests to the upstream, as soon as it answers.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// A server with OpenAI's API without further features, such as a hosted one.
    #[serde(rename = "openai")]
    #[value(name = "openai")]
    OpenAi,
    /// Anthropic's API.
    #[serde(rename = "anthropic")]
    Anthropic,
    /// Ollama.
    #[serde(rename = "ollama")]
    Ollama,
    /// llama.cpp's `llama-server`.
    #[serde(rename = "llama.cpp")]
    #[value(name = "llama.cpp")]
    LlamaCpp,
    /// vLLM.
    #[serde(rename = "vllm")]
    #[value(name = "vllm")]
    Vllm,
}

impl Kind {
    /// The spelling in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Ollama => "ollama",
            Self::LlamaCpp => "llama.cpp",
            Self::Vllm => "vllm",
        }
    }

    /// Whether it is an engine, and not a hosted service that may bill each request.
    pub(crate) const fn is_local(self) -> bool {
        !matches!(self, Self::OpenAi | Self::Anthropic)
    }
}

/// How the header `accept-encoding` of a request is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum AcceptEncoding {
    /// It becomes `identity`, because a compressed response cannot be measured.
    #[default]
    #[serde(rename = "identity")]
    Identity,
    /// It stays unchanged.
    #[serde(rename = "pass")]
    Pass,
}

/// The base URL of an upstream: scheme, host and port, and a prefix of all paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Without a slash at the end: empty, or `/v1`.
    pub(crate) base_path: String,
}

impl UpstreamUrl {
    /// The host to connect to, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        let usual = if self.is_https() { 443 } else { 80 };
        self.authority.port_u16().unwrap_or(usual)
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }
}

impl UpstreamUrl {
    /// Whether it is an address of this machine. Names other than `localhost` are not resolved.
    pub(crate) fn is_served_on(&self, listen: SocketAddr) -> bool {
        let is_here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        let host = match self.host().parse::<IpAddr>() {
            Ok(ip) => ip == listen.ip() || (is_here(ip) && listen.ip().is_unspecified()),
            Err(_) => self.host().eq_ignore_ascii_case("localhost") && is_here(listen.ip()),
        };
        host && self.port() == listen.port()
    }
}

impl FromStr for UpstreamUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |reason| InvalidUrl { url: without_secrets(text), reason };
        let uri: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let Some(scheme) = scheme else { return Err(invalid("it must begin with http:// or https://")) };
        let Some(authority) = parts.authority.filter(|authority| !authority.host().is_empty()) else {
            return Err(invalid("it has no host"));
        };
        if authority.as_str().contains('@') {
            return Err(invalid("it must not have a user or password: clients send `authorization` themselves"));
        }
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(invalid("its port must be from 1 to 65535"));
        }
        let path = parts.path_and_query.as_ref().map_or("", |path| path.as_str());
        if path.contains('?') {
            return Err(invalid("it must not have a query"));
        }
        if text.contains('#') {
            return Err(invalid("it must not have a fragment"));
        }
        Ok(Self { scheme, authority, base_path: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base_path)
    }
}

/// The part of a URL that may be shown: without user, password and query, which may contain a key.
fn without_secrets(text: &str) -> String {
    let (text, query) = text.split_once('?').map_or((text, ""), |(text, _)| (text, "?…"));
    let scheme = text.find("://").map_or(0, |at| at + "://".len());
    match text[scheme..].rsplit_once('@') {
        Some((_, host)) => format!("{}…@{host}{query}", &text[..scheme]),
        None => format!("{text}{query}"),
    }
}

/// A URL that is not valid for an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not a valid upstream URL: {reason}; an example is http://127.0.0.1:11434")]
#[non_exhaustive]
pub struct InvalidUrl {
    /// The given URL, without user, password and query.
    pub url: String,
    /// The problem.
    pub reason: &'static str,
}

/// `500ms`, `30s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a time: use a form such as 500ms, 30s, 5m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ if number == "0" && unit.is_empty() => 0.0,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    // A year is practically unlimited, and far from the limits of an `Instant`.
    let year = Duration::from_secs(365 * 24 * 3600);
    let time = Duration::try_from_secs_f64(number * seconds).ok().filter(|time| *time <= year);
    time.ok_or_else(|| format!("{text:?} is too long: use at most one year"))
}

/// Whether a text is a valid name of an upstream or a client, which becomes a label value and is logged.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed) && !["other", "unknown"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_port_and_base_path() {
        let url: UpstreamUrl = "https://api.example.com/openai/v1/".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.base_path.as_str()), ("api.example.com", 443, "/openai/v1"));
        let url: UpstreamUrl = "http://[::1]:11434".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.base_path.as_str()), ("::1", 11434, ""));
        assert_eq!(url.to_string(), "http://[::1]:11434");
        assert_eq!("http://localhost".parse::<UpstreamUrl>().unwrap().port(), 80);
    }

    #[test]
    fn a_url_may_be_the_address_of_the_gateway_itself() {
        let is = |url: &str, listen: &str| url.parse::<UpstreamUrl>().unwrap().is_served_on(listen.parse().unwrap());
        for (url, listen) in [
            ("http://127.0.0.1:8080/v1", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://LocalHost:8080", "[::1]:8080"),
            ("http://127.0.0.1:8080", "0.0.0.0:8080"),
            ("http://[::1]:8080", "[::]:8080"),
            ("http://10.0.0.5", "10.0.0.5:80"),
            ("http://0.0.0.0:8080", "0.0.0.0:8080"),
        ] {
            assert!(is(url, listen), "{url} {listen}");
        }
        for (url, listen) in [
            ("http://127.0.0.1:8081", "127.0.0.1:8080"),
            ("http://10.0.0.5:8080", "0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "10.0.0.5:8080"),
            ("http://example.com:8080", "127.0.0.1:8080"),
            ("http://localhost:8080", "10.0.0.5:8080"),
            ("http://127.0.0.1", "127.0.0.1:0"),
        ] {
            assert!(!is(url, listen), "{url} {listen}");
        }
    }

    #[test]
    fn an_invalid_url_is_rejected_with_the_reason() {
        for (url, reason) in [
            ("localhost:11434", "begin with http"),
            ("/v1", "begin with http"),
            ("ftp://x", "begin with http"),
            ("http://", "not a URL"),
            ("http://user:secret@host", "a user or password"),
            ("http://host/?key=1", "a query"),
            ("http://ho st", "not a URL"),
            ("http://host/#x", "a fragment"),
            ("http://host:99999", "from 1 to 65535"),
            ("http://[::1]:0/v1", "from 1 to 65535"),
            ("http://host:", "from 1 to 65535"),
            ("user:secret@host", "begin with http"),
            ("http://user:secret@ho st/?key=secret", "not a URL"),
        ] {
            let error = url.parse::<UpstreamUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("secret") && !error.contains("key=1"), "{error}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "s", "30", "-1s", "5 minutes", "1e99s", "9999999h", "1.2.3s"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_short_plain_and_not_reserved() {
        for name in ["a", "ollama", "gpu-1_x.y", "127.0.0.1:11434"] {
            assert!(is_name(name), "{name:?}");
        }
        for name in ["", "a b", "a/b", "größe", "other", "unknown", &"x".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
