//! Presence of devices: every message of a device extends its deadline, and a device that misses its deadline is
//! offline. Deadlines don't count while the link to the broker is down; afterwards every device gets the full time-out.
//!
//! The writer owns the tracker, so that the messages of a device and its deadline are in one order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::directory::ResolvedDevice;
use crate::ids::{DeviceId, HomeId, IdMap};

/// `last_seen_at` is written at most this often, unless the device's row is written anyway.
const WRITE_EVERY: Duration = Duration::from_secs(10);
/// Deadlines checked at once, most of which may be of devices that have sent something since: about a millisecond's work.
const MAX_CHECKED: usize = 4_096;
/// Fewer devices are never checked for deleted ones.
const MIN_REMOVAL: usize = 4_096;

/// What a message says about presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceEvent {
    /// The device sent a message.
    Seen,
    /// The device, or its Last Will, announced that it is offline.
    Offline,
}

/// The effect of a [`PresenceEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceChange {
    pub online: bool,
    pub online_changed: bool,
    /// Whether `last_seen_at` is due to be written.
    pub write_due: bool,
    /// It sent something after it, or its Last Will, had announced that it is offline: its connection had ended.
    pub came_back: bool,
    /// When the device's message before was received; `None` if none was since the start.
    pub silent_since: Option<DateTime<Utc>>,
}

/// The presence of every device that was seen since the start. Deleted devices are removed whenever the number of
/// devices has doubled, see [`PresenceTracker::removal_candidates`].
#[derive(Debug)]
pub struct PresenceTracker {
    timeout: Duration,
    devices: IdMap<DeviceId, Seen>,
    /// One entry per online device. A message does not move it: when the entry is due, the deadline is computed again.
    deadlines: BinaryHeap<Reverse<(Instant, DeviceId)>>,
    /// The number of devices at which deleted ones are removed next.
    next_removal: usize,
}

#[derive(Debug)]
struct Seen {
    home: HomeId,
    online: bool,
    last_sign: Instant,
    last_written: Option<Instant>,
    /// When the last message was received. `last_sign` moves without a message after an outage of the link.
    last_message: Option<DateTime<Utc>>,
    announced_offline: bool,
    /// Whether the device has an entry in `deadlines`: never two.
    has_deadline: bool,
}

