//! Whether a sequence of symbols follows itself at a distance.

use super::{
    COUNTING, EXACT, Turn,
    units::{Symbol, Unit},
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
    /// The bytes of the first turn.
    turn: u32,
    /// By how much numbers grow with each turn; 0 while they are the same.
    step: u16,
    uniform: bool,
    solid: bool,
    has_line_break: bool,
}

impl<const N: usize, const K: usize> Default for Cycle<N, K> {
    fn default() -> Self {
        const { assert!(N.is_power_of_two() && N <= 256 && K < N && 1 <= K && K <= 4) };
        Self { symbols: [Symbol::default(); N], latest: [0; N], context: 0, pushed: 0, run: Run::default() }
    }
}

impl<const N: usize, const K: usize> Cycle<N, K> {
    #[inline]
    pub(super) fn push(&mut self, symbol: Symbol, unit: &Unit) {
        if self.run.distance > 0 {
            let before = self.back(u32::from(self.run.distance) - 1);
            if self.run.allows(symbol, before) {
                self.run.add(unit);
            } else {
                self.run = Run::default();
            }
        }
        self.symbols[self.pushed as usize % N] = symbol;
        self.pushed = self.pushed.wrapping_add(1);
        self.context = self.context << 16 | u64::from(symbol.bits());
        let last = self.context << (64 - 16 * K);
        // Numbers that come again, before those that may count on.
        if symbol.is_number() {
            self.propose(last, unit);
        }
        self.propose(Symbol::without_values(last), unit);
    }

    /// Tries the distance at which `last` stood before.
    #[inline]
    fn propose(&mut self, last: u64, unit: &Unit) {
        let slot = (last.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % N;
        let here = (self.pushed - 1) as usize % N;
        let there = usize::from(std::mem::replace(&mut self.latest[slot], here as u8));
        let distance = ((here + N - there) % N) as u16;
        if self.symbols[here].is_like(self.symbols[there]) {
            self.try_distance(distance, unit);
        } else if distance == 1 {
            // Two contexts in one slot hide each other, and a short turn has no others.
            (2..=4).for_each(|distance| self.try_distance(distance, unit));
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
        let enough = run.turn + if run.step == 0 { EXACT } else { COUNTING };
        (self.has_turned() && run.bytes >= enough).then_some(Turn {
            bytes: run.turn,
            uniform: run.uniform,
            blank: !run.solid,
            has_line_break: run.has_line_break,
        })
    }

    /// A whole turn has been repeated.
    pub(super) fn has_turned(&self) -> bool {
        self.run.distance > 0 && self.run.symbols >= u32::from(self.run.distance)
    }

    fn try_distance(&mut self, distance: u16, unit: &Unit) {
        let before = u32::from(distance);
        let alike = |back: u32| self.back(back).is_like(self.back(back + before));
        let reach = before + K as u32;
        let fits = self.run.distance == 0 && distance > 0 && reach < N as u32 && reach <= self.pushed;
        if !fits || !(0..K as u32).all(alike) {
            return;
        }
        let mut run = Run { distance, uniform: distance == 1, ..Run::default() };
        if run.allows(self.back(0), self.back(before)) {
            run.add(unit);
            self.run = run;
        }
    }

    /// The symbol that so many others came after.
    fn back(&self, others: u32) -> Symbol {
        self.symbols[self.pushed.wrapping_sub(1 + others) as usize % N]
    }
}

impl Run {
    #[inline]
    fn allows(&mut self, symbol: Symbol, before: Symbol) -> bool {
        if symbol == before {
            return true;
        }
        if !symbol.is_number() || !before.is_number() {
            return false;
        }
        let step = symbol.since(before);
        if self.step == 0 {
            self.step = step;
        }
        self.step == step
    }

    #[inline]
    fn add(&mut self, unit: &Unit) {
        self.symbols = self.symbols.saturating_add(1);
        self.bytes = self.bytes.saturating_add(unit.bytes);
        if self.symbols <= u32::from(self.distance) {
            self.turn = self.bytes;
            self.uniform &= unit.uniform;
            self.solid |= !unit.is_blank();
            self.has_line_break |= unit.is_line_break();
        }
    }
}
