//! The engine's answer to one request: text by text, over all its choices.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use mistralrs::{ChatCompletionChunkResponse, Request, Response, core::CompletionChunkResponse};
use tokio::sync::mpsc::{Receiver, Sender};

use super::{Fault, probe::TokenCounts};

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    /// By a content filter.
    Filtered,
}

/// New text of one choice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) choice: usize,
    pub(crate) reasoning: String,
    pub(crate) content: String,
    /// A refusal instead of an answer.
    pub(crate) refusal: String,
    pub(crate) finish: Option<Finish>,
}

/// A running request. Dropping it cancels the rest.
///
/// The channels have room for everything that the engine may send, so a client that does not read never blocks the engine, which would wait and serve
/// no other request.
pub(crate) struct Generation {
    pub(super) choices: Vec<Choice>,
    pub(super) engine: Sender<Request>,
    pub(super) next: usize,
}

pub(super) struct Choice {
    pub(super) responses: Receiver<Response>,
    pub(super) token_counts: Arc<TokenCounts>,
    pub(super) max_tokens: usize,
    pub(super) finish: Option<Finish>,
    begun: bool,
}

impl Generation {
    /// The next text of any choice; `None` when all of them have ended.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, Fault>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether every choice has its finish reason, so that the counts below are final.
    pub(crate) fn is_finished(&self) -> bool {
        self.choices.iter().all(|choice| choice.finish.is_some())
    }

    pub(crate) fn output_tokens(&self) -> u64 {
        self.choices.iter().map(|choice| choice.token_counts.sampled()).sum()
    }

    pub(crate) fn reasoning_tokens(&self) -> u64 {
        self.choices.iter().map(|choice| choice.token_counts.reasoning(choice.finish == Some(Finish::Length))).sum()
    }

    /// Polls the choices in turn, so that none starves.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Fault>>> {
        let count = self.choices.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            let choice = &mut self.choices[index];
            if choice.finish.is_none()
                && let Poll::Ready(result) = choice.poll_piece(&self.engine, cx)
            {
                self.next = index + 1;
                return Poll::Ready(Some(result.map(|piece| Piece { choice: index, ..piece })));
            }
        }
        if self.is_finished() { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Choice {
    pub(super) fn new(responses: Receiver<Response>, token_counts: Arc<TokenCounts>, max_tokens: usize) -> Self {
        Self { responses, token_counts, max_tokens, finish: None, begun: false }
    }

    fn poll_piece(&mut self, engine: &Sender<Request>, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        let piece = match ready!(self.responses.poll_recv(cx)) {
            Some(Response::Chunk(chunk)) => chat_piece(chunk),
            Some(Response::CompletionChunk(chunk)) => {
                let first = !std::mem::replace(&mut self.begun, true);
                text_piece(chunk, first)
            }
            Some(Response::ValidationError(error)) => Err(Fault::Invalid(summary(&error.to_string()))),
            Some(Response::InternalError(error)) => Err(Fault::Failed(summary(&error.to_string()))),
            Some(Response::ModelError(message, _) | Response::CompletionModelError(message, _)) => {
                Err(Fault::Failed(summary(&message)))
            }
            Some(_) => Err(Fault::Failed("an answer of an unexpected kind".into())),
            None if engine.is_closed() => Err(Fault::Gone),
            // The last token ended inside a character: 0.8.1 then ends the sequence without a last chunk.
            None => Ok(Piece { finish: Some(self.unannounced_finish()), ..Piece::default() }),
        };
        if let Ok(piece) = &piece {
            self.finish = piece.finish;
        }
        Poll::Ready(piece)
    }

    fn unannounced_finish(&self) -> Finish {
        if self.token_counts.sampled() >= self.max_tokens as u64 { Finish::Length } else { Finish::Stop }
    }
}

fn chat_piece(chunk: ChatCompletionChunkResponse) -> Result<Piece, Fault> {
    let Some(choice) = chunk.choices.into_iter().next() else { return Ok(Piece::default()) };
    Ok(Piece {
        reasoning: choice.delta.reasoning_content.unwrap_or_default(),
        content: choice.delta.content.unwrap_or_default(),
        finish: choice.finish_reason.as_deref().map(finish).transpose()?,
        ..Piece::default()
    })
}

fn text_piece(chunk: CompletionChunkResponse, first: bool) -> Result<Piece, Fault> {
    let Some(choice) = chunk.choices.into_iter().next() else { return Ok(Piece::default()) };
    let token = choice.logprobs.and_then(|logprobs| logprobs.bytes).and_then(|bytes| String::from_utf8(bytes).ok());
    let content = if first { with_leading_space(choice.text, token) } else { choice.text };
    Ok(Piece { content, finish: choice.finish_reason.as_deref().map(finish).transpose()?, ..Piece::default() })
}

/// 0.8.1 removes the space before the first word of a text, although a completion may begin with one. The token has it.
fn with_leading_space(text: String, token: Option<String>) -> String {
    token.filter(|token| token.trim_start() == text).unwrap_or(text)
}

fn finish(reason: &str) -> Result<Finish, Fault> {
    match reason {
        "stop" | "tool_calls" => Ok(Finish::Stop),
        "length" => Ok(Finish::Length),
        other => Err(Fault::Failed(format!("the engine ended the text with {other:?}"))),
    }
}

/// Only the first line: with `RUST_BACKTRACE` set, the engine's messages contain a backtrace.
pub(super) fn summary(message: &str) -> String {
    message.lines().next().unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_stays_inside() {
        assert_eq!(summary("narrow invalid args\n   0: candle_core::tensor\n"), "narrow invalid args");
    }

    #[test]
    fn a_completion_keeps_its_first_space() {
        assert_eq!(with_leading_space("word".into(), Some(" word".into())), " word");
        assert_eq!(with_leading_space("word".into(), Some("<|im_end|>".into())), "word");
        assert_eq!(with_leading_space("word".into(), None), "word");
    }

    #[test]
    fn an_unknown_finish_reason_is_an_error() {
        assert_eq!(finish("length").ok(), Some(Finish::Length));
        assert!(finish("canceled").is_err());
    }
}
