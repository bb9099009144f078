//! The tables that belong to a backend.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

use super::{ConfigError, KeyPath, read};
use crate::base::canonical::Json;

/// The `at` table of a member, fence, route, store or application tier: only its backend knows the keys.
///
/// It remembers its place in the file, so that the backend's own complaints name it too. Two tables that say the same are
/// equal wherever they stand.
#[derive(Clone, Debug, Default)]
pub struct AtTable {
    table: Json,
    place: KeyPath,
}

impl AtTable {
    /// Reads the table as the backend's own type. Use `#[serde(deny_unknown_fields)]` on it: a typo is then an error that names
    /// the key, and not a setting that silently does nothing.
    ///
    /// # Errors
    /// A key is unknown or missing, or a value does not do.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        read(&self.table.0, &self.place)
    }

    /// The complaint of a backend about the value of `key`.
    #[must_use]
    pub fn fault(&self, key: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::value(self.place.then(key), message)
    }

    /// The table as it is.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.table.0
    }

    /// The table with these keys only, at the same place: for a backend that reads some keys itself and hands the rest to another.
    #[must_use]
    pub fn only(&self, keys: &[&str]) -> Self {
        let kept = self.table.0.as_object().into_iter().flatten().filter(|(key, _)| keys.contains(&key.as_str()));
        let kept = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
        Self { table: Json(Value::Object(kept)), place: self.place.clone() }
    }

    /// Where the table stands.
    #[must_use]
    pub const fn place(&self) -> &KeyPath {
        &self.place
    }

    pub(super) fn put(&mut self, place: KeyPath) {
        self.place = place;
        if self.table.0.is_null() {
            self.table.0 = Value::Object(serde_json::Map::new());
        }
    }
}

impl From<Value> for AtTable {
    fn from(table: Value) -> Self {
        Self { table: Json(table), place: KeyPath::root().then("at") }
    }
}

impl PartialEq for AtTable {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

impl Eq for AtTable {}

impl Serialize for AtTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AtTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Map::deserialize(deserializer).map(|table| Self::from(Value::Object(table)))
    }
}
