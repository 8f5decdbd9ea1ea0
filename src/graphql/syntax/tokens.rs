//! The tokens of a document (GraphQL specification, section 2.1).

use std::fmt;
use std::ops::Range;

use super::{Result, SyntaxError};

const BYTE_ORDER_MARK: char = '\u{feff}';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Punctuator(char),
    Spread,
    Name(&'a str),
    Int,
    Float,
    String,
    /// The end of the text.
    End,
}

/// The kind of the token. Its text may be a value of the client.
impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Punctuator(punctuator) => write!(f, "\"{punctuator}\""),
            Self::Spread => f.write_str("\"...\""),
            Self::Name(_) => f.write_str("Name"),
            Self::Int => f.write_str("Int"),
            Self::Float => f.write_str("Float"),
            Self::String => f.write_str("String"),
            Self::End => f.write_str("<EOF>"),
        }
    }
}

pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// The commas, comments and byte order marks so far.
    pub(super) blank: Vec<Range<usize>>,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, blank: Vec::new() }
    }

    /// The next token and where it starts.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>)> {
        self.skip_ignored();
        let start = self.at;
        let Some(first) = self.peek() else { return Ok((start, Token::End)) };
        let token = match first {
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                self.at += 1;
                Token::Punctuator(char::from(first))
            }
            b'.' if self.rest().starts_with("...") => {
                self.at += 3;
                Token::Spread
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.skip_while(is_name);
                Token::Name(&self.text[start..self.at])
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b'"' if self.rest().starts_with(r#"""""#) => self.block_string()?,
            b'"' => self.string()?,
            _ => return self.fail("Unexpected character."),
        };
        Ok((start, token))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_while(&mut self, goes_on: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&goes_on) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, message: &str) -> Result<T> {
        Err(SyntaxError { at: self.at, message: message.to_owned() })
    }

    fn skip_ignored(&mut self) {
        loop {
            let start = self.at;
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => {
                    self.at += 1;
                    continue;
                }
                Some(b',') => self.at += 1,
                Some(b'#') => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                Some(_) if self.rest().starts_with(BYTE_ORDER_MARK) => self.at += BYTE_ORDER_MARK.len_utf8(),
                _ => return,
            }
            self.blank.push(start..self.at);
        }
    }

    fn number(&mut self) -> Result<Token<'a>> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let mut token = Token::Int;
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
            token = Token::Float;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
            token = Token::Float;
        }
        if self.peek().is_some_and(|byte| byte == b'.' || is_name(byte)) {
            return self.fail("Invalid number.");
        }
        Ok(token)
    }

    /// At least one digit.
    fn digits(&mut self) -> Result {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.fail("Invalid number, expected digit.");
        }
        self.skip_while(|byte| byte.is_ascii_digit());
        Ok(())
    }

    fn block_string(&mut self) -> Result<Token<'a>> {
        self.at += 3;
        while self.at < self.text.len() {
            let rest = &self.text.as_bytes()[self.at..];
            if rest.starts_with(br#"""""#) {
                self.at += 3;
                return Ok(Token::String);
            }
            self.at += if rest.starts_with(br#"\""""#) { 4 } else { 1 };
        }
        self.fail("Unterminated string.")
    }

    fn string(&mut self) -> Result<Token<'a>> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Token::String);
                }
                Some(b'\\') => self.escape()?,
                None | Some(b'\n' | b'\r') => return self.fail("Unterminated string."),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result {
        let rest = &self.text.as_bytes()[self.at + 1..];
        match rest.first() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') if rest.get(1) == Some(&b'{') => {
                let n_digits = rest[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let digits = std::str::from_utf8(&rest[2..2 + n_digits]).unwrap_or_default();
                let is_scalar = u32::from_str_radix(digits, 16).is_ok_and(|value| char::from_u32(value).is_some());
                if !is_scalar || rest.get(2 + n_digits) != Some(&b'}') {
                    return self.fail("Invalid Unicode escape sequence.");
                }
                self.at += n_digits + 4;
            }
            Some(b'u') => match (unit(&rest[1..]), rest.get(5..7), rest.get(7..).and_then(unit)) {
                (Some(0xd800..=0xdbff), Some(br"\u"), Some(0xdc00..=0xdfff)) => self.at += 12,
                (None | Some(0xd800..=0xdfff), ..) => return self.fail("Invalid Unicode escape sequence."),
                (Some(_), ..) => self.at += 6,
            },
            _ => return self.fail("Invalid character escape sequence."),
        }
        Ok(())
    }
}

/// The UTF-16 unit of four hexadecimal digits.
fn unit(digits: &[u8]) -> Option<u16> {
    let digits = digits.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}
