//! Whether a sequence of symbols follows itself at a distance.

use super::{
    COUNTING, EXACT, Turn,
    units::{Extent, Look, Symbol},
};

/// The last `N` symbols, and the distance at which the latest of them repeat what came before.
///
/// A distance is tried where the last `K` symbols stood there, too, and kept while each further symbol is the one at that distance. Where there are
/// numbers among the `K`, a distance at which others stood is tried as well: they may count on.
#[derive(Clone, Debug)]
pub(super) struct Cycle<const N: usize, const K: usize> {
    symbols: [Symbol; N],
    /// Where `K` symbols stood last, by their hash; of those with numbers among them also by the hash of what they are whatever their values.
    latest: [u8; N],
    /// The last four symbols, the latest one lowest.
    context: u64,
    /// How many there were; as an index, modulo `N`.
    pushed: u32,
    run: Run,
}

/// How long a distance has held.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// In symbols; 0 where there is none.
    distance: u16,
    symbols: u32,
    bytes: u32,
    /// The first turn.
    turn: Extent,
    /// By how much numbers grow with each turn; 0 while they are the same.
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
        // Numbers that come again, before those that may count on.
        if symbol.is_number() {
            let there = self.stood(last, here);
            self.propose(symbol, here, there, extent);
        }
        let there = self.stood(Symbol::without_values(last), here);
        self.propose(symbol, here, there, extent);
    }

    /// Where the `last` symbols stood before; from now on, that is `here`.
    #[inline(always)]
    fn stood(&mut self, last: u64, here: usize) -> usize {
        let slot = (last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % N;
        std::mem::replace(&mut self.latest[slot], here as u8).into()
    }

    /// Tries the distance from `there` to `here`, where no other is being followed.
    #[inline(always)]
    fn propose(&mut self, symbol: Symbol, here: usize, there: usize, extent: Extent) {
        if self.run.distance > 0 {
            return;
        }
        let distance = ((here + N - there) % N) as u16;
        if symbol.is_like(self.symbols[there]) {
            self.try_distance(distance, extent);
        } else if distance == 1 {
            // Two contexts in one slot hide each other, and a short turn has no others.
            (2..=4).for_each(|distance| self.try_distance(distance, extent));
        }
    }

    /// The turn that is being repeated, if it has been for long enough.
    #[inline]
    pub(super) fn loops(&self) -> Option<Turn> {
        let run = &self.run;
        // Mostly there is none, which is to be seen at a glance.
        if run.bytes < EXACT {
            return None;
        }
        let enough = run.turn.bytes + if run.step == 0 { EXACT } else { COUNTING };
        (self.has_turned() && run.bytes >= enough).then_some(Turn(run.turn))
    }

    /// A whole turn has been repeated.
    pub(super) fn has_turned(&self) -> bool {
        self.run.distance > 0 && self.run.symbols >= u32::from(self.run.distance)
    }

    #[inline(never)]
    fn try_distance(&mut self, distance: u16, extent: Extent) {
        let before = u32::from(distance);
        let alike = |back: u32| self.back(back).is_like(self.back(back + before));
        let reach = before + K as u32;
        let fits = self.run.distance == 0 && distance > 0 && reach < N as u32 && reach <= self.pushed;
        if !fits || !(0..K as u32).all(alike) {
            return;
        }
        // What is mixed of one unit is so of several.
        let look = if distance == 1 { Look::default() } else { Look::MIXED };
        let mut run = Run { distance, turn: Extent { look, bytes: 0 }, ..Run::default() };
        if run.goes_on(self.back(0), self.back(before), extent) {
            self.run = run;
        }
    }

    /// The symbol that so many others came after.
    fn back(&self, others: u32) -> Symbol {
        self.symbols[self.pushed.wrapping_sub(1 + others) as usize % N]
    }
}

impl Run {
    /// Adds a symbol, if it is the one that the symbol at the distance `before` asks for.
    #[inline(always)]
    fn goes_on(&mut self, symbol: Symbol, before: Symbol, extent: Extent) -> bool {
        let allowed = symbol == before || self.counts(symbol, before);
        if allowed {
            self.symbols = self.symbols.saturating_add(1);
            self.bytes = self.bytes.saturating_add(extent.bytes);
            if self.symbols <= u32::from(self.distance) {
                self.turn = Extent { bytes: self.bytes, look: self.turn.look.and(extent.look) };
            }
        }
        allowed
    }

    /// Whether a number has grown as those before it.
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
