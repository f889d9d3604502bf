//! Which strings may become label values.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use foldhash::fast::RandomState;

use crate::{catalog::valid, catch::catch_panic};

/// The default number of names that are learnt.
pub(crate) const DEFAULT_CAP: usize = 64;

/// Decides which names become values of a label. The number of values is always bounded, and a name that does not become a value counts under
/// `other`, so that totals stay exact.
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
/// Names are learnt from *accepted* requests (a response with a status of 2xx) and from requests that failed without the caller's fault (5xx,
/// timeouts, a refused connection), never from rejected ones: callers who invent names cannot fill the table. Names that are longer than
/// [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES), or contain control characters or backslashes, never become values.
#[derive(Clone)]
pub struct LabelPolicy {
    declared: Arc<[Arc<str>]>,
    /// How many names may be learnt in addition to the declared ones.
    learn: usize,
    map: Option<Map>,
    /// Whether there is always room for the declared values.
    reserved: bool,
}

type Map = Arc<dyn Fn(&str) -> Cow<'_, str> + Send + Sync>;

impl LabelPolicy {
    /// The given values and no others.
    pub fn only<I>(values: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Arc<str>>,
    {
        Self { declared: values.into_iter().map(Into::into).collect(), learn: 0, map: None, reserved: false }
    }

    /// The first `cap` names of accepted requests.
    #[must_use]
    pub fn first_accepted(cap: usize) -> Self {
        Self { declared: Arc::from([]), learn: cap, map: None, reserved: false }
    }

    /// Passes each name, declared ones included, through `map` first: to merge aliases, remove a tag, or translate. The result is bounded like any
    /// other name.
    ///
    /// If `map` panics, the name counts under `other`, like a name over the cap, and the request continues. `map` is called during requests, possibly
    /// more than once per name, so it must be fast. It may use the [`InferenceHandle`](crate::InferenceHandle) of a request.
    #[must_use]
    pub fn map(mut self, map: impl Fn(&str) -> Cow<'_, str> + Send + Sync + 'static) -> Self {
        self.map = Some(Arc::new(map));
        self
    }

    /// Keeps the declared values on rejected requests, too, and beyond [`max_label_sets`](crate::Builder::max_label_sets). For a
    /// [`request_label`](crate::Builder::request_label) that the service itself decides, such as the upstream of a request. Do not reserve values
    /// that callers choose, because reserved values multiply the number of sets.
    #[must_use]
    pub fn reserved(mut self) -> Self {
        self.reserved = true;
        self
    }

    /// Whether a name can be a value at all: it has 1 to [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES) bytes, and no control characters or backslashes. Use it for names that no
    /// policy bounds, such as that of [`LlmMetrics::engine`](crate::LlmMetrics::engine), if they come from another program.
    #[must_use]
    pub fn is_label_value(name: &str) -> bool {
        valid::is_label_value(name)
    }

    /// A declared name that is not a valid label value.
    pub(crate) fn first_invalid(&self) -> Option<&str> {
        let is_invalid = |name: &&str| self.mapped(name).is_none_or(|value| !Self::is_label_value(&value));
        self.declared.iter().map(AsRef::as_ref).find(is_invalid)
    }

    /// The label value that a name may get; `None` if it can never become one.
    pub(crate) fn possible(&self, name: &str) -> Option<String> {
        let value = self.mapped(name)?;
        let declared = || self.declared.iter().any(|declared| self.mapped(declared).as_ref() == Some(&value));
        (Self::is_label_value(&value) && (self.learn > 0 || declared())).then(|| value.into_owned())
    }

    /// The name after `map`; `None` if `map` panics or calls back into this policy.
    fn mapped<'a>(&self, name: &'a str) -> Option<Cow<'a, str>> {
        let Some(map) = &self.map else { return Some(Cow::Borrowed(name)) };
        if MAPPING.replace(true) {
            return None;
        }
        let value = catch_panic(|| map(name));
        MAPPING.set(false);
        value
    }
}

thread_local! {
    /// Whether this thread is running a policy's `map`.
    static MAPPING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller was called by a policy's `map`, which must not be called again then: the recursion would be endless.
pub(crate) fn inside_map() -> bool {
    MAPPING.get()
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
            .field("reserved", &self.reserved)
            .finish()
    }
}

/// An entry for one value of a label.
pub(crate) trait LabelValue: Clone {
    fn of(name: Arc<str>) -> Self;
}

impl LabelValue for Arc<str> {
    fn of(name: Arc<str>) -> Self {
        name
    }
}

/// A policy in use, with the values that it has admitted.
pub(crate) struct LabelValues<V = Arc<str>> {
    policy: LabelPolicy,
    /// The label values of the declared names.
    declared: HashSet<Arc<str>, RandomState>,
    cap: usize,
    /// Bounded by the policy, and hashed so that callers cannot slow it down by their choice of names.
    admitted: RwLock<HashMap<Arc<str>, V, RandomState>>,
}

impl<V: LabelValue> LabelValues<V> {
    pub(crate) fn new(policy: LabelPolicy) -> Self {
        let declared: HashSet<Arc<str>, RandomState> =
            policy.declared.iter().filter_map(|name| Some(policy.mapped(name)?.into())).collect();
        let admitted = declared.iter().map(|name| (Arc::clone(name), V::of(Arc::clone(name))));
        let admitted = RwLock::new(admitted.collect());
        Self { cap: declared.len().saturating_add(policy.learn), policy, declared, admitted }
    }

