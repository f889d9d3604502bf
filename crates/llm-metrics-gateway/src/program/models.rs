//! The known models, which become values of the label `model`.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use llm_metrics::LabelPolicy;

/// The models of every upstream that has reported its list.
#[derive(Clone, Debug)]
pub(crate) struct ModelNames(Arc<RwLock<Names>>);

#[derive(Debug)]
struct Names {
    /// By upstream.
    lists: HashMap<String, BTreeSet<String>>,
    upstreams: usize,
}

impl ModelNames {
    /// The number of upstreams that have it.
    pub(crate) fn new(upstreams: usize) -> Self {
        Self(Arc::new(RwLock::new(Names { lists: HashMap::new(), upstreams })))
    }

    /// The current models of an upstream.
    pub(crate) fn are(&self, upstream: &str, models: BTreeSet<String>) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.lists.insert(upstream.to_owned(), models);
    }

    /// Allows at most `cap` names, each of an existing model. Until an upstream has reported its list, any name of an accepted request is allowed.
    pub(crate) fn policy(&self, cap: usize) -> LabelPolicy {
        let names = self.clone();
        LabelPolicy::first_accepted(cap).map(move |name| names.label(name))
    }

    fn label<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is = |name: &str| names.lists.values().any(|models| models.contains(name));
        if is(name) {
            return Cow::Borrowed(name);
        }
        // Ollama's `llama3` is `llama3:latest`.
        if !names.lists.is_empty() && !name.contains(':') {
            let latest = format!("{name}:latest");
            if is(&latest) {
                return Cow::Owned(latest);
            }
        }
        // An empty name counts under `other`.
        Cow::Borrowed(if names.lists.len() < names.upstreams { name } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_unknown_model_name_is_not_a_label_value() {
        let names = ModelNames::new(2);
        names.are("a", set(&["qwen3:4b", "llama3:latest"]));
        assert_eq!(names.label("made-up"), "made-up", "the other may have it");
        names.are("b", set(&["gpt-oss"]));
        for (asked, label) in [
            ("qwen3:4b", "qwen3:4b"),
            ("llama3", "llama3:latest"),
            ("gpt-oss", "gpt-oss"),
            ("made-up", ""),
            ("qwen3", ""),
        ] {
            assert_eq!(names.label(asked), label, "{asked}");
        }
    }

    #[test]
    fn a_list_that_changes_changes_the_labels() {
        let names = ModelNames::new(1);
        names.are("a", set(&["old"]));
        names.are("a", set(&["new"]));
        assert_eq!((names.label("old"), names.label("new")), ("".into(), "new".into()));
    }
}
