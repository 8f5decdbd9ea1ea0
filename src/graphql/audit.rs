//! The audit log in the graph.

use async_graphql::{Context, Enum, ID, Object};
use serde_json::Value;

use super::context::ContextExt;
use super::error::Result;
use super::members::User;
use super::paging::{self, Page, PageSize};
use super::scalars::{Instant, parse_id};
use crate::audit;
use crate::homes::Permission;

/// Entries of a page, unless the client says otherwise.
const PAGE: usize = 50;
/// What its cursors are of.
const CURSOR: &str = "audit";

/// By what somebody acted.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "audit::ActorKind")]
pub(super) enum ActorKind {
    /// A person who was signed in.
    Session,
    /// A token that the server's operator has made for somebody.
    Operator,
    /// The token of an integration.
    Integration,
    /// A token of an outside issuer, which stands for a person.
    Outside,
}

/// Something that was done in a home. An entry never changes.
pub(super) struct AuditEntry(audit::StoredEntry);

/// Something that was done in a home. An entry never changes.
#[Object(serial)]
impl AuditEntry {
    /// The entry's id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// When it was done.
    async fn at(&self) -> Instant {
        self.0.at.into()
    }

    /// Who did it: the e-mail of that time, or an integration's name. It stays when the account is gone.
    async fn actor(&self) -> &str {
        &self.0.actor
    }

    /// Who did it, while they are a member of one of your homes.
    async fn actor_user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let viewer = ctx.viewer()?.user;
        // Whoever has left everything of theirs shall not be read on by what they once did.
        if ctx.loaders().shared_homes.get(ctx.batch_scope(), viewer, self.0.actor_user).await?.is_none() {
            return Ok(None);
        }
        let user = ctx.loaders().users.get(ctx.batch_scope(), viewer, self.0.actor_user).await?;
        Ok(user.map(|user| User { user, viewer }))
    }

    /// By what they acted.
    async fn actor_kind(&self) -> ActorKind {
        self.0.actor_kind.into()
    }

    /// The network address it came from; null where it is not known.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// What was done, as `thing.deed`: `home.update`, `member.role`, `device.register`, `command.send`,
    /// `config.push` and so on. There may be more of them one day.
    async fn action(&self) -> &str {
        &self.0.action
    }

    /// To what it was done, for people: `device 7 (ESP32_001)`.
    async fn target(&self) -> &str {
        &self.0.target
    }

    /// The target's id, what has changed as `{"old": …, "new": …}`, and what else there is to say. Never a
    /// secret, a payload or a configuration's values. `cut: true` where it was too long.
    async fn details(&self, ctx: &Context<'_>) -> Value {
        ctx.json(&self.0.details).await
    }
}

/// Queries of the audit log.
#[derive(Default)]
pub(super) struct AuditQuery;

#[Object]
impl AuditQuery {
    /// What was done in this home, newest first; entries are kept for 400 days. For admins and owners.
    #[graphql(complexity = "super::paging::page_complexity(first, super::audit::PAGE, child_complexity)")]
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] home_id: ID,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(50))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<AuditEntry>> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::Configure).await?;
        let size = paging::size(first, PAGE)?;
        let after = paging::parse_id_cursor(CURSOR, after.as_deref())?;
        ctx.charge_objects(size).await;
        let entries = homes.audit_log(access, after, paging::limit(size)).await?;
        Ok(paging::page(entries, size, after.is_some(), |entry| {
            (paging::id_cursor(CURSOR, &entry.id), AuditEntry(entry))
        }))
    }
}
