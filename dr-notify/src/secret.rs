//! Secrets that are named in a group file and read at use.

use std::fmt;

use dr_core::{
    ProviderError,
    contract::{ConfigError, NotifySpec, SecretRef},
};

use crate::wrong;

/// How long a secret may be, in bytes; a larger file is no secret.
const LONGEST: u64 = 4096;

/// The name of a secret: a file or a variable of the environment.
#[derive(Clone, Debug)]
pub(crate) struct Named(SecretRef);

/// The value of a secret. It prints as three dots.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Named {
    /// Takes the name at `key`; a store of secrets belongs to a backend of databases, and a notifier has none.
    pub(crate) fn of(notify: &NotifySpec, key: &str, named: SecretRef) -> Result<Self, ConfigError> {
        match named {
            SecretRef::Stored(_) => {
                Err(wrong(notify, key, "names a secret store, and notifiers have none; use `file:PATH` or `env:NAME`"))
            }
            SecretRef::File(path) if !path.starts_with('/') => {
                Err(wrong(notify, key, "names a file; say its whole path, `file:/etc/dr/NAME`"))
            }
            named @ (SecretRef::File(_) | SecretRef::Environment(_)) => Ok(Self(named)),
        }
    }

    /// Reads the value, without the line end that editors put behind it.
    pub(crate) async fn read(&self) -> Result<Secret, ProviderError> {
        let Self(named) = self;
        let lacking = |why: String| ProviderError::unreachable("notify", format!("{named}: {why}"));
        let text = match named {
            SecretRef::Environment(name) => {
                std::env::var(name).map_err(|_| lacking("is not set, or is no text".to_owned()))?
            }
            SecretRef::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || small_file(&path)).await;
                read.map_err(|_| lacking("was not read".to_owned()))?.map_err(|error| lacking(error.to_string()))?
            }
            SecretRef::Stored(_) => return Err(lacking("is in no store that a notifier can read".to_owned())),
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.contains(char::is_control) {
            return Err(lacking("is empty, or has more than one line".to_owned()));
        }
        Ok(Secret(text.to_owned()))
    }
}

fn small_file(path: &str) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

impl Secret {
    /// Shows the value to the code that sends it.
    pub(crate) fn value(&self) -> &str {
        &self.0
    }
}

/// Makes a service's own words fit for an error: at most 160 characters of one line, and nothing of the secrets.
pub(crate) fn clean(words: &str, secrets: &[&Secret]) -> String {
    let shown = secrets.iter().fold(words.to_owned(), |words, secret| words.replace(secret.value(), "…"));
    let line: String = shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_and_not_repeated() {
        let secret = Secret("canary-7391".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
        assert_eq!(clean("bad key canary-7391\r\nX: y", &[&secret]), "bad key …  X: y");
    }
}
