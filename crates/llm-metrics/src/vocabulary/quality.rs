//! Label values of the metrics of output quality.

words! {
    /// The structured format that a request asked for.
    pub(crate) enum StructuredFormat {
        JsonObject = "json_object",
        JsonSchema = "json_schema",
        Grammar = "grammar",
    }
}

words! {
    /// The result of checking a structured output.
    pub(crate) enum StructuredResult {
        /// JSON, and nothing else.
        Valid = "valid",
        InvalidJson = "invalid_json",
        /// JSON that does not match the schema of its request. Only if schemas are checked (feature `json-schema`).
        SchemaMismatch = "schema_mismatch",
        /// The beginning of JSON: the answer was cut.
        Truncated = "truncated",
        /// JSON inside a Markdown fence.
        Fenced = "fenced",
        /// Not checked: a grammar, too deeply nested, or, if schemas are checked, too large or without a usable schema.
        Unchecked = "unchecked",
    }
}

words! {
    /// The result of checking a tool call.
    pub(crate) enum ToolCallResult {
        Valid = "valid",
        /// The arguments are not a JSON object.
        InvalidJson = "invalid_json",
        /// The request offered no tool of this name.
        UnknownTool = "unknown_tool",
        /// The arguments are incomplete.
        Incomplete = "incomplete",
    }
}

words! {
    /// Why an output was cut.
    pub(crate) enum TruncationCause {
        MaxTokens = "max_tokens",
        ContextWindow = "context_window",
        StreamCut = "stream_cut",
        ClientDisconnect = "client_disconnect",
    }
}

words! {
    /// How it is known that a prompt was cut.
    pub(crate) enum InputTruncation {
        /// The engine reported it.
        Reported = "reported",
        /// The engine counts far fewer tokens than the text can have, or as many as it leaves of a prompt that is too long.
        Suspected = "suspected",
    }
}

words! {
    /// How an answer is empty.
    pub(crate) enum EmptyKind {
        NoChoices = "no_choices",
        NoContent = "no_content",
        Whitespace = "whitespace",
        ReasoningOnly = "reasoning_only",
    }
}

words! {
    /// What an output repeats.
    pub(crate) enum RepetitionKind {
        /// One character, or white space.
        CharRun = "char_run",
        /// A word or a phrase: 64 bytes at most, within a line.
        TokenRun = "token_run",
        /// A line, a sentence, a block of lines.
        Cycle = "cycle",
    }
}

words! {
    /// How a refusal was detected.
    pub(crate) enum RefusalKind {
        RefusalField = "refusal_field",
        ContentFilter = "content_filter",
    }
}

words! {
    /// Text that should not be in an output.
    pub(crate) enum AnomalyKind {
        /// U+FFFD: bytes that are not valid text.
        ReplacementChar = "replacement_char",
        /// A token of the chat template.
        SpecialTokenLeak = "special_token_leak",
        /// Reasoning that was opened and never closed.
        UnclosedReasoning = "unclosed_reasoning",
    }
}
