//! Users and their memberships.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::context::ContextExt;
use super::error::Result;
use super::homes::Home;
use super::paging::load_list;
use super::scalars::{HomeRole, Instant};
use super::sessions::OpenSession;
use crate::auth::Principal;
use crate::error::Error;
use crate::homes;
use crate::ids::{HomeId, UserId};
use crate::users;

pub(super) struct User {
    pub(super) user: Arc<users::User>,
    /// The user for whom the fields are loaded. A request that signs in has no viewer of its own.
    pub(super) viewer: UserId,
}

/// A user account, as other members of a home see it: a person or an integration.
#[Object(serial)]
impl User {
    /// The ID of the user.
    async fn id(&self) -> ID {
        self.user.id.into()
    }

    /// The e-mail address with which the user signs in, in lower case. For an integration it is a placeholder.
    async fn email(&self) -> &str {
        &self.user.email
    }

    /// Whether the user proved that the e-mail address is theirs. Also true if this server did not ask for it when the account
    /// got the address.
    async fn email_verified(&self, ctx: &Context<'_>) -> bool {
        self.user.email_verified || !ctx.services().users.email_verification().is_demanded
    }

    /// The display name.
    async fn name(&self) -> &str {
        &self.user.name
    }

    /// The time at which the account was created.
    async fn created_at(&self) -> Instant {
        self.user.created_at.into()
    }

    /// Your active sessions, the most recently used first. Fails with FORBIDDEN for other users.
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Option<Vec<OpenSession>>> {
        let viewer = self.require_self(ctx)?;
        let sessions = ctx.loaders().sessions.get(ctx.batch_scope(), viewer.user, viewer.user);
        Ok(Some(load_list(ctx, sessions).await?.iter().map(|session| OpenSession::new(session, viewer)).collect()))
    }

    /// The number of homes that you own. Fails with FORBIDDEN for other users.
    async fn homes_owned(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        self.require_self(ctx)?;
        let homes = ctx.loaders().shared_homes.get(ctx.batch_scope(), self.viewer, self.user.id).await?;
        let homes = homes.unwrap_or_default();
        let n_owned = homes.iter().filter(|home| home.my_role() == homes::HomeRole::Owner).count();
        Ok(Some(i32::try_from(n_owned).unwrap_or(i32::MAX)))
    }

    /// The number of homes that you may own on this server. When `homesOwned` has reached it, `createHome` fails with
    /// CONFLICT, and so does everything else that would make you an owner. Fails with FORBIDDEN for other users.
    async fn homes_limit(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        self.require_self(ctx)?;
        Ok(Some(i32::try_from(ctx.services().homes.homes_per_user()).unwrap_or(i32::MAX)))
    }

    /// The homes that you and this user share. For yourself, all your homes.
    async fn homes(&self, ctx: &Context<'_>) -> Result<Vec<Home>> {
        let homes = ctx.loaders().shared_homes.get(ctx.batch_scope(), self.viewer, self.user.id);
        Ok(load_list(ctx, homes).await?.iter().cloned().map(Home).collect())
    }
}

impl User {
    /// The viewer. Fails unless it is this user, and no integration.
    fn require_self<'a>(&self, ctx: &Context<'a>) -> Result<&'a Principal> {
        let viewer = ctx.person()?;
        if viewer.user == self.user.id {
            return Ok(viewer);
        }
        Err(Error::Forbidden("you may see your own account only").into())
    }
}

/// The viewer, if they may see this user: an integration sees only itself.
pub(super) fn viewer_of(ctx: &Context<'_>, user: Option<UserId>) -> Result<UserId> {
    let viewer = ctx.viewer()?;
    if user.is_some_and(|user| user != viewer.user) {
        ctx.person()?;
    }
    Ok(viewer.user)
}

pub(super) struct HomeMember {
    pub(super) home: HomeId,
    pub(super) member: homes::Member,
}

/// The membership of a user in a home.
#[Object(serial)]
impl HomeMember {
    /// The ID of the membership: it stays while the user is a member.
    async fn id(&self) -> ID {
        format!("{}:{}", self.home, self.member.user).into()
    }

    /// The member.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        let viewer = ctx.viewer()?.user;
        let user = ctx
            .loaders()
            .users
            .get(ctx.batch_scope(), viewer, self.member.user)
            .await?
            .ok_or(Error::NotFound("user"))?;
        Ok(User { user, viewer })
    }

    /// The role of the member.
    async fn role(&self) -> HomeRole {
        self.member.role.into()
    }

    /// The time at which the member joined.
    async fn joined_at(&self) -> Instant {
        self.member.joined_at.into()
    }
}

#[derive(Default)]
pub(super) struct MemberQuery;

#[Object]
impl MemberQuery {
    /// Your user account. With an integration token, the account of the integration.
    async fn me(&self, ctx: &Context<'_>) -> Result<User> {
        let viewer = ctx.viewer()?.user;
        let user = ctx.loaders().users.get(ctx.batch_scope(), viewer, viewer).await?;
        // An access token can be valid longer than its account exists.
        Ok(User { user: user.ok_or(Error::ACCOUNT_DELETED)?, viewer })
    }
}
