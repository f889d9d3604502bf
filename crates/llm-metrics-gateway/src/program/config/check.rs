//! Converts the file to a configuration. Invalid values are rejected with their line and field.

use std::{error::Error, ops::Range, time::Duration};

use toml::Spanned;

use super::{
    ClientPattern, Config, DEFAULT_LISTEN, InvalidConfig, Limits, OFTENEST, Timeouts, UpstreamConfig,
    ca_file::certificates, file, is_name, too_often,
};

/// A longer label value would be unreadable.
const MAX_MODELS: usize = 1000;

pub(super) fn checked(text: &str, file: file::File) -> Result<Config, InvalidConfig> {
    let at = |span: Range<usize>, field: &str, message: &str| InvalidConfig::at(text, Some(span), field, message);
    if file.upstreams.is_empty() {
        let missing = "there is no upstream: add a table like [upstreams.ollama] with url = \"http://127.0.0.1:11434\"";
        return Err(InvalidConfig::at(text, None, "upstreams", missing));
    }
    let listen = file.listen.map_or(DEFAULT_LISTEN, |address| address.0);
    if let Some(metrics) = file.metrics_listen.as_ref().filter(|metrics| metrics.get_ref().0 == listen) {
        // Port 0 is a different port each time.
        if listen.port() != 0 {
            let same = "it is the same as `listen`: leave it out to serve the metrics there";
            return Err(at(metrics.span(), "metrics_listen", same));
        }
    }
    let number = |value: Option<Spanned<usize>>, field: &str, default: usize, least: usize, most: usize| match value {
        None => Ok(default),
        Some(value) if (least..=most).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err(at(value.span(), field, &format!("use a value from {least} to {most}"))),
    };
    let max_models = number(file.max_models, "max_models", 64, 1, MAX_MODELS)?;
    let default = Limits::default();
    let limits = Limits {
        connections: number(file.limits.connections, "limits.connections", default.connections, 1, 1_000_000)?,
        header_bytes: number(file.limits.header_bytes, "limits.header_bytes", default.header_bytes, 8192, 1 << 20)?,
        header_timeout: file.limits.header_timeout.map_or(default.header_timeout, |time| some(time.0)),
        model_lookup_bytes: number(
            file.limits.model_lookup_bytes,
            "limits.model_lookup_bytes",
            default.model_lookup_bytes,
            1024,
            1 << 30,
        )?,
    };
    let clients = file.clients.map(|clients| self::clients(text, clients)).transpose()?.flatten();
    let mut upstreams: Vec<UpstreamConfig> = Vec::with_capacity(file.upstreams.len());
    for (name, entry) in file.upstreams {
        let span = entry.span();
        let upstream = upstream(text, name, entry, file.timeouts)?;
        check_routes(&upstreams, &upstream)
            .map_err(|message| at(span, &format!("upstreams.{}", upstream.name), &message))?;
        upstreams.push(upstream);
    }
    Ok(Config {
        listen,
        metrics_listen: file.metrics_listen.map(|address| address.into_inner().0),
        drain_timeout: file.drain_timeout.map_or(Duration::from_secs(30), |time| time.0),
        measure: file.measure.unwrap_or(true),
        check_outputs: file.check_outputs.unwrap_or(true),
        max_models,
        clients,
        limits,
        upstreams,
    })
}

