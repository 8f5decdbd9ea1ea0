//! Accounts and sessions.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::context::ContextExt;
use super::error::Result;
use super::members::User;
use super::scalars::{Instant, parse_id};
use crate::auth::{Actor, Principal};
use crate::users::{Session, SessionInfo};

/// An account to create.
#[derive(InputObject)]
pub(super) struct RegisterInput {
    /// The e-mail address with which the user signs in. Case is ignored.
    email: String,
    /// The password: 12 to 128 characters. Common passwords are refused.
    password: String,
    /// The display name: 1 to 100 characters.
    name: String,
}

/// Credentials to sign in with.
#[derive(InputObject)]
pub(super) struct LoginInput {
    /// The e-mail address of the account.
    email: String,
    /// The password.
    password: String,
}

/// A change of password.
#[derive(InputObject)]
pub(super) struct ChangePasswordInput {
    /// The current password.
    current_password: String,
    /// The new password: 12 to 128 characters. Common passwords are refused.
    new_password: String,
}

/// The tokens of a session.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct AuthPayload {
    /// The token for the header `Authorization: Bearer …`. It is valid for 15 minutes.
    access_token: String,
    /// The time at which the access token expires.
    expires_at: Instant,
    /// The token for the next `refreshToken`. It is valid for one use and for 30 days. A session lasts at most 90
    /// days.
    refresh_token: String,
    /// The user who signed in.
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

/// An active session: a sign-in of one app or one browser.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct OpenSession {
    /// The ID of the session.
    id: ID,
    /// The time at which the user signed in.
    created_at: Instant,
    /// The time at which the session was last refreshed.
    last_used_at: Instant,
    /// The time at which the session ends if it is not refreshed.
    expires_at: Instant,
    /// The network address of the client at the last refresh. Null if it is unknown.
    address: Option<String>,
    /// Whether this request belongs to the session.
    current: bool,
}

impl OpenSession {
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

#[derive(Default)]
pub(super) struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Creates an account and signs in. If this server verifies e-mail addresses, it sends a mail with a token for
    /// `verifyEmail`. Fails with FORBIDDEN if registration is closed.
    async fn register(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The account to create.")] input: RegisterInput,
    ) -> Result<AuthPayload> {
        let session = ctx.services().users.register(&input.email, &input.password, &input.name, ctx.address()).await?;
        Ok(session.into())
    }

    /// Signs in. Fails with UNAUTHENTICATED and the reason INVALID_CREDENTIALS if the password is wrong or the account does
    /// not exist; the error does not distinguish the two.
    async fn login(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The credentials.")] input: LoginInput,
    ) -> Result<AuthPayload> {
        Ok(ctx.services().users.login(&input.email, &input.password, ctx.address()).await?.into())
    }

    /// Exchanges a refresh token for new tokens of the same session. Each refresh token is valid for one use. A client
    /// that did not receive the answer, or another tab, may repeat the exchange within 30 seconds and gets new tokens
    /// too, as long as none of the new refresh tokens was used. Where one exchange gave several tokens, they count as used
    /// together, and the others can be exchanged within 30 seconds only from the network of the first exchange. Any
    /// other use of a used token ends the session and fails with UNAUTHENTICATED and the reason REFRESH_REUSED, because
    /// it shows that the token was stolen or copied.
    async fn refresh_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The latest refresh token of the session.")] refresh_token: String,
    ) -> Result<AuthPayload> {
        Ok(ctx.services().users.refresh(&refresh_token, ctx.address()).await?.into())
    }

    /// Ends the session of a refresh token. An unknown token is no error: its session has already ended.
    async fn logout(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Any refresh token of the session.")] refresh_token: String,
    ) -> Result<bool> {
        Ok(ctx.services().users.logout(&refresh_token).await?)
    }

    /// Ends one of your sessions and closes its connections. Fails with NOT_FOUND for sessions of other users.
    async fn revoke_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the session.")] id: ID,
    ) -> Result<bool> {
        let viewer = ctx.person()?;
        ctx.services().users.revoke_session(viewer, parse_id(&id, "session")?).await?;
        Ok(true)
    }

    /// Changes your password, ends all your other sessions and closes their connections.
    async fn change_password(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The current and the new password.")] input: ChangePasswordInput,
    ) -> Result<bool> {
        let users = &ctx.services().users;
        users.change_password(ctx.person()?, &input.current_password, &input.new_password, ctx.address()).await?;
        Ok(true)
    }
}
