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
    /// Changing its state failed. The error is returned once.
    Broken(Option<io::Error>),
}

impl PausableTcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self(State::Polled(stream))
    }

    /// Until the next read or write.
    pub(super) fn pause(&mut self) {
        if let State::Polled(stream) = self.take_if(|state| matches!(state, State::Polled(_))) {
            self.0 = stream.into_std().map_or_else(|error| State::Broken(Some(error)), State::Paused);
        }
    }

    fn polled(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if let State::Paused(stream) = self.take_if(|state| matches!(state, State::Paused(_))) {
            self.0 = State::Polled(TcpStream::from_std(stream)?);
        }
        match &mut self.0 {
            State::Polled(stream) => Ok(Pin::new(stream)),
            State::Paused(_) => Err(io::ErrorKind::NotConnected.into()),
            State::Broken(error) => Err(error.take().unwrap_or_else(|| io::ErrorKind::NotConnected.into())),
        }
    }

    /// Takes the stream out, to be put back in the other state.
    fn take_if(&mut self, is_wanted: fn(&State) -> bool) -> State {
        if is_wanted(&self.0) { std::mem::replace(&mut self.0, State::Broken(None)) } else { State::Broken(None) }
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
