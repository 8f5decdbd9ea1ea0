//! The expected effects of commands, in memory. Every message of every device is compared with them, so a lookup
//! waits only for other changes of the map, never for the database or for parsing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};

use super::command::{Command, CommandStatus};
use super::expect::{Expect, Observation};
use crate::ids::{CommandId, DeviceId, HomeId};

/// Effects expected at a time. When they are full, a home with fewer takes the place of the oldest of the home with the
/// most, so no home can use up the room of others.
pub(super) const MAX_OPEN: usize = 10_000;
/// Effects expected of the devices of one home.
pub(super) const MAX_OPEN_PER_HOME: usize = 1_000;

/// The effects that are expected of devices. Cheap to clone; all clones share one map.
#[derive(Clone, Default)]
pub struct Expectations(Arc<Inner>);

#[derive(Default)]
struct Inner {
    n_open: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_device: HashMap<DeviceId, BTreeMap<CommandId, Expected>>,
    by_home: HashMap<HomeId, BTreeMap<CommandId, DeviceId>>,
    /// The homes by their number of effects.
    by_size: BTreeSet<(usize, HomeId)>,
    /// Effects of all devices.
    n: usize,
    /// Whether one had no room; logged once.
    was_full: bool,
}

/// Where a command belongs.
pub(super) type Place = (HomeId, DeviceId);

struct Expected {
    expect: Expect,
    dispatched_at: DateTime<Utc>,
}

impl Expectations {
    /// Whether no effect is expected. Takes no lock.
    pub fn is_empty(&self) -> bool {
        self.0.n_open.load(Ordering::Acquire) == 0
    }

    /// The commands of the device whose effect this message shows, among those dispatched before it. They stay
    /// until [`Expectations::update`] reports that they have ended.
    pub fn observed(&self, device: DeviceId, message: &Observation<'_>, received_at: DateTime<Utc>) -> Vec<CommandId> {
        if self.is_empty() {
            return Vec::new();
        }
        let open = self.lock();
        let of_device = open.by_device.get(&device).into_iter().flatten();
        let observed = of_device
            .filter(|(_, expected)| expected.dispatched_at < received_at && expected.expect.is_met_by(message));
        observed.map(|(command, _)| *command).collect()
    }

    /// Adds the effects of dispatched commands and removes those of ended ones.
    pub fn update<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        let commands = commands.into_iter().filter(|command| command.expect.is_some());
        let changes: Vec<_> = commands.map(|command| (place(command), command.id, Expected::of(command))).collect();
        if !changes.is_empty() {
            self.change(|open| {
                changes.into_iter().for_each(|(place, command, expected)| open.set(place, command, expected))
            });
        }
    }

    /// The commands whose effects are expected now. [`Expectations::replace`] removes no others.
    pub(super) fn open_commands(&self) -> HashMap<CommandId, Place> {
        let list = |open: &Open| -> Vec<_> {
            let of_home = |(home, commands): (&HomeId, &BTreeMap<CommandId, DeviceId>)| -> Vec<_> {
                commands.iter().map(|(command, device)| (*command, (*home, *device))).collect()
            };
            open.by_home.iter().flat_map(of_home).collect()
        };
        let commands = list(&self.lock());
        commands.into_iter().collect()
    }

    /// Applies the state of the database, read after `before` was taken from [`Expectations::open_commands`]. Of
    /// `before`, the commands that `commands` lacks have ended. A command added since is newer than the read and
    /// stays. A command in both is unchanged: neither its effect nor its time of dispatch changes.
    pub(super) fn replace(&self, before: &HashMap<CommandId, Place>, commands: &[Command]) {
        let (mut still_open, mut added) = (HashSet::with_capacity(commands.len()), Vec::new());
        for command in commands {
            if !before.contains_key(&command.id) {
                added.push((place(command), command.id, Expected::of(command)));
            } else if is_expecting(command) {
                still_open.insert(command.id);
            }
        }
        let ended: Vec<_> = before.iter().filter(|(command, _)| !still_open.contains(command)).collect();
        self.change(|open| {
            ended.into_iter().for_each(|(command, place)| open.set(*place, *command, None));
            added.into_iter().for_each(|(place, command, expected)| open.set(place, command, expected));
        });
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        let mut open = self.lock();
        change(&mut open);
        self.0.n_open.store(open.n, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().expect("expectations lock")
    }
}

