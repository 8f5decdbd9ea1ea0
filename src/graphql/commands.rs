//! Commands in the graph.

use std::sync::Arc;

use async_graphql::{Context, Enum, ID, InputObject, Json, Object, Value};

use super::context::ContextExt;
use super::devices::Device;
use super::error::Result;
use super::inputs::{JsonInput, Seconds};
use super::loaders::CommandPage;
use super::members::{self, User};
use super::paging::{self, Page, PageSize};
use super::scalars::{Instant, parse_id};
use crate::commands::{self, DEFAULT_EXPIRY_SECONDS, DEFAULT_TIMEOUT_SECONDS, NewCommand};
use crate::db::JsonText;
use crate::devices::DeviceAccess;
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::CommandId;

/// Commands of a page, unless the client says otherwise.
pub(super) const PAGE: usize = 50;
/// What its cursors are of.
const CURSOR: &str = "command";

/// How far a command has come. It never claims more than was seen.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::CommandStatus")]
pub(super) enum CommandStatus {
    /// Stored: it will be sent as soon as the broker and the device are there. Next: SENT, or EXPIRED,
    /// or CANCELLED; an answer that overtakes the broker's confirmation counts.
    Pending,
    /// The broker confirmed it; nothing came from the device yet.
    Sent,
    /// The device said that it has it; the outcome is still to come.
    Acked,
    /// The device said that it did it, or its readings show that it did: see `confirmedBy`.
    Succeeded,
    /// The device said that it could not do it: see `error`.
    Failed,
    /// No answer, or no outcome after ACKED, within `timeoutSeconds`. It may have been done; a late answer
    /// corrects this.
    TimedOut,
    /// The broker had not confirmed it by `expiresAt`: it is not sent any more. Should it have left all the
    /// same, an answer corrects this.
    Expired,
    /// Taken back, or replaced by a newer command, before it could leave.
    Cancelled,
}

/// Who acts.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::CommandSource")]
pub(super) enum CommandSource {
    /// A person.
    User,
    /// An integration.
    Integration,
    /// A rule.
    Automation,
    /// The server itself.
    Backend,
    /// A test.
    Test,
}

/// What becomes of a command that waits when a newer one of the same type comes for its device.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::OnStale")]
pub(super) enum OnStale {
    /// It waits on, and is sent in its turn unless it expires.
    Expire,
    /// The newer one ends it as CANCELLED, if it has not left: a light that was switched five times while it
    /// was away gets one command.
    Supersede,
}

/// What showed the outcome of a command.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "commands::ConfirmedBy")]
pub(super) enum ConfirmedBy {
    /// The device's own answer.
    Ack,
    /// The effect named in `expect`, seen in a reading or a status.
    Effect,
}

/// One thing that a device was told to do.
pub(super) struct Command(pub(super) Arc<commands::Command>);

/// As it was given: the order of its keys is kept.
async fn json(ctx: &Context<'_>, text: &JsonText) -> Json<Value> {
    ctx.charge_bytes(text.value_bytes()).await;
    Json(serde_json::from_str(text.as_str()).unwrap_or_default())
}

async fn optional_json(ctx: &Context<'_>, text: Option<&JsonText>) -> Option<Json<Value>> {
    match text {
        Some(text) => Some(json(ctx, text).await),
        None => None,
    }
}

/// One thing that a device was told to do.
#[Object(serial)]
impl Command {
    /// The command's id, the `commandId` on the wire: `cmd_01J…`.
    async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The device that is to do it.
    async fn device(&self, ctx: &Context<'_>) -> Result<Device> {
        let device = ctx.loaders().devices.get(ctx.batch_scope(), ctx.viewer()?.user, self.0.device).await?;
        Ok(Device(device.ok_or(Error::NotFound("device"))?))
    }

    /// What is to be done, e.g. `SET_POWER`.
    #[graphql(name = "type")]
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Its arguments, as they were given.
    async fn payload(&self, ctx: &Context<'_>) -> Json<Value> {
        json(ctx, &self.0.payload).await
    }

    /// Who acts.
    async fn source(&self) -> CommandSource {
        self.0.source.into()
    }

    /// What the requester joins it with; handed on to the device.
    async fn correlation_id(&self) -> &str {
        &self.0.correlation_id
    }

    /// How far it has come.
    async fn status(&self) -> CommandStatus {
        self.0.status.into()
    }

