//! A whole request, from its head to the end of its answer.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use llm_metrics_benches::{
    sample,
    script::Script,
    serve::{self, Exported, Handler, layered},
};

fn requests(criterion: &mut Criterion) {
    let free = serve::free().expect("defaults are good");
    let exported = Exported::new().expect("a thread can be started");
    let unary = Handler::unary(&Script::whole(&sample::document(), usize::MAX));
    let streaming = Handler::streaming(&Script::stream(sample::text_chunks(), 2));
    let kinds = [("unary_request", unary, false), ("streamed_request_of_two_chunks", streaming, true)];
    for (name, handler, stream) in kinds {
        let question = Script::whole(&sample::question(stream), 8192);
        let mut group = criterion.benchmark_group(name);
        let (mut bare, mut ours) = (handler.clone(), layered(&free, &handler));
        let mut all_in = layered(&exported.metrics, &handler);
        group.bench_function("bare", |bencher| bencher.iter(|| serve::request(&mut bare, serve::chat(&question))));
        group.bench_function("ours", |bencher| bencher.iter(|| serve::request(&mut ours, serve::chat(&question))));
        group.bench_function("ours_with_exporter", |bencher| {
            bencher.iter(|| serve::request(&mut all_in, serve::chat(&question)));
        });
        group.finish();
    }
    let (handler, empty) = (Handler::unary(&Script::whole(&sample::document(), usize::MAX)), Script::empty());
    let mut group = criterion.benchmark_group("request_that_is_no_llm_call");
    let (mut bare, mut ours) = (handler.clone(), layered(&free, &handler));
    group.bench_function("bare", |bencher| bencher.iter(|| serve::request(&mut bare, serve::other(&empty))));
    group.bench_function("ours", |bencher| bencher.iter(|| serve::request(&mut ours, serve::other(&empty))));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = requests
}
criterion_main!(benches);
