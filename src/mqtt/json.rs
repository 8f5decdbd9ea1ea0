//! Parses untrusted JSON: an object's keys first ([`Object`]), its values when they are read.
//!
//! Nothing recurses on the input. A number too large for a float costs one value, not the message.

mod object;
mod plain;

use serde_json::Value;

pub(super) use object::{IsKnown, Keys, Nested, Object};

/// Bytes of one value that is stored as JSON.
const MAX_VALUE: usize = 16 * 1024;
/// Members and elements of one message that are stored as JSON: in memory each takes many times its text.
const MAX_NODES: usize = 1_024;
/// An object that is not empty allocates space for eleven members.
const NODES_OF_OBJECT: usize = 4;
/// Nesting of one value that is stored as JSON.
const MAX_DEPTH: usize = 16;
/// Bytes of a key that is stored.
const MAX_KEY: usize = 64;

/// Firmware prints numbers that are none as C does: `nan`, `-inf`, `Infinity`. Such values of members and elements become
/// null; returns the text and how many there were. `None` if there are none, because then the text is no JSON either.
pub(super) fn without_nan(text: &str) -> Option<(String, usize)> {
    let (mut out, mut rest, mut n) = (String::with_capacity(text.len()), text, 0);
    // `before` is the last character that is no white space.
    let (mut in_string, mut is_escaped, mut before) = (false, false, ' ');
    while let Some(c) = rest.chars().next() {
        let may_begin = !in_string && matches!(before, ':' | ',' | '[');
        if let Some(length) = may_begin.then(|| nan_token(rest)).flatten() {
            out.push_str("null");
            (rest, before, n) = (&rest[length..], '0', n + 1);
            continue;
        }
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        if !c.is_ascii_whitespace() {
            before = c;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    (n > 0).then_some((out, n))
}

/// The length of a `nan`, `inf` or `infinity` at the start of a text, with its sign.
fn nan_token(text: &str) -> Option<usize> {
    let word = text.strip_prefix('-').unwrap_or(text);
    let length = word.bytes().take_while(u8::is_ascii_alphabetic).count();
    let is_token = ["nan", "inf", "infinity"].iter().any(|token| word[..length].eq_ignore_ascii_case(token));
    is_token.then_some(text.len() - word.len() + length)
}

/// Parses a finite number.
pub(super) fn number(raw: &str) -> Option<f64> {
    let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !is_number {
        return None;
    }
    raw.parse().ok().filter(|value: &f64| value.is_finite())
}

pub(super) fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Parses a short text without control characters: PostgreSQL can't store NUL.
pub(super) fn short_text(raw: &str, max_bytes: usize) -> Option<String> {
    if !raw.starts_with('"') {
        return None;
    }
    serde_json::from_str(raw).ok().filter(|text: &String| text.len() <= max_bytes && !text.contains(char::is_control))
}

/// The memory that values of one message may still take. One budget for all of them, because the queue and the
/// subscribers hold whole messages.
#[derive(Debug)]
pub(super) struct Budget {
    n_nodes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { n_nodes: MAX_NODES }
    }
}

/// Parses any value that jsonb can store, within the bounds and the rest of the message's budget.
pub(super) fn value(raw: &str, budget: &mut Budget) -> Option<Value> {
    let left = budget.n_nodes.checked_sub(n_nodes(raw))?;
    if raw.len() > MAX_VALUE {
        return None;
    }
    let value: Value = serde_json::from_str(raw).ok()?;
    if !is_storable(&value, MAX_DEPTH) {
        return None;
    }
    budget.n_nodes = left;
    Some(value)
}

/// An upper bound of the nodes of a value, from its text: punctuation within strings counts too.
fn n_nodes(raw: &str) -> usize {
    let nodes = |byte| match byte {
        b'{' => NODES_OF_OBJECT,
        b'[' | b',' => 1,
        _ => 0,
    };
    1 + raw.bytes().map(nodes).sum::<usize>()
}

/// The approximate memory that a value has allocated.
pub(super) fn memory_bytes(value: &Value) -> usize {
    const SLOT: usize = size_of::<Value>();
    /// Overhead of an allocation.
    const ALLOCATION: usize = 16;
    /// A node of the map (a B-tree) has eleven slots; all but the first are at least five full.
    const NODE: usize = 11 * (size_of::<String>() + SLOT) + 2 * ALLOCATION;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity() + ALLOCATION,
        Value::Array(items) => items.capacity() * SLOT + ALLOCATION + items.iter().map(memory_bytes).sum::<usize>(),
        Value::Object(map) => {
            let n_blocks = if map.len() <= 11 { usize::from(!map.is_empty()) } else { 1 + map.len() / 5 };
            let members = map.iter().map(|(key, item)| key.capacity() + ALLOCATION + memory_bytes(item));
            n_blocks * NODE + members.sum::<usize>()
        }
    }
}

