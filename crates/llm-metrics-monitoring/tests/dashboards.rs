//! The dashboards, as Grafana would read them: dashboard-linter's rules, the grid, and every query against the catalogues.

mod series;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use llm_metrics_monitoring::{dashboard, generate::File, promql::Names, slo::Slo};
use promql_parser::{
    label::{MatchOp, Matcher},
    parser::{self, Expr, LabelModifier},
};
use serde_json::Value;

fn files() -> Vec<(String, Value)> {
    let files = dashboard::files(&Slo::default(), &Names::new()).unwrap();
    assert_eq!(files.len(), 22);
    let parse = |File { path, text, .. }: File| (path.display().to_string(), serde_json::from_str(&text).unwrap());
    files.into_iter().map(parse).collect()
}

fn provisioned() -> impl Iterator<Item = (String, Value)> {
    files().into_iter().filter(|(path, _)| path.starts_with("grafana/dashboards/"))
}

fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).unwrap_or_else(|| panic!("no list at {path}"))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {path} of {value}"))
}

/// The panels with data: all except the headings of rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "/panels").iter().filter(|panel| panel["type"] != "row")
}

/// Every query with its place: of panels, annotations and variables.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let of_panel = |panel: &'_ Value| {
        let title = text(panel, "/title").to_owned();
        list(panel, "/targets")
            .iter()
            .map(|target| (title.clone(), text(target, "/expr").to_owned()))
            .collect::<Vec<_>>()
    };
    let annotations = list(dashboard, "/annotations/list").iter().filter_map(|one| one["expr"].as_str());
    let variables = list(dashboard, "/templating/list").iter().filter_map(|one| one["definition"].as_str());
    let selector = |definition: &str| {
        let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        inner.rsplit_once(", ").unwrap().0.to_owned()
    };
    let mut all: Vec<_> = panels(dashboard).flat_map(of_panel).collect();
    all.extend(annotations.map(|expr| ("annotation".to_owned(), expr.to_owned())));
    all.extend(variables.map(|definition| ("variable".to_owned(), selector(definition))));
    all
}

/// Grafana's variables are replaced by times, because PromQL parsers do not know them.
fn parsed(expr: &str) -> Expr {
    let fixed = expr.replace("$__rate_interval", "4m").replace("$__range", "1h").replace("$__interval", "1m");
    assert!(!fixed.contains("$__"), "{expr}");
    parser::parse(&fixed).unwrap_or_else(|error| panic!("{error}: {expr}"))
}

/// The metrics and labels in a query.
#[derive(Default)]
struct Reads {
    /// Each metric with its matchers, and whether it is the operand of `rate` or `increase`.
    selectors: Vec<(String, Vec<Matcher>, bool)>,
    /// Labels in aggregations and joins.
    labels: BTreeSet<String>,
}

impl Reads {
    fn of(expr: &str) -> Self {
        let mut reads = Self::default();
        reads.walk(&parsed(expr), false);
        reads
    }

    fn walk(&mut self, expr: &Expr, rated: bool) {
        match expr {
            Expr::VectorSelector(selector) => {
                let name = selector.name.clone().expect("a selector without a metric");
                self.selectors.push((name, selector.matchers.matchers.clone(), rated));
            }
            Expr::MatrixSelector(selector) => self.walk(&Expr::VectorSelector(selector.vs.clone()), rated),
            Expr::Call(call) => {
                let rated = matches!(call.func.name, "rate" | "increase");
                call.args.args.iter().for_each(|argument| self.walk(argument, rated));
            }
            Expr::Aggregate(aggregate) => {
                if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                    self.labels.extend(labels.labels.iter().cloned());
                }
                self.walk(&aggregate.expr, false);
            }
            Expr::Binary(binary) => {
                let modifier = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
                if let Some(LabelModifier::Include(labels)) = modifier {
                    self.labels.extend(labels.labels.iter().cloned());
                }
                self.walk(&binary.lhs, false);
                self.walk(&binary.rhs, false);
            }
            Expr::Paren(paren) => self.walk(&paren.expr, rated),
            Expr::Unary(unary) => self.walk(&unary.expr, rated),
            Expr::Subquery(subquery) => self.walk(&subquery.expr, rated),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
            Expr::Extension(_) => panic!("an extension"),
        }
    }
}

