//! The files of `examples/monitoring/`, for tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// `examples/monitoring/`.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/monitoring")
}

/// The text of a file in that folder.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn text(file: &str) -> String {
    let path = folder().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Parses YAML or JSON.
///
/// # Panics
/// If the text is not valid.
#[must_use]
#[track_caller]
pub fn parse(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"))
}

/// Parses all documents of a YAML file.
///
/// # Panics
/// If the text is not valid.
#[must_use]
#[track_caller]
pub fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"))
}

/// Every YAML file below a folder, with its text. The packages of npm are excluded.
///
/// # Panics
/// If a file cannot be read.
#[must_use]
pub fn yaml_files(folder: PathBuf) -> Vec<(PathBuf, String)> {
    let (mut all, mut folders) = (Vec::new(), vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                let text = fs::read_to_string(&path).expect("text");
                all.push((path, text));
            }
        }
    }
    all
}

/// The files with this extension in a subfolder, sorted, each with the name of the subfolder.
///
/// # Panics
/// If there is no such folder.
#[must_use]
pub fn files(in_folder: &str, ending: &str) -> Vec<String> {
    let entries = fs::read_dir(folder().join(in_folder)).unwrap_or_else(|error| panic!("{in_folder}: {error}"));
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut files: Vec<_> = names.filter(|name| name.ends_with(ending)).collect();
    files.sort();
    files.iter().map(|name| format!("{in_folder}/{name}")).collect()
}

/// The rule files, without their unit tests.
#[must_use]
pub fn rule_files() -> Vec<String> {
    [".rules.yml", ".alerts.yml"].iter().flat_map(|ending| files("rules", ending)).collect()
}

/// The names of all recorded series.
#[must_use]
pub fn recorded_series() -> Vec<Query> {
    let mut queries = Vec::new();
    for file in rule_files() {
        let rules = parse(&text(&file));
        let rules = list(&rules["groups"]).flat_map(|group| list(&group["rules"]));
        let records = rules.filter_map(|rule| rule["record"].as_str());
        queries.extend(records.map(|name| Query { place: file.clone(), expr: name.to_owned() }));
    }
    queries
}

/// Shortens the times of rules: they are evaluated every second, and an alert fires after one second. Only such durations change. Expressions,
/// windows and labels stay as committed.
pub fn hurry_rules(file: &mut Value) {
    for group in list_mut(&mut file["groups"]) {
        group["interval"] = "1s".into();
        for rule in list_mut(&mut group["rules"]) {
            for duration in ["for", "keep_firing_for"] {
                if rule.get(duration).is_some() {
                    rule[duration] = "1s".into();
                }
            }
        }
    }
}

/// Shortens the times of Alertmanager in the same way: it waits a second instead of minutes before the first and the next notification of a group.
/// Routes, grouping and inhibition stay as committed.
pub fn hurry_routes(config: &mut Value) {
    fn hurry(route: &mut Value) {
        for duration in ["group_wait", "group_interval"] {
            if route.get(duration).is_some() {
                route[duration] = "1s".into();
            }
        }
        list_mut(&mut route["routes"]).for_each(hurry);
    }
    hurry(&mut config["route"]);
    config["route"]["group_wait"] = "1s".into();
    config["route"]["group_interval"] = "1s".into();
}

/// A query that should have data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Query {
    /// The file, and in a dashboard the title of the panel or the source of the query.
    pub place: String,
    /// PromQL.
    pub expr: String,
}

/// Every query of the provisioned dashboards: panels, annotations and variables. Variables have the values that Grafana uses for `All`.
#[must_use]
pub fn dashboard_queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for file in files("grafana/dashboards", ".json") {
        let dashboard = parse(&text(&file));
        let mut add = |place: &str, expr: &Value| {
            let expr = expr.as_str().filter(|expr| !expr.is_empty());
            queries.extend(expr.map(|expr| Query { place: format!("{file}: {place}"), expr: fill_in(expr) }));
        };
        for panel in list(&dashboard["panels"]).flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"]))) {
            let title = panel["title"].as_str().unwrap_or_default();
            list(&panel["targets"]).for_each(|target| add(title, &target["expr"]));
        }
        for annotation in list(&dashboard["annotations"]["list"]) {
            add(annotation["name"].as_str().unwrap_or_default(), &annotation["expr"]);
        }
        for variable in list(&dashboard["templating"]["list"]).filter(|variable| variable["type"] == "query") {
            let query = if variable["query"].is_string() { &variable["query"] } else { &variable["query"]["query"] };
            let selector = query.as_str().and_then(|query| query.strip_prefix("label_values(")?.rsplit_once(','));
            let (selector, _) = selector.unwrap_or_else(|| panic!("{file}: a variable of another kind: {variable}"));
            add(variable["name"].as_str().unwrap_or_default(), &selector.into());
        }
    }
    queries
}

fn fill_in(expr: &str) -> String {
    let mut expr = expr.replace("$__rate_interval", "1m").replace("$__interval", "15s").replace("$__range", "5m");
    while let Some(start) = expr.find('$') {
        let rest = &expr[start + 1..];
        let braces = rest.strip_prefix('{').and_then(|rest| rest.find('}')).map(|end| end + 2);
        let word = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
        expr.replace_range(start..start + 1 + braces.unwrap_or(word), ".+");
    }
    expr
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn list_mut(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}
