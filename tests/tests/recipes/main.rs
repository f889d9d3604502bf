//! The code in `docs/` for servers, clients, engines, jobs, exporters, tenants and tests. The pages are generated from these files.

mod actix_web_server;
mod asked;
mod async_openai_client;
mod axum_server;
mod client_by_hand;
mod engine;
mod hyper_client;
mod hyper_server;
mod one_page;
mod otlp;
mod own_catalogue;
mod page;
mod poem_server;
mod prometheus_builder;
mod pushgateway;
mod reqwest_client;
mod reqwest_middleware_client;
mod server;
mod service_under_test;
mod tenants;
mod textfile;

use llm_metrics::{FinishReason, LlmMetrics, Operation};
use llm_metrics_tests::Page;

/// Records a request with one token without HTTP.
fn answer(metrics: &LlmMetrics, model: &str) {
    let mut inference = metrics.start(Operation::Chat, model);
    inference.tokens(1);
    inference.finish(FinishReason::Stop);
}

/// The part of another exporter's page with these prefixes. The other parts may have summaries, such as the metrics of Go.
fn part(page: &str, beginnings: &[&str]) -> Page {
    let name = |line: &'_ str| line.trim_start_matches("# TYPE ").trim_start_matches("# HELP ").to_owned();
    let wanted = |line: &&str| beginnings.iter().any(|beginning| name(line).starts_with(beginning));
    Page::parse(page.lines().filter(wanted).flat_map(|line| [line, "\n"]).collect::<String>())
}
