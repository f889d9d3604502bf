//! What can be said about the quality of an output.

words! {
    /// The form that a request asked for.
    pub(crate) enum StructuredFormat {
        JsonObject = "json_object",
        JsonSchema = "json_schema",
        Grammar = "grammar",
    }
}

words! {
    /// What became of an output that was to have a form.
    pub(crate) enum StructuredResult {
        /// JSON, and nothing else.
        Valid = "valid",
        InvalidJson = "invalid_json",
        /// JSON that does not follow the schema of its request. Only where schemas are checked (feature `json-schema`).
        SchemaMismatch = "schema_mismatch",
        /// The beginning of JSON, of an answer that was cut.
        Truncated = "truncated",
        /// JSON inside a Markdown fence.
        Fenced = "fenced",
        /// Not checked: a grammar, too deeply nested, or, where schemas are checked, too large or without a usable schema.
        Unchecked = "unchecked",
    }
}

words! {
    /// What became of a call to a tool.
    pub(crate) enum ToolCallResult {
        Valid = "valid",
        /// The arguments are no JSON object.
        InvalidJson = "invalid_json",
        /// The request offered no tool of this name.
        UnknownTool = "unknown_tool",
        /// The arguments end before their time.
        Incomplete = "incomplete",
    }
}

words! {
    /// What cut an output.
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
        /// The engine said so.
        Reported = "reported",
        /// The engine counts far fewer tokens than the text can have, or as many as it leaves of a prompt that is too long.
        Suspected = "suspected",
    }
}

words! {
    /// What an answer that is no answer has instead.
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
    /// How a refusal showed.
    pub(crate) enum RefusalKind {
        RefusalField = "refusal_field",
        ContentFilter = "content_filter",
    }
}

words! {
    /// What should not stand in an output.
    pub(crate) enum AnomalyKind {
        /// U+FFFD: bytes that were no text.
        ReplacementChar = "replacement_char",
        /// A token of the chat template.
        SpecialTokenLeak = "special_token_leak",
        /// Reasoning that was opened and never closed.
        UnclosedReasoning = "unclosed_reasoning",
    }
}
