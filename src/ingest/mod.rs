//! From a message to a committed row to the hub to the acknowledgement.
//!
//! One task owns the writer. It takes all that is queued (at most [`MAX_BATCH`]), commits it, hands
//! it to the hubs, acknowledges it in order, and takes again: idle, a single message is committed at
//! once; busy, batches fill by themselves while the last one commits. No timer is involved.
//!
//! Nothing is acknowledged before its commit, nothing is published before its commit, and while the
//! database is away nothing is given up: the queue fills and the broker keeps the rest.

mod answers;
mod batch;
mod connection;
mod limit;
mod prepare;
mod rejected;
mod retention;
mod session;
mod signs;
mod store;
mod writer;

pub use writer::{Writer, WriterParts};

/// Messages committed together at most.
pub const MAX_BATCH: usize = 1_000;
