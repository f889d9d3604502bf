//! The example `gpu-exporter`, run as a separate process.

#![cfg(target_os = "linux")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{example, fake_library};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_serves_the_gpus_of_the_machine_and_stops_on_a_signal() {
    let mut exporter = Command::new(example("gpu-exporter"))
        .args(["--listen", "127.0.0.1:0", "--period", "0.1", "--label", "rack=7", "--cuda-visible"])
        .env("NVML_LIB_PATH", fake_library())
        .env("FAKE_NVML_PROFILE", "two-mixed")
        .env("CUDA_VISIBLE_DEVICES", "GPU-11112222")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(exporter.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().strip_suffix("/metrics").unwrap();

    let expected = [
        "gpu_collector_up{rack=\"7\"} 1",
        "gpu_uuid=\"GPU-11112222-bbbb-4000-8000-000000000002\"",
        "# TYPE gpu_collector_tick_seconds histogram",
        "gpu_collector_tick_seconds_bucket{rack=\"7\",le=\"0.0005\"}",
        "process_resident_memory_bytes",
    ];
    let began = Instant::now();
    let page = loop {
        let page = get(address, "/metrics");
        // A scrape may come during the first tick.
        if expected.iter().all(|expected| page.contains(expected)) || began.elapsed() > Duration::from_secs(60) {
            break page;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    for expected in expected {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    assert!(!page.contains("GPU-11111111"), "CUDA does not see that one: {page}");
    assert!(get(address, "/").starts_with("HTTP/1.1 404"));

    let tell = |signal: &str| {
        assert!(Command::new("kill").args([signal, &exporter.id().to_string()]).status().unwrap().success());
    };
    let until = |expected: &str| {
        let began = Instant::now();
        while !get(address, "/metrics").contains(expected) {
            assert!(began.elapsed() < Duration::from_secs(60), "never: {expected}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    tell("-USR1");
    until("gpu_collector_up{rack=\"7\"} 0");
    tell("-USR1");
    until("gpu_collector_up{rack=\"7\"} 1");
    tell("-TERM");
    assert!(exporter.wait().unwrap().success());
}

#[test]
fn it_prints_why_it_does_not_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, reason) in [
        (["--listen", &*address], format!("error: cannot listen on {address}: Address already in use")),
        (["--prefix", "a b"], "error: ".to_owned()),
        (["--label", "a b=c"], "error: ".to_owned()),
    ] {
        let exporter =
            Command::new(example("gpu-exporter")).args(arguments).env("NVML_LIB_PATH", fake_library()).output();
        let exporter = exporter.unwrap();
        let told = String::from_utf8_lossy(&exporter.stderr);
        assert!(exporter.status.code() == Some(1) && told.contains(&reason), "{told}");
    }
}
