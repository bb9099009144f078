//! What a member's life consists of beside its role: it is made, restored, protected, kept and destroyed.
//!
//! ```text
//!  create_replica ─┐
//!  restore ────────┴─► a new resource ──► harden ──► … ──► preserve (what its provider keeps for a while) ──► destroy (with a proof)
//! ```
//!
//! What a new member is made of (size, network, keys, parameters) stands in the member's own `at` table of the group file: topology is
//! planned elsewhere, and a backend passes it on.

use serde::{Deserialize, Serialize};

use crate::{
    base::{IdempotencyKey, Millis, Region, Timestamp},
    contract::{RecoveryPoint, Target, Tri},
};

/// A backend makes this member, which does not exist yet, a standby of another one on these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateOffer {
    /// The provider's honest upper figure until it receives from its source.
    pub takes: Millis,
}

/// A backend restores this member, which does not exist yet, from another one's backups on these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOffer {
    /// The provider's honest upper figure for one restore.
    pub takes: Millis,
}

/// A backend destroys this member on these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestroyOffer {
    /// The provider's honest upper figure until the resource is gone.
    pub takes: Millis,
    /// The same call keeps the data under a name first ([`DestroyRequest::keeping`](crate::contract::DestroyRequest::keeping)).
    pub last_snapshot: bool,
}

/// A backend turns protections of this member on, on these terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardenOffer {
    /// The provider's honest upper figure until they hold.
    pub takes: Millis,
    /// Those that it can turn on.
    pub can: Vec<Protection>,
}

/// A backend copies what its provider keeps of this member's lost writes only for a while, on these terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreserveOffer {
    /// The provider's honest upper figure for the copy.
    pub takes: Millis,
    /// How long the provider keeps it by itself; `None` where it does not say.
    pub kept_for: Option<Millis>,
}

/// A protection that a service can turn on for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// A second server in another zone takes over when the first one fails.
    HighAvailability,
    /// The resource cannot be deleted until somebody turns this off.
    DeletionProtection,
    /// The log is archived, so that the member can be restored to any point in time.
    PointInTime,
    /// Backups are kept for so long.
    Retention,
}

impl Protection {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HighAvailability, Self::DeletionProtection, Self::PointInTime, Self::Retention];

    /// What people call it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::HighAvailability => "high availability",
            Self::DeletionProtection => "deletion protection",
            Self::PointInTime => "point-in-time recovery",
            Self::Retention => "retention of backups",
        }
    }
}

/// The protections that a writer has to have: `[hardening]` in the group file. What is not named stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hardening {
    /// [`Protection::HighAvailability`].
    pub high_availability: bool,
    /// [`Protection::DeletionProtection`].
    pub deletion_protection: bool,
    /// [`Protection::PointInTime`].
    pub point_in_time: bool,
    /// [`Protection::Retention`]: for at least this long.
    #[serde(with = "crate::base::text::as_duration::optional", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Millis>,
}

impl Hardening {
    /// The protections that are asked for.
    #[must_use]
    pub fn wants(&self) -> Vec<Protection> {
        Protection::ALL.into_iter().filter(|protection| self.asks(*protection)).collect()
    }

    const fn asks(&self, protection: Protection) -> bool {
        match protection {
            Protection::HighAvailability => self.high_availability,
            Protection::DeletionProtection => self.deletion_protection,
            Protection::PointInTime => self.point_in_time,
            Protection::Retention => self.retention.is_some(),
        }
    }

    /// Those of them that `seen` does not show, with what it shows instead: `No`, or `Unknown`.
    #[must_use]
    pub fn missing(&self, seen: &Protections) -> Vec<(Protection, Tri)> {
        let told = self.wants().into_iter().map(|wanted| (wanted, seen.has(wanted, self.retention)));
        told.filter(|(_, there)| *there != Tri::Yes).collect()
    }
}

/// The protections of a member, as its provider tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protections {
    /// [`Protection::HighAvailability`].
    pub high_availability: Tri,
    /// [`Protection::DeletionProtection`].
    pub deletion_protection: Tri,
    /// [`Protection::PointInTime`].
    pub point_in_time: Tri,
    /// For how long backups are kept; `None` where the provider does not tell.
    pub retention: Option<Millis>,
    /// When this was true.
    pub at: Timestamp,
}

impl Protections {
    /// Whether a protection is on; backups have to be kept for `retention` at least.
    #[must_use]
    pub fn has(&self, protection: Protection, retention: Option<Millis>) -> Tri {
        match protection {
            Protection::HighAvailability => self.high_availability,
            Protection::DeletionProtection => self.deletion_protection,
            Protection::PointInTime => self.point_in_time,
            Protection::Retention => match (self.retention, retention) {
                (_, None) => Tri::Yes,
                (Some(kept), Some(wanted)) => Tri::from(kept >= wanted),
                (None, Some(_)) => Tri::Unknown,
            },
        }
    }
}

/// From when to when the backups of a member can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryWindow {
    /// The oldest point.
    pub earliest: Timestamp,
    /// The newest one: what was acknowledged later is in no backup yet.
    pub latest: Timestamp,
    /// Where the backups lie; `None` where the provider does not say.
    pub region: Option<Region>,
    /// When this was true.
    pub at: Timestamp,
}

impl RecoveryWindow {
    /// Tells whether a restore can reach the point `at`.
    #[must_use]
    pub fn holds(&self, at: Timestamp) -> bool {
        self.earliest <= at && at <= self.latest
    }
}

/// Asks that the member, which does not exist yet, is made as a standby of `source`.
#[derive(Clone, Debug)]
pub struct CreateReplica {
    /// Whom it shall follow. It is read, and not changed.
    pub source: Target,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that the member, which does not exist yet, is made with what another one had at a point of the past.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// Whose backups, and which point.
    pub point: RecoveryPoint,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that protections are turned on. None is ever turned off by it.
#[derive(Clone, Debug)]
pub struct HardenRequest {
    /// Of which member.
    pub target: Target,
    /// Which ones.
    pub want: Hardening,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks for a lasting copy of what a provider keeps of a former primary's lost writes.
#[derive(Clone, Debug)]
pub struct PreserveRequest {
    /// Which member lost them, with the history that it had.
    pub target: Target,
    /// The name of the copy: asking twice makes one.
    pub name: String,
    /// When the change was asked for that lost them: what the provider kept before belongs to another one.
    pub since: Timestamp,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}
