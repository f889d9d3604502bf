//! The requests of a load test: prompts, lengths, thinking, and disconnects.

mod lengths;
mod prompts;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use lengths::{InvalidLengths, Lengths};
pub use prompts::{InvalidPrompts, Prompts};

use crate::protocol::Question;

/// Whether models should think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ThinkingSwitch {
    /// The server's default.
    #[default]
    Unset,
    /// All requests.
    On,
    /// No request.
    Off,
    /// Every other request, so that both modes are measured at the same time and rate.
    Both,
}

/// The requests of a run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Workload {
    /// The source of prompts.
    pub prompts: Prompts,
    /// The number of words added in front of each prompt.
    pub input_words: Lengths,
    /// The limit on output tokens.
    pub output_tokens: Lengths,
    /// Whether responses are streamed. Without streaming, there is no time to first token.
    pub stream: bool,
    /// Whether models should think.
    pub thinking: ThinkingSwitch,
    /// The share of requests whose client disconnects in the middle of the response.
    pub hang_ups: f64,
    /// Whether each prompt begins with random words, so that no prefix cache answers.
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

/// Draws the requests of a workload.
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
    fn a_workload_is_drawn_as_configured_and_the_same_for_one_seed() {
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
    fn disabled_options_are_not_drawn() {
        let workload = Workload { distinct: false, ..Workload::default() };
        let draw = Draws::new(&workload, vec!["Hi".to_owned()], 1).draw();
        assert_eq!((draw.prompt.as_str(), draw.thinking, draw.hang_up_after), ("Hi", None, None));
    }
}
