//! Rejected messages.

use async_graphql::{Context, ID, Object};

use super::context::ContextExt;
use super::error::Result;
use super::inputs::IntInput;
use super::paging::{Page, PageArguments, PageRequest};
use super::scalars::{Instant, parse_id};
use crate::homes::{self, Permission};

const PAGE: usize = 50;

pub(super) struct RejectedMessage(homes::RejectedMessage);

/// An MQTT message to a topic of a home that the server could not process.
#[Object(serial)]
impl RejectedMessage {
    /// The ID of the entry.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The topic of the message.
    async fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Why the message was rejected: `BAD_TOPIC`, `UNKNOWN_DEVICE`, `UNKNOWN_COMMAND`, `TOO_LARGE`, `NOT_UTF8`,
    /// `BAD_JSON`, `BAD_SHAPE`, `DUPLICATE_KEY`, `RETAINED`, `RATE_LIMITED`, `DAILY_LIMIT` or `NOT_STORABLE`. Later
    /// versions may add more. `RATE_LIMITED` and `DAILY_LIMIT` are sampled: at most one of a device's messages above a
    /// limit is listed per minute. `Device.shedMessages` counts all of them.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What to change so that the server accepts such a message, as text for people.
    async fn detail(&self) -> &str {
        self.0.detail()
    }

    /// The first 512 bytes of the payload. Bytes that are not UTF-8 are replaced.
    async fn payload_preview(&self) -> &str {
        &self.0.payload_preview
    }

    /// The time at which the server received the message from the broker.
    async fn received_at(&self) -> Instant {
        self.0.received_at.into()
    }
}

#[derive(Default)]
pub(super) struct RejectedQuery;

#[Object]
impl RejectedQuery {
    /// The messages to topics of a home that the server could not process, newest first. Requires the role
    /// ADMIN or OWNER.
    async fn rejected_messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The ID of the home.")] home_id: ID,
        #[graphql(desc = "The page size, from 0 to 500.", default_with = "Some(IntInput::default_of(50))")]
        first: Option<IntInput>,
        #[graphql(desc = "The cursor of the last item of the previous page.")] after: Option<String>,
    ) -> Result<Option<Page<RejectedMessage>>> {
        let homes = &ctx.services().homes;
        let access = homes.access(ctx.viewer()?, parse_id(&home_id, "home")?, Permission::Configure).await?;
        let page = PageRequest::parse("rejected", &PageArguments { first, after }, PAGE)?;
        ctx.charge_objects(page.size).await;
        let messages = homes.rejected_messages(access, page.after, page.limit()).await?;
        Ok(Some(page.page(messages, |message| (message.id.get(), RejectedMessage(message)))))
    }
}
