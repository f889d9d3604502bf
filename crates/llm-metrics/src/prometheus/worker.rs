//! The one thread of the exporter.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::oneshot;

use super::recorder::ExporterRecorder;
use crate::record::Refreshed;

/// How often samples are taken out of the recorder: the memory that they take meanwhile is a second's worth.
const UPKEEP: Duration = Duration::from_secs(1);

enum Job {
    Render(oneshot::Sender<Bytes>),
    RenderAndWake(SyncSender<Bytes>),
    Stop,
}

/// Owns the thread that does upkeep and renders.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(
        recorder: Arc<ExporterRecorder>,
        refreshed: Refreshed,
        process_metrics: bool,
    ) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let process = process_metrics.then(metrics_process::Collector::default);
        let exposition = Exposition { handle: recorder.handle(), recorder, refreshed, process };
        let thread = thread::Builder::new().name("llm-metrics".to_owned()).spawn(move || exposition.run(&inbox))?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// What a scrape gets; `None` if the thread is gone.
    pub(super) async fn render(&self) -> Option<Bytes> {
        let (reply, page) = oneshot::channel();
        self.jobs.send(Job::Render(reply)).ok()?;
        page.await.ok()
    }

    /// The same, blocking.
    pub(super) fn render_blocking(&self) -> Option<Bytes> {
        let (reply, page) = mpsc::sync_channel(1);
        self.jobs.send(Job::RenderAndWake(reply)).ok()?;
        page.recv().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Exposition {
    recorder: Arc<ExporterRecorder>,
    handle: PrometheusHandle,
    refreshed: Refreshed,
    process: Option<metrics_process::Collector>,
}

impl Exposition {
    fn run(&self, inbox: &Receiver<Job>) {
        self.with_process(metrics_process::Collector::describe);
        let mut upkeep = Instant::now() + UPKEEP;
        loop {
            let job = inbox.recv_timeout(upkeep.saturating_duration_since(Instant::now()));
            match job {
                Ok(Job::Render(scraper)) => {
                    // A scraper that has gone meanwhile needs no page.
                    if !scraper.is_closed() {
                        let _ = scraper.send(self.render());
                    }
                }
                Ok(Job::RenderAndWake(caller)) => {
                    let _ = caller.send(self.render());
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.handle.run_upkeep();
                    upkeep = Instant::now() + UPKEEP;
                }
            }
        }
    }

    fn render(&self) -> Bytes {
        self.refreshed.refresh();
        self.with_process(metrics_process::Collector::collect);
        self.recorder.complete(self.handle.render()).into()
    }

    /// Process metrics go through the macros, hence to the recorder of the thread.
    fn with_process(&self, act: impl FnOnce(&metrics_process::Collector)) {
        if let Some(process) = &self.process {
            metrics::with_local_recorder(&self.recorder, || act(process));
        }
    }
}
