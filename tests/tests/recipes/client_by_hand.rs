// docs: ask
use async_openai::{
    Client,
    config::Config,
    error::OpenAIError,
    types::chat::{CreateChatCompletionRequest, FinishReason as Reason},
};
use futures_util::StreamExt;
use llm_metrics::{Endpoint, ErrorType, FinishReason, LlmMetrics, Operation, Usage};

/// A stream that is requested with `include_usage`.
async fn ask<C: Config>(
    metrics: &LlmMetrics,
    client: &Client<C>,
    question: CreateChatCompletionRequest,
) -> Result<String, OpenAIError> {
    let call = metrics.inference(Operation::Chat, &question.model).endpoint(Endpoint::ChatCompletions).client();
    let mut call = call.start(); // dropped before its end, the call counts as cancelled
    let (mut text, mut reason) = (String::new(), FinishReason::Missing);
    let mut events = match client.chat().create_stream(question).await {
        Ok(events) => events,
        Err(error) => {
            call.fail(ErrorType::UpstreamUnavailable);
            return Err(error);
        }
    };
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                call.fail(ErrorType::StreamError);
                return Err(error);
            }
        };
        if let Some(usage) = event.usage {
            call.usage(Usage::new().input(usage.prompt_tokens.into()).output(usage.completion_tokens.into()));
        }
        for choice in event.choices {
            if let Some(piece) = choice.delta.content.filter(|piece| !piece.is_empty()) {
                call.tokens(1);
                text.push_str(&piece);
            }
            reason = choice.finish_reason.map_or(reason, |reason| match reason {
                Reason::Stop => FinishReason::Stop,
                Reason::Length => FinishReason::Length,
                Reason::ContentFilter => FinishReason::ContentFilter,
                Reason::ToolCalls | Reason::FunctionCall => FinishReason::ToolCalls,
            });
        }
    }
    call.finish(reason);
    Ok(text)
}
// end

use async_openai::{
    config::OpenAIConfig,
    types::chat::{ChatCompletionRequestUserMessage, ChatCompletionStreamOptions, CreateChatCompletionRequestArgs},
};
use llm_metrics::{
    catalog::{FINISH_REASONS, OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS, TIME_TO_FIRST_TOKEN},
    testing,
};

use crate::server;

fn question() -> CreateChatCompletionRequest {
    let options = ChatCompletionStreamOptions { include_usage: Some(true), include_obfuscation: None };
    CreateChatCompletionRequestArgs::default()
        .model("Qwen3-4B")
        .messages([ChatCompletionRequestUserMessage::from("Hello?").into()])
        .stream_options(options)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_client_without_middleware_is_measured_by_hand() {
    let (metrics, page) = testing::metrics();
    let client = |server: &str| {
        Client::with_config(OpenAIConfig::new().with_api_base(format!("{server}/v1")).with_api_key("none"))
    };
    let text = ask(&metrics, &client(&server::start().await), question()).await.unwrap();
    assert_eq!(text, "Hello!");
    let labels = [("model", "Qwen3-4B"), ("endpoint", "/v1/chat/completions"), ("stream", "true")];
    assert_eq!(page.value(&REQUESTS, &labels), Some(1.0), "{}", page.text());
    assert_eq!(page.value(&TIME_TO_FIRST_TOKEN, &[]), Some(1.0));
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(2.0), "usage counts, not events");
    assert_eq!(page.value(&FINISH_REASONS, &[("finish_reason", "stop")]), Some(1.0));

    ask(&metrics, &client(&server::nobody().await), question()).await.unwrap_err();
    let failed = [("model", "Qwen3-4B"), ("error_type", "upstream_unavailable")];
    assert_eq!(page.value(&REQUEST_ERRORS, &failed), Some(1.0));
}
