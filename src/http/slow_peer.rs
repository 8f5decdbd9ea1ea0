//! Disconnects peers that stop reading or read too slowly. hyper has no write timeout, so a response could wait
//! for its reader forever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// When a peer counts as too slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time in which it must accept `min_bytes`.
    pub(super) window: Duration,
    pub(super) min_bytes: usize,
    /// The time in which it must accept something.
    pub(super) stall: Duration,
}

/// Fails a write with `TimedOut` when the peer does not keep the pace. A peer with nothing left to read is not considered
/// slow.
pub(super) struct SlowPeerTimeout<T> {
    io: T,
    pace: Pace,
    /// Created when a write first blocks: most connections never do.
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes accepted in the current window. `None` while no write is blocked.
    accepted: Option<usize>,
    window_ends: Instant,
    stalled_at: Instant,
}

impl<T> SlowPeerTimeout<T> {
    pub(super) fn new(io: T, pace: Pace) -> Self {
        let now = Instant::now();
        Self { io, pace, timer: None, accepted: None, window_ends: now, stalled_at: now }
    }

    fn on_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(n)), Some(accepted)) = (&written, &mut self.accepted) {
            *accepted = accepted.saturating_add(*n);
            self.stalled_at = Instant::now() + self.pace.stall;
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
            self.stalled_at = Instant::now() + self.pace.stall;
            self.open_window();
        }
        self.set_timer();
        while self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            let now = Instant::now();
            let is_too_few = self.accepted.is_some_and(|accepted| accepted < self.pace.min_bytes);
            if now >= self.stalled_at || (now >= self.window_ends && is_too_few) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads too slowly")));
            }
            if now >= self.window_ends {
                self.open_window();
            }
            self.set_timer();
        }
        Poll::Pending
    }

    fn open_window(&mut self) {
        self.window_ends = Instant::now() + self.pace.window;
        self.accepted = Some(0);
    }

    fn set_timer(&mut self) {
        let deadline = self.window_ends.min(self.stalled_at);
        match &mut self.timer {
            Some(timer) if timer.deadline() == deadline => {}
            Some(timer) => timer.as_mut().reset(deadline),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
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
        let pace = Pace { window: Duration::from_millis(200), min_bytes: 1 << 10, stall: Duration::from_millis(150) };
        SlowPeerTimeout::new(io, pace)
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
