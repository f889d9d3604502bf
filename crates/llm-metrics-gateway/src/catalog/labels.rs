//! The labels of the catalogue, each with its values. A name has several constants where its values depend on the metric.

llm_metrics::labels! {
    /// The name of the upstream in the configuration.
    UPSTREAM = "upstream";
    /// The first 256 models that this Ollama has loaded since the gateway started.
    MODEL = "model";
    /// `answered`: a response head arrived. `refused`: no connection. `reset`: the connection ended before the head. `timeout`: no head within the time limit. `cancelled`: the client disconnected before the head.
    ATTEMPT_RESULT = "result": &["answered", "refused", "reset", "timeout", "cancelled"];
    /// `quota` if the remaining quota is 0, or if the error's code or type is about a quota or a rate limit. `overload` if it is about overload or capacity. Otherwise `unknown`. The error message is not read.
    THROTTLED_KIND = "kind": &["quota", "overload", "unknown"];
    /// The unit of the quota. If there are several token limits, the one with the smallest remaining share.
    QUOTA_KIND = "kind": &["requests", "tokens"];
    /// All memory of the model, and the part on GPUs.
    MEMORY_KIND = "kind": &["total", "gpu"];
}
