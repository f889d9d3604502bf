//! Limits the time that a peer takes to receive a response.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

/// A connection that fails if its peer does not read. From the first write that has to wait, everything must be written within the limit, even if the
/// peer makes progress. hyper has no such limit.
#[derive(Debug)]
pub(super) struct WriteDeadline<T> {
    inner: T,
    limit: Duration,
    /// Runs while a write is waiting.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T> WriteDeadline<T> {
    pub(super) fn new(inner: T, limit: Duration) -> Self {
        Self { inner, limit, deadline: None }
    }

    /// The outcome of a write that is not ready.
    fn expired<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: Read + Unpin> Read for WriteDeadline<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for WriteDeadline<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(cx, buffer) {
            Poll::Pending => self.expired(cx),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write_vectored(cx, buffers) {
            Poll::Pending => self.expired(cx),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper flushes after it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Pending => self.expired(cx),
            flushed => {
                self.deadline = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::{io::AsyncReadExt, time::Instant};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn each_way_to_write_passes_on_and_has_the_limit() {
        let (mut peer, stream) = tokio::io::duplex(4);
        let mut stream = WriteDeadline::new(TokioIo::new(stream), LIMIT);
        assert_eq!(poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"ab")).await.unwrap(), 2);
        let buffers = [io::IoSlice::new(b"c"), io::IoSlice::new(b"d")];
        assert_eq!(poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &buffers)).await.unwrap(), 2);
        assert!(stream.is_write_vectored(), "a page is not copied");

        let began = Instant::now();
        let full = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, b"e")).await;
        assert_eq!((full.unwrap_err().kind(), began.elapsed()), (io::ErrorKind::TimedOut, LIMIT));
        poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await.unwrap();
        let full = poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, &buffers)).await;
        assert_eq!((full.unwrap_err().kind(), began.elapsed()), (io::ErrorKind::TimedOut, 2 * LIMIT));

        poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await.unwrap();
        let mut all = Vec::new();
        tokio::time::timeout(LIMIT, peer.read_to_end(&mut all)).await.expect("it is shut down").unwrap();
        assert_eq!(all, b"abcd");
    }

    /// Writes one buffer at a time, as a TLS stream may.
    #[derive(Debug)]
    struct Plain;

    impl Write for Plain {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buffer.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_writer_that_takes_one_buffer_at_a_time_gets_one() {
        assert!(!WriteDeadline::new(Plain, LIMIT).is_write_vectored());
    }
}
