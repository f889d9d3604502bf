//! mistral.rs, with workarounds.
//!
//! Version 0.8.1 panics when the receiver of a non-streaming request is gone, blocks while one receiver is full, drops chunks of requests with more
//! than one choice, does not end properly at the end of the context, treats a failed tool call as a failure of the whole batch, and on a CPU never
//! evicts a prompt from its prefix cache. So every choice is a separate streaming request with a channel that never fills, the token limit always
//! fits the context, tool calls are parsed outside, and a CPU has no prefix cache.

mod generation;
mod length;
mod load;
mod probe;
mod steering;

pub(crate) use generation::{Finish, Generation, Piece};
pub(crate) use load::{LoadError, Options, Source, default_max_seqs, load};
pub(crate) use steering::Steering;

use std::{sync::Arc, time::Duration};

use either::Either;
use indexmap::IndexMap;
use length::LengthGuard;
use mistralrs::{
    Constraint, MessageContent, ModelGenerationDefaults, NormalRequest, Request, RequestMessage, SamplingParams, Tool,
    ToolChoice,
    core::{MistralRs, TokenizationRequest},
};
use probe::{Load, Presence, Probe, ThinkTags, TokenCounts};
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, Sender},
};

use crate::telemetry::{EngineMetrics, Handle};

/// A chat message as in the chat template.
pub(crate) type Message = IndexMap<String, MessageContent>;

/// What the model is to continue.
#[derive(Clone)]
pub(crate) enum Prompt {
    Chat { messages: Vec<Message>, tools: Vec<Tool>, enable_thinking: Option<bool> },
    Text(String),
}

impl Prompt {
    /// The caller's last message.
    pub(crate) fn last_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Chat { messages, .. } => messages.last()?.get("content")?.as_ref().left().map(String::as_str),
        }
    }

    /// Keeps at most this many bytes of each text, without splitting a character.
    pub(crate) fn cut(&mut self, bytes: usize) {
        let cut = |text: &mut String| {
            let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        };
        match self {
            Self::Text(text) => cut(text),
            Self::Chat { messages, .. } => {
                messages
                    .iter_mut()
                    .flat_map(IndexMap::values_mut)
                    .filter_map(|value| value.as_mut().left())
                    .for_each(cut);
            }
        }
    }

    /// The caller's text.
    fn texts(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Chat { messages, .. } => {
                messages.iter().flat_map(IndexMap::values).filter_map(|value| value.as_ref().left()).cloned().collect()
            }
        }
    }
}

/// One request to the engine.
pub(crate) struct Job {
    pub(crate) prompt: Prompt,
    pub(crate) sampling: SamplingParams,
    pub(crate) constraint: Constraint,
    pub(crate) steering: Steering,
    pub(crate) choices: usize,
    /// At least 1, and no more than the context has room for after the prompt.
    pub(crate) max_tokens: usize,
}

/// What is known about the loaded model.
pub(crate) struct Facts {
    pub(crate) context_length: usize,
    pub(crate) has_chat_template: bool,
    /// From `generation_config.json`, which the engine reads but does not apply.
    pub(crate) defaults: ModelGenerationDefaults,
    pub(crate) ends: Arc<[u32]>,
    think_tags: Option<ThinkTags>,
    length: LengthGuard,
}

/// Why the engine failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Invalid(String),
    #[error("the model failed: {0}")]
    Failed(String),
    #[error("the engine stopped and is being restarted; try again")]
    Gone,
}

/// A loaded model.
pub(crate) struct Engine {
    runner: Arc<MistralRs>,
    facts: Facts,
    load: Arc<Load>,
    /// One permit per choice that may be in this server, running or waiting.
    slots: Arc<Semaphore>,
    capacity: usize,
    /// One permit per choice in the engine: when nothing runs, 0.8.1 starts everything that waits, whatever its limit.
    seats: Arc<Semaphore>,
    max_seqs: usize,
}

