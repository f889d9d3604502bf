//! All text that the tiny model can generate.
//!
//! A word is only ever followed by words that follow it below. The chain remembers nothing but the last token, so thoughts and answers must have no
//! word in common. (A word at the start of a line and the same word after a space are different tokens.)

/// One sentence per line; each ends with a full stop, after which the next sentence or the end follows.
pub(super) const ANSWERS: &str = "\
A request waits in line until the engine has room for it.
The prompt is read in one pass and its keys and values are kept.
Then the model writes one token after another.
Each token costs one pass through all layers.
A batch lets many users share that pass.
Short prompts start sooner than long prompts.
The first token tells how long the line was.
The gap between tokens tells how full the batch is.
A histogram keeps the slow ones visible where an average hides them.
Count what was asked and what was answered, then compare.
A client that hangs up frees its place at once.
An error inside a stream still arrives with status two hundred.
Measure at the edge where users wait.
Small models answer fast and large models answer well.
Memory fills with context, so old entries leave first.
Watch the queue before you watch the processor.
A good graph needs a name, a unit and a reason.
If two numbers disagree, trust neither until you know why.
Rust keeps the server honest about who owns each byte.
Numbers are cheap and trust is not.";

/// One thought per line; its full stop becomes `</think>`.
pub(super) const THOUGHTS: &str = "\
Okay this seems simple enough.
Hmm somebody wants my opinion; I shall be brief.
Right my reply should stay plain.
Perhaps some background helps; I shall mention both sides.
Okay somebody seems curious; my reply should help.";

/// The thought that greedy decoding generates: the chain's weights make this line the most likely one.
pub(super) const GREEDY_THOUGHT: &str = "Okay this seems simple enough.";

/// The whole answer that greedy decoding generates.
pub(super) const GREEDY_ANSWER: &str = "Measure at the edge where users wait.";

/// Splits a line as Qwen's pre-tokeniser does: a word includes the space before it, punctuation is separate.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in line.chars() {
        match words.last_mut() {
            Some(word) if c.is_alphabetic() && word.ends_with(|last: char| last.is_alphabetic() || last == ' ') => {
                word.push(c);
            }
            _ => words.push(c.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn words_take_their_leading_space_and_punctuation_stands_alone() {
        assert_eq!(words("A name, a unit."), ["A", " name", ",", " a", " unit", "."]);
    }

    #[test]
    fn thoughts_and_answers_share_no_word() {
        let answers: BTreeSet<_> = ANSWERS.lines().flat_map(words).collect();
        let shared: Vec<_> = THOUGHTS.lines().flat_map(words).filter(|w| w != "." && answers.contains(w)).collect();
        assert!(shared.is_empty(), "{shared:?}");
    }

    #[test]
    fn the_greedy_lines_are_in_the_corpus_and_repeat_no_word() {
        assert!(THOUGHTS.lines().any(|line| line == GREEDY_THOUGHT));
        assert!(ANSWERS.lines().any(|line| line == GREEDY_ANSWER));
        for line in [GREEDY_THOUGHT, GREEDY_ANSWER] {
            let all = words(line);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        }
    }
}
