//! Authentication and authorization of the embedded broker.
//!
//! Anonymous: every client on this machine may do everything, as the examples of the device protocol expect.
//! Accounts: the server's account, and devices as `{home key}/{device key}` with their own topics. Each device is bound
//! to its client id, because a client with the same id would take over its session. The server may use any client id: it
//! ends the sessions of deleted devices. Devices whose password is revoked are disconnected.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::{AuthProvider, AuthResult};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::types::ReasonCode;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::devices::{Logins, MqttUser, password_digest};
use crate::mqtt::acl::{BrokerClient, TopicAction, is_allowed, uplink_device};
use crate::settings::Secret;

/// The account our own server uses.
pub const SERVER_USER: &str = "smarthome_backend";
/// How often the passwords of connected devices are checked again.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Longest time from the check of a password until the broker reports the client as connected.
const CONNECTING: Duration = Duration::from_secs(10);

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which clients the broker accepts.
pub enum Access {
    /// Every client on the loopback.
    Anonymous,
    Accounts(Box<AccountAccess>),
}

/// The accounts of the broker.
pub struct AccountAccess {
    /// First segment of every topic.
    pub prefix: String,
    /// The server's password, new at each start.
    pub server_password: Secret,
    /// The client id of the server's account.
    pub server_client_id: String,
    /// Checks the devices' passwords.
    pub logins: Logins,
    pub connected: ConnectedDevices,
}

/// The connected devices by client id. Each check removes those that have left, so there are at most as many as the
/// broker accepts connections.
#[derive(Clone, Default)]
pub struct ConnectedDevices(Arc<Mutex<HashMap<String, ConnectedDevice>>>);

#[derive(Clone)]
struct ConnectedDevice {
    /// Digest of the password it connected with.
    digest: Vec<u8>,
    since: Instant,
}

impl ConnectedDevices {
    fn insert(&self, client_id: &str, digest: Vec<u8>) {
        let device = ConnectedDevice { digest, since: Instant::now() };
        self.0.lock().expect("devices lock").insert(client_id.to_owned(), device);
    }

    /// Disconnects devices whose password is no longer valid. Never ends.
    pub(super) async fn disconnect_revoked(self, logins: Logins, router: Arc<MessageRouter>) {
        loop {
            tokio::time::sleep(CHECK_EVERY).await;
            let devices: Vec<_> = {
                let devices = self.0.lock().expect("devices lock");
                devices.iter().map(|(id, device)| (id.clone(), device.clone())).collect()
            };
            let digests: Vec<_> = devices.iter().map(|(_, device)| device.digest.clone()).collect();
            // While the database is away, every password counts as valid.
            let Ok(valid) = logins.still_valid(&digests).await else { continue };
            let valid: HashSet<_> = valid.into_iter().collect();
            for (client_id, device) in devices {
                let is_valid = valid.contains(&device.digest);
                let is_connected = router.is_connected(&client_id).await;
                if !is_valid && is_connected {
                    router.disconnect_client(&client_id).await;
                }
                if !is_connected && device.since.elapsed() > CONNECTING {
                    let mut devices = self.0.lock().expect("devices lock");
                    // It may have connected again meanwhile.
                    if devices.get(&client_id).is_some_and(|present| present.since == device.since) {
                        devices.remove(&client_id);
                    }
                }
            }
        }
    }
}

impl AccountAccess {
    async fn authenticates(&self, connect: &ConnectPacket) -> bool {
        let (Some(name), Some(password)) = (&connect.username, &connect.password) else { return false };
        let is_servers_id = connect.client_id == self.server_client_id;
        if name == SERVER_USER {
            // Digests of a random secret: the time of the comparison reveals nothing useful.
            return Sha256::digest(password) == Sha256::digest(self.server_password.reveal());
        }
        let (Some(user), Ok(password)) = (MqttUser::parse(name), std::str::from_utf8(password)) else { return false };
        if is_servers_id {
            return false;
        }
        let accepted =
            self.logins.authenticate(user, Some(&connect.client_id), password).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "a device's password could not be checked");
                false
            });
        if accepted {
            self.connected.insert(&connect.client_id, password_digest(password));
        }
        accepted
    }

    /// The server may also delete what deleted devices retained.
    async fn server_may_publish(&self, topic: &str) -> bool {
        match uplink_device(&self.prefix, topic) {
            Some((home, device)) => self.logins.is_being_cleaned_up(home, device).await.unwrap_or(false),
            None => is_allowed(&self.prefix, BrokerClient::Server, TopicAction::Publish, topic),
        }
    }
}

impl Access {
    fn may(&self, user: Option<&str>, action: TopicAction, topic: &str) -> bool {
        let Self::Accounts(accounts) = self else { return true };
        let client = match user {
            Some(SERVER_USER) => Some(BrokerClient::Server),
            Some(user) => MqttUser::parse(user).map(BrokerClient::Device),
            None => None,
        };
        client.is_some_and(|client| is_allowed(&accounts.prefix, client, action, topic))
    }
}

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let is_accepted = match self {
                Self::Anonymous => from.ip().is_loopback(),
                Self::Accounts(accounts) => accounts.authenticates(connect).await,
            };
            if !is_accepted {
                return Ok(AuthResult::fail(ReasonCode::BadUsernameOrPassword));
            }
            Ok(connect.username.as_deref().map_or_else(AuthResult::success, AuthResult::success_with_user))
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            match self {
                Self::Accounts(accounts) if user == Some(SERVER_USER) => accounts.server_may_publish(topic).await,
                _ => self.may(user, TopicAction::Publish, topic),
            }
        })
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, user: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.may(user, TopicAction::Subscribe, filter) })
    }
}
