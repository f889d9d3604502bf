//! The known requests: one row per endpoint of each protocol.

use super::facts::Fact;
use super::framing::Framing;
use super::json::Shape;
use super::protocol::{anthropic, embeddings, llama_cpp, ollama, openai, responses};
use super::request::{LeftOfPrompt, RequestField, RequestScan};
use crate::quality::Prompt;
use crate::vocabulary::{Endpoint, Operation, Protocol};

/// An endpoint that the layer knows.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    pub(crate) operation: Operation,
    pub(crate) protocol: Protocol,
    /// The framing of a streamed answer.
    pub(super) stream: Framing,
    /// Whether an answer is streamed if the request does not say.
    pub(crate) streams_by_default: bool,
    /// Opt-in, because other services have such paths, too.
    pub(crate) opt_in: bool,
    /// Whether its series exist at 0 before its first request. Most services have the endpoints of one protocol, so the series of the others would be
    /// useless.
    pub(crate) starts_at_zero: bool,
    /// How much its servers keep of a prompt that is too long, if they cut it without reporting it.
    pub(super) cuts_prompts: Option<LeftOfPrompt>,
    paths: &'static [Path],
    pub(super) request: &'static Shape<RequestField>,
    pub(super) event: &'static Shape<Fact>,
    pub(super) document: &'static Shape<Fact>,
}

/// The last segments of a path, the last one first, and what may precede them.
#[derive(Debug)]
enum Path {
    /// Anything.
    After(&'static [&'static str]),
    /// A version (`/v1`, `/api/v4`, `/v1beta/openai`), or a deployment (`/openai/deployments/gpt`).
    Versioned(&'static [&'static str]),
    /// Nothing.
    Whole(&'static [&'static str]),
}

pub(crate) static ROUTES: &[Route] = &[
    Route {
        endpoint: Endpoint::ChatCompletions,
        operation: Operation::Chat,
        protocol: Protocol::OpenAi,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: true,
        cuts_prompts: None,
        paths: &[Path::After(&["completions", "chat"])],
        request: &openai::REQUEST,
        event: &openai::CHAT_CHUNK,
        document: &openai::CHAT,
    },
    Route {
        endpoint: Endpoint::Completions,
        operation: Operation::TextCompletion,
        protocol: Protocol::OpenAi,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: true,
        cuts_prompts: None,
        paths: &[Path::Versioned(&["completions"])],
        request: &openai::REQUEST,
        event: &openai::COMPLETION,
        document: &openai::COMPLETION,
    },
    Route {
        endpoint: Endpoint::Responses,
        operation: Operation::Chat,
        protocol: Protocol::Responses,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: false,
        cuts_prompts: None,
        paths: &[Path::Versioned(&["responses"])],
        request: &responses::REQUEST,
        event: &responses::EVENT,
        document: &responses::RESPONSE,
    },
    Route {
        endpoint: Endpoint::Messages,
        operation: Operation::Chat,
        protocol: Protocol::Anthropic,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: false,
        cuts_prompts: None,
        paths: &[Path::Versioned(&["messages"])],
        request: &anthropic::REQUEST,
        event: &anthropic::EVENT,
        document: &anthropic::MESSAGE,
    },
    Route {
        endpoint: Endpoint::Embeddings,
        operation: Operation::Embeddings,
        protocol: Protocol::OpenAi,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: false,
        cuts_prompts: None,
        // Azure's inference API has the latter.
        paths: &[Path::Versioned(&["embeddings"]), Path::Whole(&["embeddings", "models"])],
        request: &embeddings::REQUEST,
        event: &embeddings::ANSWER,
        document: &embeddings::ANSWER,
    },
    Route {
        endpoint: Endpoint::Rerank,
        operation: Operation::Rerank,
        protocol: Protocol::Rerank,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: false,
        cuts_prompts: None,
        paths: &[Path::Versioned(&["rerank"]), Path::Whole(&["rerank"])],
        request: &embeddings::RERANK_REQUEST,
        event: &embeddings::ANSWER,
        document: &embeddings::ANSWER,
    },
    Route {
        endpoint: Endpoint::LlamaCppCompletion,
        operation: Operation::TextCompletion,
        protocol: Protocol::LlamaCpp,
        stream: Framing::Events,
        streams_by_default: false,
        opt_in: false,
        starts_at_zero: false,
        cuts_prompts: None,
        paths: &[Path::Whole(&["completion"]), Path::Whole(&["completions"]), Path::Whole(&["infill"])],
        request: &llama_cpp::REQUEST,
        event: &llama_cpp::ANSWER,
        document: &llama_cpp::ANSWER,
    },
    Route {
        endpoint: Endpoint::OllamaChat,
        operation: Operation::Chat,
        protocol: Protocol::Ollama,
        stream: Framing::Lines,
        streams_by_default: true,
        opt_in: true,
        starts_at_zero: false,
        cuts_prompts: Some(ollama::left_of_prompt),
        paths: &[Path::Whole(&["chat", "api"])],
        request: &ollama::REQUEST,
        event: &ollama::ANSWER,
        document: &ollama::ANSWER,
    },
    Route {
        endpoint: Endpoint::OllamaGenerate,
        operation: Operation::TextCompletion,
        protocol: Protocol::Ollama,
        stream: Framing::Lines,
        streams_by_default: true,
        opt_in: true,
        starts_at_zero: false,
        cuts_prompts: Some(ollama::left_of_prompt),
        paths: &[Path::Whole(&["generate", "api"])],
        request: &ollama::REQUEST,
        event: &ollama::ANSWER,
        document: &ollama::ANSWER,
    },
    Route {
        endpoint: Endpoint::OllamaEmbed,
        operation: Operation::Embeddings,
        protocol: Protocol::Ollama,
        stream: Framing::Lines,
        streams_by_default: false,
        opt_in: true,
        starts_at_zero: false,
        cuts_prompts: None,
        paths: &[Path::Whole(&["embed", "api"]), Path::Whole(&["embeddings", "api"])],
        request: &ollama::EMBED_REQUEST,
        event: &ollama::EMBEDDED,
        document: &ollama::EMBEDDED,
    },
];

