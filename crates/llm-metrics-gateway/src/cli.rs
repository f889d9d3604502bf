//! The command line.

use std::{io, net::SocketAddr, path::PathBuf};

use clap::Parser;
use llm_metrics_gateway::{Config, DEFAULT_LISTEN, InvalidConfig, Kind, UpstreamConfig, UpstreamUrl};

/// Puts Prometheus metrics in front of an unmodified Ollama, llama.cpp, vLLM or hosted API.
///
/// Clients use this address instead of the upstream's, and see no difference; metrics are at /metrics.
#[derive(Debug, Parser)]
#[command(version, name = "llm-gateway", arg_required_else_help = true)]
pub(crate) struct Args {
    /// The URL of the upstream, such as http://127.0.0.1:11434; for several upstreams or more settings, use --config
    #[arg(long, value_name = "URL", env = "LLM_GATEWAY_UPSTREAM", required_unless_present_any = ["config", "check_health"])]
    upstream: Option<UpstreamUrl>,

    /// The kind of the upstream
    #[arg(long, value_enum, default_value_t, env = "LLM_GATEWAY_KIND", conflicts_with = "config")]
    kind: Kind,

    /// The upstream's name in metrics [default: its host and port]
    #[arg(long, value_name = "NAME", conflicts_with = "config", value_parser = name)]
    name: Option<String>,

    /// Polls the engine's own metrics at this interval, such as 15s: Ollama's loaded models, llama.cpp's and vLLM's queues
    #[arg(long, value_name = "TIME", conflicts_with = "config", value_parser = poll)]
    poll: Option<std::time::Duration>,

    /// A TOML file with all settings; see docs/gateway.md
    #[arg(long, value_name = "FILE", env = "LLM_GATEWAY_CONFIG", conflicts_with = "upstream")]
    config: Option<PathBuf>,

    /// The address for clients [default: 127.0.0.1:8080]; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", env = "LLM_GATEWAY_LISTEN", value_parser = address)]
    listen: Option<SocketAddr>,

    /// Serves /metrics, /health, /ready and /debug/requests on a separate address, and not on the clients' address
    #[arg(long, value_name = "ADDRESS", env = "LLM_GATEWAY_METRICS_LISTEN", value_parser = address)]
    metrics_listen: Option<SocketAddr>,

    /// Checks the settings and exits: status 0 if they are valid, otherwise 1
    #[arg(long)]
    pub(crate) check: bool,

    /// Requests /health of the running gateway with these addresses and exits: status 0 if it is alive, otherwise 1; needs no upstream
    #[arg(long, conflicts_with = "check")]
    pub(crate) check_health: bool,
}

/// Why the settings are invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{}: the file cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: the settings are invalid", path.display())]
    Config { path: PathBuf, source: InvalidConfig },
    #[error("--poll: an upstream of kind {} has no engine metrics: leave --poll out", .0.as_str())]
    Poll(Kind),
    #[error("--metrics-listen is the address of the clients, {0}: leave it out to serve the metrics there")]
    SameAddress(SocketAddr),
}

impl Args {
    /// The settings of the file or of the command line. Addresses on the command line take precedence.
    pub(crate) fn settings(self) -> Result<Config, SettingsError> {
        let mut config = match (self.config, self.upstream) {
            (Some(path), _) => read(path)?,
            (None, Some(url)) => {
                let name = self.name.unwrap_or_else(|| url.authority().to_string());
                let mut upstream = UpstreamConfig::new(name, url, self.kind);
                if self.poll.is_some() && matches!(self.kind, Kind::OpenAi | Kind::Anthropic) {
                    return Err(SettingsError::Poll(self.kind));
                }
                upstream.poll = self.poll;
                Config::with_upstream(upstream)
            }
            (None, None) => unreachable!("the command line requires one of them"),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.metrics_listen = self.metrics_listen.or(config.metrics_listen);
        // Port 0 is a different port each time.
        if config.metrics_listen == Some(config.listen) && config.listen.port() != 0 {
            return Err(SettingsError::SameAddress(config.listen));
        }
        Ok(config)
    }

    /// The address of /health for these settings.
    pub(crate) fn health_address(self) -> Result<SocketAddr, SettingsError> {
        let (listen, metrics_listen) = match self.config {
            Some(path) => read(path).map(|config| (config.listen, config.metrics_listen))?,
            None => (DEFAULT_LISTEN, None),
        };
        Ok(self.metrics_listen.or(metrics_listen).or(self.listen).unwrap_or(listen))
    }
}

fn read(path: PathBuf) -> Result<Config, SettingsError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Config::parse(&text).map_err(|source| SettingsError::Config { path, source }),
        Err(source) => Err(SettingsError::Read { path, source }),
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "use an IP address and a port, such as 127.0.0.1:8080")
}

