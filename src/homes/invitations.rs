//! Invitations: a single-use token for one e-mail address, valid for a week. Every change of membership locks the
//! home's row, so concurrent changes see each other.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Access, Home, HomeRole, Homes, Permission, invitations_store, members_store, store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::auth::Principal;
use crate::db;
use crate::error::Error;
use crate::ids::{HomeId, InvitationId};
use crate::opaque_token;
use crate::settings::Secret;
use crate::users;

/// How long an invitation can be accepted.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// Most open invitations of one home.
const MAX_OPEN_PER_HOME: i64 = 100;
/// Most members of one home.
pub(super) const MAX_MEMBERS_PER_HOME: i64 = 100;
/// Start of every invitation token.
const TOKEN_PREFIX: &str = "inv_";

/// An invitation without its token.
#[derive(Debug, Clone, PartialEq)]
pub struct Invitation {
    pub id: InvitationId,
    pub home: HomeId,
    /// Only the account with this e-mail can accept it.
    pub email: String,
    pub role: HomeRole,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

impl Homes {
    /// Invites an e-mail address, whether or not it has an account. Returns the token, which is never shown again.
    /// It replaces an older invitation, unless that one offers a role above the caller's. Needs
    /// [`Permission::Configure`].
    pub async fn invite(
        &self,
        access: Access,
        by: &RequestContext,
        email: &str,
        role: HomeRole,
    ) -> Result<(Invitation, Secret), Error> {
        let (access, by) = (access.require(Permission::Configure)?, by.clone());
        let email = users::parse_email(email)?;
        let token = opaque_token::generate(TOKEN_PREFIX);
        let digest = opaque_token::digest(&token).ok_or_else(|| Error::internal("a token of ours has a digest"))?;
        let now = self.clock.now();
        let invitation = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let access = members_store::lock(conn, access).await?.require(Permission::Configure)?;
                if role > access.role() {
                    return Err(Error::Forbidden("only an owner of this home may invite an owner"));
                }
                if invitations_store::is_member(conn, access.home(), &email).await? {
                    return Err(Error::Conflict("email belongs to a member of this home already".to_owned()));
                }
                let replaced = invitations_store::delete_replaced(conn, access.home(), &email, now).await?;
                // Replacing is revoking. The error rolls the deletion back.
                if replaced.is_some_and(|(_, role)| role > access.role()) {
                    return Err(Error::Forbidden("only an owner of this home may replace the invitation of an owner"));
                }
                if invitations_store::count(conn, access.home()).await? >= MAX_OPEN_PER_HOME {
                    return Err(Error::Conflict(format!(
                        "the home has {MAX_OPEN_PER_HOME} open invitations, the most allowed: revoke some"
                    )));
                }
                let new = invitations_store::NewInvitation {
                    email: &email,
                    role,
                    digest: &digest,
                    created_at: now,
                    expires_at: now + LIFETIME,
                };
                let made = invitations_store::insert(conn, access, &new).await?;
                let replaced: Vec<_> = replaced.iter().map(|(id, _)| id.to_string()).collect();
                let details = details(made.id, &email, role).with("replaces", replaced);
                let entry = Entry::new(Action::InvitationCreate, target(made.id, &email), details);
                audit::record(conn, &by, access.home(), &[entry]).await?;
                Ok(made)
            })
        })
        .await?;
        Ok((invitation, Secret::new(token)))
    }

    /// Open invitations of each home, oldest first. Needs [`Permission::Configure`] in all of them.
    pub async fn invitations(&self, homes: &[Access]) -> Result<Vec<Invitation>, Error> {
        let ids = homes.iter().map(|home| home.require(Permission::Configure).map(|home| home.home()));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let mut conn = self.pool.get().await?;
        Ok(invitations_store::open(&mut conn, &ids, self.clock.now()).await?)
    }

    /// Revokes an invitation. For admins and owners of its home.
    pub async fn revoke_invitation(&self, who: &Principal, by: &RequestContext, id: InvitationId) -> Result<(), Error> {
        let by = by.clone();
        let found = {
            let mut conn = self.pool.get().await?;
            invitations_store::visible(&mut conn, who.user, id).await?
        };
        let (role, membership) = found.ok_or(Error::NotFound("invitation"))?;
        let access = membership.allow(Permission::Configure)?;
        if role > access.role() {
            return Err(Error::Forbidden("only an owner of this home may revoke the invitation of an owner"));
        }
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let email = invitations_store::delete(conn, access.home(), id).await?;
                let email = email.ok_or(Error::NotFound("invitation"))?;
                let entry = Entry::new(Action::InvitationRevoke, target(id, &email), details(id, &email, role));
                audit::record(conn, &by, access.home(), &[entry]).await
            })
        })
        .await
    }

    /// Makes the caller a member, if the token was issued for their e-mail, which is verified if it has to be. A token works once.
    pub async fn accept_invitation(&self, by: &RequestContext, token: &str) -> Result<Home, Error> {
        self.throttle.address_attempt(by.address)?;
        let digest = opaque_token::digest(token).ok_or_else(invalid)?;
        let (user, by, now, homes_limit) = (by.user, by.clone(), self.clock.now(), self.homes_limit);
        let verification = self.email_verification;
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // Before the token is looked at: the refusal tells nothing of it.
                verification.check(conn, user).await?;
                let home = invitations_store::home_of(conn, &digest, user).await?.ok_or_else(invalid)?;
                if !members_store::lock_home(conn, home).await? {
                    return Err(invalid());
                }
                let consumed = invitations_store::consume(conn, &digest, user, now).await?;
                let (id, email, role) = consumed.ok_or_else(invalid)?;
                if members_store::count(conn, home).await? >= MAX_MEMBERS_PER_HOME {
                    return Err(Error::Conflict(format!(
                        "the home has {MAX_MEMBERS_PER_HOME} members, the most allowed"
                    )));
                }
                if role == HomeRole::Owner {
                    homes_limit.check(conn, user, "you own").await?;
                }
                members_store::insert(conn, home, user, role, now).await?;
                let entry = Entry::new(Action::InvitationAccept, target(id, &email), details(id, &email, role));
                audit::record(conn, &by, home, &[entry]).await?;
                store::visible(conn, user, Some(&[home])).await?.pop().ok_or_else(invalid)
            })
        })
        .await
    }
}

/// The invitation as the target of an audit entry.
fn target(id: InvitationId, email: &str) -> String {
    format!("invitation {id} ({email})")
}

fn details(id: InvitationId, email: &str, role: HomeRole) -> Details {
    Details::of(&id).with("email", email).with("role", role.as_str())
}

fn invalid() -> Error {
    Error::bad_input("token", "this invitation is not valid: ask for a new one for the e-mail you signed in with")
}
