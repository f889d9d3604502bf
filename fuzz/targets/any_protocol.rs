//! Streams and documents of every protocol. The first byte selects the endpoint and the framing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_metrics::Endpoint;
use llm_metrics::fuzzing::Answer;
use llm_metrics_fuzz::check;

fuzz_target!(|bytes: &[u8]| {
    let [first, rest @ ..] = bytes else { return };
    let known: Vec<_> = Endpoint::ALL.iter().filter(|endpoint| **endpoint != Endpoint::Other).collect();
    let endpoint = *known[usize::from(*first) % known.len()];
    for answer in [Answer::Events(endpoint), Answer::Lines(endpoint), Answer::Document(endpoint)] {
        check::any(rest, answer);
    }
});
