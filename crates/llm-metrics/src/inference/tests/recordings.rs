//! Replays answers of real servers (`tests/recordings/`) with their original times and in one piece. Compares the metrics with those that a simple
//! reading with `serde_json` gives.

use std::{collections::BTreeMap, path::Path, time::Duration};

use serde_json::Value;

use super::{End, Recorded, Request, Role};
use crate::wire::Framing;

/// A recorded exchange.
struct Recording {
    name: String,
    fields: Value,
}

/// The expected values for an answer.
#[derive(Debug, Default)]
struct Expected {
    outcome: &'static str,
    error: Option<&'static str>,
    finish_reasons: BTreeMap<String, u64>,
    input: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    /// The times of frames with text, and the number of texts of each choice in them.
    arrivals: Vec<(f64, BTreeMap<u64, u64>)>,
    /// The usage in the first and in the last event with text, if every event with text has it.
    continuous: Option<(u64, u64)>,
    finished: Option<f64>,
    /// Seconds per token, and tokens, by llama.cpp's own clock.
    engine: Option<(f64, u64)>,
}

fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut all = Vec::new();
    for server in ["llama-server-0.7.0", "transformers-serve-5.19.0", "vllm-0.32.0-cpu"] {
        let text = std::fs::read_to_string(folder.join(server).with_extension("json"));
        // `with_extension` would replace the text after the last dot of a version.
        let text =
            text.or_else(|_| std::fs::read_to_string(folder.join(format!("{server}.json")))).expect("recordings");
        let Value::Object(exchanges) = serde_json::from_str(&text).expect("JSON") else {
            panic!("{server}: no object")
        };
        all.extend(exchanges.into_iter().map(|(name, fields)| Recording { name: format!("{server}/{name}"), fields }));
    }
    assert_eq!(all.len(), 94);
    all
}

impl Recording {
    fn text(&self, field: &str) -> &str {
        self.fields[field].as_str().expect(field)
    }

    fn status(&self) -> u16 {
        u16::try_from(self.fields["status"].as_u64().expect("a status")).expect("a status")
    }

    fn streamed(&self) -> bool {
        self.text("content_type").starts_with("text/event-stream")
    }

    /// The times and lengths of the pieces in which the body arrived.
    fn frames(&self) -> Vec<(f64, usize)> {
        let frames = self.fields["frames"].as_array().expect("frames").iter();
        frames.map(|frame| (frame[0].as_f64().expect("seconds"), frame[1].as_u64().expect("bytes") as usize)).collect()
    }

    fn replay(&self, frames: &[(f64, usize)]) -> Recorded {
        let mut request = Request::new(self.text("path"), self.text("request"), Role::Server, |builder| builder);
        let status = self.status();
        let inspected = (200..300).contains(&status);
        let framing = Some(if self.streamed() { Framing::Events } else { Framing::Document });
        let mut reader = request.route.reader(framing, false, None);
        request.tracker.head(status, inspected.then_some(self.streamed()), framing.filter(|_| inspected));
        let mut rest = self.text("body").as_bytes();
        for (seconds, length) in frames {
            let (bytes, after) = rest.split_at(*length);
            rest = after;
            if inspected {
                request.at_time(Duration::from_secs_f64(*seconds), |frame| reader.read(bytes, frame));
            }
        }
        assert!(rest.is_empty(), "{}", self.name);
        if inspected {
            let mut last = request.tracker.last_frame();
            reader.end(&mut last);
            last.end();
        }
        request.end(End::Complete)
    }