/// Every metric and recorded rule, with its labels.
static KNOWN: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| series::known(&Names::new()));

#[test]
fn every_query_parses_and_has_only_existing_metrics_and_labels() {
    let mut selectors = 0;
    for (path, dashboard) in files() {
        for (place, expr) in queries(&dashboard) {
            let reads = Reads::of(&expr);
            let mut all = BTreeSet::new();
            for (name, matchers, _) in &reads.selectors {
                let labels = KNOWN.get(name).unwrap_or_else(|| panic!("{path}, {place}: there is no metric {name}"));
                let unknown = matchers.iter().find(|matcher| !labels.contains(&matcher.name));
                assert!(unknown.is_none(), "{path}, {place}: {name} has no label {unknown:?}");
                all.extend(labels);
                selectors += 1;
            }
            let unknown: Vec<_> = reads.labels.iter().filter(|label| !all.contains(label)).collect();
            assert!(unknown.is_empty(), "{path}, {place}: nothing in {expr} has {unknown:?}");
        }
    }
    assert!(selectors > 300, "{selectors}");
}

/// A new row of a catalogue needs a panel, or a reason in this list.
#[test]
fn every_row_of_the_catalogues_is_shown() {
    let mut read = BTreeSet::new();
    for (path, dashboard) in provisioned() {
        let exprs = queries(&dashboard).into_iter().map(|(_, expr)| expr);
        read.extend(exprs.flat_map(|expr| Reads::of(&expr).selectors).map(|(name, ..)| name));
        assert!(!read.is_empty(), "{path}");
    }
    let not_shown = [
        (
            "llm_input_cache_write_tokens_total",
            "only Anthropic's protocol has it; tokens that were read from caches are shown",
        ),
        ("llm_request_inputs", "of embeddings and reranking alone; their rate, errors and times are shown"),
        ("llm_model_load_seconds", "a moment in hours: the switches between models are annotations"),
        ("llm_slo_requests_total", "the rules make attainment and goodput of it, which are shown"),
        ("gpu_memory_reserved_bytes", "the driver's own share, which hardly ever changes"),
        ("gpu_system_memory_total_bytes", "the memory that the machine gives to an APU, which does not change"),
        ("gpu_process_memory_bytes", "off unless asked for; the runbooks ask for it"),
        ("gpu_energy_joules_total", "a rule makes joules per token of it; power is shown"),
        ("gpu_pcie_link_generation", "the slot of the board"),
        ("gpu_pcie_link_width", "the slot of the board"),
        ("gpu_recovery_action", "an alert"),
        (
            "gpu_xid_errors_total",
            "when it was last is shown; a series that is born with its first error has no increase",
        ),
    ];
    let parts = |name: &str| ["", "_count", "_sum", "_bucket"].map(|part| format!("{name}{part}"));
    let rows =
        llm_metrics::catalog::all().chain(llm_metrics_gpu::catalog::all()).chain(llm_metrics_gateway::catalog::all());
    let unseen: Vec<_> =
        rows.map(|row| row.name).filter(|name| !parts(name).iter().any(|part| read.contains(part))).collect();
    assert_eq!(unseen, not_shown.map(|(name, _)| name));
}

