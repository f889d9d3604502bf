//! The worst of weather, over real sockets and both versions of HTTP: clients that leave at any byte, services that panic,
//! fail or never answer, bodies of every shape, and scrapes that wait for nobody.

mod bodies;
mod endings;
mod every_byte;
mod passage;
mod scrapes;
mod services;

use llm_metrics_tests::{Page, Step, stream::*};

/// A stream of two tokens that goes well.
fn short() -> Vec<String> {
    vec![token("Hi"), token("!"), finish("stop"), usage(9, 2), DONE.to_owned()]
}

/// The same as steps of a script, and one more.
fn short_and(step: Step) -> Vec<Step> {
    short().into_iter().map(Step::from).chain([step]).collect()
}

/// How many requests ended with this outcome.
fn ended(page: &Page, outcome: &str) -> f64 {
    page.value("llm_requests_total", &[("outcome", outcome)])
}
