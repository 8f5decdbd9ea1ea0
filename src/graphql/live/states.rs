//! The states of devices: the present ones first, then every change. A reader that falls behind gets
//! the present ones again, so the last it saw is never stale.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;

use super::super::Services;
use super::super::devices::Device;
use super::super::error::Result;
use super::SubscriptionTarget;
use crate::db::{MemoryBudget, spawn_and_join};
use crate::devices::{self, DeviceFilter, DeviceState};
use crate::hub::{HubEvent, HubReceiver};
use crate::ids::{DeviceId, UserId};

/// Devices read at a time. What one last said of itself may be long, and a slow reader holds a page.
const PAGE: i64 = 100;

struct States<'a> {
    services: &'a Services,
    viewer: UserId,
    target: SubscriptionTarget,
    changes: HubReceiver<DeviceState>,
    present: VecDeque<devices::Device>,
    next: Next,
}

enum Next {
    /// Reading the present states, from after this device on.
    Present {
        after: Option<DeviceId>,
    },
    Changes,
    End,
}

/// Listens from the moment of this call.
pub(super) fn stream<'a>(
    services: &'a Services,
    viewer: UserId,
    target: SubscriptionTarget,
) -> impl Stream<Item = Result<Device>> + Send + 'a {
    let states = States {
        services,
        viewer,
        target,
        changes: services.states.subscribe(target.home),
        present: VecDeque::new(),
        next: Next::Present { after: None },
    };
    unfold(states, |mut states| async move {
        let item = states.next().await.transpose()?;
        if item.is_err() {
            states.next = Next::End;
        }
        Some((item, states))
    })
}

impl States<'_> {
    async fn next(&mut self) -> Result<Option<Device>> {
        loop {
            if let Some(device) = self.present.pop_front() {
                return Ok(Some(Device(Arc::new(device))));
            }
            match self.next {
                Next::End => return Ok(None),
                Next::Present { after } => self.read_present(after).await?,
                Next::Changes => match self.changes.recv().await {
                    HubEvent::Closed => return Ok(None),
                    HubEvent::Lagged(_) => self.next = Next::Present { after: None },
                    HubEvent::Published(state) if self.target.device.is_none_or(|device| device == state.device) => {
                        // Not there: deleted since, or no longer the viewer's to see.
                        if let Some(device) = self.find(state.device).await? {
                            return Ok(Some(Device(Arc::new(device.with_state(&state)))));
                        }
                    }
                    HubEvent::Published(_) => {}
                },
            }
        }
    }

    /// Not by the loader: a batch would be led by whoever came first, and wait for that one's reader.
    async fn find(&self, id: DeviceId) -> Result<Option<devices::Device>> {
        let (devices, viewer) = (self.services.devices.clone(), self.viewer);
        Ok(spawn_and_join(async move { devices.by_ids(viewer, &[id], &MemoryBudget::default()).await }).await?.pop())
    }

    async fn read_present(&mut self, after: Option<DeviceId>) -> Result<()> {
        let (devices, viewer, home) = (self.services.devices.clone(), self.viewer, self.target.home);
        let page = match self.target.device {
            Some(device) => self.find(device).await?.into_iter().collect(),
            None => {
                let page = async move {
                    let (all, held) = (DeviceFilter::default(), MemoryBudget::default());
                    devices.page(viewer, &[home], &all, after, PAGE, &held).await
                };
                spawn_and_join(page).await?
            }
        };
        let full = self.target.device.is_none() && i64::try_from(page.len()).is_ok_and(|n| n == PAGE);
        self.next = match page.last() {
            Some(last) if full => Next::Present { after: Some(last.id) },
            _ => Next::Changes,
        };
        self.present = page.into();
        Ok(())
    }
}
