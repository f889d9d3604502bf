//! `<think>` … `</think>` inside answer text.

use memchr::memchr;

const OPEN: &[u8] = b"<think>";
const CLOSE: &[u8] = b"</think>";

/// Tracks the tags of one choice through its text, fragment by fragment.
///
/// ```text
///   Start ──<think>──► Inside ──</think>──► Over
///     │ ╲                                    ▲
///   text ╲ </think>: it was reasoning        │
///     ▼   ╰─────────────────────────────────►│
///   Text ──<think>, or </think>: it was ─────╯
/// ```
///
/// Models whose template opens the block in the prompt (Qwen3 Thinking-2507, QwQ, R1) send only a closing tag: the text before it was reasoning. A
/// model opens a block before it answers, so a tag in the middle of an answer, or after the reasoning ended, is part of the answer's text.
#[derive(Debug, Default)]
pub(super) struct ThinkTags {
    state: TagState,
    /// How many bytes of a tag the text so far ends with, and of which tag.
    matched: u8,
    closing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TagState {
    /// Only white space so far.
    #[default]
    Start,
    /// Reasoning.
    Inside,
    /// The answer, unless a closing tag follows.
    Text,
    /// Everything that follows is the answer.
    Over,
}

/// The content of a fragment, after its tags were processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FragmentContent {
    /// A closing tag without an opening one: all text before it was reasoning.
    pub(super) reclassified: bool,
    /// Answer text other than white space, after such a tag if there was one.
    pub(super) answer: bool,
    /// Reasoning other than white space.
    pub(super) reasoning: bool,
}

impl FragmentContent {
    fn add(&mut self, more: Self) {
        self.reclassified |= more.reclassified;
        self.answer |= more.answer;
        self.reasoning |= more.reasoning;
    }
}

impl ThinkTags {
    /// Reasoning arrived separately from the text, so tags in the text are text.
    pub(super) fn sent_apart(&mut self) {
        self.state = TagState::Over;
    }

    #[inline]
    pub(super) fn read(&mut self, fragment: &[u8]) -> FragmentContent {
        if self.matched == 0 && opening_bracket(fragment).is_none() {
            return self.text(fragment);
        }
        self.tags(fragment)
    }

    #[inline(never)]
    fn tags(&mut self, fragment: &[u8]) -> FragmentContent {
        let mut content = FragmentContent::default();
        let mut rest = fragment;
        while !rest.is_empty() {
            if self.state == TagState::Over {
                content.answer |= self.matched > 0;
                self.matched = 0;
                content.add(self.text(rest));
                break;
            }
            if self.matched == 0 {
                let Some(at) = opening_bracket(rest) else {
                    content.add(self.text(rest));
                    break;
                };
                content.add(self.text(&rest[..at]));
                self.matched = 1;
                self.closing = false;
                rest = &rest[at + 1..];
            } else if self.matches(rest[0]) {
                self.matched += 1;
                rest = &rest[1..];
                self.complete(&mut content);
            } else {
                // Not a tag after all: its bytes are text, and this byte may begin another tag.
                self.matched = 0;
                content.add(self.text(b"<"));
            }
        }
        content
    }

    fn matches(&mut self, byte: u8) -> bool {
        if self.matched == 1 && byte == b'/' {
            self.closing = true;
            return true;
        }
        let tag = if self.closing { CLOSE } else { OPEN };
        tag[usize::from(self.matched)] == byte
    }

    fn complete(&mut self, content: &mut FragmentContent) {
        let tag = if self.closing { CLOSE } else { OPEN };
        if usize::from(self.matched) < tag.len() {
            return;
        }
        self.matched = 0;
        self.state = match (self.state, self.closing) {
            (TagState::Start, false) => TagState::Inside,
            // The answer mentions the tags.
            (TagState::Text, false) => {
                content.answer = true;
                TagState::Over
            }
            (TagState::Text, true) => {
                *content = FragmentContent { reclassified: true, answer: false, reasoning: true };
                TagState::Over
            }
            (TagState::Start | TagState::Inside, true) => TagState::Over,
            (state @ (TagState::Inside | TagState::Over), _) => state,
        };
    }

    #[inline]
    fn text(&mut self, text: &[u8]) -> FragmentContent {
        let mut content = FragmentContent::default();
        if text.iter().all(u8::is_ascii_whitespace) {
            return content;
        }
        if self.state == TagState::Inside {
            content.reasoning = true;
            return content;
        }
        if self.state == TagState::Start {
            self.state = TagState::Text;
        }
        content.answer = true;
        content
    }
}

