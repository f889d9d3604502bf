//! A scripted server: it works on a fixed number of answers at once, with a fixed time to first token and known gaps between tokens.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Response, StatusCode, header},
    routing::post,
    serve::ListenerExt,
};
use futures_util::stream;
use llm_metrics::{LlmMetrics, prometheus::Exporter};
use llm_metrics_baseline::{Access, Baseline, Lengths, Progress, Rates, Settings, run};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until},
};

/// What the server does.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// The number of answers it works on at once; other requests wait.
    pub(crate) slots: usize,
    pub(crate) first_token: Duration,
    pub(crate) gap: Duration,
    /// The number of tokens per answer.
    pub(crate) tokens: u64,
    /// Each answer's times are longer or shorter by up to this share, at random; the average does not change.
    pub(crate) jitter: f64,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    OpenAi,
    Anthropic,
    Ollama,
    /// Status 200 and meaningless bytes.
    Garbage,
    /// Half of the tokens, then nothing more, with the connection open.
    StallsInTheMiddle,
    /// The same, for all answers after this many.
    StallsAfter(u64),
    /// Every other answer after this many breaks off in the middle.
    BreaksOffAfter(u64),
    /// A request that arrives while all slots are taken gets a 503.
    TurnsAway,
}

impl Default for Script {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self { slots: 8, first_token: millis(100), gap: millis(15), tokens: 21, jitter: 0.0, answer: Answer::OpenAi }
    }
}

impl Script {
    /// The time from the first byte of a request that does not wait to the last byte of its answer.
    pub(crate) fn service(&self) -> f64 {
        (self.first_token + self.gap * (self.tokens as u32 - 1)).as_secs_f64()
    }
}

#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    script: Script,
    slots: Arc<Semaphore>,
    /// The number of answers, and the microseconds for which their slots were taken.
    answers: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) thinking: Arc<AtomicU64>,
    dead: Arc<Notify>,
}

impl Scripted {
    pub(crate) fn start(script: Script) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            script,
            slots: Arc::new(Semaphore::new(script.slots)),
            answers: Arc::default(),
            taken: Arc::default(),
            asked: Arc::default(),
            thinking: Arc::default(),
            dead: Arc::default(),
        };
        let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
        let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
        let app = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/messages", post(answer))
            .route("/api/chat", post(answer))
            .layer(metrics.layer())
            .route_service("/metrics", exporter.service())
            .with_state(server.clone());
        // The server has its own runtime: all its connections end together with it.
        let dead = server.dead.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener =
                    TcpListener::from_std(listener).unwrap().tap_io(|stream| stream.set_nodelay(true).unwrap());
                tokio::spawn(async { axum::serve(listener, app).await });
                dead.notified().await;
            });
        });
        server
    }

    /// Answers per second if requests are always waiting, computed from how long each slot was really taken, so it is correct on a busy machine too.
    pub(crate) fn capacity(&self) -> f64 {
        let (answers, taken) = (self.answers.load(Ordering::Relaxed), self.taken.load(Ordering::Relaxed));
        self.script.slots as f64 / (taken as f64 / 1e6 / answers as f64)
    }

    /// Closes the listener and all connections.
    pub(crate) fn die(&self) {
        self.dead.notify_one();
    }

    pub(crate) fn settings(&self, rates: Rates) -> Settings {
        let mut settings = Settings::default();
        settings.target = format!("http://{}", self.address);
        settings.model = "scripted".to_owned();
        settings.rates = rates;
        settings.workload.output_tokens = Lengths::Fixed(self.script.tokens as u32);
        settings.step.warm_up_seconds = 1.0;
        settings.step.least_seconds = 5.0;
        settings.step.most_seconds = 5.0;
        settings.limits.drain_seconds = 10.0;
        settings
    }
}

pub(crate) async fn measure(settings: Settings) -> Baseline {
    let mut tell = |progress: Progress<'_>| {
        if let Progress::Ended(step) = progress {
            eprintln!(
                "{:6.2}/s {:?} {:?}: {} of {} answered, {:.2}/s",
                step.rate,
                step.verdict,
                step.ended,
                step.client.answered,
                step.client.requests,
                step.client.answer_rate
            );
        }
    };
    let baseline = run(settings, Access::default(), std::future::pending(), &mut tell).await.unwrap();
    eprintln!("{:#?} {:#?}", baseline.findings, baseline.knee);
    baseline
}

async fn answer(State(server): State<Scripted>, request: Bytes) -> Response<Body> {
    server.asked.fetch_add(1, Ordering::Relaxed);
    let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
    if request["chat_template_kwargs"]["enable_thinking"] == true || request["think"] == true {
        server.thinking.fetch_add(1, Ordering::Relaxed);
    }
    let number = server.asked.load(Ordering::Relaxed);
    if server.script.answer == Answer::TurnsAway && server.slots.available_permits() == 0 {
        let why = Body::from("{\"error\": {\"message\": \"all slots are taken\"}}");
        return Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).body(why).unwrap();
    }
    let permit = server.slots.clone().acquire_owned().await.unwrap();
    let began = Instant::now();
    let script = server.script;
    let longer = 1.0 + script.jitter * (2.0 * fastrand::f64() - 1.0);
    let content_type = match script.answer {
        Answer::Ollama => "application/x-ndjson",
        Answer::Garbage => "text/html",
        _ => "text/event-stream",
    };
    let stalls = match script.answer {
        Answer::StallsInTheMiddle => true,
        Answer::StallsAfter(answers) => number > answers,
        _ => false,
    };
    let breaks_off = matches!(script.answer, Answer::BreaksOffAfter(answers) if number > answers && number % 2 == 0);
    let body = stream::unfold((0, permit), move |(number, permit)| {
        let server = server.clone();
        async move {
            if number > script.tokens || (breaks_off && number > script.tokens / 2) {
                return None;
            }
            if stalls && number > script.tokens / 2 {
                std::future::pending::<()>().await;
            }
            let at = script.first_token + script.gap * u32::try_from(number.min(script.tokens - 1)).unwrap();
            sleep_until(began + at.mul_f64(longer)).await;
            if number == script.tokens {
                server.answers.fetch_add(1, Ordering::Relaxed);
                server.taken.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
            Some((Ok::<_, Infallible>(Bytes::from(event(&script, number))), (number + 1, permit)))
        }
    });
    let response = Response::builder().status(StatusCode::OK).header(header::CONTENT_TYPE, content_type);
    response.body(Body::from_stream(body)).unwrap()
}

/// The events of the tokens, then the end of the stream.
fn event(script: &Script, number: u64) -> String {
    let tokens = script.tokens;
    let first = number == 0;
    match script.answer {
        Answer::Garbage => "<html>It works!</html>".to_owned(),
        Answer::Ollama if number < tokens => "{\"message\":{\"content\":\" a\"},\"done\":false}\n".to_owned(),
        Answer::Ollama => {
            format!(
                "{{\"message\":{{\"content\":\"\"}},\"done\":true,\"prompt_eval_count\":7,\"eval_count\":{tokens}}}\n"
            )
        }
        Answer::Anthropic if number < tokens => {
            let start = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n";
            let delta =
                "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\" a\"}}\n\n";
            if first { format!("{start}{delta}") } else { delta.to_owned() }
        }
        Answer::Anthropic => format!(
            "data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":{tokens}}}}}\n\n\
             data: {{\"type\":\"message_stop\"}}\n\n"
        ),
        _ if number < tokens => "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a\"}}]}\n\n".to_owned(),
        _ => format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n\
             data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":7,\"completion_tokens\":{tokens}}}}}\n\n\
             data: [DONE]\n\n"
        ),
    }
}
