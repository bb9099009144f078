//! PgBouncer's configuration files by PgBouncer's own grammar, and the one edit that we make in them.
//!
//! ```text
//!   file       comment   `;` or `#` as the first character that is no blank, to the end of the line
//!              section   `[name]`; what follows on the same line is read on
//!              include   `%include PATH`, the file read in place; the section goes on through it, in both directions
//!              pair      KEY = VALUE to the end of the line; KEY of `A-Z a-z 0-9 _ . - *`, or 'quoted' since 1.25
//!   database   VALUE is a connection string: `key = value` separated by spaces (tabs are no separators);
//!              a value may be 'quoted', a quote in it is doubled; the last of two equal keys counts
//! ```
//!
//! A name that is said twice is one database, and the last entry counts. A syntax error anywhere makes PgBouncer keep what it had;
//! before 1.25 it answers `RELOAD` all the same.

use std::ops::Range;

/// The text is not understood, by PgBouncer either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct BadIni {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// An entry that cannot be sent elsewhere by changing its host and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uneditable {
    /// PgBouncer could not read the file either.
    #[error(transparent)]
    Syntax(#[from] BadIni),
    /// The file has no entry of that name.
    #[error("it has no entry `{0}` in a section [databases]")]
    NoEntry(String),
    /// The entry has a form in which host and port do not name one server.
    #[error("line {line}: {why}")]
    Form {
        /// The line of the entry.
        line: usize,
        /// What is in the way.
        why: String,
    },
}

/// One thing that a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The line on which it begins, counted from 1.
    pub line: usize,
    /// What it says.
    pub said: Said,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The section that begins.
    Section(String),
    /// The file to read in place.
    Include(String),
    /// A key, and where its value stands in the text.
    Pair {
        /// The key without its quotes.
        key: String,
        /// Whether it was quoted, which PgBouncer reads since 1.25.
        quoted: bool,
        /// The bytes of the value.
        value: Range<usize>,
    },
}

/// The entry of a database: its connection string, read as PgBouncer reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line on which it stands.
    pub line: usize,
    value: Range<usize>,
    params: Vec<Param>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Param {
    key: String,
    value: String,
    /// The bytes of the value with its quotes.
    at: Range<usize>,
    quoted: bool,
    /// Whether blanks stand around `=`.
    spaced: bool,
}

impl Entry {
    /// Reads the connection string at `value`.
    ///
    /// # Errors
    /// PgBouncer would refuse it.
    pub fn read(text: &[u8], line: usize, value: Range<usize>) -> Result<Self, BadIni> {
        let entry = Self { line, params: params(text, line, &value)?, value };
        if entry.get("port").is_some_and(|port| leading_number(port).is_none_or(|port| port == 0)) {
            let why = format!("`port={}` is no port", entry.get("port").unwrap_or_default());
            return Err(BadIni { line, why });
        }
        Ok(entry)
    }

    /// The value of a key, the last one if it is said twice.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.last(key).map(|param| param.value.as_str())
    }

    /// The host; none if it is the unix socket of PgBouncer's own machine.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.get("host")
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.get("port").and_then(leading_number).unwrap_or(DEFAULT_PORT)
    }

    /// All keys and values but those of host and port, in their order.
    #[must_use]
    pub fn others(&self) -> Vec<(&str, &str)> {
        let kept = self.params.iter().filter(|param| param.key != "host" && param.key != "port");
        kept.map(|param| (param.key.as_str(), param.value.as_str())).collect()
    }

    fn last(&self, key: &str) -> Option<&Param> {
        self.params.iter().rev().find(|param| param.key == key)
    }

    /// Why host and port of this entry do not name one server, if they do not.
    fn form(&self) -> Option<String> {
        let host = self.host()?;
        if host.contains(',') {
            Some(format!("`host={host}` is a list: PgBouncer spreads over it, so no single server can be set"))
        } else if is_socket(host) {
            Some(format!("`host={host}` is a unix socket: it can only lead to PgBouncer's own machine"))
        } else {
            None
        }
    }
}

const DEFAULT_PORT: u16 = 5432;

