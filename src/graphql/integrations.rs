//! Tokens of integrations.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use super::context::ContextExt;
use super::error::Result;
use super::inputs::InstantInput;
use super::members::User;
use super::scalars::{Instant, parse_id};
use crate::homes::{self, NewIntegration, Permission, Scopes};
use crate::ids::DeviceId;

/// A permission of an integration token. Every token can read the IDs and keys of its home and of the devices
/// it may access. No token can read members or other users.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "homes::Scope")]
pub(super) enum Scope {
    /// Read the home, its rooms, its devices and their states.
    DevicesRead,
    /// Read the readings of devices.
    TelemetryRead,
    /// Send, cancel, read and subscribe to commands.
    CommandsSend,
    /// Push, read and subscribe to configurations.
    ConfigPush,
    /// Read, acknowledge and resolve alerts. Not available yet: `createIntegrationToken` fails with
    /// BAD_USER_INPUT.
    AlertsManage,
}

pub(super) struct IntegrationToken(Arc<homes::IntegrationToken>);

impl From<&homes::IntegrationToken> for IntegrationToken {
    fn from(token: &homes::IntegrationToken) -> Self {
        Self(Arc::new(token.clone()))
    }
}

/// The token of an integration. It gives access to one home, limited by its scopes. The token text itself is
/// shown only once, when it is created.
#[Object(serial)]
impl IntegrationToken {
    /// The ID of the token: its `jti` claim.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// The display name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The permissions of the token.
    async fn scopes(&self) -> Vec<Scope> {
        self.0.scopes.iter().map(Scope::from).collect()
    }

    /// The IDs of the devices that the token may access. Null if it may access all devices of the home.
    async fn device_ids(&self) -> Option<Vec<ID>> {
        self.0.devices.as_ref().map(|devices| devices.iter().map(|device| ID::from(*device)).collect())
    }

    /// The user who created the token. It becomes invalid when this user may no longer create tokens.
    async fn created_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let (Some(id), viewer) = (self.0.created_by, ctx.person()?.user) else { return Ok(None) };
        Ok(ctx.loaders().users.get(ctx.batch_scope(), viewer, id).await?.map(|user| User { user, viewer }))
    }

    /// The time at which the token was created.
    async fn created_at(&self) -> Instant {
        self.0.created_at.into()
    }

    /// The time at which the token expires. Null if it is valid until `revokeIntegrationToken`.
    async fn expires_at(&self) -> Option<Instant> {
        self.0.expires_at.map(Instant)
    }

    /// The time at which the token was last used, accurate to one minute.
    async fn last_used_at(&self) -> Option<Instant> {
        self.0.last_used_at.map(Instant)
    }
}

/// A new integration token. Its text is shown only once.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct CreatedIntegrationToken {
    /// The text for the header `Authorization: Bearer …` and for WebSockets. It is never shown again.
    token: String,
    /// The permissions and the lifetime of the token.
    integration_token: IntegrationToken,
}

/// An integration token to create.
#[derive(InputObject)]
pub(super) struct CreateIntegrationTokenInput {
    /// The ID of the home that the token gives access to.
    home_id: ID,
    /// The display name: 1 to 100 characters.
    name: String,
    /// The permissions of the token: at least one.
    scopes: Vec<Scope>,
    /// The IDs of 1 to 100 devices of the home that the token may access. If absent, it may access all present
    /// and future devices of the home.
    device_ids: Option<Vec<ID>>,
    /// The time at which the token expires. If absent, it is valid until it is revoked.
    expires_at: Option<InstantInput>,
}

#[derive(Default)]
pub(super) struct IntegrationMutation;

#[Object]
impl IntegrationMutation {
    /// Creates a token for an integration, with access to one home. Requires the role ADMIN or OWNER; the token
    /// becomes invalid when its creator loses that role. Fails with CONFLICT if the home has 50 tokens.
    async fn create_integration_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token to create.")] input: CreateIntegrationTokenInput,
    ) -> Result<CreatedIntegrationToken> {
        let services = ctx.services();
        let home = parse_id(&input.home_id, "home")?;
        let access = services.homes.access(ctx.viewer()?, home, Permission::Configure).await?;
        let devices = input.device_ids.map(|ids| ids.iter().map(|id| parse_id(id, "device")).collect());
        let new = NewIntegration {
            name: input.name,
            scopes: Scopes::of(input.scopes.into_iter().map(Into::into)),
            devices: devices.transpose()? as Option<Vec<DeviceId>>,
            expires_at: input.expires_at.map(|at| at.read("expiresAt")).transpose()?,
        };
        let (made, token) = services.integrations.create(access, &ctx.request_context()?, new).await?;
        Ok(CreatedIntegrationToken {
            token: token.reveal().to_owned(),
            integration_token: IntegrationToken(Arc::new(made)),
        })
    }

    /// Revokes an integration token. It becomes invalid at once, and its open connections are closed within one
    /// second. Requires the role ADMIN or OWNER.
    async fn revoke_integration_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the token.")] id: ID,
    ) -> Result<bool> {
        let viewer = ctx.viewer()?;
        ctx.services()
            .integrations
            .revoke(viewer, &ctx.request_context()?, parse_id(&id, "integration token")?)
            .await?;
        Ok(true)
    }
}
