//! What a batch of messages changes of the state of a device.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

use super::Report;
use super::directory::ResolvedDevice;
use crate::ids::{DeviceId, HomeId};

/// The longest delay between a device's message and `last_seen_at` in the database.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);

/// What a status reports its device to be.
#[derive(Debug, Clone, PartialEq)]
pub struct StateReport {
    pub state: Value,
    /// When the device made it, or its receipt.
    pub at: DateTime<Utc>,
    /// Whether the device's clock tells `at`: such a report may be late. Others come in their order.
    pub by_device_clock: bool,
}

impl StateReport {
    /// A report that was received at `received_at`: the device made it before, whatever its clock says.
    pub fn new(state: Value, timestamp: Option<DateTime<Utc>>, received_at: DateTime<Utc>) -> Self {
        let at = timestamp.map_or(received_at, |timestamp| timestamp.min(received_at));
        Self { state, at, by_device_clock: timestamp.is_some() }
    }

    /// Whether this report, which was received after `earlier`, is older.
    fn is_late(&self, earlier: &Self) -> bool {
        self.by_device_clock && self.at < earlier.at
    }
}

/// What one batch of messages changes of a device's state.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChange {
    pub home: HomeId,
    pub device: DeviceId,
    /// The device's presence after the batch.
    pub online: bool,
    /// When the last message of the batch was received, or the time-out was noticed.
    pub at: DateTime<Utc>,
    pub contact: Contact,
    pub report: Report,
    pub last_status: Option<Value>,
    pub reported: Option<StateReport>,
    /// Home and device as the device's topic spells them; `None` where no message of the device names them.
    pub segments: Option<(Box<str>, Box<str>)>,
    /// Whether subscribers are notified.
    pub notify: bool,
    /// Messages dropped because the device sent faster than its limit.
    pub n_rate_limited: i64,
    /// When the last of them was received.
    pub rate_limited_at: Option<DateTime<Utc>>,
    /// The device may still deliver messages it has gathered since then; written only if the device was seen.
    pub backlog_since: Option<DateTime<Utc>>,
    /// The change is written only if the device was last seen before then.
    pub unless_seen_since: Option<DateTime<Utc>>,
    /// Set where the device came back within the batch.
    pub returned: Option<Return>,
    /// What the device has stored today, by this server.
    pub stored: Option<StoredBytes>,
}

/// The payloads of the readings that were accepted from a device on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBytes {
    /// The day in UTC.
    pub day: NaiveDate,
    pub bytes: i64,
}

/// The return of a device that may have been away: commands sent since its message before may not have reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return {
    pub at: DateTime<Utc>,
    /// Its message before; `None` if this server has received none.
    pub silent_since: Option<DateTime<Utc>>,
    /// Otherwise it sent its status while it counted as online, as devices do after they connect.
    pub from_offline: bool,
}

impl Return {
    fn merge(self, later: Self) -> Self {
        Self { at: later.at, silent_since: self.silent_since, from_offline: self.from_offline || later.from_offline }
    }
}

/// What the messages behind a change say of the device's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// Nothing: the device timed out, or the message was a retained one.
    None,
    /// The device sent something.
    Seen,
    /// The device, or its Last Will, announced that it is offline.
    Offline,
    /// The device sent something and then announced that it is offline.
    SeenThenOffline,
}

impl Contact {
    /// This followed by `later`.
    fn then(self, later: Self) -> Self {
        match (self, later) {
            (_, Self::None) => self,
            (Self::Seen | Self::SeenThenOffline, Self::Offline) => Self::SeenThenOffline,
            _ => later,
        }
    }

    /// Whether the device sent something.
    pub fn is_seen(self) -> bool {
        matches!(self, Self::Seen | Self::SeenThenOffline)
    }

    /// Whether the device is not listening to its topics: known after a message only. Silence alone says
    /// nothing of it.
    pub fn announced_offline(self) -> Option<bool> {
        match self {
            Self::None => None,
            Self::Seen => Some(false),
            Self::Offline | Self::SeenThenOffline => Some(true),
        }
    }
}

impl StateChange {
    fn new(device: ResolvedDevice, online: bool, contact: Contact, at: DateTime<Utc>) -> Self {
        Self {
            home: device.home,
            device: device.device,
            online,
            at,
            contact,
            report: Report::default(),
            last_status: None,
            reported: None,
            segments: None,
            notify: false,
            n_rate_limited: 0,
            rate_limited_at: None,
            backlog_since: None,
            unless_seen_since: None,
            returned: None,
            stored: None,
        }
    }

    /// The device sent a message.
    pub fn seen(device: ResolvedDevice, at: DateTime<Utc>) -> Self {
        Self::new(device, true, Contact::Seen, at)
    }

    /// The device, or its Last Will, announced that it is offline.
    pub fn offline(device: ResolvedDevice, at: DateTime<Utc>) -> Self {
        Self { notify: true, ..Self::new(device, false, Contact::Offline, at) }
    }

    /// A retained status says that the device was online, which proves nothing of now: it is as `online` as
    /// it was known to be.
    pub fn retained(device: ResolvedDevice, online: bool, at: DateTime<Utc>) -> Self {
        Self { notify: true, ..Self::new(device, online, Contact::None, at) }
    }

