//! A TCP stream that can be left out of the runtime's poll. As long as it is in it, each segment that arrives wakes the thread,
//! also while nobody reads.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::{io, net};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(super) struct PausableTcp(State);

enum State {
    Polled(TcpStream),
    Paused(net::TcpStream),
    /// It could not be put back; what failed is reported once.
    Broken,
}

impl PausableTcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(State::Polled(stream))
    }

    /// Until the next read or write.
    pub(super) fn pause(&mut self) {
        if let State::Polled(stream) = std::mem::replace(&mut self.0, State::Broken) {
            // A stream that can't be left out is lost: so is its connection.
            self.0 = stream.into_std().map_or(State::Broken, State::Paused);
        }
    }

    fn polled(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let State::Paused(_) = self.0
            && let State::Paused(stream) = std::mem::replace(&mut self.0, State::Broken)
        {
            self.0 = State::Polled(TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Polled(stream) => Ok(Pin::new(stream)),
            State::Paused(_) | State::Broken => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl AsyncRead for PausableTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.polled()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for PausableTcp {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.polled()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP has nothing to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.polled()?.poll_shutdown(cx)
    }
}
