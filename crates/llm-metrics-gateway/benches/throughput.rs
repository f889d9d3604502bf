//! The throughput of the gateway with an upstream that answers at once. Client, gateway and upstream run on the same machine.
//!
//! ```console
//! $ cargo bench -p llm-metrics-gateway                  # two minutes
//! $ cargo bench -p llm-metrics-gateway -- --check       # … and fail if a budget is missed
//! ```
//!
//! Four variants are measured in turn in every round, so that other load on the machine affects all of them alike: directly to the upstream, through
//! a gateway without metrics, through one that does not check the text of answers, and through one with everything. Client and upstream write and
//! read raw bytes on eight connections; the gateways are separate processes, as in production.
//!
//! Other load reduces the throughput of all variants, and more so where two processes are involved. It hardly changes processor time. So the result
//! also contains the processor time per request, over all processes, and the number of requests per second that two cores could handle with it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Connections at a time.
const CONNECTIONS: usize = 8;
/// Events with a token in each stream.
const EVENTS: usize = 200;
/// The number of rounds, and the length of each.
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(1000);
/// Requests one after the other, for latencies.
const ONE_BY_ONE: usize = 5_000;

const WAYS: [&str; 4] = ["upstream alone", "gateway, not measuring", "gateway, no checks of the text", "gateway"];

fn main() -> ExitCode {
    let runtime = Runtime::new().expect("a runtime");
    let upstream = runtime.block_on(start_upstream());
    let gateways = ["measure = false", "check_outputs = false", ""].map(|settings| Gateway::start(upstream, settings));
    let addresses = [upstream, gateways[0].addr, gateways[1].addr, gateways[2].addr];
    let mut missed = false;
    let mut report = |what: &str, figure: f64, unit: &str, budget: Option<(bool, f64)>| {
        let verdict = budget.map(|(at_least, budget)| {
            let kept = if at_least { figure >= budget } else { figure <= budget };
            missed |= !kept;
            format!("{} {budget} | {}", if at_least { "≥" } else { "≤" }, if kept { "ok" } else { "**missed**" })
        });
        println!("| {what} | {figure:.2} | {unit} | {} |", verdict.unwrap_or_else(|| "| ".to_owned()));
    };
    println!("| what | figure | unit | budget | |\n|---|---:|---|---|---|");
    for (name, stream, budget) in [("unary requests", false, 15_000.0), ("streams of 200 events", true, 2_500.0)] {
        let mut rates = [const { Vec::new() }; WAYS.len()];
        let mut costs = [Cost::default(); WAYS.len()];
        for round in 0..=ROUNDS {
            for turn in 0..WAYS.len() {
                let way = (round + turn) % WAYS.len();
                let gateway = way.checked_sub(1).map(|at| &gateways[at]);
                let before = Cost::so_far(gateway);
                let (requests, time) = runtime.block_on(requests(addresses[way], stream));
                // The first round warms everything up.
                if round > 0 {
                    rates[way].push(f64::from(requests) / time.as_secs_f64());
                    costs[way].add(requests, before, Cost::so_far(gateway));
                }
            }
        }
        for (way, rates) in WAYS.iter().zip(rates) {
            report(&format!("{name}: {way}"), median(rates), "a second", None);
        }
        for (way, cost) in WAYS.iter().zip(&costs) {
            let budget = (*way == "gateway").then_some((true, budget));
            report(&format!("{name}: {way}, two separate cores"), 2e6 / cost.all(), "a second", budget);
        }
        for (way, cost) in WAYS.iter().zip(&costs).skip(1) {
            report(&format!("{name}: processor time of the {way}"), cost.gateway(), "µs", None);
        }
        let ratio = |way: usize| costs[1].all() / costs[way].all();
        report(&format!("{name}: measuring, no checks of the text, in terms of not measuring"), ratio(2), "", None);
        report(&format!("{name}: measuring in terms of not measuring"), ratio(3), "", Some((true, 0.97)));
    }
    let times = addresses.map(|addr| runtime.block_on(times(addr)));
    for (way, times) in WAYS.iter().zip(&times) {
        report(&format!("one request after the other, p50: {way}"), quantile(times, 0.5), "µs", None);
        report(&format!("one request after the other, p99: {way}"), quantile(times, 0.99), "µs", None);
    }
    let added = |q| quantile(&times[3], q) - quantile(&times[0], q);
    report("… which adds, p50", added(0.5), "µs", None);
    report("… which adds, p99", added(0.99), "µs", None);
    report("resident memory after all that", gateways[2].resident() / 1e6, "MB", Some((false, 40.0)));
    ExitCode::from(u8::from(missed && std::env::args().any(|argument| argument == "--check")))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

/// Processor time, in seconds, the kernel's share included.
#[derive(Clone, Copy, Default)]
struct Cost {
    requests: f64,
    here: f64,
    gateway: f64,
}

impl Cost {
    /// The processor time used so far by client and upstream, and by a gateway.
    fn so_far(gateway: Option<&Gateway>) -> Self {
        let of = |process: String| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields: Vec<f64> = stat
                .rsplit(')')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .map(|f| f.parse().unwrap_or(0.0))
                .collect();
            // User and system time, in ticks of 10 ms.
            fields.get(11).zip(fields.get(12)).map_or(0.0, |(user, system)| (user + system) / 100.0)
        };
        Self {
            requests: 0.0,
            here: of("self".to_owned()),
            gateway: gateway.map_or(0.0, |gateway| of(gateway.child.id().to_string())),
        }
    }

    fn add(&mut self, requests: u32, before: Self, after: Self) {
        self.requests += f64::from(requests);
        self.here += after.here - before.here;
        self.gateway += after.gateway - before.gateway;
    }

    /// Of all processes, for a request, in µs.
    fn all(&self) -> f64 {
        (self.here + self.gateway) / self.requests * 1e6
    }

    fn gateway(&self) -> f64 {
        self.gateway / self.requests * 1e6
    }
}

