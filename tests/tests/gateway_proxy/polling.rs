//! The gateway's own requests, to upstreams that record them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use llm_metrics::MAX_NAME_BYTES;
use llm_metrics_gateway::Config;
use llm_metrics_tests::{
    Client, Page, Script, Server, Step,
    gateway::Running,
    post, serve,
    stream::{CHAT, completion, token, well},
};
use serde_json::json;
use tower::service_fn;

/// An engine that unloads its model when it has been idle for this long.
const IDLE: Duration = Duration::from_millis(600);

/// An engine that records what happens to it.
#[derive(Clone)]
struct Engine(Arc<Mutex<State>>);

struct State {
    /// When the idle time last started.
    touched: Instant,
    busy: usize,
    loads: usize,
    asked: BTreeSet<String>,
}

impl Engine {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State { touched: Instant::now(), busy: 0, loads: 1, asked: BTreeSet::new() })))
    }

    fn sleeps(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.busy == 0 && state.touched.elapsed() > IDLE
    }

    /// A task of the engine. It loads the model if necessary, and restarts the idle time.
    fn touch(&self) {
        let sleeps = self.sleeps();
        let mut state = self.0.lock().unwrap();
        state.loads += usize::from(sleeps);
        state.touched = Instant::now();
    }

    fn loads(&self) -> usize {
        self.0.lock().unwrap().loads
    }

    fn asked(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().asked.clone()
    }

    /// Serves these answers; `None` is a 404.
    async fn serve(
        &self,
        answer: impl Fn(&Self, &Method, &str) -> Option<Response<Script>> + Clone + Send + Sync + 'static,
    ) -> Server {
        let engine = self.clone();
        serve(service_fn(move |request: http::Request<Incoming>| {
            let (engine, answer) = (engine.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                body.collect().await?;
                engine.0.lock().unwrap().asked.insert(format!("{} {}", parts.method, parts.uri));
                let missing = || {
                    let mut response = Script::json("{}");
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    response
                };
                Ok::<_, hyper::Error>(answer(&engine, &parts.method, parts.uri.path()).unwrap_or_else(missing))
            }
        }))
        .await
    }
}

/// An upstream that only has this path, with an answer that depends on the number of earlier requests; and this number.
async fn serve_polls(
    path: &'static str,
    answer: impl Fn(u64) -> String + Clone + Send + Sync + 'static,
) -> (Server, Arc<AtomicU64>) {
    let polls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&polls);
    let upstream = Engine::new()
        .serve(move |_, _, asked| {
            (asked == path).then(|| Script::json(answer(counted.fetch_add(1, Ordering::Relaxed))))
        })
        .await;
    (upstream, polls)
}

/// A gateway that polls much more often than a file could configure.
async fn eager(upstream: &Server, kind: &str) -> Running {
    let text = format!("[upstreams.up]\nurl = \"{}\"\nkind = \"{kind}\"", upstream.url(""));
    let mut config = Config::parse(&text).unwrap();
    let often = Some(Duration::from_millis(20));
    (config.upstreams[0].probe, config.upstreams[0].refresh_models, config.upstreams[0].poll) = (often, often, often);
    Running::with(config).await
}

fn llama_cpp(engine: &Engine, method: &Method, path: &str) -> Option<Response<Script>> {
    Some(match (method.as_str(), path) {
        ("GET", "/health") => Script::json("{\"status\":\"ok\"}"),
        ("GET", "/v1/models") => Script::json("{\"object\":\"list\",\"data\":[{\"id\":\"smollm2\"}]}"),
        ("GET", "/props") => {
            Script::json(json!({"default_generation_settings": {}, "is_sleeping": engine.sleeps()}).to_string())
        }
        ("GET", "/metrics") => {
            engine.touch();
            let busy = engine.0.lock().unwrap().busy;
            Script::json(format!("llamacpp:requests_processing {busy}\nllamacpp:requests_deferred 3\n"))
        }
        ("POST", CHAT) => {
            engine.touch();
            engine.0.lock().unwrap().busy += 1;
            let events = well(4).into_iter().map(Step::from).collect::<Vec<_>>();
            let slow = events.into_iter().flat_map(|event| [Step::Wait(Duration::from_millis(150)), event]);
            let done = engine.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1200)).await;
                done.0.lock().unwrap().busy -= 1;
                done.touch();
            });
            Script::stream(slow)
        }
        _ => return None,
    })
}

