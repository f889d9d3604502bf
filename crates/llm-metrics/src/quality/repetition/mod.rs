//! Detects text that repeats itself in a loop.
//!
//! A text is in a loop if each of its pieces equals the piece one *period* before, for a whole period and [`EXACT`] more bytes. Pieces are [`units`]:
//! words, numbers, single signs. A ring of fixed length ([`cycle`]) stores only the hash of each unit, or the value of a number. Numbers that
//! increase by the same step in each period (`Step 7 …`, `Step 8 …`) are a loop, too, after [`COUNTING`] bytes. A second ring finds periods that are
//! longer than the first ring. Its pieces are blocks of about thirty units. Block boundaries depend on hashes, so one in some thousands of the
//! periods that are barely longer than the first ring has no boundary and is not found.
//!
//! ```text
//!   bytes ─► units ─┬───────────────► cycle of up to 256 units   (1 KB of text, say)
//!                   └─► blocks ─────► cycle of up to 128 blocks  (15 KB)
//! ```
//!
//! Long, regular and valid text does not reach that: a refrain is interrupted by verses, a table row has different cells, and a list numbers
//! *different* items.

mod cycle;
mod units;

use cycle::Cycle;
use units::{Extent, Look, Symbol, Units};

use crate::vocabulary::RepetitionKind;

/// The number of bytes after one period that must repeat: a matrix of zeros may have a kilobyte, but a loop does not end.
const EXACT: u32 = 1024;
/// The same for numbers that increase. A list of them may be long.
const COUNTING: u32 = 1792;
/// The longest period that counts as a phrase.
const PHRASE: u32 = 64;
/// A block ends after four units whose hash begins with this many zeros.
const BLOCK_ZEROS: u32 = 5;

/// Whether a loop fits into this many bytes.
pub(crate) fn fits_into(bytes: u64) -> bool {
    bytes > u64::from(EXACT)
}

/// Checks one text for loops, and reports the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repetition {
    units: Units,
    fine: Cycle<256, 4>,
    coarse: Cycle<128, 1>,
    block: Block,
    found: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    hash: u32,
    bytes: u32,
    /// A byte for each of the last four units. Block boundaries depend only on the text, so that a block is the same wherever it occurs.
    window: u32,
}

