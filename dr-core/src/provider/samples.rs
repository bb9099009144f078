//! Replication positions that a watcher recorded outside the databases that are moved.

use serde::{Deserialize, Serialize};

use crate::{Lineage, Position, Timestamp};

/// A sample of both sides' positions, taken outside the patient (DESIGN section 6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionSample {
    /// The primary's durable position, if it could be read.
    pub primary: Option<Position>,
    /// The standby's durable position, if it could be read.
    pub standby: Option<Position>,
    /// The standby's applied position, if it could be read.
    pub applied: Option<Position>,
    /// The lineage of the primary.
    pub lineage: Option<Lineage>,
    /// When.
    pub at: Timestamp,
}
