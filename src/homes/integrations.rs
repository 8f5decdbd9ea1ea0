//! Integrations: whoever acts in one home by a token that says what it is for. To the database each is a
//! user that can't sign in, with a place in its home that holds scopes in place of a role: so whatever asks
//! for a membership asks for an integration's too, and what it does bears its name.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use lru::LruCache;
use tokio::time::Instant;

use super::{Access, Permission, Scope, Scopes, integrations_store as store, members_store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::auth::{Actor, InvalidToken, Principal, Tokens};
use crate::clock::Clock;
use crate::db::{self, Pool};
use crate::error::Error;
use crate::ids::{DeviceId, HomeId, SessionId, UserId};
use crate::revocation::{Revocation, Revocations};
use crate::settings::Secret;
use crate::validation;

/// Live tokens of one home.
const MAX_INTEGRATIONS_PER_HOME: i64 = 50;
/// Devices one token may be narrowed to.
const MAX_DEVICES: usize = 100;
/// Tokens of a home that have ended and whose names are kept.
const KEPT_ENDED: i64 = 100;
/// Life of a token that ends when it is revoked: a JWT has to name some end.
const ENDLESS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long a token that was found to hold is not looked up again; also how exact its last use is. An end
/// is told by the revocations, within a second; while these can't be followed, every use is looked up.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Tokens that are not looked up again for that long, at most.
const MAX_SEEN: NonZeroUsize = NonZeroUsize::new(10_000).expect("positive");
/// A token that had the scope today would gain rights without a word on the day there are alerts.
const NO_ALERTS: &str = "scopes may not name ALERTS_MANAGE yet: there are no alerts";

/// A token that an integration acts by.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegrationToken {
    /// Its id, the `jti` of the token.
    pub id: SessionId,
    /// As whom it acts.
    pub user: UserId,
    /// The one home in which it acts.
    pub home: HomeId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// The only devices it reaches; all of the home where there is none.
    pub devices: Option<Vec<DeviceId>>,
    /// Who made it; none once the account is gone.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends; none where only a revocation ends it.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A token to make.
#[derive(Debug, Clone)]
pub struct NewIntegration {
    /// What to call it.
    pub name: String,
    /// What it may do.
    pub scopes: Option<Scopes>,
    /// The only devices it is to reach.
    pub devices: Option<Vec<DeviceId>>,
    /// When it is to end.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes, ends and admits integrations. Cheap to clone.
#[derive(Clone)]
pub struct Integrations {
    pool: Pool,
    clock: Clock,
    tokens: Tokens,
    revocations: Revocations,
    seen: Arc<Mutex<LruCache<SessionId, Instant>>>,
}

impl Integrations {
    /// The service over its pool.
    pub fn new(pool: Pool, clock: Clock, tokens: Tokens, revocations: Revocations) -> Self {
        Self { pool, clock, tokens, revocations, seen: Arc::new(Mutex::new(LruCache::new(MAX_SEEN))) }
    }

    /// Makes a token for a home and gives it, which is never seen again. It ends when whoever made it may
    /// make none any more. Needs [`Permission::Configure`].
    pub async fn create(
        &self,
        access: Access,
        by: &RequestContext,
        new: NewIntegration,
    ) -> Result<(IntegrationToken, Secret), Error> {
        let (access, by) = (access.require(Permission::Configure)?, by.clone());
        let now = self.clock.now();
        let name = validation::name("name", &new.name)?;
        let scopes = new.scopes.ok_or_else(|| Error::bad_input("scopes", "scopes must name at least one scope"))?;
        if scopes.contains(Scope::AlertsManage) {
            return Err(Error::bad_input("scopes", NO_ALERTS));
        }
        let devices = new.devices.map(distinct).transpose()?;
        if new.expires_at.is_some_and(|end| end <= now || end > now + ENDLESS) {
            return Err(Error::bad_input("expiresAt", "expiresAt must lie in the future, within 100 years"));
        }
        let life = new.expires_at.map_or(ENDLESS, |end| (end - now).to_std().unwrap_or_default());
        let id = SessionId::generate(now);
        let made = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let access = members_store::lock(conn, access).await?.require(Permission::Configure)?;
                let home = access.home();
                store::forget_ended(conn, home, KEPT_ENDED, now).await?;
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
                audit::record(conn, &by, home, &[made_entry(&made)]).await?;
                Ok(made)
            })
        })
        .await?;
        let (token, _) = self.tokens.issue(made.user, Actor::Integration(id), life);
        Ok((made, Secret::new(token)))
    }

    /// The live tokens of each home, oldest first. Homes without [`Permission::Configure`] are refused.
    pub async fn of_homes(&self, homes: &[Access]) -> Result<Vec<IntegrationToken>, Error> {
        let ids = homes.iter().map(|home| home.require(Permission::Configure).map(|home| home.home()));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let mut conn = self.pool.get().await?;
        Ok(store::live(&mut conn, &ids, self.clock.now()).await?)
    }

    /// Ends a token, its open sockets and streams too. For admins and owners of its home.
    pub async fn revoke(&self, who: &Principal, by: &RequestContext, id: SessionId) -> Result<(), Error> {
        let by = by.clone();
        let membership = {
            let mut conn = self.pool.get().await?;
            store::visible(&mut conn, who.user, id, self.clock.now()).await?
        };
        let access = membership.ok_or(Error::NotFound("integration token"))?.allow(Permission::Configure)?;
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let ended = store::end(conn, access.home(), store::Which::Token(id), now).await?;
                if ended.is_empty() {
                    return Err(Error::NotFound("integration token"));
                }
                let name = store::name(conn, id).await?.unwrap_or_default();
                let details = Details::of(&id).with("name", &name);
                let entry = Entry::new(Action::TokenRevoke, target(id, &name), details);
                audit::record(conn, &by, access.home(), &[entry]).await?;
                Revocations::record(conn, &sessions(&ended)).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }

    /// Whether the token of a principal that is an integration still holds; one that is not is not asked
    /// about. Notes the use.
    pub async fn admit(&self, principal: &Principal) -> Result<(), Error> {
        let Actor::Integration(id) = principal.actor else { return Ok(()) };
        if self.revocations.is_current() && self.seen().get(&id).is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        let at = Instant::now();
        let is_live = {
            let mut conn = self.pool.get().await?;
            store::note_use(&mut conn, id, principal.user, self.clock.now()).await?
        };
        if !is_live {
            return Err(InvalidToken.into());
        }
        self.seen().put(id, at);
        Ok(())
    }

    /// The only devices that the holder of an access reaches in its home; `None` for all.
    pub async fn reach(&self, access: Access) -> Result<Option<Vec<DeviceId>>, Error> {
        if !access.is_integration() {
            return Ok(None);
        }
        let mut conn = self.pool.get().await?;
        store::reach(&mut conn, access).await?.ok_or(Error::NotFound("home"))
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, LruCache<SessionId, Instant>> {
        self.seen.lock().expect("integrations lock")
    }
}

/// A token as an entry of the audit log names it.
fn target(id: SessionId, name: &str) -> String {
    format!("integration token {id} ({name})")
}

fn made_entry(made: &IntegrationToken) -> Entry {
    let scopes: Vec<_> = made.scopes.iter().map(Scope::as_str).collect();
    let devices: Vec<_> = made.devices.iter().flatten().map(ToString::to_string).collect();
    let details = Details::of(&made.id).with("name", &made.name).with("scopes", scopes);
    let details = details.with("deviceIds", devices).with("expiresAt", made.expires_at);
    Entry::new(Action::TokenCreate, target(made.id, &made.name), details)
}

/// What is to be told of tokens that were ended.
pub(super) fn sessions(ended: &[SessionId]) -> Vec<Revocation> {
    ended.iter().copied().map(Revocation::Session).collect()
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
