//! Reads objects as most devices print them: keys and texts without escapes, numbers, `true`, `false` and `null`, and no
//! objects or arrays but those that have a meaning. It finds the ends of the values and checks the grammar (RFC 8259) in one
//! pass. The library reads everything else.

use std::borrow::Cow;

use super::object::{Keys, MAX_KEYS, Nested, Object};

/// Parses an object; `None` for anything but a plain one, which may still be JSON.
pub(super) fn parse(text: &str, keys: Keys) -> Option<Object<'_>> {
    let mut reader = Reader { text, at: 0 };
    reader.expect(b'{')?;
    let object = reader.object(keys)?;
    reader.skip_whitespace();
    (reader.at == text.len()).then_some(object)
}

struct Reader<'a> {
    text: &'a str,
    /// The next byte. Before and after each step it is at the boundary of a character.
    at: usize,
}

impl<'a> Reader<'a> {
    /// The rest of an object, after its brace.
    fn object(&mut self, keys: Keys) -> Option<Object<'a>> {
        let mut object = Object::new();
        if self.expect(b'}').is_some() {
            return Some(object);
        }
        loop {
            self.expect(b'"')?;
            let key = self.plain_text()?;
            self.expect(b':')?;
            // Beyond, it matters which keys are known.
            if object.len() == MAX_KEYS {
                return None;
            }
            match (keys.nested)(key) {
                None => object.push_text(Cow::Borrowed(key), self.value()?),
                Some(is_known) => object.push_nested(Cow::Borrowed(key), self.nested(Keys::flat(is_known))?),
            }
            match self.next_token()? {
                b',' => {}
                b'}' => return Some(object),
                _ => return None,
            }
        }
    }

    fn nested(&mut self, keys: Keys) -> Option<Nested<'a>> {
        if self.expect(b'{').is_some() {
            return self.object(keys).map(Nested::Object);
        }
        Some(if self.value()? == "null" { Nested::Null } else { Nested::Other })
    }

    /// The text of a value that is no object and no array.
    fn value(&mut self) -> Option<&'a str> {
        let first = self.next_token()?;
        let start = self.at - 1;
        match first {
            b'"' => _ = self.plain_text()?,
            b'-' | b'0'..=b'9' => {
                self.at = start;
                self.number()?;
            }
            b't' => self.rest_of_literal("rue")?,
            b'f' => self.rest_of_literal("alse")?,
            b'n' => self.rest_of_literal("ull")?,
            _ => return None,
        }
        Some(&self.text[start..self.at])
    }

    /// A text without escapes, after its first quotation mark.
    fn plain_text(&mut self) -> Option<&'a str> {
        let start = self.at;
        let length = self.rest().iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        self.at += length + 1;
        (self.text.as_bytes()[start + length] == b'"').then(|| &self.text[start..start + length])
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let n = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += n;
        (n > 0).then_some(())
    }

    fn rest_of_literal(&mut self, rest: &str) -> Option<()> {
        let is_there = self.rest().starts_with(rest.as_bytes());
        self.at += rest.len();
        is_there.then_some(())
    }

    /// Takes this byte, and white space before it, if it is next.
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_whitespace();
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    /// Takes the next byte, and white space before it.
    fn next_token(&mut self) -> Option<u8> {
        self.skip_whitespace();
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Keys = Keys { is_known: |_| false, nested: |key| (key == "o").then_some(|_| false) };
    const TEXT: &str = r#"{"a":-12.50e+3,"o":{"b":"text é","c":true,"d":null},"e" : false,"g":0,"A":"n"}"#;
    /// Bytes that matter to the grammar, in the places of others.
    const BYTES: &[u8] = b"{}[]:,\"\\ \t\n\r\x1f0123456789.eE+-truefalsn\x80\xc3oabz";

    /// Compares with the library; returns whether the text was read here.
    fn agrees(text: &str) -> bool {
        let plain = parse(text, KEYS);
        if let Some(object) = &plain {
            assert_eq!(Some(object), Object::parse_any(text, KEYS).as_ref(), "{text:?}");
        }
        plain.is_some()
    }

    #[test]
    fn plain_objects_are_read_here_and_others_by_the_library() {
        for text in ["{}", " { } ", r#"{"a":0}"#, r#"{"o":{}}"#, r#"{"o":1.5,"o":{"x":"y"}}"#, "{\"é\":\t-0e1\r\n}"] {
            assert!(agrees(text), "{text}");
        }
        for text in [
            "",
            "{",
            "{}}",
            "{} 1",
            "[]",
            "7",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":+1}"#,
            r#"{"a":-}"#,
            r#"{"a":1e}"#,
            r#"{"a":1e+}"#,
            r#"{"a":nul}"#,
            r#"{"a":nulll}"#,
            r#"{"a":tru"#,
            r#"{"a":"x}"#,
            "{\"a\":\"\n\"}",
            r#"{a:1}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a\u0041":1}"#,
            r#"{"a":"\n"}"#,
            r#"{"o":[]}"#,
            "{\"a\":1}\0",
            "\u{feff}{}",
        ] {
            assert!(!agrees(text), "{text}");
        }
        let many: Vec<String> = (0..=MAX_KEYS).map(|n| format!(r#""k{n}":{n}"#)).collect();
        assert!(!agrees(&format!("{{{}}}", many.join(","))) && agrees(&format!("{{{}}}", many[1..].join(","))));
    }

    #[test]
    fn whatever_is_read_here_the_library_reads_too() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut n_read = 0;
        for _ in 0..200_000 {
            let mut bytes = TEXT.as_bytes().to_vec();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(..bytes.len());
                match random.u8(0..3) {
                    0 => bytes[at] = BYTES[random.usize(..BYTES.len())],
                    1 => bytes.insert(at, BYTES[random.usize(..BYTES.len())]),
                    _ => _ = bytes.remove(at),
                }
            }
            n_read += u32::from(std::str::from_utf8(&bytes).is_ok_and(agrees));
        }
        assert!(n_read > 50_000, "{n_read} of 200,000");
    }
}