    /// A declared name that is not a valid label value.
    pub(crate) fn first_invalid(&self) -> Option<&str> {
        self.policy.first_invalid()
    }

    /// The values that are known from the start.
    pub(crate) fn declared(&self) -> &[Arc<str>] {
        &self.policy.declared
    }

    /// Whether it is the value of a declared name.
    pub(crate) fn is_declared(&self, value: &str) -> bool {
        self.declared.contains(value)
    }

    /// Whether there is always room for this value.
    pub(crate) fn is_reserved(&self, value: &str) -> bool {
        self.policy.reserved && self.is_declared(value)
    }

    /// The value for a name, or `None` for `other`. Only an accepted name is learnt.
    pub(crate) fn admit(&self, name: &str, accepted: bool) -> Option<V> {
        let name = self.policy.mapped(name)?;
        match self.look_up(&name) {
            Known::As(value) => Some(value),
            Known::New if accepted && LabelPolicy::is_label_value(&name) => self.learn(&name),
            Known::New | Known::Full => None,
        }
    }

    /// The state of a name, without learning it. A name that is not a valid label value has no room.
    pub(crate) fn find(&self, name: &str) -> Known<V> {
        let Some(name) = self.policy.mapped(name) else { return Known::Full };
        match self.look_up(&name) {
            Known::New if !LabelPolicy::is_label_value(&name) => Known::Full,
            known => known,
        }
    }

    fn look_up(&self, name: &str) -> Known<V> {
        self.known(&self.admitted.read().unwrap_or_else(PoisonError::into_inner), name)
    }

    fn learn(&self, name: &str) -> Option<V> {
        let mut admitted = self.admitted.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have learnt it since the read, or taken the last free place.
        match self.known(&admitted, name) {
            Known::As(value) => Some(value),
            Known::Full => None,
            Known::New => {
                let name: Arc<str> = name.into();
                let value = V::of(Arc::clone(&name));
                admitted.insert(name, value.clone());
                Some(value)
            }
        }
    }

    fn known(&self, admitted: &HashMap<Arc<str>, V, RandomState>, name: &str) -> Known<V> {
        match admitted.get(name) {
            Some(value) => Known::As(value.clone()),
            None if admitted.len() >= self.cap => Known::Full,
            None => Known::New,
        }
    }
}

/// The state of a name in a policy.
pub(crate) enum Known<V> {
    As(V),
    New,
    /// Unknown, and there is no room for it.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::MAX_NAME_BYTES;

    fn values(policy: LabelPolicy) -> LabelValues {
        LabelValues::new(policy)
    }

    #[test]
    fn a_fixed_list_admits_nothing_else() {
        let values = values(LabelPolicy::only(["a", "b"]));
        assert_eq!(values.admit("a", false).as_deref(), Some("a"));
        assert_eq!(values.admit("c", true), None);
    }

    #[test]
    fn a_name_that_is_declared_twice_makes_no_room_for_another() {
        let values = values(LabelPolicy::only(["a", "a"]));
        assert_eq!(values.admit("b", true), None);
    }

    #[test]
    fn declared_names_are_mapped_like_requested_ones() {
        let values = values(LabelPolicy::only(["Qwen3"]).map(|name| name.to_ascii_lowercase().into()));
        assert_eq!(values.admit("QWEN3", false).as_deref(), Some("qwen3"));
    }

    #[test]
    fn names_are_learnt_from_accepted_requests_up_to_the_cap() {
        let values = values(LabelPolicy::first_accepted(2));
        assert_eq!(values.admit("made-up", false), None);
        assert_eq!(values.admit("a", true).as_deref(), Some("a"));
        assert_eq!(values.admit("b", true).as_deref(), Some("b"));
        assert_eq!(values.admit("c", true), None);
        assert_eq!(values.admit("a", false).as_deref(), Some("a"), "learnt names stay known");
    }

    #[test]
    fn only_code_inside_a_map_sees_that_a_map_is_running() {
        let values = values(LabelPolicy::first_accepted(1).map(|_| inside_map().to_string().into()));
        assert_eq!(values.admit("a", true).as_deref(), Some("true"));
        assert!(!inside_map());
    }

    #[test]
    fn a_mapped_name_is_bounded_like_any_other() {
        let values = values(LabelPolicy::first_accepted(1).map(|name| name.to_ascii_lowercase().into()));
        assert_eq!(values.admit("Qwen3", true).as_deref(), Some("qwen3"));
        assert_eq!(values.admit("QWEN3", false).as_deref(), Some("qwen3"));
        assert_eq!(values.admit("llama", true), None);
    }

    #[test]
    fn names_that_are_not_valid_label_values_never_become_values() {
        let values = values(LabelPolicy::first_accepted(8));
        for name in ["", "a\nb", "a\u{7f}", "a\\b", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert_eq!(values.admit(name, true), None, "{name:?}");
        }
        assert!(values.admit(&"x".repeat(MAX_NAME_BYTES), true).is_some());
    }

    #[test]
    fn names_that_several_threads_see_first_are_learnt_up_to_the_cap() {
        let values = values(LabelPolicy::first_accepted(1));
        assert_eq!([values.learn("a"), values.learn("a")].map(|value| value.is_some()), [true, true]);
        assert_eq!(values.learn("b"), None);
        assert_eq!(values.admitted.into_inner().unwrap().len(), 1);
    }
}
