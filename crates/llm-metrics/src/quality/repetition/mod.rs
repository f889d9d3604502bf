//! Whether a text goes round in circles.
//!
//! A text loops when each of its pieces is what stood one *turn* before, for a whole turn and [`EXACT`] bytes more. Pieces are
//! [`units`]: words, numbers, single signs. Of each only a hash is kept, in a ring of a fixed length ([`cycle`]), of a number its
//! value: numbers that grow by the same step from turn to turn (`Step 7 …`, `Step 8 …`) make a loop, too, after [`COUNTING`] bytes.
//! Turns that are longer than one ring are found in a second one, whose pieces are blocks of some thirty units. Where a block ends is up to chance, so
//! that of turns barely longer than the first ring one in some thousands has no block in it and is not found.
//!
//! ```text
//!   bytes ─► units ─┬───────────────► cycle of up to 256 units   (1 KB of text, say)
//!                   └─► blocks ─────► cycle of up to 128 blocks  (15 KB)
//! ```
//!
//! What is long and regular, yet healthy, stops short of that: a refrain comes between verses, a row of a table has other cells,
//! a list numbers *different* things.

mod cycle;
mod units;

use cycle::Cycle;
use units::{Extent, Look, Symbol, Units};

use crate::vocabulary::RepetitionKind;

/// So many bytes past one turn have to repeat: a matrix of zeros may have a kilobyte, a loop has no end.
const EXACT: u32 = 1024;
/// The same where numbers count on. A list of them may be long.
const COUNTING: u32 = 1792;
/// The longest turn that is a phrase.
const PHRASE: u32 = 64;
/// Where a block ends: after four units whose hash begins with so many zeros.
const BLOCK_ZEROS: u32 = 5;

/// Whether a loop has room in so many bytes.
pub(crate) fn fits_into(bytes: u64) -> bool {
    bytes > u64::from(EXACT)
}

/// Watches one text for loops; tells of the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repetition {
    units: Units,
    fine: Cycle<256, 4>,
    coarse: Cycle<128, 1>,
    block: Block,
    told: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    hash: u32,
    bytes: u32,
    /// A byte for each of the last four units. What ends a block stands in the text, so that a block is the same wherever it comes.
    window: u32,
}

impl Repetition {
    /// Reads the next piece of the text.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<RepetitionKind> {
        if self.told {
            return None;
        }
        // A copy of its own stays in registers.
        let mut units = self.units;
        let mut rest = units.read_letters(text);
        while let [byte, after @ ..] = rest {
            if !units.add(*byte) {
                if let Some(unit) = units.unit() {
                    let found = self.unit(unit.symbol, unit.hash, unit.extent);
                    if found.is_some() {
                        self.told = true;
                        return found;
                    }
                }
                units = Units::begin(*byte);
            }
            rest = units.read_letters(after);
        }
        self.units = units;
        None
    }

    #[inline(always)]
    fn unit(&mut self, symbol: Symbol, hash: u32, extent: Extent) -> Option<RepetitionKind> {
        self.fine.push(symbol, extent);
        if let Some(turn) = self.fine.loops() {
            return Some(turn.kind());
        }
        let block = self.block.add(hash, extent.bytes)?;
        self.block(&block)
    }

    /// A block has ended, as one in some thirty units does.
    #[inline(never)]
    fn block(&mut self, block: &Block) -> Option<RepetitionKind> {
        let extent = Extent { bytes: block.bytes, look: Look::MIXED.and(Look::SOLID) };
        self.coarse.push(Symbol::of_block(block.hash), extent);
        // The shorter turn is the better name for it.
        self.coarse.loops().filter(|_| !self.fine.has_turned()).map(|_| RepetitionKind::Cycle)
    }
}

impl Block {
    /// Adds a unit. Tells the block that ends with it.
    #[inline]
    fn add(&mut self, hash: u32, bytes: u32) -> Option<Self> {
        let hash = hash.wrapping_mul(0x9e37_79b1);
        self.hash = (self.hash.rotate_left(5) ^ hash).wrapping_mul(0x85eb_ca6b);
        self.bytes += bytes;
        self.window = self.window << 8 | hash >> 24;
        let ends = self.window.wrapping_mul(0xc2b2_ae35).leading_zeros() >= BLOCK_ZEROS;
        ends.then(|| std::mem::replace(self, Self { window: self.window, ..Self::default() }))
    }
}

/// What a loop goes through again and again.
#[derive(Clone, Copy, Debug)]
struct Turn(Extent);