    /// What the device answered with the outcome.
    async fn result(&self, ctx: &Context<'_>) -> Option<Json<Value>> {
        optional_json(ctx, self.0.result.as_ref()).await
    }

    /// Why it failed, ended early or is late, for people.
    async fn error(&self) -> Option<&str> {
        self.0.error.as_deref()
    }

    /// What becomes of it while it waits and a newer one of its type comes.
    async fn on_stale(&self) -> OnStale {
        self.0.on_stale.into()
    }

    /// What readings or status show once it is done.
    async fn expect(&self, ctx: &Context<'_>) -> Option<Json<Value>> {
        optional_json(ctx, self.0.expect.as_ref()).await
    }

    /// What showed the outcome; null while there is none.
    async fn confirmed_by(&self) -> Option<ConfirmedBy> {
        self.0.confirmed_by.map(Into::into)
    }

    /// The newer command that ended this one before it left.
    async fn superseded_by(&self, ctx: &Context<'_>) -> Result<Option<Command>> {
        let Some(id) = self.0.superseded_by else { return Ok(None) };
        Ok(ctx.loaders().commands.get(ctx.batch_scope(), ctx.viewer()?.user, id).await?.map(Command))
    }

    /// How long an answer may take in seconds: after it was sent, and again after it was acknowledged.
    async fn timeout_seconds(&self) -> i32 {
        self.0.timeout_seconds
    }

    /// Who asked for it; null where the account is gone.
    async fn requested_by(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let (Some(id), viewer) = (self.0.requested_by, members::viewer_of(ctx, self.0.requested_by)?) else {
            return Ok(None);
        };
        let user = ctx.loaders().users.get(ctx.batch_scope(), viewer, id).await?;
        Ok(user.map(|user| User { user, viewer }))
    }

    /// When it was accepted.
    async fn created_at(&self) -> Instant {
        self.0.created_at.into()
    }

    /// When the broker confirmed it.
    async fn sent_at(&self) -> Option<Instant> {
        self.0.sent_at.map(Instant)
    }

    /// When the device said that it has it.
    async fn acked_at(&self) -> Option<Instant> {
        self.0.acked_at.map(Instant)
    }

    /// When the outcome came, or nothing more was waited for.
    async fn finished_at(&self) -> Option<Instant> {
        self.0.finished_at.map(Instant)
    }

    /// After this it is not sent any more, nor delivered by the broker.
    async fn expires_at(&self) -> Option<Instant> {
        Some(self.0.expires_at.into())
    }
}

/// A command to send.
#[derive(InputObject)]
pub(super) struct SendCommandInput {
    /// The device that is to do it.
    device_id: ID,
    /// What is to be done: 1 to 64 letters, digits, `_`, `.`, `:`, `-`. Checked are `SET_POWER {power,
    /// brightness?, color?}`, `SET_BRIGHTNESS {brightness}` (0 to 100), `SET_COLOR {color}` (`"#RRGGBB"`),
    /// `RESET {}` and `UPDATE_CONFIG {…}` (without secrets: send those with `pushConfig`). Others are handed on
    /// as they are.
    #[graphql(name = "type")]
    kind: String,
    /// Its arguments: at most 8 KiB of JSON.
    #[graphql(default_with = "JsonInput::empty_object()")]
    payload: JsonInput,
    /// What you join it with, 1 to 128 characters; one is made where none is given. The device gets it.
    correlation_id: Option<String>,
    /// Your name for this request, 1 to 128 characters: the same key and input again return the first
    /// command and send nothing; other input is CONFLICT. It is kept as long as its command. With it alone it is
    /// safe to repeat a request whose answer did not arrive, or was OUTCOME_UNKNOWN.
    idempotency_key: Option<String>,
    /// How long an answer may take in seconds, 1 to 86,400: after it was sent, and again after it was
    /// acknowledged.
    #[graphql(default_with = "Some(Seconds::default_of(DEFAULT_TIMEOUT_SECONDS))")]
    timeout_seconds: Option<Seconds>,
    /// How long it may wait to be sent in seconds, 1 to 604,800. Where it is left out, `RESET` and every command to
    /// a device of type DOOR wait 30 seconds only: they must not happen late. One with less than a second left is not
    /// sent any more.
    #[graphql(default_with = "Some(Seconds::default_of(DEFAULT_EXPIRY_SECONDS))")]
    expires_in_seconds: Option<Seconds>,
    /// What becomes of it while it waits and a newer one of its type comes for the device. Left out:
    /// SUPERSEDE for `SET_POWER`, `SET_BRIGHTNESS` and `SET_COLOR`, EXPIRE for all others.
    on_stale: Option<OnStale>,
    /// What shows that it was done, for devices that never answer: `{"powerW": {"min": 5}, "online": true}`. 1
    /// to 16 names of readings or of fields of the status, each with a number, text, true or false, or with
    /// `{"min": …, "max": …}`. Once a message that came after sending shows all of them, the command is
    /// SUCCEEDED, `confirmedBy: EFFECT`.
    expect: Option<JsonInput>,
}