impl Engine {
    fn new(runner: Arc<MistralRs>, facts: Facts, gauges: EngineMetrics, options: &Options) -> Self {
        let capacity = options.max_seqs + options.max_queue;
        Self {
            runner,
            facts,
            load: Arc::new(Load::new(gauges)),
            slots: Arc::new(Semaphore::new(capacity)),
            capacity,
            seats: Arc::new(Semaphore::new(options.max_seqs)),
            max_seqs: options.max_seqs,
        }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The maximum number of choices in this server, running or waiting.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A seat for each of `choices`, or `None` if the engine is full.
    pub(crate) fn admit(&self, choices: usize) -> Option<OwnedSemaphorePermit> {
        let choices = u32::try_from(choices).ok()?;
        Arc::clone(&self.slots).try_acquire_many_owned(choices).ok()
    }

    /// The prompt's length in tokens, after the chat template. If it is far too long: a lower bound above the context's length.
    pub(crate) async fn prompt_tokens(&self, prompt: Prompt) -> Result<usize, Fault> {
        let (guard, texts, limit) = (self.facts.length.clone(), prompt.texts(), self.facts.context_length);
        let excess = tokio::task::spawn_blocking(move || guard.excess(&texts, limit)).await;
        if let Ok(Some(tokens)) = excess {
            return Ok(tokens);
        }
        let (text, tools, enable_thinking) = match prompt {
            Prompt::Chat { messages, tools, enable_thinking } => (Either::Left(messages), Some(tools), enable_thinking),
            Prompt::Text(text) => (Either::Right(text), None, None),
        };
        let (response, mut tokens) = mpsc::channel(1);
        self.send(Request::Tokenize(TokenizationRequest {
            text,
            tools,
            add_generation_prompt: true,
            add_special_tokens: true,
            enable_thinking,
            reasoning_effort: None,
            response,
        }))
        .await?;
        // 0.8.1 panics if the receiver is gone, so it must outlive a client that disconnects meanwhile.
        let answer = tokio::spawn(async move { tokens.recv().await }).await;
        match answer.ok().flatten() {
            Some(Ok(tokens)) => Ok(tokens.len()),
            Some(Err(error)) => Err(Fault::Invalid(generation::summary(&error.to_string()))),
            None => Err(Fault::Gone),
        }
    }

    /// Waits for its turn and submits the job. A client that disconnects before costs the engine nothing.
    pub(crate) async fn start(
        &self,
        job: Job,
        slots: OwnedSemaphorePermit,
        handle: &Handle,
    ) -> Result<Generation, Fault> {
        let mut presence = Presence::enter(Arc::clone(&self.load), slots);
        // A request with more choices than seats takes all of them.
        presence.wait_for_seats(&self.seats, job.choices.min(self.max_seqs), handle).await?;
        let presence = Arc::new(presence);
        let steering = Arc::new(job.steering);
        let (messages, tools) = match job.prompt {
            Prompt::Chat { messages, tools, enable_thinking } => {
                (RequestMessage::Chat { messages, enable_thinking, reasoning_effort: None }, tools)
            }
            Prompt::Text(text) => (RequestMessage::Completion { text, echo_prompt: false, best_of: None }, Vec::new()),
        };
        let sampling = SamplingParams { max_len: Some(job.max_tokens), n_choices: 1, ..job.sampling };

        let mut choices = Vec::with_capacity(job.choices);
        let mut engine = None;
        for _ in 0..job.choices {
            // One chunk per token, and at most one error.
            let (response, responses) = mpsc::channel(job.max_tokens + 1);
            let token_counts = Arc::new(TokenCounts::default());
            let probe = Probe {
                token_counts: Arc::clone(&token_counts),
                presence: Arc::clone(&presence),
                steering: Arc::clone(&steering),
                tags: self.facts.think_tags,
                handle: handle.clone(),
            };
            let request = NormalRequest {
                is_streaming: true,
                // For the first token of a text as it is; see `Choice`.
                return_logprobs: matches!(messages, RequestMessage::Completion { .. }),
                constraint: job.constraint.clone(),
                logits_processors: Some(vec![Arc::new(probe)]),
                // The template shows the tools; the engine's own parsing of answers fails whole batches.
                tool_choice: Some(ToolChoice::None),
                tools: (!tools.is_empty()).then(|| tools.clone()),
                ..NormalRequest::new_simple(
                    messages.clone(),
                    sampling.clone(),
                    response,
                    self.runner.next_request_id(),
                    None,
                    None,
                )
            };
            engine = Some(self.send(Request::Normal(Box::new(request))).await?);
            choices.push(generation::Choice::new(responses, token_counts, job.max_tokens));
        }
        let engine = engine.ok_or_else(|| Fault::Invalid("no choices were asked for".into()))?;
        Ok(Generation { choices, engine, next: 0 })
    }

    /// Sends to the current engine: `get_sender` restarts a dead one after its thread has ended.
    async fn send(&self, mut request: Request) -> Result<Sender<Request>, Fault> {
        const ATTEMPTS: usize = 40;
        for _ in 0..ATTEMPTS {
            let engine = self.runner.get_sender(None).map_err(|_| Fault::Gone)?;
            match engine.send(request).await {
                Ok(()) => return Ok(engine),
                Err(mpsc::error::SendError(returned)) => request = returned,
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(Fault::Gone)
    }
}

#[cfg(test)]
mod tests;
