//! The grammar of executable documents (GraphQL specification, section 2), strictly.
//!
//! apollo's parser serves editors too: it drops an argument without a colon and goes on, and it refuses a comma after
//! `...`. So a document passes this recognizer first. The parser only receives texts of the grammar, with spaces in place
//! of commas and comments. Errors read like those of graphql-js, but name the kind of a token in place of its text, which
//! may be a value.
//!
//! Each level of recursion needs a bracket, and `limits::document` bounds their nesting.

mod tokens;

use std::ops::Range;

use async_graphql::Pos;
use tokens::{Token, Tokens};

use super::request_error::RequestError;

/// An error at an offset in bytes.
struct SyntaxError {
    at: usize,
    message: String,
}

type Result<T = ()> = std::result::Result<T, SyntaxError>;

/// The text of an executable document with spaces in place of commas, comments and byte order marks. All other tokens
/// stay where they are.
pub(super) fn cleaned(text: &str) -> std::result::Result<String, RequestError> {
    let blank = Recognizer::document(text).map_err(|error| {
        let message = format!("Syntax Error: {}", error.message);
        RequestError::parameter("query", message).at(position(text, error.at))
    })?;
    let (mut cleaned, mut copied) = (String::with_capacity(text.len()), 0);
    for range in blank {
        cleaned.push_str(&text[copied..range.start]);
        cleaned.extend(std::iter::repeat_n(' ', range.len()));
        copied = range.end;
    }
    cleaned.push_str(&text[copied..]);
    Ok(cleaned)
}

/// The line and the column of an offset. Columns count UTF-16 units, as those of graphql-js.
pub(super) fn position(text: &str, at: usize) -> Pos {
    let before = &text[..at];
    let n_lines = before.matches(['\n', '\r']).count() - before.matches("\r\n").count();
    let line_start = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
    Pos { line: n_lines + 1, column: before[line_start..].encode_utf16().count() + 1 }
}

struct Recognizer<'a> {
    tokens: Tokens<'a>,
    token: Token<'a>,
    /// Where `token` starts.
    at: usize,
}

impl<'a> Recognizer<'a> {
    /// Returns where the commas, comments and byte order marks are.
    fn document(text: &'a str) -> Result<Vec<Range<usize>>> {
        let mut this = Self { tokens: Tokens::new(text), token: Token::End, at: 0 };
        this.advance()?;
        loop {
            this.definition()?;
            if this.token == Token::End {
                return Ok(this.tokens.blank);
            }
        }
    }

    fn advance(&mut self) -> Result {
        (self.at, self.token) = self.tokens.next()?;
        Ok(())
    }

    fn fail<T>(&self, message: String) -> Result<T> {
        Err(SyntaxError { at: self.at, message })
    }

    fn unexpected<T>(&self) -> Result<T> {
        self.fail(format!("Unexpected {}.", self.token))
    }

    /// Takes this punctuator if it is next.
    fn take(&mut self, punctuator: char) -> Result<bool> {
        let is_next = self.token == Token::Punctuator(punctuator);
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, punctuator: char) -> Result {
        if self.take(punctuator)? {
            return Ok(());
        }
        self.fail(format!("Expected \"{punctuator}\", found {}.", self.token))
    }

