//! Which token follows which, and how often: a first-order Markov chain over the corpus.

use std::collections::BTreeMap;

use super::{
    corpus::{ANSWERS, GREEDY_ANSWER, GREEDY_THOUGHT, THOUGHTS, words},
    tokenizer::Vocabulary,
};

/// The average number of sentences of an answer at temperature 1.
const SENTENCES: f32 = 5.0;

/// The weights of the tokens that can follow each token. A token that has none is always the last one of a text.
pub(super) struct Chain {
    followers: BTreeMap<usize, BTreeMap<usize, f32>>,
    end: usize,
}

impl Chain {
    /// `None` if the vocabulary lacks a word of the corpus.
    pub(super) fn over(vocabulary: &Vocabulary) -> Option<Self> {
        let id = |text: &str| vocabulary.id(text);
        let (full_stop, end) = (id(".")?, id("<|im_end|>")?);
        let (prompt_end, think, unthink, blank_line) = (id("\n")?, id("<think>")?, id("</think>")?, id("\n\n")?);
        let mut chain = Self { followers: BTreeMap::new(), end };

        chain.add(&[prompt_end, think]);
        chain.add(&[unthink, blank_line]);
        for line in THOUGHTS.lines() {
            chain.add(&thought(vocabulary, line, think, unthink)?);
        }
        for line in ANSWERS.lines() {
            let sentence = tokens(vocabulary, line)?;
            let after_another = [&[full_stop, id(&format!(" {}", words(line).first()?))?], &sentence[1..]].concat();
            chain.add(&[&[blank_line], &sentence[..]].concat());
            chain.add(&after_another[..3]);
        }
        let lines = ANSWERS.lines().count() as f32;
        *chain.followers.entry(full_stop).or_default().entry(end).or_default() += lines / (SENTENCES - 1.0);

        chain.prefer(&thought(vocabulary, GREEDY_THOUGHT, think, unthink)?);
        let answer = tokens(vocabulary, GREEDY_ANSWER)?;
        chain.prefer(&[&[blank_line], &answer[..], &[end]].concat());
        Some(chain)
    }

    fn add(&mut self, path: &[usize]) {
        for step in path.windows(2) {
            *self.followers.entry(step[0]).or_default().entry(step[1]).or_default() += 1.0;
        }
    }

    /// Makes every step of `path` slightly more likely than the other steps, so that greedy decoding takes it.
    fn prefer(&mut self, path: &[usize]) {
        for step in path.windows(2) {
            let rivals = self.followers.entry(step[0]).or_default();
            let likeliest = rivals.values().copied().fold(0.0, f32::max);
            rivals.insert(step[1], likeliest * 1.1);
        }
    }

    /// The tokens that the model must distinguish: each has its own direction in the hidden state.
    pub(super) fn states(&self) -> Vec<usize> {
        self.followers.keys().copied().chain([self.end]).collect()
    }

    /// `(token, natural log of its probability)` for each token that can follow `state`. After the end token comes the end token.
    pub(super) fn log_probabilities(&self, state: usize) -> Vec<(usize, f32)> {
        let Some(followers) = self.followers.get(&state) else {
            return vec![(self.end, 0.0)];
        };
        let total: f32 = followers.values().sum();
        followers.iter().map(|(&token, weight)| (token, (weight / total).ln())).collect()
    }
}

fn tokens(vocabulary: &Vocabulary, line: &str) -> Option<Vec<usize>> {
    words(line).iter().map(|word| vocabulary.id(word)).collect()
}

/// `<think>`, the words, and `</think>` instead of the full stop.
fn thought(vocabulary: &Vocabulary, line: &str, think: usize, unthink: usize) -> Option<Vec<usize>> {
    let words = tokens(vocabulary, line.trim_end_matches('.'))?;
    Some([&[think], &words[..], &[unthink]].concat())
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary;
    use super::*;

    fn likeliest(chain: &Chain, state: usize) -> usize {
        chain.log_probabilities(state).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
    }

    #[test]
    fn the_likeliest_path_thinks_answers_and_ends() {
        let vocabulary = vocabulary();
        let chain = Chain::over(&vocabulary).unwrap();
        let mut path = vec![vocabulary.id("\n").unwrap()];
        while *path.last().unwrap() != chain.end {
            assert!(path.len() < 50, "greedy decoding must stop");
            path.push(likeliest(&chain, *path.last().unwrap()));
        }
        let mut expected = thought(&vocabulary, GREEDY_THOUGHT, path[1], path[7]).unwrap();
        expected.push(vocabulary.id("\n\n").unwrap());
        expected.extend(tokens(&vocabulary, GREEDY_ANSWER).unwrap());
        expected.push(chain.end);
        assert_eq!(path[1..], expected);
    }

    #[test]
    fn probabilities_sum_to_one_and_every_follower_is_a_state() {
        let chain = Chain::over(&vocabulary()).unwrap();
        let states = chain.states();
        for &state in &states {
            let followers = chain.log_probabilities(state);
            let sum: f32 = followers.iter().map(|(_, p)| p.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-4);
            assert!(followers.iter().all(|(token, _)| states.contains(token)));
        }
    }
}
