//! Chooses the next rate.

use crate::{
    Interval,
    baseline::{Knee, ObjectivesHeld, Step, Verdict},
    settings::Rates,
};

/// Rates below this share of the first one are not tried.
const LEAST: f64 = 1.0 / 64.0;
/// The maximum number of rates tried between the last one that the server kept up with and the first one that it did not.
const MOST_TRIES: usize = 8;
/// If the server answered this many times the rate in another step, the rate did not overload it.
const CONTRADICTION: f64 = 1.1;
/// The precision of the rate at which objectives begin to be missed, as a multiple of the precision of the knee.
const OBJECTIVES_PRECISION: f64 = 2.0;

/// The next rate, after the steps in `tried`. `None` if the search is finished.
pub(crate) fn next(rates: &Rates, first: f64, tried: &[Step]) -> Option<f64> {
    let (factor, precision, most) = match rates {
        Rates::Fixed(rates) => return rates.get(tried.len()).copied(),
        Rates::Search { factor, precision, most, .. } => (*factor, *precision, *most),
    };
    let Some(last) = tried.last() else { return Some(first.min(most)) };
    if last.verdict == Verdict::Unknown {
        return None;
    }
    match bracket(tried) {
        (Some(kept_up), None) => (kept_up < most).then(|| (kept_up * factor).min(most)),
        (None, Some(saturated)) => Some(saturated / 2.0).filter(|rate| *rate >= first * LEAST),
        (Some(kept_up), Some(saturated)) => {
            let between = tried.iter().filter(|step| kept_up < step.rate && step.rate < saturated * factor).count();
            if saturated / kept_up - 1.0 > precision && between < MOST_TRIES {
                return Some(between_rates(kept_up, saturated, precision, answer_rate(tried)));
            }
            // Something other than load may have slowed the server down, so this rate is measured again.
            if contradicted(tried).is_some() && times_tried(tried, saturated) < 2 {
                return Some(saturated);
            }
            let held = objectives_held(tried)?;
            let missed = held.missed_at?;
            let close = missed / held.rate - 1.0 <= OBJECTIVES_PRECISION * precision;
            (!close && tried.len() < 4 * MOST_TRIES).then(|| (held.rate * missed).sqrt())
        }
        (None, None) => None,
    }
}

/// A rate that the server did not keep up with, although it answered far more requests per second in another step; and that higher number.
pub(crate) fn contradicted(tried: &[Step]) -> Option<(f64, f64)> {
    let (saturated, answered) = bracket(tried).1.zip(answer_rate(tried))?;
    (answered > CONTRADICTION * saturated).then_some((saturated, answered))
}

fn times_tried(tried: &[Step], rate: f64) -> usize {
    tried.iter().filter(|step| step.rate == rate).count()
}

/// The lowest rate with which the server did not keep up, preceded by the highest rate below it with which the server kept up. A failing server does
/// not keep up. If a rate was tried twice, the last step counts.
fn bracket(tried: &[Step]) -> (Option<f64>, Option<f64>) {
    let is_last = |at: usize| tried[at + 1..].iter().all(|step| step.rate != tried[at].rate);
    let rates = |verdicts: &'static [Verdict]| {
        let steps = tried.iter().enumerate().filter(move |(at, step)| is_last(*at) && verdicts.contains(&step.verdict));
        steps.map(|(_, step)| step.rate)
    };
    let saturated = rates(&[Verdict::Saturated, Verdict::Failing]).reduce(f64::min);
    let below = rates(&[Verdict::KeptUp]).filter(|rate| saturated.is_none_or(|saturated| *rate < saturated));
    (below.reduce(f64::max), saturated)
}

/// A rate between these two: just below or just above the highest answer rate so far, if that is between them, because the knee is probably there.
/// Otherwise their geometric mean, for example if the server answers less when it is overloaded.
fn between_rates(kept_up: f64, saturated: f64, precision: f64, answers: Option<f64>) -> f64 {
    let margin = precision * 0.4;
    let near = answers.into_iter().flat_map(|rate| [rate * (1.0 - margin), rate * (1.0 + margin)]);
    let inside = kept_up * (1.0 + margin)..saturated * (1.0 - margin / 2.0);
    near.into_iter().find(|rate| inside.contains(rate)).unwrap_or_else(|| (kept_up * saturated).sqrt())
}

/// The highest number of responses per second in any conclusive step.
fn answer_rate(tried: &[Step]) -> Option<f64> {
    conclusive(tried).map(|step| step.client.answer_rate).reduce(f64::max)
}

/// The steps that are long enough to be conclusive.
fn conclusive(tried: &[Step]) -> impl Iterator<Item = &Step> {
    let longest = tried.iter().map(|step| step.seconds).fold(0.0, f64::max);
    let is_conclusive = move |step: &&Step| {
        matches!(step.verdict, Verdict::KeptUp | Verdict::Saturated) && step.seconds >= longest / 4.0
    };
    tried.iter().filter(is_conclusive)
}

