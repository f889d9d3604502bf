//! The closed sets of label values.
//!
//! Every label value that is not a model name or a custom label of the embedder comes from here, which bounds the number of
//! series: no string from a client can become one of these.

/// The longest name that can become a label value, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// The highest count of tokens or requests that is accepted. No model produces more tokens in one request. A higher count is rejected, because it
/// would make a counter wrap.
pub(crate) const MAX_PLAUSIBLE_TOKENS: u64 = 1 << 30;

/// Declares a closed set of words: the enum, the word of each value, and the list of all of them. The words of label values are those on `/metrics`.
macro_rules! words {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        $vis enum $name { $($(#[$variant_meta])* $variant,)+ }

        #[allow(dead_code, reason = "each set is used in its own way")]
        impl $name {
            /// Every value, in the order of declaration.
            $vis const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The word of each value, in the order of [`Self::ALL`].
            $vis const WORDS: &'static [&'static str] = &[$($word,)+];

            /// The word of the value, as it is on `/metrics`.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        /// Formats the value as its [word](Self::as_str).
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        /// Parses a [word](Self::as_str).
        impl std::str::FromStr for $name {
            type Err = $crate::vocabulary::InvalidWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.iter().find(|value| value.as_str() == word);
                known.copied().ok_or_else(|| $crate::vocabulary::InvalidWord { word: word.to_owned(), words: Self::WORDS })
            }
        }
    };
}

/// A text that is not one of the values of [`Operation`], [`Endpoint`], [`Outcome`], [`ErrorType`], [`FinishReason`], [`Thinking`],
/// [`Kind`](crate::catalog::Kind) or [`Unit`](crate::catalog::Unit).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of the values {}", .words.join(", "))]
pub struct InvalidWord {
    pub(crate) word: String,
    pub(crate) words: &'static [&'static str],
}

pub(crate) use words;

mod error_words;
mod quality;

pub(crate) use error_words::ERROR_WORDS;

pub(crate) use quality::{
    AnomalyKind, EmptyKind, InputTruncation, RefusalKind, RepetitionKind, StructuredFormat, StructuredResult,
    ToolCallResult, TruncationCause,
};

words! {
    /// The kind of work that a request asks for: those values of OpenTelemetry's [`gen_ai.operation.name`][otel] that occur at a server or proxy, and
    /// two that OpenTelemetry does not have.
    ///
    /// [otel]: https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
    pub enum Operation {
        /// A conversation: chat completions and similar APIs.
        Chat = "chat",
        /// The completion of a plain prompt.
        TextCompletion = "text_completion",
        /// Embedding vectors for texts.
        Embeddings = "embeddings",
        /// Ranking of texts by relevance to a query. Not a value of OpenTelemetry.
        Rerank = "rerank",
        /// Any other work, started through the API of this crate. Not a value of OpenTelemetry.
        Other = "other",
    }
}

impl Operation {
    /// Whether the operation generates text. An embedding has no output tokens and no finish reason.
    pub(crate) const fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Rerank)
    }
}

words! {
    /// The route templates that the layer knows. A raw path never becomes a label.
    pub enum Endpoint {
        /// OpenAI `POST /v1/chat/completions`.
        ChatCompletions = "/v1/chat/completions",
        /// OpenAI `POST /v1/completions`.
        Completions = "/v1/completions",
        /// OpenAI `POST /v1/responses`.
        Responses = "/v1/responses",
        /// Anthropic `POST /v1/messages`.
        Messages = "/v1/messages",
        /// OpenAI `POST /v1/embeddings`.
        Embeddings = "/v1/embeddings",
        /// `POST /v1/rerank` of Cohere, Jina and vLLM.
        Rerank = "/v1/rerank",
        /// llama.cpp's `POST /completion` (also at `/completions`) and `/infill`.
        LlamaCppCompletion = "/completion",
        /// Ollama `POST /api/chat`.
        OllamaChat = "/api/chat",
        /// Ollama `POST /api/generate`.
        OllamaGenerate = "/api/generate",
        /// Ollama `POST /api/embed`, and its predecessor `/api/embeddings`.
        OllamaEmbed = "/api/embed",
        /// Work without HTTP, started through the API of this crate.
        Other = "other",
    }
}