    fn expected(&self) -> Expected {
        let mut expected = Expected { outcome: "success", ..Expected::default() };
        match self.status() {
            400 | 422 => return Expected { outcome: "rejected", error: Some("invalid_request"), ..expected },
            404 => return Expected { outcome: "rejected", error: Some("not_found"), ..expected },
            500 => return Expected { outcome: "error", error: Some("internal"), ..expected },
            _ => {}
        }
        let body = self.text("body");
        let mut reasons: BTreeMap<u64, String> = BTreeMap::new();
        let mut usages = Vec::new();
        let mut timed = None;
        let mut outputs: BTreeMap<Option<u64>, u64> = BTreeMap::new();
        let mut at = 0;
        let events: Vec<&str> = if self.streamed() { body.split_inclusive("\n\n").collect() } else { vec![body] };
        for event in events {
            at += event.len();
            let data = event.trim();
            let data = data.strip_prefix("data:").unwrap_or(data).trim();
            if data == "[DONE]" {
                continue;
            }
            let data: Value = serde_json::from_str(data).expect(data);
            let seconds = self.arrival(at);
            let mut texts = BTreeMap::new();
            for choice in data["choices"].as_array().into_iter().flatten() {
                let index = choice["index"].as_u64().expect("an index");
                if has_text(choice) {
                    texts.insert(index, 1);
                }
                if let Some(reason) = choice["finish_reason"].as_str() {
                    reasons.insert(index, reason.to_owned());
                    expected.finished = Some(seconds);
                }
            }
            let usage = &data["usage"];
            if usage.is_object() {
                expected.input = usage["prompt_tokens"].as_u64();
                let of = data["choices"].as_array().filter(|all| all.len() == 1 && self.streamed());
                let choice = of.and_then(|all| all[0]["index"].as_u64());
                outputs.insert(choice, usage["completion_tokens"].as_u64().expect("a count"));
                let sum = outputs.iter().filter(|(of, _)| of.is_some()).map(|(_, tokens)| tokens).sum();
                expected.output = outputs.get(&None).copied().max(Some(sum));
                expected.reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64();
            }
            if !texts.is_empty() {
                usages.push(expected.output.filter(|_| usage.is_object()));
                match expected.arrivals.last_mut() {
                    Some((time, all)) if *time == seconds => {
                        texts.keys().for_each(|index| *all.entry(*index).or_insert(0) += 1);
                    }
                    _ => expected.arrivals.push((seconds, texts)),
                }
            }
            if data["error"].is_object() {
                (expected.outcome, expected.error) = ("error", Some("stream_error"));
            }
            let timings = &data["timings"];
            if let Some(tokens) = timings["predicted_n"].as_u64() {
                expected.engine = timings["predicted_per_token_ms"].as_f64().map(|each| (each / 1000.0, tokens));
                timed = timings["prompt_n"]
                    .as_u64()
                    .zip(timings["cache_n"].as_u64())
                    .map(|(n, cached)| (n + cached, tokens));
            }
        }
        // llama.cpp also counts without a usage object.
        expected.input = expected.input.or_else(|| timed.map(|(input, _)| input));
        expected.output = expected.output.or_else(|| timed.map(|(_, output)| output));
        let usages: Option<Vec<u64>> = usages.into_iter().collect();
        expected.continuous =
            usages.filter(|all| self.streamed() && all.len() > 1).map(|all| (all[0], all[all.len() - 1]));
        for reason in reasons.into_values() {
            *expected.finish_reasons.entry(reason).or_default() += 1;
        }
        expected
    }

    /// The time at which the byte before `at` arrived.
    fn arrival(&self, at: usize) -> f64 {
        let mut came = 0;
        let frames = self.frames();
        let frame = frames.iter().find(|(_, length)| {
            came += length;
            came >= at
        });
        frame.expect("a frame").0
    }
}

fn has_text(choice: &Value) -> bool {
    let some = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let message = [&choice["delta"], &choice["message"], choice].into_iter();
    message.into_iter().any(|message| {
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        ["content", "reasoning_content", "reasoning", "text"].iter().any(|key| some(&message[key]))
            || calls.map(|call| &call["function"]).any(|call| some(&call["name"]) || some(&call["arguments"]))
    })
}

impl Expected {
    fn choices(&self) -> usize {
        self.arrivals.iter().flat_map(|(_, texts)| texts.keys()).max().map_or(1, |last| *last as usize + 1)
    }

    fn events(&self) -> u64 {
        self.arrivals.iter().flat_map(|(_, texts)| texts.values()).sum()
    }

    /// Whether the server counted only one of several choices.
    fn counts_one_choice(&self, streamed: bool) -> bool {
        streamed && self.choices() > 1 && self.output.is_some_and(|tokens| tokens < self.events())
    }

    /// The gaps between the events of each choice. For the first event of a further choice, the gap is since the last event of any choice.
    fn gaps(&self) -> (u64, f64) {
        let (mut count, mut sum) = (0, 0.0);
        let mut last: BTreeMap<u64, f64> = BTreeMap::new();
        let mut before = None;
        for (time, texts) in &self.arrivals {
            for (choice, events) in texts {
                if let Some(any) = before {
                    count += events;
                    sum += time - last.get(choice).unwrap_or(&any);
                }
                last.insert(*choice, *time);
            }
            before = Some(*time);
        }
        let tokens = self.continuous.map_or(count, |(first, last)| last - first);
        (tokens, sum)
    }

