//! Replaces [`schema`](super::schema) without the feature `json-schema`: then the check cannot be turned on.

use crate::vocabulary::StructuredResult;

pub(super) fn validate(_: &[u8], _: &[u8]) -> StructuredResult {
    StructuredResult::Unchecked
}
