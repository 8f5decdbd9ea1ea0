//! When a subscription is over: its device is no more, or its viewer has lost rights in its home.

use super::super::Services;
use super::SubscriptionTarget;
use crate::db::{MemoryBudget, spawn_and_join};
use crate::devices::Devices;
use crate::hub::HubEvent;
use crate::ids::UserId;

/// Listens from the moment of this call; what has happened before it is to be asked of the database
/// after it.
pub(super) fn end_of_subscription(
    services: &Services,
    viewer: UserId,
    target: SubscriptionTarget,
) -> impl Future<Output = ()> + Send + 'static {
    let deleted = deleted(&services.devices, viewer, target);
    let watch = services.revocations.watch_membership(viewer, target.home);
    async move {
        tokio::select! {
            () = watch.revoked() => {}
            () = deleted => {}
        }
    }
}

/// Ends once the device is deleted; for a whole home it never does, because the home's own hub closes.
fn deleted(devices: &Devices, viewer: UserId, target: SubscriptionTarget) -> impl Future<Output = ()> + Send + 'static {
    let watch = target.device.map(|device| (device, devices.deletions().subscribe(target.home), devices.clone()));
    async move {
        let Some((device, mut deletions, devices)) = watch else { return std::future::pending().await };
        loop {
            match deletions.recv().await {
                HubEvent::Published(gone) if *gone == device => return,
                HubEvent::Published(_) => {}
                HubEvent::Closed => return,
                // Many went at once: ask whether ours did. A database that is away ends nothing.
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
