//! Relay connections with keyset pagination: opaque cursors and pages of bounded size.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_graphql::connection::PageInfo;
use async_graphql::{Context, Object, OutputType, TypeName};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::context::ContextExt;
use super::error::Result;
use super::inputs::IntInput;
use crate::error::Error;
use crate::telemetry::history::HistoryCursor;

/// Largest page.
pub(super) const MAX_PAGE: usize = 500;

/// A page of a list. Not the library's own connection, which answers its fields in the order in which they end.
pub(super) struct Page<N: OutputType> {
    pub(super) edges: Vec<Edge<N>>,
    pub(super) has_previous: bool,
    pub(super) has_next: bool,
}

pub(super) struct Edge<N: OutputType> {
    pub(super) cursor: Cursor,
    pub(super) node: N,
}

/// The position of an item in its list. It becomes text only where the text is selected.
#[derive(Debug, Clone)]
pub(super) enum Cursor {
    /// The list's name is part of the text, so that a cursor of another list is refused.
    Item {
        list: &'static str,
        position: i64,
    },
    /// As `Item`, in a list whose positions are no numbers.
    Text {
        list: &'static str,
        position: String,
    },
    Reading(HistoryCursor),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item { list, position } => f.write_str(&URL_SAFE_NO_PAD.encode(format!("{list}:{position}"))),
            Self::Text { list, position } => f.write_str(&URL_SAFE_NO_PAD.encode(format!("{list}:{position}"))),
            Self::Reading(cursor) => cursor.fmt(f),
        }
    }
}

impl<N: OutputType> TypeName for Page<N> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", N::type_name()).into()
    }
}

impl<N: OutputType> TypeName for Edge<N> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", N::type_name()).into()
    }
}

#[Object(serial, name_type)]
impl<N: OutputType> Page<N> {
    /// Information to aid in pagination.
    async fn page_info(&self) -> PageInfo {
        self.info()
    }

    /// A list of edges.
    async fn edges(&self) -> &[Edge<N>] {
        &self.edges
    }

    /// A list of nodes.
    async fn nodes(&self) -> Vec<&N> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }
}

/// An edge in a connection.
#[Object(serial, name_type)]
impl<N: OutputType> Edge<N> {
    /// A cursor for use in pagination
    async fn cursor(&self) -> String {
        self.cursor.to_string()
    }

    /// The item at the end of the edge
    async fn node(&self) -> &N {
        &self.node
    }
}

impl<N: OutputType> Page<N> {
    pub(super) fn info(&self) -> PageInfo {
        PageInfo {
            has_previous_page: self.has_previous,
            has_next_page: self.has_next,
            start_cursor: self.edges.first().map(|edge| edge.cursor.to_string()),
            end_cursor: self.edges.last().map(|edge| edge.cursor.to_string()),
        }
    }
}

/// The arguments `first` and `after` of a list, as the client sent them.
pub(super) struct PageArguments {
    pub(super) first: Option<IntInput>,
    pub(super) after: Option<String>,
}

/// The arguments `first` and `after` of a list, checked.
pub(super) struct PageRequest<C> {
    /// The list's name is part of its cursors, so that a cursor of another list is refused.
    list: &'static str,
    pub(super) size: usize,
    /// The position in the list after which the page begins.
    pub(super) after: Option<C>,
}

impl<C: FromStr> PageRequest<C> {
    /// `None` for `first` (an explicit null) means the default size.
    pub(super) fn parse(list: &'static str, arguments: &PageArguments, default: usize) -> Result<Self> {
        let PageArguments { first, after } = arguments;
        Ok(Self { list, size: size(*first, default)?, after: parse_id_cursor(list, after.as_deref())? })
    }

    /// The number of rows to read: one more than the page holds shows whether there is a next page.
    pub(super) fn limit(&self) -> i64 {
        limit(self.size)
    }

    /// Builds the page. `item` returns a row's position in the list and the row's object.
    pub(super) fn page<T, N: OutputType>(&self, rows: Vec<T>, item: impl Fn(T) -> (i64, N)) -> Page<N> {
        page(rows, self.size, self.after.is_some(), |row| {
            let (position, node) = item(row);
            (Cursor::Item { list: self.list, position }, node)
        })
    }
}

