//! The engine itself, with the tiny model in it.

use mistralrs::{CustomLogitsProcessor, Tensor, core::DetokenizationRequest};

use super::*;

async fn engine() -> (Engine, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let model = crate::tiny::ensure_in(cache.path()).unwrap();
    let options = Options { max_seqs: 4, max_queue: 2, prefix_cache: true };
    let gauges = llm_metrics::LlmMetrics::new().engine("tiny");
    (load(&Source::Directory(model), &options, gauges).await.unwrap(), cache)
}

fn chat(max_tokens: usize) -> Job {
    let message = |(key, value): (&str, &str)| (key.to_owned(), MessageContent::Left(value.to_owned()));
    let message = [("role", "user"), ("content", "hello")].map(message).into_iter().collect();
    Job {
        prompt: Prompt::Chat { messages: vec![message], tools: vec![], enable_thinking: None },
        sampling: SamplingParams { temperature: Some(0.0), ..SamplingParams::neutral() },
        constraint: Constraint::None,
        steering: Steering::default(),
        choices: 1,
        max_tokens,
    }
}

impl Engine {
    /// A request that generates `max_tokens` tokens unless it is cancelled.
    async fn start_long(&self, max_tokens: usize) -> Generation {
        let steering = Steering { min_tokens: u64::MAX, ends: self.facts.ends.clone(), ..Steering::default() };
        let job = Job { steering, ..chat(max_tokens) };
        self.start(job, self.admit(1).unwrap(), &Handle::default()).await.unwrap()
    }

    /// Waits until the engine holds no request.
    async fn settled(&self) {
        while self.load.counts() != (0, 0) || self.slots.available_permits() < self.capacity {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn finish(generation: &mut Generation) -> Result<Option<Finish>, Fault> {
    let mut last = None;
    while let Some(piece) = generation.next().await {
        last = piece?.finish;
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn text_survives_the_tokenizer() {
    let (engine, _cache) = engine().await;
    for text in ["Measure at the edge where users wait.", "na\u{ef}ve \u{1f980}\n\tx  y", "<think>\n"] {
        let (response, mut tokens) = mpsc::channel(1);
        let request = TokenizationRequest {
            text: Either::Right(text.to_owned()),
            tools: None,
            add_generation_prompt: false,
            add_special_tokens: false,
            enable_thinking: None,
            reasoning_effort: None,
            response,
        };
        engine.send(Request::Tokenize(request)).await.unwrap();
        let tokens = tokens.recv().await.unwrap().unwrap();
        let (response, mut decoded) = mpsc::channel(1);
        let request = DetokenizationRequest { tokens, skip_special_tokens: false, response };
        engine.send(Request::Detokenize(request)).await.unwrap();
        assert_eq!(decoded.recv().await.unwrap().unwrap(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_limit_is_a_finish_reason() {
    let (engine, _cache) = engine().await;
    let mut generation = engine.start_long(12).await;
    assert_eq!(finish(&mut generation).await.unwrap(), Some(Finish::Length));
    assert_eq!((generation.output_tokens(), generation.reasoning_tokens()), (12, 5));
    engine.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_generation_leaves_the_engine() {
    let (engine, _cache) = engine().await;
    let mut generation = engine.start_long(1900).await;
    generation.next().await.unwrap().unwrap();
    assert_eq!(engine.load.counts(), (0, 1), "it has a token, so it runs");
    drop(generation);
    engine.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_generation_does_not_block_the_engine() {
    let (engine, _cache) = engine().await;
    let unread = engine.start_long(600).await;
    let mut other = engine.start(chat(100), engine.admit(1).unwrap(), &Handle::default()).await.unwrap();
    assert_eq!(finish(&mut other).await.unwrap(), Some(Finish::Stop));
    engine.settled().await;
    assert_eq!(unread.output_tokens(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_while_its_prompt_is_counted_affects_no_other() {
    let (engine, _cache) = engine().await;
    let before = engine.runner.get_sender(None).unwrap();
    for limit in 0..50 {
        let counting = engine.prompt_tokens(chat(1).prompt);
        let _ = tokio::time::timeout(Duration::from_micros(limit * 20), counting).await;
    }
    assert!(engine.prompt_tokens(chat(1).prompt).await.unwrap() > 0);
    assert!(engine.runner.get_sender(None).unwrap().same_channel(&before), "the engine was restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_megabytes_is_turned_away_by_its_beginning() {
    let (engine, _cache) = engine().await;
    let tokens = engine.prompt_tokens(Prompt::Text("lorem ipsum ".repeat(1 << 17))).await.unwrap();
    assert!((2049..10_000).contains(&tokens), "{tokens}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_admitted_than_there_is_room_for() {
    let (engine, _cache) = engine().await;
    let all = engine.admit(engine.capacity()).unwrap();
    assert!(engine.admit(1).is_none());
    drop(all);
    assert!(engine.admit(1).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_run_than_there_are_seats_and_waiting_requests_can_be_cancelled() {
    let (engine, _cache) = engine().await;
    let mut running = Vec::new();
    for _ in 0..4 {
        let mut generation = engine.start_long(1900).await;
        generation.next().await.unwrap().unwrap();
        running.push(generation);
    }
    // Two more requests wait in this server, not in the engine, so they cannot start at all.
    let waiting = async { tokio::join!(engine.start_long(1), engine.start_long(1)) };
    assert!(tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err());
    assert_eq!(engine.load.counts(), (0, 4), "those that left are gone at once");

    drop(running);
    engine.settled().await;
    assert_eq!(engine.seats.available_permits(), 4);
}

/// Panics where mistral.rs 0.8.1 panics when a receiver is dropped at the wrong moment.
struct Bomb;

impl CustomLogitsProcessor for Bomb {
    fn apply(&self, _: &Tensor, _: &[u32]) -> mistralrs::Result<Tensor> {
        panic!("as planned")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_is_reported_and_restarted() {
    let (engine, _cache) = engine().await;
    let mut victim = engine.start_long(1900).await;
    victim.next().await.unwrap().unwrap();

    let (response, _responses) = mpsc::channel(1);
    let messages = RequestMessage::Completion { text: "The".into(), echo_prompt: false, best_of: None };
    let mut bomb = NormalRequest::new_simple(messages, SamplingParams::neutral(), response, 0, None, None);
    bomb.is_streaming = true;
    bomb.logits_processors = Some(vec![Arc::new(Bomb)]);
    engine.send(Request::Normal(Box::new(bomb))).await.unwrap();

    assert!(matches!(finish(&mut victim).await, Err(Fault::Gone)));
    let mut next = engine.start(chat(100), engine.admit(1).unwrap(), &Handle::default()).await.unwrap();
    assert_eq!(finish(&mut next).await.unwrap(), Some(Finish::Stop));
    drop((victim, next));
    engine.settled().await;
}