#[test]
fn series_with_a_job_and_an_instance_are_filtered_by_the_variables() {
    for (path, dashboard) in provisioned() {
        let variables: BTreeSet<_> = list(&dashboard, "/templating/list")
            .iter()
            .map(|variable| format!("${}", text(variable, "/name")))
            .collect();
        for panel in panels(&dashboard) {
            for target in list(panel, "/targets") {
                for (name, matchers, _) in Reads::of(text(target, "/expr")).selectors {
                    // An alert about a target that is gone has no instance. Containers have the job and instance of cAdvisor, which the variables do
                    // not list.
                    if name.starts_with("ALERTS") || name.starts_with("container_") {
                        continue;
                    }
                    let known = &KNOWN[&name];
                    // Each query for one of two instances selects its own instance. The other side of a join need not.
                    let labels = if path.ends_with("llm-compare.json") { &["job"][..] } else { &["job", "instance"] };
                    for label in labels.iter().copied().filter(|label| known.contains(*label)) {
                        let found = matchers.iter().find(|matcher| matcher.name == label);
                        let by_variable = found.is_some_and(|matcher| {
                            matches!(matcher.op, MatchOp::Re(_)) && variables.contains(&matcher.value)
                        });
                        assert!(by_variable, "{path}, {}: {name} is not matched by {label}", text(panel, "/title"));
                    }
                }
            }
        }
    }
}

#[test]
fn counters_are_the_operand_of_rate_over_grafanas_interval() {
    for (path, dashboard) in provisioned() {
        for (place, expr) in queries(&dashboard).into_iter().filter(|(place, _)| place != "variable") {
            let reads = Reads::of(&expr);
            let counters = reads.selectors.iter().filter(|(name, ..)| {
                !name.contains(':') && ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
            });
            for (name, _, rated) in counters {
                assert!(rated, "{path}, {place}: {name} only rises: rate it");
            }
            for window in expr.match_indices("rate(").chain(expr.match_indices("increase(")).filter_map(|(at, _)| {
                let inner = &expr[at..];
                let window = &inner[inner.find('[')? + 1..];
                Some(window[..window.find(']')?].to_owned())
            }) {
                // The busy time of a GPU is published in whole seconds.
                let whole_seconds = expr.contains("gpu_busy_seconds_total") && window == "5m";
                let fits = window == "$__rate_interval" || window == "$__range" || whole_seconds;
                assert!(fits, "{path}, {place}: [{window}]");
            }
        }
    }
}

#[test]
fn every_panel_has_a_description_and_a_unit() {
    for (path, dashboard) in files() {
        let mut titles = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = text(panel, "/title");
            assert!(!title.is_empty() && titles.insert(title), "{path}: {title:?} is there twice");
            let description = text(panel, "/description");
            assert!(description.len() > 15 && description.ends_with('.'), "{path}, {title}: {description:?}");
            assert!(!text(panel, "/fieldConfig/defaults/unit").is_empty(), "{path}, {title}");
            assert!(!list(panel, "/targets").is_empty(), "{path}, {title}: no query");
            for target in list(panel, "/targets") {
                let table = panel["type"] == "table";
                assert!(table || !text(target, "/legendFormat").is_empty(), "{path}, {title}: a series without a name");
                assert_eq!(target["exemplar"], false, "no server emits exemplars yet");
                assert_eq!(target["instant"].as_bool(), target["range"].as_bool().map(|range| !range));
            }
            let refs: BTreeSet<_> = list(panel, "/targets").iter().map(|target| text(target, "/refId")).collect();
            assert_eq!(refs.len(), list(panel, "/targets").len(), "{path}, {title}");
        }
    }
}

/// There is a reason: no requests, no such device, or a check that is off.
#[test]
fn a_panel_without_data_shows_why_and_a_cell_of_a_table_does_not() {
    for (path, dashboard) in files() {
        for panel in panels(&dashboard) {
            let (title, why) = (text(panel, "/title"), text(panel, "/fieldConfig/defaults/noValue"));
            assert!(why.len() > 3 && why != "No data", "{path}, {title}: {why:?}");
            if panel["type"] == "table" {
                let of_cells = panel.pointer("/fieldConfig/overrides/0/properties/0").unwrap();
                assert_eq!((&of_cells["id"], &of_cells["value"]), (&"noValue".into(), &"–".into()), "{path}, {title}");
            }
        }
    }
}

