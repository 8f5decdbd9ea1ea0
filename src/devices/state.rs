//! What a device last said of itself: presence, status, health.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::hub::Hub;
use crate::ids::{DeviceId, HomeId};

/// The live stream of changed device states, by home.
pub type StateHub = Hub<DeviceState>;

/// A sign of life stands in the database at most so much later than it was heard.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);

/// One device's present state.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceState {
    /// Whose.
    pub device: DeviceId,
    /// Whether it counts as present.
    pub online: bool,
    /// When that last changed.
    pub online_changed_at: Option<DateTime<Utc>>,
    /// Last sign of life, written at most once in 10 s.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// As it last reported.
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
    /// The seed's `{"lastStatus": {...}}`.
    pub metadata: Value,
    /// Messages that were let go, because it sent faster than its limit.
    pub shed_messages: i64,
    /// When the last of them came.
    pub last_shed_at: Option<DateTime<Utc>>,
}

/// What a device says of its own health, in any kind of message; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Its firmware.
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
}

/// A status message.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// Whether the device says it is there; its Last Will says it is not.
    pub online: bool,
    /// Its health.
    pub report: Report,
    /// The message as it came, kept as `metadata.lastStatus`.
    pub last_status: Value,
}

/// What is to be written of a device's state: all that one batch of messages says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChange {
    /// Its home.
    pub home: HomeId,
    /// The device.
    pub device: DeviceId,
    /// Its presence now.
    pub online: bool,
    /// When it was last heard of in this batch.
    pub at: DateTime<Utc>,
    /// Whether that was a sign of life.
    pub is_sign_of_life: bool,
    /// Whether the device, or its last will, said goodbye.
    pub is_goodbye: bool,
    /// Its health as far as it was told.
    pub report: Report,
    /// Its last status message.
    pub last_status: Option<Value>,
    /// How it spelt its home and itself; `None` where nobody of that name spoke.
    pub segments: Option<(Box<str>, Box<str>)>,
    /// Whether subscribers are to hear of it.
    pub is_news: bool,
    /// Messages that were let go, because the device sent faster than its limit.
    pub n_shed: i64,
    /// When the last of them came.
    pub shed_at: Option<DateTime<Utc>>,
    /// The device may still deliver what it gathered from then on; written with a sign of life.
    pub backlog_since: Option<DateTime<Utc>>,
    /// Not to be written if the device was seen since then.
    pub unless_seen_since: Option<DateTime<Utc>>,
}

impl StateChange {
    /// A device that was silent for too long.
    ///
    /// Another server may have heard it meanwhile: then it is not written.
    pub fn offline(home: HomeId, device: DeviceId, at: DateTime<Utc>, timeout: Duration) -> Self {
        Self {
            unless_seen_since: Some(at - timeout + WRITTEN_WITHIN),
            home,
            device,
            online: false,
            at,
            is_sign_of_life: false,
            is_goodbye: false,
            report: Report::default(),
            last_status: None,
            segments: None,
            is_news: true,
            n_shed: 0,
            shed_at: None,
            backlog_since: None,
        }
    }

    /// Leaves out what the device said in its own words.
    pub fn mute(&mut self) {
        (self.last_status, self.report) = (None, Report::default());
    }

    /// A later message of the same device speaks over an earlier one.
    pub fn merge(&mut self, later: Self) {
        self.online = later.online;
        self.at = later.at;
        if later.is_sign_of_life {
            (self.is_sign_of_life, self.backlog_since) = (true, later.backlog_since);
        }
        self.n_shed += later.n_shed;
        self.shed_at = later.shed_at.or(self.shed_at);
        self.is_goodbye = later.is_goodbye || self.is_goodbye && !later.is_sign_of_life;
        self.report.merge(later.report);
        self.last_status = later.last_status.or(self.last_status.take());
        self.segments = later.segments.or(self.segments.take());
        self.is_news |= later.is_news;
        self.unless_seen_since = None;
    }
}

impl Report {
    fn merge(&mut self, later: Self) {
        self.firmware_version = later.firmware_version.or(self.firmware_version.take());
        self.signal_strength = later.signal_strength.or(self.signal_strength);
        self.battery_level = later.battery_level.or(self.battery_level);
    }
}
