//! A realistic server: axum, a task that produces the chunks, and a channel between it and the response.
//!
//! The task represents the engine. It computes nothing, so a token only costs the serialisation of its chunk and sending it through a bounded channel
//! to the client.

use std::{convert::Infallible, io, sync::LazyLock};

use axum::{
    Json, Router,
    response::sse::{Event, Sse},
    routing::post,
    serve::ListenerExt,
};
use futures_util::stream::{self, Stream};
use llm_metrics::LlmMetrics;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task};

use super::{CHUNKS, CONNECTIONS, Rounds, Server};
use crate::sample;

/// Streams per connection and round.
const STREAMS: usize = 2;
/// The number of chunks that may wait for a slow client before the engine waits.
const AHEAD: usize = 32;

/// Chunks with a token per round.
#[must_use]
pub fn chunks() -> usize {
    CONNECTIONS * STREAMS * CHUNKS
}

/// Rounds without the layer and with it.
///
/// # Errors
/// If a socket cannot be opened, or a connection breaks.
pub fn rounds(metrics: &LlmMetrics, count: usize) -> io::Result<[Rounds; 2]> {
    let router = || Router::new().route("/v1/chat/completions", post(chat));
    super::rounds(&[serve(router())?, serve(router().layer(metrics.layer()))?], STREAMS, count)
}

fn serve(router: Router) -> io::Result<Server> {
    Server::start(|listener| async {
        let listener = listener.tap_io(|connection| {
            // Without it, a small chunk waits until the client acknowledges the one before.
            let _ = connection.set_nodelay(true);
        });
        axum::serve(listener, router).await
    })
}

#[derive(Deserialize)]
struct Question {
    model: String,
}

async fn chat(Json(question): Json<Question>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    task::spawn(engine(question.model, sender));
    Sse::new(stream::poll_fn(move |context| receiver.poll_recv(context).map(|event| event.map(Ok))))
}

/// Sends its chunks until the receiver is dropped.
async fn engine(model: String, sender: mpsc::Sender<Event>) {
    static TOKENS: LazyLock<Vec<String>> = LazyLock::new(sample::tokens);
    let choice = |role, content| Choice { delta: Delta { role, content }, ..Choice::default() };
    let role = choice(Some("assistant"), Some(String::new()));
    let tokens = TOKENS.iter().cycle().take(CHUNKS).map(|token| choice(None, Some(token.clone())));
    let end = Choice { finish_reason: Some("stop"), ..Choice::default() };
    let usage = Usage { prompt_tokens: 9, completion_tokens: CHUNKS, total_tokens: 9 + CHUNKS };
    let choices = [role].into_iter().chain(tokens).chain([end]).map(|choice| (Some(choice), None));
    for (choice, usage) in choices.chain([(None, Some(usage))]) {
        let chunk = Chunk {
            id: "chatcmpl-7f3c2a9be1d04c55a6e2f8b9d0c1e2f3",
            object: "chat.completion.chunk",
            created: 1_753_000_000,
            model: &model,
            choices: choice.as_slice(),
            usage,
        };
        let Ok(event) = Event::default().json_data(&chunk) else { return };
        if sender.send(event).await.is_err() {
            return;
        }
        // A step generates one token per stream; then it is another stream's turn.
        task::yield_now().await;
    }
    let _ = sender.send(Event::default().data("[DONE]")).await;
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'a str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Default, Serialize)]
struct Choice {
    index: u32,
    delta: Delta,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}
