//! Writes a page to a file, for jobs that end before a scrape.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Exporter;

impl Exporter {
    /// Writes the page that a scrape would get now to a file for the [textfile collector] of node exporter. The write is atomic: readers see the old
    /// file or the new one. Call it when the job ends, whatever its result.
    ///
    /// The page is written to a temporary file in the same folder, which is then renamed. Build the exporter with
    /// [`process_metrics(false)`](super::ExporterBuilder::process_metrics), because node exporter has its own process metrics, and give each job that
    /// writes into the folder a [`constant_label`](super::ExporterBuilder::constant_label): the same series in two files is an error.
    ///
    /// Blocks until the file is written.
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
    /// If the name does not end in `.prom`, because the collector ignores other files, or if the file cannot be written.
    ///
    /// [textfile collector]: https://github.com/prometheus/node_exporter#textfile-collector
    pub fn write_textfile(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let (Some(name), Some("prom")) = (path.file_name(), path.extension().and_then(|end| end.to_str())) else {
            let what = format!("{} does not end in .prom: node exporter ignores such files", path.display());
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

/// A name that the collector ignores, and that no other writer uses.
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