/// The endpoint of a request, if it is known. `opted`: include the opt-in endpoints.
#[inline]
pub(crate) fn route(method: &http::Method, path: &str, opted: bool) -> Option<&'static Route> {
    if *method != http::Method::POST {
        return None;
    }
    // The usual paths are recognized without splitting the path.
    if path.ends_with("/chat/completions") {
        return Route::of(Endpoint::ChatCompletions);
    }
    ROUTES.iter().find(|route| (opted || !route.opt_in) && route.has(path))
}

impl Route {
    /// The row of an endpoint.
    pub(crate) fn of(endpoint: Endpoint) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.endpoint == endpoint)
    }

    /// A reader for the request body; `encoded` if its head declares a compressed body.
    #[inline]
    pub(crate) fn request_scan(&self, encoded: bool) -> RequestScan {
        RequestScan::new(self.request, encoded)
    }

    /// The length of a request's prompt, if its server may cut it without reporting it.
    pub(crate) fn prompt(&self, scan: &RequestScan) -> Option<Prompt> {
        scan.prompt(self.cuts_prompts?)
    }

    fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|pattern| pattern.matches(path))
    }
}

impl Path {
    fn matches(&self, path: &str) -> bool {
        let (Self::After(tail) | Self::Versioned(tail) | Self::Whole(tail)) = self;
        let mut segments = segments(path);
        if !tail.iter().all(|expected| segments.next() == Some(expected)) {
            return false;
        }
        match self {
            Self::After(_) => true,
            Self::Whole(_) => segments.next().is_none(),
            Self::Versioned(_) => match (segments.next(), segments.next()) {
                (Some(version), _) if is_version(version) => true,
                // Gemini: /v1beta/openai/…; Azure: /openai/….
                (Some("openai"), before) => before.is_none_or(is_version),
                (Some(_), Some("deployments" | "engines")) => true,
                _ => false,
            },
        }
    }
}

