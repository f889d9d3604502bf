//! What a span gets at its end.

use super::{Role, verdict::Verdict};
use crate::vocabulary::Usage;

/// The attributes that are known when a request has ended.
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "only a real span reads them"))]
pub(super) struct EndedSpan<'a> {
    /// The value of the label `model`.
    pub(super) label: &'a str,
    /// The model's name in the request.
    pub(super) requested: Option<&'a str>,
    pub(super) role: Role,
    pub(super) stream: bool,
    pub(super) max_tokens: Option<u64>,
    pub(super) usage: Usage,
    pub(super) verdict: Verdict,
}
