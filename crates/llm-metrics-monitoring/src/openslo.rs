//! The objectives as OpenSLO documents (<https://openslo.com>, `openslo/v1`), for platforms that read them.
//!
//! ```
//! use llm_metrics_monitoring::{Names, openslo, slo::Slo};
//!
//! let text = openslo::documents(&Slo::default(), &Names::new())?;
//! assert!(text.contains("kind: SLO") && text.contains("target: 0.995"));
//! # Ok::<(), llm_metrics_monitoring::generate::GenerateError>(())
//! ```

use std::collections::BTreeSet;

use llm_metrics::catalog::{self};
use serde_json::{Value, json};

use crate::{
    counter,
    file::GenerateError,
    histogram,
    promql::{Counter, Expr, Names, Reader},
    rule_file::{HEADER, yaml},
    slo::{Cell, OverrideScope, Region, Slo},
    vocabulary::{JOB, OUTCOME, RESULT, SOURCE, STREAM},
};

const VERSION: &str = "openslo/v1";
const DATA_SOURCE: &str = "prometheus";
/// The maximum length of a name (RFC 1123), minus the indicator's part.
const LONGEST: usize = 63 - RATIO.len();
const RATIO: &str = "-ratio";

/// A service, a data source, and an objective each for availability, first token, gaps and attainment: for all models and jobs, and for each override
/// in `slo.yaml`.
///
/// Queries are counters, as OpenSLO's `counter: true` means: the platform computes the rate.
///
/// # Errors
/// If a value of the settings or an expression is invalid.
pub fn documents(slo: &Slo, names: &Names) -> Result<String, GenerateError> {
    slo.validate().map_err(GenerateError::Settings)?;
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
            "metadata": { "name": DATA_SOURCE },
            "spec": { "type": "Prometheus", "connectionDetails": { "url": "http://127.0.0.1:9090" } },
        }),
    ];
    let mut taken = BTreeSet::new();
    for scope in scopes(slo) {
        for objective in objectives(slo, &scope) {
            let name = free_name(&[service, objective.name, &scope.name], &mut taken);
            all.push(objective.document(slo, &scope, name, names)?);
        }
    }
    let texts = all
        .iter()
        .map(|document| Ok(yaml(document)?.replacen(HEADER, "", 1)))
        .collect::<Result<Vec<_>, GenerateError>>()?;
    Ok(HEADER.to_owned() + &texts.join("---\n"))
}

/// The series with one set of settings. An override for a model of one job splits all other series into two regions.
struct Scope {
    /// The names of the overrides that apply to them.
    name: String,
    regions: Vec<Region>,
    slo: Slo,
}

fn scopes(slo: &Slo) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = Vec::new();
    // The queries select the jobs of the service.
    let is_ours = |cell: &Cell| slo.service.jobs.iter().any(|job| cell.region.jobs.contains(job));
    for cell in slo.cells(OverrideScope::ByModel).into_iter().filter(is_ours) {
        match scopes.iter_mut().find(|scope| scope.name == cell.name && scope.slo == cell.slo) {
            Some(scope) => scope.regions.push(cell.region),
            None => scopes.push(Scope { name: cell.name, regions: vec![cell.region], slo: cell.slo }),
        }
    }
    scopes
}

struct Objective {
    name: &'static str,
    description: String,
    target: f64,
    good: Counter,
    /// Counters of different events, which add up.
    total: Vec<Counter>,
}

