//! The rate limit of each device, so that none takes the database from all the others.
//!
//! A device has a token bucket ([`Gcra`]): `burst` messages at once, refilled at `per_second`. A message over the
//! limit is dropped: acknowledged, so that nothing waits behind it at the broker; counted on the device in the
//! batch's own transaction; not stored. Only these messages are acknowledged and not stored, so in doubt a
//! message is admitted:
//!
//! - **Silence is saved up.** A silent device may have gathered messages and send them at once. So may the
//!   broker, while our link, this server or the database was down: from here all of it looks the same. So silence
//!   beyond the refill time becomes a [`BacklogCredit`], `per_second` messages for each second of it, up to a
//!   day. A device that keeps to its rate loses nothing, however late its messages arrive. The credit expires
//!   when as much time has passed again.
//! - **New readings do not use the credit.** A reading that by its device's own clock is younger than the refill
//!   time only counts against the bucket: what was measured in that time fits into it. So a device with a clock
//!   that floods after a quiet night is limited like any other; one without a clock may use up its credit first.
//! - **A restart loses no credit.** Its start is written with the device's state. A device that this server has
//!   not seen yet has been silent since then, or since it was last seen, or registered. Its bucket is full.
//! - **While the writer is behind** and messages pile up before it, buckets refill without bound: the messages
//!   are late through our own fault.
//! - **An offline status is never dropped**: a flood must not hide it, and a flood of them is one row of state per
//!   batch. Answers to commands and configurations have a bucket of their own, larger than all that a device can
//!   have to answer.
//!
//! The time of receipt decides, on each server by itself: of several servers that share the load each has its own
//! buckets. A dropped message that the broker sends again after a crash is a duplicate.
//!
//! The writer owns the buckets, so no lock is needed. A message costs one look-up in a map.

use chrono::{DateTime, Utc};

use crate::devices::ResolvedDevice;
use crate::ids::{DeviceId, IdMap};
use crate::rate::{Gcra, SECOND_US};
use crate::settings::DeviceLimit;

/// Longest silence that is saved up, in microseconds.
const MAX_CREDIT_US: i64 = 24 * 3600 * SECOND_US;
/// Shortest life of a credit, in microseconds: the backlogs of many devices take their time.
const MIN_CREDIT_LIFE_US: i64 = 600 * SECOND_US;
/// Answers at once: ten times the commands that may be open for a device.
const ANSWER_BURST: u32 = 1_000;
/// Sustained answers per second.
const ANSWERS_PER_SECOND: u32 = 20;
/// Of a device's dropped messages the admins of its home see one in this time, in microseconds.
const REPORT_INTERVAL_US: i64 = 60 * SECOND_US;
/// Devices remembered before idle ones are evicted.
const MAX_IDLE: usize = 65_536;

/// The buckets of all devices seen. Times are microseconds since 1970.
pub(super) struct DeviceLimits {
    /// `None`: nothing is limited.
    messages: Option<Gcra>,
    answers: Gcra,
    devices: IdMap<DeviceId, DeviceBucket>,
    /// Number of devices at which idle ones are evicted.
    evict_at: usize,
    /// Since when messages have piled up before the writer.
    behind_since: Option<i64>,
}

/// The state of one device.
struct DeviceBucket {
    last_seen: i64,
    /// Of its messages, see [`Gcra`].
    theoretical_arrival_time: i64,
    /// Of its answers.
    answers_theoretical_arrival_time: i64,
    backlog: BacklogCredit,
    last_report: LastReport,
}

/// When a dropped message of a device was last shown to the admins of its home, in microseconds since 1970.
#[derive(Default)]
pub(super) struct LastReport(Option<i64>);

/// Messages that a device may still send beyond its bucket, because it was silent before.
struct BacklogCredit {
    /// Microseconds of silence not yet made up for.
    remaining: i64,
    expires_at: i64,
}

impl DeviceLimits {
    pub(super) fn new(limit: Option<DeviceLimit>) -> Self {
        Self {
            messages: limit.map(|limit| Gcra::new(limit.per_second, limit.burst)),
            answers: Gcra::new(ANSWERS_PER_SECOND, ANSWER_BURST),
            devices: IdMap::default(),
            evict_at: MAX_IDLE,
            behind_since: None,
        }
    }

    /// Called before each batch with the number of messages that wait behind it. The writer is behind from a
    /// queue half full until it is empty.
    pub(super) fn observe_queue(&mut self, n: usize, capacity: usize, at: DateTime<Utc>) {
        if n == 0 {
            self.behind_since = None;
        } else if n >= capacity / 2 {
            self.behind_since.get_or_insert(at.timestamp_micros());
        }
    }

    /// Whether messages pile up before the writer, and perhaps at the broker.
    pub(super) fn is_behind(&self) -> bool {
        self.behind_since.is_some()
    }

