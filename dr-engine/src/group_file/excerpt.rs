//! The line of a fault, as a person is shown it.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use dr_core::contract::{ConfigError, ConfigFault, GroupFinding, KeyPath, group::written_secret};
use serde::Serialize;

/// Where one value of a file stands, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Range<usize>,
}

/// A file's text with the place of everything in it.
#[derive(Clone)]
pub(super) struct Source {
    path: PathBuf,
    text: Arc<str>,
    places: BTreeMap<KeyPath, Place>,
    secrets: Vec<Range<usize>>,
}

/// The text is left out: it may hold a secret that should not be there.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One fault at one place of a group file. `Display` is what a terminal shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupFault {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, counted from 1; absent if something is missing from the file as a whole.
    pub line: Option<u32>,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What helps, if that is known.
    pub help: Option<String>,
    /// The line's text; secrets in it are starred out.
    pub excerpt: String,
    /// The column of the excerpt at which the fault begins, counted from 0, and how many characters it has.
    pub underline: (u32, u32),
}

impl fmt::Display for GroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let help = self.help.as_deref().unwrap_or_default();
        let Some(line) = self.line else {
            write!(f, "{file}  {}", self.message)?;
            return if help.is_empty() { Ok(()) } else { write!(f, "\n      {help}") };
        };
        let (before, length) = (self.underline.0 as usize, self.underline.1 as usize);
        let carets = "^".repeat(length.max(1));
        writeln!(f, "{file}:{line}:{}  {}", self.column, self.message)?;
        writeln!(f, "{line:>5} | {}", self.excerpt)?;
        write!(f, "      | {:before$}{carets}", "")?;
        if help.is_empty() { Ok(()) } else { write!(f, "  {help}") }
    }
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Self { path: path.into(), text: text.into(), places: BTreeMap::new(), secrets: Vec::new() }
    }

    pub(super) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers a place, and whether a secret stands there.
    pub(super) fn put(&mut self, path: KeyPath, place: Place, leaf: Option<String>) {
        if leaf.is_some_and(|leaf| written_secret(&path, &leaf)) {
            self.secrets.push(place.value.clone());
        }
        self.places.insert(path, place);
    }

    pub(super) fn place(&self, path: &KeyPath) -> String {
        match self.nearest(path) {
            Some(place) => format!("{}:{}", self.path.display(), self.line(self.start(place)).0),
            None => self.path.display().to_string(),
        }
    }

    pub(super) fn config(&self, error: &ConfigError) -> GroupFault {
        let place = self.nearest(error.path());
        let span = place.map(|place| match error.fault() {
            ConfigFault::UnknownKey { .. } | ConfigFault::MissingKey { .. } => self.header(place),
            ConfigFault::Choice { .. } | ConfigFault::Type { .. } | ConfigFault::Value { .. } => self.body(place),
        });
        self.fault(span, error.sentence(), error.help())
    }

    pub(super) fn finding(&self, found: &GroupFinding) -> GroupFault {
        let span = self.nearest(&found.path).map(|place| self.body(place));
        self.fault(span, found.message.clone(), Some(found.helps.clone()))
    }

    /// A line that is no TOML: nothing is known about it, so what may be a secret is covered by the words around it.
    pub(super) fn syntax(&self, message: &str, span: Option<Range<usize>>) -> GroupFault {
        let message = message.lines().collect::<Vec<_>>().join(", ");
        let (start, length) = span.map_or((0, 0), |span| (span.start, span.len()));
        let (_, line) = self.line(start);
        let text = self.text.get(line.clone()).unwrap_or_default();
        let mut hidden = self.clone();
        if let Some((key, value)) = text.split_once('=').filter(|_| names_a_secret(text)) {
            let from = line.start + key.len() + 1;
            hidden.secrets.push(from..from + value.len());
        }
        hidden.fault(Some(start..start + length), message, None)
    }

    fn nearest(&self, path: &KeyPath) -> Option<&Place> {
        let mut path = path.clone();
        while !path.keys().is_empty() {
            if let Some(place) = self.places.get(&path) {
                return Some(place);
            }
            path = path.parent();
        }
        None
    }

    fn start(&self, place: &Place) -> usize {
        self.header(place).start
    }

    /// The key if there is one, else the value.
    fn header(&self, place: &Place) -> Range<usize> {
        place.key.clone().unwrap_or_else(|| place.value.clone())
    }

    /// The value if it stands on one line, else the key.
    fn body(&self, place: &Place) -> Range<usize> {
        let one_line = self.text.get(place.value.clone()).is_some_and(|text| !text.contains('\n'));
        if one_line { place.value.clone() } else { self.header(place) }
    }

    /// The number and the extent of the line that holds a byte.
    fn line(&self, at: usize) -> (u32, Range<usize>) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let number = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        let end = start + rest.find('\n').unwrap_or(rest.len());
        (u32::try_from(number).unwrap_or(u32::MAX), start..end)
    }

    fn fault(&self, span: Option<Range<usize>>, message: String, help: Option<String>) -> GroupFault {
        let file = self.path.clone();
        let Some(span) = span else {
            return GroupFault {
                file,
                line: None,
                column: 1,
                message,
                help,
                excerpt: String::new(),
                underline: (0, 0),
            };
        };
        let (line, extent) = self.line(span.start);
        let (end, whole) = (span.end.min(extent.end), self.count(extent.start..span.start));
        let (excerpt, column) = self.covered(extent.clone(), span.start);
        let (_, shown_end) = self.covered(extent, end.max(span.start));
        let underline = (column, shown_end.saturating_sub(column).max(1));
        GroupFault { file, line: Some(line), column: whole + 1, message, help, excerpt, underline }
    }

    fn count(&self, range: Range<usize>) -> u32 {
        u32::try_from(self.text.get(range).unwrap_or_default().chars().count()).unwrap_or(u32::MAX)
    }

    /// A line with its secrets starred out, and the column at which the byte `at` is shown.
    fn covered(&self, line: Range<usize>, at: usize) -> (String, u32) {
        let (mut shown, mut column) = (String::new(), None);
        for (offset, letter) in self.text.get(line.clone()).unwrap_or_default().char_indices() {
            let here = line.start + offset;
            if here >= at && column.is_none() {
                column = Some(shown.chars().count());
            }
            match self.secrets.iter().find(|secret| secret.contains(&here)) {
                Some(secret) if secret.start.max(line.start) == here => shown.push_str("***"),
                Some(_) | None if letter == '\r' => {}
                Some(_) => {}
                None => shown.push(if letter == '\t' { ' ' } else { letter }),
            }
        }
        let column = column.unwrap_or_else(|| shown.chars().count());
        (shown, u32::try_from(column).unwrap_or(u32::MAX))
    }
}

fn names_a_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["pass", "pwd", "token", "credential", "key", "secret", "://"].iter().any(|word| line.contains(word))
}
