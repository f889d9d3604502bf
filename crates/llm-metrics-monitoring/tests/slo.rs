//! `slo.yaml`: problems are reported with the line and the field.

use llm_metrics_monitoring::{
    generate, openslo,
    promql::Names,
    slo::{Override, Slo},
};

fn refused(text: &str) -> String {
    Slo::parse(text).unwrap_err().to_string()
}

#[test]
fn everything_has_a_default_and_the_defaults_are_valid() {
    for empty in ["", "# nothing\n", "---\n", "{}\n"] {
        assert_eq!(Slo::parse(empty).unwrap(), Slo::default(), "{empty:?}");
    }
    assert_eq!(Slo::parse(&Slo::default().to_yaml()).unwrap(), Slo::default());
}

#[test]
fn a_threshold_that_is_not_a_bucket_bound_is_rejected_with_the_nearest_ones() {
    let message = refused("objectives:\n  time_to_first_token:\n    seconds: 3.5\n");
    assert!(message.contains("line 3") && message.contains("objectives.time_to_first_token.seconds"), "{message}");
    assert!(message.contains("the nearest are 3 and 4"), "{message}");
}

#[test]
fn a_threshold_beyond_the_last_bucket_is_rejected() {
    let message = refused("objectives: {inter_token_latency: {seconds: 21}}\n");
    assert!(message.contains("beyond the last one, 20"), "{message}");
    let message = refused("alerts: {duration_p99_seconds: 1800}\n");
    assert!(message.contains("would never fire") && message.contains("900"), "{message}");
}

#[test]
fn each_problem_is_reported_with_its_line_and_field() {
    let message = refused("alerts:\n  error_ratio: 2\n  duration_p99_seconds: 8\ngpu:\n  join_label: a b\n");
    for told in ["line 2", "alerts.error_ratio", "line 3", "below duration_p95_seconds", "line 5", "gpu.join_label"] {
        assert!(message.contains(told), "{told}: {message}");
    }
    assert!(!message.contains("included from"), "{message}");
}

#[test]
fn invalid_yaml_and_unknown_fields_are_rejected() {
    assert!(refused("objectives:\n  availabilty: 0.99\n").contains("line 2"));
    assert!(refused("objectives:\n  availabilty: 0.99\n").contains("availability"));
    assert!(refused("objectives: [\n").contains("line 1"));
    assert!(refused("objectives:\n  availability: high\n").contains("line 2"));
    for value in [".nan", ".inf", "-1"] {
        assert!(refused(&format!("alerts: {{requests_per_second_min: {value}}}\n")).contains("0 or more"), "{value}");
    }
}

#[test]
fn a_value_of_another_type_is_reported_with_its_line_and_field() {
    for (text, field, line) in [
        ("objectives:\n  availability: high\n", "objectives.availability", "line 2"),
        ("alerts:\n  error_ratio: 0.1\n  cut_ratio:\n", "alerts.cut_ratio", "line 3"),
        ("service:\n  jobs: llm\n", "service.jobs", "line 2"),
        ("service: {jobs: [llm, [a]]}\n", "service.jobs[1]", "line 1"),
        ("gpu:\n  memory_preallocated: 3\n", "gpu.memory_preallocated", "line 2"),
    ] {
        let message = refused(text);
        assert!(message.starts_with(&format!("{field}: ")) && message.contains(line), "{text}: {message}");
    }
}

#[test]
fn values_that_were_changed_after_reading_are_checked_before_generating() {
    type Change = fn(&mut Slo);
    let cases: [(Change, &str); 9] = [
        (|slo| slo.objectives.availability = 2.0, "objectives.availability: 2 is not a valid objective"),
        (|slo| slo.objectives.time_to_first_token.seconds = 3.5, "objectives.time_to_first_token.seconds: 3.5 is not"),
        (|slo| slo.service.jobs.clear(), "service.jobs: name at least one job"),
        (|slo| slo.service.jobs = vec!["a".into(), "a".into()], "service.jobs: \"a\" is listed twice"),
        (|slo| slo.service.jobs.push("a\"\nb".into()), "service.jobs[1]: \"a\\\"\\nb\" is not a valid job"),
        (|slo| slo.disable.push("LlmNothing".into()), "disable: \"LlmNothing\" is not an alert"),
        (|slo| slo.alerts.error_ratio = f64::NAN, "alerts.error_ratio: NaN is not a ratio"),
        (|slo| slo.overrides.push(Override::default()), "overrides: [0]: set `models` or `jobs`"),
        (
            |slo| {
                let mut canary = Override::of_jobs(["canary"]);
                canary.alerts.duration_p99_seconds = Some(1.0);
                slo.overrides.push(canary);
            },
            "overrides[0].alerts.duration_p99_seconds: ",
        ),
    ];
    for (change, expected) in cases {
        let mut slo = Slo::default();
        change(&mut slo);
        let files = generate::files(&slo, &Names::new()).map(drop).expect_err(expected).to_string();
        let documents = openslo::documents(&slo, &Names::new()).map(drop).expect_err(expected).to_string();
        assert!(files.starts_with(expected), "{expected}: {files}");
        assert_eq!(files, documents);
    }
}

