//! Runbooks: the facts about an alert are generated, what to do about it is written by hand below them.

use std::fmt::Write;

use crate::{alerts::Alert, generate::GenerateError, promql::Names, rule_file::spell};

/// What ends the generated part.
pub const END: &str = "<!-- /generated -->\n";

/// The generated part of an alert's runbook: what fires, after how long, and which settings it depends on.
///
/// # Errors
/// When an expression is wrong.
pub fn head(alert: &Alert, names: &Names) -> Result<String, GenerateError> {
    let mut page = format!(
        "<!-- generated: BLESS=1 cargo test -p llm-metrics-monitoring --test runbooks -->\n# {}\n\n",
        alert.name
    );
    let _ = writeln!(page, "> {}\n", alert.summary);
    let _ = writeln!(page, "{}\n", alert.description);
    if !alert.settings.is_empty() {
        let settings: Vec<_> = alert.settings.iter().map(|setting| format!("`{setting}`")).collect();
        let _ = writeln!(page, "Set in `slo.yaml`: {}.\n", settings.join(", "));
    }
    for variant in &alert.variants {
        let labels: Vec<_> = variant.labels.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(" ({})", labels.join(", ")) };
        let hold = match variant.hold.as_seconds() {
            Some(0) => "at once".to_owned(),
            _ => format!("after {}", variant.hold),
        };
        let keep = variant.keep.map_or_else(String::new, |keep| format!(", and for {keep} longer"));
        let _ = writeln!(page, "**{}**{labels}, {hold}{keep}:\n", variant.severity.as_str());
        let _ = writeln!(page, "```promql\n{}\n```\n", spell(alert.name, &variant.expr, names)?);
    }
    page += END;
    Ok(page)
}
