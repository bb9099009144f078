//! Ids that come from infrastructure outputs, so that nobody retypes them (A09).

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use dr_core::{
    Millis, Timestamp,
    base::{Digest, canonical},
    contract::{ConfigError, ConfigFault, KeyPath},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::GroupFileError;

/// A snapshot of infrastructure outputs: `terraform output -json`, or one JSON object of names and ids.
#[derive(Clone)]
pub struct Outputs {
    path: PathBuf,
    taken: Timestamp,
    digest: Digest,
    ids: BTreeMap<String, Id>,
}

/// What one output can serve for. Values of sensitive outputs are never kept.
#[derive(Clone, PartialEq, Eq)]
enum Id {
    One(String),
    Twice,
    Sensitive,
    Other(String),
}

/// The ids are left out; there may be hundreds.
impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, taken, digest, ids } = self;
        f.debug_struct("Outputs")
            .field("path", path)
            .field("taken", taken)
            .field("digest", digest)
            .field("ids", &ids.len())
            .finish()
    }
}

impl Outputs {
    /// Reads a snapshot. Its age counts from when the file was written.
    ///
    /// # Errors
    /// The file cannot be read, or is no snapshot of outputs.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, OutputsError> {
        let path = path.as_ref();
        let unreadable = |source| OutputsError::Unreadable { path: path.into(), source };
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let written = std::fs::metadata(path).and_then(|about| about.modified()).map_err(unreadable)?;
        let Entries(entries) =
            serde_json::from_slice(&bytes).map_err(|source| OutputsError::NotOutputs { path: path.into(), source })?;
        if entries.iter().any(|(name, _)| name == "terraform_version" || name == "serial") {
            return Err(OutputsError::State { path: path.into() });
        }
        let mut ids = BTreeMap::new();
        for (name, value) in entries {
            let id = id(&value);
            ids.entry(name)
                .and_modify(|known| {
                    if *known != id {
                        *known = Id::Twice
                    }
                })
                .or_insert(id);
        }
        Ok(Self { path: path.into(), taken: timestamp(written), digest: canonical::sha256(&bytes), ids })
    }

    /// The file of the snapshot.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When the snapshot was taken: when its file was written.
    #[must_use]
    pub const fn taken(&self) -> Timestamp {
        self.taken
    }

    /// How old the snapshot is at `now`. Shown with every plan: an old snapshot names servers of yesterday.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Millis {
        now.since(self.taken)
    }

    /// The digest of the snapshot's bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The id that an output holds.
    ///
    /// # Errors
    /// There is no such output, or it is not one plain id.
    pub fn id(&self, name: &str, place: &KeyPath) -> Result<&str, ConfigError> {
        let file = self.path.display();
        let refuse = |message: String| Err(ConfigError::value(place.clone(), message));
        match self.ids.get(name) {
            Some(Id::One(id)) => Ok(id),
            Some(Id::Twice) => refuse(format!("the output `{name}` is ambiguous: {file} holds two values for it")),
            Some(Id::Sensitive) => {
                refuse(format!("the output `{name}` is sensitive; a secret is named with `secret:`, `file:` or `env:`"))
            }
            Some(Id::Other(what)) => refuse(format!("the output `{name}` in {file} is {what}, not one id")),
            None => {
                let fault = ConfigFault::Choice {
                    found: format!("output:{name}"),
                    known: self.ids.keys().map(|known| format!("output:{known}")).collect(),
                };
                Err(ConfigError::new(place.clone(), fault))
            }
        }
    }
}

/// A snapshot of outputs that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutputsError {
    /// The file is not there, or may not be read.
    #[error("the snapshot of outputs `{}` cannot be read; write it with `terraform output -json > FILE`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no JSON object.
    #[error("`{}` is no snapshot of outputs; write it with `terraform output -json > FILE`", path.display())]
    NotOutputs {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: serde_json::Error,
    },
    /// The file is a whole state, which holds secrets.
    #[error(
        "`{}` is a state file, which holds secrets and is not needed; write a snapshot with `terraform output -json > FILE`",
        path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
    },
}

/// The snapshot that a group file names; relative to the group file.
pub(super) fn of(group: &Value, file: &Path) -> Result<Option<Outputs>, GroupFileError> {
    let Some(named) = group.get("iac_outputs").and_then(Value::as_str) else { return Ok(None) };
    let path = file.parent().map_or_else(|| PathBuf::from(named), |folder| folder.join(named));
    let outputs = Outputs::read(path).map_err(|source| GroupFileError::Outputs { path: file.into(), source })?;
    Ok(Some(outputs))
}

/// Puts ids in the place of all `output:NAME`.
pub(super) fn resolve(group: &mut Value, outputs: Option<&Outputs>) -> Result<(), ConfigError> {
    walk(group, &KeyPath::root(), outputs)
}

fn walk(value: &mut Value, path: &KeyPath, outputs: Option<&Outputs>) -> Result<(), ConfigError> {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().try_for_each(|(key, value)| walk(value, &path.then(key.as_str()), outputs))
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().try_for_each(|(index, item)| walk(item, &path.then(index), outputs))
        }
        Value::String(text) => {
            let Some((before, name)) = reference(text) else { return Ok(()) };
            let Some(outputs) = outputs else {
                let message = format!("`output:{name}` needs a snapshot; name it: iac_outputs = \"outputs.json\"");
                return Err(ConfigError::value(path.clone(), message));
            };
            *text = format!("{before}{}", outputs.id(name, path)?);
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// `output:NAME`, alone or behind a service: `sns:output:NAME`.
fn reference(text: &str) -> Option<(&str, &str)> {
    if let Some(name) = text.strip_prefix("output:") {
        return Some(("", name));
    }
    let (service, rest) = text.split_once(':')?;
    let name = rest.strip_prefix("output:")?;
    let plain = service.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    plain.then(|| (text.get(..=service.len()).unwrap_or_default(), name))
}

fn id(output: &Value) -> Id {
    let fields = output.as_object();
    let described = fields.filter(|fields| fields.contains_key("value") && fields.contains_key("type"));
    if described.and_then(|fields| fields.get("sensitive")) == Some(&Value::Bool(true)) {
        return Id::Sensitive;
    }
    match described.and_then(|fields| fields.get("value")).unwrap_or(output) {
        Value::String(text) if text.is_empty() => Id::Other("empty".into()),
        Value::String(text) => Id::One(text.clone()),
        Value::Array(items) => Id::Other(format!("a list of {}", items.len())),
        Value::Object(_) => Id::Other("a table".into()),
        Value::Null => Id::Other("null".into()),
        Value::Bool(_) | Value::Number(_) => Id::Other("no text".into()),
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(match at.duration_since(UNIX_EPOCH) {
        Ok(after) => since(after),
        Err(before) => -since(before.duration()),
    })
}

/// A JSON object that does not hide a name that is there twice.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of outputs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(All)
    }
}
