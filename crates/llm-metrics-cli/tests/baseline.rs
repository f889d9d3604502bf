//! `llm-metrics baseline`: its files, its messages, and its exit status.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

const ANSWER: &str = "{\"choices\": [{\"message\": {\"content\": \"Yes.\"}, \"finish_reason\": \"stop\"}], \
    \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 2}}";

/// A server that sends the same response to each request after 20 ms.
fn server(content_type: &'static str, body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, "200 OK", content_type, body));
        }
    });
    address
}

fn answer(mut stream: impl Read + Write, status: &str, content_type: &str, body: &str) {
    // A request arrives in one piece here.
    let _ = stream.read(&mut [0; 16 << 10]);
    thread::sleep(Duration::from_millis(20));
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

/// The same with TLS, for `localhost`, and its certificate as a file.
fn encrypted(folder: &Path) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("ca.pem"), made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key));
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            thread::spawn(move || {
                let mut stream = rustls::StreamOwned::new(session, stream);
                answer(&mut stream, "200 OK", "application/json", ANSWER);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    address
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-metrics"));
    command.current_dir(folder).arg("baseline").args(arguments);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(folder, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A short run.
fn short<'a>(target: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let short = ["--model", "m", "--rates", "20,40", "--warm-up", "200ms", "--min-step", "1s", "--max-step", "1s"];
    [&[target], &short[..], more].concat()
}

#[test]
fn a_run_writes_its_measurements_and_prints_a_short_summary() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("application/json", ANSWER));
    let (status, out, err) =
        run(folder.path(), &short(&target, &["--no-stream", "--objective", "duration=5s", "--out", "new/a.json"]));
    assert_eq!(status, Some(0), "{out}{err}");
    let baseline: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("new/a.json")).unwrap()).unwrap();
    assert_eq!((&baseline["schema_version"], &baseline["ended"]), (&1.into(), &"complete".into()));
    assert_eq!(baseline["steps"].as_array().unwrap().len(), 2);
    assert_eq!(baseline["settings"]["objectives"][0]["seconds"], 5.0);
    assert!(baseline["steps"][0]["client"]["answered"].as_u64() > Some(5), "{baseline}");
    assert!(out.contains("20/s kept up") && out.contains("all objectives were met up to 40 requests/s"), "{out}");
    assert!(out.ends_with("new/a.json new/a.html\n"), "{out}");
    assert!(fs::read_to_string(folder.path().join("new/a.html")).unwrap().contains("<svg"));
    assert!(err.contains("20/s kept up"), "each rate as it is done: {err}");
}

#[test]
fn with_json_only_json_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("application/json", ANSWER));
    let (status, out, err) = run(folder.path(), &short(&target, &["--no-stream", "--json"]));
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert_eq!(out, fs::read_to_string(folder.path().join("baseline.json")).unwrap());
    assert!(serde_json::from_str::<Value>(&out).unwrap()["steps"][1]["rate"] == 40.0);
}

#[test]
fn a_server_with_invalid_answers_is_a_finding_and_the_file_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("text/html", "<html>It works!</html>"));
    let (status, out, _) = run(folder.path(), &short(&target, &[]));
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("malformed"), "{out}");
    assert!(fs::read_to_string(folder.path().join("baseline.json")).unwrap().contains("malformed"));
}

#[test]
fn an_impossible_run_exits_with_2_and_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("application/json", ANSWER));
    for (arguments, says) in [
        (short("http://192.0.2.1:1", &[]), "--yes-this-is-mine"),
        (short(&target, &["--metrics", "http://192.0.2.1:1/metrics"]), "--yes-this-is-mine"),
        (short("127.0.0.1:1", &[]), "not the address of a server"),
        (short(&target.replace("http", "https"), &[]), "--ca-file"),
        (short("https://127.0.0.1:1", &["--ca-file", "missing.pem"]), "missing.pem"),
        (vec!["http://127.0.0.1:1"], "is the server running"),
        (short(&target, &["--prompts", "missing.txt"]), "missing.txt"),
        (short(&target, &["--slo", "missing.yaml"]), "missing.yaml"),
        (short(&target, &["--out", "."]), "folder"),
        (short(&target, &["--out", "a.html"]), "report"),
        (short(&target, &["--api-key-env", "LLM_METRICS_NO_SUCH_KEY"]), "LLM_METRICS_NO_SUCH_KEY"),
        (short(&target, &["--hang-ups", "2"]), "hang-ups"),
        (short(&target, &["--objective", "speed=1"]), "ttft=500ms"),
        (vec![target.as_str()], "--model"),
        (vec![], "required"),
    ] {
        let (status, out, err) = run(folder.path(), &arguments);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
    assert!(!folder.path().join("baseline.json").exists());
}

