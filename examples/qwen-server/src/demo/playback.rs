//! Plays a script like an engine: one token at a time, up to the limit.

use tokio::sync::OwnedSemaphorePermit;

use super::{Ends, Says, Script};
use crate::{
    engine::{Fault, Finish, Piece},
    telemetry::Handle,
};

/// How much of what is said again and again.
const AGAIN: usize = 4096;

/// A script as a stream; every word is a token. The choices come one after the other.
pub(crate) struct Playback {
    script: &'static Script,
    choices: usize,
    max_tokens: usize,
    /// The current choice, and the number of its words so far.
    choice: usize,
    words: usize,
    /// How many bytes of it.
    bytes: usize,
    tokens: u64,
    handle: Handle,
    /// The seat in the engine that this request occupies.
    _slots: OwnedSemaphorePermit,
}

impl Playback {
    pub(crate) fn new(
        script: &'static Script,
        choices: usize,
        max_tokens: usize,
        slots: OwnedSemaphorePermit,
        handle: Handle,
    ) -> Self {
        Self { script, choices, max_tokens, choice: 0, words: 0, bytes: 0, tokens: 0, handle, _slots: slots }
    }

    /// The next text of any choice; `None` when all of them have ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, Fault>> {
        if self.is_finished() {
            return None;
        }
        if self.words > 0 && !self.script.pause.is_zero() {
            tokio::time::sleep(self.script.pause).await;
        }
        Some(self.piece())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.choice >= self.choices
    }

    pub(crate) fn output_tokens(&self) -> u64 {
        self.tokens
    }

    pub(crate) fn reasoning_tokens(&self) -> u64 {
        if matches!(self.script.says, Says::Reasoning(_)) { self.tokens } else { 0 }
    }

    fn piece(&mut self) -> Result<Piece, Fault> {
        let choice = self.choice;
        let word = self.word();
        let finish = match &word {
            Some(_) if self.words + 1 == self.max_tokens => Some(Finish::Length),
            Some(_) => None,
            None if self.script.ends == Ends::Fails => {
                return Err(Fault::Failed(format!("the demonstration `{}` ends here", self.script.name)));
            }
            None if self.script.ends == Ends::Filtered => Some(Finish::Filtered),
            None => Some(Finish::Stop),
        };
        if let Some(word) = &word {
            (self.words, self.bytes, self.tokens) = (self.words + 1, self.bytes + word.len(), self.tokens + 1);
            self.handle.tokens(1);
        }
        if finish.is_some() {
            (self.choice, self.words, self.bytes) = (choice + 1, 0, 0);
        }
        let text = word.unwrap_or_default();
        let piece = Piece { choice, finish, ..Piece::default() };
        Ok(match self.script.says {
            Says::Reasoning(_) => Piece { reasoning: text, ..piece },
            Says::Refusal(_) => Piece { refusal: text, ..piece },
            _ => Piece { content: text, ..piece },
        })
    }

    fn word(&self) -> Option<String> {
        match self.script.says {
            Says::Answer(text) | Says::Reasoning(text) | Says::Refusal(text) => {
                text.split_inclusive(' ').nth(self.words).map(str::to_owned)
            }
            Says::Again(turn) => (self.bytes < AGAIN).then(|| turn.to_owned()),
            Says::Babble => Some(babble(self.words)),
        }
    }
}

/// A word that does not predict the next one.
fn babble(place: usize) -> String {
    const WORDS: [&str; 16] = [
        "river", "copper", "seldom", "north", "window", "quiet", "seven", "harbour", "under", "paper", "yellow",
        "although", "stone", "evening", "carries", "between",
    ];
    let mut mixed = (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!("{} ", WORDS[(mixed >> 60) as usize])
}

#[cfg(test)]
mod tests {
    use super::super::scripts::SCRIPTS;
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    async fn say(name: &str, choices: usize, max_tokens: usize) -> (Vec<Piece>, Option<Fault>, u64) {
        let script = SCRIPTS.iter().find(|script| script.name == name).unwrap();
        let slots = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut playback = Playback::new(script, script.choices(choices), max_tokens, slots, Handle::default());
        let mut pieces = Vec::new();
        while let Some(piece) = playback.next().await {
            match piece {
                Ok(piece) => pieces.push(piece),
                Err(fault) => return (pieces, Some(fault), playback.output_tokens()),
            }
        }
        assert!(playback.is_finished());
        (pieces, None, playback.output_tokens())
    }

    #[tokio::test]
    async fn a_script_ends_where_it_ends_or_at_the_limit() {
        let (pieces, _, tokens) = say("refusal", 1, 100).await;
        assert_eq!((tokens, pieces.last().unwrap().finish), (5, Some(Finish::Stop)));
        assert_eq!(pieces.iter().map(|piece| &*piece.refusal).collect::<String>(), "I cannot help with that.");
        let (pieces, _, tokens) = say("refusal", 1, 2).await;
        assert_eq!((tokens, pieces.last().unwrap().finish), (2, Some(Finish::Length)));
        let (pieces, _, tokens) = say("babble", 1, 1500).await;
        assert_eq!((tokens, pieces.len(), pieces.last().unwrap().finish), (1500, 1500, Some(Finish::Length)));
        let (pieces, _, _) = say("content_filter", 1, 100).await;
        assert_eq!(pieces.last().unwrap().finish, Some(Finish::Filtered));
    }

    #[tokio::test]
    async fn each_choice_has_all_of_it_and_none_has_nothing() {
        let (pieces, _, tokens) = say("valid_json", 2, 100).await;
        let of = |choice| pieces.iter().filter(move |piece| piece.choice == choice).map(|piece| &*piece.content);
        assert_eq!(of(0).collect::<String>(), of(1).collect::<String>());
        assert_eq!(tokens, 8);
        assert_eq!(say("no_choices", 2, 100).await.0.len(), 0);
    }

    #[tokio::test]
    async fn an_engine_that_fails_fails_after_its_first_words() {
        let (pieces, fault, _) = say("stream_cut", 1, 100).await;
        assert!(pieces.len() == 3 && matches!(fault, Some(Fault::Failed(_))), "{pieces:?}");
    }
}
