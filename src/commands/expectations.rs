//! The effects that are waited for, in memory: asked with every message of every device.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::command::{Command, CommandStatus};
use super::expect::{Expect, Shown};
use crate::ids::{CommandId, DeviceId};

/// Effects that are waited for at a time; the newest ones where there are more.
pub(super) const MAX_OPEN: usize = 10_000;

/// Which devices are expected to show what. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Expectations(Arc<Inner>);

#[derive(Default)]
struct Inner {
    n_open: AtomicUsize,
    open: Mutex<HashMap<DeviceId, Vec<Waiting>>>,
}

struct Waiting {
    command: CommandId,
    expect: Expect,
    handed_at: DateTime<Utc>,
}

type Open = HashMap<DeviceId, Vec<Waiting>>;

impl Expectations {
    /// Whether nothing is waited for: costs next to nothing.
    pub fn is_empty(&self) -> bool {
        self.0.n_open.load(Ordering::Acquire) == 0
    }

    /// The commands of the device whose effect this message shows, of those that may have reached it
    /// before. They stay until [`Expectations::update`] is told that they have ended.
    pub fn shown(&self, device: DeviceId, message: &Shown<'_>, received_at: DateTime<Utc>) -> Vec<CommandId> {
        if self.is_empty() {
            return Vec::new();
        }
        self.with(|open| {
            let waiting = open.get(&device).into_iter().flatten();
            let shown = waiting.filter(|w| w.handed_at < received_at && w.expect.is_shown(message));
            shown.map(|w| w.command).collect()
        })
    }

    /// Takes in commands as they now stand: those that were handed to the link are waited for, those that
    /// have ended no longer.
    pub fn update<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        self.with(|open| {
            for command in commands.into_iter().filter(|command| command.expect.is_some()) {
                remove(open, command.device, command.id);
                self.insert(open, command);
            }
        });
    }

    /// The commands that are waited for now: what [`Expectations::replace`] may take away later.
    pub(super) fn known(&self) -> HashSet<CommandId> {
        self.with(|open| open.values().flatten().map(|w| w.command).collect())
    }

    /// Takes the database's word: of the `known` ones those that it does not name have ended. What came
    /// after they were asked for is newer than the answer and stays.
    pub(super) fn replace(&self, known: &HashSet<CommandId>, commands: &[Command]) {
        self.with(|open| {
            open.retain(|_, waiting| {
                waiting.retain(|w| !known.contains(&w.command));
                !waiting.is_empty()
            });
            for command in commands {
                remove(open, command.device, command.id);
                self.insert(open, command);
            }
        });
    }

    fn insert(&self, open: &mut Open, command: &Command) {
        let can_be_shown = command.status.is_open() || command.status == CommandStatus::TimedOut;
        let (Some(expect), Some(handed_at), true) = (&command.expect, command.handed_at, can_be_shown) else { return };
        if open.values().map(Vec::len).sum::<usize>() >= MAX_OPEN {
            return;
        }
        if let Some(expect) = Expect::stored(&expect.parse()) {
            open.entry(command.device).or_default().push(Waiting { command: command.id, expect, handed_at });
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Open) -> T) -> T {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut open);
        self.0.n_open.store(open.values().map(Vec::len).sum(), Ordering::Release);
        result
    }
}

fn remove(open: &mut Open, device: DeviceId, command: CommandId) {
    if let Some(waiting) = open.get_mut(&device) {
        waiting.retain(|w| w.command != command);
        if waiting.is_empty() {
            open.remove(&device);
        }
    }
}
