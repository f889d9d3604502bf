//! The client program of a request, from its user agent.

use llm_metrics::LabelPolicy;

use crate::program::config::ClientPattern;

/// Widespread programs, by the beginning of their user agents, in lower case.
const KNOWN: [(&str, &str); 24] = [
    ("openai-python", "openai/python"),
    ("openai-python", "asyncopenai/python"),
    ("openai-node", "openai/js"),
    ("anthropic-python", "anthropic/python"),
    ("anthropic-python", "asyncanthropic/python"),
    ("anthropic-typescript", "anthropic/js"),
    ("claude-code", "claude-cli/"),
    ("ollama-python", "ollama-python/"),
    ("ollama-js", "ollama-js/"),
    ("ollama-cli", "ollama/"),
    ("vercel-ai-sdk", "ai/"),
    ("vercel-ai-sdk", "ai-sdk/"),
    ("litellm", "litellm/"),
    ("codex", "codex_cli_rs/"),
    ("opencode", "opencode/"),
    ("curl", "curl/"),
    ("httpx", "python-httpx/"),
    ("requests", "python-requests/"),
    ("aiohttp", "python/"),
    ("go", "go-http-client/"),
    ("node", "node"),
    ("k6", "k6/"),
    ("okhttp", "okhttp/"),
    ("browser", "mozilla/"),
];

/// Names of programs: those of the operator, and the known ones.
#[derive(Clone, Debug)]
pub(crate) struct Clients(Vec<ClientPattern>);

impl Clients {
    pub(crate) fn new(own: Vec<ClientPattern>) -> Self {
        Self(own)
    }

    /// The possible values of the label; everything else counts under `other`.
    pub(crate) fn policy(&self) -> LabelPolicy {
        let own = self.0.iter().map(|client| client.name.clone());
        LabelPolicy::only(own.chain(KNOWN.iter().map(|(name, _)| (*name).to_owned())))
    }

    /// The name for a user agent. The operator's names take precedence.
    pub(crate) fn name(&self, user_agent: &str) -> &str {
        let begins = |prefix: &str| {
            user_agent.get(..prefix.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix))
        };
        let own = self.0.iter().find(|client| begins(&client.prefix)).map(|client| client.name.as_str());
        let known = || KNOWN.iter().find(|(_, prefix)| begins(prefix)).map(|(name, _)| *name);
        own.or_else(known).unwrap_or("other")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_identified_by_the_beginning_of_its_user_agent() {
        let clients = Clients::new(vec![ClientPattern { name: "shop".into(), prefix: "openai/python shop".into() }]);
        for (agent, name) in [
            ("OpenAI/Python 1.99.1", "openai-python"),
            ("AsyncOpenAI/Python 1.99.1", "openai-python"),
            ("Anthropic/JS 0.60.0", "anthropic-typescript"),
            ("claude-cli/2.0.1 (external, cli)", "claude-code"),
            ("ollama-python/0.6.3 (x86_64 linux) Python/3.11", "ollama-python"),
            ("curl/8.5.0", "curl"),
            ("OpenAI/Python shop", "shop"),
            ("something else", "other"),
            ("", "other"),
            ("größer", "other"),
        ] {
            assert_eq!(clients.name(agent), name, "{agent}");
        }
    }
}