fn objectives(slo: &Slo, scope: &Scope) -> [Objective; 4] {
    let promised = &scope.slo.objectives;
    let requests = || counter!(catalog::REQUESTS);
    let first = || histogram!(catalog::TIME_TO_FIRST_TOKEN).with_bounds(slo.bounds_of(&catalog::TIME_TO_FIRST_TOKEN));
    let gaps = || histogram!(catalog::INTER_TOKEN_LATENCY).with_bounds(slo.bounds_of(&catalog::INTER_TOKEN_LATENCY));
    let (first_token, gap) = (&promised.time_to_first_token, &promised.inter_token_latency);
    let tokenless = counter!(catalog::USAGE_REPORTS).with(STREAM, "true").with(SOURCE, "missing");
    let tokenless = first_token.count_tokenless.then_some(tokenless);
    let never = if tokenless.is_some() { "; a stream without a token counts as late" } else { "" };
    [
        Objective {
            name: "availability",
            description:
                "Successful requests, among all successful and failed requests. Errors of callers do not count."
                    .to_owned(),
            target: promised.availability,
            good: requests().with(OUTCOME, "success"),
            total: vec![requests().with_any(OUTCOME, ["success", "error"])],
        },
        Objective {
            name: "time-to-first-token",
            description: format!("Streams whose first token arrives within {} s{never}.", first_token.seconds),
            target: first_token.objective,
            good: first().within(first_token.seconds),
            total: [first().count()].into_iter().chain(tokenless).collect(),
        },
        Objective {
            name: "inter-token-latency",
            description: format!("Gaps between tokens of at most {} s.", gap.seconds),
            target: gap.objective,
            good: gaps().within(gap.seconds),
            total: vec![gaps().count()],
        },
        Objective {
            name: "attainment",
            description: "Requests that meet the objectives that are configured in the server.".to_owned(),
            target: promised.attainment,
            good: counter!(catalog::SLO_REQUESTS).with(RESULT, "met"),
            total: vec![counter!(catalog::SLO_REQUESTS)],
        },
    ]
}

impl Objective {
    fn document(&self, slo: &Slo, scope: &Scope, name: String, names: &Names) -> Result<Value, GenerateError> {
        let metric = |counters: &[Counter]| {
            let sum = |counter: &Counter| {
                let total = counter.clone().with_any(JOB, slo.service.jobs.iter().map(String::as_str)).total();
                let parts = scope.regions.iter().map(|region| total.clone().within(region));
                parts.reduce(Expr::or).unwrap_or_else(|| total.clone()).sum()
            };
            // A missing series must not remove the others.
            let both = |all: Expr, more: Expr| (all.clone() + more.clone()).or(all).or(more);
            let all = counters.iter().map(sum).reduce(both).unwrap_or_else(|| Expr::vector(0.0));
            let query = all.render(names, Reader::Rules);
            let query = query.map_err(|faults| GenerateError::expression(name.clone(), faults))?;
            let source = json!({ "metricSourceRef": DATA_SOURCE, "type": "Prometheus", "spec": { "query": query } });
            Ok::<_, GenerateError>(json!({ "metricSource": source }))
        };
        let (good, total) = (metric(std::slice::from_ref(&self.good))?, metric(&self.total)?);
        let mut metadata = json!({ "name": name, "labels": scope.slo.labels });
        if !scope.name.is_empty() {
            metadata["displayName"] = json!(format!("{} {}: {}", slo.service.name, self.name, scope.name));
        }
        Ok(json!({
            "apiVersion": VERSION,
            "kind": "SLO",
            "metadata": metadata,
            "spec": {
                "service": slo.service.name,
                "description": self.description,
                "indicator": {
                    "metadata": { "name": format!("{name}{RATIO}") },
                    "spec": { "ratioMetric": { "counter": true, "good": good, "total": total } },
                },
                "timeWindow": [{ "duration": format!("{}d", scope.slo.objectives.window_days), "isRolling": true }],
                "budgetingMethod": "Occurrences",
                "objectives": [{ "displayName": self.name, "target": self.target }],
            },
        }))
    }
}

