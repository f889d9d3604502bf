//! Runs the tests on the rules, together with changed copies of them.
//!
//! Most of the time of a promtool run is spent on evaluating rules at each step of a test, over hours and days. Therefore all changes are tested in
//! the same few runs. Each change has copies of the changed rule, and of all rules that depend on it, under their own names. Each expectation of a
//! test is repeated for every copy that it concerns.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use llm_metrics_monitoring::{generate, promql, slo::Slo};
use promql_parser::util::parse_duration;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{
    change::Mutant,
    rules::{Names, Rules, file_name, files_in, list, renamed, words},
};

/// A test with more steps than this is run in parts, so that fewer rules are evaluated for each part.
const LONG: u64 = 2000;
/// Tests with up to this many steps in total are run together. A change that an earlier test has noticed is not tried with later ones.
const SHORT: u64 = 300;
/// The number of changes in one run.
const TOGETHER: usize = 400;

/// The generated rules, and the tests, split into pieces.
pub(crate) struct Bench {
    folder: TempDir,
    pub(crate) rules: Rules,
    pieces: Vec<Piece>,
}

/// Tests that are run together.
struct Piece {
    name: String,
    /// The groups whose rules it reads.
    groups: Vec<String>,
    interval: Value,
    tests: Vec<Value>,
    /// The number of evaluation steps.
    work: u64,
}

/// For each change, the test that notices it.
pub(crate) type Noticed = BTreeMap<usize, String>;

