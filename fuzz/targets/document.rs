//! Answers without streaming, of both endpoints.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_metrics::fuzzing::Answer;
use llm_metrics_fuzz::answers::Body;
use llm_metrics_fuzz::check;

fuzz_target!(|bytes: &[u8]| {
    check::document(bytes, Answer::ChatDocument, Body::Message("message"));
    check::document(bytes, Answer::CompletionDocument, Body::Text);
});
