//! Checks whether tool calls can be executed.

use super::{
    Finding,
    json::{JsonValidator, Validity},
};
use crate::vocabulary::ToolCallResult;

/// The maximum number of open calls; one more ends the oldest.
pub(super) const OPEN_CALLS: usize = 8;
/// The maximum number of tool names of a request. If it offers more, no name counts as unknown.
pub(super) const OFFERED_NAMES: usize = 64;

/// The names of the tools that a request offers, as hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolNames {
    hashes: Vec<u64>,
    /// There were more, or some without a name: a name that is missing here may still be valid.
    open: bool,
}

impl ToolNames {
    pub(crate) fn insert(&mut self, name: &[u8]) {
        if self.hashes.len() == OFFERED_NAMES {
            self.open = true;
        } else {
            self.hashes.push(NameHash::of(name).0);
        }
    }

    /// From now on no name counts as unknown.
    pub(crate) fn leave_open(&mut self) {
        self.open = true;
    }

    /// Adds names from another part of the request.
    pub(crate) fn extend(&mut self, more: &Self) {
        let room = OFFERED_NAMES - self.hashes.len();
        self.open |= more.open || more.hashes.len() > room;
        self.hashes.extend(more.hashes.iter().take(room));
    }

    fn excludes(&self, name: NameHash) -> bool {
        !self.open && !self.hashes.is_empty() && !self.hashes.contains(&name.0)
    }
}

/// FNV-1a, because it accepts a name in pieces. A caller who creates collisions only hides an unknown tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NameHash(u64);

impl NameHash {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn of(name: &[u8]) -> Self {
        let mut hash = Self::EMPTY;
        hash.add(name);
        hash
    }

