//! Commands: what devices are told to do, from the request to the outcome. The row is the truth and the
//! outbox; its status never claims more than was seen.

mod answer;
mod answer_store;
mod command;
mod expect;
mod expectations;
mod feed;
mod new;
mod outbox;
mod outbox_store;
mod requeue_store;
mod row_store;
mod service;
mod store;

pub use answer::{Answer, AnswerKind};
pub use answer_store::{find_for_ingest, record_answers};
pub use command::{Command, CommandHub, CommandSource, CommandStatus, ConfirmedBy, OnStale, WordError};
pub use expect::Observation;
pub use expectations::Expectations;
pub use feed::CommandFilter;
pub use new::{DEFAULT_EXPIRY_SECONDS, DEFAULT_TIMEOUT_SECONDS, MAX_PAYLOAD_BYTES, NewCommand, SHORT_EXPIRY_SECONDS};
pub use outbox::CommandOutbox;
pub use service::{CommandPage, Commands, KEPT_PER_DEVICE, MAX_OPEN_PER_DEVICE};

/// Tells those who follow a command's home how it now stands. To be called after the commit.
pub fn publish(hub: &CommandHub, commands: impl IntoIterator<Item = Command>) {
    for command in commands {
        hub.publish(command.home, std::sync::Arc::new(command));
    }
}
