//! Replaces [the span](https://docs.rs/tracing) of a request without the feature `tracing`.

use std::time::Duration;

use http::Uri;

use super::{EndedSpan, Role};
use crate::{
    record::QualityFinding,
    vocabulary::{FinishReason, Operation},
};

#[derive(Default)]
pub(crate) struct RequestSpan;

/// The guard of the span, which does nothing.
pub(crate) struct Outside;

impl RequestSpan {
    #[inline]
    pub(crate) fn open(_: Operation, _: Role) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn enter(&self) -> Outside {
        Outside
    }

    #[inline]
    pub(crate) fn server(&self, _: &Uri) {}

    #[inline]
    pub(super) fn answering_model(&self, _: &str) {}

    #[inline]
    pub(super) fn finding(&self, _: &QualityFinding<'_>) {}

    #[inline]
    pub(super) fn first_chunk(&self, _: Duration) {}

    #[inline]
    pub(super) fn name(&self, _: Operation, _: &str) {}

    #[inline]
    pub(super) fn end(self, _: Operation, _: &EndedSpan<'_>, _: impl Iterator<Item = FinishReason>) {}
}