    fn name(&mut self) -> Result<&'a str> {
        let Token::Name(name) = self.token else { return self.fail(format!("Expected Name, found {}.", self.token)) };
        self.advance()?;
        Ok(name)
    }

    fn keyword(&mut self, keyword: &str) -> Result {
        if self.token != Token::Name(keyword) {
            return self.fail(format!("Expected \"{keyword}\", found {}.", self.token));
        }
        self.advance()
    }

    /// At least one item, up to the closing bracket.
    fn items(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result) -> Result {
        loop {
            item(self)?;
            if self.take(close)? {
                return Ok(());
            }
        }
    }

    fn definition(&mut self) -> Result {
        match self.token {
            Token::Punctuator('{') => self.selection_set(),
            Token::Name("query" | "mutation" | "subscription") => self.operation(),
            Token::Name("fragment") => self.fragment(),
            _ => self.unexpected(),
        }
    }

    fn operation(&mut self) -> Result {
        self.advance()?;
        if matches!(self.token, Token::Name(_)) {
            self.advance()?;
        }
        if self.take('(')? {
            self.items(')', Self::variable)?;
        }
        self.directives(false)?;
        self.selection_set()
    }

    fn variable(&mut self) -> Result {
        self.expect('$')?;
        self.name()?;
        self.expect(':')?;
        self.type_reference()?;
        if self.take('=')? {
            self.value(true)?;
        }
        self.directives(true)
    }

    fn type_reference(&mut self) -> Result {
        if self.take('[')? {
            self.type_reference()?;
            self.expect(']')?;
        } else {
            self.name()?;
        }
        self.take('!').map(drop)
    }

    fn fragment(&mut self) -> Result {
        self.advance()?;
        if self.token == Token::Name("on") {
            return self.unexpected();
        }
        self.name()?;
        self.keyword("on")?;
        self.name()?;
        self.directives(false)?;
        self.selection_set()
    }

    fn selection_set(&mut self) -> Result {
        self.expect('{')?;
        self.items('}', Self::selection)
    }

    fn selection(&mut self) -> Result {
        if self.token != Token::Spread {
            return self.field();
        }
        self.advance()?;
        if self.token == Token::Name("on") {
            self.advance()?;
            self.name()?;
        } else if matches!(self.token, Token::Name(_)) {
            self.advance()?;
            return self.directives(false);
        }
        self.directives(false)?;
        self.selection_set()
    }

    fn field(&mut self) -> Result {
        self.name()?;
        if self.take(':')? {
            self.name()?;
        }
        self.arguments(false)?;
        self.directives(false)?;
        match self.token {
            Token::Punctuator('{') => self.selection_set(),
            _ => Ok(()),
        }
    }

    fn arguments(&mut self, is_const: bool) -> Result {
        if !self.take('(')? {
            return Ok(());
        }
        self.items(')', |this| this.entry(is_const))
    }

    /// An argument, or a field of an input object.
    fn entry(&mut self, is_const: bool) -> Result {
        self.name()?;
        self.expect(':')?;
        self.value(is_const)
    }

    fn directives(&mut self, is_const: bool) -> Result {
        while self.take('@')? {
            self.name()?;
            self.arguments(is_const)?;
        }
        Ok(())
    }

    /// `is_const`: a default value or an argument of its directive, which must not contain variables.
    fn value(&mut self, is_const: bool) -> Result {
        match self.token {
            Token::Name(_) | Token::Int | Token::Float | Token::String => self.advance(),
            Token::Punctuator('$') if is_const => self.fail("Unexpected variable in constant value.".to_owned()),
            Token::Punctuator('$') => {
                self.advance()?;
                self.name().map(drop)
            }
            Token::Punctuator('[') => {
                self.advance()?;
                while !self.take(']')? {
                    self.value(is_const)?;
                }
                Ok(())
            }
            Token::Punctuator('{') => {
                self.advance()?;
                while !self.take('}')? {
                    self.entry(is_const)?;
                }
                Ok(())
            }
            _ => self.unexpected(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_grammar_are_accepted() {
        for text in [
            "{a}",
            "\u{feff}query Q($a: [Int!]! = [1, 2] @d(x: {y: 1})) @e { a: b(c: $a, d: {e: [$a, ENUM, null, true]}) @f { ...g } }",
            "{ ... @include(if: true) { a } ... on B { on } ...fragment } fragment fragment on on { query }",
            "# comment\r\n{ a(b: \"\\u00e9\\u{1F6CF}\\ud83d\\udecf\\n\", c: \"\"\"\n \\\"\"\" \" \"\"\", d: -0.5e+3, e: 0) }",
            "query query { subscription mutation: fragment }",
            "{ a(b: [], c: {}) }",
        ] {
            let cleaned = cleaned(text).unwrap();
            assert_eq!(cleaned.len(), text.len());
            assert!(super::cleaned(&cleaned).is_ok(), "{cleaned}");
        }
    }

    #[test]
    fn commas_and_comments_become_spaces_outside_strings() {
        let text = "{,a(b: \"#,\", c: \"\"\"#,\"\"\",) #,é\n}\u{feff}";
        assert_eq!(cleaned(text).unwrap(), "{ a(b: \"#,\"  c: \"\"\"#,\"\"\" )     \n}   ");
    }

    #[test]
    fn other_texts_are_refused_and_the_error_names_the_place() {
        for (text, message, line, column) in [
            ("", "Unexpected <EOF>.", 1, 1),
            ("{", "Expected Name, found <EOF>.", 1, 2),
            ("{ }", "Expected Name, found \"}\".", 1, 3),
            ("{ a(b 1) }", "Expected \":\", found Int.", 1, 7),
            ("{ a(b:) }", "Unexpected \")\".", 1, 7),
            ("{ a() }", "Expected Name, found \")\".", 1, 5),
            ("query () { a }", "Expected \"$\", found \")\".", 1, 8),
            ("query ($a: Int = $b) { a }", "Unexpected variable in constant value.", 1, 18),
            ("fragment on on A { a }", "Unexpected Name.", 1, 10),
            ("fragment a A { a }", "Expected \"on\", found Name.", 1, 12),
            ("type A { a: Int }", "Unexpected Name.", 1, 1),
            ("\"\" query { a }", "Unexpected String.", 1, 1),
            ("{ a }\r\n\r{ ..a }", "Unexpected character.", 3, 3),
            ("{ a(b: \"é\", 'x') }", "Unexpected character.", 1, 13),
        ] {
            let error = cleaned(text).unwrap_err();
            assert_eq!(error.to_string(), format!("Syntax Error: {message}"), "{text}");
            assert_eq!(error.position, Some(Pos { line, column }), "{text}");
        }
    }

    #[test]
    fn wrong_tokens_are_refused() {
        for value in [
            "01",
            "1a",
            "1.",
            "1.a",
            "1.5.2",
            "-",
            "1e",
            "1e+",
            "0x1",
            "-01",
            ".5",
            "1_0",
            "\"",
            "\"\n\"",
            "\"\\q\"",
            "\"\\u12\"",
            "\"\\u{}\"",
            "\"\\u{110000}\"",
            "\"\\u{d800}\"",
            "\"\\ud83d\"",
            "\"\\ud83d\\u0041\"",
            "\"\\udecf\"",
            "\"\\ud83dx\"",
            "\"\"\"",
            "\"\"\"\\\"\"\"",
            "%",
            "\u{0}",
        ] {
            assert!(cleaned(&format!("{{ a(b: {value}) }}")).is_err(), "{value}");
        }
    }
}
