//! A byte-level BPE tokenizer in Qwen's format whose merges build every word of the corpus.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::corpus::words;

/// The special tokens after the bytes and merges; `true` marks those that never appear in text.
const SPECIAL: [(&str, bool); 7] = [
    ("<|endoftext|>", true),
    ("<|im_start|>", true),
    ("<|im_end|>", true),
    ("<tool_call>", false),
    ("</tool_call>", false),
    ("<think>", false),
    ("</think>", false),
];

/// Qwen's pre-tokeniser.
const SPLIT: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*\
                     |\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/// The pieces by id, and the merges that produce them.
pub(super) struct Vocabulary {
    pieces: Vec<String>,
    ids: HashMap<String, usize>,
    merges: Vec<(usize, usize)>,
    alphabet: Vec<char>,
}

impl Vocabulary {
    /// Merges the most common pair until every word of `lines`, and each of `whole`, is one token.
    pub(super) fn train<'a>(lines: impl Iterator<Item = &'a str>, whole: &[&str]) -> Self {
        let alphabet = byte_alphabet();
        let pieces: Vec<String> = alphabet.iter().map(char::to_string).collect();
        let ids = pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id)).collect();
        let mut vocabulary = Self { pieces, ids, merges: Vec::new(), alphabet };

        let mut corpus: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let mut count = |word: &str| *corpus.entry(word.bytes().map(usize::from).collect()).or_default() += 1;
        whole.iter().copied().for_each(&mut count);
        for line in lines {
            // A sentence starts an answer (`The`) or follows another sentence (` The`).
            let after_another = words(&format!(" {line}"));
            words(line).iter().chain(after_another.first()).for_each(|word| count(word));
        }
        while let Some(pair) = commonest_pair(&corpus) {
            let merged = vocabulary.merge(pair);
            corpus = corpus.into_iter().map(|(word, count)| (replace(&word, pair, merged), count)).collect();
        }
        vocabulary
    }

    fn merge(&mut self, (left, right): (usize, usize)) -> usize {
        self.merges.push((left, right));
        let piece = format!("{}{}", self.pieces[left], self.pieces[right]);
        *self.ids.entry(piece.clone()).or_insert_with(|| {
            self.pieces.push(piece);
            self.pieces.len() - 1
        })
    }

    /// The id of a text that is exactly one token.
    pub(super) fn id(&self, text: &str) -> Option<usize> {
        if let Some(position) = SPECIAL.iter().position(|(special, _)| *special == text) {
            return Some(self.pieces.len() + position);
        }
        let piece: String = text.bytes().map(|byte| self.alphabet[usize::from(byte)]).collect();
        self.ids.get(&piece).copied()
    }

    /// Rows of the embedding: the number of tokens, rounded up as in real models.
    pub(super) fn rows(&self) -> usize {
        (self.pieces.len() + SPECIAL.len()).div_ceil(64) * 64
    }

    /// The contents of `tokenizer.json`.
    pub(super) fn to_json(&self) -> Value {
        let vocab: Map<String, Value> = self.pieces.iter().enumerate().map(|(id, p)| (p.clone(), json!(id))).collect();
        let merges: Vec<_> = self.merges.iter().map(|&(l, r)| [&self.pieces[l], &self.pieces[r]]).collect();
        let added: Vec<Value> = SPECIAL
            .iter()
            .enumerate()
            .map(|(i, (content, hidden))| {
                json!({"id": self.pieces.len() + i, "content": content, "special": hidden,
                    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
            })
            .collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": false}, byte_level]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocab, "merges": merges, "dropout": null, "unk_token": null,
                "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": false}
        })
    }
}

/// The printable character that represents each byte (GPT-2's `bytes_to_unicode`).
fn byte_alphabet() -> Vec<char> {
    let printable = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut substitutes = '\u{100}'..;
    (0..=255u8).map(|b| if printable(b) { char::from(b) } else { substitutes.next().unwrap_or_default() }).collect()
}

/// The pair with the highest count; of several, the one with the smallest ids, so that the result is always the same.
fn commonest_pair(corpus: &BTreeMap<Vec<usize>, usize>) -> Option<(usize, usize)> {
    let mut pairs: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (word, count) in corpus {
        for pair in word.windows(2) {
            *pairs.entry((pair[0], pair[1])).or_default() += count;
        }
    }
    pairs.into_iter().max_by_key(|&(pair, count)| (count, std::cmp::Reverse(pair))).map(|(pair, _)| pair)
}

fn replace(word: &[usize], (left, right): (usize, usize), merged: usize) -> Vec<usize> {
    let mut replaced = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        if *first == left && tail.first() == Some(&right) {
            replaced.push(merged);
            rest = &tail[1..];
        } else {
            replaced.push(*first);
            rest = tail;
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_becomes_one_token_and_every_byte_stays_one() {
        let vocabulary = Vocabulary::train(["The gap between tokens.", "A gap."].into_iter(), &["\n\n"]);
        for word in ["\n\n", "The", " The", " gap", " between", " tokens", ".", "A", "\n", "z", "<think>", "<|im_end|>"]
        {
            assert!(vocabulary.id(word).is_some(), "{word:?}");
        }
        assert_eq!(vocabulary.id(" unheard"), None);
        assert_eq!(byte_alphabet().iter().collect::<std::collections::BTreeSet<_>>().len(), 256);
    }

    #[test]
    fn a_merge_replaces_each_pair_from_the_left() {
        assert_eq!(replace(&[1, 1, 1, 2], (1, 1), 9), [9, 1, 2]);
    }
}
