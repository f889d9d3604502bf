//! Detects text that should not be in an answer (tokens of the chat template, replacement characters), and separates reasoning from the answer.

use memchr::{memchr, memchr3};

/// Tokens with which templates mark turns and tools. Each begins with `<` or `[`, and contains neither after that.
///
/// `<s>` and `</s>` are not in the list, because they are also HTML.
const SPECIAL_TOKENS: [&[u8]; 28] = [
    b"</think>",
    b"</tool_call>",
    b"</tool_response>",
    b"<end_of_turn>",
    b"<start_of_turn>",
    b"<think>",
    b"<tool_call>",
    b"<tool_response>",
    b"<|assistant|>",
    b"<|begin_of_text|>",
    b"<|channel|>",
    b"<|end_header_id|>",
    b"<|end_of_text|>",
    b"<|endoftext|>",
    b"<|eom_id|>",
    b"<|eot_id|>",
    b"<|im_end|>",
    b"<|im_start|>",
    b"<|message|>",
    b"<|object_ref_start|>",
    b"<|python_tag|>",
    b"<|start_header_id|>",
    b"<|system|>",
    b"<|tool_call|>",
    b"<|user|>",
    b"<|vision_start|>",
    // DeepSeek's tokens have special bar and space characters.
    "<｜end▁of▁sentence｜>".as_bytes(),
    b"[/INST]",
];
const OPENS_REASONING: usize = 5;
const CLOSES_REASONING: usize = 0;

/// The answer has begun after this many bytes that are not white space, with or without `<think>`.
const BEGUN: u8 = SPECIAL_TOKENS[OPENS_REASONING].len() as u8 + 1;

/// The bytes of U+FFFD.
const REPLACEMENT: &[u8; 3] = b"\xEF\xBF\xBD";

/// The finding in a piece of text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) special_token: bool,
    pub(crate) replacement_char: bool,
}

/// Checks the text of one answer.
///
/// A token inside Markdown code or reasoning is a quotation, not a leak.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markup {
    token: Candidates,
    code: Code,
    replacement: u8,
    reasoning: Reasoning,
    /// Bytes of the answer that are not white space, up to [`BEGUN`]: reasoning can only start at the beginning.
    solid: u8,
    any: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reasoning {
    #[default]
    None,
    Open,
    Closed,
}

impl Markup {
    /// Reads the next piece of the answer.
    #[inline]
    pub(crate) fn read(&mut self, text: &[u8]) -> Found {
        self.any |= !text.is_empty();
        if self.is_idle() && is_uninteresting(text) { Found::default() } else { self.read_on(text) }
    }

    #[inline(never)]
    fn read_on(&mut self, mut text: &[u8]) -> Found {
        let mut found = Found::default();
        loop {
            if self.is_idle() {
                text = &text[uninteresting(text)..];
            }
            let Some((byte, after)) = text.split_first() else { return found };
            self.step(*byte, &mut found);
            text = after;
        }
    }

    /// Reasoning arrived in a separate field, so tags in the answer are text.
    pub(crate) fn reasoning_apart(&mut self) {
        if self.reasoning == Reasoning::None {
            self.reasoning = Reasoning::Closed;
        }
    }

    /// Whether the answer began with `<think>`, and `</think>` is missing.
    pub(crate) fn reasoning_is_open(&self) -> bool {
        self.reasoning == Reasoning::Open
    }

    /// Whether there was reasoning in the answer's text.
    pub(crate) fn has_reasoning(&self) -> bool {
        self.reasoning != Reasoning::None
    }

    /// Whether there was text other than white space and reasoning.
    pub(crate) fn has_answer(&self) -> bool {
        self.solid > 0
    }

    /// Whether there was any text.
    pub(crate) fn has_text(&self) -> bool {
        self.any
    }

    fn is_idle(&self) -> bool {
        let begun = self.solid == BEGUN || self.reasoning_is_open();
        begun && self.token.is_empty() && self.code == Code::default() && self.replacement == 0
    }

    fn step(&mut self, byte: u8, found: &mut Found) {
        if !self.reasoning_is_open() && !byte.is_ascii_whitespace() {
            self.solid = BEGUN.min(self.solid + 1);
        }
        self.replacement = match REPLACEMENT[usize::from(self.replacement)] {
            expected if expected == byte => self.replacement + 1,
            _ => u8::from(byte == REPLACEMENT[0]),
        };
        if usize::from(self.replacement) == REPLACEMENT.len() {
            self.replacement = 0;
            found.replacement_char = true;
        }
        self.code.step(byte);
        match self.token.step(byte) {
            Some(OPENS_REASONING)
                if self.reasoning == Reasoning::None
                    && usize::from(self.solid) == SPECIAL_TOKENS[OPENS_REASONING].len() =>
            {
                self.reasoning = Reasoning::Open;
                self.solid = 0;
            }
            Some(CLOSES_REASONING) if self.reasoning != Reasoning::Closed => {
                self.reasoning = Reasoning::Closed;
                self.solid = 0;
                self.code = Code::default();
            }
            Some(OPENS_REASONING | CLOSES_REASONING) | None => {}
            Some(_) => found.special_token |= !self.code.is_open() && !self.reasoning_is_open(),
        }
    }
}

