//! The connection's stream, as the client sees it: without the messages of devices.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connect::Stream;
use super::publish_packet::{Next, next};
use super::{Bypass, Outgoing};

/// Packets that are taken before the link gets them.
pub(super) const READ_BATCH: usize = 256;
/// Space for bytes of the connection: what the allocator keeps at hand. The messages read into it share it.
const READ_BYTES: usize = 16 << 10;
/// Space that is used up before another one is allocated.
const MIN_READ_BYTES: usize = 2 << 10;
/// Longest pause of reading: the next batch goes on filling while the writer commits one.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of the client's packets that wait until the broker reads. Acknowledgements wait beside them: 4 bytes for each of the
/// protocol's packet ids at most.
const MAX_WAITING: usize = 1 << 20;

/// Writes of the client are whole packets, so acknowledgements can stand between two of them.
pub(in crate::mqtt) struct BypassStream<S> {
    stream: S,
    bypass: Bypass,
    /// Bytes from the broker that are neither taken nor passed to the client.
    input: BytesMut,
    /// Bytes of a packet for the client that are still to be passed.
    passing: usize,
    /// Being written.
    writing: Outgoing,
    /// The end of the present pause.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> BypassStream<S> {
    pub(super) fn new(stream: S, bypass: Bypass) -> Self {
        Self { stream, bypass, input: BytesMut::new(), passing: 0, writing: Outgoing::default(), pause: None }
    }

    /// Takes messages up to the next packet for the client; returns how many bytes of that packet are to be passed now. `None`
    /// where more must be read first, `Some(0)` where the link has to take the messages first.
    fn take_packets(&mut self) -> Option<usize> {
        if self.passing == 0 {
            let mut received = self.bypass.received();
            loop {
                if received.len() >= READ_BATCH {
                    return Some(0);
                }
                match next(&mut self.input) {
                    Next::Publish(packet) => received.push(packet),
                    Next::Other { len } => {
                        self.passing = len;
                        break;
                    }
                    Next::Incomplete => return None,
                }
            }
        }
        Some(self.passing.min(self.input.len())).filter(|n| *n > 0)
    }
}

impl<S: AsyncWrite + Unpin> BypassStream<S> {
    fn poll_write_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.writing.bytes.is_empty() {
                match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.writing.bytes))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.writing.bytes.advance(n),
                }
            }
            self.bypass.on_written(&mut self.writing);
            std::mem::swap(&mut self.writing, &mut *self.bypass.outgoing());
            if self.writing.bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BypassStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let is_full = self.bypass.outgoing().bytes.len() >= MAX_WAITING;
        if is_full {
            ready!(self.poll_write_waiting(cx))?;
        }
        self.bypass.outgoing().bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Stream> AsyncRead for BypassStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Before the first look at what waits: an acknowledgement after it wakes this task again.
        this.bypass.0.reader.register(cx.waker());
        let has_waiting = !this.writing.bytes.is_empty() || !this.bypass.outgoing().bytes.is_empty();
        if has_waiting && let Poll::Ready(written) = Pin::new(&mut *this).poll_flush(cx) {
            written?;
        }
        if this.passing == 0 {
            ready!(this.poll_resumed(cx, has_waiting));
        }
        loop {
            match this.take_packets() {
                // The link takes the messages and polls again.
                Some(0) => return Poll::Pending,
                Some(n) => {
                    let n = n.min(buffer.remaining());
                    buffer.put_slice(&this.input[..n]);
                    this.input.advance(n);
                    this.passing -= n;
                    return Poll::Ready(Ok(()));
                }
                None => {}
            }
            if this.input.capacity() - this.input.len() < MIN_READ_BYTES {
                this.input.reserve(READ_BYTES);
            }
            if ready!(pin!(this.stream.read_buf(&mut this.input)).poll(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: Stream> BypassStream<S> {
    /// Waits for the end of a pause.
    fn poll_resumed(&mut self, cx: &mut Context<'_>, has_acknowledged: bool) -> Poll<()> {
        let is_paused = &self.bypass.0.is_paused;
        if is_paused.load(Ordering::Relaxed) && !has_acknowledged {
            let pause = self.pause.get_or_insert_with(|| {
                self.stream.pause();
                Box::pin(sleep(LONGEST_PAUSE))
            });
            ready!(pause.as_mut().poll(cx));
        }
        is_paused.store(false, Ordering::Relaxed);
        self.pause = None;
        Poll::Ready(())
    }
}
