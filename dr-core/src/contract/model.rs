//! What backends report and guards compare: facts, positions, lineages, grades. Facts, never verdicts: roles are derived once,
//! in one function.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    base::{Endpoint, MemberId, Millis, Region, ResourceAddress, ResourceIdentity, SystemId, Timestamp, id::decimal},
    contract::Binding,
};

/// Yes, no, or nobody can say. Unknown is never read as the convenient one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tri {
    /// It was seen to be so.
    Yes,
    /// It was seen not to be so.
    No,
    /// It was not seen, or the sources disagree.
    #[default]
    Unknown,
}

impl From<bool> for Tri {
    fn from(seen: bool) -> Self {
        if seen { Self::Yes } else { Self::No }
    }
}

impl fmt::Display for Tri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}

/// One history of writes. A promotion that forks starts a new generation of the same system; a rebuild from a logical copy
/// is another system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lineage {
    /// The identity shared by all physical copies.
    pub system: SystemId,
    /// Grows with every promotion (a PostgreSQL timeline). Always 0 where the provider does not tell.
    pub generation: u32,
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.generation)
    }
}

/// What a position counts. Positions of different units do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionUnit {
    /// Bytes of a write-ahead log (a PostgreSQL LSN).
    LogBytes,
    /// Microseconds of a provider's clock (hybrid logical clocks, commit timestamps).
    ClockMicros,
    /// A provider's own counter.
    Counter,
}

/// How far a history was written, received or applied. Opaque to this crate: comparable only within one lineage's system and
/// one unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The system whose history it lies in.
    pub system: SystemId,
    /// What `value` counts.
    pub unit: PositionUnit,
    /// The count.
    #[serde(with = "text_u64")]
    pub value: u64,
}

impl Position {
    /// Which of two positions of one history is further; `None` when they do not compare.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        (self.system == other.system && self.unit == other.unit).then(|| self.value.cmp(&other.value))
    }

    /// Whether this position is seen to be at or past `other`; `false` when they do not compare.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        self.compare(other).is_some_and(Ordering::is_ge)
    }

    /// How much of `other` is missing here, in the unit; `None` when they do not compare.
    #[must_use]
    pub fn missing_to(&self, other: &Self) -> Option<u64> {
        self.compare(other).map(|_| other.value.saturating_sub(self.value))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            PositionUnit::LogBytes => write!(f, "{:X}/{:08X}", self.value >> 32, self.value & 0xffff_ffff),
            PositionUnit::ClockMicros => write!(f, "{} us", self.value),
            PositionUnit::Counter => write!(f, "{}", self.value),
        }
    }
}

pub(crate) mod text_u64 {
    use super::decimal;
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        decimal(deserializer, "a position")
    }
}

/// How much a fence is worth. The order is the order of worth; unreachability never raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// G0: only silence, or sources that contradict each other.
    #[default]
    Unconfirmable,
    /// G1: only new sessions, or a session can get around it, or a person's word.
    Partial,
    /// G2: the provider acknowledged a block of new and open sessions, but the engine could not be asked; or a guaranteed
    /// self-fence has run out on our monotonic clock.
    Enforced,
    /// G3: new and open sessions are blocked, and an independent look afterwards saw it.
    Confirmed,
    /// G4: the provider took the ability to write away as part of one role swap, and a later look saw it.
    RoleSwap,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unconfirmable => "unconfirmable",
            Self::Partial => "partial",
            Self::Enforced => "enforced",
            Self::Confirmed => "confirmed",
            Self::RoleSwap => "role-swap",
        })
    }
}

/// The grade of a fence on each way a write can come in. The fence is worth the least of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Planes {
    /// Sessions that would be opened now.
    pub new_sessions: Grade,
    /// Sessions that are open already.
    pub open_sessions: Grade,
    /// Writers inside the server: schedulers, subscriptions, jobs.
    pub background: Grade,
    /// The server coming back by itself, as a writer.
    pub restart: Grade,
}

impl Planes {
    /// The same grade on every plane.
    #[must_use]
    pub const fn all(grade: Grade) -> Self {
        Self { new_sessions: grade, open_sessions: grade, background: grade, restart: grade }
    }

    /// What the fence is worth: the least over the planes.
    #[must_use]
    pub fn grade(self) -> Grade {
        self.new_sessions.min(self.open_sessions).min(self.background).min(self.restart)
    }

