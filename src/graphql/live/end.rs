//! The end of a subscription: its device is deleted, or its viewer loses rights in the home.

use std::future::pending;

use super::super::Services;
use super::target::SubscriptionTarget;
use crate::db::{MemoryBudget, spawn_and_join};
use crate::devices::Devices;
use crate::hub::HubEvent;

/// Resolves when the subscription must end. Watches from the moment of this call: a check of the database after
/// it covers what happened before.
pub(super) fn end_of_subscription(
    services: &Services,
    target: SubscriptionTarget,
) -> impl Future<Output = ()> + Send + 'static {
    let deleted = device_deleted(&services.devices, target);
    let watch = services.revocations.watch_membership(target.access.user(), target.home());
    async move {
        tokio::select! {
            () = watch.revoked() => {}
            () = deleted => {}
        }
    }
}

/// Resolves when the device is deleted. Never resolves for a whole home: the home's own hub closes.
fn device_deleted(devices: &Devices, target: SubscriptionTarget) -> impl Future<Output = ()> + Send + 'static {
    let (viewer, home) = (target.access.user(), target.home());
    let watch = target.device.map(|device| (device, devices.deletions().subscribe(home), devices.clone()));
    async move {
        let Some((device, mut deletions, devices)) = watch else { return pending().await };
        loop {
            match deletions.recv().await {
                HubEvent::Published(deleted) if *deleted == device => return,
                HubEvent::Published(_) => {}
                HubEvent::Closed => return,
                // Many devices were deleted at once: ask whether this one was. An unavailable database ends
                // nothing.
                HubEvent::Lagged(_) => {
                    let devices = devices.clone();
                    let found =
                        spawn_and_join(
                            async move { devices.by_ids(viewer, &[device], &MemoryBudget::default()).await },
                        )
                        .await;
                    if found.is_ok_and(|found| found.is_empty()) {
                        return;
                    }
                }
            }
        }
    }
}
