//! Who may enter the embedded broker, and which topics are theirs.
//!
//! Open: whoever is on this machine may do everything, as the guide's commands expect. Closed: the
//! server's account, and devices as {home key}/{device key} with their own topics, nothing else.
//! Each comes in under its own client id alone: whoever uses another's throws it out, and its session
//! with it.

use std::net::SocketAddr;
use std::pin::Pin;

use mqtt5::broker::{AuthProvider, AuthResult};
use mqtt5::packet::connect::ConnectPacket;
use mqtt5::types::ReasonCode;
use sha2::{Digest, Sha256};

use super::store::Credentials;
use crate::devices::mqtt_client_id;
use crate::settings::Secret;

/// The account our own server uses.
pub const SERVER_USER: &str = "smarthome_backend";
/// What a device may say, and what it may hear.
const UP: [&str; 4] = ["telemetry", "status", "heartbeat", "ack"];
const DOWN: [&str; 2] = ["commands", "config"];

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The door.
pub enum Access {
    /// Anybody on the loopback.
    Open,
    /// Accounts only.
    Closed {
        /// First segment of every topic.
        prefix: String,
        /// The server's own password, made at each start.
        server_password: Secret,
        /// The server's client id, nobody else's.
        server_client_id: String,
        /// The devices' passwords.
        credentials: Credentials,
    },
}

impl Access {
    async fn may_enter(&self, connect: &ConnectPacket, from: SocketAddr) -> bool {
        let (server_password, server_client_id, credentials) = match self {
            Self::Open => return from.ip().is_loopback(),
            Self::Closed { server_password, server_client_id, credentials, .. } => {
                (server_password, server_client_id, credentials)
            }
        };
        let (Some(name), Some(password)) = (&connect.username, &connect.password) else { return false };
        let is_servers_id = connect.client_id == *server_client_id;
        let given: [u8; 32] = Sha256::digest(password).into();
        if name == SERVER_USER {
            // Digests of a random secret: their comparison's time tells nothing of use.
            return is_servers_id && given == <[u8; 32]>::from(Sha256::digest(server_password.reveal()));
        }
        let Some((home, device)) = name.split_once('/') else { return false };
        let is_own_id = !is_servers_id && connect.client_id == mqtt_client_id(home, device);
        is_own_id && credentials.accept(home, device, given).await
    }

    /// Whether one of `kinds` under the user's own two segments is exactly this topic or filter.
    fn is_own(&self, user: Option<&str>, topic: &str, kinds: &[&str]) -> bool {
        let prefix = match self {
            Self::Open => return true,
            Self::Closed { prefix, .. } => prefix,
        };
        let Some(user) = user else { return false };
        if user == SERVER_USER {
            return true;
        }
        let rest = topic.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let kind = rest.and_then(|rest| rest.strip_prefix(user)).and_then(|rest| rest.strip_prefix('/'));
        kind.is_some_and(|kind| kinds.contains(&kind))
    }
}

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            if !self.may_enter(connect, from).await {
                return Ok(AuthResult::fail(ReasonCode::BadUsernameOrPassword));
            }
            Ok(connect.username.as_deref().map_or_else(AuthResult::success, AuthResult::success_with_user))
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.is_own(user, topic, &UP) })
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, user: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.is_own(user, filter, &DOWN) })
    }
}
