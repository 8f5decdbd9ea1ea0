//! Homes, the unit of tenancy: members, roles, rooms, invitations, integrations. Membership is read from the
//! database for every request, so a removed member loses access at once.

mod access;
mod audit_log;
mod deletions;
mod deletions_store;
mod integrations;
mod integrations_store;
mod invitations;
mod invitations_store;
mod leaving;
mod leaving_store;
mod listing_store;
mod members;
mod members_store;
mod owned;
mod rejected_messages;
mod rejected_messages_store;
mod rooms;
mod rooms_store;
mod scopes;
mod store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use owned::HomesLimit;

pub use access::{Access, HomeRole, Membership, PEOPLE_ONLY, Permission};
pub(crate) use deletions::complete as complete_deletion;
pub use deletions::{resume_deletions, run_deletion_worker};
pub(crate) use deletions_store::{Deletion, record as record_deletion};
pub use integrations::{IntegrationToken, Integrations, NewIntegration};
pub use invitations::Invitation;
pub use leaving::LeavingPlan;
pub use listing_store::{ListedHome, has_home, list_homes};
pub(crate) use members_store::lock as lock_access;
pub use rejected_messages::RejectedMessage;
pub use rooms::Room;
pub use scopes::{Scope, Scopes};
pub(crate) use store::{HomeRow, MembershipColumns, acquire_ingest_lock};

use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::db::{self, Pool};
use crate::error::Error;
use crate::hub;
use crate::ids::{HomeId, UserId};
use crate::revocation::Revocations;
use crate::throttle::Throttle;
use crate::users::EmailVerification;
use crate::validation;

/// Receives changes of the registry after their commit: the caches of addresses, of credentials and of the registry.
pub trait RegistryListener: Send + Sync {
    /// A device was created, changed or deleted.
    fn device_changed(&self, home: HomeId, device: crate::ids::DeviceId);
    /// A home, or many of its devices, were created, changed or deleted.
    fn home_changed(&self, home: HomeId);
    /// A room of the home was renamed or deleted.
    fn rooms_changed(&self, _: HomeId) {}
}

impl<A: RegistryListener, B: RegistryListener> RegistryListener for (A, B) {
    fn device_changed(&self, home: HomeId, device: crate::ids::DeviceId) {
        self.0.device_changed(home, device);
        self.1.device_changed(home, device);
    }

    fn home_changed(&self, home: HomeId) {
        self.0.home_changed(home);
        self.1.home_changed(home);
    }

    fn rooms_changed(&self, home: HomeId) {
        self.0.rooms_changed(home);
        self.1.rooms_changed(home);
    }
}

/// A home as one of its members sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Home {
    pub id: HomeId,
    /// The home segment of MQTT topics.
    pub key: String,
    pub name: String,
    /// IANA name.
    pub timezone: String,
    pub created_at: DateTime<Utc>,
    membership: Membership,
}

/// A member of a home.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub user: UserId,
    pub role: HomeRole,
    pub joined_at: DateTime<Utc>,
}

impl Home {
    /// The viewer's role.
    pub fn my_role(&self) -> HomeRole {
        self.membership.role()
    }

    /// The viewer's proof of a permission.
    pub fn allow(&self, permission: Permission) -> Result<Access, Error> {
        self.membership.allow(permission)
    }
}

impl Member {
    fn new(member: Membership, joined_at: DateTime<Utc>) -> Self {
        Self { user: member.user(), role: member.role(), joined_at }
    }
}

/// Input of [`Homes::create`].
#[derive(Debug, Clone)]
pub struct NewHome {
    pub name: String,
    /// The home's id by default.
    pub key: Option<String>,
    /// IANA name.
    pub timezone: String,
}

/// What [`Homes`] is made of.
pub struct HomesDependencies {
    pub pool: Pool,
    pub clock: Clock,
    /// Is called after each change.
    pub listener: Arc<dyn RegistryListener>,
    /// The hubs whose streams end when a home is deleted.
    pub hubs: Arc<[Arc<dyn hub::Close>]>,
    pub revocations: Revocations,
    pub throttle: Throttle,
    /// Homes that one user may own.
    pub homes_per_user: u32,
    /// Who has to prove their address gets no home before.
    pub email_verification: EmailVerification,
}

/// Homes, memberships and rooms. Cheap to clone.
#[derive(Clone)]
pub struct Homes {
    pool: Pool,
    clock: Clock,
    listener: Arc<dyn RegistryListener>,
    hubs: Arc<[Arc<dyn hub::Close>]>,
    revocations: Revocations,
    throttle: Throttle,
    homes_limit: HomesLimit,
    email_verification: EmailVerification,
}

impl Homes {
    pub fn new(dependencies: HomesDependencies) -> Self {
        let HomesDependencies {
            pool,
            clock,
            listener,
            hubs,
            revocations,
            throttle,
            homes_per_user,
            email_verification,
        } = dependencies;
        let homes_limit = HomesLimit(homes_per_user.into());
        Self { pool, clock, listener, hubs, revocations, throttle, homes_limit, email_verification }
    }

    /// The viewer's proof of a permission in a home. `NOT_FOUND` for users who are not members.
    pub async fn access(&self, who: &Principal, home: HomeId, permission: Permission) -> Result<Access, Error> {
        let mut conn = self.pool.get().await?;
        let membership = store::membership(&mut conn, who.user, home).await?;
        membership.ok_or(Error::NotFound("home"))?.allow(permission)
    }

