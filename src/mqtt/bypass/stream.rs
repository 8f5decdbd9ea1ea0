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
use super::publish_packet::{Input, take_publish};
use super::{Bypass, Outgoing};

/// Packets that are taken before the link gets them.
pub(super) const READ_BATCH: usize = 256;
/// Bytes of packets that are taken before the link gets them; the last one may be larger.
const TAKEN_BYTES: usize = 1 << 20;
/// Space for bytes of the connection, which the messages read into it share. The allocator returns larger blocks to the system
/// again and again: 6,000 page faults a second, measured with 32 KiB.
const READ_BYTES: usize = 16 << 10;
/// Space that is used up before another one is allocated.
const MIN_READ_BYTES: usize = 2 << 10;
/// Longest pause of reading: the next batch goes on filling while the writer commits one.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// Bytes of packets that wait until the broker reads. With more, neither the client's packets are taken nor is anything read, so
/// that there are no further acknowledgements.
const MAX_WAITING: usize = 1 << 20;

/// Why no further message can be taken.
enum Taken {
    /// More must be read first.
    All,
    /// The link must have those that were taken.
    Enough,
    /// The input begins with so many bytes for the client.
    UpTo { n: usize },
}

/// Writes of the client are whole packets, so acknowledgements can stand between two of them.
pub(in crate::mqtt) struct BypassStream<S> {
    stream: S,
    bypass: Bypass,
    /// Bytes from the broker that are neither taken nor passed to the client.
    input: BytesMut,
    /// Bytes of a packet for the client that are still to be passed.
    passing: usize,
    /// Bytes that were taken since the link was last told to take them.
    n_taken: usize,
    /// Being written.
    writing: Outgoing,
    /// Whether nothing waits in the stream below.
    is_flushed: bool,
    /// Whether the client has got its first packet, the CONNACK.
    is_connected: bool,
    /// The end of the present pause.
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> BypassStream<S> {
    pub(super) fn new(stream: S, bypass: Bypass) -> Self {
        Self {
            stream,
            bypass,
            input: BytesMut::new(),
            passing: 0,
            n_taken: 0,
            writing: Outgoing::default(),
            is_flushed: true,
            is_connected: false,
            pause: None,
        }
    }

    /// Takes messages up to the next packet for the client.
    fn take_packets(&mut self) -> Taken {
        if self.passing == 0 {
            let mut received = self.bypass.received();
            loop {
                if received.len() >= READ_BATCH || self.n_taken >= TAKEN_BYTES {
                    self.n_taken = 0;
                    return Taken::Enough;
                }
                match take_publish(&mut self.input, self.is_connected) {
                    Input::Publish(packet) => {
                        self.n_taken += packet.payload.len() + packet.topic.len();
                        received.push(packet);
                    }
                    Input::Other { len } => {
                        self.passing = len;
                        self.is_connected = true;
                        break;
                    }
                    Input::Incomplete => return Taken::All,
                }
            }
        }
        match self.passing.min(self.input.len()) {
            0 => Taken::All,
            n => Taken::UpTo { n },
        }
    }
}

impl<S: AsyncWrite + Unpin> BypassStream<S> {
    fn poll_write_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.writing.bytes.is_empty() {
                self.is_flushed = false;
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

    /// Writes what waits, and flushes it: TLS and WebSocket have buffers of their own.
    fn poll_flush_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BypassStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let is_full = self.bypass.outgoing().bytes.len() >= MAX_WAITING;
        if is_full {
            let written = self.poll_write_waiting(cx);
            self.bypass.0.is_writing.store(written.is_pending(), Ordering::Relaxed);
            ready!(written)?;
        }
        self.bypass.outgoing().bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.poll_flush_waiting(cx);
        self.bypass.0.is_writing.store(flushed.is_pending(), Ordering::Relaxed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
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

impl<S: Stream> AsyncRead for BypassStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Before the first look at what waits: an acknowledgement after it wakes this task again.
        this.bypass.0.reader.register(cx.waker());
        this.bypass.0.is_writing.store(false, Ordering::Relaxed);
        let has_waiting = !this.is_flushed || !this.bypass.outgoing().bytes.is_empty();
        if has_waiting {
            match this.poll_flush_waiting(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending if this.bypass.outgoing().bytes.len() >= MAX_WAITING => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        if this.passing == 0 {
            ready!(this.poll_resumed(cx, has_waiting));
        }
        loop {
            match this.take_packets() {
                // The link polls again when it has them.
                Taken::Enough => return Poll::Pending,
                Taken::UpTo { n } => {
                    let n = n.min(buffer.remaining());
                    buffer.put_slice(&this.input[..n]);
                    this.input.advance(n);
                    this.passing -= n;
                    return Poll::Ready(Ok(()));
                }
                Taken::All => {}
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
