//! The cases that are measured.

use std::{error::Error, hint::black_box, io, sync::Arc, time::Instant};

use bytes::Bytes;
use http_body::Body;
use llm_metrics::{LlmMetrics, catalog::Naming, prometheus::Exporter};
use llm_metrics_benches::{
    measure::{Case, Measured, Spread, nanoseconds, rounds},
    sample,
    script::{Script, read},
    serve::{self, Exported, Handler, call, layered},
    throughput::{Rounds, engine, ready},
    typed,
};
use metrics::{Key, Label, Level, Metadata, Recorder};

use crate::{peers, protocols, table::Row};

/// The number of chunks of a stream in one measurement.
pub(crate) const STREAM: usize = 512;
/// The number of requests in one measurement.
pub(crate) const REQUESTS: u32 = 256;

pub(crate) fn all(count: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let free = serve::free()?;
    let checked = serve::checked()?;
    let exported = Exported::new()?;
    // Another prefix, so that the peers' metrics are recorded by `metrics-exporter-prometheus` itself, as they would be without this library.
    let elsewhere = Naming::new().prefix("elsewhere")?;
    let (theirs, _upkeep) = Exporter::builder().process_metrics(false).naming(elsewhere).build()?;
    metrics::set_global_recorder(theirs)?;
    let mut cases = Vec::new();
    units(&mut cases, &exported);
    chunks(&mut cases, &free, &exported);
    checks(&mut cases, &free, &checked);
    requests(&mut cases, &free, &exported);
    bodies(&mut cases, &free);
    protocols::cases(&mut cases, &free);
    peers::cases(&mut cases);
    let measured = rounds(count, &mut cases);
    drop(cases);
    let mut rows = rows(&measured);
    rows.extend(protocols::rows(&measured));
    rows.extend(peers::rows(&measured));
    rows.extend(throughput(&free, &exported.metrics, count)?);
    rows.extend(exposition()?);
    Ok(rows)
}

/// One increment, and one sample, of a cached handle.
fn units<'a>(cases: &mut Vec<Case<'a>>, exported: &'a Exported) {
    const METADATA: Metadata<'static> = Metadata::new("benches", Level::INFO, None);
    let labels = || vec![Label::new("model", sample::MODEL), Label::new("operation", "chat")];
    let counter = exported.recorder.register_counter(&Key::from_parts("unit_total", labels()), &METADATA);
    let name = "llm_inter_token_latency_seconds";
    let histogram = exported.recorder.register_histogram(&Key::from_parts(name, labels()), &METADATA);
    cases.push(Case::repeated("unit", 20_000, move || black_box(&counter).increment(black_box(1))));
    cases.push(Case::new("sample", move || {
        nanoseconds(|| (0..10_000).for_each(|_| black_box(&histogram).record(black_box(0.03)))) / 10_000.0
    }));
}

