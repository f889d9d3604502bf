//! The Qwen server as a process: how it starts, where it gets its model, how it stops, and its error messages.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use llm_metrics_tests::{
    Page,
    qwen_server::{Launch, QwenServer, TIMEOUT, TINY, fetch, made_up_driver},
    stream::{CHAT, COMPLETIONS},
};
use serde_json::{Value, json};

/// A stream of this many tokens.
fn stream(tokens: u64) -> Value {
    json!({"stream": true, "ignore_eos": true, "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]})
}

/// A request with a known answer.
async fn assert_serves(server: &QwenServer) {
    let request = json!({"temperature": 0, "prompt": "Measure at", "max_tokens": 2});
    assert_eq!(server.ask(COMPLETIONS, &request).await.answer(), " the edge");
}

/// Waits until connections are refused: the server has noticed that it should stop.
async fn closed(addr: std::net::SocketAddr) {
    let closing = async {
        while tokio::net::TcpStream::connect(addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, closing).await.expect("the server stops listening");
}

#[tokio::test]
async fn it_prints_its_address_and_its_models_and_that_it_is_ready() {
    let server = QwenServer::start(&[]).await;
    let lines = format!("listening on http://{0}\nmetrics on http://{0}/metrics\n", server.api);
    assert_eq!(server.output(), lines, "standard output is for programs to read");
    assert!(server.api.ip().is_loopback());

    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(json(&server.send("GET", "/health").await.text), json!({"status": "ok"}));
    assert_eq!(json(&server.send("GET", "/ready").await.text), json!({"status": "ready"}));
    let models = json(&server.send("GET", "/v1/models").await.text);
    assert_eq!((&models["object"], models["data"].as_array().map(Vec::len)), (&json!("list"), Some(1)));
    assert_eq!(models["data"][0]["id"], TINY);
    assert!(models["data"][0]["max_model_len"].as_u64().is_some_and(|length| length >= 1024), "{models}");
    assert_eq!(json(&server.send("GET", &format!("/v1/models/{TINY}")).await.text), models["data"][0]);
}

#[tokio::test]
async fn facts_about_the_engine_are_on_the_page_and_unknown_ones_are_absent() {
    let server = QwenServer::start(&[]).await;
    assert_serves(&server).await;
    let page = server.settled().await;
    let info: Vec<_> = page.samples("llm_model_info", &[]).collect();
    assert_eq!((info.len(), info[0].value), (1, 1.0));
    let model: Value =
        serde_json::from_str(&server.send("GET", &format!("/v1/models/{TINY}")).await.text).expect("JSON");
    let context = model["max_model_len"].to_string();
    for (label, value) in
        [("model", TINY), ("engine", "mistral.rs"), ("engine_version", "0.8.1"), ("context_length", &context)]
    {
        assert_eq!(info[0].labels[label], value);
    }
    let load = page.histogram("llm_model_load_seconds", &[("model", TINY)]);
    assert!(load.count == 1.0 && load.sum > 0.0, "{load:?}");
    for family in ["llm_engine_kv_cache_usage_ratio", "llm_request_prefill_seconds"] {
        let samples = page.families().get(family).map_or(0, |family| family.samples.len());
        assert_eq!(samples, 0, "{family} would be invented");
    }
    assert!(page.value("process_resident_memory_bytes", &[]) > 1e6);
}

/// A server with a simulated H200.
fn beside_an_h200(options: &[&str], visible: &str) -> Launch {
    Launch::new(options)
        .env("NVML_LIB_PATH", made_up_driver())
        .env("FAKE_NVML_PROFILE", "h200")
        .env("CUDA_VISIBLE_DEVICES", visible)
}

#[tokio::test]
async fn it_watches_the_gpus_that_cuda_would_give_it() {
    let server = beside_an_h200(&[], "0").start().await;
    let page = server.when(|page| page.series("gpu_memory_total_bytes", &[]) > 0).await;
    assert_eq!((page.value("gpu_collector_up", &[]), page.value("gpu_up", &[])), (1.0, 1.0));
    assert!(page.value("gpu_memory_total_bytes", &[]) > 1e11, "an H200 has 141 GB");
    assert!(
        page.families()["gpu_collector_tick_seconds"]
            .samples
            .iter()
            .all(|sample| !sample.labels.contains_key("quantile"))
    );
}

#[tokio::test]
async fn it_watches_only_its_gpus_and_none_if_turned_off() {
    let hidden = beside_an_h200(&[], "-1").start().await;
    hidden.when(|page| page.series("gpu_collector_up", &[]) > 0).await;
    let unwatched = beside_an_h200(&["--no-gpu"], "0").start().await;
    assert_serves(&hidden).await;
    assert_serves(&unwatched).await;
    assert_eq!(hidden.settled().await.series("gpu_up", &[]), 0);
    assert!(unwatched.settled().await.families().keys().all(|name| !name.starts_with("gpu_")));
}

#[tokio::test]
async fn nothing_of_prompts_and_answers_is_on_the_page() {
    let server = QwenServer::start(&[]).await;
    let secret = "xylophone";
    let request = json!({"temperature": 0, "user": secret, "stop": [secret], "metadata": {secret: secret},
        "messages": [{"role": "system", "content": secret}, {"role": "user", "name": secret, "content": secret}]});
    let seen = server.ask(CHAT, &request).await;
    let refused = server.ask(CHAT, &json!({"model": secret, "temperature": secret})).await;
    let wrong = server.ask(CHAT, &json!({"messages": secret, secret: secret})).await;
    assert_eq!((seen.status, refused.status, wrong.status), (200, 404, 400));
    let page = server.settled().await;
    assert!(!page.text.contains(secret) && !page.text.contains(seen.answer().trim()), "{}", page.text);
    assert!(!page.text.contains(&seen.reasoning));
    let kept = server.send("GET", "/debug/requests").await.text;
    assert!(kept.contains("\"rejected\"") && !kept.contains(secret) && !kept.contains(seen.answer().trim()), "{kept}");
    assert!(!server.log().contains(secret), "{}", server.log());
}

/// On a CPU, mistral.rs 0.8.1 evicts nothing from its prefix cache: here a megabyte per prompt, and far more with a real model.
#[tokio::test]
async fn memory_does_not_grow_with_every_prompt() {
    let server = QwenServer::start(&[]).await;
    let serve = async |prompts: std::ops::Range<u32>| {
        for number in prompts {
            let request = json!({"prompt": format!("{number} tokens"), "max_tokens": 1});
            assert_eq!(server.ask(COMPLETIONS, &request).await.status, 200);
        }
        server.settled().await.value("process_resident_memory_bytes", &[])
    };
    let warm = serve(0..20).await;
    let grown = serve(20..120).await - warm;
    assert!(grown < 16e6, "{grown} bytes in 100 requests");
}

#[tokio::test]
async fn metrics_on_a_separate_port_are_not_on_the_apis() {
    let server = QwenServer::start(&["--metrics-addr", "127.0.0.1:0"]).await;
    assert_ne!(server.api, server.metrics);
    assert_serves(&server).await;
    let page = server.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("outcome", "success")]), 1.0);
    assert_eq!(server.send("GET", "/metrics").await.status, 404);
    let elsewhere = fetch(server.metrics, "GET", "/v1/models").await.expect("an answer");
    assert_eq!(elsewhere.status, 404, "and the API is not on theirs");

    assert_eq!(server.send("GET", "/debug/requests").await.status, 404);
    let seen = fetch(server.metrics, "GET", "/debug/requests?limit=1").await.expect("an answer");
    let seen: Value = serde_json::from_str(&seen.text).expect("JSON");
    assert_eq!((&seen["requests"][0]["outcome"], &seen["requests"][0]["model"]), (&json!("success"), &json!(TINY)));
}

