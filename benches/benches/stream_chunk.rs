//! A chunk in the middle of a stream: 1000 of them per iteration.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "criterion's macros")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use http_body::Body;
use llm_metrics_benches::{
    sample,
    script::{Script, read},
    serve::{self, Exported, Handler, call, layered},
    typed,
};

const CHUNKS: usize = 1000;

fn stream<B>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut open: impl FnMut() -> B, show: fn(&Bytes))
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut opened = || {
        let mut body = open();
        read(&mut body, 8, show);
        body
    };
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(&mut opened, |body| read(body, CHUNKS, show), BatchSize::PerIteration);
    });
}

fn chunks(criterion: &mut Criterion) {
    let free = serve::free().expect("defaults are good");
    let exported = Exported::new().expect("a thread can be started");
    let question = Script::whole(&sample::question(true), 8192);
    let kinds = [
        ("chunk_230_B", sample::text_chunks()),
        ("chunk_with_usage", sample::usage_chunks()),
        ("chunk_1.2_KB_with_logprobs", sample::logprob_chunks()),
    ];
    for (name, chunks) in kinds {
        let handler = Handler::streaming(&Script::stream(chunks, CHUNKS + 16));
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(CHUNKS as u64));
        let bare = || call(&mut handler.clone(), serve::chat(&question)).into_body();
        let with = |metrics| {
            let (mut service, question) = (layered(metrics, &handler), &question);
            move || call(&mut service, serve::chat(question)).into_body()
        };
        stream(&mut group, "bare", bare, pass);
        stream(&mut group, "ours", with(&free), pass);
        stream(&mut group, "ours_with_exporter", with(&exported.metrics), pass);
        stream(&mut group, "serde_typed", bare, typed::typed);
        stream(&mut group, "serde_value", bare, typed::value);
        group.finish();
    }
}

fn pass(data: &Bytes) {
    black_box(data);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(300));
    targets = chunks
}
criterion_main!(benches);