impl PresenceTracker {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, devices: IdMap::default(), deadlines: BinaryHeap::new(), next_removal: MIN_REMOVAL }
    }

    /// Adds a device that is online in the database, with the full time-out.
    pub fn expect(&mut self, known: ResolvedDevice, now: Instant) {
        self.devices.entry(known.device).or_insert_with(|| Seen::new(known, now));
        self.watch(known.device, now);
    }

    /// Applies an event of a device; `at` is when its message was received.
    pub fn observe(
        &mut self,
        known: ResolvedDevice,
        event: PresenceEvent,
        now: Instant,
        at: DateTime<Utc>,
    ) -> PresenceChange {
        let seen = self.devices.entry(known.device).or_insert_with(|| Seen::new(known, now));
        let online = event == PresenceEvent::Seen;
        let online_changed = seen.online != online;
        let silent_since = seen.last_message;
        let came_back = online && seen.announced_offline;
        seen.announced_offline = !online;
        if online {
            (seen.last_sign, seen.last_message) = (now, Some(at));
        }
        seen.online = online;
        let write_due =
            online_changed || (online && seen.last_written.is_none_or(|at| now.duration_since(at) >= WRITE_EVERY));
        if write_due {
            seen.last_written = Some(now);
        }
        if online && !seen.has_deadline {
            self.watch(known.device, now);
        }
        PresenceChange { online, online_changed, write_due, came_back, silent_since }
    }

    /// The offline devices, when it is time to ask the database which devices have been deleted. A deleted device that
    /// was online goes offline at its deadline. Then call [`PresenceTracker::remove`].
    pub fn removal_candidates(&self) -> Option<HashSet<DeviceId>> {
        let offline = || self.devices.iter().filter(|(_, seen)| !seen.online).map(|(device, _)| *device).collect();
        (self.devices.len() >= self.next_removal).then(offline)
    }

    /// Removes deleted devices. The next check is due when the number of devices has doubled, so its cost is constant
    /// for each new device.
    pub fn remove(&mut self, deleted: &HashSet<DeviceId>) {
        self.devices.retain(|device, _| !deleted.contains(device));
        self.next_removal = (2 * self.devices.len()).max(MIN_REMOVAL);
    }

    fn watch(&mut self, device: DeviceId, now: Instant) {
        if let Some(seen) = self.devices.get_mut(&device).filter(|seen| !seen.has_deadline) {
            seen.has_deadline = true;
            self.deadlines.push(Reverse((now + self.timeout, device)));
        }
    }

    /// A device without a message for this long is offline.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the device is online: as tracked, else by the database.
    pub fn is_online(&self, known: ResolvedDevice) -> bool {
        self.devices.get(&known.device).map_or(known.online, |seen| seen.online)
    }

    /// Whether the device has ever sent a message: since the start, else by the database.
    pub fn is_seen(&self, known: ResolvedDevice) -> bool {
        known.seen || self.devices.contains_key(&known.device)
    }

    /// When [`PresenceTracker::expired`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// At most `limit` devices that have missed their deadline; from now on they are offline. The others stay due.
    pub fn expired(&mut self, now: Instant, limit: usize) -> Vec<(HomeId, DeviceId)> {
        let mut expired = Vec::new();
        for _ in 0..MAX_CHECKED {
            let Some(Reverse((at, device))) = self.deadlines.peek().copied() else { break };
            if at > now || expired.len() == limit {
                break;
            }
            self.deadlines.pop();
            let Some(seen) = self.devices.get_mut(&device) else { continue };
            seen.has_deadline = false;
            let deadline = seen.last_sign + self.timeout;
            if seen.online && deadline > now {
                seen.has_deadline = true;
                self.deadlines.push(Reverse((deadline, device)));
            } else if seen.online {
                seen.online = false;
                expired.push((seen.home, device));
            }
        }
        expired
    }

    /// The database has refused to take a device for offline: another server has heard it. It has another time-out, because
    /// the other server may have ended since.
    pub fn rearm(&mut self, device: DeviceId, now: Instant) {
        if let Some(seen) = self.devices.get_mut(&device) {
            (seen.online, seen.last_sign) = (true, now);
            self.watch(device, now);
        }
    }

    /// The link to the broker was down: every online device gets the full time-out again.
    pub fn restart(&mut self, now: Instant) {
        self.deadlines.clear();
        for (device, seen) in &mut self.devices {
            seen.has_deadline = seen.online;
            if seen.online {
                seen.last_sign = now;
                self.deadlines.push(Reverse((now + self.timeout, *device)));
            }
        }
    }
}

impl Seen {
    fn new(known: ResolvedDevice, now: Instant) -> Self {
        Self {
            home: known.home,
            online: known.online,
            last_sign: now,
            last_written: None,
            last_message: None,
            announced_offline: known.announced_offline,
            has_deadline: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(150);
    const AT: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn known(id: i64) -> ResolvedDevice {
        let online = ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(id));
        ResolvedDevice { online: false, ..online }
    }

    #[test]
    fn a_silent_device_goes_offline_once_and_a_sending_one_does_not() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        assert!(presence.observe(known(1), PresenceEvent::Seen, start, AT).online_changed);
        presence.observe(known(2), PresenceEvent::Seen, start, AT);
        presence.observe(known(2), PresenceEvent::Seen, start + TIMEOUT / 2, AT);
        let offline = presence.expired(start + TIMEOUT, 9);
        assert_eq!(offline, [(HomeId::from_database(1), DeviceId::from_database(1))]);
        assert_eq!(presence.expired(start + TIMEOUT, 9), []);
        assert_eq!(presence.next_deadline(), Some(start + TIMEOUT / 2 + TIMEOUT));
        assert!(presence.observe(known(1), PresenceEvent::Seen, start + TIMEOUT, AT).online_changed);
    }