#[tokio::test]
async fn objectives_of_the_command_line_are_counted() {
    let slos = ["--slo", "easy:ttft=1h,tpot=1h,duration=1h", "--slo", "hopeless:duration=0.001ms"];
    let server = QwenServer::start(&slos).await;
    let results = |page: &Page| {
        ["easy", "hopeless"].map(|slo| {
            ["met", "missed"].map(|result| {
                let labels = [("slo", slo), ("model", TINY), ("result", result)];
                assert_eq!(page.series("llm_slo_requests_total", &labels), 1, "{labels:?}");
                page.value("llm_slo_requests_total", &labels)
            })
        })
    };
    assert_eq!(results(&server.scrape().await), [[0.0, 0.0]; 2]);
    assert_serves(&server).await;
    server.ask(CHAT, &stream(20)).await;
    let page = server.settled().await;
    assert_eq!(results(&page), [[2.0, 0.0], [0.0, 2.0]]);
    let first = [("model", TINY), ("stat", "max")];
    assert!(page.value("llm_recent_time_to_first_token_seconds", &first) > 0.0);
}

#[tokio::test]
async fn an_invalid_objective_is_a_clear_error() {
    for (slos, code, says) in [
        (&["--slo", "chat"][..], 2, "must be like chat:ttft=500ms,tpot=50ms,duration=10s"),
        (&["--slo", "chat:ttft=soon"], 2, "ttft must be a time like 500ms, 30s or 5m, and not \"soon\""),
        (&["--slo", ":ttft=1s"], 1, "the objective \"\" is invalid: its name is not a valid label value"),
        (
            &["--slo", "chat:ttft=0s"],
            1,
            "the objective \"chat\" is invalid: its limit 0ns is invalid: use more than zero",
        ),
        (&["--slo", "chat:ttft=1s", "--slo", "chat:tpot=1s"], 1, "another objective has the same name"),
    ] {
        let (status, log) = Launch::new(slos).fails().await;
        assert_eq!(status.code(), Some(code), "{log}");
        assert!(log.contains(says), "{log}");
    }
}

