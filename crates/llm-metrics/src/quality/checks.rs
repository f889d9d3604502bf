//! Settings of the checks.

/// The checks of model output. All are on by default, except for that of JSON schemas, which needs the feature `json-schema`.
///
/// ```
/// use llm_metrics::{LlmMetrics, QualityChecks};
///
/// let metrics = LlmMetrics::builder().quality(QualityChecks::all().repetition(false)).build()?;
/// # Ok::<(), llm_metrics::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "pass it to `Builder::quality`"]
pub struct QualityChecks {
    pub(crate) structured_output: bool,
    pub(crate) tool_calls: bool,
    pub(crate) truncation: bool,
    pub(crate) empty: bool,
    pub(crate) repetition: bool,
    pub(crate) refusals: bool,
    pub(crate) anomalies: bool,
    pub(crate) json_schema: bool,
}

impl Default for QualityChecks {
    fn default() -> Self {
        Self::all()
    }
}

impl QualityChecks {
    /// Every check that keeps no text: all but that of JSON schemas.
    pub const fn all() -> Self {
        Self::each(true)
    }

    /// No checks: nothing is inspected, and there are no series of output quality.
    pub const fn none() -> Self {
        Self::each(false)
    }

    const fn each(on: bool) -> Self {
        Self {
            structured_output: on,
            tool_calls: on,
            truncation: on,
            empty: on,
            repetition: on,
            refusals: on,
            anomalies: on,
            json_schema: false,
        }
    }

    /// Whether structured output is valid JSON: `llm_structured_outputs_total`.
    pub const fn structured_output(mut self, on: bool) -> Self {
        self.structured_output = on;
        self
    }

    /// Whether tool calls have a known name, and arguments that are valid JSON: `llm_tool_calls_total`.
    pub const fn tool_calls(mut self, on: bool) -> Self {
        self.tool_calls = on;
        self
    }

    /// The causes of cut outputs and prompts: `llm_output_truncated_total`, `llm_input_truncated_total`.
    pub const fn truncation(mut self, on: bool) -> Self {
        self.truncation = on;
        self
    }

    /// Whether an answer is empty: `llm_output_empty_total`.
    pub const fn empty(mut self, on: bool) -> Self {
        self.empty = on;
        self
    }

    /// Whether outputs repeat themselves in a loop: `llm_output_repetition_total`. The most expensive check.
    pub const fn repetition(mut self, on: bool) -> Self {
        self.repetition = on;
        self
    }

    /// Whether the model, or a filter, refused: `llm_refusals_total`.
    pub const fn refusals(mut self, on: bool) -> Self {
        self.refusals = on;
        self
    }

    /// Whether outputs contain text that should not be there: `llm_output_anomalies_total`.
    pub const fn anomalies(mut self, on: bool) -> Self {
        self.anomalies = on;
        self
    }

    /// Whether outputs match the JSON schema of their request: `llm_structured_outputs_total` with `result="schema_mismatch"`. Off by default, and
    /// without effect if [`structured_output`](Self::structured_output) is off.
    ///
    /// Unlike the other checks, this one buffers text: the schema of a request (at most 32 KiB) and each of its answers (at most 64 KiB each, at most
    /// four choices). When the answer ends, it compiles the schema and validates, in the task that ends the answer. This takes up to about a tenth of
    /// a second for the largest schemas and answers.
    ///
    /// The result is `unchecked` for what is larger, for a schema that is estimated to take longer or does not compile, and for one with
    /// references to elsewhere (another document, an anchor): nothing is ever fetched. `format` is asserted in drafts up to 7, and an
    /// annotation in later ones, as those specifications have it.
    ///
    /// ```
    /// use llm_metrics::{LlmMetrics, QualityChecks};
    ///
    /// let metrics = LlmMetrics::builder().quality(QualityChecks::all().json_schema(true)).build()?;
    /// # Ok::<(), llm_metrics::BuildError>(())
    /// ```
    #[cfg(feature = "json-schema")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json-schema")))]
    pub const fn json_schema(mut self, on: bool) -> Self {
        self.json_schema = on;
        self
    }

    /// Whether at least one check is on.
    pub(crate) fn any(self) -> bool {
        Self { json_schema: false, ..self } != Self::none()
    }
}
