//! Every service of every compose file in the repository has a health check. It uses a program that is in its image, and the address on which the
//! service listens.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
};

use llm_metrics_tests::monitoring::{parse, yaml_files};
use serde_json::{Value, json};

#[test]
fn each_service_has_a_health_check_with_limits() {
    let services = services();
    assert!(services.len() >= 10, "{} services", services.len());
    for (name, service) in &services {
        let check = &service["healthcheck"];
        let [kind, _program, ..] = &words(&check["test"])[..] else { panic!("{name} has no health check") };
        assert_eq!(*kind, "CMD", "{name}: a shell is not in every image");
        for limit in ["interval", "timeout"] {
            assert!(check[limit].as_str().is_some_and(|text| text.ends_with('s')), "{name}: {limit}");
        }
        assert!(check["retries"].is_number() && check["disable"] != true, "{name}");
    }
}

/// A health check that is built into an image uses the default port of the image.
#[test]
fn a_health_check_uses_the_address_of_its_service() {
    let mut told = 0;
    for (name, service) in services() {
        let listens = words(&service["command"]).iter().find_map(|word| {
            let (option, value) = word.split_once('=')?;
            let is_one = option.ends_with("listen-address") || option.ends_with("httpListenAddr") || option == "--port";
            value.rsplit(':').next().filter(|_| is_one && option != "--cluster.listen-address").map(str::to_owned)
        });
        let listens = listens.or_else(|| {
            let environment = service["environment"].as_object()?;
            let address = environment.iter().find(|(variable, _)| variable.ends_with("_LISTEN"))?.1.as_str()?;
            address.rsplit(':').next().map(str::to_owned)
        });
        let Some(port) = listens else { continue };
        told += 1;
        let asks = words(&service["healthcheck"]["test"]).join(" ");
        assert!([format!(":{port}/"), format!("/{port} ")].iter().any(|place| asks.contains(place)), "{name}: {asks}");
    }
    assert!(told >= 6, "{told} services");
}

/// The image has no HTTP client.
#[test]
fn the_check_of_dcgm_exporter_takes_200_for_well_and_nothing_else() {
    let (_, exporter) = services().into_iter().find(|(name, _)| name == "dcgm-exporter").expect("a service");
    let test: Vec<String> = words(&exporter["healthcheck"]["test"]).iter().map(|&word| word.to_owned()).collect();
    assert!(test.iter().any(|word| word.contains("$$")), "compose reads one $ as its own variable");
    for (answer, well) in [
        (Some("HTTP/1.0 200 OK\r\n\r\nOK"), true),
        (Some("HTTP/1.1 503 Service Unavailable\r\n\r\n"), false),
        (Some(""), false),
        (None, false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let server = answer.map(|answer| {
            std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).expect("a request");
                    request.extend(byte);
                }
                socket.write_all(answer.as_bytes()).expect("an open connection");
                String::from_utf8_lossy(&request).into_owned()
            })
        });
        let words = test.iter().map(|word| word.replace("$$", "$").replace("/9400", &format!("/{port}")));
        let words: Vec<_> = words.skip(1).collect();
        let ended = Command::new(&words[0]).args(&words[1..]).output().expect("bash");
        assert_eq!(ended.status.success(), well, "{answer:?}: {}", String::from_utf8_lossy(&ended.stderr));
        if let Some(server) = server {
            assert_eq!(server.join().expect("a request"), "GET /health HTTP/1.0\r\n\r\n");
        }
    }
}

#[test]
fn the_gateways_image_and_its_service_check_it_by_itself() {
    let containerfile = std::fs::read_to_string(examples().join("gateway/Containerfile")).expect("a file");
    let check = json!(["CMD", "/llm-gateway", "--check-health"]);
    let (_, gateway) = services().into_iter().find(|(name, _)| name == "llm-gateway").expect("a service");
    assert_eq!(gateway["healthcheck"]["test"], check);
    let line = containerfile.lines().find(|line| line.starts_with("HEALTHCHECK ")).expect("a health check");
    assert!(line.ends_with("CMD [\"/llm-gateway\", \"--check-health\"]"), "{line}");
    // The addresses that the program uses without options.
    let addresses = containerfile.lines().find(|line| line.starts_with("ENV ")).expect("addresses");
    assert!(addresses.contains("LLM_GATEWAY_METRICS_LISTEN="), "{addresses}");
    assert!(!words(&gateway["command"]).iter().any(|word| word.contains("listen")), "the check would not know of it");
}

/// Every service of every compose file.
fn services() -> Vec<(String, Value)> {
    let files = yaml_files(examples()).into_iter().filter(|(path, _)| {
        let name = path.file_name().expect("a file").to_string_lossy();
        name.contains("compose")
    });
    let mut services = Vec::new();
    for (path, text) in files {
        let compose = parse(&text);
        let all = compose["services"].as_object().unwrap_or_else(|| panic!("{}: no services", path.display()));
        services.extend(all.iter().map(|(name, service)| (name.clone(), service.clone())));
    }
    services
}

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
