//! The exporter, as a service uses it.

#![cfg(feature = "prometheus")]

mod common;

use std::{
    fs,
    io::{ErrorKind, Read},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::Request;
use llm_metrics::{
    LlmMetrics, Operation,
    catalog::{self, Dialect, LabelDef, MetricDef, Naming, Section, Unit},
    prometheus::{CONTENT_TYPE, Exporter, ExporterError, bind_buckets},
};
use metrics_exporter_prometheus::{Matcher, NativeHistogramConfig, PrometheusBuilder};
use tower::ServiceExt;

fn with_one_request(metrics: &LlmMetrics) {
    let mut inference = metrics.start(Operation::Chat, "m");
    inference.tokens(1);
    inference.tokens(1);
    inference.finish(llm_metrics::FinishReason::Stop);
}

#[test]
fn no_histogram_is_a_summary_when_the_metrics_are_built_with_the_exporter() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let (_recorder, exporter) = Exporter::builder().naming(naming).build().unwrap();
    with_one_request(&LlmMetrics::builder().exporter(&exporter).build().unwrap());
    let page = exporter.render();
    assert!(page.contains("# TYPE qwen_request_duration_seconds histogram"), "{page}");
    assert!(!page.contains("quantile="));
}

#[test]
fn custom_buckets_replace_those_of_the_catalogue() {
    let metric = "llm_request_duration_seconds";
    let builder = Exporter::builder().buckets(metric, [7.0]).buckets(metric, [1.0, 2.5]);
    let (recorder, exporter) = builder.build().unwrap();
    with_one_request(&LlmMetrics::builder().recorder(recorder).build().unwrap());
    let page = exporter.render();
    let bounds =
        page.lines().filter_map(|line| line.strip_prefix("llm_request_duration_seconds_bucket{")?.split("le=").nth(1));
    let bounds: Vec<_> = bounds.map(|rest| rest.split('"').nth(1).unwrap()).collect();
    assert_eq!(bounds, ["1", "2.5", "+Inf"], "the last ones");
}

#[test]
fn counters_are_on_the_page_in_the_order_in_which_they_are_read() {
    let (recorder, exporter) = Exporter::builder().build().unwrap();
    let metrics = LlmMetrics::builder().recorder(recorder).models(["m"]).build().unwrap();
    metrics.register();
    with_one_request(&metrics);
    let page = exporter.render();
    let at = |row: &MetricDef| page.find(&format!("# TYPE {} counter\n", row.name));
    let counters: Vec<_> = catalog::all().filter(|row| row.name != catalog::REQUESTS.name).filter_map(at).collect();
    assert!(counters.len() > 10 && counters.is_sorted(), "{page}");
    assert!(at(&catalog::REQUESTS).unwrap() < counters[0], "the metric that is recorded last is read first");
}

#[test]
fn invalid_settings_are_rejected() {
    let buckets =
        |bounds: &[f64]| Exporter::builder().buckets("llm_request_duration_seconds", bounds).build().map(drop);
    assert!(matches!(buckets(&[2.0, 1.0]), Err(ExporterError::InvalidBuckets { .. })));
    assert!(matches!(buckets(&[]), Err(ExporterError::InvalidBuckets { .. })));
    let unknown = Exporter::builder().buckets("llm_ttft", [1.0]).build().map(drop);
    assert!(matches!(unknown, Err(ExporterError::UnknownHistogram { .. })));
    for name in ["le", "model", "a-b"] {
        assert!(
            matches!(Exporter::builder().constant_label(name, "x").build().map(drop), Err(ExporterError::Label(_))),
            "{name}"
        );
    }
    for value in ["", "a\\b", "a\nb"] {
        let error = Exporter::builder().constant_label("region", value).build().map(drop).unwrap_err();
        let expected = catalog::InvalidLabel::Value { name: "region".into(), value: value.into() };
        assert!(matches!(&error, ExporterError::Label(invalid) if *invalid == expected), "{error}");
    }
    let twice = Exporter::builder().constant_label("region", "a").constant_label("region", "b").build().map(drop);
    assert!(matches!(twice, Err(ExporterError::Label(_))));
}