fn upstream(
    text: &str,
    name: String,
    entry: Spanned<file::Upstream>,
    timeouts: file::Timeouts,
) -> Result<UpstreamConfig, InvalidConfig> {
    let (span, file) = (entry.span(), entry.into_inner());
    let at = |span: Range<usize>, field: &str, message: String| {
        Err(InvalidConfig::at(text, Some(span), format!("upstreams.{name}{field}"), message))
    };
    if !is_name(&name) {
        let rule = "the name must consist of 1 to 64 letters, digits and -_.: and must not be `other` or `unknown`";
        return at(span, "", rule.to_owned());
    }
    let url = match file.url.get_ref().parse() {
        Ok(url) => url,
        Err(error) => return at(file.url.span(), ".url", format!("{error}")),
    };
    let mut upstream = UpstreamConfig::new(name.clone(), url, file.kind);
    if let Some(prefix) = file.path_prefix {
        let trimmed = prefix.get_ref().trim_end_matches('/');
        if !trimmed.starts_with('/') || trimmed.contains(['?', '#', ' ']) {
            return at(prefix.span(), ".path_prefix", "it must be a path such as /ollama".to_owned());
        }
        upstream.path_prefix = Some(trimmed.to_owned());
    }
    for model in file.models {
        let pattern = model.get_ref();
        if pattern.is_empty() || pattern.trim_end_matches('*').contains('*') || pattern.ends_with("**") {
            return at(
                model.span(),
                ".models",
                "use the name of a model, or the beginning of names and a `*`".to_owned(),
            );
        }
        upstream.models.push(model.into_inner());
    }
    for (field, asked, every) in [
        (".poll", file.poll, &mut upstream.poll),
        (".probe", file.probe, &mut upstream.probe),
        (".refresh_models", file.refresh_models, &mut upstream.refresh_models),
    ] {
        let Some(asked) = asked else { continue };
        let time = asked.get_ref().0;
        if time < OFTENEST && !time.is_zero() {
            return at(asked.span(), field, too_often(time));
        }
        if field == ".poll" && !upstream.kind.is_local() && !time.is_zero() {
            let kind = upstream.kind.as_str();
            return at(asked.span(), field, format!("kind = \"{kind}\" has no engine metrics: leave it out"));
        }
        *every = some(time);
    }
    if let Some(file) = file.ca_file {
        if !upstream.url.is_https() {
            let useless = "http:// has no certificates: leave it out, or use https://";
            return at(file.span(), ".ca_file", useless.to_owned());
        }
        if let Err(error) = certificates(file.get_ref()) {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            return at(file.span(), ".ca_file", format!("{}: {error}{cause}", file.get_ref().display()));
        }
        upstream.ca_file = Some(file.into_inner());
    }
    if let Some(http2) = file.http2 {
        if upstream.url.is_https() {
            return at(http2.span(), ".http2", "with https:// it is negotiated: leave it out".to_owned());
        }
        upstream.http2 = http2.into_inner();
    }
    upstream.accept_encoding = file.accept_encoding;
    let default = Timeouts::default();
    let limit = |own: Option<file::Time>, all: Option<file::Time>, default: Option<Duration>| {
        own.or(all).map_or(default, |time| some(time.0))
    };
    upstream.timeouts = Timeouts {
        connect: limit(file.timeouts.connect, timeouts.connect, default.connect),
        head: limit(file.timeouts.head, timeouts.head, default.head),
        idle: limit(file.timeouts.idle, timeouts.idle, default.idle),
    };
    upstream.keep_alive = file.keep_alive.map_or(upstream.keep_alive, |time| time.0);
    Ok(upstream)
}

