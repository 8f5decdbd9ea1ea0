//! The port through which features send messages to devices. A feature says where a message goes and when it
//! expires; the adapter ([`crate::mqtt`]) decides how it travels.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::ids::DeviceId;
use crate::text_enum::text_enum;

/// The topic of a device to which a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
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
    pub channel: Channel,
    /// JSON. An empty payload deletes the retained message. It may hold secrets and is never logged.
    pub payload: Vec<u8>,
    /// The message must not reach the device after this time.
    pub expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {:?}, {} bytes", self.home, self.device, self.channel, self.payload.len())
    }
}

text_enum! {
    /// How one attempt to deliver a message ended.
    pub enum DeliveryOutcome {
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

/// The end of one attempt to deliver a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub outcome: DeliveryOutcome,
    /// Why the message was refused, for people.
    pub reason: Option<&'static str>,
}

impl Delivery {
    /// The broker refused the message for this reason.
    pub fn refused(reason: &'static str) -> Self {
        Self { outcome: DeliveryOutcome::Refused, reason: Some(reason) }
    }
}

impl From<DeliveryOutcome> for Delivery {
    fn from(outcome: DeliveryOutcome) -> Self {
        Self { outcome, reason: None }
    }
}

/// The state of the connection to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether messages can be sent now.
    pub is_up: bool,
    /// The number of the current connection, or of the last one.
    pub connection: u64,
    /// How many of our sessions the broker has lost. A loss is in the database before the link is up again.
    pub session_losses: u64,
}

/// Sends messages to devices.
pub trait Downlink: Send + Sync {
    /// Sends one message at least once. Ends when the connection ends: it never waits for the next connection.
    fn deliver(&self, message: Message) -> BoxFuture<'static, Delivery>;

    /// The state of the connection and every change of it.
    fn link(&self) -> watch::Receiver<LinkState>;
}

/// A message made from one row of an outbox; `key` names the row.
#[derive(Debug, Clone)]
pub struct Outgoing<K> {
    pub key: K,
    /// The receiving device. At most one message per device is in flight.
    pub device: DeviceId,
    pub message: Message,
}
