//! What ingest tells the dispatcher of devices: which came back, and which sent something while a command of theirs has no
//! subscriber. Hints only: the rows decide which commands are sent again (`sql/requeue_missed.sql`), and a device without
//! subscribers is tried again in any case (`sql/update_queue.sql`).

use std::collections::HashSet;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};

use diesel::QueryResult;

use super::requeue_store;
use crate::db;
use crate::ids::DeviceId;

/// How often a command is sent again because its device came back.
pub(super) const MAX_RESENDS: i16 = 3;
/// Devices that one statement looks at.
const PER_STATEMENT: usize = 512;
/// Devices remembered one by one. With more, the dispatcher looks at every device with a sent command.
const MAX_DEVICES: usize = 65_536;

/// Filled by ingest, emptied by the dispatcher of commands. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReturnedDevices {
    returned: Arc<Mutex<Returned>>,
    awaited: AwaitedDevices,
}

/// The devices of this server's last attempts without subscribers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct AwaitedDevices(Arc<Mutex<Awaited>>);

#[derive(Debug, Default)]
struct Awaited {
    silent: HashSet<DeviceId>,
    /// They have sent something since.
    active: Vec<DeviceId>,
}

/// Devices that the dispatcher has not looked at yet.
pub(super) struct Unhandled {
    returned: ReturnedDevices,
    /// Taken from `returned`: kept here until a statement about them has succeeded.
    taken: Returned,
}

/// A set of devices.
#[derive(Debug, PartialEq, Eq)]
enum Returned {
    These(HashSet<DeviceId>),
    /// Those that came back before, and perhaps others that are not known.
    Unknown,
}

impl ReturnedDevices {
    /// For the start of a server: an earlier one may have stopped before it looked at devices that had come back.
    pub fn unknown() -> Self {
        Self { returned: Arc::new(Mutex::new(Returned::Unknown)), awaited: AwaitedDevices::default() }
    }

    pub fn none() -> Self {
        Self { returned: Arc::default(), awaited: AwaitedDevices::default() }
    }

    /// Adds devices whose return is committed.
    pub fn add(&self, devices: impl IntoIterator<Item = DeviceId>) {
        self.lock().extend(devices);
    }

    fn take(&self) -> Returned {
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Returned> {
        self.returned.lock().expect("returned devices lock")
    }

    /// Reports devices that have sent something. Returns whether the dispatcher awaits one of them.
    pub fn report_active(&self, devices: impl IntoIterator<Item = DeviceId>) -> bool {
        self.awaited.report_active(devices)
    }

    pub(super) fn awaited(&self) -> AwaitedDevices {
        self.awaited.clone()
    }
}

impl AwaitedDevices {
    /// With more than the bound the others are forgotten, of which some may never send anything again: they are tried
    /// again after their pause only.
    pub(super) fn add(&self, devices: impl IntoIterator<Item = DeviceId>) {
        let silent = &mut self.lock().silent;
        if silent.len() >= MAX_DEVICES {
            silent.clear();
        }
        silent.extend(devices);
    }

    /// Those that became active since the last call.
    pub(super) fn take_active(&self) -> Vec<DeviceId> {
        mem::take(&mut self.lock().active)
    }

    fn report_active(&self, devices: impl IntoIterator<Item = DeviceId>) -> bool {
        let mut awaited = self.lock();
        let Awaited { silent, active } = &mut *awaited;
        if silent.is_empty() {
            return false;
        }
        let before = active.len();
        active.extend(devices.into_iter().filter(|device| silent.remove(device)));
        active.len() > before
    }

    fn lock(&self) -> MutexGuard<'_, Awaited> {
        self.0.lock().expect("awaited devices lock")
    }
}

impl Unhandled {
    pub(super) fn new(returned: ReturnedDevices) -> Self {
        Self { returned, taken: Returned::default() }
    }

    /// Some of the devices; `None` where there are none. They stay until [`Unhandled::remove`].
    pub(super) async fn next(&mut self, conn: &mut db::Connection) -> QueryResult<Option<Vec<DeviceId>>> {
        self.taken.merge(self.returned.take());
        if self.taken == Returned::Unknown {
            let found = requeue_store::find_devices_with_sent(conn).await?;
            self.taken = Returned::These(found.into_iter().collect());
        }
        let Returned::These(devices) = &self.taken else { return Ok(None) };
        Ok((!devices.is_empty()).then(|| devices.iter().copied().take(PER_STATEMENT).collect()))
    }

    pub(super) fn remove(&mut self, devices: &[DeviceId]) {
        if let Returned::These(taken) = &mut self.taken {
            devices.iter().for_each(|device| _ = taken.remove(device));
        }
    }
}

impl Default for Returned {
    fn default() -> Self {
        Self::These(HashSet::new())
    }
}

impl Returned {
    fn extend(&mut self, devices: impl IntoIterator<Item = DeviceId>) {
        if let Self::These(known) = self {
            known.extend(devices);
            if known.len() > MAX_DEVICES {
                *self = Self::Unknown;
            }
        }
    }

    /// Adds what was taken later.
    fn merge(&mut self, later: Self) {
        match later {
            Self::These(devices) => self.extend(devices),
            Self::Unknown => *self = Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_awaited_until_it_sends_something() {
        let [one, other] = [1, 2].map(DeviceId::from_database);
        let returned = ReturnedDevices::none();
        assert!(!returned.report_active([one]));
        returned.awaited().add([one, one]);
        assert!(!returned.report_active([other]));
        assert!(returned.report_active([other, one]) && !returned.report_active([one]));
        assert_eq!((returned.awaited().take_active(), returned.awaited().take_active()), (vec![one], vec![]));
        returned.awaited().add((1..=65_536).map(DeviceId::from_database));
        returned.awaited().add([DeviceId::from_database(0)]);
        assert!(!returned.report_active([one]) && returned.report_active([DeviceId::from_database(0)]));
    }

    #[test]
    fn too_many_devices_are_not_remembered_one_by_one() {
        let returned = ReturnedDevices::none();
        let devices = |n: usize| (1..=i64::try_from(n).unwrap()).map(DeviceId::from_database);
        returned.add(devices(2));
        returned.add(devices(1));
        let mut taken = returned.take();
        assert_eq!(taken, Returned::These(devices(2).collect()));
        assert_eq!(returned.take(), Returned::default());
        returned.add(devices(MAX_DEVICES));
        taken.merge(returned.take());
        assert_eq!(taken, Returned::These(devices(MAX_DEVICES).collect()));
        taken.extend([DeviceId::from_database(0)]);
        assert_eq!(taken, Returned::Unknown);
        taken.merge(Returned::default());
        assert_eq!(taken, Returned::Unknown);
    }
}
