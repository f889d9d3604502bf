//! The checks of output quality, on the text of an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_metrics_fuzz::check;

fuzz_target!(|bytes: &[u8]| check::quality(bytes));