/// The special tokens that the text may be inside of: a range of the sorted list, and the number of bytes that have matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Candidates {
    from: u8,
    to: u8,
    seen: u8,
}

impl Candidates {
    fn is_empty(self) -> bool {
        self.from == self.to
    }

    /// The token that this byte completes.
    fn step(&mut self, byte: u8) -> Option<usize> {
        if matches!(byte, b'<' | b'[') {
            *self = Self { from: 0, to: SPECIAL_TOKENS.len() as u8, seen: 0 };
        } else if self.is_empty() {
            return None;
        }
        let at = usize::from(self.seen);
        let has = |token: u8| SPECIAL_TOKENS[usize::from(token)].get(at) == Some(&byte);
        while !self.is_empty() && !has(self.from) {
            self.from += 1;
        }
        while !self.is_empty() && !has(self.to - 1) {
            self.to -= 1;
        }
        self.seen += 1;
        let token = usize::from(self.from);
        let ended = !self.is_empty() && SPECIAL_TOKENS[token].len() == usize::from(self.seen);
        if ended {
            *self = Self::default();
        }
        ended.then_some(token)
    }
}

/// Whether the text is in Markdown code: between runs of backticks of the same length. A run of one or two backticks only counts within its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Code {
    open: u8,
    run: u8,
}

impl Code {
    fn step(&mut self, byte: u8) {
        if byte == b'`' {
            self.run = self.run.saturating_add(1);
            return;
        }
        match std::mem::take(&mut self.run) {
            run if self.open == 0 => self.open = run,
            // A longer run closes only a fence.
            run if run >= self.open && (run == self.open || self.open >= 3) => self.open = 0,
            _ => {}
        }
        if byte == b'\n' && self.open < 3 {
            self.open = 0;
        }
    }

    fn is_open(self) -> bool {
        self.open > 0
    }
}

/// Whether no byte is special, if no match is in progress. Most fragments are a word, too short for a function call. The loop looks at all bytes,
/// which takes fewer branches than stopping at the first match.
#[inline]
fn is_uninteresting(text: &[u8]) -> bool {
    if text.len() < 32 {
        !text.iter().fold(false, |any, byte| any | INTERESTING[usize::from(*byte)])
    } else {
        uninteresting(text) == text.len()
    }
}

/// The number of bytes before the first special one, if no match is in progress.
fn uninteresting(text: &[u8]) -> usize {
    let before = memchr3(b'<', b'[', b'`', text).unwrap_or(text.len());
    memchr(REPLACEMENT[0], &text[..before]).unwrap_or(before)
}

