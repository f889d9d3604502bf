//! Code that the targets share: ways to cut a body, an allocation counter, and simple readers to compare with.
//!
//! A target reads any bytes and checks that the readers keep four promises:
//!
//! - they emit the same, however the bytes are cut;
//! - they emit the same for an event that is recognised by the one before it as if they had read it;
//! - they emit what `serde_json` reads, if the bytes are valid JSON;
//! - they allocate nothing, for any bytes.

pub mod allocations;
pub mod answers;
pub mod check;
pub mod cuts;
pub mod events;
pub mod json;
pub mod requests;
pub mod streams;
