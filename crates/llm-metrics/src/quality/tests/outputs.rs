//! The findings in whole outputs.

use crate::{
    quality::{
        ChoiceEnd, Finding, MAX_TRACKED, Outputs, Part, QualityChecks, RequestEnd, RequestedOutput, ToolNames,
        TrackedChoice,
        output::Output,
        tools::{Call, OFFERED_NAMES, OPEN_CALLS},
    },
    vocabulary::{
        AnomalyKind, EmptyKind, FinishReason, RefusalKind, RepetitionKind, StructuredFormat, StructuredResult,
        ToolCallResult, TruncationCause,
    },
};

const STOPPED: ChoiceEnd = finished(FinishReason::Stop);
const CUT: ChoiceEnd = finished(FinishReason::Length);

const fn finished(reason: FinishReason) -> ChoiceEnd {
    ChoiceEnd::Finished { reason, on_limit: TruncationCause::MaxTokens }
}

/// Ends a request whose choices are all open.
fn end(outputs: &mut Outputs, open: ChoiceEnd, complete: bool, emit: &mut impl FnMut(Finding)) {
    outputs.end(RequestEnd { open, on_limit: TruncationCause::MaxTokens, complete }, emit);
}

fn json() -> RequestedOutput {
    RequestedOutput { format: Some(StructuredFormat::JsonSchema), tools: None, schema: None }
}

/// The findings in one choice with these texts.
fn found_by(
    checks: QualityChecks,
    requested: RequestedOutput,
    texts: &[(Part, &str)],
    ending: ChoiceEnd,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut emit = |finding| found.push(finding);
    let mut outputs = Outputs::new(checks, requested);
    outputs.choice(0);
    for (part, text) in texts {
        outputs.text(0, *part, text.as_bytes(), &mut emit);
    }
    end(&mut outputs, ending, true, &mut emit);
    found
}

fn found(requested: RequestedOutput, texts: &[(Part, &str)], ending: ChoiceEnd) -> Vec<Finding> {
    found_by(QualityChecks::all(), requested, texts, ending)
}

fn answer(text: &str, ending: ChoiceEnd) -> Vec<Finding> {
    found(RequestedOutput::default(), &[(Part::Answer, text)], ending)
}

fn structured(result: StructuredResult) -> Finding {
    Finding::StructuredOutput(StructuredFormat::JsonSchema, result)
}

#[test]
fn a_healthy_answer_has_no_findings() {
    assert_eq!(answer("Lima is the capital of Peru.", STOPPED), []);
    assert_eq!(answer("<think>\nHm.\n</think>\nLima.", STOPPED), []);
    assert_eq!(found(RequestedOutput::default(), &[(Part::Reasoning, "Hm."), (Part::Answer, "Lima.")], STOPPED), []);
}