impl Open {
    /// Adds or replaces the expected effect of a command, where there is room; `None` removes it.
    fn set(&mut self, place: Place, command: CommandId, expected: Option<Expected>) {
        self.remove(place, command);
        let Some(expected) = expected else { return };
        if !self.make_room(place.0) {
            if !std::mem::replace(&mut self.was_full, true) {
                tracing::warn!(
                    max = MAX_OPEN,
                    of_home = MAX_OPEN_PER_HOME,
                    "too many expected effects: the effects of some commands are not observed"
                );
            }
            return;
        }
        self.by_device.entry(place.1).or_default().insert(command, expected);
        self.change_home(place.0, |commands| commands.insert(command, place.1));
        self.n += 1;
    }

    fn remove(&mut self, (home, device): Place, command: CommandId) {
        let Some(of_device) = self.by_device.get_mut(&device) else { return };
        if of_device.remove(&command).is_none() {
            return;
        }
        if of_device.is_empty() {
            self.by_device.remove(&device);
        }
        self.change_home(home, |commands| commands.remove(&command));
        self.n -= 1;
    }

    /// Whether a home may add an effect. Removes the oldest of the home with the most if need be.
    fn make_room(&mut self, home: HomeId) -> bool {
        let n_of_home = self.by_home.get(&home).map_or(0, BTreeMap::len);
        if n_of_home >= MAX_OPEN_PER_HOME {
            return false;
        }
        if self.n < MAX_OPEN {
            return true;
        }
        let largest = self.by_size.last().filter(|(n, _)| *n > n_of_home + 1).map(|(_, largest)| *largest);
        let Some(largest) = largest else { return false };
        let oldest = self.by_home.get(&largest).and_then(BTreeMap::first_key_value);
        if let Some((command, device)) = oldest.map(|(command, device)| (*command, *device)) {
            self.remove((largest, device), command);
        }
        true
    }

    /// Changes the commands of a home and files it under its new size.
    fn change_home<T>(&mut self, home: HomeId, change: impl FnOnce(&mut BTreeMap<CommandId, DeviceId>) -> T) {
        let commands = self.by_home.entry(home).or_default();
        self.by_size.remove(&(commands.len(), home));
        change(commands);
        if commands.is_empty() {
            self.by_home.remove(&home);
        } else {
            self.by_size.insert((commands.len(), home));
        }
    }
}

fn place(command: &Command) -> Place {
    (command.home, command.device)
}

impl Expected {
    fn of(command: &Command) -> Option<Self> {
        let (Some(expect), Some(dispatched_at), true) = (&command.expect, command.dispatched_at, is_expecting(command))
        else {
            return None;
        };
        Expect::stored(&expect.parse()).map(|expect| Self { expect, dispatched_at })
    }
}

