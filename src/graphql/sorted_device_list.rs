//! Lists of devices in another order than that of registration.

use async_graphql::Context;
use chrono::DateTime;
use futures_util::future::try_join_all;

use super::context::ContextExt;
use super::device_filter::DeviceFilter;
use super::device_list::columns;
use super::devices::{Device, PAGE};
use super::error::Result;
use super::paging::{self, Cursor, Edge, Page, PageArguments};
use super::rows::Direct;
use crate::devices::{DeviceOrder, SortedBy, SortedDevice, SortedPage};
use crate::ids::{HomeId, UserId};

/// A page in another order than that of registration: one statement sorts, another one reads the devices of the page.
pub(super) async fn page(
    ctx: &Context<'_>,
    viewer: UserId,
    home: HomeId,
    filter: Option<DeviceFilter>,
    order: DeviceOrder,
    arguments: PageArguments,
) -> Result<Direct<Page<Device>>> {
    let list = list_of(order);
    let size = paging::size(arguments.first, PAGE)?;
    let after = paging::parse_text_cursor(list, arguments.after.as_deref(), |text| parse_place(order, text))?;
    let has_previous = after.is_some();
    let filter = filter.unwrap_or_default().parse()?;
    let page = SortedPage { filter, order, after, limit: paging::limit(size) };
    let places = ctx.loaders().sorted_devices.get(ctx.batch_scope(), (viewer, page), home);
    let mut places = paging::load_page(ctx, size, places).await?;
    let has_next = places.len() > size;
    places.truncate(size);
    let group = (viewer, columns(&ctx.item.node).reported);
    let scope = ctx.batch_scope().of_many_keys();
    let devices = places.iter().map(|place| ctx.loaders().devices.get(scope, group, place.id));
    let devices = try_join_all(devices).await?;
    // A device that was deleted meanwhile is left out.
    let edges = places.into_iter().zip(devices).filter_map(|(place, device)| {
        let cursor = Cursor::Text { list, position: place_text(&place) };
        Some(Edge { cursor, node: Device::new(device?) })
    });
    Ok(Direct(Page { edges: edges.collect(), has_previous, has_next }))
}

/// The name of a sorted list, which is part of its cursors.
fn list_of(order: DeviceOrder) -> &'static str {
    match (order.by, order.descending) {
        (SortedBy::CreatedAt, _) => "newest",
        (SortedBy::Name, false) => "name",
        (SortedBy::Name, true) => "name-desc",
        (SortedBy::LastSeenAt, false) => "seen",
        (SortedBy::LastSeenAt, true) => "seen-desc",
    }
}

/// A place in an order as the position of a cursor: `id:seen:name`.
fn place_text(place: &SortedDevice) -> String {
    let seen = place.seen.map(|at| at.timestamp_micros().to_string()).unwrap_or_default();
    format!("{}:{seen}:{}", place.id, place.name)
}

fn parse_place(order: DeviceOrder, text: &str) -> Option<SortedDevice> {
    let (id, rest) = text.split_once(':')?;
    let (seen, name) = rest.split_once(':')?;
    let seen = match seen {
        "" => None,
        seen if order.by == SortedBy::LastSeenAt => {
            // PostgreSQL has no time before 4713 BC. Its last one is later than that of the library.
            let micros = seen.parse().ok().filter(|micros| *micros >= 0)?;
            Some(DateTime::from_timestamp_micros(micros)?)
        }
        _ => return None,
    };
    let is_storable = !name.contains('\0') && (order.by == SortedBy::Name || name.is_empty());
    is_storable.then_some(SortedDevice { id: id.parse().ok()?, name: name.to_owned(), seen })
}
