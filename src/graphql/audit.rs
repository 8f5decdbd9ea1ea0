//! The audit log.

use async_graphql::{Context, Enum, ID, Object};

use super::context::ContextExt;
use super::error::Result;
use super::inputs::IntInput;
use super::members::User;
use super::paging::{Page, PageArguments, PageRequest};
use super::scalars::{Instant, Json, parse_id};
use crate::audit;
use crate::homes::Permission;

const PAGE: usize = 50;

/// The credential with which the actor was authenticated.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(remote = "audit::ActorKind")]
pub(super) enum ActorKind {
    /// The session of a signed-in user.
    Session,
    /// A token that the operator of the server created for a user.
    Operator,
    /// The token of an integration.
    Integration,
    /// A token of an external identity provider, issued for a user.
    #[graphql(name = "OUTSIDE")]
    External,
}

pub(super) struct AuditEntry(audit::StoredEntry);

/// A change that was made in a home. Entries are immutable.
#[Object(serial)]
impl AuditEntry {
    /// The ID of the entry.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The time of the change.
    async fn at(&self) -> Instant {
        self.0.at.into()
    }

    /// The e-mail address of the user, or the name of the integration, at the time of the change. It remains
    /// after the account is deleted.
    async fn actor(&self) -> &str {
        &self.0.actor
    }

    /// The user who made the change. Null if you no longer share a home with this user.
    async fn actor_user(&self, ctx: &Context<'_>) -> Result<Option<User>> {
        let viewer = ctx.viewer()?.user;
        // Old entries must not reveal the present account of somebody who has left all homes of the viewer.
        if ctx.loaders().shared_homes.get(ctx.batch_scope(), viewer, self.0.actor_user).await?.is_none() {
            return Ok(None);
        }
        let user = ctx.loaders().users.get(ctx.batch_scope(), viewer, self.0.actor_user).await?;
        Ok(user.map(|user| User { user, viewer }))
    }

    /// The credential with which the actor was authenticated.
    async fn actor_kind(&self) -> ActorKind {
        self.0.actor_kind.into()
    }

    /// The network address of the client. Null if it is unknown.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    /// The kind of change: `home.create`, `home.update`, `home.delete`, `room.create`, `room.rename`, `room.delete`,
    /// `invitation.create`, `invitation.revoke`, `invitation.accept`, `member.role`, `member.remove`,
    /// `device.register`, `device.update`, `device.delete`, `device.rotate_credentials`, `command.send`,
    /// `command.cancel`, `config.push`, `config.rollback`, `token.create` or `token.revoke`. Later versions may add
    /// more.
    async fn action(&self) -> &str {
        &self.0.action
    }

    /// The changed object, as text for people: `device 7 (ESP32_001)`.
    async fn target(&self) -> &str {
        &self.0.target
    }

    /// The ID of the changed object, changed values as `{"old": …, "new": …}`, and further details. It never
    /// contains secrets, payloads or configuration values. `cut: true` marks shortened details.
    async fn details(&self, ctx: &Context<'_>) -> Json {
        ctx.json(&self.0.details).await
    }
}

#[derive(Default)]
pub(super) struct AuditQuery;

#[Object]
impl AuditQuery {
    /// The changes made in a home, newest first. Entries are kept for 400 days. Requires the role ADMIN or OWNER.
    async fn audit_log(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(50))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Page<AuditEntry>>> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::Configure).await?;
        let page = PageRequest::parse("audit", &PageArguments { first, after }, PAGE)?;
        ctx.charge_objects(page.size).await;
        let entries = homes.audit_log(access, page.after, page.limit()).await?;
        Ok(Some(page.page(entries, |entry| (entry.id.get(), AuditEntry(entry)))))
    }
}
