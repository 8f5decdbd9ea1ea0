//! From a message to a committed row, to the hubs, to the acknowledgement.
//!
//! One task owns the writer. It takes all queued messages (at most [`MAX_BATCH`]), commits them in one
//! transaction, publishes them to the hubs, acknowledges them in order, and takes the next ones. When idle it
//! commits a single message at once; when busy, the next batch fills while the last one commits. Only under high load does
//! it wait for more messages (`writer/gathering.rs`).
//!
//! The steps of a batch, each with its own file:
//!
//! 1. `classifier.rs`: each message is classified (`message.rs`), admitted (`device_limits.rs`, `daily_storage.rs`) and
//!    turned into a row and perhaps a state change (`classifier/outcomes.rs`); together they are the `batch.rs`.
//! 2. `writer/transaction.rs`: the batch's statements, in one round trip; or the one of a reading alone (`single_store.rs`).
//! 3. `writer/storing.rs`: retries, splits (`writer/verdict.rs`), and when the acknowledgements are sent.
//! 4. `writer/after_commit.rs`: hubs and counters.
//!
//! A reading of a month that does not take it (`months.rs`) is parked in the same transaction, and moved later
//! (`writer/parking.rs`).
//!
//! `candidate.rs` decides when this server ingests at all, and with which session of the broker. `successor.rs` tells the server
//! that ingests whether this one could.
//!
//! No message is acknowledged or published before its commit. While the database is away nothing is given up:
//! the queue fills and the broker keeps the rest. `progress.rs` tells the metrics and `/readyz` how long the oldest message
//! has waited, and why.

mod answers;
mod batch;
mod candidate;
mod classifier;
mod committed_packets;
mod copy_store;
mod daily_storage;
mod device_limits;
mod envelope;
mod group;
mod message;
mod months;
mod pending_updates;
mod progress;
mod rejection_recorder;
mod retention;
mod saturation;
mod session_retention;
mod session_store;
mod single_store;
mod store;
mod successor;
mod uptime_clocks;
mod writer;
mod writer_connection;

pub use answers::IGNORED_ANSWERS;
pub use candidate::{Candidate, Term};
pub use group::Group;
pub use progress::Progress;
pub use session_retention::{delete_unused_sessions, run_session_retention};
pub use successor::Successor;
pub use writer::{BATCH_STEPS, WriterParts, run_writer};

/// A statement of ingest that takes longer is cancelled, and its batch is tried again.
const STATEMENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Messages committed together at most.
pub const MAX_BATCH: usize = 1_000;
