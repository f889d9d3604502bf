//! Properties of the readers that hold for any bytes.

mod any_protocol;
mod generated;
mod hostile;
mod odd_protocols;
mod odd_traffic;
mod oracle;
mod oracle_protocols;
mod protocols;
mod recordings;
mod requests;
mod samples;
mod support;
mod templates;
