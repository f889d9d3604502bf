//! The file as written. The fields are explained in `docs/gateway.md`.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use toml::Spanned;

use super::{AcceptEncoding, InvalidConfig, Kind, duration};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<Address>,
    pub(super) metrics_listen: Option<Spanned<Address>>,
    pub(super) drain_timeout: Option<Time>,
    pub(super) measure: Option<bool>,
    pub(super) check_outputs: Option<bool>,
    pub(super) max_models: Option<Spanned<usize>>,
    pub(super) clients: Option<Spanned<Clients>>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    #[serde(default)]
    pub(super) upstreams: BTreeMap<String, Spanned<Upstream>>,
}

/// `true` for the known programs; or additional names, with the beginnings of their user agents.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "use `clients = true`, or a table like { my-app = \"MyApp/\" }")]
pub(super) enum Clients {
    Known(bool),
    Named(BTreeMap<String, String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) connections: Option<Spanned<usize>>,
    pub(super) header_bytes: Option<Spanned<usize>>,
    pub(super) header_timeout: Option<Time>,
    pub(super) model_lookup_bytes: Option<Spanned<usize>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) connect: Option<Time>,
    pub(super) head: Option<Time>,
    pub(super) idle: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) url: Spanned<String>,
    #[serde(default)]
    pub(super) kind: Kind,
    pub(super) path_prefix: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) models: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) accept_encoding: AcceptEncoding,
    pub(super) http2: Option<Spanned<bool>>,
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    pub(super) keep_alive: Option<Time>,
    pub(super) probe: Option<Spanned<Time>>,
    pub(super) refresh_models: Option<Spanned<Time>>,
    pub(super) poll: Option<Spanned<Time>>,
}

/// A time with its unit, such as `30s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text { expected: "a time such as \"500ms\", \"30s\", \"5m\" or \"1h\"", read: duration };
        deserializer.deserialize_str(text).map(Self)
    }
}

/// An address to listen on, such as `127.0.0.1:8080`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text { expected: "an address such as \"127.0.0.1:8080\"", read: address };
        deserializer.deserialize_str(text).map(Self)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an address: use an IP address and a port, such as 127.0.0.1:8080"))
}

/// A value with a text form.
struct Text<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

pub(super) fn parse(text: &str) -> Result<File, InvalidConfig> {
    let invalid =
        |field: String, error: &toml::de::Error| InvalidConfig::at(text, error.span(), field, error.message().trim());
    let deserializer = toml::Deserializer::parse(text).map_err(|error| invalid(key(text, &error), &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| invalid(field(error.path()), error.inner()))
}

/// The key of a syntax error, such as a duplicate key; empty if there is none.
fn key(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || "-_.\"'".contains(c);
    if at.chars().all(is_key) { at.to_owned() } else { String::new() }
}

/// The keys down to a field, without those that only store its position.
fn field(path: &serde_path_to_error::Path) -> String {
    let keys = path.iter().filter_map(|segment| match segment {
        serde_path_to_error::Segment::Map { key } if !key.starts_with("$__serde_spanned") => Some(key.as_str()),
        _ => None,
    });
    keys.collect::<Vec<_>>().join(".")
}
