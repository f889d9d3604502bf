//! Texts with known loops, and texts without loops, written for these tests, in two parts. The thresholds were chosen with the
//! first part; the second shows how good they are.

mod held_out;
mod tuned;

use std::fmt::Write as _;

use crate::quality::{Finding, Outputs, Part, QualityChecks, RequestedOutput};

/// A text, and whether it loops.
struct Sample {
    name: &'static str,
    text: String,
    /// The byte at which it begins to loop, and the length of one period.
    looping: Option<(usize, usize)>,
}

fn healthy(name: &'static str, text: impl Into<String>) -> Sample {
    Sample { name, text: text.into(), looping: None }
}

/// A text that loops after `before`: `turn` returns the nth turn.
fn counted(name: &'static str, before: &str, turn: impl Fn(usize) -> String) -> Sample {
    let mut text = before.to_owned();
    for n in 1.. {
        text += &turn(n);
        if text.len() > before.len() + 8192 && n >= 4 {
            break;
        }
    }
    Sample { name, looping: Some((before.len(), turn(1).len())), text }
}

fn looping(name: &'static str, before: &str, turn: &str) -> Sample {
    counted(name, before, |_| turn.to_owned())
}

/// Pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// Lines, each with its number.
fn lines(count: usize, mut line: impl FnMut(usize) -> String) -> String {
    (0..count).map(|n| line(n) + "\n").collect()
}

/// The number of bytes after which a loop was detected.
fn detected_at(text: &str) -> Option<usize> {
    let mut outputs = Outputs::new(QualityChecks::none().repetition(true), RequestedOutput::default());
    let mut detected = None;
    for (at, piece) in text.as_bytes().chunks(5).enumerate() {
        outputs.text(0, Part::Answer, piece, &mut |finding| {
            assert!(matches!(finding, Finding::Repetition(_)) && detected.is_none());
            detected = Some(5 * at + piece.len());
        });
    }
    detected
}

/// How well texts with loops are distinguished from texts without.
#[derive(Debug, PartialEq)]
struct Score {
    loops: usize,
    detected: usize,
    healthy: usize,
    false_alarms: usize,
}

/// Checks all samples of a part. Returns the score, and the names of the samples with a wrong result.
fn judge(samples: &[Sample]) -> (Score, Vec<&'static str>) {
    let mut score = Score { loops: 0, detected: 0, healthy: 0, false_alarms: 0 };
    let mut wrong = Vec::new();
    let mut report = String::new();
    for sample in samples {
        let detected = detected_at(&sample.text);
        match sample.looping {
            Some((begins, turn)) => {
                score.loops += 1;
                score.detected += usize::from(detected.is_some());
                if let Some(at) = detected {
                    assert!(at > begins, "{} is detected before it loops", sample.name);
                    let limit = begins + 2 * turn + 2048;
                    assert!(at <= limit, "{} is detected {} bytes late", sample.name, at - limit);
                }
            }
            None => {
                score.healthy += 1;
                score.false_alarms += usize::from(detected.is_some());
            }
        }
        if detected.is_some() != sample.looping.is_some() {
            wrong.push(sample.name);
        }
        let looping =
            sample.looping.map_or_else(String::new, |(begins, turn)| format!(", loops from {begins} by {turn}"));
        let _ = writeln!(report, "{}: {} bytes{looping}, detected at {detected:?}", sample.name, sample.text.len());
    }
    println!("{report}{score:?}");
    (score, wrong)
}

#[test]
fn the_part_that_thresholds_were_chosen_on_is_classified_correctly() {
    let (score, wrong) = judge(&tuned::samples());
    assert_eq!(score, Score { loops: 19, detected: 19, healthy: 16, false_alarms: 0 }, "{wrong:?}");
}

/// The figures of `docs/quality.md`.
#[test]
fn the_part_that_thresholds_were_not_chosen_on_shows_how_good_they_are() {
    let (score, wrong) = judge(&held_out::samples());
    assert_eq!(score, Score { loops: 28, detected: 25, healthy: 22, false_alarms: 2 }, "{wrong:?}");
    assert_eq!(
        wrong,
        [
            "the numbers to 1000",
            "99 bottles",
            "seconds",
            "thoughts that go in circles",
            "a phrase with a word that changes"
        ]
    );
}
