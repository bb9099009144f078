//! Secrets are named, never written.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Key, KeyPath};

/// Where a secret is: in a store, a file or the environment. The value itself is looked up at use and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// `secret:NAME`, in the backend's secret store.
    Stored(String),
    /// `file:PATH`.
    File(String),
    /// `env:NAME`.
    Environment(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(name) => write!(f, "secret:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Environment(name) => write!(f, "env:{name}"),
        }
    }
}

/// The text names no secret. It is not repeated here: it may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret is named, never written: use `secret:NAME`, `file:PATH` or `env:NAME`")]
pub struct BadSecretRef;

impl FromStr for SecretRef {
    type Err = BadSecretRef;

    fn from_str(text: &str) -> Result<Self, BadSecretRef> {
        match text.split_once(':') {
            Some((_, "")) | None => Err(BadSecretRef),
            Some(("secret", name)) => Ok(Self::Stored(name.into())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("env", name)) => Ok(Self::Environment(name.into())),
            Some(_) => Err(BadSecretRef),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Whether a secret itself seems to stand at this place, and not its name. Such text is shown to nobody.
#[must_use]
pub fn written_secret(path: &KeyPath, text: &str) -> bool {
    let key = path.keys().iter().rev().find_map(|key| match key {
        Key::Name(name) => Some(name.to_ascii_lowercase()),
        Key::Item(_) => None,
    });
    let names_a_secret = key.is_some_and(|key| {
        let words: Vec<&str> = key.split(['_', '-', '.']).collect();
        ["password", "passwd", "passphrase", "pwd", "token", "credential", "credentials", "apikey"]
            .iter()
            .any(|word| words.contains(word))
            || words.windows(2).any(|pair| matches!(pair, ["api" | "access" | "private", "key"] | ["client", "secret"]))
    });
    (names_a_secret && text.parse::<SecretRef>().is_err()) || has_credentials(text)
}

/// `scheme://user:password@host`
fn has_credentials(text: &str) -> bool {
    let authority = text.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
        || text.split_whitespace().any(|word| word.starts_with("password="))
}
