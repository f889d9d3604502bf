//! What the readers must hold to, whatever the bytes.

mod generated;
mod hostile;
mod oracle;
mod requests;
mod samples;
mod support;
mod templates;