#[test]
fn duplicates_are_rejected() {
    let message = refused("service: {jobs: [llm, canary, llm]}\n");
    assert!(message.contains("service.jobs") && message.contains("\"llm\" is listed twice"), "{message}");
    let message = refused("alerts:\n  cut_ratio: 0.1\n  cut_ratio: 0.2\n");
    assert!(
        message.starts_with("alerts: ") && message.contains("cut_ratio") && message.contains("line 3"),
        "{message}"
    );
    let message = refused("alerts: {}\n---\ngpu: {}\n");
    for of_the_library in ["Options", "from_multiple", "Policy"] {
        assert!(!message.contains(of_the_library), "{message}");
    }
}

#[test]
fn keda_reads_from_the_url_of_prometheus_in_the_settings() {
    let scaled_objects = |text: &str| {
        let files = generate::files(&Slo::parse(text).unwrap(), &Names::new()).unwrap();
        let file = files.into_iter().find(|file| file.path.ends_with("kubernetes/scaledobject.yml"));
        file.expect("a ScaledObject").text
    };
    let address = |text: &str| {
        let file = scaled_objects(text);
        let lines = file.lines().filter_map(|line| line.trim().strip_prefix("serverAddress: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(address(""), ["http://prometheus-operated.monitoring.svc:9090"]);
    for url in
        ["http://thanos-query:9090", "https://p.example.org/prometheus/a", "http://10.0.0.1", "http://[fd00::1]:9"]
    {
        assert_eq!(address(&format!("service: {{prometheus: \"{url}\"}}\n")), [url]);
    }
    let two = "service: {jobs: [a, b], prometheus: 'http://p:1'}\noverrides: [{jobs: [b], scaling: {deployment: b}}]\n";
    assert_eq!(address(two), ["http://p:1", "http://p:1"], "one for each Deployment");
}

#[test]
fn an_invalid_url_of_prometheus_is_rejected() {
    for url in [
        "",
        "prometheus:9090",
        "ftp://p",
        "http://",
        "http://:9090",
        "http://p:",
        "http://p:0",
        "http://p:65536",
        "http://p:9090/",
        "http://p//",
        "http://a b",
        "http://a #b",
        "http://p/a: b",
        "http://p/\\nb",
        "http://user:password@p",
        "http://[p]",
        "http://[::1",
        "http://{{p}}",
    ] {
        let message = refused(&format!("service:\n  name: a\n  prometheus: \"{url}\"\n"));
        assert!(message.contains("line 3") && message.contains("service.prometheus"), "{url:?}: {message}");
        assert!(message.contains("is not a valid URL of a server: use http:// or https://"), "{url:?}: {message}");
    }
}

#[test]
fn a_service_with_other_bounds_sets_thresholds_on_these() {
    let own = "buckets: {llm_time_to_first_token_seconds: [0.5, 3.5, 9]}\nobjectives: {time_to_first_token: {seconds: SECONDS}}\n";
    assert!(Slo::parse(&own.replace("SECONDS", "3.5")).is_ok());
    let message = refused(&own.replace("SECONDS", "2.5"));
    assert!(message.contains("the nearest are 0.5 and 3.5"), "{message}");
    let message = refused("buckets: {llm_time_to_first_token_seconds: [0.5, 3.5, 9]}\n");
    assert!(message.contains("2.5 is not a bucket bound"), "the default is none of these: {message}");
    assert!(refused("buckets: {llm_requests_total: [1]}\n").contains("is not a histogram"));
    assert!(refused("buckets: {llm_stream_max_gap_seconds: [2, 1]}\n").contains("in ascending order"));
}

#[test]
fn the_settings_of_a_model_are_those_of_all_matching_overrides_and_the_last_one_wins() {
    let slo = Slo::parse(
        "\
alerts: {error_ratio: 0.04}
overrides:
  - {models: [a, b], alerts: {error_ratio: 0.1, cut_ratio: 0.5}, labels: {team: x}}
  - {models: [b], jobs: [batch], alerts: {error_ratio: 0.2}, disable: [LlmKvCacheFull]}
",
    )
    .unwrap();
    assert_eq!(slo.effective("llm", "c").alerts.error_ratio, 0.04);
    assert_eq!(slo.effective("llm", "b").alerts.error_ratio, 0.1);
    let both = slo.effective("batch", "b");
    assert_eq!((both.alerts.error_ratio, both.alerts.cut_ratio), (0.2, 0.5));
    assert_eq!((both.labels["team"].as_str(), &both.disable[..]), ("x", &["LlmKvCacheFull".to_owned()][..]));
    assert_eq!(Slo::parse(&slo.to_yaml()).unwrap(), slo);
}

#[test]
fn an_invalid_override_is_rejected() {
    for (text, told) in [
        ("overrides: [{alerts: {error_ratio: 0.1}}]", "set `models` or `jobs`"),
        (
            "overrides: [{models: [a], gpu: {memory_ratio: 0.99}}]",
            "gpu.memory_ratio applies to a whole job, not to a model",
        ),
        (
            "overrides: [{models: [a], alerts: {scrape_seconds: 1}}]",
            "scrape_seconds applies to a whole job, not to a model",
        ),
        ("overrides: [{models: [a]}, {models: [a]}]", "choose another `name`"),
        ("overrides: [{models: [a, a]}]", "is listed twice"),
        ("overrides: [{models: [a], alerts: {duration_p99_seconds: 5}}]", "below duration_p95_seconds"),
        ("overrides: [{models: [a], objectives: {availability: 99}}]", "overrides[0].objectives.availability"),
        ("overrides: [{models: [a], objectives: {time_to_first_token: {seconds: 2.6}}}]", "is not a bucket bound"),
        ("overrides: [{models: [a], disable: [LlmTypo]}]", "is not an alert"),
        ("overrides: [{model: a}]", "model"),
        ("labels: {severity: high}", "is already a label"),
        ("labels: {team: \"\"}", "is not a valid label value"),
        ("service: {by: [model]}", "is already a label"),
        ("service: {name: My Service}", "lower-case letters"),
        ("objectives: {window_days: 1}", "between 7 and 90"),
        ("alerts: {least_failures: 1e300}", "between 1 and 1000000"),
        ("alerts: {requests_per_second_max: 1e308}", "at most a billion"),
        ("alerts: {scrape_seconds: 1000}", "between 0.01 and 60"),
    ] {
        let message = refused(&format!("{text}\n"));
        assert!(message.contains(told), "{text}: {message}");
    }
}

/// A label of the catalogues, of buckets, or of rules and alerts would be replaced.
#[test]
fn a_label_that_series_or_alerts_already_have_cannot_be_added() {
    let taken = "job instance model gpu_uuid pci_bus_id upstream mountpoint Hostname alertname le quantile severity override window burn \
                 queue seen why slo";
    for label in taken.split_whitespace() {
        for text in [
            format!("service: {{by: [cluster, {label}]}}\n"),
            format!("labels: {{{label}: x}}\n"),
            format!("overrides: [{{models: [a], labels: {{{label}: x}}}}]\n"),
        ] {
            let message = refused(&text);
            assert!(
                message.contains(&format!("\"{label}\" is already a label of series or alerts; choose")),
                "{message}"
            );
        }
    }
    assert!(Slo::parse("service: {by: [cluster, namespace]}\nlabels: {team: serving, node: x}\n").is_ok());
}

#[test]
fn servers_and_gpus_are_joined_by_a_label_of_targets() {
    for label in ["model", "gpu", "upstream", "le"] {
        let message = refused(&format!("gpu: {{join_label: {label}}}\n"));
        assert!(message.contains("gpu.join_label") && message.contains("use `instance`, or a label that"), "{message}");
    }
    for label in ["instance", "node", "Hostname"] {
        assert!(Slo::parse(&format!("gpu: {{join_label: {label}}}\n")).is_ok(), "{label}");
    }
}

#[test]
fn a_setting_of_an_override_that_has_no_effect_is_rejected() {
    for (one, told) in [
        ("{models: [a], alerts: {queue_requests: 5}}", "alerts.queue_requests applies to a whole job, not to a model"),
        ("{models: [a], jobs: [llm], scaling: {replicas_max: 5}}", "not to a model: set `jobs` only"),
        ("{models: [a], disable: [LlmTargetDown]}", "disabling LlmTargetDown applies to a whole job, not to a model"),
        ("{models: [a], disable: [LlmGpuHot]}", "disabling LlmGpuHot applies to a whole job, not to a model"),
        ("{jobs: [llm], gpu: {join_label: node}}", "gpu.join_label is the same for all models and jobs"),
        ("{jobs: [llm], disable: [LlmWatchdog]}", "disabling LlmWatchdog is the same for all models and jobs"),
        ("{models: [a], disable: [LlmTargetAbsent]}", "it belongs at the top of the file"),
        ("{jobs: [x], scaling: {deployment: x}}", "\"x\", which is not in `service.jobs`: add it there, or remove"),
        ("{jobs: [x], scaling: {replicas_min: 2}}", "scaling.replicas_min has no effect on \"x\""),
        ("{jobs: [llm, x], alerts: {scrape_seconds: 1}}", "alerts.scrape_seconds has no effect on \"x\""),
        ("{jobs: [llm, x], disable: [LlmCrashLoop]}", "disabling LlmCrashLoop has no effect on \"x\""),
        ("{jobs: [x], disable: [LlmTargetDown]}", "disabling LlmTargetDown has no effect on \"x\""),
        (
            "{jobs: [batch, llm], alerts: {scrape_seconds: 1}}",
            "these are all of them: it belongs at the top of the file",
        ),
        ("{jobs: [batch, llm], disable: [LlmScrapeSlow]}", "disabling LlmScrapeSlow only has an effect on the jobs in"),
        ("{jobs: [batch, llm], scaling: {deployment: x}}", "scaling.deployment only has an effect on the jobs in"),
    ] {
        let message = refused(&format!("service: {{jobs: [llm, batch]}}\noverrides: [{one}]\n"));
        assert!(message.contains(told) && message.contains("[0]: "), "{one}: {message}");
    }
    for one in [
        "{models: [a]}",
        "{models: [a], jobs: [x], alerts: {kv_cache_ratio: 0.5, rejected_ratio: 0.4}}",
        "{models: [a], disable: [LlmKvCacheFull]}",
        "{jobs: [x], scaling: {requests_per_replica: 3}}",
        "{jobs: [x], alerts: {queue_requests: 5}, gpu: {memory_ratio: 0.95}}",
        "{jobs: [x], disable: [LlmGpuHot, LlmRulesNotEvaluated]}",
        "{jobs: [llm], disable: [LlmTargetDown, LlmCrashLoop], scaling: {deployment: x}}",
        "{jobs: [llm, batch], gpu: {memory_ratio: 0.95}, labels: {team: x}}",
    ] {
        Slo::parse(&format!("service: {{jobs: [llm, batch]}}\noverrides: [{one}]\n")).expect(one);
    }
    let message = refused("overrides: [{jobs: [llm], disable: [LlmHot]}]\n");
    assert!(message.contains("is not an alert") && !message.contains("belongs"), "{message}");
}

/// The limits are those of the first job.
#[test]
fn limits_of_a_deployment_that_another_job_sets_are_rejected() {
    let with = |overrides: &str| format!("service: {{jobs: [a, b, c]}}\noverrides: [{overrides}]\n");
    for (limit, setting) in [("replicas_min: 2", "scaling.replicas_min"), ("replicas_max: 20", "scaling.replicas_max")]
    {
        let message = refused(&with(&format!("{{jobs: [b], scaling: {{{limit}}}}}")));
        for told in
            ["[0]: ", setting, "\"b\", which shares the Deployment \"llm-server\" with \"a\": name both jobs in one"]
        {
            assert!(message.contains(told), "{message}");
        }
        for one in [
            format!("{{jobs: [a], scaling: {{{limit}}}}}"),
            format!("{{jobs: [a, b], scaling: {{{limit}}}}}"),
            format!("{{jobs: [b], scaling: {{{limit}, deployment: b}}}}"),
        ] {
            Slo::parse(&with(&one)).expect(&one);
        }
    }
    let others = [
        "{jobs: [b], scaling: {requests_per_replica: 2}}",
        "{jobs: [a], scaling: {replicas_max: 20}}, {jobs: [b], alerts: {queue_requests: 5}}",
        "{jobs: [a], scaling: {replicas_max: 20}}, {jobs: [b], scaling: {replicas_min: 1}}",
    ];
    for others in others {
        Slo::parse(&with(others)).expect(others);
    }
}
