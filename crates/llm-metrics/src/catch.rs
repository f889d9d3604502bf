//! Calls to the embedder's code: closures, and a recorder.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of `call`, or `None` if it panics. A request must not fail because the embedder's code panics, least of all inside a destructor, where
/// a second panic aborts the process.
///
/// With `panic = "abort"`, no panic can be caught.
pub(crate) fn catch_panic<T>(call: impl FnOnce() -> T) -> Option<T> {
    // `call` changes no state of this crate. The embedder is responsible for state that it leaves half changed, as after any panic.
    catch_unwind(AssertUnwindSafe(call)).ok()
}
