//! Detects a sequence of symbols that repeats at a distance.

use super::{
    COUNTING, EXACT, Period,
    units::{Extent, Look, Symbol},
};

/// The last `N` symbols, and the distance at which the latest of them repeat earlier ones.
///
/// A distance is a candidate if the last `K` symbols occurred there before. It is kept while each further symbol equals the one at that distance. If
/// there are numbers among the `K`, a distance with other numbers is also a candidate, because the numbers may increase.
#[derive(Clone, Debug)]
pub(super) struct Cycle<const N: usize, const K: usize> {
    symbols: [Symbol; N],
    /// The last position of each sequence of `K` symbols, by its hash. A sequence with numbers also has a hash that ignores their values.
    latest: [u8; N],
    /// The last four symbols, the latest in the lowest bits.
    context: u64,
    /// The number of symbols so far; as an index, modulo `N`.
    pushed: u32,
    run: Run,
}

/// For how long a distance has held.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// In symbols; 0 if there is no candidate.
    distance: u16,
    symbols: u32,
    bytes: u32,
    /// The first period.
    period: Extent,
    /// The increase of numbers per period; 0 while they are the same.
    step: u16,
}

impl<const N: usize, const K: usize> Default for Cycle<N, K> {
    fn default() -> Self {
        const { assert!(N.is_power_of_two() && N <= 256 && K < N && 1 <= K && K <= 4) };
        Self { symbols: [Symbol::default(); N], latest: [0; N], context: 0, pushed: 0, run: Run::default() }
    }
}

impl<const N: usize, const K: usize> Cycle<N, K> {
    #[inline(always)]
    pub(super) fn push(&mut self, symbol: Symbol, extent: Extent) {
        let here = self.pushed as usize % N;
        self.symbols[here] = symbol;
        self.pushed = self.pushed.wrapping_add(1);
        self.context = self.context << 16 | u64::from(symbol.bits());
        let last = self.context << (64 - 16 * K);
        if self.run.distance > 0 && !self.run.goes_on(symbol, self.back(self.run.distance.into()), extent) {
            self.run = Run::default();
        }
        // First the sequence with equal numbers, then the one whose numbers may increase.
        if symbol.is_number() {
            let there = self.stood(last, here);
            self.propose(symbol, here, there, extent);
        }
        let there = self.stood(Symbol::without_values(last), here);
        self.propose(symbol, here, there, extent);
    }

    /// The previous position of the `last` symbols, which is replaced by `here`.
    #[inline(always)]
    fn stood(&mut self, last: u64, here: usize) -> usize {
        let slot = (last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % N;
        std::mem::replace(&mut self.latest[slot], here as u8).into()
    }

    /// Makes the distance from `there` to `here` the candidate, if there is none.
    #[inline(always)]
    fn propose(&mut self, symbol: Symbol, here: usize, there: usize, extent: Extent) {
        if self.run.distance > 0 {
            return;
        }
        let distance = ((here + N - there) % N) as u16;
        if symbol.is_like(self.symbols[there]) {
            self.try_distance(distance, extent);
        } else if distance == 1 {
            // Two sequences with the same slot hide each other, and a short period has no other sequences.
            (2..=4).for_each(|distance| self.try_distance(distance, extent));
        }
    }

    /// The period that is being repeated, if it has repeated for long enough.
    #[inline]
    pub(super) fn loops(&self) -> Option<Period> {
        let run = &self.run;
        // Usually there is no candidate: the fast path.
        if run.bytes < EXACT {
            return None;
        }
        let enough = run.period.bytes + if run.step == 0 { EXACT } else { COUNTING };
        (self.has_period() && run.bytes >= enough).then_some(Period(run.period))
    }

    /// Whether a whole period has been repeated.
    pub(super) fn has_period(&self) -> bool {
        self.run.distance > 0 && self.run.symbols >= u32::from(self.run.distance)
    }

    #[inline(never)]
    fn try_distance(&mut self, distance: u16, extent: Extent) {
        let before = u32::from(distance);
        let alike = |back: u32| self.back(back).is_like(self.back(back + before));
        let reach = before + K as u32;
        let fits = self.run.distance == 0 && reach <= self.pushed.min(N as u32);
        if !fits || !(0..K as u32).all(alike) {
            return;
        }
        // A sequence that mixes several units.
        let look = if distance == 1 { Look::default() } else { Look::MIXED };
        let mut run = Run { distance, period: Extent { look, bytes: 0 }, ..Run::default() };
        if run.goes_on(self.back(0), self.back(before), extent) {
            self.run = run;
        }
    }

    /// The symbol at this distance.
    fn back(&self, others: u32) -> Symbol {
        self.symbols[self.pushed.wrapping_sub(1 + others) as usize % N]
    }
}

impl Run {
    /// Adds a symbol, if it matches the symbol at the distance `before`.
    #[inline(always)]
    fn goes_on(&mut self, symbol: Symbol, before: Symbol, extent: Extent) -> bool {
        let allowed = symbol == before || self.counts(symbol, before);
        if allowed {
            self.symbols = self.symbols.saturating_add(1);
            self.bytes = self.bytes.saturating_add(extent.bytes);
            if self.symbols <= u32::from(self.distance) {
                self.period = Extent { bytes: self.bytes, look: self.period.look.union(extent.look) };
            }
        }
        allowed
    }

