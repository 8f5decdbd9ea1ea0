//! Reading hostile JSON cheaply: one pass over an object's keys, values left as text until wanted.
//!
//! Nothing here recurses on the input, and a number too large for a float spoils one value, not
//! the message.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Keys of one object that are looked at; more are left out and counted.
const MAX_KEYS: usize = 64;
/// Bytes of one value that is kept as JSON.
const MAX_VALUE: usize = 16 * 1024;
/// Members and elements of one value that is kept as JSON: in memory each takes many times its text.
const MAX_PARTS: usize = 512;
/// Nesting of one value that is kept as JSON.
const MAX_DEPTH: usize = 16;
/// Bytes of a key that is kept.
const MAX_KEY: usize = 64;

/// An object's entries in their order, each value still text.
#[derive(Debug)]
pub(super) struct Object<'a> {
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Entries beyond [`MAX_KEYS`].
    pub(super) n_left_out: usize,
    /// A key that stands there twice.
    pub(super) has_duplicate: bool,
}

impl<'a> Object<'a> {
    /// Reads an object; `None` for any other JSON.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// One value's text.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, raw)| raw.get())
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.entries.iter().map(|(name, raw)| (name.as_ref(), raw.get()))
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut object = Object { entries: Vec::with_capacity(16), n_left_out: 0, has_duplicate: false };
                while let Some(Key(key)) = map.next_key()? {
                    object.has_duplicate |= object.entries.iter().any(|(known, _)| *known == key);
                    if object.entries.len() == MAX_KEYS {
                        map.next_value::<IgnoredAny>()?;
                        object.n_left_out += 1;
                    } else {
                        object.entries.push((key, map.next_value()?));
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A finite number.
pub(super) fn number(raw: &str) -> Option<f64> {
    let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !is_number {
        return None;
    }
    raw.parse().ok().filter(|value: &f64| value.is_finite())
}

/// `true` or `false`.
pub(super) fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A short line of text without control characters (PostgreSQL can't keep a NUL).
pub(super) fn line(raw: &str, max_bytes: usize) -> Option<String> {
    if !raw.starts_with('"') {
        return None;
    }
    serde_json::from_str(raw).ok().filter(|text: &String| text.len() <= max_bytes && !text.contains(char::is_control))
}

/// Any value that jsonb can keep, within bounds.
pub(super) fn value(raw: &str) -> Option<Value> {
    let n_parts = raw.bytes().filter(|byte| matches!(byte, b'{' | b'[' | b',')).count();
    if raw.len() > MAX_VALUE || n_parts > MAX_PARTS {
        return None;
    }
    let value: Value = serde_json::from_str(raw).ok()?;
    is_keepable(&value, MAX_DEPTH).then_some(value)
}

/// Whether a key may stand in a jsonb object of ours.
pub(super) fn is_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && !text.contains('\0')
}

fn is_keepable(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_keepable(item, depth - 1)),
        Value::Object(map) => {
            depth > 0 && map.iter().all(|(key, item)| !key.contains('\0') && is_keepable(item, depth - 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_or_huge_value_is_left_out_without_recursion() {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let text = format!(r#"{{"deep":{deep},"n":1}}"#);
        let object = Object::parse(&text).unwrap();
        assert_eq!(object.get("n"), Some("1"));
        assert_eq!(value(object.get("deep").unwrap()), None);
        assert_eq!(value(&"[".repeat(17).chars().chain("]".repeat(17).chars()).collect::<String>()), None);
    }

    #[test]
    fn numbers_are_finite_or_nothing() {
        assert_eq!(number("-1.5e3"), Some(-1500.0));
        for raw in ["1e999", "-1e999", "null", "\"1\"", "true", "[1]"] {
            assert_eq!(number(raw), None, "{raw}");
        }
        assert_eq!(value("1e999"), None);
    }

    #[test]
    fn nul_never_reaches_the_database() {
        assert_eq!(value(r#""a\u0000""#), None);
        assert_eq!(value(r#"{"a\u0000":1}"#), None);
        assert_eq!(line(r#""a\u0000""#, 64), None);
        assert!(!is_key("a\0"));
    }

    #[test]
    fn keys_are_bounded_and_duplicates_seen() {
        let many: Vec<String> = (0..100).map(|n| format!(r#""k{n}":{n}"#)).collect();
        let text = format!("{{{}}}", many.join(","));
        assert_eq!(Object::parse(&text).unwrap().n_left_out, 36);
        assert!(Object::parse(r#"{"a":1,"\u0061":2}"#).unwrap().has_duplicate);
        assert!(Object::parse("[1]").is_none());
        assert!(Object::parse(r#"{"a":1"#).is_none());
    }
}
