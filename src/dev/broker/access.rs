//! Who may enter the embedded broker, and which topics are theirs.
//!
//! Open: whoever is on this machine may do everything, as the guide's commands expect. Closed: the
//! server's account, and devices as {home key}/{device key} with their own topics, nothing else.
//! Each comes in under its own client id alone: whoever uses another's throws it out, and its session
//! with it. Whose password is taken away is put out.

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

use crate::devices::{Logins, MqttUser, mqtt_client_id, password_digest};
use crate::mqtt::acl::{BrokerClient, TopicAction, is_allowed};
use crate::settings::Secret;

/// The account our own server uses.
pub const SERVER_USER: &str = "smarthome_backend";
/// How often the passwords of those who are in are looked at again.
const LOOK: Duration = Duration::from_secs(1);
/// Time between the check of a password and the client's place in the broker, at most.
const ENTERING: Duration = Duration::from_secs(10);

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The door.
pub enum Access {
    /// Anybody on the loopback.
    Open,
    /// Accounts only.
    Closed(Box<Closed>),
}

/// What a closed door knows.
pub struct Closed {
    /// First segment of every topic.
    pub prefix: String,
    /// The server's own password, made at each start.
    pub server_password: Secret,
    /// The server's client id, nobody else's.
    pub server_client_id: String,
    /// The devices' passwords.
    pub logins: Logins,
    /// Who came in.
    pub guests: Guests,
}

/// The devices that came in, by client id: at most as many as the broker has places, for each look
/// forgets those who have left.
#[derive(Clone, Default)]
pub struct Guests(Arc<Mutex<HashMap<String, Guest>>>);

#[derive(Clone)]
struct Guest {
    /// Of the password it came in with.
    digest: Vec<u8>,
    since: Instant,
}

impl Guests {
    fn enter(&self, client_id: &str, digest: Vec<u8>) {
        self.0.lock().expect("guests lock").insert(client_id.to_owned(), Guest { digest, since: Instant::now() });
    }

    /// Puts out whose password holds no more, for ever.
    pub(super) async fn watch(self, logins: Logins, router: Arc<MessageRouter>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let guests: Vec<_> = {
                let guests = self.0.lock().expect("guests lock");
                guests.iter().map(|(id, guest)| (id.clone(), guest.clone())).collect()
            };
            let digests: Vec<_> = guests.iter().map(|(_, guest)| guest.digest.clone()).collect();
            // A database that does not answer takes no password away.
            let Ok(valid) = logins.still_valid(&digests).await else { continue };
            let valid: HashSet<_> = valid.into_iter().collect();
            for (client_id, guest) in guests {
                let is_valid = valid.contains(&guest.digest);
                let is_there = router.is_connected(&client_id).await;
                if !is_valid && is_there {
                    router.disconnect_client(&client_id).await;
                }
                if !is_there && guest.since.elapsed() > ENTERING {
                    let mut guests = self.0.lock().expect("guests lock");
                    // It may have come back meanwhile.
                    if guests.get(&client_id).is_some_and(|now| now.since == guest.since) {
                        guests.remove(&client_id);
                    }
                }
            }
        }
    }
}

impl Closed {
    async fn may_enter(&self, connect: &ConnectPacket) -> bool {
        let (Some(name), Some(password)) = (&connect.username, &connect.password) else { return false };
        let is_servers_id = connect.client_id == self.server_client_id;
        if name == SERVER_USER {
            // Digests of a random secret: their comparison's time tells nothing of use.
            return is_servers_id && Sha256::digest(password) == Sha256::digest(self.server_password.reveal());
        }
        let (Some(user), Ok(password)) = (MqttUser::parse(name), std::str::from_utf8(password)) else { return false };
        if is_servers_id || connect.client_id != mqtt_client_id(user.home, user.device) {
            return false;
        }
        let accepted = self.logins.authenticate(user, password).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a device's password could not be checked");
            false
        });
        if accepted {
            self.guests.enter(&connect.client_id, password_digest(password));
        }
        accepted
    }
}

impl Access {
    fn may(&self, user: Option<&str>, deed: TopicAction, topic: &str) -> bool {
        let Self::Closed(closed) = self else { return true };
        let party = match user {
            Some(SERVER_USER) => Some(BrokerClient::Server),
            Some(user) => MqttUser::parse(user).map(BrokerClient::Device),
            None => None,
        };
        party.is_some_and(|party| is_allowed(&closed.prefix, party, deed, topic))
    }
}

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::Result<AuthResult>> {
        Box::pin(async move {
            let enters = match self {
                Self::Open => from.ip().is_loopback(),
                Self::Closed(closed) => closed.may_enter(connect).await,
            };
            if !enters {
                return Ok(AuthResult::fail(ReasonCode::BadUsernameOrPassword));
            }
            Ok(connect.username.as_deref().map_or_else(AuthResult::success, AuthResult::success_with_user))
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.may(user, TopicAction::Publish, topic) })
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, user: Option<&'a str>, filter: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { self.may(user, TopicAction::Subscribe, filter) })
    }
}
