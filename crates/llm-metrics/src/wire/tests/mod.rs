//! What the readers must hold to, whatever the bytes.

mod samples;
mod support;
