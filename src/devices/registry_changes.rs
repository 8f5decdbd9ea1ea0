//! When the registry last changed on this server, for each home. So a change in one home leaves what is known of others
//! usable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RegistryListener;
use crate::ids::{DeviceId, HomeId};

/// Homes are in one group if their ids have the same remainder modulo this number: a change in one of them counts for all.
const HOME_GROUPS: usize = 4_096;

/// Numbers the changes. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct RegistryChanges(Arc<Changes>);

#[derive(Debug)]
struct Changes {
    count: AtomicU64,
    /// The last change of each group of homes.
    last_in: Box<[AtomicU64]>,
}

impl Default for Changes {
    fn default() -> Self {
        let last_in = (0..HOME_GROUPS).map(|_| AtomicU64::default()).collect();
        Self { count: AtomicU64::default(), last_in }
    }
}

impl RegistryChanges {
    /// The number of the last change. Read it before the database: an answer is outdated once
    /// [`RegistryChanges::last_of`] is higher.
    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }

    /// The number of the last change in a home.
    pub(super) fn last_of(&self, home: HomeId) -> u64 {
        self.in_group(home).load(Ordering::Acquire)
    }

    fn in_group(&self, home: HomeId) -> &AtomicU64 {
        let group = home.get().unsigned_abs() % HOME_GROUPS as u64;
        &self.0.last_in[usize::try_from(group).expect("a small number")]
    }

    fn change(&self, home: HomeId) {
        let number = self.0.count.fetch_add(1, Ordering::AcqRel) + 1;
        self.in_group(home).fetch_max(number, Ordering::AcqRel);
    }
}

impl RegistryListener for RegistryChanges {
    fn device_changed(&self, home: HomeId, _: DeviceId) {
        self.change(home);
    }

    fn home_changed(&self, home: HomeId) {
        self.change(home);
    }
}
