//! Validates JSON incrementally.

/// The deepest nesting that is validated. Most parsers reject much less.
const DEEPEST: usize = 256;

/// The state of a text so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// One JSON value, possibly with white space around it.
    Valid,
    /// No complete value yet, but more text could complete it.
    Prefix,
    /// Not JSON, whatever follows.
    Invalid,
    /// Nested too deeply to be validated.
    TooDeep,
}

/// Validates one JSON text ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)) incrementally, split at any place.
///
/// It checks only the grammar. It does not check that numbers are in range, that keys are unique or that surrogates are paired. Bytes inside strings
/// are accepted unchanged.
#[derive(Clone, Debug)]
pub(crate) struct JsonValidator {
    state: State,
    depth: u16,
    /// A bit per open bracket: 1 for an object.
    objects: [u64; DEEPEST / 64],
    is_object: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A value must follow.
    Value,
    /// After `[`.
    ValueOrEnd,
    /// After `{`.
    KeyOrEnd,
    /// After a comma in an object.
    Key,
    Colon,
    /// A value inside of another has ended.
    AfterValue,
    /// The outermost value has ended.
    Complete,
    Text {
        key: bool,
    },
    Escape {
        key: bool,
    },
    Hex {
        key: bool,
        missing: u8,
    },
    /// `word`, and how many of its bytes have arrived.
    Word(Word, u8),
    Number(Number),
    Invalid,
    /// The value was complete, and more text followed.
    Trailing,
    TooDeep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    True,
    False,
    Null,
}

impl Word {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::True => b"true",
            Self::False => b"false",
            Self::Null => b"null",
        }
    }
}

/// The last byte of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    /// A zero, after which no digit may follow.
    Zero,
    Integer,
    Point,
    Fraction,
    /// `e`.
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    fn is_complete(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }

    /// The state of the number after one more byte; `None` if the byte does not belong to the number.
    fn with(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }
}

impl Default for JsonValidator {
    fn default() -> Self {
        Self { state: State::Value, depth: 0, objects: [0; DEEPEST / 64], is_object: false }
    }
}

