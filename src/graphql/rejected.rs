//! Rejected messages in the graph.

use async_graphql::{Context, ID, Object};

use super::context::ContextExt;
use super::error::Result;
use super::paging::{self, Page, PageSize};
use super::scalars::{Instant, parse_id};
use crate::homes::{self, Permission};

/// Rejected messages of a page, unless the client says otherwise.
const PAGE: usize = 50;
/// What its cursors are of.
const CURSOR: &str = "rejected";

/// A message that named a home and could not be used.
pub(super) struct RejectedMessage(homes::RejectedMessage);

/// A message that named a home and could not be used.
#[Object(serial)]
impl RejectedMessage {
    /// The entry's id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Where it was published.
    async fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Why it could not be used: a stable word in upper case. `RATE_LIMITED` stands for many: of what a device
    /// sends beyond its limit one message a minute is here, and all are counted in `Device.shedMessages`.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Its first 512 bytes; what is not UTF-8 is replaced.
    async fn payload_preview(&self) -> &str {
        &self.0.payload_preview
    }

    /// When the server took it from the broker.
    async fn received_at(&self) -> Instant {
        self.0.received_at.into()
    }
}

/// Queries of rejected messages.
#[derive(Default)]
pub(super) struct RejectedQuery;

#[Object]
impl RejectedQuery {
    /// Messages that named this home and could not be used, newest first. For admins and owners.
    #[graphql(complexity = "super::paging::page_complexity(first, super::rejected::PAGE, child_complexity)")]
    async fn rejected_messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The home's id.")] home_id: ID,
        #[graphql(desc = "Items of a page, 0 to 500.", default_with = "Some(PageSize::from(50))")] first: Option<
            PageSize,
        >,
        #[graphql(desc = "Cursor of the last item of the page before.")] after: Option<String>,
    ) -> Result<Page<RejectedMessage>> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::Configure).await?;
        let size = paging::size(first, PAGE)?;
        let after = paging::parse_id_cursor(CURSOR, after.as_deref())?;
        ctx.charge_objects(size).await;
        let messages = homes.rejected_messages(access, after, paging::limit(size)).await?;
        Ok(paging::page(messages, size, after.is_some(), |message| {
            (paging::id_cursor(CURSOR, &message.id), RejectedMessage(message))
        }))
    }
}
