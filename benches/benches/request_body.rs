//! A request body of one megabyte.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use llm_metrics_benches::{
    sample,
    script::Script,
    serve::{self, Handler, layered},
};

fn bodies(criterion: &mut Criterion) {
    let free = serve::free().expect("defaults are good");
    let handler = Handler::unary(&Script::whole(&sample::document(), usize::MAX));
    let mut service = layered(&free, &handler);
    let mut group = criterion.benchmark_group("request_body_of_1_MB");
    for (name, body) in
        [("picture_in_base64", sample::picture(1 << 20)), ("short_messages", sample::conversation(1 << 20))]
    {
        group.throughput(Throughput::Bytes(body.len() as u64));
        let body = Script::whole(&body, 64 << 10);
        group.bench_function(name, |bencher| bencher.iter(|| serve::request(&mut service, serve::chat(&body))));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = bodies
}
criterion_main!(benches);
