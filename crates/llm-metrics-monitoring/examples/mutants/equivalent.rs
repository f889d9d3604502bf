//! Changes that no test can notice, each with the reason.

use serde::Deserialize;

use crate::{
    change::Mutant,
    rules::{Rule, Rules},
    run::Noticed,
};

/// The content of `equivalent.yml`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Equivalents(Vec<Entry>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The names of the rules.
    rules: Vec<String>,
    /// The changed text, for reports.
    changes: Vec<String>,
    /// Why the change makes no difference.
    reason: String,
}

impl Equivalents {
    pub(crate) fn read() -> Result<Self, String> {
        serde_saphyr::from_str(include_str!("equivalent.yml")).map_err(|error| format!("equivalent.yml: {error}"))
    }

    /// Why this change makes no difference, if it is listed.
    pub(crate) fn reason(&self, rule: &Rule, mutant: &Mutant) -> Option<&str> {
        self.0.iter().find(|entry| entry.lists(rule, mutant)).map(|entry| entry.reason.as_str())
    }

    /// The entries without a change that goes unnoticed.
    pub(crate) fn stale<'a>(&'a self, rules: &'a Rules, mutants: &'a [Mutant], noticed: &'a Noticed) -> Vec<String> {
        let unnoticed: Vec<_> = mutants.iter().enumerate().filter(|(index, _)| !noticed.contains_key(index)).collect();
        let listed = self.0.iter().flat_map(|entry| {
            entry.rules.iter().flat_map(move |rule| entry.changes.iter().map(move |change| (rule, change)))
        });
        let none = |(name, change): &(&String, &String)| {
            !unnoticed.iter().any(|(_, mutant)| rules.0[mutant.rule].name == **name && mutant.what == **change)
        };
        listed.filter(none).map(|(rule, change)| format!("{rule}: {change}")).collect()
    }
}

impl Entry {
    fn lists(&self, rule: &Rule, mutant: &Mutant) -> bool {
        self.rules.contains(&rule.name) && self.changes.contains(&mutant.what)
    }
}
