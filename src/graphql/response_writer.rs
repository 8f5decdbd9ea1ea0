//! Writes JSON within a number of bytes and within the memory of its user and address.

use std::io::{self, Write};

use bytes::Bytes;

use crate::request_memory::{MemoryExceeded, Reservation};

/// Bytes written before they are reserved: few enough for the free bytes of a request.
const RESERVED_AT_ONCE: usize = 8 << 10;
/// Bytes of one segment.
const SEGMENT_BYTES: usize = 64 << 10;
/// JSON of at least so many bytes is not copied.
const MIN_SHARED_BYTES: usize = 4 << 10;

/// What a response is written into.
pub(super) trait Sink {
    fn text(&mut self, text: &[u8]);

    /// Text that may be kept without a copy.
    fn shared(&mut self, text: &Bytes);
}

impl Sink for Vec<u8> {
    fn text(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    fn shared(&mut self, text: &Bytes) {
        self.extend_from_slice(text);
    }
}

/// A response in parts, each freed once it is sent. JSON of rows is not copied.
#[derive(Default)]
pub(super) struct Segments {
    complete: Vec<Bytes>,
    current: Vec<u8>,
}

impl Segments {
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.end_segment();
        self.complete
    }

    fn end_segment(&mut self) {
        if !self.current.is_empty() {
            self.complete.push(std::mem::take(&mut self.current).into());
        }
    }
}

impl Sink for Segments {
    fn text(&mut self, text: &[u8]) {
        self.current.extend_from_slice(text);
        if self.current.len() >= SEGMENT_BYTES {
            self.end_segment();
        }
    }

    fn shared(&mut self, text: &Bytes) {
        if text.len() < MIN_SHARED_BYTES {
            return self.text(text);
        }
        self.end_segment();
        self.complete.push(text.clone());
    }
}

/// A writer that fails above its limit, and where the memory of the user or address ends. A response is always valid
/// JSON, so serializing fails for no other reason.
pub(super) struct Bounded<'a, S> {
    out: &'a mut S,
    left: usize,
    memory: &'a Reservation,
    unreserved: usize,
    /// Set if memory was the reason to fail.
    pub(super) refused: Option<MemoryExceeded>,
}

impl<'a, S: Sink> Bounded<'a, S> {
    pub(super) fn new(out: &'a mut S, limit: usize, memory: &'a Reservation) -> Self {
        Self { out, left: limit, memory, unreserved: 0, refused: None }
    }

    pub(super) fn shared(&mut self, text: &Bytes) -> io::Result<()> {
        self.count(text.len())?;
        self.out.shared(text);
        Ok(())
    }

    /// Reserves what was written last.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.unreserved);
        self.memory.grow(bytes).map_err(|exceeded| {
            self.refused = Some(exceeded);
            io::ErrorKind::QuotaExceeded.into()
        })
    }

    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        self.unreserved += bytes;
        if self.unreserved > RESERVED_AT_ONCE { self.finish() } else { Ok(()) }
    }
}

impl<S: Sink> Write for Bounded<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.count(bytes.len())?;
        self.out.text(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