words! {
    /// How a request ended. The error ratio is `error / (success + error)`, and availability is
    /// one minus that.
    pub enum Outcome {
        /// The response was generated and delivered completely.
        Success = "success",
        /// The request was rejected because of its content, or because the caller is not allowed to make it.
        Rejected = "rejected",
        /// The server, an upstream server or the engine failed.
        Error = "error",
        /// The client disconnected before the response was complete.
        Cancelled = "cancelled",
    }
}

words! {
    /// Why a request was rejected or failed.
    pub enum ErrorType {
        /// The request was malformed, too large, or asked for something that is not supported.
        InvalidRequest = "invalid_request",
        /// Credentials are missing, wrong, or do not allow this.
        Unauthorized = "unauthorized",
        /// No such model or route.
        NotFound = "not_found",
        /// The caller exceeded a rate limit or quota.
        RateLimited = "rate_limited",
        /// The server is overloaded.
        Overloaded = "overloaded",
        /// The request timed out.
        Timeout = "timeout",
        /// The upstream server could not be reached.
        UpstreamUnavailable = "upstream_unavailable",
        /// The upstream server failed.
        UpstreamError = "upstream_error",
        /// An error was reported inside a stream with a successful status.
        StreamError = "stream_error",
        /// A stream ended before it was complete.
        StreamTruncated = "stream_truncated",
        /// The server failed.
        Internal = "internal",
    }
}

impl ErrorType {
    /// The outcome for this type: [`Outcome::Rejected`] for errors of the caller, [`Outcome::Error`] for all others.
    ///
    /// At a [proxy](crate::layer::LlmMetricsLayer::proxy), a response of the upstream about credentials (401, 407, or 402 for an account without
    /// credit) is about the proxy's own credentials. Such a request counts as an error.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::InvalidRequest | Self::Unauthorized | Self::NotFound | Self::RateLimited => Outcome::Rejected,
            _ => Outcome::Error,
        }
    }
}

words! {
    /// Why the model stopped.
    pub enum FinishReason {
        /// The model finished, or reached a stop sequence.
        Stop = "stop",
        /// A token limit was reached: that of the request, or of the context.
        Length = "length",
        /// The model called a tool.
        ToolCalls = "tool_calls",
        /// A content filter stopped the output.
        ContentFilter = "content_filter",
        /// The model refused.
        Refusal = "refusal",
        /// The engine stopped a loop.
        Repetition = "repetition",
        /// The turn is paused and may be continued.
        Pause = "pause",
        /// The engine aborted the request.
        Abort = "abort",
        /// The engine failed.
        Error = "error",
        /// A choice ended without a reason.
        Missing = "missing",
        /// A reason that is not in this list.
        Other = "other",
    }
}

words! {
    /// Whether the model reasoned before it answered.
    pub enum Thinking {
        /// Reasoning text or reasoning tokens were seen.
        True = "true",
        /// There was output, and no reasoning in it.
        False = "false",
        /// There was no output, and the request does not say which mode it wants.
        Unknown = "unknown",
    }
}

words! {
    /// The phase of a request in flight.
    pub(crate) enum Phase {
        Waiting = "waiting",
        Streaming = "streaming",
    }
}

words! {
    /// Where the output token count of a request comes from.
    pub(crate) enum UsageSource {
        Upstream = "upstream",
        Engine = "engine",
        Timings = "timings",
        Estimated = "estimated",
        Missing = "missing",
    }
}

words! {
    /// Why output was discarded before a client had read all of it.
    pub(crate) enum DiscardReason {
        ClientDisconnect = "client_disconnect",
        StreamError = "stream_error",
        StreamTruncated = "stream_truncated",
        Timeout = "timeout",
    }
}

words! {
    /// Why a body was not inspected.
    pub(crate) enum SkipReason {
        Compressed = "compressed",
        ContentType = "content_type",
        TooLarge = "too_large",
    }
}