fn is_socket(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

/// What a file says, in its order.
///
/// # Errors
/// The first place that PgBouncer does not understand.
pub fn statements(text: &[u8]) -> Result<Vec<Statement>, BadIni> {
    let mut cursor = Cursor { text, at: 0 };
    let mut all = Vec::new();
    if let Some(at) = text.iter().position(|byte| *byte == 0) {
        return Err(Cursor { text, at }.bad("a byte 0, where PgBouncer stops reading"));
    }
    loop {
        cursor.skip(is_space);
        let line = cursor.line();
        let said = match cursor.peek() {
            None => return Ok(all),
            Some(b'#' | b';') => {
                cursor.skip(|byte| byte != b'\n');
                continue;
            }
            Some(b'[') => cursor.section()?,
            Some(b'%') if cursor.takes_include() => Said::Include(lossy(text, &cursor.rest_of_line())),
            Some(_) => cursor.pair()?,
        };
        all.push(Statement { line, said });
    }
}

/// The entry of `database` that counts in this file alone: the last one in `[databases]`. What stands before the first section counts
/// too, because a file that is included goes on in the section of the one that includes it.
///
/// # Errors
/// PgBouncer would not understand the file or the entry.
pub fn entry(text: &[u8], database: &str) -> Result<Option<Entry>, BadIni> {
    let mut databases = true;
    let mut found = None;
    for statement in statements(text)? {
        match statement.said {
            Said::Section(name) => databases = name == "databases",
            Said::Pair { key, value, .. } if databases && key == database => found = Some((statement.line, value)),
            Said::Pair { .. } | Said::Include(_) => {}
        }
    }
    found.map(|(line, value)| Entry::read(text, line, value)).transpose()
}

/// The same file with the entry of `database` sent to `host:port`. Nothing but the value of its host and port changes, or is added
/// where it was not said.
///
/// # Errors
/// No such entry, or one whose host and port do not name one server.
pub fn aimed(text: &[u8], database: &str, host: &str, port: u16) -> Result<Vec<u8>, Uneditable> {
    let before = entry(text, database)?.ok_or_else(|| Uneditable::NoEntry(database.to_owned()))?;
    let refuse = |why: String| Uneditable::Form { line: before.line, why };
    if let Some(why) = before.form() {
        return Err(refuse(why));
    }
    if host.is_empty() || host.contains(',') || is_socket(host) {
        return Err(refuse(format!("`{host}` names no single server")));
    }
    if before.host() == Some(host) && before.port() == port {
        return Ok(text.to_vec());
    }
    let after = spliced(text, changes(text, &before, host, port));
    let same = |entry: &Entry| entry.host() == Some(host) && entry.port() == port && entry.others() == before.others();
    match entry(&after, database) {
        Ok(Some(entry)) if same(&entry) => Ok(after),
        Ok(_) | Err(_) => Err(refuse(format!("it cannot be sent to {host}:{port} without changing something else"))),
    }
}

/// The bytes to put in place of others, in their order.
fn changes(text: &[u8], entry: &Entry, host: &str, port: u16) -> Vec<(Range<usize>, String)> {
    let equals = if entry.params.first().is_some_and(|param| param.spaced) { " = " } else { "=" };
    let number = port.to_string();
    let mut all = Vec::new();
    let missing_port = entry.last("port").is_none() && port != DEFAULT_PORT;
    let added_port = || format!("port{equals}{number}");
    match entry.last("host") {
        Some(param) => {
            let mut said = written(param.quoted, host);
            if missing_port {
                said.push(' ');
                said.push_str(&added_port());
            }
            all.push((param.at.clone(), said));
        }
        None => {
            let at = entry.value.start;
            let mut said = format!("host{equals}{}", written(false, host));
            if missing_port {
                said = format!("{said} {}", added_port());
            }
            if !entry.value.is_empty() {
                said.push(' ');
            }
            if at.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'=') && entry.value.is_empty() {
                said.insert(0, ' ');
            }
            all.push((at..at, said));
        }
    }
    if let Some(param) = entry.last("port") {
        all.push((param.at.clone(), written(param.quoted, &number)));
    }
    all.sort_by_key(|(at, _)| at.start);
    all
}

fn spliced(text: &[u8], changes: Vec<(Range<usize>, String)>) -> Vec<u8> {
    let mut after = Vec::with_capacity(text.len() + 64);
    let mut from = 0;
    for (at, said) in changes {
        after.extend_from_slice(text.get(from..at.start).unwrap_or_default());
        after.extend_from_slice(said.as_bytes());
        from = at.end;
    }
    after.extend_from_slice(text.get(from..).unwrap_or_default());
    after
}

/// A value as it is written: in quotes if it was, or if it would not be read back otherwise.
fn written(quoted: bool, value: &str) -> String {
    if quoted || value.contains(' ') || value.starts_with('\'') {
        format!("'{}'", value.replace('\'', "''"))
    } else {
        value.to_owned()
    }
}

