//! Checks whether an answer that should be JSON is JSON.

use super::{
    bounded::BoundedBytes,
    json::{JsonValidator, Validity},
    schema,
};
use crate::vocabulary::{StructuredFormat, StructuredResult};

/// The maximum bytes of an answer that are buffered for its schema.
const MAX_ANSWER: usize = 64 << 10;

const OPENS_REASONING: &[u8] = b"<think>";
const CLOSES_REASONING: &[u8] = b"</think>";

/// Checks an answer incrementally: bare JSON, JSON in the first Markdown fence, or neither.
///
/// Text before a `</think>` is not part of the answer, nor is the text around a fence.
#[derive(Clone, Debug, Default)]
pub(crate) struct StructuredOutput {
    json: JsonValidator,
    place: Place,
    /// The number of bytes that match `<think>` at the beginning, or `</think>` at the end of text that is not JSON.
    opening: u8,
    closing: u8,
    /// The JSON, if it is to be validated against a schema.
    bytes: Option<Box<BoundedBytes>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Everything so far is JSON.
    #[default]
    Bare,
    /// It is not JSON, but a fence may follow. The line has only white space so far.
    LineStart,
    /// The number of backticks at the beginning of the line.
    Backticks(u8),
    /// In the line that opens a fence.
    Info,
    Line,
    /// In the fence.
    Fence,
    /// After the fence.
    After,
}

impl StructuredOutput {
    pub(super) fn new(keeps_bytes: bool) -> Self {
        Self { bytes: keeps_bytes.then(Box::default), ..Self::default() }
    }

    /// The result for an answer that is JSON, by its schema. A request for `json_object` has no schema, and any JSON is valid.
    pub(super) fn by_schema(&self, format: StructuredFormat, schema: Option<&BoundedBytes>) -> StructuredResult {
        let Some(schema) = schema else {
            let needs_one = format == StructuredFormat::JsonSchema;
            return if needs_one { StructuredResult::Unchecked } else { StructuredResult::Valid };
        };
        let answer = self.bytes.as_ref().and_then(|bytes| bytes.whole());
        match schema.whole().zip(answer) {
            Some((schema, answer)) => schema::validate(schema, answer),
            None => StructuredResult::Unchecked,
        }
    }