    /// Whether a number has increased like those before it.
    #[inline(never)]
    fn counts(&mut self, symbol: Symbol, before: Symbol) -> bool {
        if !symbol.is_number() || !before.is_number() {
            return false;
        }
        let step = symbol.since(before);
        if self.step == 0 {
            self.step = step;
        }
        self.step == step
    }
}

#[cfg(test)]
mod tests {
    use super::{super::units::Units, *};

    const EXTENT: Extent = Extent { bytes: 1, look: Look::MIXED };

    fn symbol(unit: u8) -> Symbol {
        Units::begin(unit).unit().expect("one byte is a unit").symbol
    }

    /// The index of the symbol with which a sequence of six, with three others before it, has been repeated.
    fn period_after<const N: usize, const K: usize>() -> Option<usize> {
        let mut cycle = Cycle::<N, K>::default();
        let mut units = b"XYZ".iter().chain(b"abcdef".iter().cycle()).take(100);
        units.position(|unit| {
            cycle.push(symbol(*unit), EXTENT);
            cycle.has_period()
        })
    }

    #[test]
    fn a_distance_becomes_the_candidate_as_soon_as_the_last_symbols_occurred_there() {
        assert_eq!(period_after::<128, 1>(), Some(3 + 12 - 1));
        assert_eq!(period_after::<256, 4>(), Some(3 + 15 - 1), "the fourth of them is the first that counts");
    }

    #[test]
    fn a_distance_is_kept_while_it_holds() {
        let mut cycle = Cycle::<256, 1>::default();
        b"abababab".iter().for_each(|unit| cycle.push(symbol(*unit), EXTENT));
        assert_eq!(cycle.run.distance, 2);
        cycle.try_distance(4, EXTENT);
        assert_eq!(cycle.run.distance, 2);
    }

    #[test]
    fn symbols_that_were_never_pushed_are_not_a_repetition() {
        let mut cycle = Cycle::<256, 4>::default();
        (0..3).for_each(|_| cycle.push(Symbol::default(), EXTENT));
        cycle.try_distance(1, EXTENT);
        assert_eq!(cycle.run.distance, 0);
    }

    #[test]
    fn a_number_does_not_increase_from_a_word() {
        let mut run = Run { distance: 1, ..Run::default() };
        for (one, other) in [(b'7', b'a'), (b'a', b'7')] {
            assert!(!run.goes_on(symbol(one), symbol(other), EXTENT));
        }
        assert!(run.goes_on(symbol(b'7'), symbol(b'5'), EXTENT));
    }
}
