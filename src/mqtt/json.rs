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
/// Members and elements of what is kept as JSON of one message: in memory each takes many times its text.
const MAX_PARTS: usize = 1_024;
/// An object with anything in it allocates room for eleven members.
const PARTS_OF_OBJECT: usize = 4;
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

/// What the values kept of one message may still take in memory: one budget for all of them, because
/// what waits and what subscribers share is whole messages.
#[derive(Debug)]
pub(super) struct Budget {
    n_parts: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { n_parts: MAX_PARTS }
    }
}

/// Any value that jsonb can keep, within bounds and what is left of the message's budget.
pub(super) fn value(raw: &str, budget: &mut Budget) -> Option<Value> {
    let left = budget.n_parts.checked_sub(n_parts(raw))?;
    if raw.len() > MAX_VALUE {
        return None;
    }
    let value: Value = serde_json::from_str(raw).ok()?;
    if !is_keepable(&value, MAX_DEPTH) {
        return None;
    }
    budget.n_parts = left;
    Some(value)
}

/// At least the parts of a value, told from its text; punctuation within strings counts too.
fn n_parts(raw: &str) -> usize {
    let weigh = |byte| match byte {
        b'{' => PARTS_OF_OBJECT,
        b'[' | b',' => 1,
        _ => 0,
    };
    1 + raw.bytes().map(weigh).sum::<usize>()
}

/// About the bytes of memory a value has allocated.
pub(super) fn held(value: &Value) -> usize {
    const SLOT: usize = size_of::<Value>();
    /// What an allocation costs beside its bytes.
    const ALLOCATION: usize = 16;
    /// A map's node has eleven places; all but the first are at least five full.
    const NODE: usize = 11 * (size_of::<String>() + SLOT) + 2 * ALLOCATION;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity() + ALLOCATION,
        Value::Array(items) => items.capacity() * SLOT + ALLOCATION + items.iter().map(held).sum::<usize>(),
        Value::Object(map) => {
            let n_nodes = if map.len() <= 11 { usize::from(!map.is_empty()) } else { 1 + map.len() / 5 };
            let members = map.iter().map(|(key, item)| key.capacity() + ALLOCATION + held(item));
            n_nodes * NODE + members.sum::<usize>()
        }
    }
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

    fn value(raw: &str) -> Option<Value> {
        super::value(raw, &mut Budget::default())
    }

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
    fn a_part_takes_a_quarter_of_a_kilobyte_at_most() {
        let n = 150;
        for item in ["[0]", r#"{"":0}"#, r#"{"a":{"b":[{}]}}"#, r#""a""#, r#"["a","b","c","d","e"]"#, "[[[[[0]]]]]"] {
            let items = vec![item; n].join(",");
            let members: Vec<String> = (0..n).map(|i| format!(r#""{i}":{item}"#)).collect();
            for raw in [format!("[{items}]"), format!("{{{}}}", members.join(","))] {
                let value: Value = serde_json::from_str(&raw).unwrap();
                assert!(held(&value) <= raw.len() + 256 * n_parts(&raw), "{item}: {} in {raw}", held(&value));
            }
        }
    }

    #[test]
    fn a_budget_is_spent_by_what_is_kept_alone() {
        let mut budget = Budget { n_parts: 8 };
        assert_eq!(super::value("[1,2,3,4,5,6,7,8]", &mut budget), None, "more than there is");
        assert_eq!(super::value(r#"["\u0000"]"#, &mut budget), None, "nothing that is kept");
        assert!(super::value("[1,2,3]", &mut budget).is_some());
        assert!(super::value("[[1]]", &mut budget).is_some());
        assert_eq!((super::value("[]", &mut budget), super::value("7", &mut budget)), (None, Some(Value::from(7))));
        assert_eq!(super::value("7", &mut budget), None);
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
