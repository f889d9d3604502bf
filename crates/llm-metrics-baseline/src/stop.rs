//! Somebody wants it to end.

use tokio::{sync::watch, task::JoinHandle};

/// Whether it is to end. Clones are of the same.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// Waits for what ends it.
pub(crate) struct Waiting(JoinHandle<()>);

impl Stop {
    pub(crate) fn when(stop: impl Future<Output = ()> + Send + 'static) -> (Self, Waiting) {
        let (tell, told) = watch::channel(false);
        let task = tokio::spawn(async move {
            stop.await;
            let _ = tell.send(true);
        });
        (Self(told), Waiting(task))
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn set(&mut self) {
        // An error says that nobody is left to tell.
        let _ = self.0.wait_for(|set| *set).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}
