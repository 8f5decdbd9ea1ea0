//! The keys of an object and of the objects in it that have a meaning, in one pass. Other values stay text until they are
//! read.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::plain;

/// Keys of one object that are read beside the known ones; more are skipped and counted.
pub(super) const MAX_KEYS: usize = 64;

/// Tells the keys of an object that have a meaning. They are read wherever they stand.
pub(in crate::mqtt) type IsKnown = fn(&str) -> bool;

/// The keys of a message.
#[derive(Clone, Copy)]
pub(in crate::mqtt) struct Keys {
    pub(in crate::mqtt) is_known: IsKnown,
    /// The known keys of the object that stands under a key; `None` where the value stays text.
    pub(in crate::mqtt) nested: fn(&str) -> Option<IsKnown>,
}

impl Keys {
    /// The keys of an object whose values all stay text.
    pub(in crate::mqtt) fn flat(is_known: IsKnown) -> Self {
        Self { is_known, nested: |_| None }
    }
}

/// The entries of an object. Values that stay text have a list of their own, because the others are larger.
#[derive(Debug, PartialEq)]
pub(in crate::mqtt) struct Object<'a> {
    texts: Vec<(Cow<'a, str>, &'a str)>,
    nested: Vec<(Cow<'a, str>, Nested<'a>)>,
    /// Keys beyond [`MAX_KEYS`].
    pub(in crate::mqtt) n_skipped: usize,
    /// Whether a key occurs twice.
    pub(in crate::mqtt) has_duplicate: bool,
    /// A bit for each key, see [`bit_of`]: a key whose bit is not set is new.
    bits: u64,
}

/// The value under a key of [`Keys::nested`].
#[derive(Debug, PartialEq)]
pub(in crate::mqtt) enum Nested<'a> {
    Object(Object<'a>),
    Null,
    /// Another value than an object.
    Other,
}

impl<'a> Object<'a> {
    /// Parses an object; `None` for any other JSON. All its values stay text.
    pub(in crate::mqtt) fn parse(text: &'a str, is_known: IsKnown) -> Option<Self> {
        Self::parse_nested(text, Keys::flat(is_known))
    }

    /// Parses an object, and those in it that have a meaning too.
    pub(in crate::mqtt) fn parse_nested(text: &'a str, keys: Keys) -> Option<Self> {
        plain::parse(text, keys).or_else(|| Self::parse_any(text, keys))
    }

    pub(super) fn parse_any(text: &'a str, keys: Keys) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let object = deserializer.deserialize_map(ObjectVisitor(keys)).ok()?;
        deserializer.end().ok()?;
        Some(object)
    }

    pub(super) fn new() -> Self {
        Self { texts: Vec::with_capacity(16), nested: Vec::new(), n_skipped: 0, has_duplicate: false, bits: 0 }
    }

    /// How many keys there are, without those that were skipped.
    pub(super) fn len(&self) -> usize {
        self.texts.len() + self.nested.len()
    }

    pub(super) fn push_text(&mut self, key: Cow<'a, str>, text: &'a str) {
        self.note_key(&key);
        self.texts.push((key, text));
    }

    pub(super) fn push_nested(&mut self, key: Cow<'a, str>, value: Nested<'a>) {
        self.note_key(&key);
        self.nested.push((key, value));
    }

    fn note_key(&mut self, key: &str) {
        let bit = bit_of(key);
        self.has_duplicate |= self.bits & bit != 0 && self.has_key(key);
        self.bits |= bit;
    }

    fn has_key(&self, key: &str) -> bool {
        self.keys().any(|present| present == key)
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        let texts = self.texts.iter().map(|(key, _)| key.as_ref());
        texts.chain(self.nested.iter().map(|(key, _)| key.as_ref()))
    }

    /// The text of a value.
    pub(in crate::mqtt) fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, raw)| raw)
    }

    /// The value under a key of [`Keys::nested`].
    pub(in crate::mqtt) fn nested(&self, key: &str) -> Option<&Nested<'a>> {
        self.nested.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The values that are text, in their order.
    pub(in crate::mqtt) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.texts.iter().map(|(name, raw)| (name.as_ref(), *raw))
    }
}

