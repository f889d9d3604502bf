//! Dashboards as Grafana's JSON: schema version 39, which every Grafana from 10.3 on reads and later ones migrate.

use serde_json::{Value, json};

use super::model::{Dashboard, Kind, Panel, Scope, Target, Variable};
use crate::{
    generate::GenerateError,
    promql::{Expr, Names, Reader},
};

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// To be put into a folder that Grafana reads.
    Provisioning,
    /// To be imported by hand: Grafana asks for the data source.
    Import,
}

const SCHEMA_VERSION: u32 = 39;
const COLUMNS: u32 = 24;
/// The tag by which dashboards find each other.
const TAG: &str = "llm-metrics";

pub(crate) fn render(
    dashboard: &Dashboard,
    annotation: &Expr,
    names: &Names,
    build: Build,
) -> Result<String, GenerateError> {
    let writer = Writer { dashboard, names };
    let mut value = json!({
        "annotations": { "list": [builtin_annotations(), writer.annotation(annotation)?] },
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
        "timepicker": {},
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
    serde_json::to_string_pretty(&value)
        .map(|text| text + "\n")
        .map_err(|error| GenerateError::Json { message: error.to_string() })
}

struct Writer<'a> {
    dashboard: &'a Dashboard,
    names: &'a Names,
}

impl Writer<'_> {
    fn expr(&self, of: &str, expr: &Expr, scope: Scope) -> Result<String, GenerateError> {
        expr.render_lines(self.names, Reader::Dashboard(scope)).map_err(|faults| GenerateError::Expression {
            what: format!("dashboard {}, {of}", self.dashboard.title),
            faults,
        })
    }

    fn annotation(&self, expr: &Expr) -> Result<Value, GenerateError> {
        let name = "Model switches";
        Ok(json!({
            "datasource": source(),
            "enable": true,
            "expr": self.expr(name, expr, self.dashboard.scope)?,
            "hide": false,
            "iconColor": "purple",
            "name": name,
            "step": "",
            "tagKeys": "instance",
            "textFormat": "on {{instance}}",
            "titleFormat": "{{model}} loaded",
            "useValueForTime": false,
        }))
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
        let others = self.dashboard.variables.iter().map(|variable| self.variable(variable));
        [datasource].into_iter().chain(others).collect()
    }

    fn variable(&self, variable: &Variable) -> Value {
        let within: Vec<_> = variable.within.iter().map(|(label, by)| format!("{label}=~\"${by}\"")).collect();
        let selector = if within.is_empty() { String::new() } else { format!("{{{}}}", within.join(",")) };
        let query = format!("label_values({}{selector}, {})", self.names.row(variable.row), variable.label);
        json!({
            "allValue": ".+",
            "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
            "datasource": source(),
            "definition": query,
            "hide": 0,
            "includeAll": true,
            "label": variable.title,
            "multi": true,
            "name": variable.name,
            "options": [],
            "query": { "query": query, "refId": format!("variable-{}", variable.name) },
            "refresh": 2,
            "regex": "",
            "skipUrlSync": false,
            "sort": 1,
            "type": "query",
        })
    }

    /// Rows below each other, panels beside each other as long as there is room.
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
                panels.push(self.panel(panel, next_id(), &place)?);
                x += panel.width;
                tallest = tallest.max(panel.height);
            }
            y += tallest;
        }
        Ok(panels)
    }

    fn panel(&self, panel: &Panel, id: u32, place: &Value) -> Result<Value, GenerateError> {
        let targets = panel.targets.iter().enumerate();
        let targets =
            targets.map(|(index, target)| self.target(panel, target, index)).collect::<Result<Vec<_>, _>>()?;
        let mut value = json!({
            "datasource": source(),
            "description": panel.description,
            "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel) },
            "gridPos": place,
            "id": id,
            "options": options(panel),
            "targets": targets,
            "title": panel.title,
            "type": plugin(&panel.kind),
        });
        match &panel.kind {
            Kind::Table(columns) => value["transformations"] = organise(columns),
            // Cells and bars that are wide enough to be seen.
            Kind::Heatmap | Kind::Bars => value["maxDataPoints"] = json!(80),
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
        let fixed = [require("grafana", "grafana", "10.3.0"), require("datasource", "prometheus", "1.0.0")];
        fixed.into_iter().chain(kinds.into_iter().map(|id| require("panel", id, ""))).collect()
    }
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
        Kind::BarGauge => "bargauge",
        Kind::Table(_) => "table",
        Kind::Heatmap => "heatmap",
        Kind::States(_) => "state-timeline",
    }
}

fn defaults(panel: &Panel) -> Value {
    let (below, steps) = &panel.steps;
    let first = json!({ "color": below, "value": null });
    let steps: Vec<_> = [first]
        .into_iter()
        .chain(steps.iter().map(|(value, color)| json!({ "color": color, "value": value })))
        .collect();
    let by_value = matches!(panel.kind, Kind::Stat | Kind::BarGauge | Kind::States(_));
    let mut value = json!({
        "color": { "mode": if by_value { "thresholds" } else { "palette-classic" } },
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
    colors.chain(dashed).collect()
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
        Kind::BarGauge => json!({
            "displayMode": "basic", "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "auto",
            "orientation": "horizontal", "reduceOptions": reduce, "showUnfilled": true, "sizing": "auto", "valueMode": "color",
        }),
        Kind::Table(_) => json!({ "cellHeight": "sm", "showHeader": true }),
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
        Kind::States(_) => json!({
            "alignValue": "left",
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": false },
            "mergeValues": true, "rowHeight": 0.8, "showValue": "auto",
            "tooltip": { "mode": "single", "sort": "none" },
        }),
    }
}

/// Only the columns that were named, in their order.
fn organise(columns: &[(&'static str, &'static str)]) -> Value {
    // A single target's value is `Value`; where there are several, `Value #A` and so on.
    let names: Vec<_> = columns.iter().map(|(label, _)| *label).collect();
    let order: serde_json::Map<_, _> =
        columns.iter().enumerate().map(|(index, (label, _))| ((*label).to_owned(), json!(index))).collect();
    let titles: serde_json::Map<_, _> =
        columns.iter().map(|(label, title)| ((*label).to_owned(), json!(title))).collect();
    json!([
        { "id": "filterFieldsByName", "options": { "include": { "names": names } } },
        { "id": "organize", "options": { "excludeByName": {}, "indexByName": order, "renameByName": titles } },
    ])
}
