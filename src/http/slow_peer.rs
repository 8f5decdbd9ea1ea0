//! A connection whose peer stops reading, or reads too slowly to be of use, is cut: HTTP has no time-out
//! of its own for writing, and an answer may otherwise wait for its reader for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Fails a write to a peer that takes less than it must of what waits for it. Who has taken all that there
/// was owes nothing: a quiet stream is no slow reader.
pub(super) struct SlowPeerTimeout<T> {
    io: T,
    /// How long it is looked at how much the peer takes, and the bytes that must be.
    window: Duration,
    least: usize,
    /// Made at the first stall: most connections never have one.
    timer: Option<Pin<Box<Sleep>>>,
    /// What was taken in the present window, while there is one.
    taken: Option<usize>,
}

impl<T> SlowPeerTimeout<T> {
    pub(super) fn new(io: T, window: Duration, least: usize) -> Self {
        Self { io, window, least, timer: None, taken: None }
    }

    fn note_written(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(n)), Some(taken)) = (&written, &mut self.taken) {
            *taken = taken.saturating_add(*n);
        }
        self.wait_or_cut(cx, written)
    }

    fn note_flushed(&mut self, cx: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.taken = None;
        }
        self.wait_or_cut(cx, flushed)
    }

    fn wait_or_cut<R>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            return outcome;
        }
        if self.taken.is_none() {
            self.open_window();
        }
        while self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            if self.taken.is_some_and(|taken| taken < self.least) {
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
        self.taken = Some(0);
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
        self.note_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note_flushed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.wait_or_cut(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    fn guard<T>(io: T) -> SlowPeerTimeout<T> {
        SlowPeerTimeout::new(io, Duration::from_millis(200), 1 << 10)
    }

    /// What becomes of so many bytes for a peer that takes up to `taken` of them at every tick.
    async fn write_to(mut theirs: DuplexStream, ours: DuplexStream, bytes: usize, taken: usize) -> io::Result<()> {
        let mut guarded = guard(ours);
        let reading = tokio::spawn(async move {
            let (mut ticks, mut buffer) = (tokio::time::interval(Duration::from_millis(10)), vec![0; taken]);
            while theirs.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                ticks.tick().await;
            }
        });
        let text = vec![0; bytes];
        let writing = async {
            guarded.write_all(&text).await?;
            guarded.flush().await
        };
        let written = tokio::time::timeout(Duration::from_secs(5), writing).await.expect("an end");
        drop(guarded);
        reading.await.unwrap();
        written
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_or_drips_is_cut_and_one_that_reads_is_not() {
        let cut = |written: io::Result<()>| written.unwrap_err().kind() == io::ErrorKind::TimedOut;
        let (ours, _theirs) = tokio::io::duplex(16);
        assert!(cut(guard(ours).write_all(&[0; 4096]).await));
        // Never silent for as long as the patience lasts.
        let (ours, theirs) = tokio::io::duplex(16);
        assert!(cut(write_to(theirs, ours, 1 << 20, 16).await));
        // Slow, for several times the patience.
        let (ours, theirs) = tokio::io::duplex(512);
        assert!(write_to(theirs, ours, 64 << 10, 512).await.is_ok());
    }
}