/// The special bytes.
static INTERESTING: [bool; 256] = {
    let mut interesting = [false; 256];
    interesting[b'<' as usize] = true;
    interesting[b'[' as usize] = true;
    interesting[b'`' as usize] = true;
    interesting[REPLACEMENT[0] as usize] = true;
    interesting
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quality::tests::pieces;

    fn read(text: &str) -> (Found, Markup) {
        let mut markup = Markup::default();
        (markup.read(text.as_bytes()), markup)
    }

    fn leaks(text: &str) -> bool {
        read(text).0.special_token
    }

    #[test]
    fn the_list_is_sorted_and_no_token_begins_inside_of_another() {
        assert!(SPECIAL_TOKENS.is_sorted());
        assert_eq!(SPECIAL_TOKENS[OPENS_REASONING], b"<think>");
        assert_eq!(SPECIAL_TOKENS[CLOSES_REASONING], b"</think>");
        for token in SPECIAL_TOKENS {
            assert!(matches!(token[0], b'<' | b'['));
            assert!(!token[1..].iter().any(|byte| matches!(byte, b'<' | b'[')));
            let others = SPECIAL_TOKENS.iter().filter(|other| other.starts_with(token));
            assert_eq!(others.count(), 1, "a token that another begins with would hide it");
        }
    }

    #[test]
    fn tokens_of_the_template_are_found() {
        for token in SPECIAL_TOKENS.iter().map(|token| std::str::from_utf8(token).unwrap()) {
            let expected = !matches!(token, "<think>" | "</think>");
            assert_eq!(leaks(&format!("It is done.{token}")), expected, "{token}");
            assert_eq!(leaks(&format!("It is <done>. <{token} [")), expected, "{token}");
        }
        for healthy in ["a < b", "<div>", "[INST", "if (a<|b|>c)", "<|im_starts|>", "<s>old</s>", "<tool>", "[1, 2]"] {
            assert!(!leaks(healthy), "{healthy}");
        }
    }

    #[test]
    fn a_special_token_in_code_is_quoted_and_not_leaked() {
        assert!(!leaks("Qwen begins a turn with `<|im_start|>` and ends it with ``<|im_end|>``."));
        assert!(!leaks("So:\n```jinja\n<|im_start|>user\n```\n"));
        assert!(!leaks("````\n```\n<|im_start|>\n```\n````"));
        assert!(leaks("A `stray backtick\nand then <|im_end|>"), "one backtick ends with its line");
        assert!(leaks("```\ncode\n```\n<|im_end|>"));
        assert!(leaks("`code` <|im_end|>"));
        assert!(leaks("```\ncode\n````\n<|im_end|>"), "a longer fence closes one");
        assert!(!leaks("`code``<|im_end|>`"), "two backticks close none");
    }

    #[test]
    fn a_tag_in_an_answer_with_separate_reasoning_is_quoted() {
        let mut markup = Markup::default();
        markup.reasoning_apart();
        markup.read(b"The tag is </think>");
        assert!(markup.has_answer());
        let mut markup = Markup::default();
        markup.reasoning_apart();
        markup.read(b"<think>");
        assert!(markup.has_answer() && !markup.reasoning_is_open());
    }

    #[test]
    fn replacement_characters_are_found() {
        assert!(read("a \u{FFFD} b").0.replacement_char);
        assert!(read("<\u{FFFD}").0.replacement_char);
        assert!(!read("a \u{FFFC} \u{FF5C} b").0.replacement_char);
    }

    #[test]
    fn reasoning_is_the_text_between_tags_or_before_a_single_closing_tag() {
        let says = |text| {
            let (_, markup) = read(text);
            (markup.has_reasoning(), markup.reasoning_is_open(), markup.has_answer())
        };
        assert_eq!(says("Just an answer."), (false, false, true));
        assert_eq!(says(" \n<think>\nHm."), (true, true, false));
        assert_eq!(says("<think>\nHm.</think>"), (true, false, false));
        assert_eq!(says("<think>\nHm.</think>\n\n"), (true, false, false));
        assert_eq!(says("<think>\nHm.</think>\n\nYes."), (true, false, true));
        assert_eq!(says("Okay, let me see.</think>"), (true, false, false));
        assert_eq!(says("Okay.</think>Yes."), (true, false, true));
        assert_eq!(says("The tag is <think>, of course"), (false, false, true));
        assert_eq!(says("Okay.</think>The tag is </think>."), (true, false, true));
        assert_eq!(says("  \n "), (false, false, false));
        assert!(read(" ").1.has_text() && !read("").1.has_text());
        assert!(!leaks("<think>I shall use <tool_call> now.</think>I did."));
        assert!(leaks("<think>I `shall.</think>I <tool_call> did."));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_text_is_cut(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "<", "<think>", "</think>", "<|im_", "start|>", "<|im_end|>", "word", " ", "\n", "`", "```", "\u{FFFD}", "é", "[/INST]", "[",
                "<｜end▁of▁", "sentence｜>", "a rather long text without anything in it, and it goes on and on until there is nothing more to say, ",
            ]), 0..24),
            cuts in prop::collection::vec(0usize..40, 0..24),
        ) {
            let text = tokens.concat();
            let (expected, whole) = read(&text);
            let mut parts = Markup::default();
            let mut found = Found::default();
            for piece in pieces(text.as_bytes(), &cuts) {
                let now = parts.read(piece);
                found.special_token |= now.special_token;
                found.replacement_char |= now.replacement_char;
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(
                (parts.reasoning, parts.has_answer(), parts.has_text()),
                (whole.reasoning, whole.has_answer(), whole.has_text())
            );
            prop_assert_eq!(found.replacement_char, text.contains('\u{FFFD}'));
            if !text.contains('`') && !text.contains("think>") {
                let tokens = SPECIAL_TOKENS.iter().map(|token| std::str::from_utf8(token).unwrap());
                prop_assert_eq!(found.special_token, tokens.into_iter().any(|token| text.contains(token)));
            }
        }
    }
}