fn chunks<'a>(cases: &mut Vec<Case<'a>>, free: &'a LlmMetrics, exported: &'a Exported) {
    let question = Script::whole(&sample::question(true), 8192);
    let kinds: [(Vec<Bytes>, [&'static str; 5]); 3] = [
        (sample::text_chunks(), ["230 B bare", "230 B free", "230 B exported", "230 B Value", "230 B typed"]),
        (sample::logprob_chunks(), ["1.2 KB bare", "1.2 KB free", "1.2 KB exported", "1.2 KB Value", "1.2 KB typed"]),
        (sample::usage_chunks(), ["usage bare", "usage free", "usage exported", "usage Value", "usage typed"]),
    ];
    for (chunks, [bare, ours, all_in, value, typed]) in kinds {
        let script = Script::stream(chunks, STREAM + 16);
        let handler = Handler::streaming(&script);
        let stream = |name, mut service: Handler, show: fn(&Bytes)| {
            let question = Arc::clone(&question);
            Case::new(name, move || {
                let response = call(&mut service, serve::chat(&question));
                a_chunk(response.into_body(), show)
            })
        };
        cases.push(stream(bare, handler.clone(), pass));
        let mut service = layered(free, &handler);
        let asked = Arc::clone(&question);
        cases.push(Case::new(ours, move || a_chunk(call(&mut service, serve::chat(&asked)).into_body(), pass)));
        let mut service = layered(&exported.metrics, &handler);
        let asked = Arc::clone(&question);
        cases.push(Case::new(all_in, move || {
            let streams = 16;
            let each: f64 =
                (0..streams).map(|_| a_chunk(call(&mut service, serve::chat(&asked)).into_body(), pass)).sum();
            each / f64::from(streams)
        }));
        cases.push(stream(value, handler.clone(), typed::value));
        cases.push(stream(typed, handler, typed::typed));
    }
}

/// A chunk whose text every check reads, and the same chunk without checks.
fn checks<'a>(cases: &mut Vec<Case<'a>>, free: &'a LlmMetrics, checked: &'a LlmMetrics) {
    let question = Script::whole(&sample::demanding_question(), 8192);
    let handler = Handler::streaming(&Script::stream(sample::checked_chunks(STREAM + 16), STREAM + 16));
    for (name, show) in [("JSON bare", pass as fn(&Bytes)), ("JSON typed", typed::typed)] {
        let (mut service, asked) = (handler.clone(), Arc::clone(&question));
        cases.push(Case::new(name, move || a_chunk(call(&mut service, serve::chat(&asked)).into_body(), show)));
    }
    for (name, metrics) in [("JSON free", free), ("JSON checked", checked)] {
        let (mut service, asked) = (layered(metrics, &handler), Arc::clone(&question));
        cases.push(Case::new(name, move || a_chunk(call(&mut service, serve::chat(&asked)).into_body(), pass)));
    }
}

pub(crate) fn pass(data: &Bytes) {
    black_box(data);
}

/// The time for one chunk in the middle of a stream.
pub(crate) fn a_chunk<B>(mut body: B, show: fn(&Bytes)) -> f64
where
    B: Body<Data = Bytes> + Unpin,
{
    read(&mut body, 8, show);
    let time = nanoseconds(|| {
        read(&mut body, STREAM, show);
    });
    read(&mut body, usize::MAX, pass);
    time / STREAM as f64
}

fn requests<'a>(cases: &mut Vec<Case<'a>>, free: &'a LlmMetrics, exported: &'a Exported) {
    let unary = Script::whole(&sample::document(), usize::MAX);
    let streamed = Script::stream(sample::text_chunks(), 2);
    let [shortest, answer] = sample::shortest();
    let answer = Script::whole(&answer, usize::MAX);
    let kinds = [
        (shortest, Handler::unary(&answer), ["short bare", "short free", "short exported"]),
        (sample::question(false), Handler::unary(&unary), ["unary bare", "unary free", "unary exported"]),
        (sample::question(true), Handler::streaming(&streamed), ["stream bare", "stream free", "stream exported"]),
    ];
    for (question, handler, [bare, ours, all_in]) in kinds {
        let question = Script::whole(&question, 8192);
        let (mut service, asked) = (handler.clone(), Arc::clone(&question));
        cases.push(Case::repeated(bare, REQUESTS, move || serve::request(&mut service, serve::chat(&asked))));
        let (mut service, asked) = (layered(free, &handler), Arc::clone(&question));
        cases.push(Case::repeated(ours, REQUESTS, move || serve::request(&mut service, serve::chat(&asked))));
        let (mut service, asked) = (layered(&exported.metrics, &handler), question);
        cases.push(Case::new(all_in, move || {
            let requests = 4 * REQUESTS;
            let time = nanoseconds(|| (0..requests).for_each(|_| serve::request(&mut service, serve::chat(&asked))));
            time / f64::from(requests)
        }));
    }
    let empty = Script::empty();
    let handler = Handler::unary(&unary);
    let (mut service, asked) = (handler.clone(), Arc::clone(&empty));
    cases.push(Case::repeated("other bare", 4 * REQUESTS, move || serve::request(&mut service, serve::other(&asked))));
    let mut service = layered(free, &handler);
    cases.push(Case::repeated("other free", 4 * REQUESTS, move || serve::request(&mut service, serve::other(&empty))));
}

