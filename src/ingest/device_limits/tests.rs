use chrono::TimeDelta;

use super::*;
use crate::ids::HomeId;

const LIMIT: DeviceLimit = DeviceLimit { per_second: 20, burst: 200 };

fn limits() -> DeviceLimits {
    DeviceLimits::new(Some(LIMIT))
}

fn known(backlog_since: Option<DateTime<Utc>>) -> ResolvedDevice {
    let (home, device) = (HomeId::from_database(1), DeviceId::from_database(7));
    ResolvedDevice { backlog_since, ..ResolvedDevice::online(home, device) }
}

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(ms)
}

/// How many of `n` messages without a clock, one each `every` milliseconds, are admitted.
fn n_admitted(limits: &mut DeviceLimits, n: i64, from: i64, every: i64) -> usize {
    (0..n).filter(|i| limits.admit(known(None), at(from + i * every), None)).count()
}

#[test]
fn a_burst_is_admitted_then_the_rate_and_each_device_has_its_own_bucket() {
    let mut limits = limits();
    assert_eq!(n_admitted(&mut limits, 1_000, 0, 0), 200);
    // 1,000 per second for five seconds: twenty per second of them.
    assert_eq!(n_admitted(&mut limits, 5_000, 1_000, 1), 20 + 99);
    let neighbour = ResolvedDevice { device: DeviceId::from_database(8), ..known(None) };
    assert!(limits.admit(neighbour, at(6_000), None));
}

#[test]
fn a_device_that_keeps_to_the_rate_loses_nothing() {
    let mut limits = limits();
    assert_eq!(n_admitted(&mut limits, 100_000, 0, 50), 100_000);
}

#[test]
fn the_backlog_of_a_silence_is_admitted_whole_and_nothing_beyond_it() {
    // The messages of an hour at half the rate, 36,000 of them, at once and without a clock.
    let mut limits = limits();
    assert_eq!(n_admitted(&mut limits, 10, 0, 100), 10);
    let hour = 3_600_000;
    assert_eq!(n_admitted(&mut limits, 36_000, hour, 0), 36_000);
    // The rest of an hour at the full rate, then none.
    let rest = n_admitted(&mut limits, 100_000, hour + 1, 0);
    assert!((35_900..=36_000).contains(&rest), "{rest}");
    assert_eq!(n_admitted(&mut limits, 100, hour + 2, 0), 0);
}

#[test]
fn a_credit_expires_after_as_much_time_again() {
    let mut limits = limits();
    n_admitted(&mut limits, 1, 0, 0);
    let hour = 3_600_000;
    // After an hour of silence and an hour of usual messages the device is like any other.
    assert_eq!(n_admitted(&mut limits, 7_201, hour, 500), 7_201);
    assert_eq!(limits.backlog_since(known(None).device, at(2 * hour)), None);
    assert_eq!(n_admitted(&mut limits, 1_000, 2 * hour + 1_000, 0), 200);
}

#[test]
fn new_readings_by_the_devices_clock_do_not_use_the_credit() {
    let mut limits = limits();
    n_admitted(&mut limits, 1, 0, 0);
    let hour = 3_600_000;
    let mut admit = |made: i64| limits.admit(known(None), at(hour), Some(at(made)));
    assert_eq!((0..1_000).filter(|_| admit(hour)).count(), 200, "a flood");
    // Those of the hour before, one per second, all at once after the new ones.
    assert_eq!((0..3_590).filter(|s| admit(s * 1_000)).count(), 3_590);
    assert!(!admit(hour));
}

#[test]
fn new_readings_at_the_end_of_a_backlog_find_a_full_bucket() {
    let mut limits = limits();
    n_admitted(&mut limits, 1, 0, 0);
    let hour = 3_600_000;
    // Measured at the full rate, up to this moment.
    let made = (0..hour).step_by(50);
    assert!(made.into_iter().all(|made| limits.admit(known(None), at(hour), Some(at(made)))));
}

#[test]
fn a_restart_loses_no_credit() {
    let (mut limits, hour) = (limits(), 3_600_000);
    n_admitted(&mut limits, 1, 0, 0);
    assert_eq!(n_admitted(&mut limits, 20_000, hour, 0), 20_000);
    let since = limits.backlog_since(known(None).device, at(hour));
    // Killed amid the backlog: the restarted server looks up the state that was written.
    let mut limits = self::limits();
    let n = (0..60_000).filter(|_| limits.admit(known(since), at(hour + 1_000), None)).count();
    // Beside a full bucket: what was left of the hour, a second more, without the time in which a bucket refills.
    let left = 3_590 * 20 - 20_000;
    assert_eq!(n, 200 + left + 20 - 200);
    // A device that was seen a moment ago has no credit.
    let mut limits = self::limits();
    assert_eq!((0..1_000).filter(|_| limits.admit(known(Some(at(-100))), at(0), None)).count(), 200);
}

#[test]
fn buckets_refill_without_bound_while_the_writer_is_behind() {
    let mut limits = limits();
    n_admitted(&mut limits, 200, 0, 0);
    limits.observe_queue(4_096, 8_192, at(0));
    // Ten per second get through for a minute, then the whole queue.
    assert_eq!(n_admitted(&mut limits, 600, 0, 100), 599);
    assert_eq!(n_admitted(&mut limits, 600, 60_000, 0), 600);
    limits.observe_queue(1, 8_192, at(60_000));
    limits.observe_queue(0, 8_192, at(60_000));
    // A minute of silence in addition to a full bucket.
    assert_eq!(n_admitted(&mut limits, 10_000, 120_000, 0), 200 + 1_000);
}

#[test]
fn answers_have_their_own_bucket() {
    let mut limits = limits();
    n_admitted(&mut limits, 10_000, 0, 0);
    assert_eq!((0..2_000).filter(|_| limits.admit_answer(known(None), at(1))).count(), 1_000);
}

#[test]
fn a_clock_that_is_set_back_blocks_no_device() {
    let mut limits = limits();
    n_admitted(&mut limits, 100, 3_600_000, 0);
    assert_eq!(n_admitted(&mut limits, 1_000, 0, 0), 100, "what was left");
    assert_eq!(n_admitted(&mut limits, 100, 50, 50), 100, "and the rate from there");
}

#[test]
fn one_dropped_message_per_minute_is_reported() {
    let mut limits = limits();
    n_admitted(&mut limits, 1_000, 0, 0);
    let device = known(None).device;
    assert_eq!([0, 1, 59_999, 60_000].map(|ms| limits.is_reported(device, at(ms))), [true, false, false, true]);
}

#[test]
fn without_a_limit_everything_is_admitted() {
    let mut limits = DeviceLimits::new(None);
    assert_eq!(n_admitted(&mut limits, 10_000, 0, 0), 10_000);
    assert!(limits.devices.is_empty());
}