#[test]
fn alerts_are_at_the_top_sorted_by_severity_and_start() {
    let (_, overview) = provisioned().find(|(path, _)| path.ends_with("llm-overview.json")).unwrap();
    let tables: Vec<_> = panels(&overview).take(2).collect();
    let severities = tables.iter().map(|panel| text(panel, "/targets/0/expr"));
    let asked = ["severity=~\"critical\"", "severity=~\"warning|info\""];
    assert!(severities.zip(asked).all(|(expr, asked)| expr.contains(asked)));
    for (table, columns) in tables.into_iter().zip([&["Since"][..], &["Severity", "Since"]]) {
        let by = list(table, "/options/sortBy");
        assert!(by.iter().all(|by| by["desc"] == true));
        assert!(by.iter().map(|by| text(by, "/displayName")).eq(columns.iter().copied()));
    }
}

/// A name in a legend that is not a label shows no text.
#[test]
fn legends_use_labels_that_the_series_have() {
    for (path, dashboard) in provisioned() {
        for panel in panels(&dashboard).filter(|panel| panel["type"] != "table") {
            for target in list(panel, "/targets") {
                let legend = text(target, "/legendFormat");
                let reads = Reads::of(text(target, "/expr"));
                let of_rules = reads.selectors.iter().filter_map(|(name, ..)| KNOWN.get(name)).flatten();
                let labels: BTreeSet<&str> = of_rules.map(String::as_str).collect();
                for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                    assert!(labels.contains(label), "{path}, {}: {{{{{label}}}}}", text(panel, "/title"));
                }
            }
        }
    }
}

#[test]
fn panels_fill_the_grid_without_overlap_and_ids_are_unique() {
    for (path, dashboard) in files() {
        let (mut taken, mut ids) = (BTreeMap::new(), BTreeSet::new());
        for panel in list(&dashboard, "/panels") {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: an id is there twice");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= 24, "{path}: {}", panel["title"]);
            for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row))) {
                let other = taken.insert(cell, &panel["title"]);
                assert!(other.is_none(), "{path}: {} is over {other:?}", panel["title"]);
            }
        }
        let lowest = taken.keys().map(|(_, row)| row + 1).max().unwrap();
        assert_eq!(taken.len() as u64, 24 * lowest, "{path}: there are holes between the panels");
    }
}

#[test]
fn the_data_source_and_the_choices_are_templates() {
    for (path, dashboard) in files() {
        let variables = list(&dashboard, "/templating/list");
        let [source, others @ ..] = variables else { panic!("{path}: no variables") };
        assert_eq!((&source["type"], &source["name"]), (&"datasource".into(), &"datasource".into()));
        assert_eq!((&source["label"], &source["query"]), (&"Data source".into(), &"prometheus".into()));
        let names: Vec<_> = others.iter().map(|variable| text(variable, "/name")).collect();
        let first = if path.ends_with("llm-compare.json") { ["job", "model"] } else { ["job", "instance"] };
        assert!(names.starts_with(&first), "{path}: {names:?}");
        for variable in others {
            assert_eq!(variable["type"], "query");
            assert_eq!(variable["datasource"]["uid"], "${datasource}");
            // The variables of the two sides each select one instance.
            let side = ["a", "b"].contains(&text(variable, "/name"));
            assert_eq!((&variable["includeAll"], &variable["multi"]), (&(!side).into(), &(!side).into()));
            assert!(side || variable["allValue"] == ".+");
            assert_eq!(variable["refresh"], 2, "{path}: the choices follow the time shown");
            assert_eq!(variable["query"]["query"], variable["definition"]);
        }
        let used = serde_json::to_string(&dashboard["panels"]).unwrap();
        for name in names {
            assert!(used.contains(&format!("${name}\\\"")), "{path}: nothing is filtered by ${name}");
        }
        for panel in panels(&dashboard) {
            let targets = list(panel, "/targets").iter().map(|target| &target["datasource"]["uid"]);
            assert!(targets.chain([&panel["datasource"]["uid"]]).all(|uid| uid == "${datasource}"), "{path}");
        }
    }
}

