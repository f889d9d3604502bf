//! Extreme conditions over real sockets, with both versions of HTTP: clients that disconnect at any byte, services that panic, fail or never answer,
//! bodies of every kind, and scrapes that do not wait for requests.

mod bodies;
mod endings;
mod every_byte;
mod passage;
mod scrapes;
mod services;

use llm_metrics_tests::{Page, Step, stream::*};

/// A complete stream of two tokens.
fn short() -> Vec<String> {
    vec![token("Hi"), token("!"), finish("stop"), usage(9, 2), DONE.to_owned()]
}

/// The same as steps of a script, and one more step.
fn short_and(step: Step) -> Vec<Step> {
    short().into_iter().map(Step::from).chain([step]).collect()
}

/// The number of requests that ended with this outcome.
fn ended(page: &Page, outcome: &str) -> f64 {
    page.value("llm_requests_total", &[("outcome", outcome)])
}
