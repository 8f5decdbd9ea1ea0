//! Members of a home: changing their roles, removing them, leaving. A home always has an owner.

use super::integrations::revocations_of;
use super::{Access, HomeRole, Homes, Member, Permission, integrations_store, invitations_store, members_store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::db;
use crate::error::Error;
use crate::ids::UserId;
use crate::revocation::{Revocation, Revocations};

const LAST_OWNER: &str = "a home needs an owner: make another member an owner first, or delete the home";

impl Homes {
    /// Changes a member's role. Admins may change all roles but those of owners, up to their own role. Needs
    /// [`Permission::Configure`].
    pub async fn set_role(
        &self,
        access: Access,
        by: &RequestContext,
        member: UserId,
        role: HomeRole,
    ) -> Result<Member, Error> {
        let (access, by, now) = (access.require(Permission::Configure)?, by.clone(), self.clock.now());
        let (homes_limit, apply) = (self.homes_limit, self.revocations.on_commit());
        let after_commit = move |(member, revocations)| {
            apply(revocations);
            member
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let access = members_store::lock(conn, access).await?.require(Permission::Configure)?;
                let (home, mine) = (access.home(), access.role());
                let present = members_store::role_of(conn, home, member).await?;
                if present > mine || role > mine {
                    return Err(Error::Forbidden("only an owner of this home may do that"));
                }
                if present == HomeRole::Owner && role != present && members_store::owners(conn, home).await? == 1 {
                    return Err(Error::Conflict(LAST_OWNER.to_owned()));
                }
                if role == HomeRole::Owner && role != present {
                    homes_limit.check(conn, member, "this member owns").await?;
                }
                let ended = invitations_store::delete_above(conn, home, member, role).await?;
                let changed = members_store::set_role(conn, home, member, role).await?;
                // A higher role ends no stream.
                let mut revocations = Vec::new();
                if role < present {
                    revocations.push(Revocation::Membership(member, home));
                }
                let mut tokens = Vec::new();
                if role < HomeRole::Admin {
                    let theirs = integrations_store::Which::MadeBy(member);
                    tokens = integrations_store::revoke(conn, home, theirs, now).await?;
                    revocations.extend(revocations_of(home, &tokens));
                }
                let details = Details::of(&member).change("role", present.as_str(), role.as_str());
                if details.is_change() {
                    let details = details.with("endedInvitations", texts(&ended)).with("endedTokens", texts(&tokens));
                    let target = target(conn, member).await?;
                    audit::record(conn, &by, home, &[Entry::new(Action::MemberRole, target, details)]).await?;
                }
                Ok((changed, Revocations::record(conn, &revocations).await?))
            })
        })
        .after_commit(after_commit)
        .await
    }

    /// Removes a member. Everybody may leave; admins and owners may remove others.
    pub async fn remove_member(&self, access: Access, by: &RequestContext, member: UserId) -> Result<(), Error> {
        let (by, now) = (by.clone(), self.clock.now());
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let access = members_store::lock(conn, access).await?;
                if access.user() != member {
                    access.require(Permission::Configure)?;
                }
                let home = access.home();
                let present = members_store::role_of(conn, home, member).await?;
                if present > access.role() {
                    return Err(Error::Forbidden("only an owner of this home may do that"));
                }
                if present == HomeRole::Owner && members_store::owners(conn, home).await? == 1 {
                    return Err(Error::Conflict(LAST_OWNER.to_owned()));
                }
                let ended = invitations_store::delete_above(conn, home, member, HomeRole::Guest).await?;
                members_store::delete(conn, home, member).await?;
                let theirs = integrations_store::Which::MadeBy(member);
                let tokens = integrations_store::revoke(conn, home, theirs, now).await?;
                let details = Details::of(&member).with("role", present.as_str());
                let details = details.with("endedInvitations", texts(&ended)).with("endedTokens", texts(&tokens));
                let target = target(conn, member).await?;
                audit::record(conn, &by, home, &[Entry::new(Action::MemberRemove, target, details)]).await?;
                let mut revocations = revocations_of(home, &tokens);
                revocations.push(Revocation::Membership(member, home));
                Revocations::record(conn, &revocations).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await
    }
}

/// The member as the target of an audit entry.
async fn target(conn: &mut db::Connection, member: UserId) -> Result<String, Error> {
    let email = members_store::email(conn, member).await?;
    Ok(email.map_or_else(|| format!("member {member}"), |email| format!("member {email}")))
}

fn texts(ids: &[impl ToString]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
