//! Commands: instructions to devices, from the request to the outcome. The row in the database is the truth and
//! the outbox. A status states only what the server has observed.
//!
//! - `send.rs` stores a command to send, checked by `new.rs`, which has the default timeouts; `cancel.rs` cancels
//!   one; `service.rs` reads them; `feed.rs` follows their changes.
//! - `transitions.rs` is the table of statuses and events; the statements in `sql/` implement it.
//! - `outbox.rs` connects the rows to the dispatcher ([`crate::outbox`], which has the retry delays); `queue.rs` decides
//!   whose turn it is; `returned_devices.rs` tells it which devices came back and may have missed a command.
//! - `answer.rs` merges the answers of devices, `expectations.rs` finds commands confirmed by their effect.

mod answer;
mod answer_store;
mod cancel;
mod command;
mod deadline_store;
mod expect;
mod expectation_store;
mod expectations;
mod feed;
mod new;
mod outbox;
mod outbox_store;
mod payload;
mod queue;
mod queue_store;
mod requeue_store;
mod returned_devices;
mod row_store;
mod send;
mod service;
mod store;
mod transitions;

pub use answer::{Answer, AnswerKind};
pub use answer_store::{find_for_ingest, record_answers};
pub use command::{Command, CommandHub, CommandSource, CommandStatus, ConfirmedBy, OnStale};
pub use expect::Observation;
pub use expectations::Expectations;
pub use feed::CommandFilter;
pub use new::{
    DEFAULT_EXPIRY_SECONDS, DEFAULT_TIMEOUT_SECONDS, MAX_COMMAND_PAYLOAD_BYTES, NewCommand, SHORT_EXPIRY_SECONDS,
};
pub use outbox::CommandOutbox;
pub use returned_devices::ReturnedDevices;
pub use send::{KEPT_PER_DEVICE, MAX_OPEN_PER_DEVICE};
pub use service::{CommandPage, Commands, CommandsDependencies};
pub use transitions::{Condition, Event, Facts, TRANSITIONS, Transition, next_status};

/// Sends changed commands to the subscribers of their homes. Call it after the commit.
pub fn notify(hub: &CommandHub, commands: impl IntoIterator<Item = Command>) {
    for command in commands {
        hub.publish(command.home, command.device, &std::sync::Arc::new(command));
    }
}