/// A name that OpenSLO accepts (RFC 1123) and that no other object has. Other characters become dashes, and long names are cut.
fn free_name(parts: &[&str], taken: &mut BTreeSet<String>) -> String {
    let fits = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    let fit = |part: &&str| part.to_lowercase().chars().map(fits).collect::<String>().trim_matches('-').to_owned();
    let whole = parts.iter().map(fit).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let cut = |room: usize| whole[..whole.len().min(room)].trim_end_matches('-').to_owned();
    let numbered = |number: u32| {
        let number = format!("-{number}");
        cut(LONGEST - number.len()) + &number
    };
    let mut name = cut(LONGEST);
    let mut next = 2;
    while !taken.insert(name.clone()) {
        name = numbered(next);
        next += 1;
    }
    name
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

    fn slos(settings: &str) -> Vec<Value> {
        let text = documents(&Slo::parse(settings).unwrap(), &Names::new()).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        documents.into_iter().filter(|document| document["kind"] == "SLO").collect()
    }

    fn query(slo: &Value, which: &str) -> String {
        let path = format!("/spec/indicator/spec/ratioMetric/{which}/metricSource/spec/query");
        slo.pointer(&path).unwrap().as_str().unwrap().to_owned()
    }

    /// The queries select the jobs of the service, so one of another job would select nothing.
    #[test]
    fn an_override_of_all_jobs_or_of_another_job_has_no_objective_without_series() {
        let with = |jobs: &str| {
            let text = "service: {jobs: [llm, batch]}\noverrides:\n  - {jobs: JOBS, objectives: {availability: 0.9}}\n";
            let slos = slos(&text.replace("JOBS", jobs));
            slos.iter().map(|slo| slo["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(with("[llm, batch]").len(), 4, "one set of objectives");
        assert!(with("[llm, batch]").contains(&"llm-availability-llm-batch".to_owned()));
        assert_eq!(with("[elsewhere]"), with("[elsewhere, nowhere]"), "only those of the service");
        assert_eq!(with("[elsewhere]")[0], "llm-availability");
        assert_eq!(with("[batch]").len(), 8);
    }

    /// All series except those of a model of one job: one objective for both parts, not two with the same name.
    #[test]
    fn an_objective_is_not_split_if_an_override_splits_its_series() {
        let slos = slos(
            "service: {jobs: [llm, batch]}\noverrides:\n  - {models: [m], jobs: [batch], objectives: {availability: 0.9}}\n",
        );
        assert_eq!(slos.len(), 8);
        let rest = slos.iter().find(|slo| slo["metadata"]["name"] == "llm-availability").unwrap();
        let query = query(rest, "good");
        assert!(query.contains(r#"model!="m""#) && query.contains(r#"job!="batch",model="m""#), "{query}");
        assert!(query.starts_with("sum(") && query.contains(" or "), "{query}");
    }

    #[test]
    fn every_name_is_unique_and_valid_in_kubernetes() {
        let long = "x".repeat(100);
        let slos = slos(&format!(
            "service: {{name: {service}}}\noverrides:\n  - {{models: [通义千问]}}\n  - {{models: [文心]}}\n  - {{models: [a.b]}}\n  - {{models: [a-b]}}\n  - {{models: [{long}]}}\n  - {{models: [{long}y]}}\n",
            service = "s".repeat(50)
        ));
        let names = slos.iter().flat_map(|slo| {
            [&slo["metadata"]["name"], &slo["spec"]["indicator"]["metadata"]["name"]].map(|name| name.as_str().unwrap())
        });
        let mut seen = BTreeSet::new();
        for name in names {
            assert!(name.len() <= 63 && !name.ends_with('-') && !name.starts_with('-'), "{name}");
            assert!(seen.insert(name), "{name} is there twice");
        }
        assert_eq!(seen.len(), 7 * 8);
    }

    /// Compares with the counts of the rules, if rules record them.
    #[test]
    fn a_stream_without_a_token_is_late_in_the_export_as_in_the_rules() {
        let totals = |settings: &str| {
            let slos = slos(settings);
            let first = slos.iter().find(|slo| slo["metadata"]["name"] == "llm-time-to-first-token").unwrap();
            query(first, "total")
        };
        let all = totals("");
        assert!(all.contains("llm_time_to_first_token_seconds_count"), "{all}");
        assert!(all.contains(r#"sum(llm_usage_reports_total{stream="true",source="missing""#), "{all}");
        let without = totals("objectives: {time_to_first_token: {count_tokenless: false}}\n");
        assert!(!without.contains("llm_usage_reports"), "{without}");
    }
}
