//! The delays before the next attempt for a device, of commands and configurations alike.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::downlink::PublishOutcome;
use crate::ids::DeviceId;

/// After a message was refused: by the ACL or a quota of the broker, or because of its topic.
const REFUSED_RETRY_DELAY: Duration = Duration::from_secs(5);
/// After the connection ended before the broker answered, and while another server sends to the device.
pub(super) const SHORT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// The delay after an attempt; `None` where the device may get its next message at once.
pub(super) fn retry_delay(outcome: PublishOutcome) -> Option<Duration> {
    match outcome {
        PublishOutcome::Refused => Some(REFUSED_RETRY_DELAY),
        PublishOutcome::Unknown | PublishOutcome::NotSent => Some(SHORT_RETRY_DELAY),
        PublishOutcome::Confirmed | PublishOutcome::NoSubscribers | PublishOutcome::Expired => None,
    }
}

/// Devices that wait before their next attempt, and until when.
#[derive(Default)]
pub(super) struct Cooldowns(HashMap<DeviceId, Instant>);

impl Cooldowns {
    pub(super) fn start(&mut self, device: DeviceId, delay: Duration) {
        self.0.insert(device, Instant::now() + delay);
    }

    pub(super) fn remove_ended(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, until| *until > now);
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceId> {
        self.0.keys().copied()
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }
}