words! {
    /// Why a request that was not measured looks like one that should have been.
    pub(crate) enum PassReason {
        /// Its path ends like those of LLM APIs.
        UnknownPath = "unknown_path",
        /// It was answered with a stream of events.
        EventStream = "event_stream",
    }
}

words! {
    /// The source of information about a request: a wire format, or the handle.
    pub(crate) enum Protocol {
        OpenAi = "openai",
        Responses = "responses",
        Anthropic = "anthropic",
        Ollama = "ollama",
        LlamaCpp = "llama_cpp",
        Rerank = "rerank",
        Handle = "handle",
    }
}

words! {
    /// Why a body or a value could not be used.
    pub(crate) enum InspectionFailure {
        /// The bytes are not valid JSON, or not a valid event stream.
        Malformed = "malformed",
        /// A value is longer, or nested deeper, than the protocol allows.
        TooLarge = "too_large",
        /// A token count or a time that is too high to be true.
        Implausible = "implausible",
        /// A successful response without a choice.
        NoChoices = "no_choices",
    }
}

words! {
    /// Whether a request reached an objective.
    pub(crate) enum SloResult {
        Met = "met",
        Missed = "missed",
    }
}

words! {
    /// A statistic of the recent window.
    pub(crate) enum Stat {
        P50 = "p50",
        P95 = "p95",
        P99 = "p99",
        Max = "max",
    }
}

words! {
    /// `true` or `false`, as a label.
    pub(crate) enum Flag {
        False = "false",
        True = "true",
    }
}

impl From<bool> for Flag {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Token counts of one request, as OpenTelemetry defines them: `cached_input` is a part of `input`, and `reasoning` is a part of `output`. Unknown
/// counts stay `None`: absent is not zero.
///
/// ```
/// let usage = llm_metrics::Usage::new().input(900).cached_input(512).output(40);
/// assert_eq!(usage.reasoning, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: Option<u64>,
    /// Tokens of the prompt that came from a cache.
    pub cached_input: Option<u64>,
    /// Tokens of the prompt that were written to a cache.
    pub cache_write: Option<u64>,
    /// Tokens that the model produced, reasoning included, over all choices.
    pub output: Option<u64>,
    /// Tokens that the model spent on reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// No counts are known.
    #[must_use]
    pub const fn new() -> Self {
        Self { input: None, cached_input: None, cache_write: None, output: None, reasoning: None }
    }

    /// Sets the tokens of the prompt, cached ones included.
    #[must_use]
    pub const fn input(mut self, tokens: u64) -> Self {
        self.input = Some(tokens);
        self
    }

    /// Sets the tokens of the prompt that came from a cache.
    #[must_use]
    pub const fn cached_input(mut self, tokens: u64) -> Self {
        self.cached_input = Some(tokens);
        self
    }

    /// Sets the tokens of the prompt that were written to a cache.
    #[must_use]
    pub const fn cache_write(mut self, tokens: u64) -> Self {
        self.cache_write = Some(tokens);
        self
    }

    /// Sets the tokens that the model produced, reasoning included.
    #[must_use]
    pub const fn output(mut self, tokens: u64) -> Self {
        self.output = Some(tokens);
        self
    }

    /// Sets the tokens that the model spent on reasoning.
    #[must_use]
    pub const fn reasoning(mut self, tokens: u64) -> Self {
        self.reasoning = Some(tokens);
        self
    }

    /// Takes each count that is missing here from `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            input: self.input.or(other.input),
            cached_input: self.cached_input.or(other.cached_input),
            cache_write: self.cache_write.or(other.cache_write),
            output: self.output.or(other.output),
            reasoning: self.reasoning.or(other.reasoning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_parsed_as_it_is_formatted_and_no_other_is() {
        for operation in Operation::ALL {
            assert_eq!(operation.to_string().parse(), Ok(*operation));
        }
        for endpoint in Endpoint::ALL {
            assert_eq!(endpoint.to_string().parse(), Ok(*endpoint));
        }
        assert_eq!(format!("{:>9}|", Outcome::Error), "    error|");
        let error = "Chat".parse::<Operation>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"Chat\" is not one of the values chat, text_completion, embeddings, rerank, other"
        );
    }
}