fn name(text: &str) -> Result<String, String> {
    UpstreamConfig::check_name(text).map(|()| text.to_owned())
}

fn poll(text: &str) -> Result<std::time::Duration, String> {
    UpstreamConfig::parse_poll(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    fn settings(arguments: &[&str]) -> Config {
        Args::try_parse_from([&["llm-gateway"], arguments].concat()).unwrap().settings().unwrap()
    }

    #[test]
    fn a_url_is_enough() {
        let config = settings(&["--upstream", "http://127.0.0.1:11434"]);
        assert_eq!(config.upstreams[0].name, "127.0.0.1:11434");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        let config = settings(&["--upstream", "http://h", "--name", "ollama", "--kind", "ollama", "--poll", "15s"]);
        assert_eq!((config.upstreams[0].name.as_str(), config.upstreams[0].kind), ("ollama", Kind::Ollama));
        assert_eq!(config.upstreams[0].poll, Some(std::time::Duration::from_secs(15)));
    }

    #[test]
    fn contradictory_options_are_rejected() {
        for arguments in [
            &["--listen", "127.0.0.1:1"][..],
            &["--upstream", "localhost:1"],
            &["--upstream", "http://h", "--config", "x.toml"],
            &["--config", "x.toml", "--name", "n"],
            &["--upstream", "http://h", "--name", "a b"],
            &["--upstream", "http://h", "--poll", "1ms"],
            &["--upstream", "http://h", "--check", "--check-health"],
            &["--upstream", "http://h", "--listen", "localhost:8080"],
        ] {
            assert!(Args::try_parse_from([&["llm-gateway"], arguments].concat()).is_err(), "{arguments:?}");
        }
        for (arguments, message) in [
            (&["--kind", "openai", "--poll", "15s"][..], "kind openai has no engine metrics"),
            (&["--metrics-listen", "127.0.0.1:8080"], "the address of the clients, 127.0.0.1:8080"),
        ] {
            let arguments = [&["llm-gateway", "--upstream", "http://h"], arguments].concat();
            let error = Args::try_parse_from(arguments).unwrap().settings().unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn health_is_on_the_address_of_the_metrics_or_else_on_that_of_the_clients() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "listen = \"127.0.0.1:1\"\nmetrics_listen = \"127.0.0.1:2\"\n[upstreams.a]\nurl = \"http://h\"";
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        for (arguments, address) in [
            (&[][..], "127.0.0.1:8080"),
            (&["--listen", "127.0.0.1:3"], "127.0.0.1:3"),
            (&["--listen", "127.0.0.1:3", "--metrics-listen", "127.0.0.1:4"], "127.0.0.1:4"),
            (&["--config", path], "127.0.0.1:2"),
            (&["--config", path, "--listen", "127.0.0.1:3"], "127.0.0.1:2"),
            (&["--config", path, "--metrics-listen", "127.0.0.1:4"], "127.0.0.1:4"),
        ] {
            let args = Args::try_parse_from([&["llm-gateway", "--check-health"], arguments].concat()).unwrap();
            assert_eq!(args.health_address().unwrap().to_string(), address, "{arguments:?}");
        }
    }
}
