use crate::vocabulary::Usage;

/// Token counts in as little room as they need: none that is kept is over 2³⁰.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts([u32; 4]);

const UNKNOWN: u32 = u32::MAX;

impl Default for Counts {
    fn default() -> Self {
        Self([UNKNOWN; 4])
    }
}

impl Counts {
    /// Sets one of them, by its place in [`Usage`].
    pub(super) fn set(&mut self, which: usize, count: Option<u64>) {
        self.0[which] = narrow(count);
    }

    pub(crate) fn output(self) -> Option<u64> {
        let [_, _, output, _] = self.0;
        (output != UNKNOWN).then_some(u64::from(output))
    }
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        let counts = [usage.input, usage.cached_input, usage.output, usage.reasoning];
        Self(counts.map(narrow))
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        let [input, cached_input, output, reasoning] =
            counts.0.map(|count| (count != UNKNOWN).then_some(u64::from(count)));
        Self { input, cached_input, output, reasoning }
    }
}

fn narrow(count: Option<u64>) -> u32 {
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(UNKNOWN)
}
