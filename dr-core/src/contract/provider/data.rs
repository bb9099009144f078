//! What a data plane tells of the data itself: whether anything was written, how far sequences are, and what tables add up to.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Digest, Int64, Timestamp},
    contract::Tri,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequences {
    /// The last value of each, by `schema.name`; `None` where it was never used.
    pub values: BTreeMap<String, Option<Int64>>,
    /// Those that the probe's role may not read.
    pub unread: Vec<String>,
}

/// What the rows of a table add up to: the same rows in any order give the same sum, on any server of the same major version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// How many rows there are.
    pub rows: Int64,
    /// The sum over them.
    pub sum: Digest,
}
