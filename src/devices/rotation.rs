//! Rotates a device's password. The old one ends at once or after a grace period.

use std::time::Duration;

use super::accounts::GeneratedPassword;
use super::credentials::{MqttCredentials, MqttUser};
use super::registry::audited;
use super::{Devices, credentials_store as store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::db;
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{DeviceId, HomeId};

/// Longest grace period of a replaced password.
pub const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Devices {
    /// Gives the device a new password; goes on when the caller stops waiting. The present one stays valid for
    /// `grace`, at most [`MAX_GRACE`]. Older ones end now, so at most two are ever valid. Needs
    /// [`Permission::Configure`].
    pub async fn rotate_credentials(
        &self,
        access: Access,
        by: &RequestContext,
        id: DeviceId,
        grace: Duration,
    ) -> Result<MqttCredentials, Error> {
        let home = access.require(Permission::Configure)?.home();
        if grace > MAX_GRACE {
            let message = format!("graceSeconds must be 0 to {}", MAX_GRACE.as_secs());
            return Err(Error::bad_input("graceSeconds", message));
        }
        let (devices, by) = (self.clone(), by.clone());
        db::run_to_completion(async move { devices.rotate(home, by, id, grace).await }).await
    }

    async fn rotate(
        &self,
        home: HomeId,
        by: RequestContext,
        id: DeviceId,
        grace: Duration,
    ) -> Result<MqttCredentials, Error> {
        let generated = GeneratedPassword::generate(1).await?.pop();
        let generated = generated.ok_or_else(|| Error::internal("no password was generated"))?;
        let (password, now, accounts) = (generated.password.clone(), self.clock.now(), self.accounts.clone());
        let rotated = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let names = store::lock_device(conn, home, id).await?.ok_or(Error::NotFound("device"))?;
                let kept = if grace.is_zero() { None } else { store::newest(conn, id, now).await? };
                let until = kept.map(|kept| kept.expires_at.map_or(now + grace, |end| end.min(now + grace)));
                store::retire(conn, id, kept.zip(until).map(|(kept, until)| (kept.id, until))).await?;
                // At a broker with one password per user, a second password takes the other user name.
                let slot = kept.filter(|_| accounts.has_one_password_per_user()).map_or(0, |kept| 1 - kept.slot);
                let user = MqttUser { home: &names.home_key, device: &names.key, slot };
                accounts.insert(conn, vec![((id, user), &generated)], now).await?;
                let details = Details::of(&id).with("graceSeconds", grace.as_secs());
                let entry = Entry::new(Action::DeviceRotateCredentials, audited(id, &names.key), details);
                audit::record(conn, &by, home, &[entry]).await?;
                Ok((names, slot))
            })
        })
        .await;
        // Also after an error: the commit may have succeeded and its answer been lost.
        self.accounts.wake();
        self.listener.device_changed(home, id);
        let (names, slot) = rotated?;
        Ok(MqttCredentials {
            username: MqttUser { home: &names.home_key, device: &names.key, slot }.to_string(),
            password,
            client_id: names.client_id,
            broker_url: self.broker_url.to_string(),
        })
    }
}
