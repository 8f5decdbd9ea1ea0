use chrono::TimeDelta;

use super::*;
use crate::ids::HomeId;

const LIMIT: DeviceLimit = DeviceLimit { per_second: 20, burst: 200 };

fn limits() -> Limits {
    Limits::new(Some(LIMIT))
}

fn known(quiet_since: Option<DateTime<Utc>>) -> ResolvedDevice {
    ResolvedDevice { home: HomeId::from_database(1), device: DeviceId::from_database(7), online: true, quiet_since }
}

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(ms)
}

/// How many of `n` messages without a clock, one each `every` milliseconds, are taken.
fn taken(limits: &mut Limits, n: i64, from: i64, every: i64) -> usize {
    (0..n).filter(|i| limits.admits(known(None), at(from + i * every), None)).count()
}

#[test]
fn a_burst_passes_then_the_rate_and_a_neighbour_has_a_bucket_of_his_own() {
    let mut limits = limits();
    assert_eq!(taken(&mut limits, 1_000, 0, 0), 200);
    // 1,000 a second for five seconds: twenty a second of it.
    assert_eq!(taken(&mut limits, 5_000, 1_000, 1), 20 + 99);
    let neighbour = ResolvedDevice { device: DeviceId::from_database(8), ..known(None) };
    assert!(limits.admits(neighbour, at(6_000), None));
}

#[test]
fn who_keeps_to_the_rate_loses_nothing_for_ever() {
    let mut limits = limits();
    assert_eq!(taken(&mut limits, 100_000, 0, 50), 100_000);
}

#[test]
fn a_backlog_of_any_silence_is_taken_whole_and_no_more_than_that() {
    // An hour at half of what it may: 36,000 messages at once, without a clock.
    let mut limits = limits();
    assert_eq!(taken(&mut limits, 10, 0, 100), 10);
    let hour = 3_600_000;
    assert_eq!(taken(&mut limits, 36_000, hour, 0), 36_000);
    // What is left of the hour at the full rate, and then no more.
    let rest = taken(&mut limits, 100_000, hour + 1, 0);
    assert!((35_900..=36_000).contains(&rest), "{rest}");
    assert_eq!(taken(&mut limits, 100, hour + 2, 0), 0);
}

#[test]
fn a_backlog_lapses_after_as_much_time_again() {
    let mut limits = limits();
    taken(&mut limits, 1, 0, 0);
    let hour = 3_600_000;
    // Back after an hour, it speaks as usual for another hour: then it is as any other.
    assert_eq!(taken(&mut limits, 7_201, hour, 500), 7_201);
    assert_eq!(limits.backlog_since(known(None).device, at(2 * hour)), None);
    assert_eq!(taken(&mut limits, 1_000, 2 * hour + 1_000, 0), 200);
}

#[test]
fn what_its_own_clock_calls_new_is_no_backlog() {
    let mut limits = limits();
    taken(&mut limits, 1, 0, 0);
    let hour = 3_600_000;
    let mut admits = |made: i64| limits.admits(known(None), at(hour), Some(at(made)));
    assert_eq!((0..1_000).filter(|_| admits(hour)).count(), 200, "a flood");
    // Of the hour before, one a second, told at once after the new ones.
    assert_eq!((0..3_590).filter(|s| admits(s * 1_000)).count(), 3_590);
    assert!(!admits(hour));
}

#[test]
fn new_readings_come_last_in_a_queue_and_find_a_full_bucket() {
    let mut limits = limits();
    taken(&mut limits, 1, 0, 0);
    let hour = 3_600_000;
    // At the full rate, up to this moment.
    let made = (0..hour).step_by(50);
    assert!(made.into_iter().all(|made| limits.admits(known(None), at(hour), Some(at(made)))));
}

#[test]
fn a_restart_forgets_no_backlog() {
    let (mut limits, hour) = (limits(), 3_600_000);
    taken(&mut limits, 1, 0, 0);
    assert_eq!(taken(&mut limits, 20_000, hour, 0), 20_000);
    let since = limits.backlog_since(known(None).device, at(hour));
    // Killed amid the backlog; the state it wrote is what the next life looks up.
    let mut limits = self::limits();
    let n = (0..60_000).filter(|_| limits.admits(known(since), at(hour + 1_000), None)).count();
    assert_eq!(n, 51_620 + 200);
    // One that was seen a moment ago has no backlog.
    let mut limits = self::limits();
    assert_eq!((0..1_000).filter(|_| limits.admits(known(Some(at(-100))), at(0), None)).count(), 200);
}

#[test]
fn while_we_are_behind_buckets_fill_without_end() {
    let mut limits = limits();
    taken(&mut limits, 200, 0, 0);
    limits.waiting(4_096, 8_192, at(0));
    // For a minute ten a second come through, then all that waited.
    assert_eq!(taken(&mut limits, 600, 0, 100), 599);
    assert_eq!(taken(&mut limits, 600, 60_000, 0), 600);
    limits.waiting(1, 8_192, at(60_000));
    limits.waiting(0, 8_192, at(60_000));
    // A minute of silence beside a full bucket.
    assert_eq!(taken(&mut limits, 10_000, 120_000, 0), 200 + 1_000);
}

#[test]
fn answers_have_a_bucket_of_their_own() {
    let mut limits = limits();
    taken(&mut limits, 10_000, 0, 0);
    assert_eq!((0..2_000).filter(|_| limits.admits_answer(known(None), at(1))).count(), 1_000);
}

#[test]
fn a_clock_that_is_set_back_blocks_nobody() {
    let mut limits = limits();
    taken(&mut limits, 100, 3_600_000, 0);
    assert_eq!(taken(&mut limits, 1_000, 0, 0), 100, "what was left");
    assert_eq!(taken(&mut limits, 100, 50, 50), 100, "and the rate from there");
}

#[test]
fn a_shed_message_is_shown_once_a_minute() {
    let mut limits = limits();
    taken(&mut limits, 1_000, 0, 0);
    let device = known(None).device;
    assert_eq!([0, 1, 59_999, 60_000].map(|ms| limits.shows(device, at(ms))), [true, false, false, true]);
}

#[test]
fn without_a_limit_everything_passes() {
    let mut limits = Limits::new(None);
    assert_eq!(taken(&mut limits, 10_000, 0, 0), 10_000);
    assert!(limits.devices.is_empty());
}
