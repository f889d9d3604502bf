//! `--slo chat:ttft=500ms,tpot=50ms,duration=10s`

use llm_metrics::Objective;

use crate::cli::duration;

const LIKE: &str = "must be like chat:ttft=500ms,tpot=50ms,duration=10s";

/// A name and at least one limit. llm-metrics checks the rest.
pub(crate) fn parse(text: &str) -> Result<Objective, String> {
    let (name, limits) = text.rsplit_once(':').ok_or_else(|| LIKE.to_owned())?;
    let mut objective = Objective::new(name);
    let mut given = Vec::new();
    for limit in limits.split(',') {
        let (what, time) = limit.split_once('=').ok_or_else(|| format!("{LIKE}, and {limit:?} is not a limit"))?;
        if given.contains(&what) {
            return Err(format!("{what} is limited twice"));
        }
        given.push(what);
        if time.parse::<f64>().is_ok() {
            return Err(format!("{what}={time} has no unit: write {time}ms or {time}s"));
        }
        let time = duration(time).map_err(|wrong| format!("{what} {wrong}, and not {time:?}"))?;
        objective = match what {
            "ttft" => objective.time_to_first_token(time),
            "tpot" => objective.time_per_output_token(time),
            "duration" => objective.duration(time),
            _ => return Err(format!("{what:?} cannot be limited: use ttft, tpot and duration")),
        };
    }
    Ok(objective)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_limit_is_read() {
        let chat = Objective::new("chat").time_to_first_token(Duration::from_millis(500));
        assert_eq!(parse("chat:ttft=500ms"), Ok(chat.clone()));
        let chat = chat.time_per_output_token(Duration::from_micros(12_500)).duration(Duration::from_secs(10));
        assert_eq!(parse("chat:duration=10s,tpot=12.5ms,ttft=500ms"), Ok(chat));
        assert_eq!(parse("a:b:duration=1m"), Ok(Objective::new("a:b").duration(Duration::from_secs(60))));
    }

    #[test]
    fn an_unreadable_request_is_rejected_with_the_reason() {
        for (text, says) in [
            ("chat", "must be like"),
            ("chat:", "must be like"),
            ("ttft=500ms", "must be like"),
            ("chat:ttft", "\"ttft\" is not a limit"),
            ("chat:ttft=1s,", "\"\" is not a limit"),
            ("chat:ttft=500", "ttft=500 has no unit: write 500ms or 500s"),
            ("chat:ttft=fast", "ttft must be a time like 500ms, 30s or 5m, and not \"fast\""),
            ("chat:ttft=1s,ttft=2s", "ttft is limited twice"),
            ("chat:latency=1s", "\"latency\" cannot be limited: use ttft, tpot and duration"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
