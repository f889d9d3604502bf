//! The thread of the exporter.

use std::{
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{recorder::ExporterRecorder, views::Spelling};
use crate::record::RecentGauges;

/// How often stored samples are moved into buckets. So at most one second of samples is in memory.
const UPKEEP: Duration = Duration::from_secs(1);

enum Job {
    Render(Scraper),
    Stop,
}

struct Scraper {
    spelling: Spelling,
    /// Called with the page.
    reply: Box<dyn FnOnce(Bytes) + Send>,
}

/// Owns the thread that does upkeep and renders.
#[derive(Debug)]
pub(super) struct Worker {
    /// Whether pages differ by their spelling.
    has_dots: bool,
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(
        recorder: Arc<ExporterRecorder>,
        recent_gauges: RecentGauges,
        process_metrics: bool,
    ) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let process = process_metrics.then(metrics_process::Collector::default);
        let has_dots = recorder.has_dots();
        let exposition = Exposition { recorder, recent_gauges, process };
        let thread = thread::Builder::new().name("llm-metrics".to_owned()).spawn(move || exposition.run(&inbox))?;
        Ok(Self { has_dots, jobs, thread: Some(thread) })
    }

    pub(super) fn has_dots(&self) -> bool {
        self.has_dots
    }

    /// The page for a scrape; `None` if the thread has ended.
    pub(super) async fn render(&self, spelling: Spelling) -> Option<Bytes> {
        let (reply, page) = oneshot::channel();
        // If the scraper has disconnected in the meantime, the page is dropped.
        self.call_back(spelling, |page| drop(reply.send(page)))?;
        page.await.ok()
    }

    /// The same, blocking.
    pub(super) fn render_blocking(&self, spelling: Spelling) -> Option<Bytes> {
        let (reply, page) = mpsc::sync_channel(1);
        self.call_back(spelling, move |page| drop(reply.send(page)))?;
        page.recv().ok()
    }

    fn call_back(&self, spelling: Spelling, with: impl FnOnce(Bytes) + Send + 'static) -> Option<()> {
        self.jobs.send(Job::Render(Scraper { spelling, reply: Box::new(with) })).ok()
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
    recent_gauges: RecentGauges,
    process: Option<metrics_process::Collector>,
}

impl Exposition {
    fn run(&self, inbox: &Receiver<Job>) {
        self.with_process(metrics_process::Collector::describe);
        let mut upkeep = Instant::now() + UPKEEP;
        loop {
            match inbox.recv_timeout(upkeep.saturating_duration_since(Instant::now())) {
                Ok(Job::Render(scraper)) => {
                    if self.answer(scraper, inbox).is_break() {
                        return;
                    }
                }
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.recorder.run_upkeep();
                    upkeep = Instant::now() + UPKEEP;
                }
            }
        }
    }

    /// Renders one page for all scrapers that wait for the same spelling, after the last of them has asked.
    fn answer(&self, scraper: Scraper, inbox: &Receiver<Job>) -> ControlFlow<()> {
        let (mut waiting, mut then) = (vec![scraper], ControlFlow::Continue(()));
        for job in inbox.try_iter() {
            match job {
                Job::Render(scraper) => waiting.push(scraper),
                Job::Stop => then = ControlFlow::Break(()),
            }
        }
        self.recent_gauges.page_read(Instant::now());
        self.with_process(metrics_process::Collector::collect);
        let (dots, underscores): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|scraper| scraper.spelling == Spelling::Dots);
        for scrapers in [underscores, dots].into_iter().filter(|scrapers| !scrapers.is_empty()) {
            let page: Bytes = self.recorder.render(scrapers[0].spelling).into();
            for scraper in scrapers {
                (scraper.reply)(page.clone());
            }
        }
        then
    }

    /// Process metrics go through the macros, hence to the recorder of the thread.
    fn with_process(&self, act: impl FnOnce(&metrics_process::Collector)) {
        if let Some(process) = &self.process {
            metrics::with_local_recorder(&self.recorder, || act(process));
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::prometheus::{configured::Settings, unknown_prefix::UnknownPrefix};

    fn exposition() -> Exposition {
        let others = PrometheusBuilder::new().build_recorder();
        let recorder = Arc::new(ExporterRecorder::new(
            others,
            Default::default(),
            Vec::new(),
            UnknownPrefix::new(Settings::of(&PrometheusBuilder::new()), Vec::new()),
        ));
        Exposition {
            recorder,
            recent_gauges: RecentGauges::default(),
            process: Some(metrics_process::Collector::default()),
        }
    }

    #[test]
    fn all_waiting_scrapers_get_the_same_page() {
        let (exposition, (jobs, inbox), (reply, pages)) = (exposition(), mpsc::channel(), mpsc::channel());
        let scraper = || {
            let reply = reply.clone();
            Scraper { spelling: Spelling::Underscores, reply: Box::new(move |page: Bytes| reply.send(page).unwrap()) }
        };
        for _ in 0..2 {
            jobs.send(Job::Render(scraper())).unwrap();
        }
        assert!(exposition.answer(scraper(), &inbox).is_continue());
        let pages: Vec<Bytes> = pages.try_iter().collect();
        assert!(pages[0].starts_with(b"# "), "the page is not empty");
        assert_eq!(pages.iter().map(|page| page.as_ptr()).collect::<Vec<_>>(), [pages[0].as_ptr(); 3], "one page");
        assert!(inbox.try_recv().is_err(), "no scraper waits any more");
        jobs.send(Job::Stop).unwrap();
        assert!(exposition.answer(scraper(), &inbox).is_break());
    }

    #[test]
    fn the_thread_has_ended_when_the_worker_is_dropped() {
        let Exposition { recorder, recent_gauges, .. } = exposition();
        let worker = Worker::start(Arc::clone(&recorder), recent_gauges, true).unwrap();
        for _ in 0..100 {
            worker.call_back(Spelling::Underscores, drop).unwrap();
        }
        drop(worker);
        assert_eq!(Arc::strong_count(&recorder), 1);
    }
}
