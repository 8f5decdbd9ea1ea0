//! How much one device may say, so that none takes the database from all the others.
//!
//! A device has a bucket: `burst` messages at once, filled by `per_second`. What finds it empty is *shed*:
//! acknowledged, so that the broker is rid of it and nobody waits behind it; counted on the device in the
//! batch's own transaction; not stored. It is the one thing that is acknowledged and not stored, so in
//! doubt a message is taken:
//!
//! - **Silence is saved up.** Whoever was not heard may have gathered what it now tells at once, and so
//!   may the broker, while our link, this server or the database was away: from here all of it looks the
//!   same. So silence beyond the time in which the bucket fills is kept as a *backlog*, `per_second`
//!   messages for each second of it, up to a day. A device that keeps to its rate loses nothing, however
//!   late its messages come. The backlog lapses when as much time has passed again.
//! - **What is new is no backlog.** A reading that its own device's clock calls younger than the bucket is
//!   judged by the bucket alone: what was made in that time fits into it. So a device with a clock that
//!   floods after a quiet night is stopped like any other; one without a clock may use up its night first.
//! - **A restart forgets nothing of that.** The backlog is written with the device's state; a device not yet
//!   heard of has been silent since then, or since it was last seen, or registered. The bucket is full.
//! - **While we are behind**, and messages pile up before the writer, buckets fill without end: they come
//!   late by our fault.
//! - **A goodbye is never shed**: a flood must not hide it, and a flood of goodbyes is one row of state a
//!   batch. Answers to commands and configurations have a bucket of their own, larger than all there can be
//!   to answer.
//!
//! What is shed was judged by the time of its receipt, by each server for itself: of several that share the
//! load each has its own buckets. What was committed as shed and comes again after a crash is a duplicate.
//!
//! A table of our own instead of `governor`: a backlog is more than it knows, there is one owner and so no
//! lock, and it costs one look into a map.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::devices::ResolvedDevice;
use crate::ids::DeviceId;
use crate::settings::DeviceLimit;

const SECOND_US: i64 = 1_000_000;
/// Longest silence that is saved up, in microseconds.
const MAX_BACKLOG_US: i64 = 24 * 3600 * SECOND_US;
/// A backlog holds at least so long, in microseconds: a queue of many devices takes its time.
const MIN_BACKLOG_LIFE_US: i64 = 600 * SECOND_US;
/// Answers at once: ten times the commands that may be open for a device.
const ANSWER_BURST: i64 = 1_000;
/// Answers a second in the long run.
const ANSWERS_PER_SECOND: i64 = 20;
/// Of a device's shed messages one is shown to the admins of its home in this time, in microseconds.
const SHOW_EVERY_US: i64 = 60 * SECOND_US;
/// Devices remembered before those that are at rest are forgotten.
const MAX_AT_REST: usize = 65_536;

/// The buckets of all devices heard of. Owned by the writer. Times are microseconds since 1970.
pub(super) struct Limits {
    /// `None`: nothing is limited.
    messages: Option<Bucket>,
    answers: Bucket,
    devices: HashMap<DeviceId, Meter>,
    /// When to look for devices at rest.
    forget_at: usize,
    /// Since when messages have piled up before the writer.
    behind_since: Option<i64>,
}

/// A kind of bucket.
#[derive(Clone, Copy)]
struct Bucket {
    /// Time that one message costs.
    interval: i64,
    /// Time in which it fills.
    window: i64,
}

/// What one device has left.
struct Meter {
    heard: i64,
    /// Up to when its messages are paid for: the bucket is empty where this is now.
    paid: i64,
    paid_answers: i64,
    /// Silence that may still be made up for, and until when.
    backlog: i64,
    backlog_ends: i64,
    /// When a shed message was last shown.
    shown: i64,
}

impl Bucket {
    fn new(per_second: i64, burst: i64) -> Self {
        let interval = SECOND_US / per_second;
        Self { interval, window: interval * burst }
    }

    /// Takes a message out, if there is one in it; `since` is how late what comes now may be.
    fn take(self, paid: &mut i64, now: i64, since: i64) -> bool {
        *paid = (*paid).max(since - self.window);
        let is_there = *paid + self.interval <= now;
        if is_there {
            *paid += self.interval;
        }
        is_there
    }
}

impl Limits {
    /// Nobody was heard yet.
    pub(super) fn new(limit: Option<DeviceLimit>) -> Self {
        let messages = limit.map(|limit| Bucket::new(limit.per_second.into(), limit.burst.into()));
        Self {
            messages,
            answers: Bucket::new(ANSWERS_PER_SECOND, ANSWER_BURST),
            devices: HashMap::new(),
            forget_at: MAX_AT_REST,
            behind_since: None,
        }
    }

