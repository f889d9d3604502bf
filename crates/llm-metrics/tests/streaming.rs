//! The metrics of a stream, and when they are recorded.

mod common;

use std::time::Duration;

use common::*;

const PAUSE: Duration = Duration::from_millis(40);
const TTFT: &str = "llm_time_to_first_token_seconds";
const TTFAT: &str = "llm_time_to_first_answer_token_seconds";
const ITL: &str = "llm_inter_token_latency_seconds";
const TPOT: &str = "llm_time_per_output_token_seconds";

async fn streamed(steps: impl Into<Vec<Step>>) -> Recorded {
    let recording = Recording::new();
    exchange(&recording, post(CHAT, ASK), stream(steps)).await.unwrap();
    recording.take()
}

fn delta(fields: &str) -> &'static str {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{fields}}},\"finish_reason\":null}}]}}\n\n").leak()
}

#[track_caller]
fn at_least(samples: &[f64], count: usize, each: Duration) {
    assert_eq!(samples.len(), count, "{samples:?}");
    assert!(samples.iter().all(|sample| *sample >= each.as_secs_f64()), "{samples:?} are not all over {each:?}");
}

#[tokio::test]
async fn the_first_token_is_the_first_event_with_a_token() {
    for prelude in [ROLE, ": keep-alive\n\n", "event: ping\ndata: {}\n\n", "data: {\"choices\":[]}\n\n"] {
        let steps = [Step::Data(prelude), Step::Wait(PAUSE), Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE)];
        let recorded = streamed(steps).await;
        at_least(&recorded.samples(TTFT, &[("model", MODEL), ("operation", "chat")]), 1, PAUSE);
    }
}

#[tokio::test]
async fn reasoning_is_a_first_token_but_not_an_answer() {
    for reasoning in
        [delta("\"reasoning_content\":\"hm\""), delta("\"reasoning\":\"hm\""), delta("\"content\":\"<think>hm\"")]
    {
        let close = if reasoning.contains("<think>") { "</think>\\n\\n" } else { "" };
        let answer = delta(&format!("\"content\":\"{close}Yes\""));
        let steps = [Step::Data(reasoning), Step::Wait(PAUSE), Step::Data(answer), Step::Data(STOP), Step::Data(DONE)];
        let recorded = streamed(steps).await;
        assert_eq!(recorded.samples(TTFT, &[]).len(), 1);
        at_least(&recorded.samples(TTFAT, &[]), 1, PAUSE);
        at_least(&recorded.samples("llm_reasoning_duration_seconds", &[]), 1, PAUSE);
        assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "true"), ("outcome", "success")]), 1);
    }
}

#[tokio::test]
async fn text_before_a_closing_tag_alone_was_reasoning() {
    let steps = [
        Step::Data(delta("\"content\":\"hm, \"")),
        Step::Wait(PAUSE),
        Step::Data(delta("\"content\":\"</think>\"")),
        Step::Data(delta("\"content\":\"\\n\\nYes\"")),
        Step::Data(STOP),
        Step::Data(DONE),
    ];
    let recorded = streamed(steps).await;
    at_least(&recorded.samples(TTFAT, &[]), 1, PAUSE);
    at_least(&recorded.samples("llm_reasoning_duration_seconds", &[]), 1, PAUSE);
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "true")]), 1);
}

#[tokio::test]
async fn reasoning_without_an_answer_has_no_answer_latency() {
    let recorded =
        streamed([Step::Data(delta("\"reasoning_content\":\"hm\"")), Step::Data(STOP), Step::Data(DONE)]).await;
    assert_eq!(recorded.samples(TTFT, &[]).len(), 1);
    assert!(recorded.samples(TTFAT, &[]).is_empty());
    assert!(recorded.samples("llm_reasoning_duration_seconds", &[]).is_empty());
}

#[tokio::test]
async fn an_empty_think_block_is_not_thinking() {
    let recorded =
        streamed([Step::Data(delta("\"content\":\"<think>\\n\\n</think>\\n\\nYes\"")), Step::Data(STOP)]).await;
    assert_eq!(recorded.counter("llm_requests_total", &[("thinking", "false"), ("outcome", "success")]), 1);
    assert!(recorded.samples("llm_reasoning_duration_seconds", &[]).is_empty());
}

#[tokio::test]
async fn without_output_the_switch_of_the_request_decides_thinking() {
    for (ask, thinking) in [
        ("{\"model\":\"Qwen3-4B\",\"enable_thinking\":true}", "true"),
        ("{\"model\":\"Qwen3-4B\",\"chat_template_kwargs\":{\"enable_thinking\":false}}", "false"),
        ("{\"model\":\"Qwen3-4B\"}", "unknown"),
    ] {
        let recording = Recording::new();
        exchange(&recording, post(CHAT, ask), answer(503, "application/json", [])).await.unwrap();
        assert_eq!(recording.take().counter("llm_requests_total", &[("thinking", thinking)]), 1, "{ask}");
    }
}