impl Repetition {
    /// Reads the next piece of the text.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<RepetitionKind> {
        if self.found {
            return None;
        }
        // A local copy stays in registers.
        let mut units = self.units;
        let mut rest = units.read_letters(text);
        while let [byte, after @ ..] = rest {
            if !units.add(*byte) {
                if let Some(unit) = units.unit() {
                    let found = self.unit(unit.symbol, unit.hash, unit.extent);
                    if found.is_some() {
                        self.found = true;
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
        if let Some(period) = self.fine.loops() {
            return Some(period.kind());
        }
        let block = self.block.add(hash, extent.bytes)?;
        self.block(&block)
    }

    /// Ends a block, which happens about once in thirty units.
    #[inline(never)]
    fn block(&mut self, block: &Block) -> Option<RepetitionKind> {
        let extent = Extent { bytes: block.bytes, look: Look::MIXED.union(Look::SOLID) };
        self.coarse.push(Symbol::of_block(block.hash), extent);
        // The shorter period describes the loop better.
        self.coarse.loops().filter(|_| !self.fine.has_period()).map(|_| RepetitionKind::Cycle)
    }
}

impl Block {
    /// Adds a unit. Returns the block that ends with it.
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

/// The kind of text that a loop repeats.
#[derive(Clone, Copy, Debug)]
struct Period(Extent);

impl Period {
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

    /// The number of bytes after which a loop is detected, and its kind.
    fn first_loop(text: &str) -> Option<(usize, RepetitionKind)> {
        let mut repetition = Repetition::default();
        (0..text.len()).find_map(|at| Some((at, repetition.read(&text.as_bytes()[at..=at])?)))
    }

    #[track_caller]
    fn assert_found(before: &str, period: &str, kind: RepetitionKind) {
        let text = before.to_owned() + &period.repeat(16 + 6000 / period.len());
        let (at, found) = first_loop(&text).unwrap_or_else(|| panic!("{period:?} is not detected"));
        assert_eq!(found, kind, "{period:?}");
        let limit = before.len() + 2 * period.len() + 2048;
        assert!(at <= limit, "{period:?} is found after {at} bytes, {} late", at - limit);
        assert!(
            at >= before.len() + period.len() + EXACT as usize - PHRASE as usize,
            "{period:?} is detected after {at} bytes"
        );
    }

    #[test]
    fn loops_are_found_within_2_kb_of_their_second_period() {
        let block: String =
            (0..90).map(|n| format!("    let field_{n} = read(&mut buffer, {})?;\n", n * n % 97)).collect();
        let paragraph = "The report says that the bridge was closed in March, that two of its four cables had rusted, and that nobody had \
                         looked at them since the flood. It does not say who was to look. ";
        // No unit except the space between words occurs twice, so only the second ring is long enough for the period.
        let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
        let words: String = (0..600).map(|n| format!("{}{} ", letter(n), letter(n / 26))).collect();
        for before in ["", "Certainly! Let us think about this step by step, and not too fast.\n\n"] {
            use RepetitionKind::*;
            assert_found(before, "a", CharRun);
            assert_found(before, "\n", CharRun);
            assert_found(before, " \n", CharRun);
            assert_found(before, "哈", CharRun);
            assert_found(before, "😂", CharRun);
            assert_found(before, "!", CharRun);
            assert_found(before, "the ", TokenRun);
            assert_found(before, "abc", TokenRun);
            assert_found(before, "ha ha, ", TokenRun);
            assert_found(before, "yes yes yes no no no well well well ", TokenRun);
            assert_found(before, "我不知道，", TokenRun);
            assert_found(before, "я не знаю, ", TokenRun);
            assert_found(before, "0, ", TokenRun);
            assert_found(before, "522", Cycle);
            assert_found(before, "0\n1\n", Cycle);
            assert_found(before, "ié\n", Cycle);
            assert_found(before, "3, 1, 4, 1, 5, ", TokenRun);
            assert_found(before, "I will check the file again. ", TokenRun);
            assert_found(before, "I will check.\n", Cycle);
            assert_found(before, paragraph, Cycle);
            assert_found(before, &block, Cycle);
            assert_found(before, &words, Cycle);
            assert_found(before, &format!("{paragraph}\n\n{}", paragraph.to_uppercase()), Cycle);
        }
    }

    /// Numbers of words, of which there are four.
    fn random_words(count: usize) -> Vec<u32> {
        let next = |random: &u32| Some(random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(Some(1), next).map(|random: u32| random >> 30).take(count).collect()
    }

    /// The words that blocks end with.
    fn block_ends(words: &[u32]) -> Vec<usize> {
        let mut block = Block::default();
        (0..words.len()).filter(|at| block.add(words[*at], 4).is_some()).collect()
    }

    #[test]
    fn a_text_of_a_few_words_is_cut_into_blocks_as_any_other() {
        let blocks = block_ends(&random_words(8000)).len();
        assert!((125..500).contains(&blocks), "{blocks}: one in some thirty units ends a block");
    }

    #[test]
    fn where_a_block_ends_depends_on_the_last_four_units_and_on_nothing_before() {
        let words = random_words(2000);
        let all = block_ends(&words);
        for from in 0..words.len() - 40 {
            let expected: Vec<_> = all.iter().copied().filter(|at| (from + 4..from + 40).contains(at)).collect();
            let ends = block_ends(&words[from..from + 40]).into_iter().map(|at| from + at);
            assert_eq!(ends.filter(|at| *at >= from + 4).collect::<Vec<_>>(), expected, "from the word {from} on");
        }
    }

    #[test]
    fn a_loop_whose_numbers_increase_is_a_loop() {
        let counting: String =
            (1..200).map(|n| format!("Step {n}: check the file, then go to step {}.\n", n + 1)).collect();
        let (at, kind) = first_loop(&counting).expect("it counts");
        assert_eq!(kind, RepetitionKind::Cycle);
        assert!(at <= 2 * 45 + 2048, "{at}");
        let down: String = (1..200).rev().map(|n| format!("Attempt {n} of 200 failed. ")).collect();
        assert!(first_loop(&down).is_some());
    }

    #[test]
    fn numbers_that_do_not_increase_by_the_same_step_are_data() {
        let rows: String =
            (0..200).map(|n| format!("{{\"id\": {n}, \"value\": {}}},\n", n * n * 7919 % 1000)).collect();
        assert_eq!(first_loop(&rows), None);
        let squares: String = (0..400).map(|n| format!("{}, ", n * n)).collect();
        assert_eq!(first_loop(&squares), None);
    }

    #[test]
    fn a_long_block_that_comes_twice_is_not_a_loop() {
        let block: String = (0..90).map(|n| format!("line {} of it: {}\n", n * n % 89, n * 7919 % 1009)).collect();
        assert_eq!(first_loop(&block.repeat(2)), None);
        assert!(first_loop(&block.repeat(3)).is_some());
    }

    #[test]
    fn no_loop_is_found_in_too_few_bytes() {
        for period in ["a", "\n", "哈", "ha ", "0, ", "I will check.\n"] {
            let (at, _) = first_loop(&period.repeat(4000)).expect("a loop");
            assert!(fits_into(at as u64 + 1), "{period:?} is found after {at} bytes");
        }
        assert!(!fits_into(EXACT.into()));
    }

    #[test]
    fn a_loop_is_reported_once() {
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
            before in "[a-zé ,.\n0-9]{0,300}", period in "[a-zé ,.\n0-9]{1,80}", cuts in prop::collection::vec(0usize..200, 0..40),
        ) {
            let text = before + &period.repeat(4000 / period.len());
            let mut parts = Repetition::default();
            let found = pieces(text.as_bytes(), &cuts).find_map(|piece| parts.read(piece));
            prop_assert_eq!(found, first_loop(&text).map(|(_, kind)| kind));
        }

        #[test]
        fn a_period_of_any_length_of_the_first_ring_is_found(before in "[a-z ,.\n0-9]{0,300}", period in "[a-zé ,.\n0-9]{1,256}") {
            let text = before.clone() + &period.repeat(3 + 5000 / period.len());
            let (at, _) = first_loop(&text).expect("a loop");
            prop_assert!(at <= before.len() + 2 * period.len() + 2048, "{} bytes, a period has {}", at, period.len());
        }
    }
}
