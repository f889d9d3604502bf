//! What servers really send.

use super::support::{Told, chat_stream, text, told};
use crate::vocabulary::{FinishReason, Usage};
use crate::wire::TextKind::Answer;

#[test]
fn vllm_stream_is_read_to_its_last_fact() {
    let body = concat!(
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":"lo \"x\" \ud83d\ude00"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}]}"#,
        "\n\n",
        r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1753000000,"model":"Qwen/Qwen3-0.6B","choices":[],"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}}"#,
        "\n\n",
        "data: [DONE]\n\n",
    );
    let expected = vec![
        Told::Model("Qwen/Qwen3-0.6B".into()),
        Told::Choice(0),
        Told::EventEnd,
        Told::Choice(0),
        text(0, Answer, "Hel"),
        Told::EventEnd,
        Told::Choice(0),
        text(0, Answer, "lo \"x\" 😀"),
        Told::EventEnd,
        Told::Choice(0),
        Told::Finish(0, FinishReason::Stop),
        Told::EventEnd,
        Told::Usage(Usage::new().input(9).cached_input(8).output(3)),
        Told::EventEnd,
        Told::Done,
        Told::EventEnd,
    ];
    assert_eq!(told(chat_stream(), [body.as_bytes()]), expected);
    for at in 0..body.len() {
        let (left, right) = body.as_bytes().split_at(at);
        assert_eq!(told(chat_stream(), [left, right]), expected, "split at {at}");
    }
    assert_eq!(told(chat_stream(), body.as_bytes().chunks(1)), expected);
}