impl SendCommandInput {
    fn parse(self, access: Access) -> Result<NewCommand> {
        let is_integration = access.is_integration();
        Ok(NewCommand {
            kind: self.kind,
            payload: self.payload.text(),
            source: if is_integration { commands::CommandSource::Integration } else { commands::CommandSource::User },
            correlation_id: self.correlation_id,
            idempotency_key: self.idempotency_key,
            on_stale: self.on_stale.map(Into::into),
            expect: self.expect.as_ref().map(JsonInput::text),
            timeout_seconds: Seconds::read(self.timeout_seconds, "timeoutSeconds")?,
            expires_in_seconds: Seconds::read(self.expires_in_seconds, "expiresInSeconds")?,
        })
    }
}

/// A page of a device's commands, newest first.
pub(super) async fn page(
    ctx: &Context<'_>,
    device: DeviceAccess,
    status: Option<CommandStatus>,
    first: Option<PageSize>,
    after: Option<String>,
) -> Result<Page<Command>> {
    let size = paging::size(first, PAGE)?;
    let before = paging::parse_id_cursor(CURSOR, after.as_deref())?;
    // Before reading: a wave of pages is read at once.
    ctx.reserve_page(size).await;
    let page = CommandPage { status: status.map(Into::into), before, limit: paging::limit(size) };
    let commands = ctx.loaders().command_pages.get(ctx.batch_scope(), (device.access().user(), page), device).await?;
    let commands = commands.map(|commands| commands.to_vec()).unwrap_or_default();
    ctx.refund_page(size, commands.len()).await;
    Ok(paging::page(commands, size, before.is_some(), |command| {
        (paging::id_cursor(CURSOR, &command.seq), Command(command))
    }))
}

/// Queries of commands.
#[derive(Default)]
pub(super) struct CommandQuery;

#[Object]
impl CommandQuery {
    /// A command to a device of one of your homes; NOT_FOUND for every other.
    async fn command(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The command's id.")] id: ID,
    ) -> Result<Option<Command>> {
        let (viewer, id): (_, CommandId) = (ctx.viewer()?.user, parse_id(&id, "command")?);
        let command = ctx.loaders().commands.get(ctx.batch_scope(), viewer, id).await?;
        Ok(Some(Command(command.ok_or(Error::NotFound("command"))?)))
    }
}

/// Mutations of commands.
#[derive(Default)]
pub(super) struct CommandMutation;

#[Object]
impl CommandMutation {
    /// Tells a device to do something. The command is stored before this answers, and sent as soon as the
    /// broker is there, in the order of the device's commands; `commandUpdates` tells how far it comes. For
    /// members and up. CONFLICT where the device has 100 open commands.
    async fn send_command(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The command to send.")] input: SendCommandInput,
    ) -> Result<Command> {
        let (services, viewer) = (ctx.services(), ctx.viewer()?);
        let device = services.devices.find(viewer.user, parse_id(&input.device_id, "device")?).await?;
        let access = device.allow(Permission::Control)?;
        let command = services.commands.send(access, &ctx.request_context()?, &device, input.parse(access)?).await?;
        Ok(Command(Arc::new(command)))
    }

    /// Takes a command back that has not left, or that the broker had nobody to give to. CONFLICT once the
    /// device may have it; one that is cancelled already is returned as it is. For members and up.
    async fn cancel_command(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The command's id.")] id: ID,
    ) -> Result<Command> {
        let (commands, viewer) = (&ctx.services().commands, ctx.viewer()?);
        Ok(Command(Arc::new(commands.cancel(viewer.user, &ctx.request_context()?, parse_id(&id, "command")?).await?)))
    }
}
