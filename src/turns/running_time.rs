//! How long the operations of each user ran of late, as a leaky bucket.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::ids::UserId;

/// Running time of a user that is not counted as much: so much at once, and a quarter of a second in each second.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Seconds in which one second of running time is forgotten.
const FORGOTTEN_IN: u32 = 4;
/// What is remembered of a user at most, so that everybody has shared places again 18 seconds later.
const MAX_REMEMBERED: Duration = Duration::from_secs(5);
/// How long a user counts as active after an operation.
const ACTIVE_FOR: Duration = Duration::from_secs(2);
/// With more users, further ones are not counted.
const MAX_USERS: usize = 20_000;
/// Operations between two removals of users of whom everything is forgotten.
const SWEEP_EVERY: u32 = 1_024;

/// See the module.
#[derive(Default)]
pub(super) struct RunningTimes(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// When everything is forgotten.
    forgotten_at: HashMap<UserId, Instant>,
    n_operations: u32,
    /// The user of the last operation and its end, then the last one of another user.
    active: [Option<(UserId, Instant)>; 2],
}

impl RunningTimes {
    /// An operation of the user ran so long and ends now.
    pub(super) fn add(&self, user: UserId, time: Duration, now: Instant) {
        let mut table = self.lock();
        if table.active[0].is_some_and(|(last, _)| last != user) {
            table.active[1] = table.active[0];
        }
        table.active[0] = Some((user, now));
        table.n_operations = table.n_operations.wrapping_add(1);
        if table.n_operations.is_multiple_of(SWEEP_EVERY) {
            table.forgotten_at.retain(|_, at| *at > now);
        }
        if table.forgotten_at.len() >= MAX_USERS && !table.forgotten_at.contains_key(&user) {
            return;
        }
        let at = table.forgotten_at.entry(user).or_insert(now);
        *at = ((*at).max(now) + time * FORGOTTEN_IN).min(now + MAX_REMEMBERED * FORGOTTEN_IN);
    }

    /// Whether the user may have shared places: nobody else is active, or the user's operations did not run for long.
    pub(super) fn may_share(&self, user: UserId, now: Instant) -> bool {
        let table = self.lock();
        let is_long = table.forgotten_at.get(&user).is_some_and(|at| *at > now + AT_ONCE * FORGOTTEN_IN);
        let is_other = |(other, at): &(UserId, Instant)| *other != user && *at + ACTIVE_FOR > now;
        !is_long || !table.active.iter().flatten().any(is_other)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("running times lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_time_is_forgotten_slowly_and_counts_while_others_are_active() {
        let (times, mut now) = (RunningTimes::default(), Instant::now());
        let [user, other] = [1, 2].map(UserId::from_database);
        times.add(other, Duration::ZERO, now);
        times.add(user, AT_ONCE, now);
        assert!(times.may_share(user, now));
        times.add(user, Duration::from_millis(1), now);
        assert!(!times.may_share(user, now) && times.may_share(other, now));
        now += Duration::from_millis(4);
        assert!(times.may_share(user, now));
        times.add(user, Duration::from_secs(60), now);
        assert!(!times.may_share(user, now));
        now += ACTIVE_FOR;
        assert!(times.may_share(user, now), "nobody else is active");
        times.add(other, Duration::ZERO, now);
        assert!(!times.may_share(user, now));
        now += (MAX_REMEMBERED - AT_ONCE) * FORGOTTEN_IN - ACTIVE_FOR;
        times.add(other, Duration::ZERO, now);
        assert!(times.may_share(user, now), "its running time is forgotten");
    }

    #[test]
    fn the_users_that_are_remembered_are_bounded_and_forgotten() {
        let (times, mut now) = (RunningTimes::default(), Instant::now());
        for user in 0..2 * i64::try_from(MAX_USERS).unwrap() {
            times.add(UserId::from_database(user), Duration::from_secs(1), now);
        }
        assert!(times.lock().forgotten_at.len() <= MAX_USERS);
        now += MAX_REMEMBERED * FORGOTTEN_IN;
        (0..=SWEEP_EVERY).for_each(|_| times.add(UserId::from_database(1), Duration::ZERO, now));
        assert!(times.lock().forgotten_at.len() <= 1);
    }
}