    /// Two fences at once: on each plane the better one holds.
    #[must_use]
    pub fn combined(self, other: Self) -> Self {
        Self {
            new_sessions: self.new_sessions.max(other.new_sessions),
            open_sessions: self.open_sessions.max(other.open_sessions),
            background: self.background.max(other.background),
            restart: self.restart.max(other.restart),
        }
    }
}

/// One member as a proof or a request means it: not just a name, but this resource with this history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The name in the group.
    pub member: MemberId,
    /// Where it is found.
    pub address: ResourceAddress,
    /// Which resource that was when it was read; `None` where the provider tells none, or the member was silent.
    pub identity: Option<ResourceIdentity>,
    /// The history that it carries.
    pub lineage: Lineage,
    /// The history that it is fed from, where that is another system's: a logical copy applies changes of rows, and has a history of its
    /// own beside it. `None` for a physical standby, which carries the history that it receives, and for a writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receives: Option<Lineage>,
}

impl Target {
    /// Returns the history whose writes it holds: the one that a logical copy is fed from, or the one that it carries.
    #[must_use]
    pub fn holds(&self) -> &Lineage {
        self.receives.as_ref().unwrap_or(&self.lineage)
    }

    /// Tells whether it is a logical copy: another system, whose own positions compare with nobody's.
    #[must_use]
    pub const fn is_copy(&self) -> bool {
        self.receives.is_some()
    }

    /// Compares this target with what a provider reports now: the address is the same, and so is the identity where both know one.
    ///
    /// # Errors
    /// [`Mismatch`], when another resource answers under the member's name.
    pub fn is(&self, address: &ResourceAddress, identity: Option<&ResourceIdentity>) -> Result<(), Mismatch> {
        let member = || self.member.clone();
        if *address != self.address {
            return Err(Mismatch::Address { member: member(), found: address.clone(), wanted: self.address.clone() });
        }
        match (&self.identity, identity) {
            (Some(wanted), Some(found)) if wanted != found => Err(Mismatch::Identity {
                member: member(),
                address: address.clone(),
                found: found.clone(),
                wanted: wanted.clone(),
            }),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, ", self.member, self.address)?;
        if let Some(identity) = &self.identity {
            write!(f, "identity {identity}, ")?;
        }
        write!(f, "lineage {}", self.lineage)?;
        match &self.receives {
            Some(received) => write!(f, ", a logical copy of {received})"),
            None => f.write_str(")"),
        }
    }
}

/// Another resource answers under a member's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The member's name leads to another address.
    #[error("`{member}` is now the resource {found}, the plan means {wanted}")]
    Address {
        /// The member.
        member: MemberId,
        /// The address that answered.
        found: ResourceAddress,
        /// The address that is meant.
        wanted: ResourceAddress,
    },
    /// The address is the same, and another resource has it: the one that is meant was deleted and made again.
    #[error("`{member}` at {address} was made anew: its identity is {found}, the plan means {wanted}")]
    Identity {
        /// The member.
        member: MemberId,
        /// The address that both have.
        address: ResourceAddress,
        /// The identity that answered.
        found: ResourceIdentity,
        /// The identity that is meant.
        wanted: ResourceIdentity,
    },
}

/// How one end of a replication link names the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "of")]
pub enum Peer {
    /// By its address.
    Address(ResourceAddress),
    /// By the endpoint at which applications would connect to it.
    Endpoint(Endpoint),
    /// In words that name no member: told as they are, so that nobody overlooks the link.
    Other(String),
}

impl Peer {
    /// Tells whether this names the resource at `address`, whose endpoint is `endpoint` if that was read.
    #[must_use]
    pub fn means(&self, address: &ResourceAddress, endpoint: Option<&Endpoint>) -> bool {
        match self {
            Self::Address(named) => named == address,
            Self::Endpoint(named) => endpoint == Some(named),
            Self::Other(_) => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Other(words) => f.pad(words),
        }
    }
}

/// What runs along a replication link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Follows {
    /// The log, byte for byte: both ends have one lineage, and the follower can be promoted.
    Physical,
    /// Changes of rows, applied by another system with a lineage of its own.
    Logical,
    /// A copy for a reader that is no database of the group: a backup, an archiver, a consumer of changes. It is never promoted.
    Reader,
}

/// One end of a replication link, as the member at the other end reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplicationLink {
    /// The other end.
    pub peer: Peer,
    /// What runs along it.
    pub how: Follows,
}

