//! The enums of commands.

use async_graphql::Enum;

use crate::commands;

/// The state of a command. Each state reports only what the server has observed.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::CommandStatus")]
pub(super) enum CommandStatus {
    /// Stored, and waiting until the broker and the device are connected and the device is subscribed. `error` says
    /// what it waits for, if an attempt has failed. Becomes SENT, EXPIRED or CANCELLED, or the state that the device
    /// answers, if its answer arrives before the broker's acknowledgement.
    Pending,
    /// The broker acknowledged the message and had a subscriber to give it to. The device has not answered yet.
    /// Becomes PENDING again if the device was away and comes back before `expiresAt`.
    Sent,
    /// The device acknowledged the command and has not reported the outcome yet.
    Acked,
    /// The device reported success, or its readings show the expected effect. See `confirmedBy`.
    Succeeded,
    /// The device reported a failure. See `error`.
    Failed,
    /// No answer arrived within `timeoutSeconds`, or no outcome after ACKED. The device may have executed the
    /// command. A late answer still changes the state.
    TimedOut,
    /// The broker did not acknowledge the message before `expiresAt`. The server no longer sends it. If the
    /// device received it after all, its answer still changes the state.
    Expired,
    /// Cancelled, or replaced by a newer command, before it was sent.
    Cancelled,
}

/// The origin of a command.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::CommandSource")]
pub(super) enum CommandSource {
    /// A user.
    User,
    /// An integration.
    Integration,
    /// An automation rule.
    Automation,
    /// The server.
    Backend,
    /// A test.
    Test,
}

/// What happens to a waiting command when a newer one of the same type is sent to its device.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::OnStale")]
pub(super) enum OnStale {
    /// It keeps waiting, and is sent in order unless it expires first.
    Expire,
    /// It is cancelled if it has not been sent. A lamp that was switched five times while it was offline gets
    /// one command.
    Supersede,
}

/// The evidence for the outcome of a command.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::ConfirmedBy")]
pub(super) enum ConfirmedBy {
    /// The answer of the device.
    Ack,
    /// A reading or status that shows the effect named in `expect`.
    Effect,
}
