//! What a data plane tells of the data itself: whether anything was written, how far sequences are, and what tables add up to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Digest, IdempotencyKey, Int64, Timestamp},
    contract::{Target, Tri},
};

/// A probe looked for writes of others after a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritesSince {
    /// Whether anything but this toolkit's probe writes was committed after the position. `No` is a proof; whatever the server or its
    /// role cannot tell is `Unknown`.
    pub written: Tri,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// A table, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl Table {
    /// The table `schema.name`. Both are taken as they are written in the catalogue, without quotes.
    #[must_use]
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A probe read how far the sequences of a database are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequences {
    /// The last value of each, by `schema.name`; `None` where it was never used.
    pub values: BTreeMap<String, Option<Int64>>,
    /// Those that count down.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    /// Those that the probe's role may not read.
    pub unread: Vec<String>,
    /// When this was true.
    pub at: Timestamp,
}

impl Sequences {
    /// None that is known, at `at`.
    #[must_use]
    pub const fn none(at: Timestamp) -> Self {
        Self { values: BTreeMap::new(), down: BTreeSet::new(), unread: Vec::new(), at }
    }

    /// Returns the sequences here that are further than those of `other`, and those that it has not at all: what a server with `other`
    /// would hand out for the second time. One that was never used here is further than none.
    #[must_use]
    pub fn ahead_of(&self, other: &Self) -> Vec<String> {
        let ahead = |(name, last): &(&String, &Option<Int64>)| {
            let Some(last) = last else { return false };
            match other.values.get(*name).copied().flatten() {
                Some(there) if self.down.contains(*name) => last.0 < there.0,
                Some(there) => last.0 > there.0,
                None => true,
            }
        };
        self.values.iter().filter(ahead).map(|(name, _)| name.clone()).collect()
    }
}

/// Asks that a new writer's sequences go on beyond what its predecessor handed out.
#[derive(Clone, Debug)]
pub struct RaiseSequences {
    /// The new writer.
    pub target: Target,
    /// The predecessor's last values. Empty where nobody could read them.
    pub floors: Sequences,
    /// How many steps beyond its floor a sequence goes on, as far as its bounds leave room.
    pub ahead: u32,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// What the rows of a table add up to: the same rows in any order give the same sum, on any server of the same major version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// How many rows there are.
    pub rows: Int64,
    /// The sum over them.
    pub sum: Digest,
}
