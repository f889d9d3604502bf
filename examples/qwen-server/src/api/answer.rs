//! From a parsed request to its response: count, admit, generate, and either stream or gather.
//!
//! The response head waits for the engine's first output, so that every rejection by the engine gets its own status. Responses that are not streamed
//! are generated as a stream, too, so that the engine notices when the client disconnects.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::time::Instant;

use super::{
    error::ApiError,
    format::{AnswerFormat, Counts},
    messages::ToolUse,
    settings::{Settings, token_limit},
    text::{ChoiceText, Delta},
};
use crate::{
    demo::{self, Playback},
    engine::{Engine, Fault, Generation, Job, Piece, Prompt},
    server::App,
    telemetry::Handle,
};

/// A stream sends a comment after this much time without data.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A valid request.
pub(super) struct Call {
    pub(super) prompt: Prompt,
    /// The field that holds the prompt, for errors about it.
    pub(super) prompt_field: &'static str,
    /// Text that each choice begins with.
    pub(super) echo: String,
    pub(super) settings: Settings,
    pub(super) tools: ToolUse,
}

/// When a request times out.
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

    /// `work`, or a timeout.
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
    mut call: Call,
    mut format: Box<dyn AnswerFormat>,
    handle: Handle,
    deadline: Deadline,
) -> Result<Response, ApiError> {
    let script = if app.demo { script(&call)? } else { None };
    let slots = engine.admit(call.settings.choices).ok_or_else(ApiError::overloaded)?;
    let context = engine.facts().context_length;
    if let Some(script) = script {
        script.read(&mut call.prompt, &handle);
    }
    let prompt = engine.prompt_tokens(call.prompt.clone()).await?;
    handle.prompt_tokens(prompt as u64);
    let max_tokens = token_limit(call.settings.max_tokens, app.limits.max_tokens, context, prompt)
        .ok_or_else(|| ApiError::context_length_exceeded(context, prompt, call.prompt_field))?;
    let Settings { sampling, steering, constraint, choices, stop, stream, .. } = call.settings;
    let choices = script.map_or(choices, |script| script.choices(choices));
    let mut generation = match script {
        Some(script) => Texts::Script(Playback::new(script, choices, max_tokens, slots, handle.clone())),
        None => {
            let job = Job { prompt: call.prompt, sampling, constraint, steering, choices, max_tokens };
            Texts::Engine(engine.start(job, slots, &handle).await?)
        }
    };
    let first = generation.next().await;

    let stop: Arc<[String]> = stop.into();
    let mut answer = Answer {
        texts: (0..choices).map(|_| ChoiceText::new(&stop, &call.tools)).collect(),
        generation,
        prompt: prompt as u64,
        handle,
    };
    let first = first.transpose()?.map(|piece| answer.read(piece));
    let echo = || Delta { content: call.echo.clone(), ..Delta::default() };
    if stream {
        let mut frame = Vec::new();
        format.begin(&mut frame, choices, answer.prompt);
        for index in (0..choices).filter(|_| !call.echo.is_empty()) {
            format.delta(&mut frame, index, &echo());
        }
        if let Some((index, delta)) = first.filter(|(_, delta)| !delta.is_empty()) {
            format.delta(&mut frame, index, &delta);
        }
        Ok(Streaming { answer, format, deadline, first: Some(frame), ended: false }.into_response())
    } else {
        let mut gathered: Vec<Delta> = (0..choices).map(|_| echo()).collect();
        let mut next = first;
        while let Some((index, delta)) = next {
            gather(&mut gathered[index], delta);
            next = answer.generation.next().await.transpose()?.map(|piece| answer.read(piece));
        }
        let body = format.document(&gathered, answer.counts());
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }
}

/// The script that the prompt requests.
fn script(call: &Call) -> Result<Option<&'static demo::Script>, ApiError> {
    demo::asked_for(&call.prompt).map_err(|unknown| ApiError::invalid(call.prompt_field, unknown.to_string()))
}