#[test]
fn an_output_without_an_answer_is_empty() {
    let empty = |texts: &[(Part, &str)], ending| match found(RequestedOutput::default(), texts, ending)[..] {
        [Finding::Empty(kind)] => Some(kind),
        [] => None,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(empty(&[], STOPPED), Some(EmptyKind::NoContent));
    assert_eq!(empty(&[(Part::Answer, " \n")], STOPPED), Some(EmptyKind::Whitespace));
    assert_eq!(empty(&[(Part::Reasoning, "Hm.")], STOPPED), Some(EmptyKind::ReasoningOnly));
    assert_eq!(empty(&[(Part::Reasoning, " ")], STOPPED), Some(EmptyKind::NoContent));
    assert_eq!(empty(&[(Part::Reasoning, "Hm."), (Part::Answer, "\n\n")], STOPPED), Some(EmptyKind::ReasoningOnly));
    assert_eq!(empty(&[(Part::Answer, "Hm.</think>\n\n")], STOPPED), Some(EmptyKind::ReasoningOnly));
    assert_eq!(empty(&[(Part::ToolCall, "weather")], STOPPED), None);
    assert_eq!(empty(&[], finished(FinishReason::ToolCalls)), None);
}

#[test]
fn only_a_success_without_a_choice_has_none() {
    for (success, expected) in [(true, vec![Finding::Empty(EmptyKind::NoChoices)]), (false, vec![])] {
        let mut found = Vec::new();
        let mut outputs = Outputs::new(QualityChecks::all(), RequestedOutput::default());
        end(&mut outputs, STOPPED, success, &mut |finding| found.push(finding));
        assert_eq!(found, expected);
    }
}

#[test]
fn the_cause_of_a_cut_output_is_reported() {
    let limit = ChoiceEnd::Finished { reason: FinishReason::Length, on_limit: TruncationCause::ContextWindow };
    for (ending, cause) in [
        (CUT, TruncationCause::MaxTokens),
        (limit, TruncationCause::ContextWindow),
        (ChoiceEnd::StreamCut, TruncationCause::StreamCut),
        (ChoiceEnd::ClientGone, TruncationCause::ClientDisconnect),
    ] {
        assert_eq!(answer("Lima is", ending), [Finding::OutputTruncated(cause)]);
    }
    assert_eq!(
        found(RequestedOutput::default(), &[], ChoiceEnd::ClientGone),
        [Finding::OutputTruncated(TruncationCause::ClientDisconnect)]
    );
}

#[test]
fn a_refusal_is_neither_an_empty_answer_nor_an_invalid_output() {
    let refused = [Finding::Refusal(RefusalKind::RefusalField)];
    assert_eq!(found(json(), &[(Part::Refusal, "I cannot.")], STOPPED), refused);
    assert_eq!(found(json(), &[], finished(FinishReason::Refusal)), refused);
    let filtered = [Finding::Refusal(RefusalKind::ContentFilter)];
    assert_eq!(found(json(), &[(Part::Answer, "{\"a\"")], finished(FinishReason::ContentFilter)), filtered);
}

#[test]
fn the_format_is_checked_if_one_was_requested() {
    let judged = |text, ending| found(json(), &[(Part::Answer, text)], ending);
    assert_eq!(judged("{}", STOPPED), [structured(StructuredResult::Valid)]);
    assert_eq!(judged("{'a': 1}", STOPPED), [structured(StructuredResult::InvalidJson)]);
    assert_eq!(
        judged("{\"a\": [", CUT),
        [Finding::OutputTruncated(TruncationCause::MaxTokens), structured(StructuredResult::Truncated)]
    );
    assert_eq!(
        judged("{\"a\": [", ChoiceEnd::StreamCut),
        [Finding::OutputTruncated(TruncationCause::StreamCut), structured(StructuredResult::Truncated)]
    );
    assert_eq!(
        judged("{\"a\": [", ChoiceEnd::ClientGone),
        [Finding::OutputTruncated(TruncationCause::ClientDisconnect)],
        "who left did not see what form it has"
    );
    assert_eq!(answer("{", STOPPED), []);
    let by_schema = QualityChecks { json_schema: true, ..QualityChecks::all() };
    let object = RequestedOutput { format: Some(StructuredFormat::JsonObject), tools: None, schema: None };
    assert_eq!(
        found_by(by_schema, object, &[(Part::Answer, "[]")], STOPPED),
        [Finding::StructuredOutput(StructuredFormat::JsonObject, StructuredResult::Valid)],
        "it names no schema"
    );
    let unread = found_by(by_schema, json(), &[(Part::Answer, "[]")], STOPPED);
    assert_eq!(unread, [structured(StructuredResult::Unchecked)], "its schema was not read");
    let grammar = RequestedOutput { format: Some(StructuredFormat::Grammar), tools: None, schema: None };
    assert_eq!(
        found(grammar, &[(Part::Answer, "yes")], STOPPED),
        [Finding::StructuredOutput(StructuredFormat::Grammar, StructuredResult::Unchecked)]
    );
    assert_eq!(
        found(json(), &[(Part::Reasoning, "Hm."), (Part::Answer, "{}")], STOPPED),
        [structured(StructuredResult::Valid)]
    );
    assert_eq!(found(json(), &[(Part::ToolCall, "weather")], STOPPED), [], "a call is an answer of another form");
}

#[test]
fn anomalies_are_reported_once_per_choice_when_they_arrive() {
    let mut found = Vec::new();
    let mut outputs = Outputs::new(QualityChecks::all(), RequestedOutput::default());
    for _ in 0..3 {
        outputs.text(0, Part::Answer, "\u{FFFD} <|im_end|>".as_bytes(), &mut |finding| found.push(finding));
    }
    let anomalies = [Finding::Anomaly(AnomalyKind::SpecialTokenLeak), Finding::Anomaly(AnomalyKind::ReplacementChar)];
    assert_eq!(found, anomalies);
    outputs.text(1, Part::Answer, "\u{FFFD}".as_bytes(), &mut |finding| found.push(finding));
    assert_eq!(found[2..], anomalies[1..]);
}

#[test]
fn reasoning_that_is_never_closed_is_an_anomaly_where_the_model_ended() {
    let open = "<think>\nHm, wait.";
    let unclosed = Finding::Anomaly(AnomalyKind::UnclosedReasoning);
    assert_eq!(answer(open, STOPPED), [Finding::Empty(EmptyKind::ReasoningOnly), unclosed]);
    assert!(answer(open, CUT).contains(&unclosed), "it used up all it had");
    assert!(!answer(open, ChoiceEnd::ClientGone).contains(&unclosed));
    assert!(!answer(open, ChoiceEnd::StreamCut).contains(&unclosed));
}

#[test]
fn a_loop_is_reported_once_per_choice_wherever_it_is() {
    let again = "I will check. ".repeat(200);
    let cycle = Finding::Repetition(RepetitionKind::TokenRun);
    assert_eq!(answer(&again, STOPPED), [cycle]);
    for part in [Part::Reasoning, Part::ToolCall] {
        let texts = [(part, &again[..]), (Part::Answer, "So."), (part, &again)];
        assert_eq!(found(RequestedOutput::default(), &texts, STOPPED), [cycle]);
    }
}

#[test]
fn tool_calls_are_checked_with_their_choice() {
    let mut tools = ToolNames::default();
    tools.insert(b"weather");
    let requested = RequestedOutput { format: None, tools: Some(Box::new(tools)), schema: None };
    for (name, arguments, ending, result) in [
        ("weather", "{}", finished(FinishReason::ToolCalls), Some(ToolCallResult::Valid)),
        ("time", "{}", STOPPED, Some(ToolCallResult::UnknownTool)),
        ("weather", "{\"city", ChoiceEnd::StreamCut, Some(ToolCallResult::Incomplete)),
        ("weather", "{\"city", ChoiceEnd::ClientGone, None),
    ] {
        let mut found = Vec::new();
        let mut outputs = Outputs::new(QualityChecks::all().truncation(false), requested.clone());
        outputs.tool_name(0, 0, name.as_bytes(), &mut |finding| found.push(finding));
        outputs.tool_arguments(0, 0, arguments.as_bytes(), &mut |finding| found.push(finding));
        end(&mut outputs, ending, true, &mut |finding| found.push(finding));
        assert_eq!(found, result.map(Finding::ToolCall).into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_schema_alone_is_not_a_check() {
    let schema = |checks| QualityChecks { json_schema: true, ..checks };
    assert!(!schema(QualityChecks::none()).any(), "it is the form of an answer that is held against it");
    assert!(schema(QualityChecks::none().structured_output(true)).any());
}

#[test]
fn a_name_in_a_further_event_is_a_further_call() {
    let mut found = Vec::new();
    let mut outputs = Outputs::new(QualityChecks::all(), RequestedOutput::default());
    for name in ["weather", "time"] {
        outputs.tool_name(0, 0, name.as_bytes(), &mut |finding| found.push(finding));
        outputs.end_event();
    }
    end(&mut outputs, finished(FinishReason::ToolCalls), true, &mut |finding| found.push(finding));
    assert_eq!(found, [Finding::ToolCall(ToolCallResult::Valid); 2]);
}

#[test]
fn choices_whose_texts_were_mixed_up_have_no_findings() {
    let mut found = Vec::new();
    let mut outputs = Outputs::new(QualityChecks::all(), json());
    for choice in 0..3 {
        outputs.text(choice, Part::Answer, b"{", &mut |finding| found.push(finding));
    }
    outputs.mixed_up(0, 1);
    outputs.text(1, Part::Answer, b"<|im_end|>", &mut |finding| found.push(finding));
    end(&mut outputs, STOPPED, true, &mut |finding| found.push(finding));
    assert_eq!(found, [structured(StructuredResult::InvalidJson)], "the third one was not mixed up");
}

#[test]
fn a_check_that_is_off_reports_nothing() {
    let texts = [(Part::Answer, &*format!("<|im_end|>\u{FFFD}{}", "no ".repeat(1000))), (Part::Refusal, "no")];
    let findings = |checks| found_by(checks, json(), &texts, CUT).len();
    assert_eq!(findings(QualityChecks::none()), 0);
    assert_eq!(findings(QualityChecks::all()), 5);
    assert_eq!(findings(QualityChecks::none().anomalies(true)), 2);
    assert_eq!(findings(QualityChecks::none().repetition(true)), 1);
    assert_eq!(findings(QualityChecks::none().refusals(true)), 1);
    assert_eq!(findings(QualityChecks::none().truncation(true)), 1);
    let empty = |checks| found_by(checks, json(), &[], STOPPED);
    assert_eq!(empty(QualityChecks::none().empty(true)), [Finding::Empty(EmptyKind::NoContent)]);
    assert_eq!(empty(QualityChecks::none().structured_output(true)), [structured(StructuredResult::InvalidJson)]);
    let mut outputs = Outputs::new(QualityChecks::all().tool_calls(false), RequestedOutput::default());
    outputs.tool_name(0, 0, b"weather", &mut |finding| panic!("{finding:?}"));
    end(&mut outputs, STOPPED, true, &mut |finding| panic!("{finding:?}"));
}

#[test]
fn each_choice_is_checked_separately_up_to_the_last_that_is_tracked() {
    let mut found = Vec::new();
    let mut emit = |finding| found.push(finding);
    let mut outputs = Outputs::new(QualityChecks::all(), json());
    for choice in 0..10 {
        outputs.text(choice, Part::Answer, b"{", &mut emit);
    }
    for choice in 0..10 {
        outputs.text(choice, Part::Answer, b"}", &mut emit);
        outputs.finish(choice, FinishReason::Stop);
    }
    end(&mut outputs, ChoiceEnd::StreamCut, false, &mut emit);
    assert_eq!(found, [structured(StructuredResult::Valid); MAX_TRACKED]);
}

#[test]
fn with_all_checks_and_all_their_memory_a_request_takes_less_than_7_kib() {
    let tracked = MAX_TRACKED * (size_of::<TrackedChoice>() + size_of::<Output>());
    let calls = OPEN_CALLS * size_of::<Call>();
    let names = size_of::<ToolNames>() + OFFERED_NAMES * size_of::<u64>();
    let all = size_of::<Outputs>() + tracked + calls + names;
    assert!(all < 7 * 1024, "{all} bytes: {tracked} for choices, {calls} for calls, {names} for names");
    println!("{all} bytes: {tracked} for choices, {calls} for calls, {names} for names");
}

#[test]
fn a_choice_that_the_engine_aborted_was_cut() {
    for reason in [FinishReason::Error, FinishReason::Abort] {
        let mut found = Vec::new();
        let mut outputs = Outputs::new(QualityChecks::all(), json());
        outputs.text(0, Part::Answer, b"{", &mut |finding| panic!("{finding:?}"));
        outputs.finish(0, reason);
        end(&mut outputs, STOPPED, false, &mut |finding| found.push(finding));
        assert_eq!(
            found,
            [Finding::OutputTruncated(TruncationCause::StreamCut), structured(StructuredResult::Truncated)]
        );
    }
}

#[test]
fn a_loop_is_reported_if_the_answer_is_long_enough_for_one() {
    let findings = |bytes: u64| {
        let mut found = Vec::new();
        let mut outputs = Outputs::new(QualityChecks::all(), RequestedOutput::default());
        outputs.at_most(bytes);
        outputs.text(0, Part::Answer, "ha ".repeat(600).as_bytes(), &mut |finding| found.push(finding));
        found
    };
    assert_eq!(findings(2000), [Finding::Repetition(RepetitionKind::TokenRun)]);
    assert_eq!(findings(1025), [Finding::Repetition(RepetitionKind::TokenRun)]);
    assert_eq!(findings(1024), []);
}
