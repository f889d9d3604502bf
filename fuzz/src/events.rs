//! The facts that were emitted for an answer, independent of the order of the facts within an event.

use std::collections::BTreeMap;
use std::time::Duration;

use llm_metrics::fuzzing::{Kind, SinkCall};
use llm_metrics::{FinishReason, Usage};

/// One event of a stream, or a whole document.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub choices: BTreeMap<u32, Choice>,
    /// All usages that were emitted.
    pub usage: Vec<Usage>,
    pub timings: Vec<(Option<Duration>, Option<Duration>)>,
    pub timed_usage: Vec<Usage>,
    pub error: bool,
    pub done: bool,
}

#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    pub texts: BTreeMap<Kind, Vec<u8>>,
    pub finish: Vec<FinishReason>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub events: Vec<Event>,
    pub model: Option<String>,
    pub implausible: bool,
}

/// The longest name that is kept completely.
const LONGEST_NAME: usize = 128;

impl Answer {
    /// The facts that were emitted for a completely valid answer.
    pub fn seen(calls: Vec<SinkCall>) -> Self {
        let mut answer = Self::default();
        let mut event = Event::default();
        for what in calls {
            match what {
                SinkCall::Choice(index) => {
                    event.choices.entry(index).or_default();
                }
                SinkCall::Text(choice, kind, text) => {
                    let choice = event.choices.get_mut(&choice).expect("a choice is emitted before its text");
                    choice.texts.entry(kind).or_default().extend(text);
                }
                SinkCall::Finish(choice, reason) => {
                    event.choices.get_mut(&choice).expect("a choice is emitted before its end").finish.push(reason);
                }
                SinkCall::Usage(usage) => event.usage.push(usage),
                SinkCall::Model(name) => assert!(answer.model.replace(name).is_none(), "the model was emitted twice"),
                SinkCall::Error | SinkCall::PlainText => {
                    assert!(!std::mem::replace(&mut event.error, true), "an error was emitted twice")
                }
                SinkCall::Done => event.done = true,
                SinkCall::Timings(prefill, decode) => event.timings.push((prefill, decode)),
                SinkCall::EventEnd => answer.events.push(std::mem::take(&mut event)),
                SinkCall::Implausible => answer.implausible = true,
                SinkCall::TimedUsage(usage) => event.timed_usage.push(usage),
                SinkCall::NoGeneration | SinkCall::Malformed | SinkCall::TooLarge => {
                    panic!("{what:?} was emitted for an answer that is valid")
                }
            }
        }
        assert_eq!(event, Event::default(), "something was emitted after the last event");
        answer
    }

    /// Asserts that both are equal; a name that is too long for a label may have been cut, if it is still too long.
    pub fn assert_is(&self, expected: &Self) {
        assert_eq!(self.events, expected.events);
        assert_eq!(self.implausible, expected.implausible);
        assert_same_name(self.model.as_deref(), expected.model.as_deref());
    }
}

/// Asserts that `seen` is `expected`, or a part of it that is still too long for a label.
pub fn assert_same_name(seen: Option<&str>, expected: Option<&str>) {
    match (seen, expected) {
        (Some(seen), Some(expected)) if expected.len() > LONGEST_NAME => {
            assert!(seen.len() > LONGEST_NAME && expected.starts_with(seen), "{seen:?} stands for {expected:?}");
        }
        _ => assert_eq!(seen, expected),
    }
}