    /// Admits a message; `measured_at` is the time of its device's own clock.
    pub(super) fn admit(
        &mut self,
        device: ResolvedDevice,
        at: DateTime<Utc>,
        measured_at: Option<DateTime<Utc>>,
    ) -> bool {
        let Some(limit) = self.messages else { return true };
        let (now, sent_after) = self.span(at);
        let bucket = self.bucket(limit, device, now);
        let is_new = measured_at.is_some_and(|measured| now - measured.timestamp_micros() < limit.refill_time());
        if !is_new && bucket.backlog.spend(limit.emission_interval()) {
            return true;
        }
        limit.admit_delayed(&mut bucket.theoretical_arrival_time, now, sent_after)
    }

    /// Admits an answer to a command or a configuration.
    pub(super) fn admit_answer(&mut self, device: ResolvedDevice, at: DateTime<Utc>) -> bool {
        let Some(limit) = self.messages else { return true };
        let ((now, sent_after), answers) = (self.span(at), self.answers);
        let bucket = self.bucket(limit, device, now);
        answers.admit_delayed(&mut bucket.answers_theoretical_arrival_time, now, sent_after)
    }

    /// Since when the device may have gathered messages that it has yet to send; `None` without a credit.
    pub(super) fn backlog_since(&self, device: DeviceId, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (bucket, now) = (self.devices.get(&device)?, at.timestamp_micros());
        DateTime::from_timestamp_micros(now - bucket.backlog.at(now)?)
    }

    /// Whether admins are to see this dropped message: one per device and minute.
    pub(super) fn is_reported(&mut self, device: DeviceId, at: DateTime<Utc>) -> bool {
        self.devices.get_mut(&device).is_some_and(|bucket| bucket.last_report.renew_if_due(at))
    }

    /// Now, and the earliest time at which a message received now may have been sent, had we not been behind.
    fn span(&self, at: DateTime<Utc>) -> (i64, i64) {
        let now = at.timestamp_micros();
        (now, self.behind_since.map_or(now, |since| since.clamp(now - MAX_CREDIT_US, now)))
    }

    /// The device's bucket, which notes that the device was seen.
    fn bucket(&mut self, limit: Gcra, device: ResolvedDevice, now: i64) -> &mut DeviceBucket {
        if self.devices.len() >= self.evict_at && !self.devices.contains_key(&device.device) {
            // An idle bucket is full, and the database knows the device's credit.
            let idle = limit.refill_time().max(MIN_CREDIT_LIFE_US);
            self.devices.retain(|_, bucket| now - bucket.last_seen < idle);
            self.evict_at = MAX_IDLE.max(2 * self.devices.len());
        }
        let bucket = self.devices.entry(device.device).or_insert_with(|| DeviceBucket::new(device, now));
        bucket.on_message(limit.refill_time(), now);
        bucket
    }
}

impl DeviceBucket {
    fn new(device: ResolvedDevice, now: i64) -> Self {
        // As early as a message may count as sent: the bucket is full.
        let never = now - MAX_CREDIT_US;
        Self {
            last_seen: device.backlog_since.map_or(now, |since| since.timestamp_micros().min(now)),
            theoretical_arrival_time: never,
            answers_theoretical_arrival_time: never,
            backlog: BacklogCredit { remaining: 0, expires_at: now },
            last_report: LastReport::default(),
        }
    }

    fn on_message(&mut self, refill_time: i64, now: i64) {
        if now < self.last_seen {
            self.set_back(self.last_seen - now);
        }
        // What was sent within the refill time fits into the bucket.
        self.backlog.on_silence(now - self.last_seen - refill_time, now);
        self.last_seen = now;
    }

    /// The clock was set back: what is left stays what it was.
    fn set_back(&mut self, by: i64) {
        for time in [
            &mut self.theoretical_arrival_time,
            &mut self.answers_theoretical_arrival_time,
            &mut self.backlog.expires_at,
        ] {
            *time -= by;
        }
        self.last_report.0 = self.last_report.0.map(|last| last - by);
    }
}

impl LastReport {
    /// Whether another message may be shown, which then counts as shown.
    pub(super) fn renew_if_due(&mut self, at: DateTime<Utc>) -> bool {
        let now = at.timestamp_micros();
        let is_due = self.0.is_none_or(|last| now - last >= REPORT_INTERVAL_US);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

impl BacklogCredit {
    /// The microseconds left at `now`.
    fn at(&self, now: i64) -> Option<i64> {
        (self.remaining > 0 && now < self.expires_at).then_some(self.remaining)
    }

    /// Pays for one message, if enough is left.
    fn spend(&mut self, emission_interval: i64) -> bool {
        let is_enough = self.remaining >= emission_interval;
        if is_enough {
            self.remaining -= emission_interval;
        }
        is_enough
    }

    /// The device was silent for so long until now: a longer silence than what is left replaces it.
    fn on_silence(&mut self, silence: i64, now: i64) {
        if now >= self.expires_at {
            self.remaining = 0;
        }
        let silence = silence.min(MAX_CREDIT_US);
        if silence > self.remaining {
            *self = Self { remaining: silence, expires_at: now + silence.max(MIN_CREDIT_LIFE_US) };
        }
    }
}

#[cfg(test)]
mod tests;
