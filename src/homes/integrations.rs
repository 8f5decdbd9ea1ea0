//! Integrations: programs that act in one home with a token of limited scopes. In the database each is a user who
//! cannot sign in, with a membership that holds scopes instead of a role. So every query that joins memberships
//! covers integrations, and their actions carry their name.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Access, Permission, Scope, Scopes, integrations_store as store, members_store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::auth::{Actor, Principal, TokenError, Tokens};
use crate::clock::Clock;
use crate::db::{self, Pool};
use crate::error::Error;
use crate::ids::{DeviceId, HomeId, SessionId, UserId};
use crate::revocation::{Revocation, Revocations};
use crate::settings::Secret;
use crate::throttle::Throttle;
use crate::validation;

/// Most valid tokens of one home.
const MAX_INTEGRATIONS_PER_HOME: i64 = 50;
/// Most devices in a token's device list.
const MAX_DEVICES: usize = 100;
/// Ended tokens per home whose rows are retained for their names.
const RETAINED_ENDED: i64 = 100;
/// Lifetime of a token without `expiresAt`: a JWT needs some `exp`.
const UNLIMITED: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long a validated token is not checked again, which is also the precision of `last_used_at`. A revocation ends
/// a token within a second; while revocations cannot be read, every use is checked.
const RECHECK_AFTER: Duration = Duration::from_secs(60);
/// A token that had the scope today would silently gain permissions when alerts are added.
const NO_ALERTS: &str = "scopes may not name ALERTS_MANAGE yet: there are no alerts";

/// An integration's token, without the token itself.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegrationToken {
    /// The `jti` claim of the token.
    pub id: SessionId,
    /// The user that represents the integration.
    pub user: UserId,
    pub home: HomeId,
    pub name: String,
    pub scopes: Scopes,
    /// The devices it is limited to; `None`: all devices of the home.
    pub devices: Option<Vec<DeviceId>>,
    /// `None` once the account is deleted.
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    /// `None`: only a revocation ends it.
    pub expires_at: Option<DateTime<Utc>>,
    /// Precise to a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Input of [`Integrations::create`].
#[derive(Debug, Clone)]
pub struct NewIntegration {
    pub name: String,
    pub scopes: Option<Scopes>,
    /// The devices to limit it to; `None`: all devices of the home.
    pub devices: Option<Vec<DeviceId>>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Creates, revokes and authenticates integration tokens. Cheap to clone.
#[derive(Clone)]
pub struct Integrations {
    pool: Pool,
    clock: Clock,
    tokens: Tokens,
    revocations: Revocations,
    throttle: Throttle,
}

impl Integrations {
    pub fn new(pool: Pool, clock: Clock, tokens: Tokens, revocations: Revocations, throttle: Throttle) -> Self {
        Self { pool, clock, tokens, revocations, throttle }
    }