/// A gateway as a separate process.
struct Gateway {
    addr: SocketAddr,
    child: Child,
    _config: tempfile::NamedTempFile,
}

impl Gateway {
    fn start(upstream: SocketAddr, settings: &str) -> Self {
        let config = tempfile::NamedTempFile::new().expect("a file");
        let text = format!(
            "listen = \"127.0.0.1:0\"\n{settings}\n[upstreams.up]\nurl = \"http://{upstream}\"\nkind = \"openai\"\n"
        );
        std::fs::write(config.path(), text).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_llm-gateway"))
            .arg("--config")
            .arg(config.path())
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the gateway runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("a line");
        let addr = line.trim().strip_prefix("listening on http://").expect("an address").parse().expect("an address");
        Self { addr, child, _config: config }
    }

    fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) * 1024.0
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of requests that end within a round, over all connections, and the length of the round.
async fn requests(addr: SocketAddr, stream: bool) -> (u32, Duration) {
    let start = Instant::now();
    let asking: Vec<_> = (0..CONNECTIONS).map(|_| tokio::spawn(ask_until(addr, stream, start + ROUND))).collect();
    let mut requests = 0;
    for connection in asking {
        requests += connection.await.expect("a client");
    }
    (requests, start.elapsed())
}

async fn ask_until(addr: SocketAddr, stream: bool, end: Instant) -> u32 {
    let mut client = Client::connect(addr).await;
    let mut requests = 0;
    while Instant::now() < end {
        client.ask(stream).await;
        requests += 1;
    }
    requests
}

/// The latencies of unary requests that are sent one after the other, in µs, sorted.
async fn times(addr: SocketAddr) -> Vec<f64> {
    let mut client = Client::connect(addr).await;
    let mut times = Vec::with_capacity(ONE_BY_ONE);
    for _ in 0..ONE_BY_ONE {
        let start = Instant::now();
        client.ask(false).await;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    times
}

struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).await.expect("somebody listens");
        socket.set_nodelay(true).expect("a TCP socket");
        Self { socket, buffer: vec![0; 256 << 10] }
    }

    /// Sends a request and reads the whole response.
    async fn ask(&mut self, stream: bool) {
        let body = format!(
            "{{\"model\":\"Qwen/Qwen3-4B-Instruct-2507\",\"messages\":[{{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}}],\"stream\":{stream},\"max_tokens\":256}}"
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer none\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.write_all(request.as_bytes()).await.expect("an open connection");
        let end: &[u8] = if stream { b"0\r\n\r\n" } else { b"}}" };
        let mut read = 0;
        while !self.buffer[..read].ends_with(end) {
            let count = self.socket.read(&mut self.buffer[read..]).await.expect("an open connection");
            assert!(count > 0, "the connection was closed");
            read += count;
        }
    }
}

/// Reads each request to its end and answers at once with prepared bytes.
async fn start_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    let (unary, stream): (&[u8], &[u8]) = (unary().leak(), stream().leak());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(async move {
                let mut request = Vec::with_capacity(4096);
                while let Ok(1..) = socket.read_buf(&mut request).await {
                    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                    if !request[end..].ends_with(b"\"max_tokens\":256}") {
                        continue;
                    }
                    let streams = request.windows(13).any(|window| window == b"\"stream\":true");
                    request.clear();
                    if socket.write_all(if streams { stream } else { unary }).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn unary() -> Vec<u8> {
    let text = "The sky is blue because air scatters short waves more than long ones. ".repeat(4);
    let body = format!(
        "{{\"id\":\"chatcmpl-7f3c2a9be1d04c55\",\"object\":\"chat.completion\",\"created\":1753000000,\"model\":\"Qwen/Qwen3-4B-Instruct-2507\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":14,\"completion_tokens\":56,\"total_tokens\":70}}}}"
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn stream() -> Vec<u8> {
    let event = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-7f3c2a9be1d04c55\",\"object\":\"chat.completion.chunk\",\"created\":1753000000,\"model\":\"Qwen/Qwen3-4B-Instruct-2507\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let mut events = vec![event("{\"role\":\"assistant\",\"content\":\"\"}", "null")];
    events.extend((0..EVENTS).map(|n| event(&format!("{{\"content\":\" token{n}\"}}"), "null")));
    events.extend([event("{}", "\"stop\""), "data: [DONE]\n\n".to_owned()]);
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for event in events {
        bytes.extend(format!("{:x}\r\n{event}\r\n", event.len()).bytes());
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}