#[tokio::test]
async fn llama_cpp_falls_asleep_stays_asleep_and_is_polled_only_while_it_works() {
    let engine = Engine::new();
    let upstream = engine.serve(llama_cpp).await;
    let gateway = eager(&upstream, "llama.cpp").await;
    let falls_asleep = || async {
        let began = Instant::now();
        while !engine.sleeps() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is kept awake: {:?}", engine.asked());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    falls_asleep().await;
    tokio::time::sleep(IDLE).await;
    assert!(engine.sleeps() && engine.loads() == 1, "{:?}", engine.asked());
    let idle: BTreeSet<_> = ["GET /health", "GET /props", "GET /v1/models"].map(str::to_owned).into();
    assert_eq!(engine.asked(), idle);
    let page = gateway.scrape().await;
    assert_eq!(page.series("llm_engine_requests_running", &[]), 0, "unknown values are absent");

    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, "{\"model\":\"smollm2\",\"stream\":true}")).await;
    let page = gateway.when(|page| page.value("llm_engine_requests_running", &[("model", "smollm2")]) == 1.0).await;
    assert_eq!(page.value("llm_engine_requests_waiting", &[("model", "smollm2")]), 3.0);
    assert_eq!(answer.text().await, well(4).concat());
    falls_asleep().await;
    tokio::time::sleep(IDLE).await;
    assert!(engine.sleeps() && engine.loads() == 2, "the client woke it, and nobody else");
    let page = gateway.scrape().await;
    assert!(page.value("llm_engine_requests_running", &[]).is_nan(), "an unknown value is NaN");
    assert_eq!(page.value("llm_gateway_poll_failures_total", &[]), 0.0);
    let stated = engine.asked().into_iter().filter(|asked| asked.contains("/slots")).count();
    assert_eq!(stated, 0, "/metrics is there");
}

#[tokio::test]
async fn a_router_of_llama_cpp_gets_no_request_that_would_load_a_model() {
    let engine = Engine::new();
    let upstream = engine
        .serve(|engine, method, path| match (method.as_str(), path) {
            ("GET", "/v1/models") => {
                Some(Script::json(json!({"data": [{"id": "a", "status": {"value": "unloaded"}}]}).to_string()))
            }
            _ => llama_cpp(engine, method, path),
        })
        .await;
    let gateway = eager(&upstream, "llama.cpp").await;
    let mut client = Client::connect(gateway.addr).await;
    let answer = client.send(post(gateway.addr, CHAT, "{\"model\":\"a\",\"stream\":true}")).await;
    answer.text().await;
    let asked = engine.asked();
    assert!(!asked.iter().any(|asked| asked.contains("/metrics") || asked.contains("/slots")), "{asked:?}");
}

fn ollama(engine: &Engine, method: &Method, path: &str) -> Option<Response<Script>> {
    Some(match (method.as_str(), path) {
        ("GET", "/api/version") => Script::json("{\"version\":\"0.12.0\"}"),
        ("GET", "/api/tags") => Script::json("{\"models\":[{\"name\":\"qwen3:4b\"},{\"name\":\"llama3:latest\"}]}"),
        ("GET", "/api/ps") => {
            let models = if engine.sleeps() {
                json!([])
            } else {
                json!([{"name": "qwen3:4b", "size": 4_000, "size_vram": 3_000, "expires_at": "2026-11-28T12:00:00Z"}])
            };
            Script::json(json!({"models": models}).to_string())
        }
        // Every other request to Ollama with a model loads the model, or extends its time.
        ("POST", CHAT) => {
            engine.touch();
            Script::json(completion("Hi", 1, 1))
        }
        _ => {
            engine.touch();
            return None;
        }
    })
}

