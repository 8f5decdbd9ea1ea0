//! Who is present: judged from status, heartbeat and any other sign of life, with a deadline per
//! device. While our own link to the broker is down nobody is judged; afterwards every deadline
//! starts anew.
//!
//! Owned by the writer alone, so that a device's messages and its deadline are one order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use super::directory::ResolvedDevice;
use crate::ids::{DeviceId, HomeId};

/// A sign of life is written at most this often, unless something else is to be written too.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// What a message says of the device's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceEvent {
    /// It spoke: it is there.
    Seen,
    /// It, or its Last Will, says that it is gone.
    Goodbye,
}

/// What is to be written of a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceChange {
    /// The device's presence now.
    pub online: bool,
    /// Whether that is news.
    pub online_changed: bool,
    /// Whether the sign of life is due to be written.
    pub write_due: bool,
}

/// Every device heard of since the start.
#[derive(Debug)]
pub struct PresenceTracker {
    timeout: Duration,
    devices: HashMap<DeviceId, Seen>,
    /// One entry per online device; looked at again when it is due, not moved at each message.
    deadlines: BinaryHeap<Reverse<(Instant, DeviceId)>>,
}

#[derive(Debug)]
struct Seen {
    home: HomeId,
    online: bool,
    last_sign: Instant,
    last_written: Option<Instant>,
    /// Whether an entry of `deadlines` is his: never two.
    has_deadline: bool,
}

impl PresenceTracker {
    /// Nobody is known yet.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, devices: HashMap::new(), deadlines: BinaryHeap::new() }
    }

    /// A device that the database knows as online: it gets the whole time-out to speak.
    pub fn expect(&mut self, known: ResolvedDevice, now: Instant) {
        self.devices.entry(known.device).or_insert_with(|| Seen::new(known, now));
        self.watch(known.device, now);
    }

    /// Takes a sign of a device.
    pub fn observe(&mut self, known: ResolvedDevice, event: PresenceEvent, now: Instant) -> PresenceChange {
        let seen = self.devices.entry(known.device).or_insert_with(|| Seen::new(known, now));
        let online = event == PresenceEvent::Seen;
        let online_changed = seen.online != online;
        if online {
            seen.last_sign = now;
        }
        seen.online = online;
        let write_due =
            online_changed || (online && seen.last_written.is_none_or(|at| now.duration_since(at) >= WRITE_EVERY));
        if write_due {
            seen.last_written = Some(now);
        }
        if online {
            self.watch(known.device, now);
        }
        PresenceChange { online, online_changed, write_due }
    }

    fn watch(&mut self, device: DeviceId, now: Instant) {
        if let Some(seen) = self.devices.get_mut(&device).filter(|seen| !seen.has_deadline) {
            seen.has_deadline = true;
            self.deadlines.push(Reverse((now + self.timeout, device)));
        }
    }

    /// Silence after which a device counts as offline.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether the device counts as present: as we judged it, or as the database knew it.
    pub fn is_online(&self, known: ResolvedDevice) -> bool {
        self.devices.get(&known.device).map_or(known.online, |seen| seen.online)
    }

    /// When the next deadline is to be looked at.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// Devices whose time ran out; from now on they count as offline.
    pub fn expired(&mut self, now: Instant) -> Vec<(HomeId, DeviceId)> {
        let mut expired = Vec::new();
        while let Some(Reverse((at, device))) = self.deadlines.peek().copied() {
            if at > now {
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

    /// Our own link was down: silence until now says nothing of anybody.
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
        Self { home: known.home, online: known.online, last_sign: now, last_written: None, has_deadline: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(150);

    fn known(id: i64) -> ResolvedDevice {
        ResolvedDevice {
            home: HomeId::from_database(1),
            device: DeviceId::from_database(id),
            online: false,
            quiet_since: None,
        }
    }

    #[test]
    fn a_silent_device_goes_offline_once_and_a_speaking_one_does_not() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        assert!(presence.observe(known(1), PresenceEvent::Seen, start).online_changed);
        presence.observe(known(2), PresenceEvent::Seen, start);
        presence.observe(known(2), PresenceEvent::Seen, start + TIMEOUT / 2);
        let offline = presence.expired(start + TIMEOUT);
        assert_eq!(offline, [(HomeId::from_database(1), DeviceId::from_database(1))]);
        assert_eq!(presence.expired(start + TIMEOUT), []);
        assert_eq!(presence.next_deadline(), Some(start + TIMEOUT / 2 + TIMEOUT));
        assert!(presence.observe(known(1), PresenceEvent::Seen, start + TIMEOUT).online_changed);
    }

    #[test]
    fn a_sign_of_life_is_written_at_most_every_ten_seconds() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        let due = |presence: &mut PresenceTracker, s| {
            presence.observe(known(1), PresenceEvent::Seen, start + Duration::from_secs(s)).write_due
        };
        assert_eq!([0, 1, 9, 10, 11, 20].map(|s| due(&mut presence, s)), [true, false, false, true, false, true]);
    }

    #[test]
    fn a_will_is_news_and_no_sign_of_life() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        presence.observe(known(1), PresenceEvent::Seen, start);
        let gone = presence.observe(known(1), PresenceEvent::Goodbye, start);
        assert_eq!(gone, PresenceChange { online: false, online_changed: true, write_due: true });
        assert!(!presence.observe(known(1), PresenceEvent::Goodbye, start).write_due);
        assert_eq!(presence.expired(start + TIMEOUT * 2), []);
    }

    #[test]
    fn after_our_own_outage_every_deadline_starts_anew() {
        let start = Instant::now();
        let mut presence = PresenceTracker::new(TIMEOUT);
        presence.expect(ResolvedDevice { online: true, ..known(1) }, start);
        presence.restart(start + TIMEOUT);
        assert_eq!(presence.expired(start + TIMEOUT), []);
        assert_eq!(presence.expired(start + TIMEOUT * 2).len(), 1);
    }
}
