//! Compares the measurements of clients and server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{BucketQuantile, ServerLatency, ServerView};
use crate::{
    latency::Latency,
    observation::{End, Observation},
};

/// One value of clients and server, both over the whole step including warm-up, both from the moment when the request was sent: the load generator's
/// delay is not included.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Comparison {
    /// Such as `time_to_first_token p95`.
    pub figure: String,
    /// Measured by clients: seconds, or a number.
    pub client: f64,
    /// Measured by the server.
    pub server: f64,
    /// The allowed difference: max(5 ms, 5 %) for seconds, max(1 ms, 5 %) for seconds per token, plus the rest of its bucket for a quantile.
    pub tolerance: f64,
    /// Whether the difference is allowed.
    pub agree: bool,
}

/// The allowed difference in seconds: sockets and schedulers take that long.
const LEAST: f64 = 0.005;
/// The same for the time per output token, which is divided by the number of tokens.
const LEAST_PER_TOKEN: f64 = 0.001;
const SHARE: f64 = 0.05;

/// Compares all requests of a step with the server's measurements. Values that the server does not report are left out.
pub(crate) fn compare(seen: &[Observation], server: &ServerView) -> Vec<Comparison> {
    let mut figures = Figures::default();
    let answered = || seen.iter().filter(|seen| seen.end == End::Answered);
    let lag = |seen: &Observation| seen.lateness();
    // If the client disconnected or stopped waiting, the server may or may not count the request as answered.
    let unsure = seen.iter().filter(|seen| matches!(seen.end, End::HungUp | End::Unfinished)).count();

    figures.count("answered", answered().count() as f64, server.answered, unsure as f64);
    let clear = seen.iter().all(|seen| seen.end == End::Answered);
    let all = |tokens: fn(&Observation) -> Option<u64>| {
        answered().map(tokens).sum::<Option<u64>>().filter(|_| clear).map(|tokens| tokens as f64)
    };
    for (figure, tokens, server) in [
        ("input_tokens", all(|seen| seen.input_tokens), server.input_tokens),
        ("output_tokens", all(|seen| seen.output_tokens), server.output_tokens),
    ] {
        if let Some(tokens) = tokens {
            figures.count(figure, tokens, server, 0.0);
        }
    }
    let streamed = seen.iter().any(|seen| seen.streamed);
    let first = seen.iter().filter_map(|seen| Some(seen.time_to_first_token()? - lag(seen)));
    figures.latency("time_to_first_token", first.collect(), server.time_to_first_token.as_ref(), LEAST);
    // The server's histogram also contains requests that were not answered.
    if streamed && clear {
        let each = answered().filter_map(Observation::time_per_output_token).collect();
        figures.latency("time_per_output_token", each, server.time_per_output_token.as_ref(), LEAST_PER_TOKEN);
    }
    let whole = answered().filter_map(|seen| Some(seen.duration()? - lag(seen)));
    figures.latency("duration", whole.collect(), server.duration.as_ref(), LEAST);
    figures.0
}

#[derive(Default)]
struct Figures(Vec<Comparison>);

impl Figures {
    fn count(&mut self, figure: &str, client: f64, server: Option<f64>, tolerance: f64) {
        let Some(server) = server else { return };
        self.push(figure.to_owned(), client, server, tolerance, (client - server).abs());
    }

    fn latency(&mut self, figure: &str, client: Vec<f64>, server: Option<&ServerLatency>, least: f64) {
        let Some((client, server)) = Latency::of(client).zip(server) else { return };
        let tolerance = |client: f64| least.max(SHARE * client);
        let mut push = |name: &str, client: f64, server: f64, apart: f64| {
            self.push(format!("{figure} {name}"), client, server, tolerance(client), apart);
        };
        push("mean", client.mean, server.mean, (client.mean - server.mean).abs());
        for (name, client, server) in [
            ("p50", client.p50.value, &server.p50),
            ("p95", client.p95.value, &server.p95),
            ("p99", client.p99.value, &server.p99),
        ] {
            push(name, client, server.value, outside(client, server));
        }
    }

    fn push(&mut self, figure: String, client: f64, server: f64, tolerance: f64, apart: f64) {
        self.0.push(Comparison { figure, client, server, tolerance, agree: apart <= tolerance });
    }
}

/// The distance of a value from the bucket; 0 inside it.
fn outside(value: f64, bucket: &BucketQuantile) -> f64 {
    (bucket.low - value).max(value - bucket.high.unwrap_or(f64::INFINITY)).max(0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A hundred requests with this duration, each with its first token after a tenth of it.
    fn seen(millis: u64, late: u64) -> Vec<Observation> {
        let at = Duration::from_millis;
        (0..100)
            .map(|_| {
                let mut seen = Observation::new(at(0));
                seen.sent = at(late);
                seen.first_token = Some(at(late + millis / 10));
                seen.last_token = Some(at(late + millis));
                seen.ended = at(late + millis);
                seen.output_tokens = Some(10);
                seen.end = End::Answered;
                seen
            })
            .collect()
    }

    fn latency(mean: f64, low: f64, high: f64) -> ServerLatency {
        let quantile = BucketQuantile { value: (low + high) / 2.0, low, high: Some(high) };
        ServerLatency { count: 100.0, mean, p50: quantile, p95: quantile, p99: quantile }
    }

    fn disagree(seen: &[Observation], server: &ServerView) -> Vec<String> {
        compare(seen, server)
            .into_iter()
            .filter(|comparison| !comparison.agree)
            .map(|comparison| comparison.figure)
            .collect()
    }

    #[test]
    fn differences_above_five_milliseconds_and_five_percent_are_reported() {
        let mut server = ServerView {
            answered: Some(100.0),
            output_tokens: Some(1000.0),
            time_to_first_token: Some(latency(0.096, 0.08, 0.1)),
            duration: Some(latency(0.96, 0.9, 1.0)),
            ..ServerView::default()
        };
        assert_eq!(disagree(&seen(1000, 0), &server), [""; 0]);
        assert_eq!(disagree(&seen(1000, 300), &server), [""; 0], "the generator was late, not the server");
        server.duration = Some(latency(0.94, 0.5, 0.9));
        server.time_to_first_token = Some(latency(0.094, 0.06, 0.08));
        assert_eq!(
            disagree(&seen(1000, 0), &server),
            [
                "time_to_first_token mean",
                "time_to_first_token p50",
                "time_to_first_token p95",
                "time_to_first_token p99",
                "duration mean",
                "duration p50",
                "duration p95",
                "duration p99"
            ]
        );
    }

    #[test]
    fn counts_must_be_equal_if_no_client_disconnected() {
        let server = ServerView { answered: Some(99.0), output_tokens: Some(1001.0), ..ServerView::default() };
        assert_eq!(disagree(&seen(100, 0), &server), ["answered", "output_tokens"]);
        let mut one_left = seen(100, 0);
        one_left[0].end = End::HungUp;
        one_left.pop();
        assert_eq!(disagree(&one_left, &server), [""; 0], "98 or 99 were answered, and tokens are unknown");
        let server = ServerView { time_per_output_token: Some(latency(0.5, 0.4, 0.5)), ..ServerView::default() };
        assert_eq!(disagree(&seen(100, 0), &server).len(), 4);
        assert_eq!(disagree(&one_left, &server), [""; 0], "the server has more tokens of who left than the client");
    }

    #[test]
    fn absent_is_not_zero() {
        assert_eq!(compare(&seen(100, 0), &ServerView::default()), []);
        assert_eq!(compare(&[], &ServerView { answered: Some(0.0), ..ServerView::default() }).len(), 1);
    }
}
