//! What was told of an answer, in a form that leaves open in which order the facts of an event come.

use std::collections::BTreeMap;
use std::time::Duration;

use llm_metrics::fuzzing::{Kind, Told};
use llm_metrics::{FinishReason, Usage};

/// One event of a stream, or a whole document.
#[derive(Debug, Default, PartialEq)]
pub struct Event {
    pub choices: BTreeMap<u32, Choice>,
    /// Each time that they were told.
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

/// The longest name that is kept whole.
const LONGEST_NAME: usize = 128;

impl Answer {
    /// From what was told of an answer that is valid throughout.
    pub fn seen(told: Vec<Told>) -> Self {
        let mut answer = Self::default();
        let mut event = Event::default();
        for what in told {
            match what {
                Told::Choice(index) => {
                    event.choices.entry(index).or_default();
                }
                Told::Text(choice, kind, text) => {
                    let choice = event.choices.get_mut(&choice).expect("a choice is told before its text");
                    choice.texts.entry(kind).or_default().extend(text);
                }
                Told::Finish(choice, reason) => {
                    event.choices.get_mut(&choice).expect("a choice is told before its end").finish.push(reason);
                }
                Told::Usage(usage) => event.usage.push(usage),
                Told::Model(name) => assert!(answer.model.replace(name).is_none(), "the model was told twice"),
                Told::Error | Told::PlainText => {
                    assert!(!std::mem::replace(&mut event.error, true), "an error was told twice")
                }
                Told::Done => event.done = true,
                Told::Timings(prefill, decode) => event.timings.push((prefill, decode)),
                Told::EventEnd => answer.events.push(std::mem::take(&mut event)),
                Told::Implausible => answer.implausible = true,
                Told::TimedUsage(usage) => event.timed_usage.push(usage),
                Told::NoGeneration | Told::Malformed | Told::TooLarge => {
                    panic!("{what:?} was told of an answer that is valid")
                }
            }
        }
        assert_eq!(event, Event::default(), "something was told after the last event");
        answer
    }

    /// The two are the same; a name that is too long for a label may have been cut, and is still too long.
    pub fn assert_is(&self, expected: &Self) {
        assert_eq!(self.events, expected.events);
        assert_eq!(self.implausible, expected.implausible);
        assert_same_name(self.model.as_deref(), expected.model.as_deref());
    }
}

/// `seen` is `expected`, or as much of it as shows that it is too long.
pub fn assert_same_name(seen: Option<&str>, expected: Option<&str>) {
    match (seen, expected) {
        (Some(seen), Some(expected)) if expected.len() > LONGEST_NAME => {
            assert!(seen.len() > LONGEST_NAME && expected.starts_with(seen), "{seen:?} stands for {expected:?}");
        }
        _ => assert_eq!(seen, expected),
    }
}
