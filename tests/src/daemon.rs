//! Other programs that run beside a test.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Tool,
    qwen_server::{TIMEOUT, fetch},
};

/// A running program that serves HTTP on the loopback address, with a separate folder. Dropping it ends the process.
#[derive(Debug)]
#[non_exhaustive]
pub struct Daemon {
    /// The address of the program.
    pub addr: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts it in `folder` with these arguments, and waits until `ready` answers with 200.
    ///
    /// # Panics
    /// If `ready` does not answer in time.
    pub async fn start(tool: &Tool, addr: SocketAddr, folder: TempDir, arguments: &[&str], ready: &str) -> Self {
        let log = File::create(folder.path().join("log")).expect("a file");
        let mut command = tool.command();
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        // One core is enough for the work in a test, and leaves the others to the test.
        let process = command.env("GOMAXPROCS", "1").spawn().expect("the program starts");
        let mut daemon = Self { addr, process, folder };
        let deadline = Instant::now() + TIMEOUT;
        while daemon.get(ready).await.is_none() {
            if let Ok(Some(status)) = daemon.process.try_wait() {
                panic!("{tool:?} ended with {status}:\n{}", daemon.log());
            }
            assert!(Instant::now() < deadline, "{tool:?} does not get ready:\n{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        daemon
    }

    /// The body of a response with status 200.
    pub async fn get(&self, path: &str) -> Option<String> {
        let answer = fetch(self.addr, "GET", path).await?;
        (answer.status == 200).then_some(answer.text)
    }

    /// The program's log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A free address, for programs that do not support port 0. The port is found and then released.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}
