//! The port through which features reach a device. They say what is to go where and until when; how it
//! travels is the adapter's matter.

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::ids::DeviceId;

/// Where on a device a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Commands: never kept by the broker for later readers.
    Commands,
    /// Configuration: the broker keeps the newest for a device that is away.
    Config,
}

/// One message on its way to a device.
#[derive(Clone)]
pub struct Message {
    /// The home as the device spells it.
    pub home: String,
    /// The device as it spells itself.
    pub device: String,
    /// Where it goes; configuration is retained, commands never are.
    pub channel: Channel,
    /// The JSON; empty takes a kept message away. May hold secrets: never logged.
    pub payload: Vec<u8>,
    /// After this it must not reach the device.
    pub expires_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {:?}, {} bytes", self.home, self.device, self.channel, self.payload.len())
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The broker has it: its PUBACK came.
    Confirmed,
    /// The broker had nobody to give it to, and has thrown it away: its word.
    NoSubscribers,
    /// Its time had passed before it could leave; it did not leave.
    Expired,
    /// The broker will not take it, and nobody got it: its word.
    Refused(&'static str),
    /// There was no link: it did not leave.
    NotSent,
    /// The link went before the broker answered: it may have it or not.
    Unknown,
}

/// The link to the broker as the features see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether messages can go out now.
    pub is_up: bool,
    /// Which connection this is, or the last one was: each has another number.
    pub connection: u64,
    /// Sessions the broker turned out to have lost, each noted in the database before the link is up again.
    pub session_losses: u64,
}

/// Reaches devices.
pub trait Downlink: Send + Sync {
    /// Sends one message at least once and tells what became of it. Ends when the link does: it never
    /// waits for a link to come back.
    fn deliver(&self, message: Message) -> BoxFuture<'static, DeliveryOutcome>;

    /// The link, and every change of it.
    fn link(&self) -> watch::Receiver<LinkState>;
}

/// One row of an outbox on its way, `key` naming the row.
#[derive(Debug, Clone)]
pub struct Outgoing<K> {
    /// The row.
    pub key: K,
    /// Its device: at most one message a device is under way.
    pub device: DeviceId,
    /// What goes out.
    pub message: Message,
}