#[test]
fn a_dashboard_has_a_permanent_id_and_links_to_the_others() {
    let mut uids = BTreeSet::new();
    for (path, dashboard) in files() {
        let uid = text(&dashboard, "/uid");
        assert!(path.ends_with(&format!("/{uid}.json")) && uid.len() <= 40, "{path}");
        uids.insert(uid.to_owned());
        assert_eq!(dashboard["id"], Value::Null);
        assert!(dashboard.get("version").is_none());
        assert_eq!((&dashboard["schemaVersion"], &dashboard["editable"]), (&39.into(), &false.into()));
        assert_eq!(dashboard["graphTooltip"], 1);
        let [link] = list(&dashboard, "/links") else { panic!("{path}: one link to all") };
        assert_eq!(link["tags"], dashboard["tags"]);
        assert_eq!((&link["includeVars"], &link["keepTime"]), (&true.into(), &true.into()));
        let switches = list(&dashboard, "/annotations/list").iter().find(|one| one["name"] == "Model switches");
        assert!(text(switches.unwrap(), "/expr").contains("llm_model_info"));
    }
    assert_eq!(uids.len(), 11);
}

#[test]
fn only_the_build_for_import_asks_for_a_data_source() {
    for (path, dashboard) in files() {
        let import = path.starts_with("grafana/import/");
        assert_eq!(dashboard.get("__inputs").is_some(), import, "{path}");
        assert_eq!(dashboard.get("__requires").is_some(), import, "{path}");
        let current = dashboard.pointer("/templating/list/0/current/value").and_then(Value::as_str);
        assert_eq!(current, import.then_some("${DS_PROMETHEUS}"), "{path}");
    }
}

#[test]
fn thresholds_are_those_of_the_settings() {
    let slo = Slo::parse("objectives: {time_to_first_token: {seconds: 0.75}, availability: 0.9}\n").unwrap();
    let files = dashboard::files(&slo, &Names::new()).unwrap();
    let overview = files.iter().find(|file| file.path.ends_with("dashboards/llm-overview.json")).unwrap();
    let overview: Value = serde_json::from_str(&overview.text).unwrap();
    let step = |title: &str| {
        let panel = panels(&overview).find(|panel| panel["title"] == title).unwrap();
        panel.pointer("/fieldConfig/defaults/thresholds/steps/1/value").cloned()
    };
    assert_eq!(step("Time to first token"), Some(0.75.into()));
    assert_eq!(step("Availability"), Some(0.9.into()));
}

#[test]
fn another_prefix_is_in_every_query() {
    let names = Names::new().prefix("qwen").unwrap();
    for file in dashboard::files(&Slo::default(), &names).unwrap() {
        let dashboard: Value = serde_json::from_str(&file.text).unwrap();
        for (place, expr) in queries(&dashboard) {
            let ours = |(name, ..): &(String, Vec<Matcher>, bool)| name.starts_with("llm_") || name.contains(":llm_");
            assert!(!Reads::of(&expr).selectors.iter().any(ours), "{place}: {expr}");
        }
    }
}

