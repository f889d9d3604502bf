//! What the targets share: ways to cut a body, a count of allocations, and plain readers to compare with.
//!
//! A target reads any bytes and holds the readers to four promises:
//!
//! - however the bytes are cut, the same is emitted;
//! - an event that is known from the one before it is emitted as if it had been read;
//! - where the bytes are valid JSON, what is emitted is what `serde_json` reads;
//! - reading allocates nothing, whatever the bytes.

pub mod allocations;
pub mod answers;
pub mod check;
pub mod cuts;
pub mod events;
pub mod json;
pub mod requests;
pub mod streams;