#[tokio::test]
async fn loading_and_unloading_of_ollamas_models_is_seen_and_no_model_is_kept_loaded() {
    let engine = Engine::new();
    let upstream = engine.serve(ollama).await;
    let gateway = eager(&upstream, "ollama").await;
    let page = gateway.when(|page| page.value("llm_gateway_loaded_models", &[("upstream", "up")]) == 1.0).await;
    let memory = |kind| page.value("llm_gateway_model_memory_bytes", &[("model", "qwen3:4b"), ("kind", kind)]);
    assert_eq!((memory("total"), memory("gpu")), (4000.0, 3000.0));
    let expiry = page.value("llm_gateway_model_expiry_timestamp_seconds", &[("model", "qwen3:4b")]);
    assert_eq!(expiry, 1_795_867_200.0);
    // It is unloaded in spite of all polls.
    let page = gateway
        .when(|page| {
            page.series("llm_gateway_loaded_models", &[]) == 1 && page.value("llm_gateway_loaded_models", &[]) == 0.0
        })
        .await;
    assert!(page.value("llm_gateway_model_memory_bytes", &[("kind", "gpu")]).is_nan());
    assert!(page.value("llm_gateway_model_expiry_timestamp_seconds", &[]).is_nan());
    assert_eq!(engine.loads(), 1);
    let asked: BTreeSet<_> = ["GET /api/ps", "GET /api/tags", "GET /api/version"].map(str::to_owned).into();
    assert_eq!(engine.asked(), asked);
}

#[tokio::test]
async fn what_ollama_does_not_report_of_a_model_is_absent_and_what_it_reports_no_more_is_nan() {
    let long = "m".repeat(MAX_NAME_BYTES + 1);
    let unnamed = long.clone();
    let (upstream, _) = serve_polls("/api/ps", move |n| {
        let known = json!({"name": "known", "size": 4_000, "expires_at": "2026-11-28T12:00:00Z"});
        let forgotten = json!({"name": "known", "expires_at": "soon"});
        let model = if n < 3 { known } else { forgotten };
        json!({"models": [model, {"name": unnamed, "size": 1}]}).to_string()
    })
    .await;
    let gateway = eager(&upstream, "ollama").await;
    let page = gateway.when(|page| page.value("llm_gateway_model_memory_bytes", &[("model", "known")]).is_nan()).await;
    assert!(page.value("llm_gateway_model_expiry_timestamp_seconds", &[("model", "known")]).is_nan());
    assert_eq!(page.series("llm_gateway_model_memory_bytes", &[]), 1, "the part on GPUs was never reported");
    assert_eq!(page.value("llm_gateway_loaded_models", &[("upstream", "up")]), 2.0, "a long name counts");
    assert!(!page.text.contains(&long));
}

#[tokio::test]
async fn only_existing_models_become_label_values() {
    let engine = Engine::new();
    let upstream = engine.serve(ollama).await;
    let gateway = eager(&upstream, "auto").await;
    gateway.when(|page| page.series("llm_gateway_loaded_models", &[]) == 1).await;
    let mut client = Client::connect(gateway.addr).await;
    for model in ["qwen3:4b", "llama3", "made-up"] {
        client.send(post(gateway.addr, CHAT, format!("{{\"model\":\"{model}\"}}"))).await.text().await;
    }
    let page = gateway.ended(3).await;
    for label in ["qwen3:4b", "llama3:latest", "other"] {
        assert_eq!(page.value("llm_requests_total", &[("model", label)]), 1.0, "{label}");
    }
}