/// Whether a key may be stored in a jsonb object.
pub(super) fn is_storable_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && !text.contains('\0')
}

fn is_storable(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => depth > 0 && items.iter().all(|item| is_storable(item, depth - 1)),
        Value::Object(map) => {
            depth > 0 && map.iter().all(|(key, item)| !key.contains('\0') && is_storable(item, depth - 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(raw: &str) -> Option<Value> {
        super::value(raw, &mut Budget::default())
    }

    fn object(text: &str) -> Option<Object<'_>> {
        Object::parse(text, |name| name == "known")
    }

    #[test]
    fn numbers_that_are_none_become_null_and_nothing_else_does() {
        for (text, repaired, n) in [
            (r#"{"a":nan,"b":[ -inf ,NaN]}"#, r#"{"a":null,"b":[ null ,null]}"#, 3),
            (r#"{"nan":Infinity,"é\"nan":"nan, inf"}"#, r#"{"nan":null,"é\"nan":"nan, inf"}"#, 1),
        ] {
            assert_eq!(without_nan(text), Some((repaired.to_owned(), n)), "{text}");
        }
        for text in ["nan", r#"{"a":nano}"#, r#"{"a":"nan"}"#, r#"{"a":--inf}"#, r#"{"a":1 nan}"#, r#"["\"#, ""] {
            assert_eq!(without_nan(text), None, "{text}");
        }
    }

    #[test]
    fn a_deep_or_huge_value_is_skipped_without_recursion() {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        let text = format!(r#"{{"deep":{deep},"n":1}}"#);
        let object = object(&text).unwrap();
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
    fn a_node_takes_at_most_256_bytes() {
        let n = 150;
        for item in ["[0]", r#"{"":0}"#, r#"{"a":{"b":[{}]}}"#, r#""a""#, r#"["a","b","c","d","e"]"#, "[[[[[0]]]]]"] {
            let items = vec![item; n].join(",");
            let members: Vec<String> = (0..n).map(|i| format!(r#""{i}":{item}"#)).collect();
            for raw in [format!("[{items}]"), format!("{{{}}}", members.join(","))] {
                let value: Value = serde_json::from_str(&raw).unwrap();
                assert!(
                    memory_bytes(&value) <= raw.len() + 256 * n_nodes(&raw),
                    "{item}: {} in {raw}",
                    memory_bytes(&value)
                );
            }
        }
    }

    #[test]
    fn only_stored_values_use_the_budget() {
        let mut budget = Budget { n_nodes: 8 };
        assert_eq!(super::value("[1,2,3,4,5,6,7,8]", &mut budget), None, "more than the budget");
        assert_eq!(super::value(r#"["\u0000"]"#, &mut budget), None, "can not be stored");
        assert!(super::value("[1,2,3]", &mut budget).is_some());
        assert!(super::value("[[1]]", &mut budget).is_some());
        assert_eq!((super::value("[]", &mut budget), super::value("7", &mut budget)), (None, Some(Value::from(7))));
        assert_eq!(super::value("7", &mut budget), None);
    }

    #[test]
    fn nul_never_reaches_the_database() {
        assert_eq!(value(r#""a\u0000""#), None);
        assert_eq!(value(r#"{"a\u0000":1}"#), None);
        assert_eq!(short_text(r#""a\u0000""#, 64), None);
        assert!(!is_storable_key("a\0"));
    }
}