/// Large request bodies, per megabyte.
fn bodies<'a>(cases: &mut Vec<Case<'a>>, free: &'a LlmMetrics) {
    let answer = Script::whole(&sample::document(), usize::MAX);
    let handler = Handler::unary(&answer);
    for (name, body) in [("picture", sample::picture(1 << 20)), ("conversation", sample::conversation(1 << 20))] {
        let length = body.len() as f64;
        let body = Script::whole(&body, 64 << 10);
        let mut service = layered(free, &handler);
        cases.push(Case::new(name, move || {
            nanoseconds(|| (0..4).for_each(|_| serve::request(&mut service, serve::chat(&body)))) / (4.0 * length)
        }));
    }
}

fn rows(measured: &Measured) -> Vec<Row> {
    let alone = |what, name| Row::units(what, measured, |time| time(name));
    let beside = |what, name, bare| Row::units(what, measured, |time| time(name) - time(bare));
    let speed = |what, name| {
        let times = measured.times(name);
        Row::new(what, 1.0 / times.best(), &times.map(|time| 1.0 / time), "GB/s")
    };
    // The cost of the two chunks in the short stream, as measured in the middle of a long stream, is subtracted.
    let head_and_tail = |what, name, chunk| {
        Row::units(what, measured, |time| time(name) - time("stream bare") - 2.0 * (time(chunk) - time("230 B bare")))
    };
    vec![
        alone("one cached counter increment: the unit", "unit"),
        alone("one cached histogram sample, counted into its bucket", "sample"),
        alone("chunk of 230 B: bare body", "230 B bare"),
        beside("chunk of 230 B: ours", "230 B free", "230 B bare"),
        beside("chunk of 230 B of JSON: ours, without checks of the text", "JSON free", "JSON bare"),
        beside("chunk of 230 B of JSON: ours, with every check", "JSON checked", "JSON bare"),
        beside("chunk of 230 B of JSON: `serde_json`, typed", "JSON typed", "JSON bare"),
        Row::share(
            "… ours with every check relative to it",
            measured,
            |time| time("JSON checked") - time("JSON bare"),
            |time| time("JSON typed") - time("JSON bare"),
            "of typed",
        )
        .at_most(0.7),
        beside("chunk of 230 B: with the exporter", "230 B exported", "230 B bare"),
        beside("chunk of 230 B: `serde_json`, typed", "230 B typed", "230 B bare"),
        beside("chunk of 230 B: `serde_json::Value`", "230 B Value", "230 B bare"),
        beside("chunk of 290 B with usage in each: ours", "usage free", "usage bare"),
        beside("chunk of 290 B with usage in each: with the exporter", "usage exported", "usage bare"),
        beside("chunk of 290 B with usage in each: `serde_json`, typed", "usage typed", "usage bare"),
        alone("chunk of 1.2 KB with logprobs: bare body", "1.2 KB bare"),
        beside("chunk of 1.2 KB with logprobs: ours", "1.2 KB free", "1.2 KB bare"),
        beside("chunk of 1.2 KB with logprobs: with the exporter", "1.2 KB exported", "1.2 KB bare"),
        beside("chunk of 1.2 KB with logprobs: `serde_json`, typed", "1.2 KB typed", "1.2 KB bare"),
        Row::share(
            "… with the exporter relative to it",
            measured,
            |time| time("1.2 KB exported") - time("1.2 KB bare"),
            |time| time("1.2 KB typed") - time("1.2 KB bare"),
            "of typed",
        )
        .at_most(0.2),
        beside("chunk of 1.2 KB with logprobs: `serde_json::Value`", "1.2 KB Value", "1.2 KB bare"),
        beside("shortest unary request: ours", "short free", "short bare"),
        beside("shortest unary request: with the exporter", "short exported", "short bare"),
        Row::units("… and for each KB of JSON in question and answer: ours", measured, |time| {
            (time("unary free") - time("unary bare") - time("short free") + time("short bare")) / more_kilobytes()
        }),
        beside("unary request of 1.1 KB: ours", "unary free", "unary bare"),
        beside("unary request of 1.1 KB: with the exporter", "unary exported", "unary bare"),
        head_and_tail("streamed request of 1.0 KB without its chunks: ours", "stream free", "230 B free"),
        head_and_tail(
            "streamed request of 1.0 KB without its chunks: with the exporter",
            "stream exported",
            "230 B exported",
        ),
        beside("request that is not an LLM call", "other free", "other bare"),
        speed("request of 1 MB with a picture in base64", "picture").at_least(2.0),
        speed("request of 1 MB with thousands of short messages", "conversation").at_least(0.5),
    ]
}

