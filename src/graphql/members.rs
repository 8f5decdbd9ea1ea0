//! People and their memberships in the graph.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::context::ContextExt;
use super::error::Result;
use super::homes::Home;
use super::scalars::{HomeRole, Instant};
use super::sessions::OpenSession;
use crate::error::Error;
use crate::homes;
use crate::ids::UserId;
use crate::users;

/// Who acts, as fellow members see them: a person who can sign in, or an integration.
pub(super) struct User {
    pub(super) user: Arc<users::User>,
    /// Who sees them. Not always who asks: whoever signs in asks as nobody.
    pub(super) viewer: UserId,
}

/// Who acts, as fellow members see them: a person who can sign in, or an integration.
#[Object(serial)]
impl User {
    /// Their id.
    async fn id(&self) -> ID {
        self.user.id.into()
    }

    /// Login name, in lower case. Of an integration an address that nobody has.
    async fn email(&self) -> &str {
        &self.user.email
    }

    /// What to call them.
    async fn name(&self) -> &str {
        &self.user.name
    }

    /// When the account was made.
    async fn created_at(&self) -> Instant {
        self.user.created_at.into()
    }

    /// Their open sessions, the one used last first. Your own alone: FORBIDDEN for others.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn sessions(&self, ctx: &Context<'_>) -> Result<Vec<OpenSession>> {
        let viewer = ctx.person()?;
        if viewer.user != self.user.id {
            return Err(Error::Forbidden("you may see your own sessions only").into());
        }
        let open = ctx.loaders().sessions.get(ctx.batch_scope(), viewer.user, viewer.user).await?;
        ctx.charge_objects(open.as_ref().map_or(0, |open| open.len())).await;
        Ok(open.iter().flat_map(|open| open.iter()).map(|session| OpenSession::new(session, viewer)).collect())
    }

    /// The homes of which both they and you are members; for yourself: all of yours.
    #[graphql(complexity = "super::paging::list_complexity(10, child_complexity)")]
    async fn homes(&self, ctx: &Context<'_>) -> Result<Vec<Home>> {
        let homes = ctx.loaders().shared_homes.get(ctx.batch_scope(), self.viewer, self.user.id).await?;
        ctx.charge_objects(homes.as_ref().map_or(0, |homes| homes.len())).await;
        Ok(homes.into_iter().flat_map(|homes| homes.to_vec()).map(Home).collect())
    }
}

/// Who asks, where they may see this one: an integration sees itself alone.
pub(super) fn viewer_of(ctx: &Context<'_>, whom: Option<UserId>) -> Result<UserId> {
    let viewer = ctx.viewer()?;
    if whom.is_some_and(|whom| whom != viewer.user) {
        ctx.person()?;
    }
    Ok(viewer.user)
}

/// Somebody's place in a home.
pub(super) struct HomeMember(pub(super) homes::Member);

/// Somebody's place in a home.
#[Object(serial)]
impl HomeMember {
    /// Who.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        let viewer = ctx.viewer()?.user;
        let user =
            ctx.loaders().users.get(ctx.batch_scope(), viewer, self.0.user).await?.ok_or(Error::NotFound("user"))?;
        Ok(User { user, viewer })
    }

    /// As what.
    async fn role(&self) -> HomeRole {
        self.0.role.into()
    }

    /// Since when.
    async fn joined_at(&self) -> Instant {
        self.0.joined_at.into()
    }
}

/// Queries about people.
#[derive(Default)]
pub(super) struct MemberQuery;

#[Object]
impl MemberQuery {
    /// Yourself; the integration, where its token asks.
    async fn me(&self, ctx: &Context<'_>) -> Result<User> {
        let viewer = ctx.viewer()?.user;
        let user = ctx.loaders().users.get(ctx.batch_scope(), viewer, viewer).await?;
        // The token outlived its account.
        Ok(User { user: user.ok_or(Error::Unauthenticated("this account is no more"))?, viewer })
    }
}
