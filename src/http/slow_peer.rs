//! Disconnects peers that stop reading or read too slowly. hyper has no write timeout, so a response could wait
//! for its reader forever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Fails a write with `TimedOut` when the peer accepts fewer than `min_bytes` in one window. A peer with nothing
/// left to read is not considered slow.
pub(super) struct SlowPeerTimeout<T> {
    io: T,
    window: Duration,
    min_bytes: usize,
    /// Created when a write first blocks: most connections never do.
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes accepted in the current window. `None` while no write is blocked.
    accepted: Option<usize>,
}

impl<T> SlowPeerTimeout<T> {
    pub(super) fn new(io: T, window: Duration, min_bytes: usize) -> Self {
        Self { io, window, min_bytes, timer: None, accepted: None }
    }

    fn on_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(n)), Some(accepted)) = (&written, &mut self.accepted) {
            *accepted = accepted.saturating_add(*n);
        }
        self.fail_if_slow(cx, written)
    }

    fn on_flushed(&mut self, cx: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.accepted = None;
        }
        self.fail_if_slow(cx, flushed)
    }

    fn fail_if_slow<R>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            return outcome;
        }
        if self.accepted.is_none() {
            self.open_window();
        }
        while self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            if self.accepted.is_some_and(|accepted| accepted < self.min_bytes) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads too slowly")));
            }
            self.open_window();
        }
        Poll::Pending
    }

    fn open_window(&mut self) {
        let deadline = Instant::now() + self.window;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
        self.accepted = Some(0);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for SlowPeerTimeout<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for SlowPeerTimeout<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.on_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.on_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.on_flushed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.fail_if_slow(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn guard<T>(io: T) -> SlowPeerTimeout<T> {
        SlowPeerTimeout::new(io, Duration::from_millis(200), 1 << 10)
    }

    /// Writes `bytes` to a peer that reads up to `per_tick` of them every 10 ms.
    async fn write_to(mut theirs: DuplexStream, ours: DuplexStream, bytes: usize, per_tick: usize) -> io::Result<()> {
        let mut guarded = guard(ours);
        let reading = tokio::spawn(async move {
            let (mut ticks, mut buffer) = (tokio::time::interval(Duration::from_millis(10)), vec![0; per_tick]);
            while theirs.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                ticks.tick().await;
            }
        });
        let text = vec![0; bytes];
        let writing = async {
            guarded.write_all(&text).await?;
            guarded.flush().await
        };
        let written = tokio::time::timeout(Duration::from_secs(5), writing).await.expect("the write ends");
        drop(guarded);
        reading.await.unwrap();
        written
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_or_too_slowly_is_disconnected() {
        let timed_out = |written: io::Result<()>| written.unwrap_err().kind() == io::ErrorKind::TimedOut;
        let (ours, _theirs) = tokio::io::duplex(16);
        assert!(timed_out(guard(ours).write_all(&[0; 4096]).await));
        // Reads in every window, but too little.
        let (ours, theirs) = tokio::io::duplex(16);
        assert!(timed_out(write_to(theirs, ours, 1 << 20, 16).await));
        // Slow enough to take several windows, but above the minimum.
        let (ours, theirs) = tokio::io::duplex(512);
        assert!(write_to(theirs, ours, 64 << 10, 512).await.is_ok());
    }
}