#[tokio::test]
async fn the_kind_of_an_upstream_is_detected_without_touching_its_model() {
    for (answers, kind) in
        [(llama_cpp as fn(&Engine, &Method, &str) -> Option<Response<Script>>, "/health"), (ollama, "/api/tags")]
    {
        let engine = Engine::new();
        let upstream = engine.serve(answers).await;
        let gateway = eager(&upstream, "auto").await;
        while !engine.asked().contains(&format!("GET {kind}")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(2 * IDLE).await;
        assert!(engine.sleeps() && engine.loads() == 1, "{:?}", engine.asked());
        assert_eq!(gateway.scrape().await.value("llm_gateway_upstream_up", &[]), 1.0);
    }
}

#[tokio::test]
async fn vllms_metrics_are_read_and_are_nan_if_the_engine_is_gone() {
    let engine = Engine::new();
    let upstream = engine
        .serve(|_, _, path| match path {
            "/metrics" => Some(Script::json(
                "vllm:num_requests_running{model_name=\"q\"} 4\nvllm:kv_cache_usage_perc{model_name=\"q\"} 0.5\n",
            )),
            _ => None,
        })
        .await;
    let gateway = eager(&upstream, "vllm").await;
    let page = gateway.when(|page| page.value("llm_engine_requests_running", &[("model", "q")]) == 4.0).await;
    assert_eq!(page.value("llm_engine_kv_cache_usage_ratio", &[("model", "q")]), 0.5);
    assert_eq!(page.series("llm_engine_requests_waiting", &[]), 0, "it was not said");
    drop(upstream);
    let page = gateway
        .when(|page| {
            page.value("llm_engine_requests_running", &[]).is_nan()
                && page.value("llm_gateway_upstream_up", &[("upstream", "up")]) == 0.0
        })
        .await;
    assert!(page.value("llm_gateway_poll_failures_total", &[("upstream", "up")]) > 0.0);
}

#[tokio::test]
async fn a_value_that_vllms_page_does_not_know_is_nan_and_not_0() {
    let (upstream, _) = serve_polls("/metrics", |n| {
        format!("vllm:num_requests_running{{model_name=\"q\"}} {}\n", if n < 3 { "4" } else { "NaN" })
    })
    .await;
    let gateway = eager(&upstream, "vllm").await;
    gateway.when(|page| page.value("llm_engine_requests_running", &[("model", "q")]) == 4.0).await;
    let page = gateway.when(|page| page.value("llm_engine_requests_running", &[("model", "q")]) != 4.0).await;
    assert!(page.value("llm_engine_requests_running", &[("model", "q")]).is_nan());
}

#[tokio::test]
async fn vllms_counts_since_the_first_poll_are_counted() {
    let (upstream, polls) = serve_polls("/metrics", |n| {
        // It has been running for long, and is restarted once.
        let total = if n < 3 { 1000 + 10 * n } else { 7 };
        let series = |name, value| format!("vllm:{name}_total{{model_name=\"q\"}} {value}\n");
        series("num_preemptions", total)
            + &series("prefix_cache_queries", 2 * total)
            + &series("prefix_cache_hits", total)
    })
    .await;
    let gateway = eager(&upstream, "vllm").await;
    let value = |page: &Page, name: &str| page.value(name, &[("model", "q")]);
    let page = gateway.when(|page| value(page, "llm_engine_preemptions_total") == 27.0).await;
    assert!(polls.load(Ordering::Relaxed) > 3);
    assert_eq!(value(&page, "llm_engine_prefix_cache_queried_tokens_total"), 54.0);
    assert_eq!(value(&page, "llm_engine_prefix_cache_hit_tokens_total"), 27.0);
    assert_eq!(page.series("llm_engine_draft_tokens_total", &[]), 0, "it was not said");
}

#[tokio::test]
async fn a_hosted_service_only_gets_a_connection() {
    let engine = Engine::new();
    let upstream = engine.serve(|_, _, _| Some(Script::stream([token("x")]))).await;
    let text = format!("[upstreams.up]\nurl = \"{}\"\nkind = \"openai\"\nprobe = \"1s\"", upstream.url("/v1"));
    let gateway = Running::start(&text).await;
    gateway.when(|page| page.value("llm_gateway_upstream_up", &[]) == 1.0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(engine.asked(), BTreeSet::new());
}
