// docs: client
use async_openai::{
    Client,
    config::Config,
    error::OpenAIError,
    middleware::{HttpRequestFactory, retry::OpenAIRetryLayer},
};
use llm_metrics::LlmMetrics;
use llm_metrics_reqwest::ReqwestLayer;
use tower::{Layer, ServiceBuilder, service_fn};

fn client<C: Config>(metrics: &LlmMetrics, config: C) -> Client<C> {
    let http = ReqwestLayer::new(metrics.layer()).layer(reqwest::Client::new());
    let send = service_fn(move |request: HttpRequestFactory| {
        let http = http.clone();
        async move { http.execute(request.build().await?).await.map_err(OpenAIError::Reqwest) }
    });
    // A custom service also replaces the retries of async-openai. Here each attempt counts as a request.
    let service = ServiceBuilder::new().layer(OpenAIRetryLayer::default()).service(send);
    Client::with_config(config).with_http_service(service)
}
// end

use async_openai::{
    config::OpenAIConfig,
    types::chat::{
        ChatCompletionRequestUserMessage, ChatCompletionStreamOptions, CreateChatCompletionRequest,
        CreateChatCompletionRequestArgs,
    },
};
use futures_util::StreamExt;
use llm_metrics::{
    catalog::{OUTPUT_TOKENS, REQUEST_ERRORS, REQUESTS},
    testing,
};

use crate::server;

fn question(model: &str) -> CreateChatCompletionRequest {
    CreateChatCompletionRequestArgs::default()
        .model(model)
        .messages([ChatCompletionRequestUserMessage::from("Hello?").into()])
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_recipe_measures_requests_of_async_openai() {
    let (metrics, page) = testing::metrics();
    let config = OpenAIConfig::new().with_api_base(server::start().await + "/v1").with_api_key("none");
    let client = client(&metrics, config);

    client.chat().create(question("Qwen3-4B")).await.unwrap();
    let usage = ChatCompletionStreamOptions { include_usage: Some(true), include_obfuscation: None };
    let streamed = CreateChatCompletionRequest { stream_options: Some(usage), ..question("Qwen3-4B") };
    let mut events = client.chat().create_stream(streamed).await.unwrap();
    while let Some(event) = events.next().await {
        event.unwrap();
    }
    drop(events);
    for stream in ["false", "true"] {
        let labels = [("model", "Qwen3-4B"), ("stream", stream), ("outcome", "success")];
        assert_eq!(page.value(&REQUESTS, &labels), Some(1.0), "{}", page.text());
    }
    assert_eq!(page.value(&OUTPUT_TOKENS, &[("model", "Qwen3-4B")]), Some(4.0));

    client.chat().create(question("busy")).await.unwrap_err();
    let attempts = page.value(&REQUEST_ERRORS, &[("model", "busy"), ("error_type", "overloaded")]);
    assert_eq!(attempts, Some(1.0 + OpenAIRetryLayer::default().max_retries() as f64));
}
