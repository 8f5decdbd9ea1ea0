//! The effects that are waited for, in memory: asked with every message of every device, so whoever
//! asks only ever waits for work on what has changed, and nothing is parsed meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::command::{Command, CommandStatus};
use super::expect::{Expect, Observation};
use crate::ids::{CommandId, DeviceId};

/// Effects that are waited for at a time; the newest ones where there are more.
pub(super) const MAX_OPEN: usize = 10_000;

/// Which devices are expected to show what. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Expectations(Arc<Inner>);

#[derive(Default)]
struct Inner {
    n_open: AtomicUsize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    by_device: HashMap<DeviceId, BTreeMap<CommandId, Waiting>>,
    /// Of all devices.
    n: usize,
    /// Whether one had to be left out, and the log says so.
    was_full: bool,
}

struct Waiting {
    expect: Expect,
    dispatched_at: DateTime<Utc>,
}

impl Expectations {
    /// Whether nothing is waited for: costs next to nothing.
    pub fn is_empty(&self) -> bool {
        self.0.n_open.load(Ordering::Acquire) == 0
    }

    /// The commands of the device whose effect this message shows, of those that may have reached it
    /// before. They stay until [`Expectations::update`] is told that they have ended.
    pub fn observed(&self, device: DeviceId, message: &Observation<'_>, received_at: DateTime<Utc>) -> Vec<CommandId> {
        if self.is_empty() {
            return Vec::new();
        }
        let open = self.lock();
        let waiting = open.by_device.get(&device).into_iter().flatten();
        let shown = waiting.filter(|(_, w)| w.dispatched_at < received_at && w.expect.is_shown(message));
        shown.map(|(command, _)| *command).collect()
    }

