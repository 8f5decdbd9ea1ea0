//! Relay connections over keyset cursors: opaque cursors, pages of bounded size.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use async_graphql::connection::{Connection, CursorType, Edge};
use async_graphql::registry::Registry;
use async_graphql::{InputType, InputValueError, InputValueResult, OutputType, Value};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::Result;
use crate::error::Error;

/// Most items of one page.
pub(super) const MAX_PAGE: usize = 500;

/// An `Int` that is judged in the resolver, so that one out of range is refused as bad input with its
/// field's name. The library's own integers fail deep inside a list and leave a null behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PageSize(f64);

impl InputType for PageSize {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <i32 as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <i32 as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        match value {
            Some(Value::Number(number)) => Ok(Self(number.as_f64().unwrap_or(f64::NAN))),
            other => Err(InputValueError::expected_type(other.unwrap_or_default())
                .with_extension("code", "BAD_USER_INPUT")
                .with_extension("field", "first")),
        }
    }

    fn to_value(&self) -> Value {
        serde_json::Number::from_f64(self.0).map_or(Value::Null, |number| {
            if self.0.fract() == 0.0 { Value::from(self.0 as i64) } else { Value::Number(number) }
        })
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}

impl From<i32> for PageSize {
    fn from(size: i32) -> Self {
        Self(size.into())
    }
}

/// The size of the page asked for; `None` (an explicit null) is the default.
pub(super) fn size(first: Option<PageSize>, default: usize) -> Result<usize> {
    match first {
        None => Ok(default),
        Some(PageSize(size)) if size.fract() == 0.0 && (0.0..=MAX_PAGE as f64).contains(&size) => Ok(size as usize),
        Some(_) => Err(Error::bad_input("first", format!("first must be a whole number from 0 to {MAX_PAGE}")).into()),
    }
}

/// A page of a list.
pub(super) type Page<N> = Connection<Cursor, N>;

/// What a page of that size weighs in the complexity of its operation.
pub(super) fn page_complexity(first: Option<PageSize>, default: usize, child: usize) -> usize {
    1 + size(first, default).unwrap_or(MAX_PAGE) * child
}

/// What a list without pages weighs, taken to have so many items.
pub(super) fn list_complexity(items: usize, child: usize) -> usize {
    1 + items * child
}

/// An opaque cursor on its way out.
pub(super) struct Cursor(String);

impl CursorType for Cursor {
    type Error = std::convert::Infallible;

    fn decode_cursor(text: &str) -> std::result::Result<Self, Self::Error> {
        Ok(Self(text.to_owned()))
    }

    fn encode_cursor(&self) -> String {
        self.0.clone()
    }
}

/// The cursor of a list of these that is in the order of ids.
pub(super) fn id_cursor(of: &str, id: &impl Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{of}:{id}"))
}

/// Reads such a cursor; that of another list is refused.
pub(super) fn parse_id_cursor<T: FromStr>(of: &str, after: Option<&str>) -> Result<Option<T>> {
    let Some(after) = after else { return Ok(None) };
    let text = URL_SAFE_NO_PAD.decode(after).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let id = text.as_deref().and_then(|text| text.strip_prefix(of)?.strip_prefix(':')?.parse().ok());
    id.map(Some).ok_or_else(wrong_cursor)
}

/// Reads a cursor that is its own text.
pub(super) fn parse_cursor<T: FromStr>(after: Option<&str>) -> Result<Option<T>> {
    after.map(|after| after.parse().map_err(|_| wrong_cursor())).transpose()
}

fn wrong_cursor() -> super::error::ResolverError {
    Error::bad_input("after", "after must be a cursor of this list, as an earlier page gave it").into()
}

/// How many rows to read for a page: one more tells whether there is a next one.
pub(super) fn limit(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}

/// A page of up to `size` of the rows that were read with [`limit`].
pub(super) fn page<T, N: OutputType>(
    mut rows: Vec<T>,
    size: usize,
    has_previous: bool,
    item: impl Fn(T) -> (String, N),
) -> Page<N> {
    let mut connection = Connection::new(has_previous, rows.len() > size);
    rows.truncate(size);
    connection.edges.extend(rows.into_iter().map(|row| {
        let (cursor, node) = item(row);
        Edge::new(Cursor(cursor), node)
    }));
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_0_to_500_items() {
        assert_eq!(size(None, 50).unwrap(), 50);
        assert_eq!(size(Some(PageSize::from(0)), 50).unwrap(), 0);
        assert_eq!(size(Some(PageSize::from(500)), 50).unwrap(), 500);
        for wrong in [-1.0, 501.0, 2147483648.0, 1e300, 0.5, f64::NAN] {
            assert!(size(Some(PageSize(wrong)), 50).is_err(), "{wrong}");
            assert_eq!(page_complexity(Some(PageSize(wrong)), 50, 2), 1001);
        }
    }

    #[test]
    fn a_cursor_comes_back() {
        let id: crate::ids::DeviceId = "42".parse().unwrap();
        assert_eq!(parse_id_cursor("device", Some(&id_cursor("device", &id))).unwrap(), Some(id));
        for wrong in ["", "42", "x", "NDI", "////", &id_cursor("rejected", &id), &id_cursor("device", &"007")] {
            assert!(parse_id_cursor::<crate::ids::DeviceId>("device", Some(wrong)).is_err(), "{wrong}");
        }
    }
}