    fn add(&mut self, piece: &[u8]) {
        for byte in piece {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// The call and the choice.
type CallKey = (u32, u32);

/// Tracks the calls of an answer. Pieces of one call are joined by their index. A further name under the same index begins a new call, because some
/// servers give every call the index 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolCalls {
    open: Vec<Call>,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    key: CallKey,
    name: NameHash,
    arguments: JsonValidator,
    /// The kind of the last piece; `None` after its event ended.
    last: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Name,
    Arguments,
}

impl Call {
    fn new(key: CallKey) -> Self {
        Self { key, name: NameHash::EMPTY, arguments: JsonValidator::default(), last: None }
    }

    fn result(&self, offered: Option<&ToolNames>) -> ToolCallResult {
        // There is no name to check.
        if self.name != NameHash::EMPTY && offered.is_some_and(|offered| offered.excludes(self.name)) {
            return ToolCallResult::UnknownTool;
        }
        match self.arguments.validity() {
            // No arguments at all: most servers write nothing for a tool without parameters.
            Validity::Prefix if self.arguments.is_blank() => ToolCallResult::Valid,
            Validity::Prefix => ToolCallResult::Incomplete,
            Validity::Valid if self.arguments.is_object() => ToolCallResult::Valid,
            // Real arguments are not nested so deeply.
            Validity::Valid | Validity::Invalid | Validity::TooDeep => ToolCallResult::InvalidJson,
        }
    }
}

impl ToolCalls {
    /// Reads a piece of a call's name.
    pub(crate) fn name(
        &mut self,
        key: CallKey,
        piece: &[u8],
        offered: Option<&ToolNames>,
        emit: &mut impl FnMut(Finding),
    ) {
        let call = self.call(key, offered, emit);
        if call.name != NameHash::EMPTY && call.last != Some(Part::Name) {
            emit(Finding::ToolCall(call.result(offered)));
            *call = Call::new(key);
        }
        call.name.add(piece);
        call.last = Some(Part::Name);
    }

    /// Reads a piece of a call's arguments.
    pub(crate) fn arguments(
        &mut self,
        key: CallKey,
        piece: &[u8],
        offered: Option<&ToolNames>,
        emit: &mut impl FnMut(Finding),
    ) {
        let call = self.call(key, offered, emit);
        call.arguments.read(piece);
        call.last = Some(Part::Arguments);
    }

    /// Ends an event: a name is never split over two events.
    pub(crate) fn end_event(&mut self) {
        self.open.iter_mut().for_each(|call| call.last = None);
    }

    /// Ends all calls, which are complete.
    pub(crate) fn complete(&mut self, offered: Option<&ToolNames>, emit: &mut impl FnMut(Finding)) {
        self.open.drain(..).for_each(|call| emit(Finding::ToolCall(call.result(offered))));
    }

    /// Ends the calls of a choice. If it was `cut`, arguments of the last call may be missing.
    pub(crate) fn end(&mut self, choice: u32, cut: bool, offered: Option<&ToolNames>, emit: &mut impl FnMut(Finding)) {
        let last = self.open.iter().rfind(|call| call.key.0 == choice).map(|call| call.key);
        self.open.retain(|call| {
            if call.key.0 != choice {
                return true;
            }
            let unfinished = cut && Some(call.key) == last && call.arguments.is_blank();
            emit(Finding::ToolCall(if unfinished { ToolCallResult::Incomplete } else { call.result(offered) }));
            false
        });
    }

    fn call(&mut self, key: CallKey, offered: Option<&ToolNames>, emit: &mut impl FnMut(Finding)) -> &mut Call {
        let at = match self.open.iter().position(|call| call.key == key) {
            Some(at) => at,
            None => {
                if self.open.len() == OPEN_CALLS {
                    let oldest = self.open.remove(0);
                    emit(Finding::ToolCall(oldest.result(offered)));
                }
                self.open.push(Call::new(key));
                self.open.len() - 1
            }
        };
        &mut self.open[at]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quality::tests::pieces;

    fn offered(names: &[&str]) -> ToolNames {
        let mut offered = ToolNames::default();
        names.iter().for_each(|name| offered.insert(name.as_bytes()));
        offered
    }

    /// The results of calls, in the order in which they are emitted.
    struct Calls<'a> {
        calls: ToolCalls,
        offered: Option<&'a ToolNames>,
        results: Vec<&'static str>,
    }

    impl<'a> Calls<'a> {
        fn of(offered: Option<&'a ToolNames>) -> Self {
            Self { calls: ToolCalls::default(), offered, results: Vec::new() }
        }

        fn name(&mut self, index: u32, piece: &str) {
            self.calls.name((0, index), piece.as_bytes(), self.offered, &mut note(&mut self.results));
        }

        fn arguments(&mut self, index: u32, piece: &str) {
            self.calls.arguments((0, index), piece.as_bytes(), self.offered, &mut note(&mut self.results));
        }

        fn end(&mut self, cut: bool) -> Vec<&'static str> {
            self.calls.end(0, cut, self.offered, &mut note(&mut self.results));
            std::mem::take(&mut self.results)
        }
    }

    fn note(results: &mut Vec<&'static str>) -> impl FnMut(Finding) {
        |finding| match finding {
            Finding::ToolCall(result) => results.push(result.as_str()),
            other => panic!("{other:?}"),
        }
    }

    fn one(name: &str, arguments: &str, cut: bool) -> &'static str {
        let offered = offered(&["weather", "time"]);
        let mut calls = Calls::of(Some(&offered));
        calls.name(0, name);
        if !arguments.is_empty() {
            calls.arguments(0, arguments);
        }
        let results = calls.end(cut);
        assert_eq!(results.len(), 1);
        results[0]
    }

    #[test]
    fn a_call_has_one_result() {
        assert_eq!(one("weather", "{\"city\": \"Lima\"}", false), "valid");
        assert_eq!(one("weather", "", false), "valid");
        assert_eq!(one("weather", " ", false), "valid");
        assert_eq!(one("weather", "{\"city\": \"Lima\"", false), "incomplete");
        assert_eq!(one("weather", "{\"city\": \"Li", true), "incomplete");
        assert_eq!(one("weather", "", true), "incomplete");
        assert_eq!(one("weather", "{\"city\": \"Lima\"}", true), "valid");
        assert_eq!(one("weather", "{city: 1}", false), "invalid_json");
        assert_eq!(one("weather", "\"Lima\"", false), "invalid_json");
        assert_eq!(one("weather", "{}{}", false), "invalid_json");
        assert_eq!(one("wether", "{}", false), "unknown_tool");
        assert_eq!(one("", "{}", false), "valid", "it may be named elsewhere");
    }

    #[test]
    fn a_name_that_differs_in_one_letter_is_unknown() {
        let offered = offered(&["weather"]);
        for (at, letter) in (0.."weather".len()).flat_map(|at| (b'a'..=b'z').map(move |letter| (at, letter))) {
            let mut name = *b"weather";
            name[at] = letter;
            assert_eq!(offered.excludes(NameHash::of(&name)), name != *b"weather", "{}", name.escape_ascii());
        }
    }