/// The segments of a path, from its end. Empty segments are ignored.
pub(crate) fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit('/').filter(|segment| !segment.is_empty())
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Option<Endpoint> {
        route(&http::Method::POST, path, false).map(|route| route.endpoint)
    }

    #[test]
    fn a_path_is_known_behind_any_prefix_that_makes_it_one() {
        for (endpoint, paths) in [
            (
                Endpoint::ChatCompletions,
                &[
                    "/v1/chat/completions",
                    "/chat/completions",
                    "/v1/chat/completions/",
                    "//v1//chat/completions",
                    "/v1beta/openai/chat/completions",
                    "/api/paas/v4/chat/completions",
                    "/inference/v1/chat/completions",
                    "/inference/chat/completions",
                    "/openai/deployments/gpt/chat/completions",
                    "/models/chat/completions",
                ][..],
            ),
            (
                Endpoint::Completions,
                &[
                    "/v1/completions",
                    "/v1/completions/",
                    "/inference/v1/completions",
                    "/v1beta/openai/completions",
                    "/openai/deployments/gpt/completions",
                    "/v1/engines/gpt/completions",
                ],
            ),
            (Endpoint::Responses, &["/v1/responses", "/openai/v1/responses", "/openai/responses"]),
            (Endpoint::Messages, &["/v1/messages", "/anthropic/v1/messages"]),
            (Endpoint::Embeddings, &["/v1/embeddings", "/openai/deployments/e/embeddings", "/models/embeddings"]),
            (Endpoint::Rerank, &["/v1/rerank", "/v2/rerank", "/rerank"]),
            (Endpoint::LlamaCppCompletion, &["/completion", "/completions", "/infill", "/completions/"]),
        ] {
            for path in paths {
                assert_eq!(post(path), Some(endpoint), "{path}");
            }
        }
    }

    #[test]
    fn other_paths_are_not() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/models",
            "/v1/chat",
            "/v1/chat/completions/x",
            "/chat/completionsx",
            "/my/completions",
            "/v1/deployments/completions",
            "/version/completions",
            "/v/completions",
            "/v1/messages/count_tokens",
            "/v1/messages/batches",
            "/v1/messages/batches/msgbatch_1/cancel",
            "/v1/responses/compact",
            "/v1/responses/input_tokens",
            // A path is compared as sent: routers do not decode it either.
            "/v1/chat%2Fcompletions",
            "/v1/%72esponses",
            "/V1/Messages",
            "/v1/threads/thread_1/messages",
            "/messages",
            "/responses",
            "/v1/responses/resp_1/cancel",
            "/embeddings",
            "/my/models/embeddings",
            "/models/responses",
            "/api/chat",
            "/api/generate",
            "/api/embed",
            "/v1/audio/speech",
            "/v1/images/generations",
            "/v1/files",
            "/metrics",
        ] {
            assert_eq!(post(path), None, "{path}");
        }
        assert!(route(&http::Method::GET, "/v1/chat/completions", true).is_none());
        assert!(route(&http::Method::HEAD, "/v1/chat/completions", true).is_none());
        assert!(route(&http::Method::OPTIONS, "/v1/chat/completions", true).is_none());
    }

    #[test]
    fn ollamas_paths_are_opt_in() {
        let post = |path| route(&http::Method::POST, path, true).map(|route| route.endpoint);
        assert_eq!(post("/api/chat"), Some(Endpoint::OllamaChat));
        assert_eq!(post("/api/generate"), Some(Endpoint::OllamaGenerate));
        assert_eq!(post("/api/embed"), Some(Endpoint::OllamaEmbed));
        assert_eq!(post("/api/embeddings"), Some(Endpoint::OllamaEmbed));
        assert_eq!(post("/app/api/chat"), None);
        assert_eq!(post("/api/tags"), None);
    }

    /// The paths for the documentation.
    fn shown(path: &Path) -> String {
        let (Path::After(tail) | Path::Versioned(tail) | Path::Whole(tail)) = path;
        let tail = tail.iter().rev().copied().collect::<Vec<_>>().join("/");
        match path {
            Path::After(_) => format!("`…/{tail}` behind any prefix"),
            Path::Versioned(_) => {
                format!("`…/v1/{tail}` behind any version, `…/openai/{tail}`, `…/deployments/…/{tail}`")
            }
            Path::Whole(_) => format!("`/{tail}`"),
        }
    }

    #[test]
    fn the_table_in_the_documentation_of_the_layer_is_this_one() {
        let mut table = String::from(
            "| `POST` to | label `endpoint` | operation | protocol | streamed |\n| --- | --- | --- | --- | --- |\n",
        );
        for Route { endpoint, operation, protocol, streams_by_default, opt_in, paths, .. } in ROUTES {
            let paths = paths.iter().map(shown).collect::<Vec<_>>().join(", ");
            let paths = if *opt_in { format!("{paths}, with [`ollama`](Self::ollama)") } else { paths };
            let streams = match (operation.generates(), streams_by_default) {
                (false, _) => "never",
                (true, false) => "if the request asks for it",
                (true, true) => "unless the request turns it off",
            };
            let [endpoint, operation, protocol] = [endpoint.as_str(), operation.as_str(), protocol.as_str()];
            table.push_str(&format!("| {paths} | `{endpoint}` | `{operation}` | `{protocol}` | {streams} |\n"));
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/layer/paths.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(file, &table).unwrap();
        }
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(committed == table, "layer/paths.md is out of date: run this test with BLESS=1 in the environment");
    }

    #[test]
    fn each_endpoint_has_one_row() {
        for endpoint in Endpoint::ALL {
            let rows = ROUTES.iter().filter(|route| route.endpoint == *endpoint).count();
            assert_eq!(rows, usize::from(*endpoint != Endpoint::Other), "{endpoint:?}");
        }
    }
}