/// Most fragments are a word, too short for a function call.
#[inline]
fn opening_bracket(text: &[u8]) -> Option<usize> {
    if text.len() < 32 { text.iter().position(|byte| *byte == b'<') } else { memchr(b'<', text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fragments: &[&str]) -> FragmentContent {
        let mut tags = ThinkTags::default();
        fragments.iter().fold(FragmentContent::default(), |before, fragment| {
            let now = tags.read(fragment.as_bytes());
            let kept = if now.reclassified { FragmentContent::default() } else { before };
            FragmentContent {
                reclassified: before.reclassified | now.reclassified,
                answer: kept.answer | now.answer,
                reasoning: before.reasoning | now.reasoning,
            }
        })
    }

    /// Tests every split into two fragments, and single bytes.
    #[track_caller]
    fn assert_found(text: &str, expected: FragmentContent) {
        for at in 0..=text.len() {
            assert_eq!(found(&[&text[..at], &text[at..]]), expected, "{text:?} split at {at}");
        }
        let bytes: Vec<&str> = text.split_inclusive(|_: char| true).collect();
        assert_eq!(found(&bytes), expected, "{text:?} byte by byte");
    }

    const ANSWER: FragmentContent = FragmentContent { reclassified: false, answer: true, reasoning: false };
    const REASONING: FragmentContent = FragmentContent { reclassified: false, answer: false, reasoning: true };
    const BOTH: FragmentContent = FragmentContent { reclassified: false, answer: true, reasoning: true };

    #[test]
    fn a_block_is_reasoning_and_what_follows_is_the_answer() {
        assert_found("<think>hm", REASONING);
        assert_found("<think>\nhm\n</think>\n\n", REASONING);
        assert_found("<think>hm</think>\n\nYes", BOTH);
    }

    #[test]
    fn an_empty_block_is_not_reasoning() {
        assert_found("<think>\n\n</think>\n\nYes", ANSWER);
    }

    #[test]
    fn text_before_a_closing_tag_alone_is_reasoning() {
        assert_found("hm</think>", FragmentContent { reclassified: true, answer: false, reasoning: true });
        assert_found("hm</think>\n\nYes", FragmentContent { reclassified: true, answer: true, reasoning: true });
    }

    #[test]
    fn text_that_only_looks_like_a_tag_is_text() {
        for text in ["a < b", "<thinking>", "</thin", "<<", "<b>bold</b>", "<", "</"] {
            let expected = if ["</thin", "<", "</"].contains(&text) { FragmentContent::default() } else { ANSWER };
            assert_found(text, expected);
        }
    }

    #[test]
    fn a_tag_in_the_middle_of_an_answer_is_text() {
        for text in [
            "<<think>hm</think>",
            "Put it between <think> and </think> tags.",
            "a<think>b",
            "a <think></think>b</think>",
        ] {
            assert_found(text, ANSWER);
        }
    }

    #[test]
    fn a_closing_tag_once_the_reasoning_is_over_is_text() {
        for text in
            ["<think>hm</think>\n\nClose it with </think>.", "<think>hm</think></think>", "<think>hm</think><think>"]
        {
            assert_found(text, BOTH);
        }
        assert_found("hm</think>Yes</think>", FragmentContent { reclassified: true, answer: true, reasoning: true });
        assert_found("<think></think>", FragmentContent::default());
        assert_found(" </think>Yes</think>", ANSWER);
    }

    #[test]
    fn a_tag_where_reasoning_was_sent_apart_is_text() {
        for text in ["</think>", "<think>hm", "a</think>"] {
            let mut tags = ThinkTags::default();
            tags.sent_apart();
            assert_eq!(tags.read(text.as_bytes()), ANSWER, "{text}");
        }
    }

    #[test]
    fn the_beginning_of_a_tag_is_text_once_reasoning_was_sent_apart() {
        let mut tags = ThinkTags::default();
        assert_eq!(tags.read(b"<th"), FragmentContent::default());
        tags.sent_apart();
        assert_eq!(tags.read(b" "), ANSWER);
        assert_eq!(tags.read(b" "), FragmentContent::default());
    }

    #[test]
    fn blanks_before_a_block_do_not_begin_an_answer() {
        assert_found("\n \n<think>hm</think>", REASONING);
    }

    #[test]
    fn blank_text_is_nothing() {
        assert_found(" \n\t ", FragmentContent::default());
    }
}