impl Bench {
    pub(crate) fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let files = generate::files(&Slo::default(), &promql::Names::new()).map_err(|error| error.to_string())?;
        generate::write(&files, folder.path()).map_err(|error| error.to_string())?;
        let generated = folder.path().join("rules");
        let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
        let tests = [files_in(&generated, ".test.yml"), files_in(&written, ".test.yml")].concat();
        let mut pieces = Vec::new();
        for path in tests {
            pieces.extend(cut(&path).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        // The case of a rule notices most changes quickly. Slow tests come last, for the few remaining changes.
        pieces.sort_by_key(|piece| piece.work);
        Ok(Self { rules: Rules::of_folder(&generated), folder, pieces })
    }

    /// Runs the tests until all changes are noticed, or all tests have run.
    pub(crate) fn run(&self, mutants: &[Mutant]) -> Result<Noticed, String> {
        let cones: BTreeMap<usize, Names> =
            mutants.iter().map(|mutant| (mutant.rule, self.rules.made_of(&self.rules.0[mutant.rule].name))).collect();
        let mut noticed = Noticed::new();
        for piece in &self.pieces {
            let left: Vec<_> = (0..mutants.len()).filter(|index| !noticed.contains_key(index)).collect();
            for some in left.chunks(TOGETHER) {
                let copies: Vec<_> =
                    some.iter().filter_map(|index| Copy::of(self, piece, *index, mutants, &cones)).collect();
                let failed = self.fail(piece, copies)?;
                noticed.extend(failed.into_iter().map(|index| (index, piece.name.clone())));
            }
        }
        Ok(noticed)
    }

    /// The changes for which a test of this piece fails.
    fn fail(&self, piece: &Piece, mut copies: Vec<Copy<'_>>) -> Result<BTreeSet<usize>, String> {
        let mut all = BTreeSet::new();
        while !copies.is_empty() {
            let said = self.promtool(piece, &copies)?;
            let failed = Said::read(&said);
            if let Some(line) = failed.unchanged {
                return Err(format!("{}: fails on the unchanged rules: {line}\n{said}", piece.name));
            }
            // A rule that cannot be evaluated stops its test, so later expectations of that test were not checked.
            copies.retain(|copy| !failed.changes.contains(&copy.number));
            all.extend(failed.changes);
            if !failed.ended {
                break;
            }
        }
        Ok(all.into_iter().map(|number| number - 1).collect())
    }

    fn promtool(&self, piece: &Piece, copies: &[Copy<'_>]) -> Result<String, String> {
        let io = |error: std::io::Error| error.to_string();
        let as_is = Copy::unchanged(self, piece);
        let copies: Vec<_> = [&as_is].into_iter().chain(copies).collect();
        let [rules, tests] = ["rules.json", "tests.json"].map(|name| self.folder.path().join(name));
        fs::write(&rules, self.rules_beside(piece, &copies).to_string()).map_err(io)?;
        let of_test = |test: &Value| {
            let mut test = test.clone();
            for field in ["alert_rule_test", "promql_expr_test"] {
                let asked = list(&test[field]).flat_map(|asked| copies.iter().filter_map(move |copy| copy.asks(asked)));
                test[field] = json!(asked.collect::<Vec<_>>());
            }
            test
        };
        let file = json!({
            "rule_files": [rules],
            "evaluation_interval": piece.interval,
            "group_eval_order": self.groups_of(piece, &as_is.needed),
            "tests": piece.tests.iter().map(of_test).collect::<Vec<_>>(),
        });
        fs::write(&tests, file.to_string()).map_err(io)?;
        let output = Command::new("promtool").args(["test", "rules"]).arg(&tests).output();
        let output =
            output.map_err(|error| format!("promtool cannot be run ({error}): .ci/install-tools installs it"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }

    fn groups_of<'a>(&'a self, piece: &'a Piece, needed: &Names) -> Vec<&'a String> {
        let has =
            |group: &&String| self.rules.0.iter().any(|rule| rule.group == **group && needed.contains(&rule.name));
        piece.groups.iter().filter(has).collect()
    }

    /// The required rules, each followed by its copies.
    fn rules_beside(&self, piece: &Piece, copies: &[&Copy<'_>]) -> Value {
        let needed = &copies[0].needed;
        let group = |name: &String| {
            let rules = self.rules.0.iter().enumerate();
            let rules = rules.filter(|(_, rule)| rule.group == *name && needed.contains(&rule.name));
            let with_copies = |(index, rule): (usize, &crate::rules::Rule)| {
                let copied = copies.iter().filter_map(move |copy| copy.rule(index, &rule.name, &rule.value));
                let mut as_is = rule.value.clone();
                if let Some(fields) = as_is.as_object_mut() {
                    fields.remove("annotations");
                }
                std::iter::once(as_is).chain(copied).collect::<Vec<_>>()
            };
            json!({"name": name, "rules": rules.flat_map(with_copies).collect::<Vec<_>>()})
        };
        json!({"groups": self.groups_of(piece, needed).into_iter().map(group).collect::<Vec<_>>()})
    }
}

/// Copies of a changed rule and of the rules that depend on it, for one piece.
struct Copy<'a> {
    /// Starts at 1; 0 means unchanged.
    number: usize,
    mutant: Option<&'a Mutant>,
    /// Additional labels of a changed alert: only this one of the alerts with its name is copied.
    labels: Option<&'a Map<String, Value>>,
    /// The copied rules.
    names: Names,
    /// The alerts among them.
    alerts: Names,
    /// All series that the expectations of the piece read.
    needed: Names,
}

impl<'a> Copy<'a> {
    /// The unchanged rules, for which no test may fail.
    fn unchanged(bench: &'a Bench, piece: &Piece) -> Self {
        let needed = bench.rules.needed_by(bench.asked(piece, None));
        let names =
            bench.rules.0.iter().map(|rule| &rule.name).filter(|name| needed.contains(*name)).cloned().collect();
        Self::new(bench, 0, None, names, needed)
    }

    /// `None` if no expectation of the piece concerns the change.
    fn of(
        bench: &'a Bench,
        piece: &Piece,
        index: usize,
        mutants: &'a [Mutant],
        cones: &BTreeMap<usize, Names>,
    ) -> Option<Self> {
        let mutant = &mutants[index];
        let cone = &cones[&mutant.rule];
        let asked = bench.asked(piece, Some(cone));
        let needed = bench.rules.needed_by(asked);
        let names: Names = needed.intersection(cone).cloned().collect();
        let in_groups = piece.groups.contains(&bench.rules.0[mutant.rule].group);
        (in_groups && !names.is_empty()).then(|| Self::new(bench, index + 1, Some(mutant), names, needed))
    }

    fn new(bench: &'a Bench, number: usize, mutant: Option<&'a Mutant>, names: Names, needed: Names) -> Self {
        let rule = mutant.map(|mutant| &bench.rules.0[mutant.rule]).filter(|rule| rule.is_alert());
        let is_alert = |name: &&String| bench.rules.0.iter().any(|rule| rule.is_alert() && rule.name == **name);
        let alerts = names.iter().filter(is_alert).cloned().collect();
        Self { number, mutant, labels: rule.and_then(|rule| rule.value["labels"].as_object()), names, alerts, needed }
    }

    fn suffix(&self) -> String {
        format!("__m{}", self.number)
    }

    /// The copy of a rule, if there is one.
    fn rule(&self, index: usize, name: &str, value: &Value) -> Option<Value> {
        let changed = self.mutant.filter(|mutant| mutant.rule == index);
        if !self.names.contains(name) || (self.labels.is_some() && changed.is_none()) {
            return None;
        }
        let changed = changed.map_or(value, |mutant| &mutant.changed);
        let mut copy = changed.clone();
        // Texts take the most time. This one only has the value.
        if let Some(texts) = copy["annotations"].as_object_mut() {
            texts.retain(|name, _| name == "summary");
        }
        let field = if changed["alert"].is_string() { "alert" } else { "record" };
        copy[field] = json!(name.to_owned() + &self.suffix());
        copy["expr"] = json!(renamed(changed["expr"].as_str()?, &self.names, &self.suffix()));
        Some(copy)
    }

    /// The expectation for the copy, if it concerns a copied rule.
    fn asks(&self, asked: &Value) -> Option<Value> {
        let mut copy = asked.clone();
        if let Some(alert) = asked["alertname"].as_str() {
            copy["alertname"] = json!(alert.to_owned() + &self.suffix());
            if let Some(expected) = copy["exp_alerts"].as_array_mut() {
                expected.retain(|alert| self.is_copied(&alert["exp_labels"]));
                for texts in expected.iter_mut().filter_map(|alert| alert["exp_annotations"].as_object_mut()) {
                    texts.retain(|name, _| name == "summary");
                }
            }
            return self.alerts.contains(alert).then_some(copy);
        }
        let expr = asked["expr"].as_str()?;
        // One of several alerts of the same name.
        let is_of_other =
            |own: &Map<String, Value>| own.iter().any(|(name, value)| !expr.contains(&format!("{name}={value}")));
        if expr.contains("alertname=\"") && self.labels.is_some_and(is_of_other) {
            return None;
        }
        let of_copy = self.of_alerts(&renamed(expr, &self.names, &self.suffix()));
        copy["expr"] = json!(of_copy);
        // In labels, only recorded series are renamed: a query returns alerts under their original names.
        let recorded = self.names.difference(&self.alerts).cloned().collect();
        for sample in copy["exp_samples"].as_array_mut().into_iter().flatten() {
            let labels = sample["labels"].as_str().unwrap_or_default();
            sample["labels"] = json!(renamed(labels, &recorded, &self.suffix()));
        }
        (of_copy != expr).then_some(copy)
    }

    /// Whether an alert with these labels is from a copied rule.
    fn is_copied(&self, labels: &Value) -> bool {
        self.labels.is_none_or(|own| own.iter().all(|(name, value)| labels[name] == *value))
    }

    /// `ALERTS`, as if the copies had replaced the original rules.
    fn of_alerts(&self, expr: &str) -> String {
        if self.alerts.is_empty() || !expr.contains("ALERTS") || expr.contains("alertname=\"") {
            return expr.to_owned();
        }
        let (before, after) = expr.split_once("ALERTS").unwrap_or((expr, ""));
        let (matchers, rest) = match after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            Some((matchers, rest)) => (format!("{matchers},"), rest),
            None => (String::new(), after),
        };
        let suffix = self.suffix();
        let copied = self.alerts.iter().map(String::as_str).collect::<Vec<_>>().join("|");
        let of_copies = with_suffix(&matchers, &suffix);
        let changed = format!(r#"ALERTS{{{of_copies}alertname=~".+{suffix}"}}"#);
        let changed = format!(r#"label_replace({changed},"alertname","$1","alertname","(.+){suffix}")"#);
        let mut all = format!(r#"{changed} or ALERTS{{{matchers}alertname!~"{copied}|.+__m[0-9]+"}}"#);
        if let Some(labels) = self.labels {
            let own: String = labels.iter().map(|(name, value)| format!(",{name}={value}")).collect();
            let of_name = |own: &str| format!(r#"ALERTS{{{matchers}alertname="{copied}"{own}}}"#);
            all += &format!(" or ({} unless {})", of_name(""), of_name(&own));
        }
        format!("{before}({all}){}", self.of_alerts(rest))
    }
}

/// The matchers for copies: a regular expression that matches an alert's name also matches that of its copy.
fn with_suffix(matchers: &str, suffix: &str) -> String {
    ["alertname=~\"", "alertname!~\""].into_iter().fold(matchers.to_owned(), |matchers, before| {
        let Some((ahead, after)) = matchers.split_once(before) else { return matchers };
        let Some((pattern, behind)) = after.split_once('"') else { return matchers };
        format!(r#"{ahead}{before}(?:{pattern}){suffix}"{behind}"#)
    })
}

impl Bench {
    /// The words in the expectations of a piece, for these names or for all.
    fn asked(&self, piece: &Piece, of: Option<&Names>) -> Names {
        let alerts = || self.rules.0.iter().filter(|rule| rule.is_alert() && piece.groups.contains(&rule.group));
        let words_of = |asked: &Value| {
            let mut words = words(asked["expr"].as_str().unwrap_or_default());
            words.extend(asked["alertname"].as_str().map(str::to_owned));
            if words.contains("ALERTS") && !words.contains("alertname") {
                words.extend(alerts().map(|rule| rule.name.clone()));
            }
            words
        };
        let tests = piece.tests.iter();
        let asked = tests.flat_map(|test| list(&test["alert_rule_test"]).chain(list(&test["promql_expr_test"])));
        let words = asked.map(words_of);
        words.filter(|words| of.is_none_or(|of| !of.is_disjoint(words))).flatten().collect()
    }
}

/// The result of promtool for the copies.
#[derive(Default)]
struct Said {
    /// A line about unchanged rules, if a test of these failed.
    unchanged: Option<String>,
    changes: BTreeSet<usize>,
    /// A test stopped before its end.
    ended: bool,
}

impl Said {
    fn read(said: &str) -> Self {
        let mut all = Self::default();
        for line in said.lines().map(str::trim_start) {
            let is_rule = line.starts_with("rule: ");
            if !is_rule && !line.starts_with("alertname: ") && !line.starts_with("expr: ") {
                continue;
            }
            let numbers = line.split("__m").skip(1).map(|rest| {
                let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
                rest[..digits].parse::<usize>()
            });
            all.ended |= is_rule;
            match numbers.flatten().next() {
                None | Some(0) => all.unchanged = Some(line.to_owned()),
                Some(number) => all.changes.extend([number]),
            }
        }
        let understood = said.contains("SUCCESS") || all.unchanged.is_some() || !all.changes.is_empty();
        if !understood {
            all.unchanged = Some("promtool did not run the tests".to_owned());
        }
        all
    }
}

/// Splits a file of tests: generated tests by alert, written ones by test, and slow ones by expectation.
fn cut(path: &PathBuf) -> Result<Vec<Piece>, Box<dyn std::error::Error>> {
    let file: Value = serde_saphyr::from_str(&fs::read_to_string(path)?)?;
    let groups: Vec<_> = list(&file["group_eval_order"]).filter_map(Value::as_str).map(str::to_owned).collect();
    let piece = |name: &str, tests: Vec<Value>| {
        let interval = file["evaluation_interval"].clone();
        let work = tests.iter().map(|test| steps(test, &interval)).sum();
        Piece { name: format!("{} {name}", file_name(path)), groups: groups.clone(), interval, tests, work }
    };
    let mut by_alert: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for test in list(&file["tests"]) {
        let name = test["name"].as_str().unwrap_or_default();
        by_alert.entry(name.split(':').next().unwrap_or_default().to_owned()).or_default().push(test.clone());
    }
    let mut pieces = Vec::new();
    for (name, mut tests) in by_alert {
        let interval = &file["evaluation_interval"];
        tests.sort_by_key(|test| steps(test, interval));
        let mut together = Vec::new();
        for test in tests {
            let asked: Vec<_> = list(&test["promql_expr_test"]).cloned().collect();
            if steps(&test, interval) > LONG && asked.len() > 1 {
                let of = |asked: &Value| {
                    let mut part = test.clone();
                    part["promql_expr_test"] = json!([asked]);
                    piece(&format!("{name}: {}", asked["expr"].as_str().unwrap_or_default()), vec![part])
                };
                pieces.extend(asked.iter().map(of));
                continue;
            }
            let before: u64 = together.iter().map(|test| steps(test, interval)).sum();
            if before + steps(&test, interval) > SHORT && before > 0 {
                pieces.push(piece(&name, std::mem::take(&mut together)));
            }
            together.push(test);
        }
        if !together.is_empty() {
            pieces.push(piece(&name, together));
        }
    }
    Ok(pieces)
}

/// The number of evaluations of a test.
fn steps(test: &Value, interval: &Value) -> u64 {
    let seconds =
        |text: &Value| text.as_str().and_then(|text| parse_duration(text).ok()).map_or(60, |time| time.as_secs());
    let asked = list(&test["alert_rule_test"]).chain(list(&test["promql_expr_test"]));
    let last = asked.map(|asked| seconds(&asked["eval_time"])).max().unwrap_or(0);
    last / seconds(interval).max(1)
}