/// 0 means never, or no limit.
fn some(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

/// Two upstreams must not match the same requests.
fn check_routes(others: &[UpstreamConfig], new: &UpstreamConfig) -> Result<(), String> {
    for other in others {
        if new.path_prefix.is_some() && new.path_prefix == other.path_prefix {
            return Err(format!("`{}` has the same path_prefix", other.name));
        }
        if new.path_prefix.is_some() || other.path_prefix.is_some() {
            continue;
        }
        if new.models.is_empty() && other.models.is_empty() {
            return Err(format!(
                "`{}` already gets all requests that match no other upstream: give one of the two a path_prefix or models",
                other.name
            ));
        }
        if let Some(model) = new.models.iter().find(|model| other.models.contains(model)) {
            return Err(format!("`{}` has the model {model:?} as well", other.name));
        }
    }
    if new.path_prefix.is_some() && !new.models.is_empty() {
        return Err("it has both path_prefix and models: use only one of them".to_owned());
    }
    Ok(())
}

fn clients(text: &str, clients: Spanned<file::Clients>) -> Result<Option<Vec<ClientPattern>>, InvalidConfig> {
    let span = clients.span();
    let named = match clients.into_inner() {
        file::Clients::Known(on) => return Ok(on.then(Vec::new)),
        file::Clients::Named(named) => named,
    };
    let mut patterns = Vec::with_capacity(named.len());
    for (name, prefix) in named {
        if !is_name(&name) || prefix.is_empty() {
            let rule = "a client needs a name (1 to 64 letters, digits and -_.:) and the beginning of its user agent";
            return Err(InvalidConfig::at(text, Some(span), format!("clients.{name}"), rule));
        }
        patterns.push(ClientPattern { name, prefix: prefix.to_ascii_lowercase() });
    }
    Ok(Some(patterns))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{AcceptEncoding, Config, Kind};

    const ONE: &str = "[upstreams.a]\nurl = \"http://127.0.0.1:1\"\n";

    fn error(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_url_is_enough() {
        let config = Config::parse(ONE).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080", "loopback by default");
        let upstream = &config.upstreams[0];
        assert_eq!((upstream.kind, upstream.accept_encoding), (Kind::Auto, AcceptEncoding::Identity));
        assert_eq!(upstream.timeouts.head, Some(Duration::from_secs(600)));
        assert_eq!(upstream.poll, None, "polling is asked for");
    }

    #[test]
    fn every_field_can_be_set() {
        let config = Config::parse(
            r#"
            listen = "0.0.0.0:80"
            metrics_listen = "127.0.0.1:9464"
            drain_timeout = "1m"
            measure = false
            check_outputs = false
            max_models = 10
            clients = { my-app = "MyApp/" }
            [limits]
            connections = 10
            header_bytes = 16384
            header_timeout = "10s"
            model_lookup_bytes = 2048
            [timeouts]
            head = "1m"
            idle = "0"
            [upstreams.ollama]
            url = "http://127.0.0.1:11434"
            kind = "ollama"
            path_prefix = "/ollama/"
            poll = "15s"
            probe = "0"
            keep_alive = "1s"
            refresh_models = "5m"
            [upstreams.gpu]
            url = "https://gpu.example.com/base"
            kind = "vllm"
            models = ["Qwen/*", "llama"]
            accept_encoding = "pass"
            timeouts = { head = "2m" }
            "#,
        )
        .unwrap();
        let [gpu, ollama] = &config.upstreams[..] else { panic!("two upstreams") };
        assert_eq!((gpu.timeouts.head, gpu.timeouts.idle), (Some(Duration::from_secs(120)), None));
        assert_eq!((gpu.models.len(), gpu.accept_encoding), (2, AcceptEncoding::Pass));
        assert_eq!(ollama.timeouts.head, Some(Duration::from_secs(60)), "that of all upstreams");
        assert_eq!((ollama.path_prefix.as_deref(), ollama.probe), (Some("/ollama"), None));
        assert_eq!((ollama.poll, ollama.keep_alive), (Some(Duration::from_secs(15)), Duration::from_secs(1)));
        assert_eq!(config.clients.unwrap()[0].prefix, "myapp/");
        assert_eq!((config.limits.connections, config.max_models), (10, 10));
        assert!(!config.measure && !config.check_outputs);
    }

    #[test]
    fn invalid_values_are_rejected_with_their_line_and_field() {
        for (text, place, reason) in [
            ("listen = \"localhost:1\"", "line 1, column 10: listen: ", "such as 127.0.0.1:8080"),
            ("listen = 8080", "line 1, column 10: listen: ", "such as \"127.0.0.1:8080\""),
            ("drain_timeout = 30", "line 1, column 17: drain_timeout: ", "such as \"500ms\""),
            ("measure = true\nmeasure = true", "line 2, column 1: measure: ", "duplicate key"),
            ("lissten = \"127.0.0.1:1\"", "line 1, column 1: lissten: ", "unknown field `lissten`"),
            ("listen = ", "line 1, column 10: ", ""),
            ("\n[upstreams.a]\nkind = \"ollama\"", "line 2, column 1: upstreams.a", "missing field `url`"),
            ("[upstreams.a]\nurl = \"x\"", "line 2, column 7: upstreams.a.url: ", "http://"),
            ("[upstreams.a]\nurl = \"http://x\"\nkind = \"olama\"", "line 3, column 8: upstreams.a.kind: ", "`ollama`"),
            ("[upstreams.a]\nurl = \"http://x\"\npoll = \"5\"", "line 3, column 8: upstreams.a.poll: ", "30s"),
            (
                "[upstreams.a]\nurl = \"http://x\"\npoll = \"5ms\"",
                "line 3, column 8: upstreams.a.poll: ",
                "at least one second",
            ),
            (
                "[upstreams.a]\nurl = \"http://x\"\nkind = \"openai\"\npoll = \"15s\"",
                "line 4, column 8: upstreams.a.poll: ",
                "leave it out",
            ),
            (
                "[upstreams.a]\nurl = \"http://x\"\nprobe = \"5ms\"",
                "line 3, column 9: upstreams.a.probe: ",
                "at least one second",
            ),
            (
                "[upstreams.a]\nurl = \"http://x\"\nrefresh_models = \"5ms\"",
                "line 3, column 18: upstreams.a.refresh_models: ",
                "at least one second",
            ),
            (
                "[upstreams.a]\nurl = \"http://x\"\nca_file = \"/no/such\"",
                "line 3, column 11: upstreams.a.ca_file: ",
                "leave it out",
            ),
            (
                "[upstreams.a]\nurl = \"https://x\"\nca_file = \"/no/such\"",
                "line 3, column 11: upstreams.a.ca_file: /no/such: ",
                "cannot be read",
            ),
            (
                "[upstreams.a]\nurl = \"https://x\"\nca_file = \"/dev/null\"",
                "line 3, column 11: upstreams.a.ca_file: /dev/null: ",
                "contains no certificate",
            ),
            ("[upstreams.a]\nurl = \"http://x\"\nmodels = [\"a*b\"]", "line 3, column 11: upstreams.a.models: ", "`*`"),
            (
                "[upstreams.a]\nurl = \"http://x\"\npath_prefix = \"v1\"",
                "line 3, column 15: upstreams.a.path_prefix: ",
                "/",
            ),
            ("[upstreams.a]\nurl = \"https://x\"\nhttp2 = true", "line 3, column 9: upstreams.a.http2: ", "negotiated"),
            ("[upstreams.\"a b\"]\nurl = \"http://x\"", "line 1, column 1: upstreams.a b: ", "the name"),
            ("[timeouts]\nhead = \"long\"", "line 2, column 8: timeouts.head: ", "not a time"),
            ("[limits]\nconnections = 0", "line 2, column 15: limits.connections: ", "from 1"),
            ("max_models = 0", "line 1, column 14: max_models: ", "from 1"),
            ("clients = 3", "line 1, column 11: clients: ", "clients = true"),
            ("metrics_listen = \"127.0.0.1:8080\"", "line 1, column 18: metrics_listen: ", "the same"),
        ] {
            let text = if text.contains("upstreams") { text.to_owned() } else { format!("{text}\n{ONE}") };
            let error = error(&text);
            assert!(error.starts_with(place) && error.contains(reason), "{text}\n→ {error}");
        }
        assert!(error("").starts_with("upstreams: there is no upstream"), "{}", error(""));
    }

    #[test]
    fn two_upstreams_for_the_same_requests_are_refused() {
        let two = |a: &str, b: &str| {
            let text = format!("[upstreams.a]\nurl = \"http://x\"\n{a}\n[upstreams.b]\nurl = \"http://y\"\n{b}");
            Config::parse(&text).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(two("path_prefix = \"/a\"", ""), Ok(()));
        assert_eq!(two("models = [\"x\"]", ""), Ok(()));
        assert_eq!(two("models = [\"x\"]", "models = [\"x*\"]"), Ok(()), "the longer one wins");
        for (a, b, reason) in [
            ("", "", "already gets all requests"),
            ("path_prefix = \"/a\"", "path_prefix = \"/a/\"", "same path_prefix"),
            ("models = [\"x\"]", "models = [\"x\"]", "as well"),
            ("", "path_prefix = \"/b\"\nmodels = [\"x\"]", "both"),
        ] {
            let error = two(a, b).unwrap_err();
            assert!(error.starts_with("line 4, column 1: upstreams.b: ") && error.contains(reason), "{error}");
        }
    }
}
