//! The bodies of responses to operations: segments whose memory is reserved until the client has taken them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

use crate::graphql::response::Written;
use crate::request_memory::{FREE_BYTES, Reservation};

/// Bytes and the memory that is reserved for them.
struct Held {
    bytes: Bytes,
    memory: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes.len());
    }
}

/// Bytes that return their memory when the connection has written them.
pub(super) fn held(bytes: Bytes, memory: Reservation) -> Bytes {
    // Nothing is reserved for so few.
    if bytes.len() <= FREE_BYTES { bytes } else { Bytes::from_owner(Held { bytes, memory }) }
}

/// The body of one response.
pub(super) fn body(written: Written) -> Body {
    let n_bytes = written.n_bytes();
    let Written { segments, memory } = written;
    if n_bytes <= FREE_BYTES {
        return Body::from(segments.concat());
    }
    let segments: Vec<Bytes> = segments.into_iter().map(|bytes| held_segment(bytes, &memory)).collect();
    Body::new(Segments { segments: segments.into_iter(), left: n_bytes as u64 })
}

/// Also a small segment counts, because its response is large.
fn held_segment(bytes: Bytes, memory: &Reservation) -> Bytes {
    Bytes::from_owner(Held { bytes, memory: memory.clone() })
}

/// A body of known length.
struct Segments {
    segments: IntoIter<Bytes>,
    left: u64,
}

impl hyper::body::Body for Segments {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(bytes) = self.segments.next() else { return Poll::Ready(None) };
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