#[test]
fn a_server_with_tls_is_trusted_for_its_ca_by_option_or_by_variable() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("https://localhost:{}", encrypted(folder.path()).port());
    let (status, out, err) = run(folder.path(), &short(&target, &["--no-stream"]));
    assert_eq!((status, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("UnknownIssuer") && err.contains("--ca-file"), "{err}");
    assert!(!folder.path().join("baseline.json").exists());

    let (status, out, err) = run(folder.path(), &short(&target, &["--no-stream", "--ca-file", "ca.pem"]));
    assert_eq!(status, Some(0), "{out}{err}");
    let mut by_variable = command(folder.path(), &short(&target, &["--no-stream"]));
    let output = by_variable.env("SSL_CERT_FILE", "ca.pem").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_path_that_is_not_a_regular_file_is_written_to_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("application/json", ANSWER));
    fs::write(folder.path().join("real.json"), "").unwrap();
    std::os::unix::fs::symlink("real.json", folder.path().join("link.json")).unwrap();
    // A user with permission to do that must not replace a device by a file.
    std::os::unix::fs::symlink("/dev/null", folder.path().join("null")).unwrap();
    let (status, out, err) =
        run(folder.path(), &short(&target, &["--no-stream", "--out", "link.json", "--report", "null"]));
    assert_eq!(status, Some(0), "{out}{err}");
    for link in ["link.json", "null"] {
        assert!(folder.path().join(link).is_symlink(), "{link}");
    }
    assert!(fs::read_to_string(folder.path().join("real.json")).unwrap().contains("schema_version"));
}

#[test]
fn the_servers_message_of_the_first_failure_is_shown_but_not_the_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (says, said) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let text: &str = said.try_recv().unwrap_or("{\"error\": \"model 'm' not found\"}");
            answer(stream, "404 Not Found", "application/json", text);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{address}/v1");
    let (status, out, _) = run(folder.path(), &short(&target, &[]));
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("not_found (status 404: model 'm' not found)"), "{out}");

    // Metrics are requested first.
    says.send("").unwrap();
    says.send("{\"error\": \"sk-secret is not a key\"}").unwrap();
    let mut command = command(folder.path(), &short(&target, &["--api-key-env", "A_KEY"]));
    let output = command.env("A_KEY", "sk-secret").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains(": not_found.") && !out.contains("sk-secret"), "{out}");
    assert!(!fs::read_to_string(folder.path().join("baseline.json")).unwrap().contains("sk-secret"));
    let (status, _, err) = run(folder.path(), &short(&target, &["--api-key-env", "EMPTY"]));
    assert_eq!(status, Some(2), "{err}");
    let mut command = self::command(folder.path(), &short(&target, &["--api-key-env", "EMPTY"]));
    assert!(String::from_utf8(command.env("EMPTY", "").output().unwrap().stderr).unwrap().contains("EMPTY is empty"));
}

#[test]
fn the_exit_status_is_1_if_the_server_fails_at_every_rate_or_in_the_new_run() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            // The metrics and the first requests succeed. Then two of three requests fail.
            let status = if number < 6 || number % 3 == 0 { "200 OK" } else { "500 Internal Server Error" };
            thread::spawn(move || answer(stream, status, "application/json", ANSWER));
        }
    });
    let (status, out, err) = run(folder.path(), &short(&target, &["--no-stream"]));
    assert_eq!(status, Some(1), "{out}{err}");
    assert!(out.contains("FAILING") && out.contains("status 500"), "{out}");

    let working = format!("http://{}", server("application/json", ANSWER));
    assert_eq!(run(folder.path(), &short(&working, &["--no-stream", "--out", "old.json"])).0, Some(0));
    assert_eq!(run(folder.path(), &short("http://127.0.0.1:1", &["--out", "new.json"])).0, Some(1));
    let (status, _, err) = run(folder.path(), &["compare", "old.json", "new.json"]);
    assert_eq!(status, Some(1), "{err}");
    assert!(err.contains("the server failed in the new run"), "{err}");
}