    /// Told before each batch how many messages wait behind it, of how many that may.
    pub(super) fn waiting(&mut self, n: usize, capacity: usize, at: DateTime<Utc>) {
        if n == 0 {
            self.behind_since = None;
        } else if n >= capacity / 2 {
            self.behind_since.get_or_insert(at.timestamp_micros());
        }
    }

    /// Whether a message is to be stored; `made_at` is what its device's own clock says.
    pub(super) fn admits(&mut self, known: ResolvedDevice, at: DateTime<Utc>, made_at: Option<DateTime<Utc>>) -> bool {
        let Some(bucket) = self.messages else { return true };
        let (now, since) = self.time(at);
        let meter = self.hear(bucket, known, now);
        let is_new = made_at.is_some_and(|made| now - made.timestamp_micros() < bucket.window);
        if !is_new && meter.backlog >= bucket.interval {
            meter.backlog -= bucket.interval;
            return true;
        }
        bucket.take(&mut meter.paid, now, since)
    }

    /// Whether an answer to a command or a configuration is to be recorded.
    pub(super) fn admits_answer(&mut self, known: ResolvedDevice, at: DateTime<Utc>) -> bool {
        let Some(bucket) = self.messages else { return true };
        let ((now, since), answers) = (self.time(at), self.answers);
        answers.take(&mut self.hear(bucket, known, now).paid_answers, now, since)
    }

    /// Since when what the device may still deliver was made; `None` where it has nothing to make up for.
    pub(super) fn backlog_since(&self, device: DeviceId, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (meter, now) = (self.devices.get(&device)?, at.timestamp_micros());
        let is_held = meter.backlog > 0 && now < meter.backlog_ends;
        is_held.then(|| DateTime::from_timestamp_micros(now - meter.backlog)).flatten()
    }

    /// Whether this shed message is to be shown: one a device and minute.
    pub(super) fn shows(&mut self, device: DeviceId, at: DateTime<Utc>) -> bool {
        let Some(meter) = self.devices.get_mut(&device) else { return false };
        let now = at.timestamp_micros();
        let shows = now - meter.shown >= SHOW_EVERY_US;
        if shows {
            meter.shown = now;
        }
        shows
    }

    /// Now, and how late what comes now may be by our fault.
    fn time(&self, at: DateTime<Utc>) -> (i64, i64) {
        let now = at.timestamp_micros();
        (now, self.behind_since.map_or(now, |since| since.clamp(now - MAX_BACKLOG_US, now)))
    }

    /// The device's meter, which notes that it was heard.
    fn hear(&mut self, bucket: Bucket, known: ResolvedDevice, now: i64) -> &mut Meter {
        if self.devices.len() >= self.forget_at && !self.devices.contains_key(&known.device) {
            // Who comes back is found in the database as he is here.
            let at_rest = bucket.window.max(MIN_BACKLOG_LIFE_US);
            self.devices.retain(|_, meter| now - meter.heard < at_rest);
            self.forget_at = MAX_AT_REST.max(2 * self.devices.len());
        }
        let meter = self.devices.entry(known.device).or_insert_with(|| Meter::new(known, now));
        meter.hear(bucket.window, now);
        meter
    }
}

impl Meter {
    fn new(known: ResolvedDevice, now: i64) -> Self {
        let heard = known.quiet_since.map_or(now, |since| since.timestamp_micros().min(now));
        // As long ago as can be: the buckets are full.
        let paid = now - MAX_BACKLOG_US;
        Self { heard, paid, paid_answers: paid, backlog: 0, backlog_ends: now, shown: now - SHOW_EVERY_US }
    }

    fn hear(&mut self, window: i64, now: i64) {
        if now < self.heard {
            // The clock was set back: what is left stays what it was.
            let back = self.heard - now;
            for time in [&mut self.paid, &mut self.paid_answers, &mut self.backlog_ends, &mut self.shown] {
                *time -= back;
            }
        }
        if now >= self.backlog_ends {
            self.backlog = 0;
        }
        // What was made in the time of a full bucket fits into the bucket.
        let silence = (now - self.heard - window).min(MAX_BACKLOG_US);
        if silence > self.backlog {
            (self.backlog, self.backlog_ends) = (silence, now + silence.max(MIN_BACKLOG_LIFE_US));
        }
        self.heard = now;
    }
}

#[cfg(test)]
mod tests;
