//! The feed of device states: the present state of every device first, then each change. After a lag the present
//! states come again, so the last state a subscriber receives is never stale.

use std::sync::Arc;

use futures_util::Stream;

use super::{Device, DeviceFilter, DevicePage, DeviceState, Devices, StateHub};
use crate::db::{MemoryBudget, spawn_and_join};
use crate::error::Error;
use crate::follow::{Feed, Page, follow};
use crate::homes::{Access, Permission};
use crate::ids::DeviceId;
use crate::metrics::Metrics;

/// Devices read from the database at a time. A device's last status may be long, and a slow subscriber holds a
/// page.
const PAGE: i64 = 100;

impl Devices {
    /// The devices of a home, or one of them, with their present state first and from then on with each change
    /// that `states` publishes. Needs [`Permission::Read`].
    pub fn follow(
        &self,
        states: &StateHub,
        access: Access,
        device: Option<DeviceId>,
        metrics: &Metrics,
    ) -> Result<impl Stream<Item = Result<Device, Error>> + Send + 'static + use<>, Error> {
        let access = access.require(Permission::Read)?;
        let feed = StateFeed { devices: self.clone(), access, device };
        Ok(follow(feed, states.subscribe(access.home(), device), Some(None), metrics))
    }
}

struct StateFeed {
    devices: Devices,
    access: Access,
    device: Option<DeviceId>,
}

impl StateFeed {
    /// The device as the subscriber sees it at this moment; `None` where it is deleted or no longer visible.
    async fn find(&self, id: DeviceId) -> Result<Option<Device>, Error> {
        let (devices, viewer) = (self.devices.clone(), self.access.user());
        Ok(spawn_and_join(async move { devices.by_ids(viewer, &[id], &MemoryBudget::default()).await }).await?.pop())
    }
}

impl Feed for StateFeed {
    type Event = DeviceState;
    type Item = Device;
    /// The last device of the page before.
    type Cursor = Option<DeviceId>;

    fn resume(&self, _: &DeviceState) -> Option<DeviceId> {
        None
    }

    async fn page(&mut self, after: Option<DeviceId>) -> Result<Page<Device, Option<DeviceId>>, Error> {
        if let Some(device) = self.device {
            return Ok(Page { items: self.find(device).await?.into_iter().collect(), next: None });
        }
        let (devices, access) = (self.devices.clone(), self.access);
        let page = spawn_and_join(async move {
            let (homes, all, budget) = ([access.home()], DeviceFilter::default(), MemoryBudget::default());
            let page = DevicePage { homes: &homes, filter: &all, after, limit: PAGE };
            devices.page(access.user(), &page, &budget).await
        });
        Ok(Page::limited(page.await?, PAGE, |last| Some(last.id)))
    }

    async fn item(&mut self, state: &Arc<DeviceState>) -> Result<Option<Device>, Error> {
        Ok(self.find(state.device).await?.map(|device| device.with_state(state)))
    }

    fn accept(&mut self, _: &Device) -> bool {
        true
    }
}
