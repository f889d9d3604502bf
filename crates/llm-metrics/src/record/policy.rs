//! Which strings may become label values.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use foldhash::fast::RandomState;

/// The longest name that can become a label value, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// How many names are learnt where nothing else is said.
pub(crate) const DEFAULT_CAP: usize = 64;

/// Decides which names become values of a label. Whatever it decides, the number of values is bounded, and a name that
/// does not become one counts under `other`, so that totals stay exact.
///
/// ```
/// use llm_metrics::LabelPolicy;
///
/// // These, and nothing else:
/// let fixed = LabelPolicy::only(["Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-14B"]);
/// // The first 32 names that a request was accepted with; case and a provider prefix make no difference:
/// let learnt = LabelPolicy::first_accepted(32)
///     .map(|name| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase().into());
/// # let _ = (fixed, learnt);
/// ```
///
/// Names are learnt from *accepted* requests only (a response with a status of 2xx): a caller who makes names up cannot
/// fill the table. Names that are longer than [`MAX_NAME_BYTES`] or hold control characters or backslashes never become
/// values.
#[derive(Clone)]
pub struct LabelPolicy {
    declared: Arc<[Arc<str>]>,
    /// How many names may be learnt beside the declared ones.
    learn: usize,
    map: Option<Map>,
}

type Map = Arc<dyn Fn(&str) -> Cow<'_, str> + Send + Sync>;

impl LabelPolicy {
    /// The given values and no others.
    pub fn only<I>(values: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Arc<str>>,
    {
        Self { declared: values.into_iter().map(Into::into).collect(), learn: 0, map: None }
    }

    /// The first `cap` names that come with accepted requests.
    #[must_use]
    pub fn first_accepted(cap: usize) -> Self {
        Self { declared: Arc::from([]), learn: cap, map: None }
    }

    /// Passes each name, declared ones included, through `map` first: to fold aliases together, cut a tag off, or
    /// translate. The result is bounded like any other name.
    #[must_use]
    pub fn map(mut self, map: impl Fn(&str) -> Cow<'_, str> + Send + Sync + 'static) -> Self {
        self.map = Some(Arc::new(map));
        self
    }

    /// A declared name that cannot be a label value.
    pub(crate) fn unfit(&self) -> Option<&str> {
        self.declared.iter().map(AsRef::as_ref).find(|name| !is_label_value(&self.mapped(name)))
    }

    /// The label value that a name may get; `None` where it never gets one.
    pub(crate) fn possible(&self, name: &str) -> Option<String> {
        let value = self.mapped(name);
        let declared = || self.declared.iter().any(|declared| self.mapped(declared) == value);
        (is_label_value(&value) && (self.learn > 0 || declared())).then(|| value.into_owned())
    }

    fn mapped<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match &self.map {
            Some(map) => map(name),
            None => Cow::Borrowed(name),
        }
    }
}

impl Default for LabelPolicy {
    fn default() -> Self {
        Self::first_accepted(DEFAULT_CAP)
    }
}

impl fmt::Debug for LabelPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabelPolicy")
            .field("declared", &self.declared)
            .field("learn", &self.learn)
            .field("map", &self.map.is_some())
            .finish()
    }
}

/// A policy at work: the values that it has admitted.
pub(crate) struct LabelValues {
    policy: LabelPolicy,
    cap: usize,
    /// Bounded by the policy, so that no choice of names can make it slow.
    admitted: RwLock<HashSet<Arc<str>, RandomState>>,
}

impl LabelValues {
    pub(crate) fn new(policy: LabelPolicy) -> Self {
        let admitted: HashSet<Arc<str>, RandomState> =
            policy.declared.iter().map(|name| policy.mapped(name).into()).collect();
        Self { cap: admitted.len() + policy.learn, policy, admitted: RwLock::new(admitted) }
    }

    /// A declared name that cannot be a label value.
    pub(crate) fn unfit(&self) -> Option<&str> {
        self.policy.unfit()
    }

    /// The values that are known from the start.
    pub(crate) fn declared(&self) -> &[Arc<str>] {
        &self.policy.declared
    }

    /// The value for a name, or `None` for `other`. Only an accepted name is learnt.
    pub(crate) fn admit(&self, name: &str, accepted: bool) -> Option<Arc<str>> {
        let name = self.policy.mapped(name);
        let name = name.as_ref();
        {
            let admitted = self.admitted.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(value) = admitted.get(name) {
                return Some(Arc::clone(value));
            }
            if !accepted || admitted.len() >= self.cap || !is_label_value(name) {
                return None;
            }
        }
        let mut admitted = self.admitted.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = admitted.get(name) {
            return Some(Arc::clone(value));
        }
        if admitted.len() >= self.cap {
            return None;
        }
        let value: Arc<str> = name.into();
        admitted.insert(Arc::clone(&value));
        Some(value)
    }
}

/// The exporter escapes what is escaped already only once, so that names that differ in a backslash could meet on the page.
pub(crate) fn is_label_value(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(|c| c.is_control() || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_list_admits_nothing_else() {
        let values = LabelValues::new(LabelPolicy::only(["a", "b"]));
        assert_eq!(values.admit("a", false).as_deref(), Some("a"));
        assert_eq!(values.admit("c", true), None);
    }

    #[test]
    fn a_name_that_is_declared_twice_makes_no_room_for_another() {
        let values = LabelValues::new(LabelPolicy::only(["a", "a"]));
        assert_eq!(values.admit("b", true), None);
    }

    #[test]
    fn declared_names_are_mapped_like_those_that_are_asked_for() {
        let values = LabelValues::new(LabelPolicy::only(["Qwen3"]).map(|name| name.to_ascii_lowercase().into()));
        assert_eq!(values.admit("QWEN3", false).as_deref(), Some("qwen3"));
    }

    #[test]
    fn names_are_learnt_from_accepted_requests_up_to_the_cap() {
        let values = LabelValues::new(LabelPolicy::first_accepted(2));
        assert_eq!(values.admit("made-up", false), None);
        assert_eq!(values.admit("a", true).as_deref(), Some("a"));
        assert_eq!(values.admit("b", true).as_deref(), Some("b"));
        assert_eq!(values.admit("c", true), None);
        assert_eq!(values.admit("a", false).as_deref(), Some("a"), "what was learnt stays known");
    }

    #[test]
    fn a_mapped_name_is_bounded_like_any_other() {
        let values = LabelValues::new(LabelPolicy::first_accepted(1).map(|name| name.to_ascii_lowercase().into()));
        assert_eq!(values.admit("Qwen3", true).as_deref(), Some("qwen3"));
        assert_eq!(values.admit("QWEN3", false).as_deref(), Some("qwen3"));
        assert_eq!(values.admit("llama", true), None);
    }

    #[test]
    fn names_that_are_no_fit_labels_never_become_values() {
        let values = LabelValues::new(LabelPolicy::first_accepted(8));
        for name in ["", "a\nb", "a\u{7f}", "a\\b", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert_eq!(values.admit(name, true), None, "{name:?}");
        }
        assert!(values.admit(&"x".repeat(MAX_NAME_BYTES), true).is_some());
    }
}
