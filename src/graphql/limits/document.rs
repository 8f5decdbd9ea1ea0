//! Limits of a document's text, checked before it is parsed: bytes, tokens, name length and nesting.
//!
//! The parser recurses with the nesting and allocates with the tokens, so both are bounded first. The check is
//! one pass over the text, without allocation and without backtracking.

use super::super::request_error::RequestError;

/// Longest document in bytes.
pub(in crate::graphql) const MAX_BYTES: usize = 16 << 10;
/// Most tokens of a document. A comment counts as one, so that ignored text has a cost.
const MAX_TOKENS: usize = 2_000;
/// Longest name in bytes. A response repeats the name for each object.
const MAX_NAME_BYTES: usize = 128;
/// Deepest nesting of brackets of any kind. GraphiQL's introspection needs 15.
const MAX_NESTING: usize = 32;

/// Refuses a document that is too large to be parsed.
pub(in crate::graphql) fn check(text: &str) -> Result<(), RequestError> {
    let advice = "send long values as variables, or split the document";
    if text.len() > MAX_BYTES {
        let found = text.len();
        return Err(RequestError::too_large(format!(
            "the document has {found} bytes, but at most {MAX_BYTES} are allowed: {advice}"
        )));
    }
    let Measures { tokens, nesting, longest_name } = measure(text.as_bytes());
    let refused = |what: &str, found: usize, most: usize, advice: &str| {
        let message = format!("the document has {found} {what}, but at most {most} are allowed: {advice}");
        Err(RequestError::too_complex(message))
    };
    if longest_name > MAX_NAME_BYTES {
        return refused("bytes in one name", longest_name, MAX_NAME_BYTES, "shorten it");
    }
    if tokens > MAX_TOKENS {
        return refused("tokens", tokens, MAX_TOKENS, advice);
    }
    if nesting > MAX_NESTING {
        return refused("levels of brackets", nesting, MAX_NESTING, "nest less, or send values as variables");
    }
    Ok(())
}

struct Measures {
    tokens: usize,
    /// The deepest level.
    nesting: usize,
    /// In bytes. Numbers are measured too.
    longest_name: usize,
}

/// Invalid text is measured as well. The parser reports its error.
fn measure(text: &[u8]) -> Measures {
    let (mut tokens, mut depth, mut deepest, mut longest_name, mut at) = (0, 0_usize, 0, 0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {
                at += 1;
                continue;
            }
            b'#' => at = skip_while(text, at, |b| b != b'\n' && b != b'\r'),
            b'"' => at = skip_string(text, at),
            b'{' | b'(' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
                at += 1;
            }
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b if is_word(b) => {
                let end = skip_while(text, at, is_word);
                longest_name = longest_name.max(end - at);
                at = end;
            }
            _ => at += 1,
        }
        tokens += 1;
    }
    Measures { tokens, nesting: deepest, longest_name }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.')
}

fn skip_while(text: &[u8], from: usize, goes_on: impl Fn(u8) -> bool) -> usize {
    text[from..].iter().position(|b| !goes_on(*b)).map_or(text.len(), |n| from + n)
}

/// The position after the string that starts at `from`, or the end of the text.
fn skip_string(text: &[u8], from: usize) -> usize {
    let block = text[from..].starts_with(br#"""""#);
    let mut at = from + if block { 3 } else { 1 };
    while at < text.len() {
        let rest = &text[at..];
        at += match (block, rest[0]) {
            (true, b'\\') if rest.starts_with(br#"\""""#) => 4,
            (true, b'"') if rest.starts_with(br#"""""#) => return at + 3,
            (false, b'\\') => 2,
            (false, b'"') => return at + 1,
            // An unfinished string ends with its line.
            (false, b'\n' | b'\r') => return at,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_nesting_are_counted_outside_strings_and_comments() {
        for (text, tokens, nesting) in [
            ("", 0, 0),
            ("{ a }", 3, 1),
            ("{a(b:[1,-2.5e3]){c}} # {{{{", 15, 3),
            (r#"{a(b:"{{{ \" (((")}"#, 8, 2),
            (r#"{a(b:"""x " {{ \""" (("""  )}"#, 8, 2),
            ("\"unfinished {{{\n{", 2, 1),
            ("}}}{", 4, 1),
            ("...on X", 2, 0),
        ] {
            let found = measure(text.as_bytes());
            assert_eq!((found.tokens, found.nesting), (tokens, nesting), "{text}");
        }
    }

    #[test]
    fn a_document_one_over_a_limit_is_refused() {
        let tokens = |n: usize| format!("{{{}}}", "a ".repeat(n - 2));
        assert!(check(&tokens(MAX_TOKENS)).is_ok());
        assert!(check(&tokens(MAX_TOKENS + 1)).is_err());
        let nested = |n: usize| format!("{}{}", "{a".repeat(n), "}".repeat(n));
        assert!(check(&nested(MAX_NESTING)).is_ok());
        assert!(check(&nested(MAX_NESTING + 1)).is_err());
        assert!(check(&" ".repeat(MAX_BYTES)).is_ok());
        assert!(check(&" ".repeat(MAX_BYTES + 1)).is_err());
        let alias = |n: usize| format!("{{{}:a}}", "b".repeat(n));
        assert!(check(&alias(128)).is_ok());
        assert!(check(&alias(129)).is_err());
    }
}
