//! Commands.

use std::sync::Arc;

use async_graphql::{Context, ID, Object};

use super::command_enums::{CommandSource, CommandStatus, ConfirmedBy, OnStale};
use super::command_input::SendCommandInput;
use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::loaders::CommandPage;
use super::members::{self, User};
use super::paging::{self, Page, PageArguments, PageRequest};
use super::scalars::{Instant, Json, parse_id};
use crate::commands;
use crate::db::JsonText;
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::homes::Permission;
use crate::ids::CommandId;

pub(super) const PAGE: usize = 50;

/// A command, and its device if that is known already.
pub(super) struct Command(pub(super) Arc<commands::Command>, pub(super) Option<Device>);

impl From<Arc<commands::Command>> for Command {
    fn from(command: Arc<commands::Command>) -> Self {
        Self(command, None)
    }
}

async fn optional_json(ctx: &Context<'_>, text: Option<&JsonText>) -> Option<Json> {
    match text {
        Some(text) => Some(ctx.json(text).await),
        None => None,
    }
}

/// A command to a device.
#[Object(serial)]
impl Command {
    /// The ID of the command, for example `cmd_01J…`. The device receives it as `commandId`.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The device that receives the command.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        if let Some(device) = &self.1 {
            return Ok(device.clone());
        }
        Device::load(ctx, self.0.device).await
    }

    /// The type of the command: `SET_POWER`, `SET_BRIGHTNESS`, `SET_COLOR`, `RESET`, `UPDATE_CONFIG`, or any other that
    /// was sent.
    #[graphql(name = "type")]
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The arguments of the command, as they were sent.
    async fn payload(&self, ctx: &Context<'_>) -> Json {
        ctx.json(&self.0.payload).await
    }

    /// The origin of the command.
    async fn source(&self) -> CommandSource {
        self.0.source.into()
    }

    /// A text that links the command to other records of the client. The device receives it too.
    async fn correlation_id(&self) -> &str {
        &self.0.correlation_id
    }

    /// The state of the command.
    async fn status(&self) -> CommandStatus {
        self.0.status.into()
    }

    /// The result that the device reported.
    async fn result(&self, ctx: &Context<'_>) -> Option<Json> {
        optional_json(ctx, self.0.result.as_ref()).await
    }

    /// Why the command failed, ended early or is delayed, as text for people.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// What happens to the command if a newer one of its type is sent while it waits.
    async fn on_stale(&self) -> OnStale {
        self.0.on_stale.into()
    }

    /// The readings or status fields that show the effect of the command.
    async fn expect(&self, ctx: &Context<'_>) -> Option<Json> {
        optional_json(ctx, self.0.expect.as_ref()).await
    }

    /// The evidence for the outcome. Null while there is no outcome.
    async fn confirmed_by(&self) -> Option<ConfirmedBy> {
        self.0.confirmed_by.map(Into::into)
    }

    /// The newer command that replaced this one before it was sent.
    async fn superseded_by(&self, ctx: &Context<'_>) -> Result<Option<Command>> {
        let Some(id) = self.0.superseded_by else { return Ok(None) };
        Ok(ctx.loaders().commands.get(ctx.batch_scope(), ctx.viewer()?.user, id).await?.map(Into::into))
    }

    /// How many seconds the device has to answer after the command was sent, and again after it was
    /// acknowledged.
    async fn timeout_seconds(&self) -> i32 {
        self.0.timeout_seconds
    }

    /// The user or integration that sent the command. Null if the account was deleted.
    async fn requested_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let (Some(id), viewer) = (self.0.requested_by, members::viewer_of(ctx, self.0.requested_by)?) else {
            return Ok(None);
        };
        let user = ctx.loaders().users.get(ctx.batch_scope(), viewer, id).await?;
        Ok(user.map(|user| User { user, viewer }))
    }

    /// The time at which the server stored the command.
    async fn created_at(&self) -> Instant {
        self.0.created_at.into()
    }

    /// The time at which the broker acknowledged the message.
    async fn sent_at(&self) -> Option<Instant> {
        self.0.sent_at.map(Instant)
    }

    /// The time at which the device acknowledged the command.
    async fn acked_at(&self) -> Option<Instant> {
        self.0.acked_at.map(Instant)
    }

    /// The time at which the command reached a final state.
    async fn finished_at(&self) -> Option<Instant> {
        self.0.finished_at.map(Instant)
    }

    /// The time after which neither the server nor the broker delivers the command.
    async fn expires_at(&self) -> Option<Instant> {
        Some(self.0.expires_at.into())
    }
}

/// A page of a device's commands, newest first.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    status: Option<CommandStatus>,
    arguments: PageArguments,
) -> Result<Page<Command>> {
    let page = PageRequest::parse("command", &arguments, PAGE)?;
    let group = CommandPage { status: status.map(Into::into), before: page.after, limit: page.limit() };
    let (viewer, loader) = (device.access().user(), &ctx.loaders().command_pages);
    let commands = paging::load_page(ctx, page.size, loader.get(ctx.batch_scope(), (viewer, group), device)).await?;
    Ok(page.page(commands, |command| (command.seq, command.into())))
}

#[derive(Default)]
pub(super) struct CommandQuery;

#[Object]
impl CommandQuery {
    /// A command to a device in one of your homes. Fails with NOT_FOUND for any other command.
    async fn command(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the command.")] id: ID,
    ) -> Result<Option<Command>> {
        let (viewer, id): (_, CommandId) = (ctx.viewer()?.user, parse_id(&id, "command")?);
        let command = ctx.loaders().commands.get(ctx.batch_scope(), viewer, id).await?;
        Ok(Some(command.ok_or(Error::NotFound("command"))?.into()))
    }
}

#[derive(Default)]
pub(super) struct CommandMutation;

#[Object]
impl CommandMutation {
    /// Sends a command to a device. The server stores the command before it answers, and sends it as soon as the
    /// broker is connected. Commands to one device keep their order. Follow it with `commandProgress`.
    /// Requires the role MEMBER or higher. Fails with CONFLICT if the device has 100 unfinished commands.
    async fn send_command(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The command to send.")] input: SendCommandInput,
    ) -> Result<Command> {
        let (services, viewer) = (ctx.services(), ctx.viewer()?);
        let device = services.devices.find(viewer.user, parse_id(&input.device_id, "device")?).await?;
        let access = device.allow(Permission::Control)?;
        let command = services.commands.send(access, &ctx.request_context()?, &device, input.parse(access)?).await?;
        Ok(Arc::new(command).into())
    }

    /// Cancels a command that was not sent, or for which the broker found no subscriber. Fails with CONFLICT if
    /// the device may have received it. Returns a command that is already cancelled unchanged. Requires the role
    /// MEMBER or higher.
    async fn cancel_command(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the command.")] id: ID,
    ) -> Result<Command> {
        let (commands, viewer) = (&ctx.services().commands, ctx.viewer()?);
        let command = commands.cancel(viewer.user, &ctx.request_context()?, parse_id(&id, "command")?).await?;
        Ok(Arc::new(command).into())
    }
}
