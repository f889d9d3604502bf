//! Many short rounds; each measures every case once.
//!
//! The machine is rarely idle. So the cases are measured in turn, by the processor time of the thread instead of wall time. The best round is the
//! result, because other load disturbed it least. An increment waits for memory and is hardly affected by other load, but other code is, so on a busy
//! machine every ratio is too high.

use std::collections::HashMap;

use cpu_time::ThreadTime;

/// Nanoseconds of processor time that this thread spends on `work`.
pub fn nanoseconds(work: impl FnOnce()) -> f64 {
    let start = ThreadTime::now();
    work();
    start.elapsed().as_secs_f64() * 1e9
}

/// One case.
pub struct Case<'a> {
    name: &'static str,
    /// Runs it for a while, and returns the nanoseconds per operation.
    run: Box<dyn FnMut() -> f64 + 'a>,
}

impl<'a> Case<'a> {
    /// A case that measures itself.
    pub fn new(name: &'static str, run: impl FnMut() -> f64 + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// A case that does the same thing `times` times.
    pub fn repeated(name: &'static str, times: u32, mut work: impl FnMut() + 'a) -> Self {
        Self::new(name, move || nanoseconds(|| (0..times).for_each(|_| work())) / f64::from(times))
    }
}

impl std::fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The results of the rounds, in nanoseconds.
#[derive(Debug, Default)]
pub struct Measured(HashMap<&'static str, Spread>);

/// Measures all cases in turn, after one round that does not count.
pub fn rounds(count: usize, cases: &mut [Case<'_>]) -> Measured {
    let mut measured = Measured::default();
    for round in 0..=count {
        for case in &mut *cases {
            let time = (case.run)();
            if round > 0 {
                measured.0.entry(case.name).or_default().0.push(time);
            }
        }
    }
    measured
}

impl Measured {
    /// The time of `name` in each round.
    ///
    /// # Panics
    /// If no case has this name.
    #[must_use]
    pub fn times(&self, name: &str) -> &Spread {
        self.0.get(name).unwrap_or_else(|| panic!("{name} was not measured"))
    }
}

/// One figure per round.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// Figures from another measurement.
    #[must_use]
    pub fn new(figures: Vec<f64>) -> Self {
        Self(figures)
    }

    /// Applies `change` to each round's figure.
    #[must_use]
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|figure| change(*figure)).collect())
    }

    /// The quantile for this share: 0.5 is the median.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((share * sorted.len() as f64) as usize).or_else(|| sorted.last()).copied().unwrap_or(f64::NAN)
    }

    /// The 95 % confidence interval of the median, from the order of the figures, without an assumption about their distribution.
    #[must_use]
    pub fn interval(&self) -> [f64; 2] {
        let half = 0.98 / (self.0.len() as f64).sqrt();
        [0.5 - half, 0.5 + half].map(|share| self.quantile(share.clamp(0.0, 1.0)))
    }

    /// How many rounds there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure of one round.
    #[must_use]
    pub fn at(&self, round: usize) -> f64 {
        self.0.get(round).copied().unwrap_or(f64::NAN)
    }

    /// The smallest figure.
    #[must_use]
    pub fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }
}
