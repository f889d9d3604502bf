//! In the place of [`schema`](super::schema) without the feature `json-schema`: the check cannot be switched on then.

use crate::vocabulary::StructuredResult;

pub(super) fn judge(_: &[u8], _: &[u8]) -> StructuredResult {
    StructuredResult::Unchecked
}
