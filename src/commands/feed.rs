//! The feed of commands. A catch-up reads by the time of the last change, which is not the order of commits: it
//! starts well before the last change that was sent, and skips what was sent already.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::Stream;

use super::{Command, Commands, store};
use crate::db::spawn_and_join;
use crate::error::Error;
use crate::follow::{Feed, Followed, MAX_COMMIT_DELAY, Page, PageRead, SentChanges, follow};
use crate::homes::{Access, Permission};
use crate::ids::{CommandId, DeviceId, UserId};
use crate::turns::Turns;

/// Commands read from the database at a time.
const PAGE: i64 = 500;

/// The commands of a home that a subscriber wants.
#[derive(Debug, Clone, Copy)]
pub enum CommandFilter {
    Home,
    Device(DeviceId),
    /// One command, and the device that receives it.
    Command(CommandId, DeviceId),
}

impl CommandFilter {
    /// The one device whose commands are wanted.
    fn device(self) -> Option<DeviceId> {
        match self {
            Self::Home => None,
            Self::Device(device) | Self::Command(_, device) => Some(device),
        }
    }
}

/// A position in the order of changes.
pub(super) type ChangeCursor = (DateTime<Utc>, CommandId);

impl Commands {
    /// The command as the viewer sees it, and the viewer's access to its home. Needs
    /// [`Permission::ReadCommands`].
    pub async fn find_with_access(&self, viewer: UserId, id: CommandId) -> Result<(Command, Access), Error> {
        let mut conn = self.pool.get().await?;
        let found = store::find_visible(&mut conn, viewer, &[id]).await?.pop();
        let (command, membership) = found.ok_or(Error::NotFound("command"))?;
        Ok((command, membership.allow(Permission::ReadCommands)?))
    }

    /// Changes of the commands of a home from the moment of this call, each with the command's new state. The
    /// present state of a single command comes first. Needs [`Permission::ReadCommands`].
    pub async fn follow(
        &self,
        access: Access,
        filter: CommandFilter,
        turns: &Turns,
    ) -> Result<impl Stream<Item = Result<Followed<Arc<Command>>, Error>> + Send + 'static + use<>, Error> {
        let access = access.require(Permission::ReadCommands)?;
        let receiver = self.hub.subscribe(access.home(), filter.device());
        let last = match filter {
            // Only its present state is ever read.
            CommandFilter::Command(..) => DateTime::UNIX_EPOCH,
            CommandFilter::Home | CommandFilter::Device(_) => self.last_change(access).await?,
        };
        let feed = CommandFeed { commands: self.clone(), access, filter, last, sent: SentChanges::default() };
        let start = matches!(filter, CommandFilter::Command(..)).then_some((last, CommandId::FIRST));
        Ok(follow(feed, receiver, start, turns.of(access.user()), &self.metrics))
    }

    async fn last_change(&self, access: Access) -> Result<DateTime<Utc>, Error> {
        let pool = self.pool.clone();
        let last = spawn_and_join(async move {
            let mut conn = pool.get().await?;
            Ok::<_, Error>(store::last_change(&mut conn, access.home()).await?)
        });
        Ok(last.await?.unwrap_or_default())
    }

    async fn changed(&self, access: Access, filter: CommandFilter, after: ChangeCursor) -> Result<Vec<Command>, Error> {
        let mut conn = self.pool.get().await?;
        let device = match filter {
            CommandFilter::Home => None,
            CommandFilter::Device(device) => Some(device),
            CommandFilter::Command(id, _) => {
                let found = store::find_visible(&mut conn, access.user(), &[id]).await?;
                return Ok(found.into_iter().map(|(command, _)| command).collect());
            }
        };
        Ok(store::changed(&mut conn, access.home(), device, after, PAGE).await?)
    }
}

struct CommandFeed {
    commands: Commands,
    access: Access,
    filter: CommandFilter,
    /// The change received last. It need not be the one with the latest time: the database's clock may be set back.
    last: DateTime<Utc>,
    sent: SentChanges<CommandId>,
}

impl Feed for CommandFeed {
    type Event = Command;
    type Item = Arc<Command>;
    type Cursor = ChangeCursor;

    fn resume(&self, first: &Command) -> ChangeCursor {
        (self.last.max(first.updated_at) - MAX_COMMIT_DELAY, CommandId::FIRST)
    }

    fn page(&self, after: ChangeCursor) -> PageRead<Arc<Command>, ChangeCursor> {
        let (commands, access, filter) = (self.commands.clone(), self.access, self.filter);
        Box::pin(async move {
            let commands = commands.changed(access, filter, after).await?;
            let commands: VecDeque<_> = commands.into_iter().map(Arc::new).collect();
            Ok(Page::limited(commands, PAGE, |last| (last.updated_at, last.id)))
        })
    }

    async fn item(&mut self, command: &Arc<Command>) -> Result<Option<Arc<Command>>, Error> {
        Ok(self.accept(command).then(|| command.clone()))
    }

    fn accept(&mut self, command: &Arc<Command>) -> bool {
        self.last = command.updated_at;
        let is_wanted = match self.filter {
            CommandFilter::Home | CommandFilter::Device(_) => true,
            CommandFilter::Command(id, _) => id == command.id,
        };
        is_wanted && self.sent.advance(command.id, command.updated_at)
    }
}
