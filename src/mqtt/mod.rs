//! The MQTT edge: topics, payloads, the link to the broker, and the accounts that devices have at the broker.

mod acks;
pub mod acl;
mod bypass;
pub mod checkup;
pub mod cleanup;
pub mod export;
mod json;
mod link;
mod options;
pub mod payload;
mod probe;
pub mod provision;
mod publish;
mod received_message;
mod rejection;
mod timestamp;
pub mod topic;

pub use acks::{PendingPubAck, PubAcks};
pub use link::{Link, LinkHandles, LinkSession};
pub use options::{TlsFileError, check};
pub use probe::probe;
pub use publish::Publisher;
pub use received_message::{BrokerEvent, Packet, ReceivedMessage, SessionLoss, digest};
pub use rejection::{REJECTED_PREVIEW_BYTES, Rejection};
pub use topic::ReceivedTopic;