    /// Takes in commands as they now stand: those that were handed to the link are waited for, those that
    /// have ended no longer.
    pub fn update<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        let commands = commands.into_iter().filter(|command| command.expect.is_some());
        let news: Vec<_> = commands.map(|command| (command.device, command.id, Waiting::of(command))).collect();
        if !news.is_empty() {
            self.change(|open| {
                news.into_iter().for_each(|(device, command, waiting)| open.set(device, command, waiting))
            });
        }
    }

    /// The commands that are waited for now: what [`Expectations::replace`] may take away later.
    pub(super) fn known(&self) -> HashMap<CommandId, DeviceId> {
        let list = |open: &Open| -> Vec<_> {
            let waiting = open.by_device.iter();
            waiting.flat_map(|(device, waiting)| waiting.keys().map(|command| (*command, *device))).collect()
        };
        let known = list(&self.lock());
        known.into_iter().collect()
    }

    /// Takes the database's word: of the `known` ones those that it does not name have ended. What came
    /// after they were asked for is newer than the answer and stays. Those that it does name are as they
    /// were, since neither an expectation nor its time changes.
    pub(super) fn replace(&self, known: &HashMap<CommandId, DeviceId>, commands: &[Command]) {
        let (mut named, mut news) = (HashSet::with_capacity(commands.len()), Vec::new());
        for command in commands {
            if !known.contains_key(&command.id) {
                news.push((command.device, command.id, Waiting::of(command)));
            } else if is_waited_for(command) {
                named.insert(command.id);
            }
        }
        let ended: Vec<_> = known.iter().filter(|(command, _)| !named.contains(command)).collect();
        self.change(|open| {
            ended.into_iter().for_each(|(command, device)| open.set(*device, *command, None));
            news.into_iter().for_each(|(device, command, waiting)| open.set(device, command, waiting));
        });
    }

    fn change(&self, work: impl FnOnce(&mut Open)) {
        let mut open = self.lock();
        work(&mut open);
        self.0.n_open.store(open.n, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Waits for the effect of a command, where there is room, or no longer.
    fn set(&mut self, device: DeviceId, command: CommandId, waiting: Option<Waiting>) {
        if let Some(others) = self.by_device.get_mut(&device) {
            self.n -= usize::from(others.remove(&command).is_some());
            if others.is_empty() {
                self.by_device.remove(&device);
            }
        }
        let Some(waiting) = waiting else { return };
        if self.n < MAX_OPEN {
            self.by_device.entry(device).or_default().insert(command, waiting);
            self.n += 1;
        } else if !std::mem::replace(&mut self.was_full, true) {
            tracing::warn!(max = MAX_OPEN, "effects of more commands are expected than are watched for at a time");
        }
    }
}

impl Waiting {
    fn of(command: &Command) -> Option<Self> {
        let (Some(expect), Some(dispatched_at), true) =
            (&command.expect, command.dispatched_at, is_waited_for(command))
        else {
            return None;
        };
        Expect::stored(&expect.parse()).map(|expect| Self { expect, dispatched_at })
    }
}

fn is_waited_for(command: &Command) -> bool {
    let can_be_shown = command.status.is_open() || command.status == CommandStatus::TimedOut;
    can_be_shown && command.expect.is_some() && command.dispatched_at.is_some()
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

    /// A command that expects the relay to be on.
    fn command(id: usize, of: usize) -> Command {
        Command {
            id: format!("cmd_{id:026}").parse().unwrap(),
            seq: 1,
            home: HomeId::from_database(1),
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

    fn shown(expectations: &Expectations, of: usize) -> Vec<CommandId> {
        let message = json!({"relay": "on"});
        expectations.observed(device(of), &Observation::status(&message), AT + TimeDelta::seconds(1))
    }

    /// The count is what is there.
    fn n(expectations: &Expectations) -> usize {
        let n = expectations.known().len();
        assert_eq!(expectations.0.n_open.load(Ordering::Acquire), n);
        assert_eq!(expectations.lock().n, n);
        n
    }

    #[test]
    fn what_has_ended_is_not_waited_for() {
        let expectations = Expectations::default();
        let not_handed = Command { dispatched_at: None, ..command(3, 1) };
        expectations.update(&[command(1, 1), command(2, 1), not_handed, ended(4, 1), command(5, 2)]);
        expectations.update(&[command(2, 1), Command { status: CommandStatus::TimedOut, ..command(5, 2) }]);
        assert_eq!((n(&expectations), shown(&expectations, 1)), (3, vec![command(1, 1).id, command(2, 1).id]));
        expectations.update(&[ended(1, 1), ended(2, 1), ended(9, 9)]);
        assert_eq!((n(&expectations), shown(&expectations, 1), shown(&expectations, 2).len()), (1, vec![], 1));
        expectations.update(&[ended(5, 2)]);
        assert!(n(&expectations) == 0 && expectations.is_empty());
    }

    #[test]
    fn the_word_of_the_database_is_older_than_what_came_after_the_question() {
        let expectations = Expectations::default();
        expectations.update(&[command(1, 1), command(2, 1), command(3, 2)]);
        let known = expectations.known();
        expectations.update(&[ended(2, 1), command(4, 1)]);
        expectations.replace(&known, &[command(1, 1), command(2, 1), command(5, 3)]);
        assert_eq!(shown(&expectations, 1), [command(1, 1).id, command(4, 1).id]);
        assert_eq!((n(&expectations), shown(&expectations, 2), shown(&expectations, 3).len()), (3, vec![], 1));
    }

    #[test]
    fn the_bound_holds_and_makes_room_for_the_newest() {
        let expectations = Expectations::default();
        let all: Vec<_> = (0..=MAX_OPEN).map(|id| command(id, id % 7)).collect();
        expectations.update(&all);
        assert_eq!(n(&expectations), MAX_OPEN);
        assert!(expectations.lock().was_full);
        // One that is there may come again, and the newest takes the place of the oldest.
        expectations.update(&all[..1]);
        assert_eq!(n(&expectations), MAX_OPEN);
        expectations.replace(&expectations.known(), &all[1..]);
        assert_eq!(n(&expectations), MAX_OPEN);
        assert!(!expectations.known().contains_key(&all[0].id) && expectations.known().contains_key(&all[MAX_OPEN].id));
    }
}