/// The source of the texts.
enum Texts {
    Engine(Generation),
    Script(Playback),
}

impl Texts {
    async fn next(&mut self) -> Option<Result<Piece, Fault>> {
        match self {
            Self::Engine(generation) => generation.next().await,
            Self::Script(playback) => playback.next().await,
        }
    }

    fn is_finished(&self) -> bool {
        match self {
            Self::Engine(generation) => generation.is_finished(),
            Self::Script(playback) => playback.is_finished(),
        }
    }

    fn output_tokens(&self) -> u64 {
        match self {
            Self::Engine(generation) => generation.output_tokens(),
            Self::Script(playback) => playback.output_tokens(),
        }
    }

    fn reasoning_tokens(&self) -> u64 {
        match self {
            Self::Engine(generation) => generation.reasoning_tokens(),
            Self::Script(playback) => playback.reasoning_tokens(),
        }
    }
}

/// Appends a delta to the previous text of the same choice.
fn gather(whole: &mut Delta, delta: Delta) {
    whole.reasoning += &delta.reasoning;
    whole.content += &delta.content;
    whole.refusal += &delta.refusal;
    for part in delta.calls {
        match whole.calls.iter_mut().find(|call| call.index == part.index) {
            Some(call) => call.arguments += &part.arguments,
            None => whole.calls.push(part),
        }
    }
    whole.finish_reason = delta.finish_reason.or(whole.finish_reason);
    whole.stop_sequence = delta.stop_sequence.or_else(|| whole.stop_sequence.take());
}

/// A response in progress.
struct Answer {
    texts: Vec<ChoiceText>,
    generation: Texts,
    prompt: u64,
    handle: Handle,
}

impl Answer {
    /// Converts the engine's text to the client's. With the last finish reason, the engine's counts are reported, because a client may disconnect
    /// right after it.
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
}

/// The body of a streamed answer. Dropping it cancels the generation.
struct Streaming {
    answer: Answer,
    format: Box<dyn AnswerFormat>,
    deadline: Deadline,
    first: Option<Vec<u8>>,
    ended: bool,
}

impl Streaming {
    async fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first.into());
        }
        let silence = Instant::now() + KEEP_ALIVE;
        let keep_alive = self.format.keep_alive();
        while !self.ended {
            let mut frame = Vec::new();
            tokio::select! {
                // The deadline first: for a client that reads slowly, there may always be another piece.
                biased;
                () = self.deadline.passed(), if !self.answer.generation.is_finished() => {
                    self.ended = true;
                    self.answer.handle.timed_out();
                    self.format.fail(&mut frame, &ApiError::timeout(self.deadline.limit));
                }
                piece = self.answer.generation.next() => match piece {
                    Some(Ok(piece)) => {
                        let (index, delta) = self.answer.read(piece);
                        if !delta.is_empty() {
                            self.format.delta(&mut frame, index, &delta);
                        }
                    }
                    Some(Err(fault)) => self.fail(&mut frame, fault),
                    None => {
                        self.ended = true;
                        self.format.end(&mut frame, self.answer.counts());
                    }
                },
                () = tokio::time::sleep_until(silence), if keep_alive.is_some() => {
                    return keep_alive.map(Bytes::from_static);
                }
            }
            if !frame.is_empty() {
                return Some(frame.into());
            }
        }
        None
    }

    fn fail(&mut self, frame: &mut Vec<u8>, fault: Fault) {
        self.ended = true;
        self.answer.handle.failed();
        self.format.fail(frame, &ApiError::from(fault));
    }
}

impl IntoResponse for Streaming {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, self.format.stream_type()), (header::CACHE_CONTROL, "no-cache")];
        let frames = stream::unfold(self, |mut streaming| async move {
            let frame = streaming.next_frame().await?;
            Some((Ok::<_, Infallible>(frame), streaming))
        });
        (headers, Body::from_stream(frames)).into_response()
    }
}
