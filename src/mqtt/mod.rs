//! The MQTT edge: topics, payloads, the link to the broker.

mod json;
pub mod payload;
mod rejection;
mod timestamp;
pub mod topic;

pub use rejection::Rejection;