    /// Creates a token for a home and returns it; it is never shown again. The token ends when its creator loses
    /// the permission to create tokens. Needs [`Permission::Configure`].
    pub async fn create(
        &self,
        access: Access,
        by: &RequestContext,
        new: NewIntegration,
    ) -> Result<(IntegrationToken, Secret), Error> {
        let (access, by) = (access.require(Permission::Configure)?, by.clone());
        self.throttle.token_change(access.user())?;
        let now = self.clock.now();
        let name = validation::name("name", &new.name)?;
        let scopes = new.scopes.ok_or_else(|| Error::bad_input("scopes", "scopes must name at least one scope"))?;
        if scopes.contains(Scope::AlertsManage) {
            return Err(Error::bad_input("scopes", NO_ALERTS));
        }
        let devices = new.devices.map(distinct).transpose()?;
        if new.expires_at.is_some_and(|end| end <= now || end > now + UNLIMITED) {
            return Err(Error::bad_input("expiresAt", "expiresAt must lie in the future, within 100 years"));
        }
        let life = new.expires_at.map_or(UNLIMITED, |end| (end - now).to_std().unwrap_or_default());
        let id = SessionId::generate(now);
        let made = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let access = members_store::lock(conn, access).await?.require(Permission::Configure)?;
                let home = access.home();
                store::delete_ended(conn, home, RETAINED_ENDED, now).await?;
                if store::count(conn, home, now).await? >= MAX_INTEGRATIONS_PER_HOME {
                    return Err(Error::Conflict(format!(
                        "the home has {MAX_INTEGRATIONS_PER_HOME} integration tokens, the most allowed: revoke some"
                    )));
                }
                if let Some(devices) = &devices
                    && store::count_devices(conn, home, devices).await? != devices.len()
                {
                    return Err(Error::NotFound("device"));
                }
                let new =
                    store::New { id, name: &name, scopes, devices: devices.as_deref(), expires_at: new.expires_at };
                let made = store::insert(conn, access, &new, now).await?;
                audit::record(conn, &by, home, &[creation_entry(&made)]).await?;
                Ok(made)
            })
        })
        .await?;
        let (token, _) = self.tokens.issue(made.user, Actor::Integration(id), life);
        Ok((made, Secret::new(token)))
    }

    /// The valid tokens of each home, oldest first. Needs [`Permission::Configure`] in all of them.
    pub async fn of_homes(&self, homes: &[Access]) -> Result<Vec<IntegrationToken>, Error> {
        let ids = homes.iter().map(|home| home.require(Permission::Configure).map(|home| home.home()));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let mut conn = self.pool.get().await?;
        Ok(store::valid(&mut conn, &ids, self.clock.now()).await?)
    }

    /// Revokes a token and closes its sockets and streams. For admins and owners of its home.
    pub async fn revoke(&self, who: &Principal, by: &RequestContext, id: SessionId) -> Result<(), Error> {
        let by = by.clone();
        let membership = {
            let mut conn = self.pool.get().await?;
            store::visible(&mut conn, who.user, id, self.clock.now()).await?
        };
        let access = membership.ok_or(Error::NotFound("integration token"))?.allow(Permission::Configure)?;
        self.throttle.token_change(access.user())?;
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let ended = store::revoke(conn, access.home(), store::Which::Token(id), now).await?;
                if ended.is_empty() {
                    return Err(Error::NotFound("integration token"));
                }
                let name = store::name(conn, id).await?.unwrap_or_default();
                let details = Details::of(&id).with("name", &name);
                let entry = Entry::new(Action::TokenRevoke, target(id, &name), details);
                audit::record(conn, &by, access.home(), &[entry]).await?;
                Revocations::record(conn, &revocations_of(access.home(), &ended)).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }

    /// Checks that the token of an integration is still valid and records its use. Other principals pass.
    pub async fn authenticate(&self, principal: &Principal) -> Result<(), Error> {
        let Actor::Integration(id) = principal.actor else { return Ok(()) };
        if self.revocations.is_current() && self.revocations.is_confirmed(id, RECHECK_AFTER) {
            return Ok(());
        }
        let check = self.revocations.begin_confirmation(id);
        let is_valid = {
            let mut conn = self.pool.get().await?;
            store::record_use(&mut conn, id, principal.user, self.clock.now()).await?
        };
        self.revocations.end_confirmation(check, is_valid);
        if is_valid { Ok(()) } else { Err(TokenError::Invalid.into()) }
    }

    /// The devices that the access is limited to; `None`: all devices of the home.
    pub async fn device_scope(&self, access: Access) -> Result<Option<Vec<DeviceId>>, Error> {
        if !access.is_integration() {
            return Ok(None);
        }
        let mut conn = self.pool.get().await?;
        store::device_scope(&mut conn, access).await?.ok_or(Error::NotFound("home"))
    }
}

/// The token as the target of an audit entry.
fn target(id: SessionId, name: &str) -> String {
    format!("integration token {id} ({name})")
}

fn creation_entry(made: &IntegrationToken) -> Entry {
    let scopes: Vec<_> = made.scopes.iter().map(Scope::as_str).collect();
    let devices: Vec<_> = made.devices.iter().flatten().map(ToString::to_string).collect();
    let details = Details::of(&made.id).with("name", &made.name).with("scopes", scopes);
    let details = details.with("deviceIds", devices).with("expiresAt", made.expires_at);
    Entry::new(Action::TokenCreate, target(made.id, &made.name), details)
}

/// The revocations of ended tokens.
pub(super) fn revocations_of(home: HomeId, ended: &[SessionId]) -> Vec<Revocation> {
    ended.iter().map(|token| Revocation::Integration(home, *token)).collect()
}

fn distinct(mut devices: Vec<DeviceId>) -> Result<Vec<DeviceId>, Error> {
    devices.sort_unstable();
    devices.dedup();
    if (1..=MAX_DEVICES).contains(&devices.len()) {
        return Ok(devices);
    }
    let message = format!("deviceIds must name 1 to {MAX_DEVICES} devices; leave it out for all of the home");
    Err(Error::bad_input("deviceIds", message))
}
