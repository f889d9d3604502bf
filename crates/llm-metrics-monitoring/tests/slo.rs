//! `slo.yaml`: what is wrong with it is said with the line and the field.

use llm_metrics_monitoring::slo::Slo;

fn refused(text: &str) -> String {
    Slo::parse(text).unwrap_err().to_string()
}

#[test]
fn everything_has_a_default_and_the_defaults_are_valid() {
    for empty in ["", "# nothing\n", "---\n", "{}\n"] {
        assert_eq!(Slo::parse(empty).unwrap(), Slo::default(), "{empty:?}");
    }
    assert_eq!(Slo::parse(&Slo::default().to_yaml()).unwrap(), Slo::default());
    let example = include_str!("../../../examples/monitoring/slo.yaml");
    assert_eq!(Slo::parse(example).unwrap(), Slo::default());
    let fields =
        |text: &str| text.lines().map(|line| line.split(':').next().unwrap().trim().to_owned()).collect::<Vec<_>>();
    let all = Slo::default().to_yaml();
    let told = |field: &String| field.starts_with('-') || example.contains(&format!("{field}:"));
    assert!(fields(&all).iter().all(told), "the example names every field");
}

#[test]
fn a_threshold_that_is_no_bucket_bound_is_refused_with_the_nearest() {
    let message = refused("objectives:\n  time_to_first_token:\n    seconds: 3\n");
    assert!(message.contains("line 3") && message.contains("objectives.time_to_first_token.seconds"), "{message}");
    assert!(message.contains("the nearest are 2.5 and 5"), "{message}");
}

#[test]
fn a_threshold_beyond_the_last_bucket_is_refused() {
    let message = refused("objectives: {inter_token_latency: {seconds: 21}}\n");
    assert!(message.contains("beyond the last one, 20"), "{message}");
    let message = refused("alerts: {duration_p99_seconds: 1800}\n");
    assert!(message.contains("would never fire") && message.contains("600"), "{message}");
}

#[test]
fn each_finding_is_told_with_its_line_and_field() {
    let message = refused("alerts:\n  error_ratio: 2\n  duration_p99_seconds: 8\ngpu:\n  join_label: a b\n");
    for told in ["line 2", "alerts.error_ratio", "line 3", "below duration_p95_seconds", "line 5", "gpu.join_label"] {
        assert!(message.contains(told), "{told}: {message}");
    }
    assert!(!message.contains("included from"), "{message}");
}

#[test]
fn what_is_no_yaml_or_not_known_is_refused() {
    assert!(refused("objectives:\n  availabilty: 0.99\n").contains("line 2"));
    assert!(refused("objectives:\n  availabilty: 0.99\n").contains("availability"));
    assert!(refused("objectives: [\n").contains("line 1"));
    assert!(refused("objectives:\n  availability: high\n").contains("line 2"));
    for value in [".nan", ".inf", "-1"] {
        assert!(refused(&format!("alerts: {{least_traffic: {value}}}\n")).contains("0 or more"), "{value}");
    }
}

#[test]
fn a_value_of_another_type_is_told_with_its_line_and_field() {
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
fn what_is_there_twice_is_refused() {
    let message = refused("service: {jobs: [llm, canary, llm]}\n");
    assert!(message.contains("service.jobs") && message.contains("\"llm\" is there twice"), "{message}");
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