/// `None` if the server was not overloaded at any rate, or did not answer at all.
pub(crate) fn knee(tried: &[Step]) -> Option<Knee> {
    let (_, saturated) = bracket(tried);
    let overloaded = tried.iter().any(|step| step.verdict == Verdict::Saturated);
    let answers = answer_rate(tried).filter(|rate| *rate > 0.0);
    let (saturated, rate) = saturated.filter(|_| overloaded).zip(answers)?;
    let interval = Interval::of_highest(conclusive(tried).filter_map(|step| step.client.answer_rate_interval));
    // For a short time a server may seem to keep up with more than it can answer.
    let kept_up = |step: &&Step| step.verdict == Verdict::KeptUp && step.rate < saturated;
    let too_much = |step: &&Step| interval.is_some_and(|interval| step.rate > interval.high);
    let highest = tried.iter().filter(kept_up).filter(|step| !too_much(step)).max_by(|a, b| a.rate.total_cmp(&b.rate));
    let saturated = tried.iter().filter(kept_up).filter(too_much).map(|step| step.rate).fold(saturated, f64::min);
    Some(Knee {
        rate,
        interval,
        kept_up: highest.map(|step| step.rate),
        saturated,
        in_flight: highest.map(|step| step.client.in_flight),
        p99_turns_at: p99_turns_at(tried),
    })
}

fn p99_turns_at(tried: &[Step]) -> Option<f64> {
    let mut steps: Vec<_> = tried.iter().filter(|step| step.client.duration.is_some()).collect();
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let p99 = |step: &Step| step.client.duration.as_ref().map(|duration| duration.p99.value);
    let least = p99(steps.first()?)?;
    Some(steps.into_iter().find(|step| p99(step) >= Some(2.0 * least))?.rate)
}