#[test]
fn settings_that_would_be_lost_are_rejected_with_an_alternative() {
    type Change = fn(PrometheusBuilder) -> PrometheusBuilder;
    let cases: [(Change, &str); 6] = [
        (|builder| builder.with_http_listener(([127, 0, 0, 1], 9100)), "`Exporter::serve`"),
        (|builder| builder.add_allowed_address("127.0.0.1/32").unwrap(), "`Exporter::serve`"),
        (|builder| builder.upkeep_timeout(Duration::from_secs(1)), "every second"),
        (|builder| builder.add_global_label("region", "eu"), "`ExporterBuilder::constant_label`"),
        (
            |builder| builder.set_buckets_for_metric(full("llm_request_duration_seconds"), &[1.0]).unwrap(),
            "`ExporterBuilder::buckets(\"llm_request_duration_seconds\", …)`",
        ),
        (
            |builder| {
                let native = NativeHistogramConfig::new(1.1, 100, 1e-9).unwrap();
                builder.set_native_histogram_for_metric(full("llm_inter_token_latency_seconds"), native)
            },
            "`ExporterBuilder::buckets(\"llm_inter_token_latency_seconds\", …)`",
        ),
    ];
    for (change, remedy) in cases {
        let refused = Exporter::builder().configure(change).configure(|builder| builder).build().map(drop).unwrap_err();
        assert!(refused.to_string().contains(remedy), "{refused}");
    }
    let prefixed = Exporter::builder().naming(Naming::new().prefix("qwen").unwrap());
    let refused = prefixed
        .configure(|builder| builder.set_buckets_for_metric(full("qwen_request_duration_seconds"), &[1.0]).unwrap());
    assert!(
        matches!(refused.build(), Err(ExporterError::Bound { metric }) if metric == "llm_request_duration_seconds")
    );
}

#[test]
fn settings_of_the_underlying_exporter_can_be_changed() {
    let builder = Exporter::builder().constant_label("region", "eu").configure(|builder| {
        let builder = builder.set_quantiles(&[0.5]).unwrap().set_bucket_duration(Duration::from_secs(60)).unwrap();
        let builder = builder.set_buckets(&[1.0, 2.0]).unwrap().with_recommended_naming(true);
        let builder = builder.set_buckets_for_metric(full("my_request_duration_seconds"), &[1.0]).unwrap();
        builder.idle_timeout(metrics_util::MetricKindMask::GAUGE, Some(Duration::from_secs(60)))
    });
    assert!(builder.build().is_ok());
}

fn full(name: &str) -> Matcher {
    Matcher::Full(name.to_owned())
}

/// The labels in braces and the value of each series.
fn labels<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let series = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    series.map(|rest| rest.rsplit_once('}').expect("a closing brace").0).collect()
}

#[test]
fn labels_are_rendered_as_the_underlying_exporter_renders_them() {
    const THEIRS: &[Section] = &[Section::new(
        "Theirs",
        &[
            MetricDef::histogram("my_own_seconds", Unit::Seconds, "Mine.", &[1.0]),
            MetricDef::counter("my_own_total", Unit::Count, "Mine."),
        ],
    )];
    let builder = Exporter::builder().process_metrics(false).catalogue(THEIRS, Naming::new());
    let (recorder, exporter) = builder.constant_label("path", r#"/host/a"b"#).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        metrics::counter!("my.own-count", "user-id" => "\\", "n" => "1", "n" => "2").increment(1);
        metrics::counter!("my_own_total", "user-id" => "\\", "n" => "1", "n" => "2").increment(1);
        metrics::histogram!("my_own_seconds", "user-id" => "\\", "n" => "1", "n" => "2").record(0.5);
        // The same set, with other spellings.
        metrics::histogram!("my_own_seconds", "n" => "2", "user-id" => "\\", "path" => r#"/host/a"b"#).record(0.5);
    });
    let page = exporter.render();
    assert_eq!(labels(&page, "my_own_seconds_count"), labels(&page, "my_own_count"), "{page}");
    assert_eq!(labels(&page, "my_own_total"), labels(&page, "my_own_count"), "{page}");
    assert!(page.contains("# TYPE my_own_seconds histogram"), "{page}");
}