/// One in twelve men cannot distinguish red from green.
#[test]
fn no_colour_is_green_and_each_value_has_one_colour() {
    for (path, dashboard) in files() {
        let text = serde_json::to_string(&dashboard).unwrap();
        assert!(!text.contains("green\""), "{path}");
        let mut colors: BTreeMap<String, String> = BTreeMap::new();
        for panel in panels(&dashboard) {
            for change in list(panel, "/fieldConfig/overrides") {
                let color = change.pointer("/properties/0/value/fixedColor").and_then(Value::as_str);
                let name = change.pointer("/matcher/options").and_then(Value::as_str);
                if let (Some(color), Some(name)) = (color, name) {
                    let before = colors.insert(name.to_owned(), color.to_owned());
                    assert!(
                        before.as_deref().is_none_or(|before| before == color),
                        "{path}: {name} is {before:?} and {color}"
                    );
                }
            }
        }
    }
}

#[test]
fn series_have_links_to_details_and_every_link_has_a_target() {
    let uids: BTreeSet<String> = provisioned().map(|(_, dashboard)| text(&dashboard, "/uid").to_owned()).collect();
    let mut links = 0;
    for (path, dashboard) in provisioned() {
        for panel in panels(&dashboard) {
            let overrides = list(panel, "/fieldConfig/overrides").iter();
            let of_columns =
                overrides.flat_map(|change| list(change, "/properties")).filter(|one| one["id"] == "links");
            let of_columns = of_columns.flat_map(|one| one["value"].as_array().unwrap());
            let of_panel = panel.pointer("/fieldConfig/defaults/links").and_then(Value::as_array).into_iter().flatten();
            for link in of_panel.chain(of_columns) {
                let url = text(link, "/url");
                links += 1;
                let Some(rest) = url.strip_prefix("/d/") else {
                    assert!(url.starts_with("http"), "{path}: {url}");
                    continue;
                };
                let (uid, rest) = rest.split_once('?').unwrap();
                assert!(uids.contains(uid) && rest.contains("${__url_time_range}"), "{path}: {url}");
            }
        }
    }
    assert!(links > 30, "{links}");
}

#[test]
fn labels_that_are_used_together_with_the_job_are_variables() {
    let slo = Slo::parse("service: {by: [cluster]}\n").unwrap();
    for file in dashboard::files(&slo, &Names::new()).unwrap() {
        let dashboard: Value = serde_json::from_str(&file.text).unwrap();
        let variables: Vec<_> = list(&dashboard, "/templating/list").iter().map(|one| text(one, "/name")).collect();
        assert_eq!(variables[1], "cluster", "{}", file.path.display());
        assert!(file.text.contains("cluster=~\\\"$cluster\\\""), "{}", file.path.display());
        let choice = &list(&dashboard, "/templating/list")[1];
        assert_eq!(choice["allValue"], ".*", "targets without the label are among all");
        for panel in panels(&dashboard) {
            assert!(
                !panel.to_string().contains("${datasource:queryparam}&var"),
                "a link forgets the choice of clusters"
            );
        }
    }
}

/// Two alerts with the same name are from two clusters: each line shows its cluster.
#[test]
fn tables_with_instances_show_the_labels_that_are_used_together_with_the_job() {
    let names = |settings: &str| {
        let slo = Slo::parse(settings).unwrap();
        let files = dashboard::files(&slo, &Names::new()).unwrap();
        let overview = files.iter().find(|file| file.path.ends_with("dashboards/llm-overview.json")).unwrap();
        let overview: Value = serde_json::from_str(&overview.text).unwrap();
        let pages = panels(&overview).next().unwrap().clone();
        let names = list(&pages, "/transformations/0/options/include/names").iter();
        names.map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let with = names("service: {by: [cluster, namespace]}\n");
    let instance = with.iter().position(|name| name == "instance").unwrap();
    assert_eq!(with[instance + 1..=instance + 2], ["cluster", "namespace"]);
    assert_eq!(names("").len() + 2, with.len());
    // An alert about a whole job has neither model nor instance.
    let jobs = names("service: {jobs: [llm, batch]}\n");
    assert!(jobs.contains(&"job".to_owned()) && !with.contains(&"job".to_owned()), "{jobs:?}");
}
