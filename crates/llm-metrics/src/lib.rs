//! skeleton
#![forbid(unsafe_code)]
#[macro_use]
pub mod catalog;
mod vocabulary;
pub use vocabulary::*;