    #[test]
    fn without_a_list_of_all_tools_none_is_unknown() {
        let mut open = offered(&["weather"]);
        open.leave_open();
        let mut many = ToolNames::default();
        (0..=OFFERED_NAMES).for_each(|n| many.insert(n.to_string().as_bytes()));
        assert_eq!(many.hashes.len(), OFFERED_NAMES);
        for names in [None, Some(&ToolNames::default()), Some(&open), Some(&many)] {
            let mut calls = Calls::of(names);
            calls.name(0, "search");
            assert_eq!(calls.end(false), ["valid"]);
        }
    }

    #[test]
    fn tools_in_two_parts_of_a_request_are_known_together_up_to_the_maximum() {
        let numbered = |range: std::ops::Range<usize>| {
            let mut names = ToolNames::default();
            range.for_each(|n| names.insert(n.to_string().as_bytes()));
            names
        };
        let is_unknown = |names: &ToolNames, name: &str| names.excludes(NameHash::of(name.as_bytes()));
        let mut names = numbered(0..OFFERED_NAMES - 2);
        names.extend(&numbered(OFFERED_NAMES - 2..OFFERED_NAMES));
        assert!((0..OFFERED_NAMES).all(|n| !is_unknown(&names, &n.to_string())));
        assert!(is_unknown(&names, "search"));
        names.extend(&numbered(0..1));
        assert_eq!(names.hashes.len(), OFFERED_NAMES);
        assert!(!is_unknown(&names, "search"), "there are more than are followed");

        let mut open = numbered(0..1);
        open.leave_open();
        let mut names = numbered(1..2);
        names.extend(&open);
        assert!(!is_unknown(&names, "search"), "one of the parts may have it");
    }

    #[test]
    fn pieces_of_calls_are_joined_by_their_index() {
        let mut calls = Calls::of(None);
        calls.name(0, "a");
        calls.name(1, "b");
        for piece in ["{", "\"x\":", "1", "}"] {
            calls.arguments(0, piece);
            calls.arguments(1, piece);
        }
        assert_eq!(calls.end(false), ["valid"; 2]);
        assert!(calls.end(false).is_empty(), "they end once");
    }

    #[test]
    fn a_call_ends_with_its_choice() {
        let mut results = Vec::new();
        let mut calls = ToolCalls::default();
        calls.name((0, 0), b"a", None, &mut note(&mut results));
        calls.name((1, 0), b"a", None, &mut note(&mut results));
        calls.arguments((0, 0), b"{", None, &mut note(&mut results));
        calls.end(0, false, None, &mut note(&mut results));
        assert_eq!(results, ["incomplete"]);
        calls.end(1, false, None, &mut note(&mut results));
        assert_eq!(results, ["incomplete", "valid"]);
    }

    #[test]
    fn a_further_name_under_the_same_index_is_a_further_call() {
        let mut calls = Calls::of(None);
        for _ in 0..3 {
            calls.name(0, "wea");
            calls.name(0, "ther");
            calls.arguments(0, "{\"x\":");
            calls.arguments(0, "1}");
        }
        assert_eq!(calls.end(false), ["valid"; 3]);
    }

    #[test]
    fn arguments_may_come_before_the_name() {
        let offered = offered(&["weather"]);
        let mut calls = Calls::of(Some(&offered));
        calls.arguments(0, "{}");
        calls.name(0, "wea");
        calls.name(0, "ther");
        assert_eq!(calls.end(false), ["valid"]);
    }

    #[test]
    fn any_number_of_calls_takes_the_same_memory_and_all_are_counted() {
        let mut calls = Calls::of(None);
        for index in 0..1000 {
            calls.name(index, "a");
            calls.arguments(index, "{}");
        }
        assert!(calls.calls.open.capacity() <= OPEN_CALLS);
        assert_eq!(calls.end(false), ["valid"; 1000]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_name_and_arguments_are_cut(
            cuts in prop::collection::vec(1usize..9, 0..20),
            arguments in prop::sample::select(vec!["{\"city\": \"Lima\", \"days\": [1, 2]}", "{\"city\": \"Li", "{city}", "12"]),
        ) {
            let offered = offered(&["weather"]);
            let mut calls = Calls::of(Some(&offered));
            pieces(b"weather", &cuts).for_each(|piece| calls.name(3, std::str::from_utf8(piece).unwrap()));
            pieces(arguments.as_bytes(), &cuts).for_each(|piece| calls.arguments(3, std::str::from_utf8(piece).unwrap()));
            prop_assert_eq!(calls.end(false), [one("weather", arguments, false)]);
        }
    }
}