#[test]
fn ctrl_c_ends_the_run_with_the_results_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("application/json", ANSWER));
    let long =
        ["--no-stream", "--model", "m", "--rates", "20", "--max-step", "5m", "--min-step", "5m", "--warm-up", "100ms"];
    let mut command = command(folder.path(), &[&[target.as_str()], &long[..]].concat());
    let started = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_secs(3));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30), "it does not wait for the end");
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert!(out.contains("The run was interrupted"), "{out}");
    let text = fs::read_to_string(folder.path().join("baseline.json")).unwrap();
    let baseline: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(baseline["ended"], "interrupted");
    assert!(baseline["steps"][0]["client"]["answered"].as_u64() > Some(5));
}

#[test]
fn a_measurement_becomes_a_slo_yaml_rules_and_a_report_and_can_be_compared() {
    let folder = tempfile::tempdir().unwrap();
    let target = format!("http://{}", server("application/json", ANSWER));
    assert_eq!(run(folder.path(), &short(&target, &["--no-stream"])).0, Some(0));

    let (status, out, err) = run(folder.path(), &["apply", "baseline.json", "--slo", "slo.yaml", "--dry-run"]);
    assert_eq!((status, folder.path().join("slo.yaml").exists()), (Some(0), false), "{err}");
    assert!(out.contains("alerts.duration_p95_seconds") && out.contains("(was 10)"), "{out}");
    assert_eq!(run(folder.path(), &["apply", "baseline.json", "--slo", "slo.yaml"]).0, Some(0));
    let slo = fs::read_to_string(folder.path().join("slo.yaml")).unwrap();
    assert!(slo.contains("# measured: p95 was"), "{slo}");
    let generated = Command::new(env!("CARGO_BIN_EXE_llm-metrics"))
        .current_dir(folder.path())
        .args(["generate", "--slo", "slo.yaml", "--out", "monitoring"])
        .output();
    assert!(generated.unwrap().status.success());

    // The file that users start with.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slo.yaml");
    fs::copy(shipped, folder.path().join("shipped.yaml")).unwrap();
    let (status, _, err) = run(folder.path(), &["apply", "baseline.json", "--slo", "shipped.yaml"]);
    assert_eq!(status, Some(0), "{err}");
    let shipped = fs::read_to_string(folder.path().join("shipped.yaml")).unwrap();
    assert!(shipped.contains("# measured: p95 was") && shipped.contains("# The label that a server"), "{shipped}");

    assert_eq!(run(folder.path(), &["report", "baseline.json", "--out", "again.html"]).0, Some(0));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("again.html"), read("baseline.html"));

    let (status, out, _) = run(folder.path(), &["compare", "baseline.json", "baseline.json"]);
    assert_eq!(status, Some(0), "{out}");
    assert!(out.contains("duration p50 at 40/s"), "{out}");
    let mut worse: Value = serde_json::from_str(&read("baseline.json")).unwrap();
    for sample in worse["steps"][1]["samples"]["duration"].as_array_mut().unwrap() {
        *sample = (sample.as_f64().unwrap() * 3.0).into();
    }
    fs::write(folder.path().join("worse.json"), worse.to_string()).unwrap();
    let (status, out, err) = run(folder.path(), &["compare", "baseline.json", "worse.json"]);
    assert_eq!(status, Some(1), "{out}");
    assert!(out.contains("worse  duration p50 at 40/s") && err.contains("are worse than before"), "{out}{err}");
}

#[test]
fn a_file_that_is_not_a_baseline_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("other.json"), "{\"schema_version\": 7}").unwrap();
    for arguments in [
        &["apply", "other.json", "--slo", "slo.yaml"][..],
        &["apply", "missing.json", "--slo", "slo.yaml"],
        &["compare", "other.json", "other.json"],
        &["compare", "other.json"],
        &["report", "other.json", "--out", "a.html"],
    ] {
        let (status, _, err) = run(folder.path(), arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {err}");
    }
    assert!(!folder.path().join("slo.yaml").exists() && !folder.path().join("a.html").exists());
}

#[test]
fn the_schema_is_printed() {
    let (status, out, _) = run(Path::new("."), &["schema"]);
    assert_eq!(status, Some(0));
    assert!(serde_json::from_str::<Value>(&out).unwrap()["properties"]["steps"].is_object());
}
