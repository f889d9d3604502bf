//! Rejects prompts that are far too long before the engine gets them.
//!
//! The engine tokenises on the thread on which it generates, so a prompt of megabytes would delay all other requests. Here it is counted on another
//! thread, piece by piece, and only until it is clear that it does not fit.

use std::sync::Arc;

/// Bytes per tokenised piece.
const SLICE: usize = 4096;

/// Tokens that a cut in the middle of a word adds at most, as far as it matters.
const CUT: usize = 4;

/// Counts tokens without the engine.
#[derive(Clone)]
pub(super) struct LengthGuard {
    count: Arc<dyn Fn(&str) -> usize + Send + Sync>,
}

impl LengthGuard {
    pub(super) fn new(count: impl Fn(&str) -> usize + Send + Sync + 'static) -> Self {
        Self { count: Arc::new(count) }
    }

    /// A lower bound above `limit` of the number of tokens, or `None` if the texts may fit.
    pub(super) fn excess(&self, texts: &[String], limit: usize) -> Option<usize> {
        // A token has at least one byte.
        if texts.iter().map(String::len).sum::<usize>() <= limit {
            return None;
        }
        let mut tokens = 0;
        for slice in texts.iter().flat_map(|text| slices(text)) {
            tokens += (self.count)(slice).saturating_sub(CUT);
            if tokens > limit {
                return Some(tokens);
            }
        }
        None
    }
}

/// Pieces of about [`SLICE`] bytes that do not cut a character.
fn slices(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let end = (SLICE.min(text.len())..=text.len()).find(|end| text.is_char_boundary(*end))?;
        let (slice, rest) = text.split_at(end);
        text = rest;
        Some(slice).filter(|slice| !slice.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn counting_stops_when_it_is_clear_that_the_text_does_not_fit() {
        let counted = Arc::new(AtomicUsize::new(0));
        let guard = LengthGuard::new({
            let counted = Arc::clone(&counted);
            move |text| {
                counted.fetch_add(text.len(), Ordering::Relaxed);
                text.len() / 2
            }
        });
        assert!(guard.excess(&["x".repeat(1 << 20)], 4096).is_some());
        assert!(counted.load(Ordering::Relaxed) < 4 * SLICE);
        assert_eq!(guard.excess(&["x".repeat(8000)], 4096), None, "4000 tokens fit");
        assert_eq!(guard.excess(&[], 10), None);
    }

    #[test]
    fn slices_make_up_the_text_and_cut_no_character() {
        let text = "\u{1f980}".repeat(SLICE);
        assert_eq!(slices(&text).collect::<String>(), text);
        assert!(slices(&text).count() > 3);
    }
}
