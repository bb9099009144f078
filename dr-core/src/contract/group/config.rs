//! Faults of a configuration, with the place and the words that help.

use std::fmt;

use crate::base::text;

/// One step into a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The value of this key.
    Name(String),
    /// The item with this index, counted from 0.
    Item(usize),
}

impl From<&str> for Key {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl From<usize> for Key {
    fn from(index: usize) -> Self {
        Self::Item(index)
    }
}

/// A place in a configuration, such as `member[1].at.port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyPath(Vec<Key>);

impl KeyPath {
    /// The whole configuration.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The place one step further in.
    #[must_use]
    pub fn then(&self, key: impl Into<Key>) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.into());
        Self(keys)
    }

    /// The place that holds this one; the root holds itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut keys = self.0.clone();
        keys.pop();
        Self(keys)
    }

    /// The steps from the root.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// The last key, if the place is the value of one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self.0.last()? {
            Key::Name(name) => Some(name),
            Key::Item(_) => None,
        }
    }
}

impl FromIterator<Key> for KeyPath {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.0.iter().enumerate() {
            match key {
                Key::Name(name) if at == 0 => f.write_str(name)?,
                Key::Name(name) => write!(f, ".{name}")?,
                Key::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What is wrong at one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFault {
    /// Nobody knows this key; the place ends with it.
    UnknownKey {
        /// The keys that may stand here.
        known: Vec<String>,
    },
    /// A key that must be there is not.
    MissingKey {
        /// The key.
        key: String,
    },
    /// The value is none of those possible.
    Choice {
        /// What was written.
        found: String,
        /// What may stand here.
        known: Vec<String>,
    },
    /// The value has another type.
    Type {
        /// The type that was written.
        found: String,
        /// What may stand here.
        expected: String,
    },
    /// The value does not do.
    Value {
        /// Why, and what helps; without the value if that might be a secret.
        message: String,
    },
}

/// A configuration that cannot be used: the place, the fault, the help. It knows no file; what read the file adds the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", self.sentence(), self.help().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct ConfigError {
    path: KeyPath,
    fault: ConfigFault,
}

impl ConfigError {
    /// The fault at this place.
    #[must_use]
    pub const fn new(path: KeyPath, fault: ConfigFault) -> Self {
        Self { path, fault }
    }

    /// The value at this place does not do, because of `message`.
    #[must_use]
    pub fn value(path: KeyPath, message: impl Into<String>) -> Self {
        Self::new(path, ConfigFault::Value { message: message.into() })
    }

    /// Where. For an unknown key the path ends with it; for a missing one it is the table.
    #[must_use]
    pub const fn path(&self) -> &KeyPath {
        &self.path
    }

    /// What.
    #[must_use]
    pub const fn fault(&self) -> &ConfigFault {
        &self.fault
    }

    /// What is wrong, in one sentence without the help.
    #[must_use]
    pub fn sentence(&self) -> String {
        let key = self.path.key().unwrap_or_default();
        let here = if self.path.keys().is_empty() { "the file".into() } else { format!("`{}`", self.path) };
        match &self.fault {
            ConfigFault::UnknownKey { .. } => format!("{} has no key `{key}`", self.section()),
            ConfigFault::MissingKey { key } => format!("{} lacks the key `{key}`", table(&self.path)),
            ConfigFault::Choice { found, .. } => format!("{here} cannot be `{found}`"),
            ConfigFault::Type { found, expected } => format!("{here} is {found}, not {expected}"),
            ConfigFault::Value { message } => format!("{here}: {message}"),
        }
    }

    /// What helps, if something is known to.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let help = |word: &str, known: &[String]| {
            let meant = text::suggest(word, known.iter().map(String::as_str));
            let meant = meant.map(|meant| format!("did you mean `{meant}`?   ")).unwrap_or_default();
            Some(format!("{meant}known: {}", known.join(", ")))
        };
        match &self.fault {
            ConfigFault::UnknownKey { known } if known.is_empty() => Some("no keys are known here".into()),
            ConfigFault::UnknownKey { known } => help(self.path.key().unwrap_or_default(), known),
            ConfigFault::Choice { found, known } => help(found, known),
            ConfigFault::MissingKey { .. } | ConfigFault::Type { .. } | ConfigFault::Value { .. } => None,
        }
    }

    /// The table that holds the place, as a group file names it: `[objectives]`, `[[member]] 2`, `member 2, at`.
    #[must_use]
    pub fn section(&self) -> String {
        table(&self.path.parent())
    }
}

/// A table as a group file names it.
fn table(path: &KeyPath) -> String {
    match path.keys() {
        [] => "the group file".into(),
        [Key::Name(list), Key::Item(index)] => format!("[[{list}]] {}", index + 1),
        [Key::Name(list), Key::Item(index), rest @ ..] => {
            let rest: KeyPath = rest.iter().cloned().collect();
            format!("`{rest}` of [[{list}]] {}", index + 1)
        }
        _ => format!("[{path}]"),
    }
}