#[test]
fn descriptions_are_on_the_page_whichever_exporter_renders_the_metric() {
    let builder =
        Exporter::builder().constant_label("region", "eu").process_metrics(false).configure(|exporter| exporter);
    let (recorder, exporter) = builder.build().unwrap();
    with_one_request(&LlmMetrics::builder().recorder(std::sync::Arc::clone(&recorder)).build().unwrap());
    metrics::with_local_recorder(&recorder, || {
        metrics::describe_counter!("mine_total", "Counts.");
        metrics::describe_gauge!("mine", "Goes up and down.");
        metrics::describe_histogram!("mine_seconds", "Takes time.");
        metrics::counter!("mine_total").increment(1);
        metrics::gauge!("mine").set(1.0);
        metrics::histogram!("mine_seconds").record(1.0);
    });
    let page = exporter.render();
    for help in ["mine_total Counts.", "mine Goes up and down.", "mine_seconds Takes time."] {
        assert!(page.contains(&format!("# HELP {help}\n")), "{help}: {page}");
    }
    for row in [catalog::REQUESTS, catalog::REQUEST_DURATION, catalog::REQUESTS_IN_FLIGHT] {
        assert!(page.contains(&format!("# HELP {} {}\n", row.name, row.help)), "{}: {page}", row.name);
    }
    let series = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(series.filter(|line| !line.contains("region=\"eu\"")).collect::<Vec<_>>(), [""; 0]);
    assert!(!page.contains("process_"));
    let place = |row: MetricDef| page.find(&format!("# TYPE {} ", row.name)).unwrap();
    assert!(place(catalog::REQUESTS_STARTED) < place(catalog::REQUESTS_IN_FLIGHT), "our counters are read first");
}

#[tokio::test]
async fn rendering_inside_a_runtime_does_not_panic() {
    let (_recorder, exporter) = Exporter::builder().build().unwrap();
    assert!(exporter.render().contains("process_"));
}

