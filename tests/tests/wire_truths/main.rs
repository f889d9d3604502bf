//! What the metrics say about what went over real sockets: each test is a case that a real system got wrong.

mod cardinality;
mod endings;
mod first_token;
mod framing;
mod passage;
mod settings;
mod sides;
mod tokens;

use llm_metrics_tests::{assert_ended, assert_error};
