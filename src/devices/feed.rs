//! The feed of device states: the present state of every device first, then each change. After a lag the present
//! states come again, so the last state a subscriber receives is never stale. A change costs no statement.

use std::sync::Arc;

use futures_util::Stream;

use super::{Device, DeviceFilter, DevicePage, DeviceState, Devices, RegistryEntry, StateHub};
use crate::db::MemoryBudget;
use crate::error::Error;
use crate::follow::{Feed, Followed, Page, PageRead, follow};
use crate::homes::{Access, Permission};
use crate::ids::DeviceId;
use crate::metrics::Metrics;
use crate::turns::Turns;

/// Devices read from the database at a time. A device's last status may be long, and a slow subscriber holds a
/// page.
const PAGE: i64 = 100;

/// A device and its state, as one subscriber receives it.
pub enum StateItem {
    /// Read from the database.
    Stored(Box<Device>),
    /// A change, and what the registry says of the device.
    Live(Arc<RegistryEntry>, Arc<DeviceState>),
}

impl StateItem {
    pub fn device(&self) -> DeviceId {
        match self {
            Self::Stored(device) => device.id,
            Self::Live(_, state) => state.device,
        }
    }
}

impl Devices {
    /// The devices of a home, or one of them, with their present state first and from then on with each change
    /// that `states` publishes. Needs [`Permission::Read`].
    pub fn follow(
        &self,
        states: &StateHub,
        access: Access,
        device: Option<DeviceId>,
        turns: &Turns,
        metrics: &Metrics,
    ) -> Result<impl Stream<Item = Result<Followed<StateItem>, Error>> + Send + 'static + use<>, Error> {
        let access = access.require(Permission::Read)?;
        let feed = StateFeed { devices: self.clone(), access, device };
        let receiver = states.subscribe(access.home(), device);
        Ok(follow(feed, receiver, Some(None), turns.of(access.user()), metrics))
    }
}

struct StateFeed {
    devices: Devices,
    access: Access,
    device: Option<DeviceId>,
}

impl Feed for StateFeed {
    type Event = DeviceState;
    type Item = StateItem;
    /// The last device of the page before.
    type Cursor = Option<DeviceId>;

    fn resume(&self, _: &DeviceState) -> Option<DeviceId> {
        None
    }

    fn page(&self, after: Option<DeviceId>) -> PageRead<StateItem, Option<DeviceId>> {
        let (devices, viewer, home, device) =
            (self.devices.clone(), self.access.user(), self.access.home(), self.device);
        let budget = MemoryBudget::default();
        Box::pin(async move {
            if let Some(device) = device {
                // The device as the subscriber sees it at this moment; none where it is deleted.
                let found = devices.by_ids(viewer, &[device], true, &budget).await?;
                return Ok(Page { items: found.into_iter().map(stored).collect(), next: None });
            }
            let filter = DeviceFilter::default();
            let page = DevicePage { homes: &[home], filter: &filter, after, limit: PAGE, with_reported: true };
            let items: Vec<_> = devices.page(viewer, &page, &budget).await?.into_iter().map(stored).collect();
            Ok(Page::limited(items, PAGE, |last| Some(last.device())))
        })
    }

    async fn item(&mut self, state: &Arc<DeviceState>) -> Result<Option<StateItem>, Error> {
        let entry = self.devices.registry_entry(self.access.home(), state.device).await?;
        Ok(entry.map(|entry| StateItem::Live(entry, state.clone())))
    }

    fn accept(&mut self, _: &StateItem) -> bool {
        true
    }
}

fn stored(device: Device) -> StateItem {
    StateItem::Stored(Box::new(device))
}
