//! From a parsed request to its response: count, admit, generate, and either stream or gather.
//!
//! The response's head waits for the engine's first word, so that everything the engine refuses gets a status of its
//! own. Clients that want no stream are served from one all the same: when they hang up, the engine notices.

use super::error::ApiError;
use super::messages::ToolUse;
use super::settings::{Settings, token_limit};
use super::sse;
use super::text::{ChoiceText, Delta};
use super::wire::{Counts, Envelope, Shape};
use crate::engine::{Engine, Fault, Generation, Job, Piece, Prompt};
use crate::server::App;
use crate::telemetry::Handle;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which a stream sends a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A valid request.
pub(super) struct Call {
    pub(super) shape: Shape,
    pub(super) prompt: Prompt,
    /// The field that holds the prompt, for errors about it.
    pub(super) prompt_field: &'static str,
    /// Text that each choice begins with.
    pub(super) echo: String,
    pub(super) settings: Settings,
    pub(super) tools: ToolUse,
}

/// The moment at which a request is over, whatever its state.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    at: Option<Instant>,
    limit: Duration,
}

impl Deadline {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { at: limit.map(|limit| Instant::now() + limit), limit: limit.unwrap_or_default() }
    }

    async fn passed(self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => pending().await,
        }
    }

    /// `work`, or a time-out.
    pub(super) async fn limit<T>(self, handle: &Handle, work: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.passed() => {
                handle.timed_out();
                Err(ApiError::timeout(self.limit))
            }
        }
    }
}

/// Answers a call.
pub(super) async fn answer(
    app: &App,
    engine: &Engine,
    call: Call,
    handle: Handle,
    deadline: Deadline,
) -> Result<Response, ApiError> {
    let slots = engine.admit(call.settings.choices).ok_or_else(ApiError::overloaded)?;
    let context = engine.facts().context_length;
    let prompt = engine.prompt_tokens(call.prompt.clone()).await?;
    handle.prompt_tokens(prompt as u64);
    let max_tokens = token_limit(call.settings.max_tokens, app.limits.max_tokens, context, prompt)
        .ok_or_else(|| ApiError::context_length_exceeded(context, prompt, call.prompt_field))?;
    let Settings { sampling, steering, constraint, choices, stop, stream, include_usage, .. } = call.settings;
    let job = Job { prompt: call.prompt, sampling, constraint, steering, choices, max_tokens };
    let mut generation = engine.start(job, slots, &handle).await?;
    let first = generation.next().await;

    let stop: Arc<[String]> = stop.into();
    let mut answer = Answer {
        envelope: Envelope::new(call.shape, &app.name),
        texts: (0..choices).map(|_| ChoiceText::new(&stop, &call.tools)).collect(),
        generation,
        prompt: prompt as u64,
        handle,
    };
    let first = first.transpose()?.map(|piece| answer.read(piece));
    if stream {
        let mut frame = Vec::new();
        for index in 0..choices {
            if let Some(role) = answer.envelope.role_chunk(index) {
                sse::push_event(&mut frame, &role);
            }
            if !call.echo.is_empty() {
                let echo = Delta { content: call.echo.clone(), ..Delta::default() };
                sse::push_event(&mut frame, &answer.envelope.delta_chunk(index, &echo));
            }
        }
        if let Some((index, delta)) = first {
            answer.push_chunk(&mut frame, index, &delta);
        }
        Ok(Streaming { answer, deadline, include_usage, first: Some(frame), ended: false }.into_response())
    } else {
        let mut gathered: Vec<Delta> =
            (0..choices).map(|_| Delta { content: call.echo.clone(), ..Delta::default() }).collect();
        let mut next = first;
        while let Some((index, delta)) = next {
            gather(&mut gathered[index], delta);
            next = answer.generation.next().await.transpose()?.map(|piece| answer.read(piece));
        }
        let body = answer.envelope.answer(&gathered, answer.counts());
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }
}

/// Adds a delta to what came before it in the same choice.
fn gather(whole: &mut Delta, delta: Delta) {
    whole.reasoning += &delta.reasoning;
    whole.content += &delta.content;
    for part in delta.calls {
        match whole.calls.iter_mut().find(|call| call.index == part.index) {
            Some(call) => call.arguments += &part.arguments,
            None => whole.calls.push(part),
        }
    }
    whole.finish_reason = delta.finish_reason.or(whole.finish_reason);
}

/// An answer in the making.
struct Answer {
    envelope: Envelope,
    texts: Vec<ChoiceText>,
    generation: Generation,
    prompt: u64,
    handle: Handle,
}

impl Answer {
    /// Turns the engine's text into the client's. With the last finish reason, the engine's counts are reported: a
    /// client may leave right after it.
    fn read(&mut self, piece: Piece) -> (usize, Delta) {
        let index = piece.choice;
        let delta = self.texts[index].push(piece);
        if delta.finish_reason.is_some() && self.generation.is_finished() {
            let counts = self.counts();
            self.handle.usage(counts.prompt, counts.output, counts.reasoning);
        }
        (index, delta)
    }

    fn counts(&self) -> Counts {
        Counts {
            prompt: self.prompt,
            output: self.generation.output_tokens(),
            reasoning: self.generation.reasoning_tokens(),
        }
    }

    fn push_chunk(&self, frame: &mut Vec<u8>, index: usize, delta: &Delta) {
        if !delta.is_empty() {
            sse::push_event(frame, &self.envelope.delta_chunk(index, delta));
        }
    }
}

/// The body of a streamed answer. Dropping it cancels the generation.
struct Streaming {
    answer: Answer,
    deadline: Deadline,
    include_usage: bool,
    first: Option<Vec<u8>>,
    ended: bool,
}

impl Streaming {
    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first.into());
        }
        let silence = Instant::now() + KEEP_ALIVE;
        while !self.ended {
            let mut frame = Vec::new();
            tokio::select! {
                // The deadline first: there may always be another piece for a client that reads slowly.
                biased;
                () = self.deadline.passed(), if !self.answer.generation.is_finished() => {
                    self.ended = true;
                    self.answer.handle.timed_out();
                    sse::push_event(&mut frame, ApiError::timeout(self.deadline.limit).body().to_string().as_bytes());
                }
                piece = self.answer.generation.next() => match piece {
                    Some(Ok(piece)) => {
                        let (index, delta) = self.answer.read(piece);
                        self.answer.push_chunk(&mut frame, index, &delta);
                    }
                    Some(Err(fault)) => self.fail(&mut frame, fault),
                    None => self.end(&mut frame),
                },
                () = tokio::time::sleep_until(silence) => return Some(Bytes::from_static(sse::KEEP_ALIVE)),
            }
            if !frame.is_empty() {
                return Some(frame.into());
            }
        }
        None
    }

    /// An error in the stream takes the place of `[DONE]`.
    fn fail(&mut self, frame: &mut Vec<u8>, fault: Fault) {
        self.ended = true;
        self.answer.handle.failed();
        sse::push_event(frame, ApiError::from(fault).body().to_string().as_bytes());
    }

    fn end(&mut self, frame: &mut Vec<u8>) {
        self.ended = true;
        if self.include_usage {
            sse::push_event(frame, &self.answer.envelope.usage_chunk(self.answer.counts()));
        }
        frame.extend_from_slice(sse::DONE);
    }
}

impl IntoResponse for Streaming {
    fn into_response(self) -> Response {
        let frames = stream::unfold(self, |mut streaming| async move {
            let frame = streaming.next_frame().await?;
            Some((Ok::<_, Infallible>(frame), streaming))
        });
        let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
        (headers, Body::from_stream(frames)).into_response()
    }
}