impl JsonValidator {
    /// Reads more text. Returns the index of the byte that makes the text invalid, if there is one.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<usize> {
        if self.has_failed() {
            return None;
        }
        let mut at = 0;
        loop {
            if let State::Text { key } = self.state {
                at += text.get(at..)?.iter().position(|byte| !PLAIN[usize::from(*byte)])?;
                if text[at] == b'"' {
                    self.state = if key { State::Colon } else { self.ended() };
                    at += 1;
                    continue;
                }
            }
            self.step(*text.get(at)?);
            if self.has_failed() {
                return Some(at);
            }
            at += 1;
        }
    }

    pub(crate) fn validity(&self) -> Validity {
        match self.state {
            State::Complete => Validity::Valid,
            State::Number(number) if self.depth == 0 && number.is_complete() => Validity::Valid,
            State::Invalid | State::Trailing => Validity::Invalid,
            State::TooDeep => Validity::TooDeep,
            _ => Validity::Prefix,
        }
    }

    /// Whether no value has begun.
    pub(crate) fn is_blank(&self) -> bool {
        self.state == State::Value && self.depth == 0
    }

    /// Whether the text was a complete value before it became invalid.
    pub(crate) fn has_trailing(&self) -> bool {
        self.state == State::Trailing
    }

    /// Whether the outermost value is an object.
    pub(crate) fn is_object(&self) -> bool {
        self.is_object
    }

    fn has_failed(&self) -> bool {
        matches!(self.state, State::Invalid | State::Trailing | State::TooDeep)
    }

    fn step(&mut self, byte: u8) {
        let blank = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        self.state = match self.state {
            // An escape, a control character or a byte outside of ASCII: the slow path.
            State::Text { key } if byte == b'\\' => State::Escape { key },
            State::Text { .. } => State::Invalid,
            State::Number(number) => match number.with(byte) {
                Some(number) => State::Number(number),
                None if number.is_complete() => {
                    self.state = self.ended();
                    return self.step(byte);
                }
                None => State::Invalid,
            },
            State::Word(word, seen) => match word.bytes() {
                bytes if bytes[usize::from(seen)] != byte => State::Invalid,
                bytes if bytes.len() == usize::from(seen) + 1 => self.ended(),
                _ => State::Word(word, seen + 1),
            },
            State::Escape { key } => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text { key },
                b'u' => State::Hex { key, missing: 4 },
                _ => State::Invalid,
            },
            State::Hex { key, missing } if byte.is_ascii_hexdigit() => match missing - 1 {
                0 => State::Text { key },
                missing => State::Hex { key, missing },
            },
            State::Hex { .. } => State::Invalid,
            _ if blank => return,
            State::ValueOrEnd if byte == b']' => self.close(),
            State::Value | State::ValueOrEnd => self.value(byte),
            State::KeyOrEnd if byte == b'}' => self.close(),
            State::KeyOrEnd | State::Key if byte == b'"' => State::Text { key: true },
            State::Colon if byte == b':' => State::Value,
            State::AfterValue => match (byte, self.in_object()) {
                (b',', true) => State::Key,
                (b',', false) => State::Value,
                (b'}', true) | (b']', false) => self.close(),
                _ => State::Invalid,
            },
            State::Complete => State::Trailing,
            State::KeyOrEnd | State::Key | State::Colon => State::Invalid,
            State::Invalid | State::Trailing | State::TooDeep => return,
        };
    }

    #[inline]
    fn value(&mut self, byte: u8) -> State {
        match byte {
            b'{' => self.open(true),
            b'[' => self.open(false),
            b'"' => State::Text { key: false },
            b't' => State::Word(Word::True, 1),
            b'f' => State::Word(Word::False, 1),
            b'n' => State::Word(Word::Null, 1),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Integer),
            _ => State::Invalid,
        }
    }

    fn open(&mut self, object: bool) -> State {
        let level = usize::from(self.depth);
        if level == DEEPEST {
            return State::TooDeep;
        }
        self.is_object |= level == 0 && object;
        let bit = 1 << (level % 64);
        let word = &mut self.objects[level / 64];
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        if object { State::KeyOrEnd } else { State::ValueOrEnd }
    }

    fn close(&mut self) -> State {
        self.depth -= 1;
        self.ended()
    }

    fn ended(&self) -> State {
        if self.depth == 0 { State::Complete } else { State::AfterValue }
    }

    fn in_object(&self) -> bool {
        let level = usize::from(self.depth) - 1;
        self.objects[level / 64] & (1 << (level % 64)) != 0
    }
}

