//! The costs of alternatives, with the same handler and in the same rounds.

use std::{convert::Infallible, hint::black_box, io, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use llm_metrics_benches::{
    measure::{Case, Measured, nanoseconds},
    peers::{self, ByHand},
    sample,
    script::{Chunks, Script},
    serve::{self, Handler},
};
use tower::Service;
use tracing::{Dispatch, Level, dispatcher};

use crate::{
    cases::{REQUESTS, STREAM, a_chunk, pass},
    table::Row,
};

/// The names of one peer's cases: a chunk, a unary request, a streamed one.
type Names = [&'static str; 3];

const BARE: Names = ["230 B bare", "unary bare", "stream bare"];
const OURS: Names = ["230 B exported", "unary exported", "stream exported"];
const BY_HAND: Names = ["230 B by hand", "unary by hand", "stream by hand"];
const AXUM_PROMETHEUS: Names = ["230 B axum-prometheus", "unary axum-prometheus", "stream axum-prometheus"];
const TRACE: Names = ["230 B trace", "unary trace", "stream trace"];
const TRACE_WRITTEN: Names = ["230 B trace written", "unary trace written", "stream trace written"];

/// All of them except the trace layer record with the global recorder.
pub(crate) fn cases(cases: &mut Vec<Case<'_>>) {
    by_hand(cases);
    behind(cases, AXUM_PROMETHEUS, peers::axum_prometheus, |work| work());
    // The trace layer logs at DEBUG.
    let at = |level| Dispatch::new(tracing_subscriber::fmt().with_max_level(level).with_writer(io::sink).finish());
    for (names, listener) in [(TRACE, at(Level::INFO)), (TRACE_WRITTEN, at(Level::DEBUG))] {
        behind(cases, names, peers::trace, move |work| dispatcher::with_default(&listener, work));
    }
}

fn by_hand(cases: &mut Vec<Case<'_>>) {
    let [chunk, unary, stream] = BY_HAND;
    let mut each = |name, times: u32, mut work: Box<dyn FnMut()>| {
        cases.push(Case::new(name, move || {
            let time = nanoseconds(|| (0..times).for_each(|_| work()));
            time / f64::from(times)
        }));
    };
    let mut request = ByHand::start();
    request.token();
    each(chunk, 4 * STREAM as u32, Box::new(move || request.token()));
    each(unary, 4 * REQUESTS, Box::new(|| ByHand::start().end(128)));
    each(
        stream,
        4 * REQUESTS,
        Box::new(|| {
            let mut request = ByHand::start();
            (0..2).for_each(|_| request.token());
            request.end(2);
        }),
    );
}

/// The cases of the handler behind another layer; `around` runs each of them, e.g. with a subscriber.
fn behind<'a, S, B>(
    cases: &mut Vec<Case<'a>>,
    [chunk, unary, stream]: Names,
    layered: impl Fn(Handler) -> S,
    around: impl Fn(&mut dyn FnMut()) + Clone + 'a,
) where
    S: Service<Request<Chunks>, Response = Response<B>, Error = Infallible> + 'a,
    B: Body<Data = Bytes> + Unpin,
{
    let question = Script::whole(&sample::question(true), 8192);
    let long = Handler::streaming(&Script::stream(sample::text_chunks(), STREAM + 16));
    let (mut service, asked, during) = (layered(long), Arc::clone(&question), around.clone());
    cases.push(Case::new(chunk, move || {
        let mut time = f64::NAN;
        during(&mut || time = a_chunk(serve::call(&mut service, serve::chat(&asked)).into_body(), pass));
        time
    }));
    let kinds = [
        (unary, sample::question(false), Handler::unary(&Script::whole(&sample::document(), usize::MAX))),
        (stream, sample::question(true), Handler::streaming(&Script::stream(sample::text_chunks(), 2))),
    ];
    for (name, question, handler) in kinds {
        let (mut service, asked, during) = (layered(handler), Script::whole(&question, 8192), around.clone());
        cases.push(Case::new(name, move || {
            let mut work =
                || (0..4 * REQUESTS).for_each(|_| serve::request(&mut service, serve::chat(black_box(&asked))));
            nanoseconds(|| during(&mut work)) / f64::from(4 * REQUESTS)
        }));
    }
}

pub(crate) fn rows(measured: &Measured) -> Vec<Row> {
    let bare = BARE.map(Some);
    let peers = [
        // There is no handler and no answer whose cost must be subtracted.
        ("by hand, macros with owned labels: a chunk", BY_HAND, [None; 3]),
        ("axum-prometheus: a chunk", AXUM_PROMETHEUS, bare),
        ("tower-http's trace, below the level that is written: a chunk", TRACE, bare),
        ("tower-http's trace, written to nowhere: a chunk", TRACE_WRITTEN, bare),
        ("ours, with the exporter: a chunk", OURS, bare),
    ];
    let row = |what, name, bare: Option<&str>| Row::units(what, measured, |time| time(name) - bare.map_or(0.0, time));
    let shown = peers.into_iter().flat_map(|(what, [chunk, unary, stream], bare)| {
        [
            row(what, chunk, bare[0]),
            row("… a unary request of 1.1 KB", unary, bare[1]),
            row("… a streamed request with two chunks", stream, bare[2]),
        ]
    });
    let judged = [
        ("ours, with the exporter, relative to macros by hand: a chunk", 0.45),
        ("… a unary request of 1.1 KB", 0.7),
        ("… a streamed request with two chunks", 0.6),
    ];
    let judged = judged.into_iter().enumerate().map(|(kind, (what, budget))| {
        let ours = |time: &dyn Fn(&str) -> f64| time(OURS[kind]) - time(BARE[kind]);
        Row::share(what, measured, ours, |time| time(BY_HAND[kind]), "of macros").at_most(budget)
    });
    shown.chain(judged).collect()
}
