//! Integrations in the graph: their tokens, made, listed and ended.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use super::context::ContextExt;
use super::error::Result;
use super::members::User;
use super::scalars::{Instant, InstantArgument, parse_id};
use crate::homes::{self, NewIntegration, Permission, Scopes};
use crate::ids::DeviceId;

/// One thing that an integration's token may be made for. Whatever its scopes, a token knows the ids and
/// keys of its home and of the devices it reaches, and never sees people.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "homes::Scope")]
pub(super) enum Scope {
    /// See the home, its rooms, its devices and their states.
    DevicesRead,
    /// Read what devices have measured.
    TelemetryRead,
    /// Send commands, take them back, read and follow them.
    CommandsSend,
    /// Push configurations, read and follow them.
    ConfigPush,
    /// Read, acknowledge and resolve alerts. There are none yet: BAD_USER_INPUT in `createIntegrationToken`.
    AlertsManage,
}

/// The token of an integration: whoever holds it acts in one home, as far as its scopes go. The token
/// itself was shown once.
pub(super) struct IntegrationToken(Arc<homes::IntegrationToken>);

impl From<&homes::IntegrationToken> for IntegrationToken {
    fn from(token: &homes::IntegrationToken) -> Self {
        Self(Arc::new(token.clone()))
    }
}

/// The token of an integration: whoever holds it acts in one home, as far as its scopes go. The token
/// itself was shown once.
#[Object(serial)]
impl IntegrationToken {
    /// The token's id, its `jti`.
    async fn id(&self) -> ID {
        ID(self.0.id.to_string())
    }

    /// What people call it.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it may do.
    async fn scopes(&self) -> Vec<Scope> {
        self.0.scopes.iter().map(Scope::from).collect()
    }

    /// Ids of the only devices it reaches; null where it reaches all of its home.
    async fn device_ids(&self) -> Option<Vec<ID>> {
        self.0.devices.as_ref().map(|devices| devices.iter().map(|device| ID::from(*device)).collect())
    }

    /// Who made it. It ends when they may make none any more.
    async fn created_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let (Some(id), viewer) = (self.0.created_by, ctx.person()?.user) else { return Ok(None) };
        Ok(ctx.loaders().users.get(ctx.batch_scope(), viewer, id).await?.map(|user| User { user, viewer }))
    }

    /// When it was made.
    async fn created_at(&self) -> Instant {
        self.0.created_at.into()
    }

    /// When it ends; null where only `revokeIntegrationToken` ends it.
    async fn expires_at(&self) -> Option<Instant> {
        self.0.expires_at.map(Instant)
    }

    /// When it was last used, to within a minute.
    async fn last_used_at(&self) -> Option<Instant> {
        self.0.last_used_at.map(Instant)
    }
}

/// A fresh token, shown this once.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct CreatedIntegrationToken {
    /// For the header `Authorization: Bearer …` and for sockets. It is never shown again.
    token: String,
    /// What it may do, and until when.
    integration_token: IntegrationToken,
}

/// A token to make.
#[derive(InputObject)]
pub(super) struct CreateIntegrationTokenInput {
    /// The home in which it may act.
    home_id: ID,
    /// What to call it: 1 to 100 characters.
    name: String,
    /// What it may do: at least one.
    scopes: Vec<Scope>,
    /// The only devices it reaches, 1 to 100 of the home; all that the home has or will have where this is
    /// left out.
    device_ids: Option<Vec<ID>>,
    /// When it ends; left out, it holds until it is revoked.
    expires_at: Option<InstantArgument>,
}

/// Mutations of integrations.
#[derive(Default)]
pub(super) struct IntegrationMutation;

#[Object]
impl IntegrationMutation {
    /// Makes a token for an integration: it may act in one home, as far as its scopes go. For admins and
    /// owners; a token ends with its maker's right to make one. CONFLICT where the home has 50.
    async fn create_integration_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token to make.")] input: CreateIntegrationTokenInput,
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

    /// Ends an integration's token: it is refused from now on, and its open sockets and streams end within a
    /// second. For admins and owners of its home.
    async fn revoke_integration_token(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The token's id.")] id: ID,
    ) -> Result<bool> {
        let viewer = ctx.viewer()?;
        ctx.services()
            .integrations
            .revoke(viewer, &ctx.request_context()?, parse_id(&id, "integration token")?)
            .await?;
        Ok(true)
    }
}