fn params(text: &[u8], line: usize, value: &Range<usize>) -> Result<Vec<Param>, BadIni> {
    let mut all = Vec::new();
    let bad = |why: &str| BadIni { line, why: format!("{why} in a connection string") };
    let mut cursor = Cursor { text: text.get(..value.end).unwrap_or_default(), at: value.start };
    let blank = |byte| byte == b' ';
    loop {
        cursor.skip(blank);
        if cursor.peek().is_none() {
            return Ok(all);
        }
        let key = cursor.skip(|byte| byte != b'=' && byte != b' ');
        let around = cursor.skip(blank);
        if key.is_empty() || cursor.next() != Some(b'=') {
            return Err(bad("a key without `=`"));
        }
        let spaced = !around.is_empty() | !cursor.skip(blank).is_empty();
        let quoted = cursor.peek() == Some(b'\'');
        let (at, value) =
            if quoted { cursor.quoted().ok_or_else(|| bad("a quote without an end"))? } else { cursor.word() };
        if value.is_empty() {
            return Err(bad("a key without a value"));
        }
        // What ends a value is passed over, whatever it is.
        cursor.next();
        all.push(Param { key: lossy(text, &key), value, at, quoted, spaced });
    }
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, while_it: impl Fn(u8) -> bool) -> Range<usize> {
        let from = self.at;
        while self.peek().is_some_and(&while_it) {
            self.at += 1;
        }
        from..self.at
    }

    fn line(&self) -> usize {
        1 + self.text.iter().take(self.at).filter(|byte| **byte == b'\n').count()
    }

    fn bad(&self, why: impl Into<String>) -> BadIni {
        BadIni { line: self.line(), why: why.into() }
    }

    /// The rest of the line without the blanks at its end.
    fn rest_of_line(&mut self) -> Range<usize> {
        let mut range = self.skip(|byte| byte != b'\n');
        while range.end > range.start && self.text.get(range.end - 1).is_some_and(|byte| is_space(*byte)) {
            range.end -= 1;
        }
        range
    }

    fn section(&mut self) -> Result<Said, BadIni> {
        self.at += 1;
        let name = self.skip(|byte| byte != b']' && byte != b'\n');
        if self.peek() != Some(b']') {
            return Err(self.bad("a section without `]`"));
        }
        self.at += 1;
        Ok(Said::Section(lossy(self.text, &name)))
    }

    /// Passes over `%include ` and the blanks after it, if they stand here.
    fn takes_include(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let found = rest.strip_prefix(b"%include").is_some_and(|rest| rest.first().is_some_and(|byte| is_blank(*byte)));
        if found {
            self.at += b"%include".len();
            self.skip(is_blank);
        }
        found
    }

    fn pair(&mut self) -> Result<Said, BadIni> {
        let quoted = self.peek() == Some(b'\'');
        let key = if quoted {
            let unended = self.bad("a quoted name without an end, or an empty one");
            self.at += 1;
            let key = self.skip(|byte| byte != b'\'');
            if key.is_empty() || self.next().is_none() {
                return Err(unended);
            }
            key
        } else {
            self.skip(|byte| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte))
        };
        self.skip(is_blank);
        if self.peek() != Some(b'=') {
            return Err(self.bad("neither a section, nor `%include FILE`, nor `name = value`"));
        }
        self.at += 1;
        self.skip(is_blank);
        let value = self.rest_of_line();
        Ok(Said::Pair { key: lossy(self.text, &key), quoted, value })
    }

    /// A value in quotes: where it stands with them, and what it means.
    fn quoted(&mut self) -> Option<(Range<usize>, String)> {
        let from = self.at;
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.next()? {
                b'\'' if self.peek() == Some(b'\'') => {
                    self.at += 1;
                    value.push(b'\'');
                }
                b'\'' => return Some((from..self.at, String::from_utf8_lossy(&value).into_owned())),
                byte => value.push(byte),
            }
        }
    }

    fn word(&mut self) -> (Range<usize>, String) {
        let at = self.skip(|byte| byte != b' ');
        let value = lossy(self.text, &at);
        (at, value)
    }
}

fn lossy(text: &[u8], at: &Range<usize>) -> String {
    String::from_utf8_lossy(text.get(at.clone()).unwrap_or_default()).into_owned()
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The number at the beginning of a text, as C's `atoi` takes it.
fn leading_number(text: &str) -> Option<u16> {
    let digits = text.trim_start().trim_start_matches('+');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests;
