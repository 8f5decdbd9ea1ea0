//! The devices that came back since the dispatcher last asked. A hint only: the rows decide which commands are sent
//! again (`sql/requeue_missed.sql`).

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
pub struct ReturnedDevices(Arc<Mutex<Returned>>);

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
        Self(Arc::new(Mutex::new(Returned::Unknown)))
    }

    pub fn none() -> Self {
        Self(Arc::new(Mutex::new(Returned::default())))
    }

    /// Adds devices whose return is committed.
    pub fn add(&self, devices: impl IntoIterator<Item = DeviceId>) {
        self.lock().extend(devices);
    }

    fn take(&self) -> Returned {
        mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Returned> {
        self.0.lock().expect("returned devices lock")
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