    /// The device was silent for too long. Another server may have seen it meanwhile: then nothing is written.
    pub fn timed_out(home: HomeId, device: DeviceId, at: DateTime<Utc>, timeout: Duration) -> Self {
        let device = ResolvedDevice::online(home, device);
        let unless_seen_since = Some(at - timeout + WRITTEN_WITHIN);
        Self { unless_seen_since, notify: true, ..Self::new(device, false, Contact::None, at) }
    }

    /// Leaves out the text and numbers that the device itself chose.
    pub fn remove_payload(&mut self) {
        (self.last_status, self.reported, self.report) = (None, None, Report::default());
    }

    /// Adds what a later message of the same device reported, of which nothing else is news. The same as to merge
    /// [`StateChange::seen`] with that report, without making it.
    pub fn add_report(&mut self, report: &Report, at: DateTime<Utc>, backlog_since: Option<DateTime<Utc>>) {
        (self.online, self.at, self.backlog_since) = (true, at, backlog_since);
        self.contact = self.contact.then(Contact::Seen);
        self.report.merge(report);
        self.unless_seen_since = None;
    }

    /// Adds the change of a later message of the same device.
    pub fn merge(&mut self, later: Self) {
        self.online = later.online;
        self.at = later.at;
        if later.contact.is_seen() {
            self.backlog_since = later.backlog_since;
        }
        self.contact = self.contact.then(later.contact);
        self.n_rate_limited += later.n_rate_limited;
        self.rate_limited_at = later.rate_limited_at.or(self.rate_limited_at);
        self.report.merge(&later.report);
        self.last_status = later.last_status.or(self.last_status.take());
        self.reported = match (self.reported.take(), later.reported) {
            (Some(earlier), Some(later)) if later.is_late(&earlier) => Some(earlier),
            (earlier, later) => later.or(earlier),
        };
        self.segments = later.segments.or(self.segments.take());
        self.notify |= later.notify;
        self.unless_seen_since = None;
        self.returned = match (self.returned, later.returned) {
            (Some(first), Some(later)) => Some(first.merge(later)),
            (first, later) => first.or(later),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Contact::{Offline, Seen, SeenThenOffline};
    use super::*;

    #[test]
    fn of_the_reports_of_a_batch_the_newest_is_kept() {
        let device = ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(7));
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let change = |n, timestamp: Option<i64>| {
            let report = StateReport::new(json!({ "n": n }), timestamp.map(at), at(100));
            StateChange { reported: Some(report), ..StateChange::seen(device, at(100)) }
        };
        for (earlier, later, kept) in [
            (Some(10), Some(20), 2),
            (Some(20), Some(10), 1),
            (Some(20), Some(20), 2),
            (None, Some(20), 1),
            (Some(20), None, 2),
            // A clock that is ahead: the report was made before it was received.
            (Some(200), Some(300), 2),
            (Some(200), Some(100), 2),
        ] {
            let mut merged = change(1, earlier);
            merged.merge(change(2, later));
            merged.merge(StateChange::seen(device, at(101)));
            assert_eq!(merged.reported.unwrap().state, json!({ "n": kept }), "{earlier:?}, then {later:?}");
        }
    }

    #[test]
    fn a_report_is_added_as_the_change_of_its_message_would_be() {
        let device = ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(7));
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let full =
            Report { firmware_version: Some("2".to_owned()), signal_strength: Some(-40.0), battery_level: Some(5.0) };
        for earlier in [
            StateChange { backlog_since: Some(at(1)), report: full.clone(), ..StateChange::seen(device, at(10)) },
            StateChange {
                report: Report { battery_level: Some(7.0), ..Report::default() },
                ..StateChange::seen(device, at(10))
            },
            StateChange::offline(device, at(10)),
            StateChange::retained(device, false, at(10)),
            StateChange::timed_out(device.home, device.device, at(10), Duration::from_secs(60)),
        ] {
            for report in [full.clone(), Report { signal_strength: Some(-41.0), ..Report::default() }] {
                for backlog_since in [None, Some(at(5))] {
                    let (mut added, mut merged) = (earlier.clone(), earlier.clone());
                    added.add_report(&report, at(20), backlog_since);
                    merged.merge(StateChange {
                        report: report.clone(),
                        backlog_since,
                        ..StateChange::seen(device, at(20))
                    });
                    assert_eq!(added, merged);
                }
            }
        }
    }

    #[test]
    fn a_later_message_decides_presence_and_never_undoes_that_the_device_was_seen() {
        for (earlier, later, merged) in [
            (Seen, Contact::None, Seen),
            (Offline, Contact::None, Offline),
            (Contact::None, Seen, Seen),
            (Contact::None, Offline, Offline),
            (Seen, Offline, SeenThenOffline),
            (SeenThenOffline, Offline, SeenThenOffline),
            (SeenThenOffline, Contact::None, SeenThenOffline),
            (Offline, Seen, Seen),
            (SeenThenOffline, Seen, Seen),
            (Seen, SeenThenOffline, SeenThenOffline),
        ] {
            assert_eq!(earlier.then(later), merged, "{earlier:?}, then {later:?}");
        }
    }
}
