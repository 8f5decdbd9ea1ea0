//! Signing up, in and out.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::context::ContextExt;
use super::error::Result;
use super::members::User;
use super::scalars::{Instant, parse_id};
use crate::auth::{Actor, Principal};
use crate::users::{Session, SessionInfo};

/// An account to make.
#[derive(InputObject)]
pub(super) struct RegisterInput {
    /// Login name; upper and lower case are the same.
    email: String,
    /// 12 to 128 characters, not one of the commonest. No other rule.
    password: String,
    /// What to call you: 1 to 100 characters.
    name: String,
}

/// Who signs in.
#[derive(InputObject)]
pub(super) struct LoginInput {
    /// Login name.
    email: String,
    /// The password.
    password: String,
}

/// A password to set.
#[derive(InputObject)]
pub(super) struct ChangePasswordInput {
    /// The present one.
    current_password: String,
    /// The new one: 12 to 128 characters, not one of the commonest. No other rule.
    new_password: String,
}

/// What a client needs to go on.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct AuthPayload {
    /// For the header `Authorization: Bearer …`; good for 15 minutes.
    access_token: String,
    /// When the access token ends.
    expires_at: Instant,
    /// Good for one `refreshToken`, within 30 days; a session lasts 90 days at most.
    refresh_token: String,
    /// Who signed in.
    user: User,
}

impl From<Session> for AuthPayload {
    fn from(session: Session) -> Self {
        Self {
            access_token: session.access_token,
            expires_at: session.expires_at.into(),
            refresh_token: session.refresh_token,
            user: User { viewer: session.user.id, user: Arc::new(session.user) },
        }
    }
}

/// A sign-in that has not ended: one device, or one browser.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct OpenSession {
    /// The session's id.
    id: ID,
    /// When it began.
    created_at: Instant,
    /// When it was last refreshed.
    last_used_at: Instant,
    /// When it ends unless it is refreshed.
    expires_at: Instant,
    /// The client's network address when it was last refreshed; null where it is not known.
    address: Option<String>,
    /// Whether it is the one this request belongs to.
    current: bool,
}

impl OpenSession {
    /// As its own user sees it.
    pub(super) fn new(session: &SessionInfo, viewer: &Principal) -> Self {
        Self {
            id: ID(session.id.to_string()),
            created_at: session.id.began().unwrap_or(session.last_used_at).into(),
            last_used_at: session.last_used_at.into(),
            expires_at: session.expires_at.into(),
            address: session.address.clone(),
            current: viewer.actor == Actor::Session(session.id),
        }
    }
}

/// Mutations of sessions.
#[derive(Default)]
pub(super) struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Makes an account and signs it in, where registration is open; else FORBIDDEN.
    async fn register(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account to make.")] input: RegisterInput,
    ) -> Result<AuthPayload> {
        let session = ctx.services().users.register(&input.email, &input.password, &input.name, ctx.address()).await?;
        Ok(session.into())
    }

    /// Signs in. UNAUTHENTICATED says neither whether the e-mail has an account nor what was wrong.
    async fn login(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who signs in.")] input: LoginInput,
    ) -> Result<AuthPayload> {
        Ok(ctx.services().users.login(&input.email, &input.password, ctx.address()).await?.into())
    }

    /// Exchanges a refresh token for a new session. Each is good once: a used one that comes again
    /// ends its session, because then somebody else has it too.
    async fn refresh_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The newest refresh token of the session.")] refresh_token: String,
    ) -> Result<AuthPayload> {
        Ok(ctx.services().users.refresh(&refresh_token, ctx.address()).await?.into())
    }

    /// Ends the session of a refresh token. An unknown one is no error: it is signed out already.
    async fn logout(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Any refresh token of the session.")] refresh_token: String,
    ) -> Result<bool> {
        Ok(ctx.services().users.logout(&refresh_token).await?)
    }

    /// Ends one of your sessions, its sockets too. Another's is NOT_FOUND.
    async fn revoke_session(&self, ctx: &Context<'_>, #[graphql(desc = "The session's id.")] id: ID) -> Result<bool> {
        let viewer = ctx.person()?;
        ctx.services().users.revoke_session(viewer, parse_id(&id, "session")?).await?;
        Ok(true)
    }

    /// Sets your password and ends all your other sessions, their sockets too.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The present and the new password.")] input: ChangePasswordInput,
    ) -> Result<bool> {
        let users = &ctx.services().users;
        users.change_password(ctx.person()?, &input.current_password, &input.new_password, ctx.address()).await?;
        Ok(true)
    }
}
