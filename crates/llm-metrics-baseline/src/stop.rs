//! The signal to stop a run.

use tokio::{sync::watch, task::JoinHandle};

/// Whether the run should stop. Clones share the signal.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// The task that waits for the caller's `stop` future. Dropping this aborts it.
pub(crate) struct Waiting(JoinHandle<()>);

impl Stop {
    pub(crate) fn when(stop: impl Future<Output = ()> + Send + 'static) -> (Self, Waiting) {
        let (sender, receiver) = watch::channel(false);
        let task = tokio::spawn(async move {
            stop.await;
            let _ = sender.send(true);
        });
        (Self(receiver), Waiting(task))
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn set(&mut self) {
        // It fails only after the sender was dropped: then the signal cannot come any more.
        let _ = self.0.wait_for(|set| *set).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
