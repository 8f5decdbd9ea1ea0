//! Changes of commands. A reader that falls behind is caught up from the database by the time of the last
//! change; a state may be read twice there, but is told once.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_graphql::{Context, ID};
use chrono::{DateTime, Utc};
use futures_util::Stream;
use futures_util::stream::unfold;
use lru::LruCache;

use super::super::Services;
use super::super::commands::Command;
use super::super::context::ContextExt;
use super::super::error::Result;
use super::super::scalars::parse_id;
use super::SubscriptionTarget;
use crate::commands::{self, ChangeCursor};
use crate::db::spawn_and_join;
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::hub::{HubEvent, HubReceiver};
use crate::ids::CommandId;

/// Commands read at a time.
const PAGE: i64 = 500;
/// Commands whose last told change is remembered, so that none is told twice or out of order.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("positive");

/// Whose changes are wanted.
pub(super) struct Wanted {
    pub(super) target: SubscriptionTarget,
    access: Access,
    command: Option<CommandId>,
}

struct Updates<'a> {
    services: &'a Services,
    wanted: Wanted,
    listener: HubReceiver<commands::Command>,
    /// Where to read on from, should the listener miss some.
    cursor: ChangeCursor,
    told: LruCache<CommandId, DateTime<Utc>>,
    page: VecDeque<Arc<commands::Command>>,
    next: Next,
}

enum Next {
    /// Reading what was missed, from after this change on.
    Missed(ChangeCursor),
    Live,
    End,
}

/// Exactly one of the three ids, and the right to read what it names.
pub(super) async fn wanted(
    ctx: &Context<'_>,
    device_id: Option<ID>,
    home_id: Option<ID>,
    command_id: Option<ID>,
) -> Result<Wanted> {
    let viewer = ctx.viewer()?;
    let (device_id, home_id, command) = match (device_id, home_id, command_id) {
        (None, None, Some(id)) => {
            let (commands, viewer, id) = (ctx.services().commands.clone(), viewer.user, parse_id(&id, "command")?);
            let command = spawn_and_join(async move { commands.find(viewer, id).await }).await?;
            (Some(command.device.into()), None, Some(id))
        }
        (device_id @ Some(_), None, None) => (device_id, None, None),
        (None, home_id @ Some(_), None) => (None, home_id, None),
        _ => return Err(Error::bad_input("deviceId", "give exactly one of deviceId, homeId and commandId").into()),
    };
    let target = super::target(ctx, Permission::ReadCommands, device_id, home_id).await?;
    let access = super::access(ctx, viewer, target.home, target.permission).await?;
    Ok(Wanted { target, access, command })
}

/// Listens from the moment of this call. One command's present state comes first.
pub(super) async fn stream<'a>(
    services: &'a Services,
    wanted: Wanted,
) -> Result<impl Stream<Item = Result<Command>> + Send + 'a> {
    let listener = services.commands.subscribe(wanted.access);
    let (commands, access) = (services.commands.clone(), wanted.access);
    let cursor = spawn_and_join(async move { commands.cursor(access).await }).await?;
    let present = wanted.command.map(|id| {
        let (commands, viewer) = (services.commands.clone(), wanted.access.user());
        spawn_and_join(async move { commands.find(viewer, id).await })
    });
    let mut page = VecDeque::new();
    if let Some(present) = present {
        page.push_back(Arc::new(present.await?));
    }
    let updates =
        Updates { services, wanted, listener, cursor, told: LruCache::new(REMEMBERED), page, next: Next::Live };
    Ok(unfold(updates, |mut updates| async move {
        let item = updates.next().await.transpose()?;
        if item.is_err() {
            updates.next = Next::End;
        }
        Some((item, updates))
    }))
}

impl Updates<'_> {
    async fn next(&mut self) -> Result<Option<Command>> {
        loop {
            if let Some(command) = self.page.pop_front() {
                if self.is_news(&command) {
                    return Ok(Some(Command(command)));
                }
                continue;
            }
            match self.next {
                Next::End => return Ok(None),
                Next::Missed(after) => self.read_missed(after).await?,
                Next::Live => match self.listener.recv().await {
                    HubEvent::Closed => return Ok(None),
                    HubEvent::Lagged(_) => self.next = Next::Missed(self.cursor),
                    HubEvent::Published(command) => {
                        self.cursor = ChangeCursor::well_before(Some(command.updated_at));
                        self.page.push_back(command);
                    }
                },
            }
        }
    }

    /// Whether it is wanted and newer than what was told of it: two who publish may overtake each other.
    fn is_news(&mut self, command: &commands::Command) -> bool {
        let Wanted { target, command: wanted, .. } = &self.wanted;
        let is_wanted = target.device.is_none_or(|device| device == command.device)
            && wanted.is_none_or(|wanted| wanted == command.id);
        if !is_wanted || self.told.get(&command.id).is_some_and(|told| *told >= command.updated_at) {
            return false;
        }
        self.told.put(command.id, command.updated_at);
        true
    }

    async fn read_missed(&mut self, after: ChangeCursor) -> Result<()> {
        let (commands, access, device) =
            (self.services.commands.clone(), self.wanted.access, self.wanted.target.device);
        let page = spawn_and_join(async move { commands.changed(access, device, after, PAGE).await }).await?;
        self.services.metrics.subscription_catch_ups.inc_by(page.len() as u64);
        self.next = match page.last() {
            Some(last) if i64::try_from(page.len()).is_ok_and(|n| n == PAGE) => Next::Missed(ChangeCursor::after(last)),
            _ => Next::Live,
        };
        self.page = page.into_iter().map(Arc::new).collect();
        Ok(())
    }
}
