//! The generated rules, and the dependencies between them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Names of alerts and of recorded series.
pub(crate) type Names = BTreeSet<String>;

/// A rule and its location.
pub(crate) struct Rule {
    pub(crate) file: String,
    pub(crate) group: String,
    /// The name of the alert or of the recorded series.
    pub(crate) name: String,
    pub(crate) value: Value,
    /// The words of its expression, which include the names of the series that it reads.
    words: Names,
}

impl Rule {
    pub(crate) fn is_alert(&self) -> bool {
        self.value["alert"].is_string()
    }
}

/// All rules. The rules of a group are in the order of evaluation.
pub(crate) struct Rules(pub(crate) Vec<Rule>);

impl Rules {
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let paths = [".rules.yml", ".alerts.yml"].iter().flat_map(|ending| files_in(folder, ending));
        let rules = paths.flat_map(|path| of_text(&file_name(&path), &fs::read_to_string(path).unwrap_or_default()));
        Self(rules.collect())
    }

    /// The rules that differ from those at this revision.
    pub(crate) fn changed_since(&self, revision: &str) -> Result<BTreeSet<usize>, String> {
        let git = |arguments: &[&str]| Command::new("git").args(arguments).output().map_err(|error| error.to_string());
        if !git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])?.status.success() {
            return Err(format!("git knows no revision {revision}"));
        }
        let mut changed = BTreeSet::new();
        let files: BTreeSet<_> = self.0.iter().map(|rule| &rule.file).collect();
        for file in files {
            let output = git(&["show", &format!("{revision}:examples/monitoring/rules/{file}")])?;
            // A file that did not exist then is completely new.
            let before = if output.status.success() { String::from_utf8_lossy(&output.stdout) } else { "".into() };
            let before = of_text(file, &before);
            let rules = self.0.iter().enumerate().filter(|(_, rule)| rule.file == *file);
            // Other tests check the texts.
            let same = |rule: &Rule, other: &Rule| {
                let fields = ["alert", "record", "expr", "for", "keep_firing_for", "labels"];
                fields.iter().all(|field| rule.value[field] == other.value[field])
            };
            let new = rules.filter(|(_, rule)| !before.iter().any(|other| same(rule, other)));
            changed.extend(new.map(|(index, _)| index));
        }
        Ok(changed)
    }

    /// The rule of that name, and all rules that depend on it.
    pub(crate) fn made_of(&self, name: &str) -> Names {
        grow([name.to_owned()].into(), |known| {
            let made = self.0.iter().filter(|rule| !rule.words.is_disjoint(known));
            made.map(|rule| rule.name.clone()).collect()
        })
    }

    /// These words, and all series on which the rules among them depend.
    pub(crate) fn needed_by(&self, words: Names) -> Names {
        grow(words, |known| {
            let needed = self.0.iter().filter(|rule| known.contains(&rule.name));
            needed.flat_map(|rule| rule.words.iter().cloned()).collect()
        })
    }
}

fn grow(mut known: Names, further: impl Fn(&Names) -> Names) -> Names {
    loop {
        let before = known.len();
        known.extend(further(&known));
        if known.len() == before {
            return known;
        }
    }
}

fn of_text(file: &str, text: &str) -> Vec<Rule> {
    let read: Value = serde_saphyr::from_str(text).unwrap_or_default();
    let of_group = |group: &Value| {
        let group_name = group["name"].as_str().unwrap_or_default().to_owned();
        let rule = move |value: &Value| Rule {
            file: file.to_owned(),
            group: group_name.clone(),
            name: value["alert"].as_str().or_else(|| value["record"].as_str()).unwrap_or_default().to_owned(),
            words: words(value["expr"].as_str().unwrap_or_default()),
            value: value.clone(),
        };
        list(&group["rules"]).map(rule).collect::<Vec<_>>()
    };
    list(&read["groups"]).flat_map(of_group).collect()
}

/// The words of an expression.
pub(crate) fn words(expr: &str) -> Names {
    pieces(expr).filter(|(is_word, _)| *is_word).map(|(_, word)| word.to_owned()).collect()
}

/// The expression with these names followed by `suffix`.
pub(crate) fn renamed(expr: &str, names: &Names, suffix: &str) -> String {
    let renamed =
        pieces(expr).map(|(_, piece)| if names.contains(piece) { piece.to_owned() + suffix } else { piece.to_owned() });
    renamed.collect()
}

/// An expression, split into words and the text between them.
fn pieces(expr: &str) -> impl Iterator<Item = (bool, &str)> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    let mut rest = expr;
    std::iter::from_fn(move || {
        let word = is_word(rest.chars().next()?);
        let (piece, after) = rest.split_at(rest.find(|char| is_word(char) != word).unwrap_or(rest.len()));
        rest = after;
        Some((word, piece))
    })
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn files_in(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}