#[tokio::test]
async fn the_service_outlives_the_exporter_and_has_the_right_content_type() {
    let (recorder, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    LlmMetrics::builder().recorder(recorder).build().unwrap();
    let service = exporter.service();
    drop(exporter);
    let response = service.clone().oneshot(Request::get("/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], CONTENT_TYPE);
    let page = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&page).contains("llm_metrics_build_info"));
    let response = service.oneshot(Request::post("/").body(()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
}

#[test]
fn a_scrape_refreshes_the_recent_window_of_metrics_that_were_built_with_the_exporter() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let (_, exporter) = Exporter::builder().naming(naming).build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    with_one_request(&metrics);
    let value = |page: &str| -> f64 {
        let mut lines = page.lines().filter(|line| line.starts_with("qwen_recent_request_duration_seconds{"));
        let line = lines.find(|line| line.contains("stat=\"max\"")).unwrap_or_else(|| panic!("{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let first = value(&exporter.render());
    let mut slow = metrics.start(Operation::Chat, "m");
    slow.tokens(1);
    // Longer than the first request, however busy the machine was then.
    std::thread::sleep(std::time::Duration::from_secs_f64(first + 0.02));
    slow.finish(llm_metrics::FinishReason::Stop);
    let second = value(&exporter.render());
    assert!(first < second && second >= 0.02, "{first} {second}");
}

#[test]
fn a_scrape_that_sees_a_request_as_ended_sees_all_of_it() {
    let naming = Naming::new().prefix("qwen").unwrap();
    let (_recorder, exporter) = Exporter::builder().process_metrics(false).naming(naming).build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).models(["m"]).build().unwrap();
    let sum = |page: &str, name: &str| -> u64 {
        let series = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        series.map(|rest| rest.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                with_one_request(&metrics);
            }
        });
        let (mut seen, mut behind) = (0, Vec::new());
        for _ in 0..200 {
            let page = exporter.render();
            seen = sum(&page, "qwen_requests_total");
            for (name, each) in [
                ("qwen_requests_started_total", 1),
                ("qwen_finish_reasons_total", 1),
                ("qwen_output_tokens_total", 2),
                ("qwen_usage_reports_total", 1),
                ("qwen_request_duration_seconds_count", 1),
            ] {
                let found = sum(&page, name);
                if found < each * seen {
                    behind.push(format!("{name} {found} after {seen} requests"));
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(seen > 0 && behind.is_empty(), "{behind:?}");
    });
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let (_recorder, exporter) = Exporter::builder().build().unwrap();
    let head = exporter.service().oneshot(Request::head("/").body(()).unwrap()).await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-type"]), (200, &CONTENT_TYPE.parse().unwrap()));
}

fn recent_maximum(page: &str) -> Option<f64> {
    let mut lines = page.lines().filter(|line| line.starts_with("llm_recent_request_duration_seconds{"));
    let line = lines.find(|line| line.contains("stat=\"max\""))?;
    Some(line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn metrics_that_share_an_exporter_show_their_recent_windows_together() {
    let (_recorder, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    let make = || LlmMetrics::builder().exporter(&exporter).build().unwrap();
    let (slow, quick, idle) = (make(), make(), make());
    let mut inference = slow.start(Operation::Chat, "m");
    inference.tokens(1);
    std::thread::sleep(std::time::Duration::from_millis(20));
    inference.finish(llm_metrics::FinishReason::Stop);
    with_one_request(&quick);
    assert!(recent_maximum(&exporter.render()).unwrap() >= 0.02, "whichever was built last");
    drop((slow, idle));
    quick.refresh();
    assert!(recent_maximum(&exporter.render()).unwrap() < 0.02, "dropped metrics are not in the window");
    drop(quick);
    assert!(recent_maximum(&exporter.render()).unwrap().is_nan());
}

#[test]
fn gauges_of_a_dropped_engine_are_nan() {
    let (_recorder, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    let running = || -> f64 {
        let page = exporter.render();
        let line = page.lines().find(|line| line.starts_with("llm_engine_requests_running{")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (engine, same) = (metrics.engine("m"), metrics.engine("m"));
    engine.running(3);
    engine.waiting(12);
    assert!(exporter.render().contains("llm_engine_requests_waiting{model=\"m\"} 12\n"));
    let clone = engine.clone();
    drop((engine, same));
    assert_eq!(running(), 3.0, "a clone is left");
    drop(clone);
    assert!(running().is_nan());
    let engine = metrics.engine("m");
    engine.running(1);
    assert_eq!(running(), 1.0);
    engine.gone();
    assert!(running().is_nan());
}

#[test]
fn gauges_that_are_not_refreshed_are_absent_and_not_stale() {
    let (recorder, exporter) = Exporter::builder().build().unwrap();
    with_one_request(&LlmMetrics::builder().recorder(recorder).build().unwrap());
    let page = exporter.render();
    assert!(page.contains("llm_request_duration_seconds") && !page.contains("llm_recent_"), "{page}");
}

#[test]
fn a_textfile_has_the_page_and_is_never_half_written() {
    let folder = std::env::temp_dir().join(format!("llm-metrics-textfile-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let (_, exporter) = Exporter::builder().process_metrics(false).build().unwrap();
    let metrics = LlmMetrics::builder().exporter(&exporter).build().unwrap();
    let path = folder.join("job.prom");
    let names = || {
        let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect::<Vec<_>>()
    };
    with_one_request(&metrics);
    exporter.write_textfile(&path).unwrap();
    let mut reader = fs::File::open(&path).unwrap();

    with_one_request(&metrics);
    exporter.write_textfile(&path).unwrap();
    assert_eq!(names(), ["job.prom"], "nothing else is left");
    let mut before = String::new();
    reader.read_to_string(&mut before).unwrap();
    let now = fs::read_to_string(&path).unwrap();
    for (page, requests) in [(before, 1), (now, 2)] {
        let ended = |line: &&str| line.starts_with("llm_request_duration_seconds_count{");
        let line = page.lines().find(ended).unwrap();
        assert!(line.ends_with(&format!(" {requests}")) && page.ends_with('\n'), "{line}");
    }

    for wrong in ["job", "job.txt", ".prom", ""] {
        let refused = exporter.write_textfile(folder.join(wrong)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{wrong:?}");
        assert!(refused.to_string().contains(".prom"), "{refused}");
    }
    // A file that cannot be replaced is in that place.
    fs::create_dir_all(folder.join("taken.prom/x")).unwrap();
    assert!(exporter.write_textfile(folder.join("taken.prom")).is_err());
    assert!(exporter.write_textfile(folder.join("nowhere/job.prom")).is_err());
    let mut left = names();
    left.sort();
    assert_eq!(left, ["job.prom", "taken.prom"]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_catalogue_that_prometheus_would_reject_or_misread_is_rejected() {
    const fn section(rows: &'static [MetricDef]) -> Section {
        Section::new("", rows)
    }
    const fn gauge(name: &'static str) -> MetricDef {
        MetricDef::gauge(name, Unit::Count, "x")
    }
    const AB: LabelDef = LabelDef::new("a-b", "");
    const OK: MetricDef = gauge("desk_open");
    const WAIT: MetricDef = MetricDef::histogram("desk_wait", Unit::Count, "x", &[1.0]);
    const CASES: &[(&[Section], &str)] = &[
        (&[section(&[gauge("")])], "the name of a metric"),
        (&[section(&[gauge("1desk")])], "the name of a metric"),
        (&[section(&[OK.with_labels(&[AB])])], "the name of a label"),
        (&[section(&[OK, OK])], r#"the metric "desk_open" of a catalogue has a series "desk_open", too"#),
        (&[section(&[gauge("llm_requests_total")])], r#"the metric "llm_requests_total" of a catalogue"#),
        (
            &[section(&[WAIT, gauge("desk_wait_count")])],
            r#"the metric "desk_wait" of a catalogue has a series "desk_wait_count""#,
        ),
        (&[section(&[gauge("desk_wait_sum"), WAIT])], r#"the metric "desk_wait_sum" of a catalogue"#),
        (&[section(&[gauge("http_requests_total")])], r#"the dialect vllm has a series "http_requests_total", too"#),
        (&[section(&[gauge("process_open_fds")])], "names that begin with `process_`"),
    ];
    for (sections, reason) in CASES {
        let builder = Exporter::builder().dialects([Dialect::Llm, Dialect::Vllm]);
        let error = builder.catalogue(sections, Naming::new()).build().unwrap_err().to_string();
        assert!(error.contains(&format!("is invalid: {reason}")), "{error}");
    }
    const VALID: &[Section] =
        &[section(&[WAIT, gauge("http_requests_total"), gauge("process_open_fds"), gauge("desk:open")])];
    let builder = Exporter::builder().process_metrics(false);
    let _exporter = builder.catalogue(VALID, Naming::new()).build().unwrap();
}

#[test]
fn bind_buckets_rejects_what_the_exporter_rejects() {
    const fn waits(name: &'static str, bounds: &'static [f64]) -> MetricDef {
        MetricDef::histogram(name, Unit::Count, "x", bounds)
    }
    const CASES: &[(&[Section], &str)] = &[
        (&[Section::new("", &[waits("desk_wait_count", &[1.0])])], "the name of a histogram must not end in"),
        (&[Section::new("", &[MetricDef::gauge("1desk", Unit::Count, "x")])], "the name of a metric consists of"),
        (&[Section::new("", &[waits("desk_wait", &[10.0, 1.0])])], "the buckets of desk_wait are invalid"),
        (&[Section::new("", &[waits("desk_wait", &[])])], "the buckets of desk_wait are invalid"),
    ];
    for (sections, reason) in CASES {
        let bound = bind_buckets(PrometheusBuilder::new(), sections, &Naming::new());
        let error = bound.map(drop).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        let built = Exporter::builder().catalogue(sections, Naming::new()).build();
        assert_eq!(built.map(drop).unwrap_err().to_string(), error);
    }
}
