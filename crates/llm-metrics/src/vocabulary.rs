//! The closed sets of words that the wire, the catalogue and the embedder share.
//!
//! Every label value that is not a model name or an embedder's own comes from here, which is what bounds the number of
//! series: no string that a client sent can become one of these.

/// Declares a closed set of label values: the enum, its spelling on `/metrics`, and the list of all of them.
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
            /// How each value is written on `/metrics`, in the order of [`Self::ALL`].
            $vis const WORDS: &'static [&'static str] = &[$($word,)+];

            /// How the value is written on `/metrics`.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// What kind of work a request asks for: the values of OpenTelemetry's [`gen_ai.operation.name`][otel] that a
    /// serving layer can meet.
    ///
    /// [otel]: https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
    pub enum Operation {
        /// A conversation: chat completions and what is like them.
        Chat = "chat",
        /// A plain prompt that is continued.
        TextCompletion = "text_completion",
        /// Vectors for texts.
        Embeddings = "embeddings",
        /// Anything else that is started by hand.
        Other = "other",
    }
}

words! {
    /// The route templates that the layer knows. A raw path never becomes a label.
    pub enum Endpoint {
        /// OpenAI `POST /v1/chat/completions`.
        ChatCompletions = "/v1/chat/completions",
        /// OpenAI `POST /v1/completions`.
        Completions = "/v1/completions",
        /// Work that was started by hand, without HTTP.
        Other = "other",
    }
}

words! {
    /// How a request ended, in one word. Availability is `error / (success + error)`.
    pub enum Outcome {
        /// The answer was produced and delivered to its end.
        Success = "success",
        /// The caller's fault.
        Rejected = "rejected",
        /// Our fault, or the engine's.
        Error = "error",
        /// Nobody waited for the end.
        Cancelled = "cancelled",
    }
}

words! {
    /// Why a request was rejected or failed.
    pub enum ErrorType {
        /// The request was malformed, too large, or asked for something that is not on offer.
        InvalidRequest = "invalid_request",
        /// Credentials are missing, wrong, or do not allow this.
        Unauthorized = "unauthorized",
        /// No such model or route.
        NotFound = "not_found",
        /// The caller has sent too much.
        RateLimited = "rate_limited",
        /// The server has too much to do.
        Overloaded = "overloaded",
        /// Nobody finished it in time.
        Timeout = "timeout",
        /// The server behind us could not be reached.
        UpstreamUnavailable = "upstream_unavailable",
        /// The server behind us failed.
        UpstreamError = "upstream_error",
        /// An error was reported inside a stream that had begun with success.
        StreamError = "stream_error",
        /// A stream ended before it was complete.
        StreamTruncated = "stream_truncated",
        /// We failed.
        Internal = "internal",
    }
}

impl ErrorType {
    /// Whose fault it was: [`Outcome::Rejected`] for what the caller did, [`Outcome::Error`] for the rest.
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
        /// The model was done, or met a stop sequence.
        Stop = "stop",
        /// A limit on tokens was reached: the request's, or the context's.
        Length = "length",
        /// The model called a tool.
        ToolCalls = "tool_calls",
        /// A filter cut the answer.
        ContentFilter = "content_filter",
        /// The model refused.
        Refusal = "refusal",
        /// The engine stopped a loop.
        Repetition = "repetition",
        /// The turn is paused and may be continued.
        Pause = "pause",
        /// The engine gave the request up.
        Abort = "abort",
        /// The engine failed.
        Error = "error",
        /// A choice ended without saying why.
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
        /// There was no output, and the request did not say.
        Unknown = "unknown",
    }
}

words! {
    /// Where a request in flight is.
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
        Estimated = "estimated",
        Missing = "missing",
    }
}

words! {
    /// Why output was produced that nobody read to its end.
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
    /// What speaks about a request: the wire formats that are read, and the handle.
    pub(crate) enum Protocol {
        OpenAi = "openai",
        Handle = "handle",
    }
}

words! {
    /// What a reader could not make sense of.
    pub(crate) enum InspectionFailure {
        /// The bytes are no JSON, or no stream of events.
        Malformed = "malformed",
        /// A value was longer, or nested deeper, than anything that the protocol has.
        TooLarge = "too_large",
        /// A token count that no model could have produced.
        Implausible = "implausible",
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
    /// A figure of the recent window.
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

/// Token counts of one request, as OpenTelemetry has them: `cached_input` is a part of `input`, and `reasoning` is a part
/// of `output`. What is not known stays `None`: absent is not zero.
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
    /// Tokens that the model produced, reasoning included, over all choices.
    pub output: Option<u64>,
    /// Tokens that the model spent on reasoning.
    pub reasoning: Option<u64>,
}

impl Usage {
    /// Nothing known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { input: None, cached_input: None, output: None, reasoning: None }
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

    /// These counts, and `other`'s where they are missing here.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            input: self.input.or(other.input),
            cached_input: self.cached_input.or(other.cached_input),
            output: self.output.or(other.output),
            reasoning: self.reasoning.or(other.reasoning),
        }
    }
}