impl ReplicationLink {
    /// Makes a link of physical replication from or to `address`.
    pub fn physical(address: impl Into<ResourceAddress>) -> Self {
        Self { peer: Peer::Address(address.into()), how: Follows::Physical }
    }

    /// Makes a link of physical replication whose other end could not be told to be a member.
    pub fn unknown(words: impl Into<String>) -> Self {
        Self { peer: Peer::Other(words.into()), how: Follows::Physical }
    }
}

impl fmt::Display for ReplicationLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.peer.fmt(f)
    }
}

/// What kind of thing a binding names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    /// A member of the group.
    Database,
    /// A connection secret.
    Secret,
    /// A traffic route.
    Traffic,
    /// A route for readers.
    Readers,
    /// The applications' write path: flags, poolers, scale.
    App,
    /// Something that a user's own step touches.
    Custom,
}

/// What a plan's binding stands for. Compared with what is found again before a take-over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRef {
    /// The backend, as in a group file: `azure.pg-flexible`.
    pub provider: String,
    /// What it is.
    pub kind: ResourceKind,
    /// Where it is found.
    pub address: ResourceAddress,
    /// Which resource that was when the plan was made; `None` where the provider tells none, or nobody answered.
    pub identity: Option<ResourceIdentity>,
    /// Where it is, if the provider says.
    pub region: Option<Region>,
    /// The name under which credentials are looked up at use; never a credential.
    pub profile: Option<String>,
}

/// A resource and a verb that a step may use on it. The gate lets nothing else through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Touch {
    /// What is touched: something that the plan binds, or a custom `kafka:billing`.
    pub resource: Binding,
    /// The verb, such as `promote`.
    pub verb: String,
}

impl Touch {
    /// `verb` on `resource`.
    #[must_use]
    pub fn new(resource: impl Into<Binding>, verb: impl Into<String>) -> Self {
        Self { resource: resource.into(), verb: verb.into() }
    }
}

impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource, self.verb)
    }
}

/// What was read, from where and when. Every fact that a person is shown carries these three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// A stable name, such as `lag` or `writer`.
    pub name: String,
    /// The value, as people read it.
    pub value: String,
    /// Who said so: `metrics`, `SQL`, `management API`.
    pub source: String,
    /// When it was true.
    pub at: Timestamp,
    /// How much of it may change before a consent that was shown it is void.
    pub tolerance: Tolerance,
    /// The number behind the value, where there is one; compared by [`Tolerance::AtMost`]. The unit is the name's.
    pub number: Option<Millis>,
}

/// Which changes of a fact are material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "of")]
pub enum Tolerance {
    /// Any change.
    Equal,
    /// A number larger than this.
    AtMost(Millis),
    /// None: shown for information.
    Any,
}

impl Fact {
    /// A fact whose every change is material.
    #[must_use]
    pub fn equal(name: &str, value: impl Into<String>, source: &str, at: Timestamp) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            source: source.into(),
            at,
            tolerance: Tolerance::Equal,
            number: None,
        }
    }

    /// A fact that is shown for information.
    #[must_use]
    pub fn any(name: &str, value: impl Into<String>, source: &str, at: Timestamp) -> Self {
        Self { tolerance: Tolerance::Any, ..Self::equal(name, value, source, at) }
    }

    /// Whether `now` differs from this fact, as it was shown, in a way that voids a consent.
    #[must_use]
    pub fn voided_by(&self, now: &Self) -> bool {
        match self.tolerance {
            Tolerance::Any => false,
            Tolerance::Equal => self.value != now.value,
            Tolerance::AtMost(limit) => now.number.is_none_or(|number| number > limit),
        }
    }
}

/// Acknowledged writes that a run may lose or has lost: an interval with its origin, never a hopeful zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Loss {
    /// Nothing acknowledged is lost; proved before the promotion.
    Nothing,
    /// At most this much.
    AtMost {
        /// Of the last writes, in time.
        time: Millis,
        /// In the unit of the positions, where they could be compared.
        amount: Option<Position>,
        /// How the bound was made: the sample, its age and the growth assumed.
        because: String,
    },
    /// Nobody can say.
    Unknown {
        /// What was missing.
        because: String,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing acknowledged"),
            Self::AtMost { time, because, .. } => {
                write!(f, "at most the last {}.{:03} s ({because})", time.count() / 1000, time.count() % 1000)
            }
            Self::Unknown { because } => write!(f, "unknown ({because})"),
        }
    }
}
