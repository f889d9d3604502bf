//! The program as a process, and an upstream for it.

#![allow(dead_code, reason = "each test uses a part")]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running `llm-gateway`. Dropping it ends the process.
pub(crate) struct Process {
    pub(crate) addr: SocketAddr,
    child: Child,
}

/// The command, without environment variables that would change its behaviour.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-gateway"));
    command.args(arguments).stdin(Stdio::null());
    for variable in [
        "RUST_LOG",
        "LLM_GATEWAY_UPSTREAM",
        "LLM_GATEWAY_KIND",
        "LLM_GATEWAY_CONFIG",
        "LLM_GATEWAY_LISTEN",
        "LLM_GATEWAY_METRICS_LISTEN",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs the program until it exits.
pub(crate) fn output(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program runs")
}

impl Process {
    /// On a free port.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(&[&["--listen", "127.0.0.1:0"], arguments].concat())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut first).expect("a line");
        let addr = first.trim().strip_prefix("listening on http://").and_then(|addr| addr.parse().ok());
        Self { addr: addr.unwrap_or_else(|| panic!("it says where it listens: {first:?}")), child }
    }

    /// Sends it a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Waits until it has ended.
    pub(crate) fn exited(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// The sum of the series on its page that begin with `series`, which ends with `{` or with some of the labels. Panics for a name or a label that
    /// is in no catalogue.
    pub(crate) async fn sample(&self, series: &str) -> f64 {
        let (name, labels) = series.split_once('{').expect("a name, and a brace");
        let row = llm_metrics::catalog::all().chain(llm_metrics_gateway::catalog::all()).find(|row| row.name == name);
        let row = row.unwrap_or_else(|| panic!("no catalogue has {name}"));
        for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            let declared = row.label(label).unwrap_or_else(|| panic!("{name} has no label {label}"));
            // The last value may be incomplete.
            let Some(value) = value.strip_prefix('"').and_then(|value| value.trim_end_matches('}').strip_suffix('"'))
            else {
                continue;
            };
            assert!(declared.allows(value), "{value} is never a value of {declared:?}");
        }
        let page = exchange(self.addr, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let values = page.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<f64>().ok()).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and reads until the other side closes.
pub(crate) async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.expect("somebody listens");
    socket.write_all(request.as_bytes()).await.expect("an open connection");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// An upstream that handles each connection with the given function.
pub(crate) async fn upstream<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("a bound socket");
    let task = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(serve(socket));
        }
    });
    (addr, task)
}

/// Reads one request with a body of known length or without a body; `false` if the client has closed the connection.
pub(crate) async fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let whole = end + 4 + length.unwrap_or(0_usize);
            if buffer.len() >= whole {
                buffer.drain(..whole);
                return true;
            }
        }
        if !matches!(socket.read_buf(buffer).await, Ok(read) if read > 0) {
            return false;
        }
    }
}

/// A chat request with a body.
pub(crate) const CHAT: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 27\r\n\r\n{\"model\":\"m\",\"stream\":true}";