    /// The viewer's homes, or those of `ids` among them, ordered by id.
    pub async fn visible(&self, viewer: UserId, ids: Option<&[HomeId]>) -> Result<Vec<Home>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::visible(&mut conn, viewer, ids).await?)
    }

    /// For each of `users` the homes they share with the viewer.
    pub async fn shared(&self, viewer: UserId, users: &[UserId]) -> Result<Vec<(UserId, Home)>, Error> {
        let mut conn = self.pool.get().await?;
        Ok(store::shared(&mut conn, viewer, users).await?)
    }

    /// Members of each home in the order they joined.
    pub async fn members(&self, homes: &[Access]) -> Result<Vec<(HomeId, Member)>, Error> {
        let ids: Vec<_> = homes.iter().map(Access::home).collect();
        let mut conn = self.pool.get().await?;
        Ok(store::members(&mut conn, &ids).await?)
    }

    /// Runs after the commit of a change.
    fn notify_change(&self) -> impl FnOnce(Home) -> Home + Send + 'static {
        let listener = self.listener.clone();
        move |home| {
            listener.home_changed(home.id);
            home
        }
    }

    /// Creates a home. The caller, whose address is verified if it has to be, becomes its owner. A key under which devices were ever registered is not given again,
    /// and is refused like that of an existing home. Choosing keys is limited for each user, so that nobody can search
    /// for the keys of others.
    pub async fn create(&self, by: &RequestContext, new: NewHome) -> Result<Home, Error> {
        let (user, by, homes_limit) = (by.user, by.clone(), self.homes_limit);
        let verification = self.email_verification;
        let new = store::NewHome {
            key: new.key.map(|key| validation::key("key", &key)).transpose()?,
            name: validation::name("name", &new.name)?,
            timezone: timezone(&new.timezone)?,
            created_at: self.clock.now(),
        };
        if new.key.is_some() {
            self.throttle.home_key(user)?;
        }
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                verification.check(conn, user).await?;
                homes_limit.check(conn, user, "you own").await?;
                let home = match store::insert(conn, &new, user).await {
                    Err(error) if db::violated_foreign_key(&error).is_some() => {
                        return Err(Error::ACCOUNT_DELETED);
                    }
                    home => home?,
                };
                let unavailable = |key: &str| Error::Conflict(format!("key {key:?} is not available"));
                let home = home.ok_or_else(|| unavailable(new.key.as_deref().unwrap_or_default()))?;
                // Checked after the insert, which waits for the deletion of a home with this key.
                if let Some(key) = &new.key
                    && store::is_used_key(conn, key).await?
                {
                    return Err(unavailable(key));
                }
                let details = Details::of(&home.id).with("key", &home.key).with("name", &home.name);
                let entry = Entry::new(Action::HomeCreate, target(home.id), details.with("timezone", &home.timezone));
                audit::record(conn, &by, home.id, &[entry]).await?;
                Ok(home)
            })
        })
        .after_commit(self.notify_change())
        .await
    }

    /// Changes the given fields. Needs [`Permission::Configure`].
    pub async fn update(
        &self,
        access: Access,
        by: &RequestContext,
        name: Option<&str>,
        zone: Option<&str>,
    ) -> Result<Home, Error> {
        let access = access.require(Permission::Configure)?;
        let by = by.clone();
        let name = name.map(|name| validation::name("name", name)).transpose()?;
        let zone = zone.map(timezone).transpose()?;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let id = access.home();
                let (old_name, old_zone) = store::lock_settings(conn, id).await?.ok_or(Error::NotFound("home"))?;
                store::update(conn, id, name.as_deref(), zone.as_deref()).await?;
                let home = store::visible(conn, access.user(), Some(&[id])).await?.pop();
                let home = home.ok_or(Error::NotFound("home"))?;
                let details = Details::of(&id).change("name", &old_name, &home.name);
                let details = details.change("timezone", &old_zone, &home.timezone);
                if details.is_change() {
                    audit::record(conn, &by, id, &[Entry::new(Action::HomeUpdate, target(id), details)]).await?;
                }
                Ok(home)
            })
        })
        .after_commit(self.notify_change())
        .await
    }
}

/// The home as the target of an audit entry.
fn target(home: HomeId) -> String {
    format!("home {home}")
}

/// A name of the IANA time zone database in its canonical spelling.
fn timezone(text: &str) -> Result<String, Error> {
    match text.parse::<chrono_tz::Tz>() {
        Ok(zone) => Ok(zone.name().to_owned()),
        Err(_) => Err(Error::bad_input("timezone", "timezone must be an IANA name such as Europe/Berlin or UTC")),
    }
}

#[cfg(test)]
mod tests {
    use super::timezone;

    #[test]
    fn a_timezone_is_an_iana_name() {
        assert_eq!(timezone("Europe/Berlin").unwrap(), "Europe/Berlin");
        assert_eq!(timezone("UTC").unwrap(), "UTC");
        for wrong in ["", "Berlin", "+01:00", "Europe/Atlantis", "UTC\0"] {
            assert!(timezone(wrong).is_err(), "{wrong:?}");
        }
    }
}