/// The highest rate up to which every objective was met, at all lower rates, too.
pub(crate) fn objectives_held(tried: &[Step]) -> Option<ObjectivesHeld> {
    let mut steps: Vec<_> = tried.iter().filter(|step| step.verdict != Verdict::Unknown).collect();
    steps.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let held = |step: &&&Step| {
        step.verdict == Verdict::KeptUp
            && !step.attainment.is_empty()
            && step.attainment.iter().all(|attainment| attainment.held)
    };
    let sure = |step: &&&Step| held(step) && step.attainment.iter().all(|kept| kept.kept.low >= kept.objective.share);
    let missed = |step: &&&Step| {
        step.verdict != Verdict::KeptUp || step.attainment.iter().any(|kept| kept.kept.high < kept.objective.share)
    };
    let holding = steps.iter().take_while(held).count();
    let last = steps[..holding].last()?;
    Some(ObjectivesHeld {
        rate: last.rate,
        missed_at: steps.get(holding).map(|step| step.rate),
        low: steps.iter().take_while(sure).last().map(|step| step.rate),
        high: steps.iter().find(missed).map(|step| step.rate),
        in_flight: last.client.in_flight,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::step;

    /// Runs the search against a simulated server that answers this many requests per second.
    fn search(capacity: f64, first: f64, overloaded: impl Fn(f64) -> f64) -> Vec<Step> {
        let rates = Rates::Search { start: None, factor: 1.5, precision: 0.05, most: 1000.0 };
        let mut tried = Vec::new();
        while let Some(rate) = next(&rates, first, &tried) {
            let verdict = if rate <= capacity { Verdict::KeptUp } else { Verdict::Saturated };
            tried.push(step(rate, verdict, if rate <= capacity { rate } else { overloaded(rate) }));
            assert!(tried.len() < 40, "it ends");
        }
        tried
    }

    #[test]
    fn the_knee_is_found_in_few_steps_from_below_and_from_above() {
        for (capacity, first) in [(20.0, 2.0), (20.0, 19.0), (7.3, 40.0), (100.0, 100.0), (0.4, 0.1)] {
            let tried = search(capacity, first, |_| capacity);
            let knee = knee(&tried).unwrap();
            assert!((knee.rate / capacity - 1.0).abs() < 0.05, "{knee:?}");
            assert!(knee.kept_up.unwrap() <= capacity && capacity <= knee.saturated, "{knee:?}");
            assert!(knee.saturated / knee.kept_up.unwrap() < 1.051, "{knee:?}");
            assert!(tried.len() <= 14, "{}: {:?}", tried.len(), tried.iter().map(|step| step.rate).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_server_that_answers_less_when_overloaded_has_its_knee_where_it_answered_most() {
        let knee = knee(&search(20.0, 2.0, |rate| 200.0 / rate)).unwrap();
        assert!((knee.rate / 20.0 - 1.0).abs() < 0.1, "{knee:?}");
    }

    #[test]
    fn a_rate_at_which_something_else_slowed_the_server_down_is_tried_again() {
        let rates = Rates::Search { start: None, factor: 1.5, precision: 0.05, most: 1000.0 };
        let mut tried: Vec<Step> = Vec::new();
        let mut disturbed = 0;
        while let Some(rate) = next(&rates, 30.0, &tried) {
            // Once, something other than load slows it down at a rate below 12.
            let trouble = (10.0..12.0).contains(&rate) && disturbed == 0;
            disturbed += usize::from(trouble);
            let verdict = if rate <= 20.0 && !trouble { Verdict::KeptUp } else { Verdict::Saturated };
            tried.push(step(rate, verdict, if trouble { 3.0 } else { rate.min(20.0) }));
            if tried.len() == 1 {
                tried.push(step(11.0, Verdict::Saturated, 3.0));
                disturbed = 1;
            }
            assert!(tried.len() < 40, "it ends");
        }
        let knee = knee(&tried).unwrap();
        assert_eq!(contradicted(&tried), None);
        assert!((18.0..=20.0).contains(&knee.kept_up.unwrap()) && knee.saturated > 20.0, "{knee:?}");
    }

    #[test]
    fn a_server_that_keeps_up_with_all_rates_has_no_knee_and_the_search_ends() {
        let tried = search(1e9, 100.0, |rate| rate);
        assert_eq!((tried.last().unwrap().rate, knee(&tried)), (1000.0, None));
    }

    #[test]
    fn the_search_ends_if_the_server_keeps_up_with_no_rate() {
        let tried = search(0.0, 10.0, |_| 0.0);
        assert!(tried.len() < 9 && tried.last().unwrap().rate < 0.5);
    }

    #[test]
    fn a_rate_above_the_interval_of_the_knee_does_not_count_as_kept_up() {
        let with = |rate: f64, verdict: Verdict, answers: f64| {
            let mut step = step(rate, verdict, answers);
            step.client.answer_rate_interval = Some(Interval { low: answers - 0.5, high: answers + 0.5 });
            step
        };
        let lucky = [
            with(12.5, Verdict::KeptUp, 12.2),
            with(10.0, Verdict::KeptUp, 9.8),
            with(13.8, Verdict::KeptUp, 11.9),
            with(14.4, Verdict::Saturated, 12.3),
        ];
        let found = knee(&lucky).unwrap();
        assert_eq!((found.rate, found.kept_up, found.saturated), (12.3, Some(12.5), 13.8), "{found:?}");
        assert_eq!(found.interval, Some(Interval { low: 11.8, high: 12.8 }));
        let without: Vec<_> = lucky.iter().filter(|step| step.rate != 13.8).cloned().collect();
        let found = knee(&without).unwrap();
        assert_eq!((found.kept_up, found.saturated), (Some(12.5), 14.4), "{found:?}");
    }

    #[test]
    fn a_server_that_answers_nothing_has_no_knee() {
        assert_eq!(knee(&[step(10.0, Verdict::Saturated, 0.0)]), None);
    }

    #[test]
    fn a_list_of_rates_is_tried_in_its_order() {
        let rates = Rates::Fixed(vec![5.0, 1.0]);
        let mut tried = Vec::new();
        while let Some(rate) = next(&rates, 1.0, &tried) {
            tried.push(step(rate, Verdict::Failing, 0.0));
        }
        assert_eq!(tried.iter().map(|step| step.rate).collect::<Vec<_>>(), [5.0, 1.0]);
    }

    #[test]
    fn the_certainty_of_the_highest_rate_that_met_all_objectives_is_reported() {
        // The objective is 90 %, of 100 requests each.
        let kept = |rate: f64, kept: u64| {
            let mut step = step(rate, Verdict::KeptUp, rate);
            step.attainment[0].kept = crate::Share::of(kept, 100).unwrap();
            step.attainment[0].held = kept >= 90;
            step
        };
        let of = |steps: &[Step]| {
            let held = objectives_held(steps).unwrap();
            (held.low, held.rate, held.missed_at, held.high)
        };
        assert_eq!(
            of(&[kept(4.0, 50), kept(2.0, 93), kept(3.0, 87), kept(1.0, 99)]),
            (Some(1.0), 2.0, Some(3.0), Some(4.0))
        );
        assert_eq!(of(&[kept(1.0, 93)]), (None, 1.0, None, None));
        let saturated = step(5.0, Verdict::Saturated, 4.0);
        assert_eq!(of(&[kept(1.0, 99), saturated]), (Some(1.0), 1.0, Some(5.0), Some(5.0)));
    }

    #[test]
    fn the_rate_at_which_objectives_begin_to_be_missed_is_searched_too() {
        let rates = Rates::Search { start: None, factor: 2.0, precision: 0.05, most: 1000.0 };
        let mut tried = Vec::new();
        while let Some(rate) = next(&rates, 1.0, &tried) {
            let verdict = if rate <= 20.0 { Verdict::KeptUp } else { Verdict::Saturated };
            let mut step = step(rate, verdict, rate.min(20.0));
            step.attainment.iter_mut().for_each(|attainment| attainment.held = rate <= 10.0);
            tried.push(step);
        }
        let held = objectives_held(&tried).unwrap();
        assert!((9.0..=10.0).contains(&held.rate) && held.missed_at.unwrap() > 10.0, "{held:?}");
        assert!(held.missed_at.unwrap() / held.rate < 1.11, "{held:?}");
    }
}