#[tokio::test]
async fn a_turn_that_only_calls_a_tool_has_a_first_token_and_an_answer() {
    let call = delta("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"now\",\"arguments\":\"\"}}]");
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    let recorded = streamed([Step::Data(call), Step::Data(end), Step::Data(DONE)]).await;
    assert_eq!(recorded.samples(TTFT, &[]).len(), 1);
    assert_eq!(recorded.samples(TTFAT, &[]).len(), 1);
    assert_eq!(recorded.counter("llm_finish_reasons_total", &[("finish_reason", "tool_calls")]), 1);
}

#[tokio::test]
async fn gaps_between_tokens_are_sampled_and_the_longest_is_kept() {
    let steps = [
        Step::Data(ROLE),
        Step::Data(HELLO),
        Step::Data(WORLD),
        Step::Wait(PAUSE),
        Step::Data(HELLO),
        Step::Data(STOP),
        Step::Data(DONE),
    ];
    let recorded = streamed(steps).await;
    let gaps = recorded.samples(ITL, &[("model", MODEL)]);
    assert_eq!(gaps.len(), 2, "three tokens have two gaps");
    at_least(&recorded.samples("llm_stream_max_gap_seconds", &[]), 1, PAUSE);
    assert_eq!(recorded.samples(TPOT, &[("thinking", "false")]).len(), 1);
}

#[tokio::test]
async fn five_tokens_in_one_event_are_five_samples_of_a_fifth_of_the_gap() {
    let with_usage = |text: &str, tokens: u32| -> &'static str {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}],\
             \"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{tokens}}}}}\n\n"
        )
        .leak()
    };
    let steps = [
        Step::Data(with_usage("a", 1)),
        Step::Wait(PAUSE),
        Step::Data(with_usage("b c d e f", 6)),
        Step::Data(STOP),
        Step::Data(DONE),
    ];
    let recorded = streamed(steps).await;
    let gaps = recorded.samples(ITL, &[]);
    assert_eq!(gaps.len(), 5);
    assert!(gaps.iter().all(|gap| *gap == gaps[0]), "{gaps:?}");
    let longest = recorded.samples("llm_stream_max_gap_seconds", &[])[0];
    assert!((gaps.iter().sum::<f64>() - longest).abs() < 1e-9, "they sum to the gap");
    assert_eq!(recorded.counter("llm_output_tokens_total", &[]), 6);
}

#[tokio::test]
async fn a_stalled_stream_is_counted_even_if_the_client_gives_up() {
    let recording = Recording::with(|builder| builder.stall_threshold(PAUSE / 2));
    let steps = [Step::Data(HELLO), Step::Wait(PAUSE), Step::Data(WORLD), Step::Wait(PAUSE)];
    exchange(&recording, post(CHAT, ASK), stream(steps)).await.unwrap();
    let recorded = recording.take();
    assert_eq!(recorded.counter("llm_stream_stalls_total", &[]), 2, "one before a token, one before the end");
}

#[tokio::test]
async fn a_single_token_has_no_time_per_token_and_no_gap() {
    let recorded = streamed([Step::Data(HELLO), Step::Data(STOP), Step::Data(DONE)]).await;
    assert!(recorded.samples(TPOT, &[]).is_empty());
    assert!(recorded.samples(ITL, &[]).is_empty());
    assert!(recorded.samples("llm_stream_max_gap_seconds", &[]).is_empty());
}

#[tokio::test]
async fn an_answer_without_streaming_has_no_token_times() {
    let recording = Recording::new();
    let whole = "{\"model\":\"Qwen3-4B\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"Hello world\"},\
                 \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3}}";
    exchange(&recording, post(CHAT, "{\"model\":\"Qwen3-4B\"}"), json(whole)).await.unwrap();
    let recorded = recording.take();
    recorded.assert_ended("success", None);
    for metric in [TTFT, TTFAT, ITL, TPOT, "llm_stream_max_gap_seconds"] {
        assert!(recorded.samples(metric, &[]).is_empty(), "{metric}");
    }
    assert_eq!(recorded.counter("llm_requests_total", &[("stream", "false"), ("thinking", "false")]), 1);
    assert_eq!(recorded.counter("llm_output_tokens_total", &[("model", MODEL)]), 3);
}

#[tokio::test]
async fn a_request_in_flight_shows_its_phase() {
    let recording = Recording::new();
    let layer = recording.metrics.layer();
    let (streams, streaming) = tokio::sync::oneshot::channel();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let service = tower::ServiceBuilder::new().layer(layer).service_fn(|request| async {
        read(request).await;
        Ok::<_, std::convert::Infallible>(stream([Step::Data(ROLE), Step::Data(HELLO), Step::Pending]))
    });
    let task = tokio::spawn(async move {
        use http_body_util::BodyExt;
        let mut body = tower::ServiceExt::oneshot(service, post(CHAT, ASK)).await.unwrap().into_body();
        body.frame().await;
        body.frame().await;
        streams.send(()).unwrap();
        let _ = wait.await;
    });
    streaming.await.unwrap();
    let recorded = recording.take();
    assert_eq!(recorded.gauge("llm_requests_in_flight", &[("phase", "waiting")]), 0.0);
    assert_eq!(recorded.gauge("llm_requests_in_flight", &[("phase", "streaming")]), 1.0);
    drop(go);
    task.await.unwrap();
}