/// Bytes in a string that need no further check.
static PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, de::IgnoredAny};

    use super::*;
    use crate::quality::tests::pieces;

    fn validity(text: &str) -> Validity {
        let mut json = JsonValidator::default();
        json.read(text.as_bytes());
        json.validity()
    }

    /// `IgnoredAny` checks only the grammar: no depth, no ranges of numbers.
    fn oracle(text: &[u8]) -> Validity {
        let may_go_on = |text: &[u8]| parse(text).map_or_else(|error| error.is_eof(), |()| true);
        match parse(text) {
            Ok(()) => Validity::Valid,
            // serde_json rejects `1.` and `1.x` alike, but a digit would make `1.` a number.
            Err(error) if error.is_eof() || may_go_on(&[text, b"0"].concat()) => Validity::Prefix,
            Err(_) => Validity::Invalid,
        }
    }

    fn parse(text: &[u8]) -> serde_json::Result<()> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        IgnoredAny::deserialize(&mut reader).and_then(|_| reader.end())
    }

    #[test]
    fn each_rule_of_the_grammar_is_kept() {
        for valid in [
            "{}",
            "[]",
            "0",
            "-0",
            "1.5e-7",
            "\"\"",
            "true",
            "false",
            "null",
            " [1, {\"a\": [null]}] \n",
            "\"\\u00e9\\/\"",
            "\"\\ud800\"",
            "1E+9",
            "12",
            "[[],{}]",
            "1e999",
        ] {
            assert_eq!(validity(valid), Validity::Valid, "{valid}");
        }
        for prefix in
            ["", "  ", "{", "[1,", "{\"a\"", "{\"a\":", "tru", "-", "1.", "1e", "1e+", "\"a\\", "\"\\u12", "[1"]
        {
            assert_eq!(validity(prefix), Validity::Prefix, "{prefix}");
        }
        for invalid in [
            "01",
            "+1",
            ".5",
            "1.e5",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'a'",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "truE",
            "nul ",
            "{} {}",
            "1 2",
            "]",
            "{]",
            "[}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\"}",
            "NaN",
            "-a",
            "{\"a\":1]",
            "[1}",
            "{,}",
            "- ",
            "1. ",
            "[-]",
            "[1e+]",
            "\u{feff}{}",
        ] {
            assert_eq!(validity(invalid), Validity::Invalid, "{invalid}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_neither_valid_nor_invalid() {
        let nested = |depth| "[{\"a\":".repeat(depth / 2) + "1" + &"}]".repeat(depth / 2);
        assert_eq!(validity(&nested(DEEPEST)), Validity::Valid);
        assert_eq!(validity(&nested(DEEPEST + 2)), Validity::TooDeep);
    }

    #[test]
    fn the_position_at_which_a_text_stops_being_json_is_reported() {
        let mut json = JsonValidator::default();
        assert_eq!(json.read(b"{\"a\": 1"), None);
        assert_eq!(json.read(b" } x"), Some(3));
        assert!(json.has_trailing() && json.is_object());
        assert_eq!(json.read(b"x"), None, "once");
    }

    /// Bytes of JSON, and of texts that are almost JSON.
    fn near_json() -> impl Strategy<Value = Vec<u8>> {
        let token = prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\\", "\\u00e9", "\\n", " ", "\n", "0", "1", "-", ".", "e",
            "+", "true", "fals", "e", "null", "é", "\u{7}", "{\"k\":", "[1,", "\"b\":2",
        ]);
        prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat().into_bytes())
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_serde_json(text in near_json()) {
            let mut json = JsonValidator::default();
            json.read(&text);
            prop_assert_eq!(json.validity(), oracle(&text));
        }

        #[test]
        fn values_are_valid_and_each_beginning_of_one_can_become_one(
            value in value(), pretty in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut json = JsonValidator::default();
            prop_assert_eq!(json.read(&text), None);
            prop_assert_eq!(json.validity(), Validity::Valid);
            prop_assert_eq!(json.is_object(), value.is_object());
            let cut = at.index(text.len());
            let mut begun = JsonValidator::default();
            begun.read(&text[..cut]);
            prop_assert_eq!(begun.validity(), oracle(&text[..cut]));
            let mut changed = text.clone();
            changed[cut] = byte;
            let mut json = JsonValidator::default();
            json.read(&changed);
            prop_assert_eq!(json.validity(), oracle(&changed));
        }

        #[test]
        fn it_does_not_matter_where_the_text_is_cut(text in near_json(), cuts in prop::collection::vec(0usize..12, 0..12)) {
            let mut whole = JsonValidator::default();
            let at = whole.read(&text);
            let mut parts = JsonValidator::default();
            let (mut before, mut found) = (0, None);
            for piece in pieces(&text, &cuts) {
                if let Some(at) = parts.read(piece) {
                    prop_assert_eq!(found.replace(before + at), None);
                }
                before += piece.len();
            }
            prop_assert_eq!(parts.validity(), whole.validity());
            prop_assert_eq!(found, at);
            prop_assert_eq!(parts.has_trailing(), whole.has_trailing());
        }
    }
}
