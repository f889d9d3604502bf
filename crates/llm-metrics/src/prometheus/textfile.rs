//! A page in a file, for jobs that nobody scrapes in time.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Exporter;

impl Exporter {
    /// Writes what a scrape would get now into a file for the [textfile collector] of node exporter: whoever reads it sees what was there before,
    /// or all of this, and never a part. Call it when the job ends, whatever its result.
    ///
    /// The file is written beside its place under another name, which takes the name at the end. Build the exporter with
    /// [`process_metrics(false)`](super::ExporterBuilder::process_metrics), since node exporter has such metrics of its own, and give each job that writes into one folder a
    /// [`constant_label`](super::ExporterBuilder::constant_label): the same series in two files is an error.
    ///
    /// Blocks until it is written.
    ///
    /// ```
    /// use llm_metrics::{LlmMetrics, prometheus::Exporter};
    ///
    /// # let folder = std::env::temp_dir();
    /// let exporter = Exporter::builder().process_metrics(false).constant_label("task", "nightly-summaries").install()?;
    /// let metrics = LlmMetrics::builder().exporter(&exporter).build()?;
    /// // … the job …
    /// exporter.write_textfile(folder.join("nightly-summaries.prom"))?;
    /// # std::fs::remove_file(folder.join("nightly-summaries.prom"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the name does not end in `.prom`, since the collector passes over other files, or the file cannot be written.
    ///
    /// [textfile collector]: https://github.com/prometheus/node_exporter#textfile-collector
    pub fn write_textfile(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let (Some(name), Some("prom")) = (path.file_name(), path.extension().and_then(|end| end.to_str())) else {
            let what = format!("{} does not end in .prom: node exporter passes over such files", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        let unfinished = path.with_file_name(unfinished(name.to_owned()));
        let written = write(&unfinished, self.render().as_bytes()).and_then(|()| fs::rename(&unfinished, path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}

/// A name that the collector passes over, and that nobody else writes to.
fn unfinished(mut name: OsString) -> PathBuf {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    name.push(format!(".{}-{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    name.into()
}

fn write(path: &Path, page: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(page)?;
    file.sync_all()
}