/// How much longer, in KB, the usual question and answer are than the shortest ones.
fn more_kilobytes() -> f64 {
    let shortest: usize = sample::shortest().iter().map(Bytes::len).sum();
    (sample::question(false).len() + sample::document().len() - shortest) as f64 / 1000.0
}

/// The throughput of a server with the layer, as a share of its throughput without.
fn throughput(free: &LlmMetrics, exported: &LlmMetrics, count: usize) -> io::Result<Vec<Row>> {
    let wall = |what, rounds: &[Rounds; 2]| ratio(what, rounds, |rounds| &rounds.wall);
    let ours = engine::rounds(free, count)?;
    let all_in = engine::rounds(exported, count)?;
    let [without, with] = &all_in;
    let speed = Spread::new(without.wall.clone()).map(|time| engine::chunks() as f64 / time / 1000.0);
    let busy = Spread::new([without, with].iter().flat_map(|rounds| rounds.busy()).collect());
    let mut rows = vec![
        Row::new("axum streams chunks from a channel: without the layer", speed.quantile(0.5), &speed, "1000 a second"),
        wall("axum streams chunks from a channel: ours", &ours),
        wall("axum streams chunks from a channel: with the exporter", &all_in),
        Row::median(
            "… the median of the pairs, and its interval",
            &pairs(&all_in, |rounds| &rounds.wall),
            "of without",
        )
        .at_least(0.95),
        ratio("… by the processor time of its thread", &all_in, |rounds| &rounds.processor),
        Row::new("… utilisation of its thread", busy.quantile(0.5), &busy, "of all"),
    ];
    for (what, metrics) in [
        ("hyper streams preloaded chunks: ours", free),
        ("hyper streams preloaded chunks: with the exporter", exported),
    ] {
        rows.push(ratio(what, &ready::rounds(metrics, count)?, |rounds| &rounds.processor));
    }
    Ok(rows)
}

/// The ratio of the medians, and the rounds.
fn ratio(what: &'static str, rounds: &[Rounds; 2], times: fn(&Rounds) -> &Vec<f64>) -> Row {
    let [without, with] = rounds.each_ref().map(|rounds| Spread::new(times(rounds).clone()).quantile(0.5));
    Row::new(what, without / with, &pairs(rounds, times), "of without")
}

/// The ratio of each round without the layer to the next one with it.
fn pairs(rounds: &[Rounds; 2], times: fn(&Rounds) -> &Vec<f64>) -> Spread {
    let [without, with] = rounds.each_ref().map(times);
    Spread::new(without.iter().zip(with).map(|(without, with)| without / with).collect())
}

/// A scrape with 64 models in use.
fn exposition() -> Result<[Row; 2], Box<dyn Error>> {
    let exported = Exported::new()?;
    serve::many_models(&exported.metrics, 64);
    let lines = exported.exporter.render().lines().count() as f64;
    let times = (0..20)
        .map(|_| {
            // Wall time, because the exporter's thread does the work.
            let started = Instant::now();
            black_box(exported.exporter.render());
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let times = Spread::new(times);
    Ok([
        Row::new(
            "a scrape with 64 models, each streamed, unary and cancelled",
            lines,
            &Spread::new(vec![lines]),
            "lines",
        ),
        Row::new("… rendered in", times.best(), &times, "ms"),
    ])
}
