//! Dashboards as Grafana JSON: schema version 39, which Grafana reads from 10.3 on, and later versions migrate.

use serde_json::{Value, json};

use super::model::{Column, Dashboard, GOOD, Kind, Panel, Scope, Target, Variable};
use crate::{
    file::GenerateError,
    promql::{Expr, Label, Names, Reader},
    vocabulary::INSTANCE,
};

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// To be provisioned from a folder.
    Provisioning,
    /// To be imported in Grafana's user interface, which asks for the data source.
    Import,
}

const SCHEMA_VERSION: u32 = 39;
/// The first version with the palette for series whose names are not known in advance.
const GRAFANA: &str = "13.0.0";
/// Okabe and Ito's colours, which colour-blind people can distinguish.
const PALETTE: &str = "palette-colorblind";
const COLUMNS: u32 = 24;
/// The parameters of a link to another dashboard: the time range, and the data source.
pub(crate) const KEPT: &str = "${__url_time_range}&${datasource:queryparam}";
/// The tag by which dashboards link to each other.
const TAG: &str = "llm-metrics";

/// The annotations of every dashboard.
pub(crate) struct Annotation {
    pub(crate) name: &'static str,
    pub(crate) expr: Expr,
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    pub(crate) color: &'static str,
}

pub(crate) fn render(
    dashboard: &Dashboard,
    annotations: &[Annotation],
    names: &Names,
    build: Build,
) -> Result<String, GenerateError> {
    let writer = Writer { dashboard, names };
    let mut value = json!({
        "annotations": { "list": writer.annotations(annotations)? },
        "description": dashboard.description,
        "editable": false,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": null,
        "links": [{
            "asDropdown": false, "icon": "external link", "includeVars": true, "keepTime": true, "tags": [TAG],
            "targetBlank": false, "title": "", "tooltip": "", "type": "dashboards", "url": "",
        }],
        "panels": writer.panels()?,
        "refresh": "30s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": { "list": writer.variables(build) },
        "time": { "from": "now-1h", "to": "now" },
        "timepicker": { "refresh_intervals": ["5s", "10s", "30s", "1m", "5m", "15m"] },
        "timezone": "",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "weekStart": "",
    });
    if build == Build::Import {
        value["__inputs"] = json!([{
            "name": "DS_PROMETHEUS", "label": "Prometheus", "description": "", "type": "datasource",
            "pluginId": "prometheus", "pluginName": "Prometheus",
        }]);
        value["__requires"] = writer.requirements();
    }
    let text = serde_json::to_string_pretty(&value).map_err(|error| GenerateError::Json(Box::new(error)))?;
    let by: String = names.by_labels().iter().map(|label| format!("&${{{label}:queryparam}}")).collect();
    Ok(text.replace(KEPT, &format!("{KEPT}{by}")) + "\n")
}

struct Writer<'a> {
    dashboard: &'a Dashboard,
    names: &'a Names,
}

