//! Calls to what the embedder hands in: closures, and a recorder.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `call` returns, or `None` if it panics: a request must not fail because of what its metrics ask the embedder, least of all
/// inside a destructor, where a second panic ends the process.
///
/// With `panic = "abort"` there is nothing to catch.
pub(crate) fn catch_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    // Nothing of ours is changed in `call`. What it leaves half done is the embedder's own, as with any panic of theirs.
    catch_unwind(AssertUnwindSafe(call)).ok()
}
