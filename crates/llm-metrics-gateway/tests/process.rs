//! The program as its users run it.

mod support;

use std::time::Duration;

use support::{CHAT, Process, exchange, output, read_request, upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("a file");
    file
}

#[test]
fn check_reports_whether_the_settings_are_valid_and_runs_nothing() {
    let right = file("[upstreams.a]\nurl = \"http://127.0.0.1:1\"\n");
    let checked = output(&["--config", right.path().to_str().unwrap(), "--check"]);
    assert!(checked.status.success());
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "the settings are valid\n");

    let wrong = file("[upstreams.a]\nurl = \"http://127.0.0.1:1\"\nkind = \"olama\"\n");
    let checked = output(&["--config", wrong.path().to_str().unwrap(), "--check"]);
    assert_eq!(checked.status.code(), Some(1));
    let message = String::from_utf8_lossy(&checked.stderr);
    let place = format!(
        "{}: the settings are invalid: line 3, column 8: upstreams.a.kind: unknown variant `olama`",
        wrong.path().display()
    );
    assert_eq!(message.matches(&place).count(), 1, "{message}");
}

#[test]
fn a_file_that_cannot_be_read_and_an_address_that_cannot_be_listened_on_are_reported() {
    let missing = output(&["--config", "/no/such/file.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    let message = String::from_utf8_lossy(&missing.stderr);
    assert!(message.contains("/no/such/file.toml: the file cannot be read: No such file"), "{message}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let refused = output(&["--upstream", "http://127.0.0.1:1", "--listen", &addr]);
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains(&format!("cannot listen on {addr}: Address already in use")), "{message}");

    let ca = file("[upstreams.a]\nurl = \"https://127.0.0.1:1\"\nca_file = \"/no/such/ca.pem\"\n");
    let refused = output(&["--config", ca.path().to_str().unwrap(), "--check"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    let place = "line 3, column 11: upstreams.a.ca_file: /no/such/ca.pem: the certificates cannot be read";
    assert_eq!(message.matches(place).count(), 1, "{message}");
}

#[test]
fn the_reason_for_not_starting_is_printed_at_every_log_level() {
    for level in ["off", "inof", "=", "", "llm_metrics=debug"] {
        let missing = support::command(&["--config", "/no/such/file.toml"]).env("RUST_LOG", level).output().unwrap();
        assert_eq!(missing.status.code(), Some(1));
        let message = String::from_utf8_lossy(&missing.stderr);
        assert!(message.contains("error: /no/such/file.toml: the file cannot be read: No such file"), "{message}");
    }
}

#[test]
fn an_invalid_log_level_is_reported_once() {
    let settings = file("[upstreams.a]\nurl = \"http://127.0.0.1:1\"\n");
    let arguments = ["--config", settings.path().to_str().unwrap(), "--check"];
    let told = |level: &str| {
        let checked = support::command(&arguments).env("RUST_LOG", level).output().unwrap();
        assert!(checked.status.success());
        String::from_utf8_lossy(&checked.stderr).into_owned()
    };
    let invalid = told("info,llm_gateway=loud");
    assert!(invalid.starts_with("warning: RUST_LOG=\"info,llm_gateway=loud\" is invalid ("), "{invalid}");
    let slip = told("inof");
    assert!(slip.starts_with("warning: RUST_LOG=\"inof\" is neither a level nor a module of the gateway"), "{slip}");
    for message in [invalid, slip] {
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    for right in ["", "off", "warn", "info,hyper=off", "llm_metrics_gateway=debug", "llm_gateway=error,off"] {
        assert_eq!(told(right), "", "{right}");
    }
}

#[test]
fn a_gateway_does_not_send_requests_to_itself() {
    for arguments in [
        // The default port of llama-server, too, if no other is given.
        &["--upstream", "http://localhost:8080"][..],
        &["--upstream", "http://127.0.0.1:9464", "--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:9464"],
    ] {
        let refused = output(&[arguments, &["--name", "llama", "--check"]].concat());
        assert_eq!(refused.status.code(), Some(1));
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(message.contains("upstreams.llama.url: ") && message.contains("this gateway itself"), "{message}");
    }
    let elsewhere = output(&["--upstream", "http://localhost:8080", "--listen", "127.0.0.1:8081", "--check"]);
    assert!(elsewhere.status.success());
}

#[test]
fn a_gateway_that_runs_is_healthy_with_and_without_its_file() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // As in a container: it listens on all addresses, and the check uses loopback.
    let own = format!("0.0.0.0:{port}");
    let settings = file(&format!("metrics_listen = \"{own}\"\n[upstreams.a]\nurl = \"http://127.0.0.1:1\"\n"));
    let settings = settings.path().to_str().unwrap();
    let mut gateway = Process::start(&["--config", settings]);
    let healthy = format!("http://127.0.0.1:{port}/health: ok\n");
    for arguments in [&["--config", settings][..], &["--metrics-listen", &own]] {
        let checked = output(&[&["--check-health"], arguments].concat());
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        assert_eq!(String::from_utf8_lossy(&checked.stdout), healthy);
    }
    let checked = support::command(&["--check-health"]).env("LLM_GATEWAY_METRICS_LISTEN", &own).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&checked.stdout), healthy, "as in the image");

    gateway.signal("TERM");
    gateway.exited();
    let message = unhealthy(&own);
    assert!(message.contains(&format!("no connection to 127.0.0.1:{port}: ")), "{message}");
    assert!(message.contains("Connection refused"), "{message}");
}

#[tokio::test]
async fn a_server_with_another_answer_or_none_is_not_healthy() {
    for (answer, told) in [
        (
            Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"),
            "answered with status 503 Service Unavailable",
        ),
        (Some("no HTTP at all\r\n\r\n"), "did not answer: "),
        (Some(""), "did not answer: "),
        (None, "did not answer within 3s"),
    ] {
        let (addr, _task) = upstream(move |mut socket| async move {
            let mut request = Vec::new();
            if !read_request(&mut socket, &mut request).await {
                return;
            }
            match answer {
                Some(answer) => drop(socket.write_all(answer.as_bytes()).await),
                None => drop(socket.read(&mut [0]).await),
            }
        })
        .await;
        let message = tokio::task::spawn_blocking(move || unhealthy(&addr.to_string())).await.unwrap();
        assert!(message.contains(&format!("http://{addr}/health {told}")), "{message}");
    }
    let message = unhealthy("127.0.0.1:0");
    assert!(message.contains("port 0 means any free port"), "{message}");
}

/// What `--check-health` prints for an address without a gateway.
fn unhealthy(address: &str) -> String {
    let checked = output(&["--check-health", "--listen", address]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(checked.stdout.is_empty());
    String::from_utf8_lossy(&checked.stderr).into_owned()
}

#[tokio::test]
async fn sigterm_lets_a_stream_end_and_the_second_one_does_not() {
    let (addr, _task) = upstream(|mut socket| async move {
        if !read_request(&mut socket, &mut Vec::new()).await {
            return;
        }
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n";
        let _ = socket.write_all(head.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        let _ = socket.write_all(b"3\r\nend\r\n0\r\n\r\n").await;
        let _ = socket.read(&mut [0]).await;
    })
    .await;
    for (signals, ends, success) in [(1, true, true), (2, false, false)] {
        let mut gateway = Process::start(&["--upstream", &format!("http://{addr}"), "--kind", "openai"]);
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        client.write_all(CHAT.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains("begin") {
            assert!(client.read_buf(&mut read).await.unwrap() > 0);
        }
        for _ in 0..signals {
            gateway.signal("TERM");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = client.read_to_end(&mut read).await;
        assert_eq!(String::from_utf8_lossy(&read).ends_with("end\r\n0\r\n\r\n"), ends);
        assert_eq!(gateway.exited().success(), success);
    }
}

#[tokio::test]
async fn no_key_and_no_prompt_reaches_the_log() {
    let process = support::command(&["--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1"])
        .env("RUST_LOG", "trace")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Ended(process);
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(process.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let addr = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
    let body = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"my-prompt\"}]}";
    let request = format!(
        "POST /v1/chat/completions?key=my-key HTTP/1.1\r\nhost: x\r\nauthorization: Bearer my-token\r\nx-api-key: my-token\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(exchange(addr, &request).await.starts_with("HTTP/1.1 502 "));
    let _ = process.0.kill();
    let mut log = String::new();
    std::io::Read::read_to_string(&mut process.0.stderr.take().unwrap(), &mut log).unwrap();
    assert!(log.contains("a request failed"), "{log}");
    for secret in ["my-prompt", "my-token", "my-key"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

/// One of the two requests of each poll always fails, and the other one succeeds.
#[tokio::test]
async fn a_poll_that_keeps_failing_is_logged_once() {
    let (lists, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let (addr, _task) = upstream(move |mut socket| {
        let lists = lists.clone();
        async move {
            let mut request = Vec::new();
            while socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
                if !request.ends_with(b"\r\n\r\n") {
                    continue;
                }
                if String::from_utf8_lossy(&request).starts_with("GET /v1/models ") {
                    let _ = lists.send(());
                }
                request.clear();
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").await;
            }
        }
    })
    .await;
    let settings = file(&format!(
        "[upstreams.a]\nurl = \"http://{addr}\"\nkind = \"vllm\"\nrefresh_models = \"1s\"\npoll = \"1s\"\n"
    ));
    let process = support::command(&["--listen", "127.0.0.1:0", "--config", settings.path().to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Ended(process);
    for _ in 0..4 {
        asked.recv().await.expect("it asks");
    }
    let _ = process.0.kill();
    let mut log = String::new();
    std::io::Read::read_to_string(&mut process.0.stderr.take().unwrap(), &mut log).unwrap();
    assert_eq!(log.matches("polling its models failed").count(), 1, "{log}");
}

/// Ends the process with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
