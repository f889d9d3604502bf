//! A scrape of a service with 64 models in use.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use llm_metrics_benches::serve::{Exported, many_models};

fn render(criterion: &mut Criterion) {
    let exported = Exported::new().expect("a thread can be started");
    many_models(&exported.metrics, 64);
    let lines = exported.exporter.render().lines().count();
    let mut group = criterion.benchmark_group("exposition");
    group.throughput(Throughput::Elements(lines as u64));
    group.bench_function("64_models", |bencher| bencher.iter(|| exported.exporter.render()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = render
}
criterion_main!(benches);