    /// Reads the next piece of the answer.
    pub(crate) fn read(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            text = match self.place {
                Place::Bare => self.bare(text),
                Place::Fence => self.fence(text),
                _ => self.prose(text),
            };
        }
    }

    /// The result at the end of the answer, which is premature if it was `cut`.
    pub(crate) fn result(&self, cut: bool) -> StructuredResult {
        let unfinished = if cut { StructuredResult::Truncated } else { StructuredResult::InvalidJson };
        let good = if self.place == Place::Bare { StructuredResult::Valid } else { StructuredResult::Fenced };
        match (self.place, self.json.validity()) {
            (_, Validity::TooDeep) => StructuredResult::Unchecked,
            (Place::Bare | Place::Fence | Place::After, Validity::Valid) => good,
            (Place::After, _) if self.json.has_trailing() => good,
            (Place::Bare | Place::Fence, Validity::Prefix) => unfinished,
            // The fence or the reasoning was opened, and nothing has followed.
            (Place::Info | Place::Backticks(_), _) => unfinished,
            (Place::LineStart | Place::Line, _) if usize::from(self.opening) == OPENS_REASONING.len() => unfinished,
            _ => StructuredResult::InvalidJson,
        }
    }

    fn bare<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        if let Some(bytes) = &mut self.bytes {
            bytes.push(text, MAX_ANSWER);
        }
        let was_blank = self.json.is_blank();
        let Some(at) = self.json.read(text) else { return &[] };
        // The invalid byte may open a fence, or a tag.
        let nothing_before = was_blank && text[..at].iter().all(u8::is_ascii_whitespace);
        self.place = if nothing_before { Place::LineStart } else { Place::Line };
        self.opening = if nothing_before { 0 } else { u8::MAX };
        &text[at..]
    }

    fn fence<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let Some(at) = self.json.read(text) else { return &[] };
        // Either this is the end of the fence, which need not be on a new line, or it is not JSON: there is no second attempt.
        if self.json.has_trailing() && text[at] != b'`' {
            // A valid value with more text after it is not JSON here.
            self.json = JsonValidator::default();
        }
        self.place = Place::After;
        &text[at..]
    }

    /// In text that is not JSON: looks for a fence, and for the end of reasoning.
    fn prose<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        for (at, byte) in text.iter().enumerate() {
            if self.closes_reasoning(*byte) {
                *self = Self::new(self.bytes.is_some());
                return &text[at + 1..];
            }
            self.opens_reasoning(*byte);
            self.place = match (self.place, byte) {
                (Place::After, _) => Place::After,
                (Place::Info | Place::Backticks(3..), b'\n') => {
                    self.json = JsonValidator::default();
                    self.place = Place::Fence;
                    // JSON may begin with a line break.
                    return &text[at..];
                }
                (_, b'\n') => Place::LineStart,
                (Place::LineStart, b' ' | b'\t' | b'\r') => Place::LineStart,
                (Place::LineStart, b'`') => Place::Backticks(1),
                (Place::Backticks(count), b'`') => Place::Backticks(count.saturating_add(1)),
                (Place::Backticks(3..), _) => Place::Info,
                (Place::Info, byte) if *byte != b'`' => Place::Info,
                _ => Place::Line,
            };
        }
        &[]
    }

    fn closes_reasoning(&mut self, byte: u8) -> bool {
        self.closing = match CLOSES_REASONING[usize::from(self.closing)] {
            expected if expected == byte => self.closing + 1,
            _ => u8::from(byte == CLOSES_REASONING[0]),
        };
        usize::from(self.closing) == CLOSES_REASONING.len()
    }

    fn opens_reasoning(&mut self, byte: u8) {
        if let Some(expected) = OPENS_REASONING.get(usize::from(self.opening)) {
            self.opening = if *expected == byte { self.opening + 1 } else { u8::MAX };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quality::tests::pieces;

    fn result(text: &str, cut: bool) -> StructuredResult {
        let mut output = StructuredOutput::default();
        output.read(text.as_bytes());
        output.result(cut)
    }

    #[test]
    fn bare_json_is_valid() {
        for text in ["{\"a\": 1}", "\n[1, 2]\n", "12", "{\"a\": \"``` no fence\"}", "{\"a\": \"</think>\"}"] {
            assert_eq!(result(text, false), StructuredResult::Valid, "{text}");
            assert_eq!(result(text, true), StructuredResult::Valid, "{text}: a cut after the end cuts nothing");
        }
    }

    #[test]
    fn json_in_a_fence_is_distinguished_from_json() {
        for text in [
            "```json\n{\"a\": 1}\n```",
            "```\n{\"a\": 1}\n```\n",
            "  ```JSON  \r\n[1]\r\n```",
            "````json\n[1]\n````",
            "Here it is:\n\n```json\n{\"a\": 1}\n```\nAnything else?",
            "- First:\n  ```json\n  [1]\n  ```",
            "```json\n{\"a\": 1}```",
            "```json\n{\"a\": 1}\n",
            "Use `code` and ``more``:\n```json\n1\n```",
        ] {
            assert_eq!(result(text, false), StructuredResult::Fenced, "{text}");
        }
    }

    #[test]
    fn text_that_is_neither_is_invalid_even_if_it_was_cut() {
        for text in [
            "Sure! {\"a\": 1}",
            "{\"a\": 1} Anything else?",
            "{'a': 1}",
            "```python\nprint(1)\n```",
            "```json\n{\"a\": 1}\nand more\n```",
            "An ```inline``` fence",
            "[```json\n[1]\n```",
            "```json`\n{}",
            "```json {} ```\nx",
        ] {
            assert_eq!(result(text, false), StructuredResult::InvalidJson, "{text}");
        }
        assert_eq!(result("Sure! Here", true), StructuredResult::InvalidJson);
        assert_eq!(result("{\"a\": 1,, ", true), StructuredResult::InvalidJson);
    }

    #[test]
    fn the_beginning_of_json_is_truncated_if_the_answer_was_cut_and_invalid_if_not() {
        for text in
            ["", "{\"a\": [1, 2", "{\"a\": \"x", "```json\n{\"a\"", "```", "```js", "<think>\nHm, let me", "tru"]
        {
            assert_eq!(result(text, true), StructuredResult::Truncated, "{text}");
            assert_eq!(result(text, false), StructuredResult::InvalidJson, "{text}");
        }
    }

    #[test]
    fn reasoning_before_json_is_not_part_of_it() {
        for (text, expected) in [
            ("<think>\nHm.\n</think>\n\n{\"a\": 1}", StructuredResult::Valid),
            ("<think>\n\n</think>\n\n{\"a\": 1}", StructuredResult::Valid),
            ("Okay, the user wants {a}.\n</think>\n[1]", StructuredResult::Valid),
            ("1. Think ```json\n[\n``` </think>[1]", StructuredResult::Valid),
            ("<think>x</think>```json\n[1]\n```", StructuredResult::Fenced),
            ("<think>x</think>Sure", StructuredResult::InvalidJson),
            ("a <</think>[1]", StructuredResult::Valid),
        ] {
            assert_eq!(result(text, false), expected, "{text}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_unchecked() {
        assert_eq!(result(&"[".repeat(300), true), StructuredResult::Unchecked);
        assert_eq!(result(&format!("```json\n{}", "[".repeat(300)), false), StructuredResult::Unchecked);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_text_is_cut(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "`", "```", "json", "\n", "{", "}", "[", "]", "1", ",", " ", "\"a\"", ":", "<think>", "</think>", "<", "/", "think>", "Sure",
            ]), 0..20),
            cuts in prop::collection::vec(0usize..9, 0..20),
        ) {
            let text = tokens.concat();
            let mut parts = StructuredOutput::default();
            pieces(text.as_bytes(), &cuts).for_each(|piece| parts.read(piece));
            for cut in [false, true] {
                prop_assert_eq!(parts.result(cut), result(&text, cut));
            }
        }
    }
}