impl Turn {
    fn kind(self) -> RepetitionKind {
        let Self(Extent { bytes, look }) = self;
        if !look.has(Look::MIXED) || !look.has(Look::SOLID) {
            RepetitionKind::CharRun
        } else if bytes <= PHRASE && !look.has(Look::LINE_BREAK) {
            RepetitionKind::TokenRun
        } else {
            RepetitionKind::Cycle
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::quality::tests::pieces;

    /// After how many bytes a loop is told, and what kind it is.
    fn told(text: &str) -> Option<(usize, RepetitionKind)> {
        let mut repetition = Repetition::default();
        (0..text.len()).find_map(|at| Some((at, repetition.read(&text.as_bytes()[at..=at])?)))
    }

    #[track_caller]
    fn assert_told(before: &str, turn: &str, kind: RepetitionKind) {
        let text = before.to_owned() + &turn.repeat(16 + 6000 / turn.len());
        let (at, told) = told(&text).unwrap_or_else(|| panic!("{turn:?} is no loop"));
        assert_eq!(told, kind, "{turn:?}");
        let limit = before.len() + 2 * turn.len() + 2048;
        assert!(at <= limit, "{turn:?} is told after {at} bytes, {} late", at - limit);
        assert!(
            at >= before.len() + turn.len() + EXACT as usize - PHRASE as usize,
            "{turn:?} is told after {at} bytes"
        );
    }

    #[test]
    fn loops_are_told_within_2_kb_of_their_second_turn() {
        let block: String =
            (0..90).map(|n| format!("    let field_{n} = read(&mut buffer, {})?;\n", n * n % 97)).collect();
        let paragraph = "The report says that the bridge was closed in March, that two of its four cables had rusted, and that nobody had \
                         looked at them since the flood. It does not say who was to look. ";
        for before in ["", "Certainly! Let us think about this step by step, and not too fast.\n\n"] {
            use RepetitionKind::*;
            assert_told(before, "a", CharRun);
            assert_told(before, "\n", CharRun);
            assert_told(before, " \n", CharRun);
            assert_told(before, "哈", CharRun);
            assert_told(before, "😂", CharRun);
            assert_told(before, "!", CharRun);
            assert_told(before, "the ", TokenRun);
            assert_told(before, "abc", TokenRun);
            assert_told(before, "ha ha, ", TokenRun);
            assert_told(before, "我不知道，", TokenRun);
            assert_told(before, "я не знаю, ", TokenRun);
            assert_told(before, "0, ", TokenRun);
            assert_told(before, "522", Cycle);
            assert_told(before, "0\n1\n", Cycle);
            assert_told(before, "ié\n", Cycle);
            assert_told(before, "3, 1, 4, 1, 5, ", TokenRun);
            assert_told(before, "I will check the file again. ", TokenRun);
            assert_told(before, "I will check.\n", Cycle);
            assert_told(before, paragraph, Cycle);
            assert_told(before, &block, Cycle);
            assert_told(before, &format!("{paragraph}\n\n{}", paragraph.to_uppercase()), Cycle);
        }
    }

    #[test]
    fn a_loop_whose_numbers_count_is_a_loop() {
        let counting: String =
            (1..200).map(|n| format!("Step {n}: check the file, then go to step {}.\n", n + 1)).collect();
        let (at, kind) = told(&counting).expect("it counts");
        assert_eq!(kind, RepetitionKind::Cycle);
        assert!(at <= 2 * 45 + 2048, "{at}");
        let down: String = (1..200).rev().map(|n| format!("Attempt {n} of 200 failed. ")).collect();
        assert!(told(&down).is_some());
    }

    #[test]
    fn numbers_that_do_not_count_are_data() {
        let rows: String =
            (0..200).map(|n| format!("{{\"id\": {n}, \"value\": {}}},\n", n * n * 7919 % 1000)).collect();
        assert_eq!(told(&rows), None);
        let squares: String = (0..400).map(|n| format!("{}, ", n * n)).collect();
        assert_eq!(told(&squares), None);
    }

    #[test]
    fn a_long_block_that_comes_twice_is_no_loop() {
        let block: String = (0..90).map(|n| format!("line {} of it: {}\n", n * n % 89, n * 7919 % 1009)).collect();
        assert_eq!(told(&block.repeat(2)), None);
        assert!(told(&block.repeat(3)).is_some());
    }

    #[test]
    fn no_loop_is_told_in_so_few_bytes_that_none_fits_into_them() {
        for turn in ["a", "\n", "哈", "ha ", "0, ", "I will check.\n"] {
            let (at, _) = told(&turn.repeat(4000)).expect("a loop");
            assert!(fits_into(at as u64 + 1), "{turn:?} is told after {at} bytes");
        }
        assert!(!fits_into(EXACT.into()));
    }

    #[test]
    fn a_loop_is_told_once() {
        let mut repetition = Repetition::default();
        assert_eq!(repetition.read("ha ".repeat(1000).as_bytes()), Some(RepetitionKind::TokenRun));
        assert_eq!(repetition.read("ha ".repeat(1000).as_bytes()), None);
    }

    #[test]
    fn its_memory_is_constant_and_small() {
        assert!(size_of::<Repetition>() <= 1408, "{} bytes", size_of::<Repetition>());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_text_is_cut(
            before in "[a-zé ,.\n0-9]{0,300}", turn in "[a-zé ,.\n0-9]{1,80}", cuts in prop::collection::vec(0usize..200, 0..40),
        ) {
            let text = before + &turn.repeat(4000 / turn.len());
            let mut parts = Repetition::default();
            let found = pieces(text.as_bytes(), &cuts).find_map(|piece| parts.read(piece));
            prop_assert_eq!(found, told(&text).map(|(_, kind)| kind));
        }

        #[test]
        fn a_text_of_any_turn_of_the_first_ring_is_told(before in "[a-z ,.\n0-9]{0,300}", turn in "[a-zé ,.\n0-9]{1,256}") {
            let text = before.clone() + &turn.repeat(3 + 5000 / turn.len());
            let (at, _) = told(&text).expect("a loop");
            prop_assert!(at <= before.len() + 2 * turn.len() + 2048, "{} bytes, a turn has {}", at, turn.len());
        }
    }
}