    #[test]
    fn only_some_of_the_due_devices_go_offline_and_a_message_keeps_another_online() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        for id in 1..=5 {
            presence.observe(known(id), PresenceEvent::Seen, start, AT);
        }
        let ids = |expired: Vec<(HomeId, DeviceId)>| expired.iter().map(|(_, device)| device.get()).collect::<Vec<_>>();
        assert_eq!(ids(presence.expired(start + TIMEOUT, 2)), [1, 2]);
        assert_eq!(presence.next_deadline(), Some(start + TIMEOUT), "the others are due");
        assert!(!presence.observe(known(3), PresenceEvent::Seen, start + TIMEOUT, AT).online_changed);
        assert_eq!(ids(presence.expired(start + TIMEOUT, 2)), [4, 5]);
        assert_eq!(presence.next_deadline(), Some(start + TIMEOUT * 2));
    }

    #[test]
    fn last_seen_is_written_at_most_every_ten_seconds() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        let due = |presence: &mut PresenceTracker, s| {
            presence.observe(known(1), PresenceEvent::Seen, start + Duration::from_secs(s), AT).write_due
        };
        assert_eq!([0, 1, 9, 10, 11, 20].map(|s| due(&mut presence, s)), [true, false, false, true, false, true]);
    }

    #[test]
    fn an_offline_status_changes_presence_once() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        presence.observe(known(1), PresenceEvent::Seen, start, AT);
        let gone = presence.observe(known(1), PresenceEvent::Offline, start, AT);
        let silent_since = Some(AT);
        let expected =
            PresenceChange { online: false, online_changed: true, write_due: true, came_back: false, silent_since };
        assert_eq!(gone, expected);
        assert!(!presence.observe(known(1), PresenceEvent::Offline, start, AT).write_due);
        assert_eq!(presence.expired(start + TIMEOUT * 2, 9), []);
        assert!(presence.observe(known(1), PresenceEvent::Seen, start, AT).came_back);
        assert!(!presence.observe(known(1), PresenceEvent::Seen, start, AT).came_back);
        let known = ResolvedDevice { announced_offline: true, ..known(2) };
        assert!(presence.observe(known, PresenceEvent::Seen, start, AT).came_back, "before the start");
    }

    #[test]
    fn a_device_that_another_server_heard_has_another_time_out_and_its_next_message_is_no_news() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        presence.observe(known(1), PresenceEvent::Seen, start, AT);
        assert_eq!(presence.expired(start + TIMEOUT, 9).len(), 1);
        presence.rearm(known(1).device, start + TIMEOUT);
        assert_eq!(presence.expired(start + TIMEOUT * 2 - Duration::from_secs(1), 9), []);
        assert!(!presence.observe(known(1), PresenceEvent::Seen, start + TIMEOUT, AT).online_changed);
        assert_eq!(presence.expired(start + TIMEOUT * 2, 9).len(), 1);
    }

    #[test]
    fn after_an_outage_of_the_link_every_deadline_starts_again() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        presence.expect(ResolvedDevice { online: true, ..known(1) }, start);
        presence.restart(start + TIMEOUT);
        assert_eq!(presence.expired(start + TIMEOUT, 9), []);
        assert_eq!(presence.expired(start + TIMEOUT * 2, 9).len(), 1);
    }

    #[test]
    fn deleted_devices_are_removed_when_the_number_of_devices_has_doubled() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        let n = i64::try_from(MIN_REMOVAL).unwrap();
        for id in 1..n {
            presence.observe(known(id), PresenceEvent::Seen, start, AT);
        }
        assert_eq!(presence.removal_candidates(), None, "too few devices");
        presence.observe(known(1), PresenceEvent::Offline, start, AT);
        presence.observe(known(n), PresenceEvent::Offline, start, AT);
        let offline = presence.removal_candidates().unwrap();
        assert_eq!(offline, HashSet::from([known(1).device, known(n).device]));
        presence.remove(&HashSet::from([known(n).device]));
        assert_eq!((presence.devices.len(), presence.removal_candidates()), (MIN_REMOVAL - 1, None));
    }
}
