//! The objectives as OpenSLO documents (<https://openslo.com>, `openslo/v1`), for platforms that read them.
//!
//! ```
//! use llm_metrics_monitoring::{Names, openslo, slo::Slo};
//!
//! let text = openslo::documents(&Slo::default(), &Names::new())?;
//! assert!(text.contains("kind: SLO") && text.contains("target: 0.995"));
//! # Ok::<(), llm_metrics_monitoring::generate::GenerateError>(())
//! ```

use llm_metrics::catalog::{
    self,
    labels::{OUTCOME, RESULT},
};
use serde_json::{Value, json};

use crate::{
    counter,
    file::GenerateError,
    histogram,
    promql::{Counter, Names, Reader},
    rule_file::{HEADER, yaml},
    slo::{Cell, Slo, Told},
    vocabulary::JOB,
};

const VERSION: &str = "openslo/v1";
const SOURCE: &str = "prometheus";

/// A service, a data source, and an objective each for availability, first token, gaps and attainment: for all models and jobs, and for each override
/// in `slo.yaml`.
///
/// Queries are counters, as OpenSLO's `counter: true` means: the platform computes the rate.
///
/// # Errors
/// If an expression is invalid with these settings.
pub fn documents(slo: &Slo, names: &Names) -> Result<String, GenerateError> {
    let service = &slo.service.name;
    let mut all = vec![
        json!({
            "apiVersion": VERSION,
            "kind": "Service",
            "metadata": { "name": service },
            "spec": { "description": "Large language models, measured by llm-metrics" },
        }),
        json!({
            "apiVersion": VERSION,
            "kind": "DataSource",
            "metadata": { "name": SOURCE },
            "spec": { "type": "Prometheus", "connectionDetails": { "url": "http://127.0.0.1:9090" } },
        }),
    ];
    for cell in slo.cells(Told::ByModel) {
        for objective in objectives(slo, &cell) {
            all.push(objective.document(slo, &cell, names)?);
        }
    }
    let texts = all
        .iter()
        .map(|document| Ok(yaml(document)?.replacen(HEADER, "", 1)))
        .collect::<Result<Vec<_>, GenerateError>>()?;
    Ok(HEADER.to_owned() + &texts.join("---\n"))
}

struct Objective {
    name: &'static str,
    description: String,
    target: f64,
    good: Counter,
    total: Counter,
}

fn objectives(slo: &Slo, cell: &Cell) -> [Objective; 4] {
    let promised = &cell.slo.objectives;
    let requests = || counter!(catalog::REQUESTS);
    let first = || histogram!(catalog::TIME_TO_FIRST_TOKEN).with_bounds(slo.bounds_of(&catalog::TIME_TO_FIRST_TOKEN));
    let gaps = || histogram!(catalog::INTER_TOKEN_LATENCY).with_bounds(slo.bounds_of(&catalog::INTER_TOKEN_LATENCY));
    let (first_token, gap) = (&promised.time_to_first_token, &promised.inter_token_latency);
    [
        Objective {
            name: "availability",
            description:
                "Successful requests, among all successful and failed requests. Errors of callers do not count."
                    .to_owned(),
            target: promised.availability,
            good: requests().with(OUTCOME, "success"),
            total: requests().with_any(OUTCOME, ["success", "error"]),
        },
        Objective {
            name: "time-to-first-token",
            description: format!("Streams whose first token arrives within {} s.", first_token.seconds),
            target: first_token.objective,
            good: first().within(first_token.seconds),
            total: first().count(),
        },
        Objective {
            name: "inter-token-latency",
            description: format!("Gaps between tokens of at most {} s.", gap.seconds),
            target: gap.objective,
            good: gaps().within(gap.seconds),
            total: gaps().count(),
        },
        Objective {
            name: "attainment",
            description: "Requests that meet the objectives that are configured in the server.".to_owned(),
            target: promised.attainment,
            good: counter!(catalog::SLO_REQUESTS).with(RESULT, "met"),
            total: counter!(catalog::SLO_REQUESTS),
        },
    ]
}

impl Objective {
    fn document(&self, slo: &Slo, cell: &Cell, names: &Names) -> Result<Value, GenerateError> {
        let of = if cell.name.is_empty() { String::new() } else { format!("-{}", fit(&cell.name)) };
        let name = format!("{}-{}{of}", slo.service.name, self.name);
        let metric = |counter: &Counter| {
            let jobs = counter.clone().with_any(JOB, slo.service.jobs.iter().map(String::as_str));
            let expr = jobs.total().sum().within(&cell.region);
            let query = expr.render(names, Reader::Rules);
            let query = query.map_err(|faults| GenerateError::expression(name.clone(), faults))?;
            let source = json!({ "metricSourceRef": SOURCE, "type": "Prometheus", "spec": { "query": query } });
            Ok::<_, GenerateError>(json!({ "metricSource": source }))
        };
        Ok(json!({
            "apiVersion": VERSION,
            "kind": "SLO",
            "metadata": { "name": name, "labels": cell.slo.labels },
            "spec": {
                "service": slo.service.name,
                "description": self.description,
                "indicator": {
                    "metadata": { "name": format!("{name}-ratio") },
                    "spec": { "ratioMetric": { "counter": true, "good": metric(&self.good)?, "total": metric(&self.total)? } },
                },
                "timeWindow": [{ "duration": format!("{}d", cell.slo.objectives.window_days), "isRolling": true }],
                "budgetingMethod": "Occurrences",
                "objectives": [{ "displayName": self.name, "target": self.target }],
            },
        }))
    }
}

/// A name that OpenSLO accepts: RFC 1123.
fn fit(name: &str) -> String {
    let lower = name.to_lowercase();
    let fits = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    lower.chars().map(fits).collect::<String>().trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_set_of_settings_has_its_objectives_over_its_own_series() {
        let slo = Slo::parse("overrides:\n  - {models: [Qwen/Qwen3], objectives: {availability: 0.9}}\n").unwrap();
        let text = documents(&slo, &Names::new()).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let slos: Vec<_> = documents.iter().filter(|document| document["kind"] == "SLO").collect();
        assert_eq!(slos.len(), 8);
        let of = |name: &str| {
            let found = slos.iter().find(|slo| slo["metadata"]["name"] == name).unwrap();
            let query = "/spec/indicator/spec/ratioMetric/good/metricSource/spec/query";
            (
                found.pointer(query).unwrap().as_str().unwrap().to_owned(),
                found["spec"]["objectives"][0]["target"].clone(),
            )
        };
        let others = r#"sum(llm_requests_total{outcome="success",job=~"llm",model!="Qwen/Qwen3"})"#;
        assert_eq!(of("llm-availability"), (others.to_owned(), json!(0.995)));
        let (query, target) = of("llm-availability-qwen-qwen3");
        assert!(query.contains(r#"model="Qwen/Qwen3""#) && target == json!(0.9), "{query}");
    }
}
