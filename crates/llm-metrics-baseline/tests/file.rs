//! A written file can be read, and an unreadable file gives a reason.

use llm_metrics_baseline::{Baseline, InvalidBaseline};

#[test]
fn a_file_of_another_version_or_of_another_kind_is_an_error() {
    assert!(matches!(Baseline::parse("{\"schema_version\": 2}"), Err(InvalidBaseline::Version(2))));
    for text in ["", "{}", "[]", "{\"schema_version\": 1}", "{\"schema_version\": \"1\"}"] {
        assert!(matches!(Baseline::parse(text), Err(InvalidBaseline::Unreadable(_))), "{text:?}");
    }
}

#[test]
fn a_file_from_before_rates_had_intervals_is_read() {
    let text = include_str!("baseline-without-intervals.json");
    let baseline = Baseline::parse(text).expect("version 1 gains fields, and loses none");
    assert_eq!(baseline.knee.map(|knee| (knee.rate > 0.0, knee.interval)), Some((true, None)));
    assert_eq!(baseline.objectives_held.map(|held| (held.low, held.high)), Some((None, None)));
}
