//! A catalogue of the service's own, beside that of llm-metrics.

// docs: rows
mod tickets {
    llm_metrics::labels! {
        /// How the ticket was closed.
        RESULT = "result": &["solved", "given_up"];
        /// The queue of the ticket: a name from the configuration.
        QUEUE = "queue";
    }

    const WAITS: &[f64] = &[1.0, 10.0, 60.0, 600.0, 3600.0];

    llm_metrics::catalogue! {
        "Tickets" {
            /// Tickets that were closed.
            TICKETS_CLOSED = counter("desk_tickets_closed_total", Count)[QUEUE, RESULT];
            /// Time from a ticket to its first answer.
            TICKET_WAIT = histogram("desk_ticket_wait_seconds", Seconds, WAITS)[QUEUE];
        }
    }
}
// end

// docs: record
use std::error::Error;

use llm_metrics::{
    LlmMetrics,
    catalog::{Naming, Registrar},
    prometheus::Exporter,
};

fn metrics() -> Result<(LlmMetrics, Registrar, Exporter), Box<dyn Error>> {
    let naming = Naming::new();
    let (recorder, exporter) = Exporter::builder().catalogue(tickets::SECTIONS, naming.clone()).build()?;
    let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
    // With `install` instead of `build`, the recorder is the global one, and is not given here.
    let registrar = Registrar::new(tickets::SECTIONS).naming(naming).recorder(recorder);
    registrar.describe();
    Ok((metrics, registrar, exporter))
}

fn close(registrar: &Registrar, queue: &'static str, waited: f64) {
    let labels = [tickets::QUEUE.label(queue), tickets::RESULT.label("solved")];
    registrar.counter(&tickets::TICKETS_CLOSED, labels).increment(1); // keep the handle if you use it often
    registrar.histogram(&tickets::TICKET_WAIT, [tickets::QUEUE.label(queue)]).record(waited);
}
// end

// docs: promql
use llm_metrics_monitoring::{
    promql::{Names, Reader, Window},
    select_counter,
};

fn closed_per_second(result: &'static str) -> Result<String, Vec<llm_metrics_monitoring::promql::InvalidExpression>> {
    let closed = select_counter!(tickets::TICKETS_CLOSED).with(tickets::RESULT, result);
    let names = Names::new().catalogue(tickets::SECTIONS, Naming::new());
    closed.rate(Window::minutes(5)).sum_by([tickets::QUEUE]).render(&names, Reader::Rules)
}
// end

#[test]
fn a_catalogue_of_the_service_has_buckets_documentation_and_checked_promql() {
    let (llm, registrar, exporter) = metrics().unwrap();
    super::answer(&llm, "m");
    close(&registrar, "support", 30.0);
    let page = exporter.render();
    let lines = [
        "# HELP desk_tickets_closed_total Tickets that were closed.",
        r#"desk_tickets_closed_total{queue="support",result="solved"} 1"#,
        r#"desk_ticket_wait_seconds_bucket{queue="support",le="10"} 0"#,
        r#"desk_ticket_wait_seconds_bucket{queue="support",le="60"} 1"#,
    ];
    for line in lines {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
    assert!(page.contains("llm_requests_total{"), "{page}");

    assert_eq!(llm_metrics::catalog::lint(tickets::SECTIONS), []);

    let documentation = llm_metrics::catalog::document::markdown(tickets::SECTIONS);
    assert!(documentation.contains("| `result` | How the ticket was closed. | `solved`, `given_up` |"));

    assert_eq!(
        closed_per_second("solved").unwrap(),
        r#"sum by (queue) (rate(desk_tickets_closed_total{result="solved"}[5m]))"#
    );
    let reasons = closed_per_second("lost").unwrap_err();
    assert_eq!(reasons[0].to_string(), "the label `result` of desk_tickets_closed_total is never \"lost\"");
}