fn is_expecting(command: &Command) -> bool {
    let is_confirmable = command.status.is_open() || command.status == CommandStatus::TimedOut;
    is_confirmable && command.expect.is_some() && command.dispatched_at.is_some()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::super::command::{CommandSource, OnStale};
    use super::*;
    use crate::db::JsonText;
    use crate::ids::HomeId;

    const AT: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn device(n: usize) -> DeviceId {
        DeviceId::from_database(i64::try_from(n).unwrap())
    }

    /// A command of the only device of a home that expects the relay to be on.
    fn command(id: usize, of: usize) -> Command {
        Command {
            id: format!("cmd_{id:026}").parse().unwrap(),
            seq: 1,
            home: HomeId::from_database(i64::try_from(of).unwrap()),
            device: device(of),
            kind: "power".to_owned(),
            payload: JsonText::of(&json!({})),
            source: CommandSource::User,
            correlation_id: String::new(),
            on_stale: OnStale::Expire,
            expect: Some(JsonText::of(&json!({"relay": "on"}))),
            status: CommandStatus::Sent,
            result: None,
            error: None,
            confirmed_by: None,
            superseded_by: None,
            requested_by: None,
            timeout_seconds: 30,
            created_at: AT,
            dispatched_at: Some(AT),
            sent_at: None,
            acked_at: None,
            finished_at: None,
            expires_at: AT,
            updated_at: AT,
        }
    }

    fn ended(id: usize, of: usize) -> Command {
        Command { status: CommandStatus::Failed, ..command(id, of) }
    }

    fn observed(expectations: &Expectations, of: usize) -> Vec<CommandId> {
        let message = json!({"relay": "on"});
        expectations.observed(device(of), &Observation::status(&message), AT + TimeDelta::seconds(1))
    }

    /// The number of open commands, which the counters agree with.
    fn n(expectations: &Expectations) -> usize {
        let n = expectations.open_commands().len();
        assert_eq!(expectations.0.n_open.load(Ordering::Acquire), n);
        let open = expectations.lock();
        assert_eq!(open.n, n);
        assert_eq!(open.by_device.values().map(BTreeMap::len).sum::<usize>(), n);
        assert_eq!(open.by_size.iter().map(|(n, _)| n).sum::<usize>(), n);
        n
    }

    #[test]
    fn ended_commands_are_removed() {
        let expectations = Expectations::default();
        let not_dispatched = Command { dispatched_at: None, ..command(3, 1) };
        expectations.update(&[command(1, 1), command(2, 1), not_dispatched, ended(4, 1), command(5, 2)]);
        expectations.update(&[command(2, 1), Command { status: CommandStatus::TimedOut, ..command(5, 2) }]);
        assert_eq!((n(&expectations), observed(&expectations, 1)), (3, vec![command(1, 1).id, command(2, 1).id]));
        expectations.update(&[ended(1, 1), ended(2, 1), ended(9, 9)]);
        assert_eq!((n(&expectations), observed(&expectations, 1), observed(&expectations, 2).len()), (1, vec![], 1));
        expectations.update(&[ended(5, 2)]);
        assert!(n(&expectations) == 0 && expectations.is_empty());
    }

    #[test]
    fn commands_added_after_the_read_survive_replace() {
        let expectations = Expectations::default();
        expectations.update(&[command(1, 1), command(2, 1), command(3, 2)]);
        let before = expectations.open_commands();
        expectations.update(&[ended(2, 1), command(4, 1)]);
        expectations.replace(&before, &[command(1, 1), command(2, 1), command(5, 3)]);
        assert_eq!(observed(&expectations, 1), [command(1, 1).id, command(4, 1).id]);
        assert_eq!((n(&expectations), observed(&expectations, 2), observed(&expectations, 3).len()), (3, vec![], 1));
    }

    #[test]
    fn the_limit_holds_and_replace_keeps_the_newest() {
        let expectations = Expectations::default();
        let all: Vec<_> = (0..=MAX_OPEN).map(|id| command(id, id % 20)).collect();
        expectations.update(&all);
        assert_eq!(n(&expectations), MAX_OPEN);
        assert!(expectations.lock().was_full);
        // A command that is there can be updated, and `replace` puts the newest in place of the oldest.
        expectations.update(&all[..1]);
        assert_eq!(n(&expectations), MAX_OPEN);
        expectations.replace(&expectations.open_commands(), &all[1..]);
        assert_eq!(n(&expectations), MAX_OPEN);
        assert!(
            !expectations.open_commands().contains_key(&all[0].id)
                && expectations.open_commands().contains_key(&all[MAX_OPEN].id)
        );
    }

    #[test]
    fn homes_that_expect_the_most_make_room_for_others() {
        let expectations = Expectations::default();
        let of_home = |home: usize| {
            let open = expectations.lock();
            open.by_home.get(&HomeId::from_database(i64::try_from(home).unwrap())).map_or(0, BTreeMap::len)
        };
        let flood: Vec<_> = (0..=MAX_OPEN_PER_HOME).map(|id| command(id, 1)).collect();
        expectations.update(&flood);
        assert_eq!((n(&expectations), of_home(1)), (MAX_OPEN_PER_HOME, MAX_OPEN_PER_HOME));
        // One account may have a hundred homes.
        let more: Vec<_> = (0..2 * MAX_OPEN).map(|id| command(MAX_OPEN + id, 2 + id % 99)).collect();
        expectations.update(&more);
        assert_eq!(n(&expectations), MAX_OPEN);
        let quiet: Vec<_> = (0..50).map(|id| command(4 * MAX_OPEN + id, 500 + id % 10)).collect();
        expectations.update(&quiet);
        assert_eq!(
            (n(&expectations), (0..10).map(|id| of_home(500 + id)).collect::<Vec<_>>()),
            (MAX_OPEN, vec![5; 10])
        );
        assert!((1..=100).all(|home| (99..=101).contains(&of_home(home))), "the rest is shared equally");
        expectations.update(&[ended(4 * MAX_OPEN, 500)]);
        assert_eq!((n(&expectations), of_home(500)), (MAX_OPEN - 1, 4));
    }
}