/// Loads the rows of a page and charges them to the operation's budget.
///
/// The whole page is charged before the load, because all pages of one batch are read in one statement.
/// The objects that the page does not hold are refunded afterwards.
pub(super) async fn load_page<T: Clone>(
    ctx: &Context<'_>,
    size: usize,
    rows: impl Future<Output = Result<Option<Arc<[T]>>>>,
) -> Result<Vec<T>> {
    ctx.reserve_page(size).await;
    let rows = rows.await?.map(|rows| rows.to_vec()).unwrap_or_default();
    ctx.refund_page(size, rows.len()).await;
    Ok(rows)
}

/// Loads the rows of a list without pages and charges them to the operation's budget.
pub(super) async fn load_list<T>(
    ctx: &Context<'_>,
    rows: impl Future<Output = Result<Option<Arc<[T]>>>>,
) -> Result<Arc<[T]>> {
    let rows = rows.await?.unwrap_or_default();
    ctx.charge_objects(rows.len()).await;
    Ok(rows)
}

/// The page size that `first` asks for.
pub(super) fn size(first: Option<IntInput>, default: usize) -> Result<usize> {
    let Some(first) = first else { return Ok(default) };
    let size = first.within(0..=MAX_PAGE as i64).and_then(|size| usize::try_from(size).ok());
    Ok(size.ok_or_else(|| Error::bad_input("first", format!("first must be a whole number from 0 to {MAX_PAGE}")))?)
}

/// Parses a cursor of the list whose positions have a text form of their own.
pub(super) fn parse_text_cursor<T>(
    list: &str,
    after: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let Some(after) = after else { return Ok(None) };
    let text = URL_SAFE_NO_PAD.decode(after).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let position = text.as_deref().and_then(|text| parse(text.strip_prefix(list)?.strip_prefix(':')?));
    position.map(Some).ok_or_else(invalid_cursor)
}

fn parse_id_cursor<T: FromStr>(list: &str, after: Option<&str>) -> Result<Option<T>> {
    parse_text_cursor(list, after, |position| position.parse().ok())
}

/// Parses a cursor that has a text form of its own.
pub(super) fn parse_cursor<T: FromStr>(after: Option<&str>) -> Result<Option<T>> {
    after.map(|after| after.parse().map_err(|_| invalid_cursor())).transpose()
}

fn invalid_cursor() -> super::error::ResolverError {
    Error::bad_input("after", "after must be a cursor from an earlier page of this list").into()
}

/// The number of rows to read for a page: one more than the page holds shows whether there is a next page.
pub(super) fn limit(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}

/// A page of up to `size` of the rows that were read with [`limit`].
pub(super) fn page<T, N: OutputType>(
    mut rows: Vec<T>,
    size: usize,
    has_previous: bool,
    item: impl Fn(T) -> (Cursor, N),
) -> Page<N> {
    let has_next = rows.len() > size;
    rows.truncate(size);
    let edge = |row| {
        let (cursor, node) = item(row);
        Edge { cursor, node }
    };
    Page { edges: rows.into_iter().map(edge).collect(), has_previous, has_next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_0_to_500_items() {
        assert_eq!(size(None, 50).unwrap(), 50);
        assert_eq!(size(Some(IntInput::default_of(0)), 50).unwrap(), 0);
        assert_eq!(size(Some(IntInput::default_of(500)), 50).unwrap(), 500);
        for wrong in [-1.0, 501.0, 2147483648.0, 1e300, 0.5, f64::NAN] {
            assert!(size(Some(IntInput::given(wrong)), 50).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_is_accepted_by_its_own_list_only() {
        let id: crate::ids::DeviceId = "42".parse().unwrap();
        let cursor = |list| Cursor::Item { list, position: 42 }.to_string();
        assert_eq!(parse_id_cursor("device", Some(&cursor("device"))).unwrap(), Some(id));
        let with_zeros = URL_SAFE_NO_PAD.encode("device:007");
        for wrong in ["", "42", "x", "NDI", "////", &cursor("rejected"), &with_zeros] {
            assert!(parse_id_cursor::<crate::ids::DeviceId>("device", Some(wrong)).is_err(), "{wrong}");
        }
    }
}