impl Writer<'_> {
    fn expr(&self, of: &str, expr: &Expr, scope: Scope) -> Result<String, GenerateError> {
        let by = self.names.by_labels().iter().map(|label| (&**label, &**label));
        // Without a scope it covers everything.
        let scope: Vec<_> = if scope.is_empty() { Vec::new() } else { by.chain(scope.iter().copied()).collect() };
        expr.render_lines(self.names, Reader::Dashboard(&scope))
            .map_err(|faults| GenerateError::expression(format!("dashboard {}, {of}", self.dashboard.title), faults))
    }

    fn annotations(&self, annotations: &[Annotation]) -> Result<Vec<Value>, GenerateError> {
        let own = annotations.iter().map(|Annotation { name, expr, title, text, color }| {
            Ok(json!({
                "datasource": source(),
                "enable": true,
                "expr": self.expr(name, expr, self.dashboard.scope)?,
                "hide": false,
                "iconColor": color,
                "name": name,
                "step": "",
                "tagKeys": "instance",
                "textFormat": text,
                "titleFormat": title,
                "useValueForTime": false,
            }))
        });
        [Ok(builtin_annotations())].into_iter().chain(own).collect()
    }

    fn variables(&self, build: Build) -> Vec<Value> {
        let source = if build == Build::Import {
            json!({ "selected": true, "text": "${DS_PROMETHEUS}", "value": "${DS_PROMETHEUS}" })
        } else {
            json!({})
        };
        let datasource = json!({
            "current": source, "hide": 0, "includeAll": false, "label": "Data source", "multi": false,
            "name": "datasource", "options": [], "query": "prometheus", "refresh": 1, "regex": "",
            "skipUrlSync": false, "type": "datasource",
        });
        let of_dashboard = self.dashboard.variables.iter().map(|variable| self.variable(variable));
        let by = self.names.by_labels().iter().map(|label| self.by_variable(label));
        [datasource].into_iter().chain(by).chain(of_dashboard).collect()
    }

    /// A target label that is used together with `job`.
    fn by_variable(&self, label: &str) -> Value {
        let first = self.dashboard.variables.first().map_or(&llm_metrics::catalog::BUILD_INFO, |variable| variable.row);
        let query = format!("label_values({}, {label})", self.names.row(first));
        let mut value = choice(label, label, &query, false);
        // *All* includes targets without the label.
        value["allValue"] = json!(".*");
        value
    }

    fn variable(&self, variable: &Variable) -> Value {
        let by = self.names.by_labels().iter().map(|label| format!("{label}=~\"${label}\""));
        let within = variable.within.iter().map(|(label, by)| format!("{label}=~\"${by}\""));
        let within: Vec<_> = by.chain(within).collect();
        let selector = if within.is_empty() { String::new() } else { format!("{{{}}}", within.join(",")) };
        let query = format!("label_values({}{selector}, {})", self.names.row(variable.row), variable.label);
        let mut value = choice(variable.name, variable.title, &query, variable.single);
        let before = self.dashboard.variables.iter().take_while(|other| other.name != variable.name);
        if variable.single && before.filter(|other| other.single).any(|other| other.label == variable.label) {
            // In descending order: the second choice starts with the last value, because comparing a value with itself is useless.
            value["sort"] = json!(2);
        }
        value
    }

    /// Rows are below each other; panels are next to each other, as long as there is room.
    fn panels(&self) -> Result<Vec<Value>, GenerateError> {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        let mut next_id = || {
            id += 1;
            id
        };
        for row in &self.dashboard.rows {
            panels.push(json!({
                "collapsed": false, "gridPos": { "h": 1, "w": COLUMNS, "x": 0, "y": y }, "id": next_id(),
                "panels": [], "title": row.title, "type": "row",
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    y += tallest;
                    (x, tallest) = (0, 0);
                }
                let place = json!({ "h": panel.height, "w": panel.width, "x": x, "y": y });
                panels.push(self.panel(panel, row.empty, next_id(), &place)?);
                x += panel.width;
                tallest = tallest.max(panel.height);
            }
            y += tallest;
        }
        Ok(panels)
    }

    fn panel(&self, panel: &Panel, empty: &str, id: u32, place: &Value) -> Result<Value, GenerateError> {
        let targets = panel.targets.iter().enumerate();
        let targets =
            targets.map(|(index, target)| self.target(panel, target, index)).collect::<Result<Vec<_>, _>>()?;
        let mut value = json!({
            "datasource": source(),
            "description": panel.description,
            "fieldConfig": { "defaults": self.defaults(panel, empty), "overrides": overrides(panel) },
            "gridPos": place,
            "id": id,
            "options": options(panel),
            "targets": targets,
            "title": panel.title,
            "type": plugin(&panel.kind),
        });
        match &panel.kind {
            Kind::Table(columns) => {
                value["transformations"] = organise(columns, self.names.by_labels(), panel.targets.len() > 1)
            }
            // Cells and bars that are wide enough to see.
            Kind::Heatmap | Kind::Bars => {
                value["maxDataPoints"] = json!(80);
                // A value per minute must be counted once, and not in four adjacent bars.
                value["interval"] = json!("1m");
            }
            _ => {}
        }
        Ok(value)
    }

    fn target(&self, panel: &Panel, target: &Target, index: usize) -> Result<Value, GenerateError> {
        let (instant, format) = match panel.kind {
            Kind::Table(_) => (true, "table"),
            Kind::Heatmap => (false, "heatmap"),
            _ => (target.instant, "time_series"),
        };
        Ok(json!({
            "datasource": source(),
            "editorMode": "code",
            "exemplar": false,
            "expr": self.expr(panel.title, &target.expr, panel.scope.unwrap_or(self.dashboard.scope))?,
            "format": format,
            "instant": instant,
            "legendFormat": target.legend,
            "range": !instant,
            "refId": char::from(b'A' + u8::try_from(index).unwrap_or(25).min(25)).to_string(),
        }))
    }

    fn requirements(&self) -> Value {
        let mut kinds: Vec<_> =
            self.dashboard.rows.iter().flat_map(|row| &row.panels).map(|panel| plugin(&panel.kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let require =
            |kind: &str, id: &str, version: &str| json!({ "type": kind, "id": id, "name": id, "version": version });
        let fixed = [require("grafana", "grafana", GRAFANA), require("datasource", "prometheus", "1.0.0")];
        fixed.into_iter().chain(kinds.into_iter().map(|id| require("panel", id, ""))).collect()
    }
}

/// A variable whose values come from Prometheus.
fn choice(name: &str, title: &str, query: &str, single: bool) -> Value {
    let mut value = json!({
        "allValue": ".+",
        "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        "datasource": source(),
        "definition": query,
        "hide": 0,
        "includeAll": !single,
        "label": title,
        "multi": !single,
        "name": name,
        "options": [],
        "query": { "query": query, "refId": format!("variable-{name}") },
        "refresh": 2,
        "regex": "",
        "skipUrlSync": false,
        "sort": 1,
        "type": "query",
    });
    if single {
        value["current"] = json!({});
        value["allValue"] = Value::Null;
    }
    value
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn builtin_annotations() -> Value {
    json!({
        "builtIn": 1, "datasource": { "type": "grafana", "uid": "-- Grafana --" }, "enable": true, "hide": true,
        "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard",
    })
}

fn plugin(kind: &Kind) -> &'static str {
    match kind {
        Kind::Lines | Kind::Stacked | Kind::Bars => "timeseries",
        Kind::Stat => "stat",
        Kind::Table(_) => "table",
        Kind::Heatmap => "heatmap",
        Kind::States(_) => "state-timeline",
    }
}

impl Writer<'_> {
    fn defaults(&self, panel: &Panel, empty: &str) -> Value {
        let mut value = defaults(panel);
        let links = self.drill_down(panel);
        if !links.is_empty() {
            value["links"] = json!(links);
        }
        let why = panel.empty.unwrap_or(empty);
        value["noValue"] = json!(why);
        if panel.kind == Kind::Stat {
            // A missing value is neither good nor bad.
            let nothing = json!({ "match": "null", "result": { "color": "text", "index": 0, "text": why } });
            value["mappings"] = json!([{ "type": "special", "options": nothing }]);
        }
        value
    }

    /// The links of a series: a model leads to its latency, an instance to its process, a GPU to the GPUs.
    fn drill_down(&self, panel: &Panel) -> Vec<Value> {
        let named =
            |label: &str| panel.targets.iter().any(|target| target.legend.contains(&format!("{{{{{label}}}}}")));
        let to = |uid: &str, title: &str, labels: &[&str]| {
            let labels: String =
                labels.iter().map(|label| format!("&var-{label}=${{__field.labels.{label}}}")).collect();
            (uid != self.dashboard.uid).then(|| json!({ "title": title, "url": format!("/d/{uid}?{KEPT}{labels}") }))
        };
        let model = named("model").then(|| to("llm-latency", "Latency of this model", &["model"]));
        let gpu = named("gpu").then(|| to("llm-gpu", "This GPU", &["instance", "gpu"]));
        let alone = named("instance") && !named("gpu");
        let instance = alone.then(|| to("llm-host", "The process of this instance", &["instance"]));
        [model, gpu, instance].into_iter().flatten().flatten().collect()
    }
}

fn defaults(panel: &Panel) -> Value {
    let (below, steps) = &panel.steps;
    let first = json!({ "color": below, "value": null });
    let steps: Vec<_> = [first]
        .into_iter()
        .chain(steps.iter().map(|(value, color)| json!({ "color": color, "value": value })))
        .collect();
    let mut value = json!({
        "color": color(panel),
        "thresholds": { "mode": "absolute", "steps": steps },
        "unit": panel.unit,
    });
    if let Some(decimals) = panel.decimals {
        value["decimals"] = json!(decimals);
    }
    for (name, bound) in [("min", panel.bounds.0), ("max", panel.bounds.1)] {
        if let Some(bound) = bound {
            value[name] = json!(bound);
        }
    }
    let custom = custom(panel);
    if !custom.is_null() {
        value["custom"] = custom;
    }
    if let Kind::States(states) = &panel.kind {
        let options = states.iter().enumerate().map(|(index, (state, text, color))| {
            ((*state).to_owned(), json!({ "color": color, "index": index, "text": text }))
        });
        value["mappings"] = json!([{ "type": "value", "options": options.collect::<serde_json::Map<_, _>>() }]);
    }
    value
}

/// Colours have a meaning; series that only differ by name only get different colours.
fn color(panel: &Panel) -> Value {
    let alone = panel.targets.len() == 1 && !panel.targets[0].legend.contains("{{");
    match panel.kind {
        Kind::Stat | Kind::States(_) => json!({ "mode": "thresholds" }),
        Kind::Table(_) => json!({ "mode": "fixed", "fixedColor": "text" }),
        _ if alone => json!({ "mode": "fixed", "fixedColor": GOOD }),
        _ => json!({ "mode": PALETTE }),
    }
}

fn custom(panel: &Panel) -> Value {
    let (draw, width, fill, stacking) = match panel.kind {
        Kind::Lines => ("line", 2, 0, "none"),
        Kind::Stacked => ("line", 1, 40, "normal"),
        Kind::Bars => ("bars", 1, 80, "normal"),
        Kind::Table(_) => return json!({ "align": "auto", "cellOptions": { "type": "auto" }, "inspect": false }),
        Kind::States(_) => return json!({ "fillOpacity": 80, "lineWidth": 0 }),
        _ => return Value::Null,
    };
    let line = if panel.steps.1.is_empty() { "off" } else { "dashed" };
    let mut value = json!({
        "drawStyle": draw,
        "fillOpacity": fill,
        "lineInterpolation": "linear",
        "lineWidth": width,
        "showPoints": "never",
        "spanNulls": false,
        "stacking": { "group": "A", "mode": stacking },
        "thresholdsStyle": { "mode": line },
    });
    if let Some(reach) = panel.reach {
        value["axisSoftMax"] = json!(reach);
    }
    if panel.log {
        value["scaleDistribution"] = json!({ "type": "log", "log": 10 });
    }
    value
}

fn overrides(panel: &Panel) -> Vec<Value> {
    let colors = panel.colors.iter().map(|(name, color)| {
        json!({
            "matcher": { "id": "byName", "options": name },
            "properties": [{ "id": "color", "value": { "fixedColor": color, "mode": "fixed" } }],
        })
    });
    let dashed = panel.dashed.iter().map(|pattern| {
        json!({
            "matcher": { "id": "byRegexp", "options": format!("/{pattern}/") },
            "properties": [
                { "id": "custom.lineStyle", "value": { "dash": [6, 6], "fill": "dash" } },
                { "id": "custom.lineWidth", "value": 1 },
                { "id": "custom.fillOpacity", "value": 0 },
            ],
        })
    });
    let strokes = panel.strokes.iter().map(|(pattern, dash)| {
        json!({
            "matcher": { "id": "byRegexp", "options": format!("/{pattern}/") },
            "properties": [{ "id": "custom.lineStyle", "value": { "dash": dash, "fill": "dash" } }],
        })
    });
    // The text of an empty table must not appear in empty cells.
    let cells = matches!(panel.kind, Kind::Table(_)).then(|| {
        json!({
            "matcher": { "id": "byRegexp", "options": "/.*/" },
            "properties": [{ "id": "noValue", "value": "–" }],
        })
    });
    colors.chain(dashed).chain(strokes).chain(cells).chain(panel.columns.iter().map(column)).collect()
}

fn column(column: &Column) -> Value {
    let mut properties = vec![json!({ "id": "unit", "value": column.unit })];
    properties.extend(column.decimals.map(|decimals| json!({ "id": "decimals", "value": decimals })));
    properties.extend(column.width.map(|width| json!({ "id": "custom.width", "value": width })));
    let links = column
        .links
        .iter()
        .map(|(title, url)| json!({ "title": title, "url": url, "targetBlank": url.starts_with("http") }));
    let links: Vec<_> = links.collect();
    if !links.is_empty() {
        properties.push(json!({ "id": "links", "value": links }));
    }
    if !column.texts.is_empty() {
        let texts = column.texts.iter().enumerate();
        let options =
            texts.map(|(index, (value, text))| ((*value).to_owned(), json!({ "index": index, "text": text })));
        let options: serde_json::Map<_, _> = options.collect();
        properties.push(json!({ "id": "mappings", "value": [{ "type": "value", "options": options }] }));
        if has_sentences(column) {
            // Grafana before 12 truncates them.
            properties.push(json!({ "id": "custom.wrapText", "value": true }));
        }
    }
    if !column.steps.is_empty() {
        let first = json!({ "color": if column.bar { GOOD } else { "text" }, "value": null });
        let steps = column.steps.iter().map(|(value, color)| json!({ "color": color, "value": value }));
        let steps: Vec<_> = [first].into_iter().chain(steps).collect();
        properties.push(json!({ "id": "thresholds", "value": { "mode": "absolute", "steps": steps } }));
        properties.push(json!({ "id": "color", "value": { "mode": "thresholds" } }));
        let cell = if column.bar {
            json!({ "type": "gauge", "mode": "basic", "valueDisplayMode": "text" })
        } else {
            json!({ "type": "color-text" })
        };
        properties.push(json!({ "id": "custom.cellOptions", "value": cell }));
    }
    if column.bar {
        properties.extend([json!({ "id": "min", "value": 0 }), json!({ "id": "max", "value": 1 })]);
    }
    json!({ "matcher": { "id": "byName", "options": column.title }, "properties": properties })
}

/// Whether its description needs more than one line.
fn has_sentences(column: &Column) -> bool {
    column.texts.iter().any(|(_, text)| text.contains(' '))
}

fn options(panel: &Panel) -> Value {
    let reduce = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
    match &panel.kind {
        Kind::Lines | Kind::Stacked | Kind::Bars => {
            let wide = panel.width >= 12;
            json!({
                "legend": {
                    "calcs": if wide { json!(["lastNotNull", "max"]) } else { json!([]) },
                    "displayMode": if wide { "table" } else { "list" },
                    "placement": if wide { "right" } else { "bottom" },
                    "showLegend": true,
                },
                "tooltip": { "mode": "multi", "sort": "desc" },
            })
        }
        Kind::Stat => json!({
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto", "orientation": "auto", "reduceOptions": reduce, "textMode": "value",
        }),
        Kind::Table(_) => {
            let sort = panel.sort.iter().map(|column| json!({ "displayName": column, "desc": true }));
            // A sentence needs two lines.
            let height = if panel.columns.iter().any(has_sentences) { "md" } else { "sm" };
            json!({ "cellHeight": height, "showHeader": true, "sortBy": sort.collect::<Vec<_>>() })
        }
        Kind::Heatmap => json!({
            "calculate": false,
            "cellGap": 1,
            "color": { "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false, "scale": "exponential",
                "scheme": "Oranges", "steps": 64 },
            "exemplars": { "color": "rgba(255,0,255,0.7)" },
            "filterValues": { "le": 1e-9 },
            "legend": { "show": true },
            "rowsFrame": { "layout": "auto" },
            "tooltip": { "mode": "single", "showColorScale": false, "yHistogram": false },
            "yAxis": { "axisPlacement": "left", "reverse": false, "unit": panel.unit },
        }),
        // Without texts, it has a legend of its thresholds.
        Kind::States(states) => json!({
            "alignValue": "left",
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": states.is_empty() },
            "mergeValues": true, "rowHeight": 0.8, "showValue": if states.is_empty() { "never" } else { "auto" },
            "tooltip": { "mode": "single", "sort": "none" },
        }),
    }
}

/// Only the named columns, in their order. The labels of `service.by` come after the instance.
fn organise(columns: &[(&'static str, &'static str)], by: &[Label], several: bool) -> Value {
    // With a single target, the value is `Value`; with several, `Value #A` and so on.
    let columns = columns.iter().copied().flat_map(|column| {
        let by = by.iter().filter(move |_| column.0 == INSTANCE).map(|label| (&**label, &**label));
        [column].into_iter().chain(by)
    });
    let columns: Vec<(&str, &str)> = columns.collect();
    let names: Vec<_> = columns.iter().map(|(label, _)| *label).collect();
    let order: serde_json::Map<_, _> =
        columns.iter().enumerate().map(|(index, (label, _))| ((*label).to_owned(), json!(index))).collect();
    let titles: serde_json::Map<_, _> =
        columns.iter().map(|(label, title)| ((*label).to_owned(), json!(title))).collect();
    let merge = several.then(|| json!({ "id": "merge", "options": {} }));
    let choose = json!({ "id": "filterFieldsByName", "options": { "include": { "names": names } } });
    let arrange =
        json!({ "id": "organize", "options": { "excludeByName": {}, "indexByName": order, "renameByName": titles } });
    json!(merge.into_iter().chain([choose, arrange]).collect::<Vec<_>>())
}
