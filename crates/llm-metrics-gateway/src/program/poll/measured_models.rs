//! The models that have series of their own.

use std::collections::{BTreeMap, BTreeSet};

use llm_metrics::{LabelPolicy, MAX_NAME_BYTES};

/// The maximum number of names of models, since the process started.
pub(super) const MAX_MODELS: usize = 256;

/// The handles of each model's series. A series stays on the page until the process ends, so a model keeps its place after the engine has unloaded it.
pub(super) struct MeasuredModels<T> {
    by_name: BTreeMap<String, T>,
    /// The reasons that were logged, once each.
    logged: BTreeSet<&'static str>,
}

impl<T> MeasuredModels<T> {
    pub(super) fn new() -> Self {
        Self { by_name: BTreeMap::new(), logged: BTreeSet::new() }
    }

    /// The handles of a model, if it has some.
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.by_name.get(name)
    }

    /// The handles of a model. `None` if its name is not a valid label value, or if there are too many names.
    pub(super) fn get_or_insert_with(&mut self, name: &str, new: impl FnOnce() -> T) -> Option<&mut T> {
        if !self.by_name.contains_key(name) {
            if let Some(reason) = self.rejection(name) {
                if self.logged.insert(reason) {
                    let start: String = name.chars().take(MAX_NAME_BYTES).collect();
                    tracing::warn!(model = ?start, "the metrics of this model are left out: {reason}");
                }
                return None;
            }
            self.by_name.insert(name.to_owned(), new());
        }
        self.by_name.get_mut(name)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.by_name.iter_mut().map(|(name, handles)| (name.as_str(), handles))
    }

    fn rejection(&self, name: &str) -> Option<&'static str> {
        if !LabelPolicy::is_label_value(name) {
            Some(
                "its name is not a valid label value; let the engine serve it under a shorter name, without control characters and backslashes",
            )
        } else if self.by_name.len() >= MAX_MODELS {
            Some("too many models had metrics since the gateway started; a restart forgets those that are gone")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_limit_no_model_is_added_and_known_ones_are_found() {
        let mut models = MeasuredModels::new();
        let mut add = |n: usize| models.get_or_insert_with(&format!("m{n}"), || n).copied();
        assert!((0..MAX_MODELS).all(|n| add(n) == Some(n)));
        assert_eq!((add(MAX_MODELS), add(0)), (None, Some(0)));
        assert_eq!((models.get("m1"), models.get("m256")), (Some(&1), None));
        assert_eq!((models.iter_mut().count(), models.logged.len()), (MAX_MODELS, 1));
    }

    #[test]
    fn a_name_that_is_not_a_label_value_has_no_series() {
        let mut models = MeasuredModels::new();
        let long = "m".repeat(MAX_NAME_BYTES + 1);
        for name in ["", &long, "a\nb", "a\\b"] {
            assert_eq!(models.get_or_insert_with(name, || ()), None, "{name:?}");
        }
        assert!(models.get_or_insert_with(&long[1..], || ()).is_some());
        assert_eq!(models.logged.len(), 1);
    }
}
