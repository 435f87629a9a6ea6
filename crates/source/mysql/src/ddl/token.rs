//! A statement's text as words, names, strings and signs. Comments are passed over, those that the server runs are read.
use lakeward_core::TableId;

use super::Session;

/// A piece of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, a number, or a name without quotes.
    Word(&'a str),
    /// A name in quotes, as it stands between them.
    Name(&'a str),
    /// A string, as it stands between its quotes; the quote.
    Text(&'a str, char),
    /// Any other character.
    Sign(char),
}

impl Token<'_> {
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_name(&self) -> bool {
        matches!(self, Self::Word(_) | Self::Name(_))
    }
}

/// What is left of a statement.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    rest: &'a str,
    session: Session<'a>,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = self.rest.chars().next()?;
        match first {
            '`' => self.quoted('`').map(Token::Name),
            '\'' | '"' => self.quoted(first).map(|text| Token::Text(text, first)),
            _ if is_word(first) => Some(Token::Word(self.unquoted())),
            _ => {
                self.rest = &self.rest[first.len_utf8()..];
                Some(Token::Sign(first))
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '@') || !c.is_ascii()
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str, session: Session<'a>) -> Self {
        Self { rest: text, session }
    }

    pub(super) fn session(&self) -> Session<'a> {
        self.session
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.clone().next()
    }

    /// The one behind the next.
    pub(super) fn peek_second(&self) -> Option<Token<'a>> {
        let mut ahead = self.clone();
        ahead.next();
        ahead.next()
    }

    /// Passes the keyword over, if it is next.
    pub(super) fn word(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(keyword));
        if found {
            self.next();
        }
        found
    }

    pub(super) fn punct(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(Token::Sign(sign));
        if found {
            self.next();
        }
        found
    }

    /// `IF EXISTS` or `IF NOT EXISTS`.
    pub(super) fn if_exists(&mut self) -> bool {
        if !self.peek().is_some_and(|t| t.is("IF"))
            || !self.peek_second().is_some_and(|t| t.is("NOT") || t.is("EXISTS"))
        {
            return false;
        }
        self.next();
        self.word("NOT");
        self.word("EXISTS");
        true
    }

    /// `WAIT 5` or `NOWAIT`.
    pub(super) fn wait(&mut self) {
        if self.word("WAIT") {
            self.next();
        }
        self.word("NOWAIT");
    }

    /// A name, with or without quotes.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = self.column()?;
        Some(if self.session.lower_case { name.to_lowercase() } else { name })
    }

    /// A column's name.
    pub(super) fn column(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Word(word) => word.to_owned(),
            Token::Name(name) => name.replace("``", "`"),
            Token::Text(text, '"') => text.replace("\"\"", "\""),
            _ => return None,
        };
        self.next();
        Some(name)
    }

    /// A table's name, completed by the session's database.
    pub(super) fn table(&mut self) -> Option<TableId> {
        let first = self.name()?;
        if self.peek() == Some(Token::Sign('.'))
            && self.peek_second().is_some_and(|token| token.is_name())
        {
            self.next();
            return Some(TableId::new(first, self.name()?));
        }
        let database = self.session.database;
        let database =
            if self.session.lower_case { database.to_lowercase() } else { database.to_owned() };
        Some(TableId::new(database, first))
    }

    /// `X'7132'` or a string.
    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        let hexadecimal = self.word("X");
        let Some(Token::Text(text, _)) = self.next() else { return None };
        if !hexadecimal {
            return Some(text.as_bytes().to_vec());
        }
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks_exact(2).map(byte).collect()
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        match self.next() {
            Some(Token::Word(word)) => word.parse().ok(),
            _ => None,
        }
    }

    /// The pieces up to the next comma outside brackets, which is passed over. `None` at the end.
    pub(super) fn part(&mut self) -> Option<Tokens<'a>> {
        self.skip_blanks();
        let whole = self.rest;
        if whole.is_empty() {
            return None;
        }
        let mut depth = 0usize;
        let mut length = whole.len();
        loop {
            let before = self.rest.len();
            match self.next() {
                None => break,
                Some(Token::Sign('(')) => depth += 1,
                Some(Token::Sign(')')) => depth = depth.saturating_sub(1),
                Some(Token::Sign(',')) if depth == 0 => {
                    length = whole.len() - before;
                    break;
                }
                Some(_) => {}
            }
        }
        Some(Tokens { rest: whole.get(..length).unwrap_or(whole), session: self.session })
    }

    /// What stands between the bracket that is next and its counterpart.
    pub(super) fn bracketed(&mut self) -> Option<Tokens<'a>> {
        if !self.punct('(') {
            return None;
        }
        let whole = self.rest;
        let mut depth = 1usize;
        loop {
            let before = self.rest.len();
            match self.next()? {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let inside = whole.get(..whole.len() - before)?;
                return Some(Tokens { rest: inside, session: self.session });
            }
        }
    }

    fn unquoted(&mut self) -> &'a str {
        let whole = self.rest;
        let mut length = whole.find(|c: char| !is_word(c)).unwrap_or(whole.len());
        let is_number = whole[..length].bytes().all(|b| b.is_ascii_digit());
        let fraction = whole[length..].strip_prefix('.').filter(|_| is_number);
        if let Some(fraction) = fraction.filter(|f| f.starts_with(|c: char| c.is_ascii_digit())) {
            length += 1 + fraction.find(|c: char| !is_word(c)).unwrap_or(fraction.len());
        }
        self.rest = &whole[length..];
        &whole[..length]
    }

    /// The content of quotes; `None` where they do not end.
    fn quoted(&mut self, quote: char) -> Option<&'a str> {
        let inside = &self.rest[1..];
        let mut characters = inside.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            if c == '\\' && quote != '`' {
                characters.next();
            } else if c == quote {
                if characters.peek().is_some_and(|(_, next)| *next == quote) {
                    characters.next();
                    continue;
                }
                self.rest = &inside[at + 1..];
                return Some(&inside[..at]);
            }
        }
        self.rest = "";
        None
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
            let is_dash = self.rest.strip_prefix("--").is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(|c: char| c.is_whitespace())
            });
            if is_dash || self.rest.starts_with('#') {
                self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
            } else if let Some(run) =
                self.rest.strip_prefix("/*!").or_else(|| self.rest.strip_prefix("/*M!"))
            {
                self.rest = run.trim_start_matches(|c: char| c.is_ascii_digit());
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
            } else if let Some(behind) = self.rest.strip_prefix("*/") {
                self.rest = behind;
            } else {
                return;
            }
        }
    }
}