#[tokio::test]
async fn a_terminated_server_ends_its_streams_before_itself() {
    let mut server = QwenServer::start(&["--metrics-addr", "127.0.0.1:0"]).await;
    let mut reading = server.open(CHAT, &stream(400)).await;
    reading.until_tokens(3).await;
    server.signal("TERM");
    closed(server.api).await;
    let page = server.scrape().await;
    assert_eq!(page.value("llm_requests_in_flight", &[]), 1.0, "the drain can be watched");
    let seen = reading.rest().await;
    assert!(seen.done && seen.whole && seen.error.is_none(), "{seen:?}");
    assert_eq!(seen.finish_reasons, ["length"]);
    let status = server.exited().await;
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn ctrl_c_ends_a_server_that_has_nothing_to_do() {
    let mut server = QwenServer::start(&[]).await;
    assert_serves(&server).await;
    server.signal("INT");
    assert_eq!(server.exited().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn a_drain_takes_no_longer_than_it_may_and_a_second_ctrl_c_ends_it() {
    for (options, signals) in [(&["--drain-timeout", "300ms"][..], 1), (&["--drain-timeout", "1h"], 2)] {
        let mut server = QwenServer::start(options).await;
        let mut reading = server.open(CHAT, &stream(4000)).await;
        reading.until_tokens(1).await;
        server.signal("INT");
        closed(server.api).await;
        if signals == 2 {
            server.signal("INT");
        }
        let status = server.exited().await;
        assert_eq!(status.code(), Some(0), "{}", server.log());
        let seen = reading.rest().await;
        assert!(!seen.done && !seen.whole, "a cut answer does not look complete: {seen:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_clear_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for options in [["--metrics-addr", &address], ["--listen", &address]] {
        let launch = if options[0] == "--listen" { Launch::bare(&options) } else { Launch::new(&options) };
        let (status, log) = launch.fails().await;
        assert_eq!(status.code(), Some(1));
        assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_is_a_clear_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("text.gguf"), "no such format").expect("a file");
    fs::create_dir(path("empty")).expect("a directory");
    for (options, says) in [
        (["--model", &path("nothing/here/at-all")], "there is no such directory"),
        (["--model", &path("empty")], "there is no config.json in it"),
        (["--gguf", &path("text.gguf")], "this is not a GGUF file"),
        (["--gguf", &path("nothing.gguf")], "there is no such file"),
    ] {
        let (status, log) = Launch::new(&options).fails().await;
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(says) && log.contains(options[1]), "{log}");
        assert!(!log.contains("this should not have happened"), "{log}");
    }
    let (status, log) = Launch::new(&["--modle", "x"]).fails().await;
    assert!(status.code() == Some(2) && log.contains("--modle"), "{log}");
}

#[tokio::test]
async fn a_damaged_model_is_a_clear_failure() {
    let server = QwenServer::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    for damaged in ["config.json", "tokenizer.json", "model.safetensors"] {
        let directory = folder.path().join(damaged);
        copy(&server.model_directory(), &directory);
        fs::write(directory.join(damaged), "{").expect("a file");
        let (status, log) = Launch::new(&["--model", &directory.display().to_string()]).fails().await;
        assert_eq!(status.code(), Some(1), "{damaged}: {log}");
        assert!(log.contains("the model could not be loaded"), "{damaged}: {log}");
    }
}

#[tokio::test]
async fn two_that_start_at_once_share_a_cache_that_was_not_there() {
    let cache = tempfile::tempdir().expect("a folder");
    let launch = || Launch::new(&[]).env("XDG_CACHE_HOME", cache.path()).start();
    let (one, other) = tokio::join!(launch(), launch());
    assert_ne!(one.api, other.api);
    assert_serves(&one).await;
    assert_serves(&other).await;
    assert_eq!(fs::read_dir(cache.path().join("qwen-server")).expect("a cache").count(), 1);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_is_not_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let server = Launch::new(&[]).env("XDG_CACHE_HOME", &file).env("TMPDIR", folder.path()).start().await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_directory_is_served_under_its_name_or_another() {
    let tiny = QwenServer::start(&[]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("Qwen3-Mine");
    copy(&tiny.model_directory(), &directory);
    let directory = directory.display().to_string();
    for (options, name) in [(&[][..], "Qwen3-Mine"), (&["--served-model-name", "mine"], "mine")] {
        let options = [&["--model", &directory], options].concat();
        let server = QwenServer::start(&options).await;
        let request = json!({"model": name, "temperature": 0, "prompt": "Measure at", "max_tokens": 2});
        assert_eq!(server.ask(COMPLETIONS, &request).await.answer(), " the edge");
        let page = server.settled().await;
        assert_eq!(page.value("llm_requests_total", &[("model", name), ("outcome", "success")]), 1.0);
        assert!(!page.text.contains(folder.path().to_str().expect("text")), "no path is a label");
    }
}

#[tokio::test]
async fn a_model_in_the_hugging_face_cache_is_served_without_a_network() {
    let tiny = QwenServer::start(&[]).await;
    let cache = tempfile::tempdir().expect("a folder");
    let repository = cache.path().join("models--acme--tiny");
    copy(&tiny.model_directory(), &repository.join("snapshots/abc"));
    fs::create_dir(repository.join("refs")).expect("a directory");
    fs::write(repository.join("refs/main"), "abc").expect("a file");
    let files: Vec<String> = fs::read_dir(tiny.model_directory())
        .expect("a model")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    fs::write(cache.path().join("acme-tiny_repo_list.json"), json!({"files": files}).to_string()).expect("a file");

    let server = Launch::new(&["--model", "acme/tiny"]).env("HF_HUB_CACHE", cache.path()).start().await;
    let request = json!({"model": "acme/tiny", "temperature": 0, "prompt": "Measure at", "max_tokens": 2});
    let seen = server.ask(COMPLETIONS, &request).await;
    assert_eq!(seen.answer(), " the edge");
    let page = server.settled().await;
    assert_eq!(page.value("llm_requests_total", &[("model", "acme/tiny"), ("outcome", "success")]), 1.0);
    assert_eq!(page.value("llm_model_info", &[("model", "acme/tiny")]), 1.0);
    let model = server.send("GET", "/v1/models/acme/tiny").await;
    assert!(model.status == 200 && model.text.contains("\"acme/tiny\""), "{}", model.text);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("readable");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}
