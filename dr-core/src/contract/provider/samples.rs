//! Replication positions and lags that a watcher recorded outside the databases that are moved.

use serde::{Deserialize, Serialize};

use crate::{
    base::{MemberId, Millis, Timestamp},
    contract::{Lineage, Position, Replication, Tri},
};

/// A sample of both sides' positions, and of lags where no positions are told, taken outside the patient.
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
    /// How far behind members were, as their providers measured: empty where nobody tells, and where nothing new was read.
    pub lags: Vec<LagSample>,
    /// When.
    pub at: Timestamp,
}

/// A member was so far behind when its provider measured it.
///
/// All that was written until `behind` before `measured` is safe on the member, give or take `cadence`: so the loss of a failover to it has
/// a bound although nobody tells log positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSample {
    /// The standby.
    pub member: MemberId,
    /// The history that it received, if that was told.
    pub lineage: Option<Lineage>,
    /// How far it was behind.
    pub behind: Millis,
    /// How often its source measures, as in [`Replication::cadence`].
    pub cadence: Millis,
    /// When the provider measured it, not when it was read.
    pub measured: Timestamp,
}

impl LagSample {
    /// What a reading of `member` at `read` is good for; `None` where no lag is told, or the member is not known to receive anything: the
    /// lag of a stream that has stopped is no lag. Nothing is measured later than it is read.
    #[must_use]
    pub fn of(member: &MemberId, reading: &Replication, read: Timestamp) -> Option<Self> {
        let behind = reading.lag.filter(|_| reading.streaming == Tri::Yes)?;
        let (lineage, cadence) = (reading.lineage.clone(), reading.cadence);
        Some(Self { member: member.clone(), lineage, behind, cadence, measured: reading.at.min(read) })
    }
}