/// One of 64 bits, by the length and the ends of a key: few keys of one message share it.
fn bit_of(key: &str) -> u64 {
    let bytes = key.as_bytes();
    let (first, last) = (bytes.first().copied().unwrap_or(0), bytes.last().copied().unwrap_or(0));
    1 << ((key.len() + 7 * usize::from(first) + 3 * usize::from(last)) % 64)
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

struct ObjectVisitor(Keys);

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let Keys { is_known, nested } = self.0;
        let mut object = Object::new();
        // Counted only once there may be too many, which is never so in an ordinary message.
        let mut n_unknown = None;
        while let Some(Key(key)) = map.next_key()? {
            if object.len() >= MAX_KEYS && !is_known(&key) {
                let n = n_unknown.get_or_insert_with(|| object.keys().filter(|key| !is_known(key)).count());
                if *n >= MAX_KEYS {
                    object.has_duplicate |= object.has_key(&key);
                    map.next_value::<IgnoredAny>()?;
                    object.n_skipped += 1;
                    continue;
                }
                *n += 1;
            }
            match nested(&key) {
                Some(is_known) => object.push_nested(key, map.next_value_seed(NestedSeed { is_known })?),
                None => object.push_text(key, map.next_value::<&RawValue>()?.get()),
            }
        }
        Ok(object)
    }
}

/// Reads a [`Nested`] value.
struct NestedSeed {
    is_known: IsKnown,
}

impl<'de> DeserializeSeed<'de> for NestedSeed {
    type Value = Nested<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Nested<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NestedSeed {
    type Value = Nested<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Nested<'de>, A::Error> {
        ObjectVisitor(Keys::flat(self.is_known)).visit_map(map).map(Nested::Object)
    }
    fn visit_unit<E>(self) -> Result<Nested<'de>, E> {
        Ok(Nested::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Nested<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Nested::Other)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Nested<'de>, E> {
        Ok(Nested::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Nested<'de>, E> {
        Ok(Nested::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Nested<'de>, E> {
        Ok(Nested::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Nested<'de>, E> {
        Ok(Nested::Other)
    }
    fn visit_str<E>(self, _: &str) -> Result<Nested<'de>, E> {
        Ok(Nested::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Option<Object<'_>> {
        Object::parse(text, |name| name == "known")
    }

    #[test]
    fn keys_are_bounded_and_duplicates_are_found() {
        let many: Vec<String> = (0..100).map(|n| format!(r#""k{n}":{n}"#)).collect();
        let text = format!(r#"{{{},"known":7}}"#, many.join(","));
        let read = object(&text).unwrap();
        assert_eq!((read.n_skipped, read.get("known")), (36, Some("7")), "known keys are read wherever they stand");
        assert!(object(r#"{"a":1,"\u0061":2}"#).unwrap().has_duplicate);
        assert!(object("[1]").is_none());
        assert!(object(r#"{"a":1"#).is_none());
        assert!(object(r#"{"a":1} 2"#).is_none());
    }

    #[test]
    fn nested_values_count_as_keys_too() {
        let keys = Keys { is_known: |_| false, nested: |key| (key == "o").then_some(|_| false) };
        for (n_texts, n_skipped) in [(62, 0), (63, 0), (64, 1), (65, 2)] {
            let texts: String = (0..n_texts).map(|n| format!(r#","k{n}":{n}"#)).collect();
            let first = format!(r#"{{"o":{{"a":1}}{texts}}}"#);
            let object = Object::parse_nested(&first, keys).unwrap();
            assert_eq!((object.n_skipped, object.has_duplicate), (n_skipped, false), "{n_texts}");
            assert!(matches!(object.nested("o"), Some(Nested::Object(inner)) if inner.get("a") == Some("1")));
            let twice = format!(r#"{{"o":{{}}{texts},"o":null}}"#);
            assert!(Object::parse_nested(&twice, keys).unwrap().has_duplicate, "{n_texts}");
            let last = format!(r#"{{"k":0{texts},"o":null}}"#);
            let object = Object::parse_nested(&last, keys).unwrap();
            let is_read = n_texts < 63;
            assert_eq!((object.n_skipped, object.nested("o").is_some()), (n_skipped + usize::from(!is_read), is_read));
        }
    }
}
