//! What is asked: prompts, lengths, thinking, and who leaves before the end.

mod lengths;
mod prompts;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use lengths::{InvalidLengths, Lengths};
pub use prompts::{InvalidPrompts, Prompts};

use crate::protocol::Question;

/// Whether models are to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ThinkingSwitch {
    /// The server's default.
    #[default]
    Unset,
    /// All of them.
    On,
    /// None of them.
    Off,
    /// Every other one: what thinking costs is measured at one time and one rate.
    Both,
}

/// What is asked of the server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Workload {
    /// Where prompts come from.
    pub prompts: Prompts,
    /// Words that stand before a prompt, on top of its own.
    pub input_words: Lengths,
    /// The limit on the answer's tokens.
    pub output_tokens: Lengths,
    /// Whether answers are streamed. Without, there is no time to the first token.
    pub stream: bool,
    /// Whether models are to think.
    pub thinking: ThinkingSwitch,
    /// The share of requests whose client leaves after some of the answer.
    pub hang_ups: f64,
    /// Each prompt begins with words of its own, so that no cache of prefixes answers for the model.
    pub distinct: bool,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            prompts: Prompts::Mixture,
            input_words: Lengths::Fixed(0),
            output_tokens: Lengths::Uniform(32, 128),
            stream: true,
            thinking: ThinkingSwitch::Unset,
            hang_ups: 0.0,
            distinct: true,
        }
    }
}

/// One request, as drawn.
pub(crate) struct Draw {
    prompt: String,
    output_tokens: u32,
    stream: bool,
    pub(crate) thinking: Option<bool>,
    pub(crate) hang_up_after: Option<u64>,
}

impl Draw {
    pub(crate) fn question<'a>(&'a self, model: &'a str) -> Question<'a> {
        Question {
            model,
            prompt: &self.prompt,
            output_tokens: self.output_tokens,
            stream: self.stream,
            thinking: self.thinking,
        }
    }
}

/// Draws requests of a workload.
pub(crate) struct Draws {
    workload: Workload,
    prompts: Vec<String>,
    random: fastrand::Rng,
    number: u64,
}

impl Draws {
    pub(crate) fn new(workload: &Workload, prompts: Vec<String>, seed: u64) -> Self {
        Self { workload: workload.clone(), prompts, random: fastrand::Rng::with_seed(seed), number: 0 }
    }

    pub(crate) fn draw(&mut self) -> Draw {
        self.number += 1;
        let random = &mut self.random;
        let mut prompt = String::new();
        if self.workload.distinct {
            prompt += &format!("[{:08x}] ", random.u32(..));
        }
        let words = self.workload.input_words.draw(random) as usize;
        for word in prompts::FILLER.split_whitespace().cycle().take(words) {
            prompt += word;
            prompt.push(' ');
        }
        prompt += &self.prompts[random.usize(..self.prompts.len())];
        let output_tokens = self.workload.output_tokens.draw(random).max(1);
        let leaves = random.f64() < self.workload.hang_ups;
        Draw {
            prompt,
            output_tokens,
            stream: self.workload.stream,
            thinking: match self.workload.thinking {
                ThinkingSwitch::Unset => None,
                ThinkingSwitch::On => Some(true),
                ThinkingSwitch::Off => Some(false),
                ThinkingSwitch::Both => Some(self.number.is_multiple_of(2)),
            },
            hang_up_after: leaves.then(|| random.u64(1..=u64::from(output_tokens / 2).max(1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_drawn_as_it_says_and_the_same_for_one_seed() {
        let workload = Workload {
            input_words: Lengths::Fixed(20),
            output_tokens: Lengths::Uniform(10, 20),
            thinking: ThinkingSwitch::Both,
            hang_ups: 0.25,
            ..Workload::default()
        };
        let prompts = vec!["What is a token?".to_owned()];
        let mut draws = Draws::new(&workload, prompts.clone(), 1);
        let drawn: Vec<_> = (0..2000).map(|_| draws.draw()).collect();
        let leave = drawn.iter().filter(|draw| draw.hang_up_after.is_some()).count();
        assert!((440..560).contains(&leave), "{leave}");
        assert_eq!(drawn.iter().filter(|draw| draw.thinking == Some(true)).count(), 1000);
        assert!(drawn.iter().all(|draw| (10..=20).contains(&draw.output_tokens)));
        assert!(drawn.iter().all(|draw| draw.hang_up_after.is_none_or(|after| (1..=10).contains(&after))));
        assert!(drawn.iter().all(|draw| draw.prompt.split_whitespace().count() == 1 + 20 + 4), "{}", drawn[0].prompt);
        let distinct: std::collections::HashSet<_> = drawn.iter().map(|draw| &draw.prompt[..10]).collect();
        assert!(distinct.len() > 1990);
        let mut again = Draws::new(&workload, prompts, 1);
        assert!(drawn.iter().all(|draw| again.draw().prompt == draw.prompt));
    }

    #[test]
    fn what_is_not_wanted_is_not_drawn() {
        let workload = Workload { distinct: false, ..Workload::default() };
        let draw = Draws::new(&workload, vec!["Hi".to_owned()], 1).draw();
        assert_eq!((draw.prompt.as_str(), draw.thinking, draw.hang_up_after), ("Hi", None, None));
    }
}
