//! The port through which features send messages to devices. A feature says where a message goes and when it
//! expires; the adapter ([`crate::mqtt`]) decides how it travels.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::ids::DeviceId;
use crate::text_enum::text_enum;

/// What a message to a device carries, and so which of its topics it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownlinkKind {
    /// Commands: never retained.
    Commands,
    /// Configuration: retained, so that a device that is away finds the newest.
    Config,
}

/// One message to a device.
#[derive(Clone)]
pub struct Message {
    /// The home, as the device spells it in its topics.
    pub home: String,
    /// The device, as it spells itself in its topics.
    pub device: String,
    pub kind: DownlinkKind,
    /// JSON. An empty payload deletes the retained message. It may hold secrets and is never logged.
    pub payload: Vec<u8>,
    /// The message must not reach the device after this time.
    pub expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {:?}, {} bytes", self.home, self.device, self.kind, self.payload.len())
    }
}

text_enum! {
    /// How one attempt to publish a message ended.
    pub enum PublishOutcome {
        /// The broker acknowledged it (PUBACK).
        Confirmed = "CONFIRMED",
        /// The broker acknowledged it and dropped it: MQTT 5 reason code "No matching subscribers".
        NoSubscribers = "NO_SUBSCRIBERS",
        /// It expired before it could be sent, so it was not sent.
        Expired = "EXPIRED",
        /// The broker refused it, so no device received it.
        Refused = "REFUSED",
        /// There was no connection, so it was not sent.
        NotSent = "NOT_SENT",
        /// The connection ended before the broker answered: the device may have received it.
        Unknown = "UNKNOWN",
    }
}

/// The outcome of one attempt to publish a message, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishReport {
    pub outcome: PublishOutcome,
    /// Why the message was refused, for people.
    pub reason: Option<&'static str>,
}

impl PublishReport {
    /// The broker refused the message for this reason.
    pub fn refused(reason: &'static str) -> Self {
        Self { outcome: PublishOutcome::Refused, reason: Some(reason) }
    }
}

impl From<PublishOutcome> for PublishReport {
    fn from(outcome: PublishOutcome) -> Self {
        Self { outcome, reason: None }
    }
}

/// The state of the connection to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether messages can be sent now.
    pub is_up: bool,
    /// Changes whenever the link goes up or down: equal numbers mean the same connection.
    pub link_epoch: u64,
    /// How many of our sessions the broker has lost. A loss is in the database before the link is up again.
    pub session_losses: u64,
}

/// Sends messages to devices.
pub trait Downlink: Send + Sync {
    /// Publishes one message with QoS 1. Ends when the connection ends: it never waits for the next connection.
    fn publish(&self, message: Message) -> BoxFuture<'static, PublishReport>;

    /// The state of the connection and every change of it.
    fn link(&self) -> watch::Receiver<LinkState>;
}

/// A message made from one row of an outbox; `key` names the row.
#[derive(Debug, Clone)]
pub struct OutboxMessage<K> {
    pub key: K,
    /// The receiving device. At most one publish per device is pending.
    pub device: DeviceId,
    pub message: Message,
}
