//! Synthetic steps for tests.

use std::collections::BTreeMap;

use crate::{
    Attainment, Baseline, Ended, Indicator, Machine, Objective, SCHEMA_VERSION, Server, Settings,
    baseline::{ClientView, Samples, Step, StepEnded, Verdict},
    latency::Share,
    search,
};

/// A step with this answer rate, in which an objective was met.
pub(crate) fn step(rate: f64, verdict: Verdict, answer_rate: f64) -> Step {
    let kept = Share::of(99, 100).expect("there were requests");
    let objective = Objective { indicator: Indicator::Availability, seconds: None, share: 0.9 };
    Step {
        rate,
        started: 0.0,
        warm_up_seconds: 5.0,
        seconds: 20.0,
        verdict,
        ended: StepEnded::Time,
        client: ClientView {
            requests: 100,
            arrival_rate: rate,
            answered: 99,
            hung_up: 0,
            unfinished: 0,
            errors: BTreeMap::new(),
            not_sent: 0,
            answer_rate,
            answer_rate_interval: None,
            input_tokens_per_second: None,
            output_tokens_per_second: 100.0,
            in_flight: 4.0,
            in_flight_max: 8,
            time_to_first_token: None,
            time_to_first_answer_token: None,
            time_per_output_token: None,
            inter_token_latency: None,
            duration: None,
            lateness: None,
        },
        server: None,
        comparison: Vec::new(),
        attainment: vec![Attainment { objective, requests: Some(100), kept, held: true }],
        by_thinking: Vec::new(),
        samples: Samples::default(),
    }
}

/// A run with these steps.
pub(crate) fn baseline(steps: Vec<Step>) -> Baseline {
    Baseline {
        schema_version: SCHEMA_VERSION,
        tool_version: "0.0.0".to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        seconds: 100.0,
        ended: Ended::Complete,
        findings: Vec::new(),
        machine: Machine::default(),
        server: Server::default(),
        settings: Settings::default(),
        knee: search::knee(&steps),
        objectives_held: search::objectives_held(&steps),
        steps,
        memory: Vec::new(),
    }
}