    /// Seconds per token, if they can be computed.
    fn time_per_output_token(&self, streamed: bool) -> Option<f64> {
        if let Some((each, tokens)) = self.engine {
            return (tokens > 1 && self.choices() == 1).then_some(each);
        }
        if !streamed || self.choices() > 1 {
            return None;
        }
        let (first, texts) = self.arrivals.first()?;
        let last = self.arrivals.last()?.0;
        let at_first = texts[&0];
        let (end, tokens) = match (self.output, self.continuous) {
            (Some(tokens), Some((at_first, _))) => (self.finished?.max(last), tokens - at_first),
            (Some(tokens), None) if 2 * tokens > 3 * self.events() => return None,
            (Some(tokens), None) => (self.finished?.max(last), tokens - at_first),
            (None, _) => (last, self.events() - at_first),
        };
        (tokens > 0 && end > *first).then(|| (end - first) / tokens as f64)
    }
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, share: f64, what: &str) {
    assert!((actual - expected).abs() <= share * expected.abs() + 1e-6, "{what}: {actual} instead of {expected}");
}

/// Asserts everything that does not depend on the times at which the bytes arrived.
#[track_caller]
fn assert_facts(recording: &Recording, recorded: &Recorded, expected: &Expected) {
    let name = &recording.name;
    println!("{name}");
    recorded.assert_ended(expected.outcome, expected.error);
    assert_eq!(
        recorded.counter("llm_finish_reasons_total", &[]),
        expected.finish_reasons.values().sum::<u64>()
            + if name.contains("engine-dies") {
                0
            } else {
                recorded.counter("llm_finish_reasons_total", &[("finish_reason", "missing")])
            },
    );
    for (reason, count) in &expected.finish_reasons {
        assert_eq!(
            recorded.counter("llm_finish_reasons_total", &[("finish_reason", reason)]),
            *count,
            "{name}: {reason}"
        );
    }
    assert_eq!(recorded.counter("llm_input_tokens_total", &[]), expected.input.unwrap_or(0), "{name}");
    let one = expected.counts_one_choice(recording.streamed());
    let implausible = recorded.counter("llm_metrics_inspection_failures_total", &[]);
    assert_eq!(implausible, u64::from(one), "{name}: {:?}", recorded.nonzero());
    let output = expected.output.filter(|_| !one);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), output.unwrap_or(0), "{name}");
    assert_eq!(recorded.counter("llm_output_reasoning_tokens_total", &[]), expected.reasoning.unwrap_or(0), "{name}");
    let length = output.filter(|_| expected.outcome == "success").map(|tokens| tokens as f64);
    assert_eq!(recorded.samples("llm_request_output_tokens"), Vec::from_iter(length), "{name}");
}

#[test]
fn answers_replayed_at_their_own_pace_have_the_figures_of_their_servers() {
    for recording in recordings() {
        let (name, expected) = (&recording.name, recording.expected());
        let recorded = recording.replay(&recording.frames());
        assert_facts(&recording, &recorded, &expected);
        let streamed = recording.streamed();
        let first = expected.arrivals.first().filter(|_| streamed).map(|(time, _)| *time);
        let first_token = recorded.samples("llm_time_to_first_token_seconds");
        assert_eq!(first_token.len(), first.into_iter().count(), "{name}");
        first_token.iter().zip(first).for_each(|(time, first)| assert_near(*time, first, 0.0, name));

        let (count, sum) = if streamed { expected.gaps() } else { (0, 0.0) };
        let gaps = recorded.samples("llm_inter_token_latency_seconds");
        assert_eq!(gaps.len() as u64, count, "{name}");
        assert_near(gaps.iter().sum(), sum, 1e-6, name);

        let each = recorded.samples("llm_time_per_output_token_seconds");
        match expected.time_per_output_token(streamed) {
            Some(expected) => {
                assert_eq!(each.len(), 1, "{name}");
                assert_near(each[0], expected, 0.03, name);
            }
            None => assert!(each.len() <= usize::from(expected.engine.is_some()), "{name}: {each:?}"),
        }
    }
}

#[test]
fn answers_replayed_in_one_piece_have_the_same_facts() {
    for recording in recordings() {
        let recorded = recording.replay(&[(1.0, recording.text("body").len())]);
        assert_facts(&recording, &recorded, &recording.expected());
        assert!(recorded.samples("llm_inter_token_latency_seconds").is_empty(), "{}", recording.name);
    }
}
