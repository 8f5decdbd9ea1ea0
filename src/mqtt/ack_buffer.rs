//! The broker's connection, which gathers acknowledgements. The client writes and flushes each by itself, whatever its
//! `max_request_batch` is; here they wait until the client reads from the connection, which it does when it has nothing more to
//! write, and leave together.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// First byte of a PUBACK (MQTT 5, 3.4.1).
const PUBACK: u8 = 0x40;
/// Length of a PUBACK of a successful message.
const PUBACK_BYTES: usize = 4;
/// Bytes that wait at most.
const MAX_WAITING: usize = 4_096 * PUBACK_BYTES;

/// A stream whose writes are whole packets, as the client's are without TLS.
pub(super) struct AckBuffer<S> {
    stream: S,
    waiting: BytesMut,
}

impl<S> AckBuffer<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, waiting: BytesMut::new() }
    }
}

impl<S: AsyncWrite + Unpin> AckBuffer<S> {
    fn poll_write_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.waiting.advance(n),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn is_puback(packet: &[u8]) -> bool {
    packet.len() == PUBACK_BYTES && packet[0] == PUBACK
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AckBuffer<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if is_puback(bytes) && self.waiting.len() < MAX_WAITING {
            self.waiting.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_write_waiting(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Acknowledgements go on waiting. Whatever else was written is at the stream already.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_waiting(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for AckBuffer<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_write_waiting(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const ACK: [u8; 4] = [PUBACK, 2, 0, 7];

    #[tokio::test]
    async fn acknowledgements_leave_together_when_the_client_reads() {
        let (client, mut broker) = duplex(1_024);
        let mut client = AckBuffer::new(client);
        for _ in 0..3 {
            client.write_all(&ACK).await.unwrap();
            client.flush().await.unwrap();
        }
        broker.write_all(b"x").await.unwrap();
        assert_eq!(client.waiting.len(), 12);
        client.read_u8().await.unwrap();
        let mut received = [0; 64];
        assert_eq!(broker.read(&mut received).await.unwrap(), 12);
        assert_eq!(received[..12], ACK.repeat(3));
    }

    #[tokio::test]
    async fn other_packets_leave_at_once_behind_the_acknowledgements_before() {
        let (client, mut broker) = duplex(1_024);
        let mut client = AckBuffer::new(client);
        client.write_all(&ACK).await.unwrap();
        client.write_all(&[0xE0, 0]).await.unwrap();
        client.flush().await.unwrap();
        let mut received = [0; 64];
        assert_eq!(broker.read(&mut received).await.unwrap(), 6, "the DISCONNECT did not wait");
        assert_eq!(received[..6], [PUBACK, 2, 0, 7, 0xE0, 0]);
    }

    #[tokio::test]
    async fn few_acknowledgements_wait() {
        let (client, mut broker) = duplex(1 << 20);
        let mut client = AckBuffer::new(client);
        for _ in 0..=MAX_WAITING / PUBACK_BYTES {
            client.write_all(&ACK).await.unwrap();
        }
        let mut received = vec![0; 2 * MAX_WAITING];
        assert!(broker.read(&mut received).await.unwrap() >= MAX_WAITING);
    }
}
