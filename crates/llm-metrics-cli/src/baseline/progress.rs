//! The progress of a run.

use std::{borrow::Cow, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use llm_metrics_baseline::{Progress, Running, StepLength};

use super::summary;

/// A bar for the current rate, and a line for each finished one. Without a terminal, only the lines.
pub(super) struct Bar {
    bar: ProgressBar,
    quiet: bool,
    seconds: f64,
}

const PARTS: u64 = 1000;

impl Bar {
    pub(super) fn new(length: &StepLength, quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(PARTS), target);
        let style = ProgressStyle::with_template("{spinner} {prefix} [{bar:30}] {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix("one request at a time");
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, quiet, seconds: length.most_seconds }
    }

    pub(super) fn report(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Started { rate, number } => {
                self.bar.set_position(0);
                self.bar.set_prefix(format!("{number}: {}/s", summary::figure(*rate)));
                self.bar.set_message("");
            }
            Progress::Running(running) => {
                self.bar.set_position((running.share * PARTS as f64) as u64);
                self.bar.set_message(self.message(running));
            }
            Progress::Ended(step) => {
                let line = summary::line(step);
                if self.bar.is_hidden() && !self.quiet {
                    eprintln!("{line}");
                } else {
                    self.bar.println(line);
                }
            }
            _ => {}
        }
    }

    pub(super) fn finish(&mut self) {
        self.bar.finish_and_clear();
    }

    fn message(&self, running: &Running) -> String {
        let seconds = |value: Option<f64>| value.map_or(Cow::Borrowed("–"), |value| summary::seconds(value).into());
        let state = if running.warm {
            format!("{:.0} of at most {:.0} s", running.share * self.seconds, self.seconds)
        } else {
            "warming up".to_owned()
        };
        format!(
            "{state}, {} done, {} failed, {} in flight, first token p50 {}, duration p99 {}",
            running.ended,
            running.failed,
            running.in_flight,
            seconds(running.time_to_first_token_p50),
            seconds(running.duration_p99)
        )
    }
}
