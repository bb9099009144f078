//! What the simulated world is made of.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    MemberId,
    base::{Endpoint, Region, ResourceAddress, ResourceIdentity},
    contract::{Hardening, Lineage, LongTransaction},
};
use serde::{Deserialize, Serialize};

use super::{Access, BASE, Elsewhere, FormerLife, Keeps, Kept, MemberSetup, Setup};

/// One database instance as it really is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) name: MemberId,
    pub(crate) address: ResourceAddress,
    /// Which instance it is: another one after it was deleted and made again under its old name.
    pub(crate) identity: ResourceIdentity,
    pub(crate) region: Region,
    pub(crate) endpoint: Endpoint,
    pub(crate) lineage: Lineage,
    /// Whom it follows; `None` for a primary.
    pub(crate) follows: Option<MemberId>,
    pub(crate) running: bool,
    /// It does not run because it broke, not because it was stopped.
    pub(crate) broken: bool,
    /// New sessions are refused.
    pub(crate) denied: bool,
    /// Stopped by the fence; the provider keeps it down.
    pub(crate) stopped: bool,
    /// The storage refuses its writes.
    pub(crate) storage_fenced: bool,
    /// Where in its history the applications' roles lost their login, if they did. What follows it loses the same once it has that.
    pub(crate) no_login: Option<u64>,
    /// Where a clean stop left the history.
    pub(crate) clean_end: Option<u64>,
    /// When the provider starts a stopped instance again, if it does.
    pub(crate) lapses_at: Option<i64>,
    /// The provider makes it a standby of this member as soon as it comes back.
    pub(crate) demote_on_return: Option<MemberId>,
    pub(crate) stream: Stream,
    /// What a host-side fence was told, where that is not the server's directory.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// What the applications' role meets here, and since when.
    pub(crate) access: Access,
    pub(crate) access_since: i64,
    /// Settings that take effect when it is started as a standby.
    pub(crate) former_life: FormerLife,
    /// They did: its server's log tells.
    pub(crate) former_shown: bool,
    /// What only it has, beside its log.
    pub(crate) keeps: Vec<Keeps>,
    /// Sessions that belong to no writer of the world and obey no drain.
    pub(crate) strays: u32,
    pub(crate) busy: Option<String>,
    pub(crate) settled: bool,
    pub(crate) version: String,
    pub(crate) extensions: BTreeMap<String, String>,
    pub(crate) available: BTreeMap<String, Vec<String>>,
    pub(crate) long_transactions: Vec<LongTransaction>,
    pub(crate) snapshots: BTreeSet<String>,
    pub(crate) newest_backup: Option<i64>,
    pub(crate) lock_holder: Option<String>,
    /// It was restored beside the group: no client knows it.
    #[serde(default)]
    pub(crate) apart: bool,
    #[serde(default)]
    pub(crate) protections: Hardening,
    /// Where its sequence was set: a floor beside its rows, or, of a logical copy, what the rows that are written there are added to.
    #[serde(default)]
    pub(crate) sequence: i64,
}

impl Instance {
    /// The member as it is when the world begins.
    pub(crate) fn new(
        setup: &Setup,
        member: &MemberSetup,
        lineage: &Lineage,
        primary: Option<&MemberId>,
        at: i64,
    ) -> Self {
        let name = MemberId::new(member.name.as_str());
        let follows = primary.filter(|primary| **primary != name).cloned();
        let extensions = BTreeMap::from([("pg_stat_statements".to_owned(), "1.10".to_owned())]);
        let available = extensions.iter().map(|(name, version)| (name.clone(), vec![version.clone()])).collect();
        Self {
            address: ResourceAddress::new(format!("sim:{}/{}", setup.group, member.name)),
            identity: ResourceIdentity::new(format!("db-{}-1", member.name)),
            region: Region::new(member.region.as_str()),
            endpoint: Endpoint::new(format!("{}-{}.sim:5432", setup.group, member.name)),
            lineage: lineage.clone(),
            running: true,
            broken: false,
            denied: false,
            stopped: false,
            storage_fenced: false,
            no_login: None,
            clean_end: None,
            lapses_at: None,
            demote_on_return: None,
            stream: Stream { attached: follows.is_some(), replays: true, floor: BASE, since: at, frozen_lag: None },
            elsewhere: None,
            access: Access::Open,
            access_since: at,
            former_life: FormerLife::None,
            former_shown: false,
            keeps: Vec::new(),
            strays: 0,
            busy: None,
            settled: false,
            version: "15.18".to_owned(),
            extensions,
            available,
            long_transactions: Vec::new(),
            snapshots: BTreeSet::new(),
            newest_backup: Some(at.saturating_sub(2 * 3600 * 1000)),
            lock_holder: None,
            apart: false,
            sequence: 0,
            protections: if follows.is_none() { super::World::PROTECTED } else { Hardening::default() },
            follows,
            name,
        }
    }
}

/// How a standby receives its primary's history.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) attached: bool,
    /// Whether what is received is also applied.
    pub(crate) replays: bool,
    /// What was received when the stream last changed; it never goes back.
    pub(crate) floor: u64,
    /// The time at which the stream began to follow again.
    pub(crate) since: i64,
    /// The lag metric shows this value for ever.
    pub(crate) frozen_lag: Option<u64>,
}

/// A client that writes all the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Writer {
    pub(crate) id: u32,
    pub(crate) via: Via,
    pub(crate) obeys_drain: bool,
    pub(crate) ignores_ttl: bool,
    /// The time of its next attempt.
    pub(crate) next_at: i64,
    pub(crate) next_seq: u64,
    pub(crate) session: Option<MemberId>,
    pub(crate) cache: Option<(MemberId, i64)>,
    pub(crate) errors: u64,
}

/// How a client finds the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Via {
    Secret,
    Route(usize),
}

/// The connection secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secret {
    /// Newest last.
    pub(crate) versions: Vec<SecretVersionRow>,
    pub(crate) rotating: bool,
}

/// One version of the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretVersionRow {
    pub(crate) version: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) token: Option<String>,
    /// From when on applications see it.
    pub(crate) visible_at: i64,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// What the authority says.
    pub(crate) member: MemberId,
    /// What resolvers answer.
    pub(crate) answers: MemberId,
    /// The propagation that is going on; an older one has no effect when it ends.
    pub(crate) change: u64,
}

/// The applications' write path.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct App {
    pub(crate) draining: bool,
    pub(crate) drained_at: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) fail_fast: bool,
    /// Parts of the applications that are still held although no drain is engaged.
    pub(crate) held: BTreeSet<u32>,
    /// How many parts serve the applications.
    #[serde(default)]
    pub(crate) capacity: u32,
    /// Counts drains and resumes: an older expiry has no effect on a newer drain.
    pub(crate) turn: u64,
}

impl App {
    /// How many parts (poolers, instances) the applications' write path has.
    pub(crate) const PARTS: u32 = 2;

    /// A tier of `capacity` parts that holds nothing back.
    pub(crate) fn of(capacity: u32) -> Self {
        Self { capacity, ..Self::default() }
    }
}

/// A long operation of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    pub(crate) work: Work,
    pub(crate) by: String,
    pub(crate) started: i64,
    pub(crate) ends: i64,
    pub(crate) state: OpState,
    pub(crate) fails: Option<FailsHow>,
    /// Its handle is not known any more.
    pub(crate) handle_lost: bool,
}

impl Operation {
    /// Whether it makes `member` the writer.
    pub(crate) fn changes(&self, member: &MemberId) -> bool {
        match &self.work {
            Work::Promote(to) | Work::Swap { to, .. } => to == member,
            Work::Rejoin { .. }
            | Work::Follow { .. }
            | Work::Snapshot { .. }
            | Work::Create { .. }
            | Work::Restore { .. }
            | Work::Destroy { .. }
            | Work::Harden { .. }
            | Work::Preserve { .. } => false,
        }
    }
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    Promote(MemberId),
    Swap { from: MemberId, to: MemberId, forced: bool },
    Rejoin { member: MemberId, primary: MemberId },
    Follow { member: MemberId, primary: MemberId },
    Snapshot { member: MemberId, name: String },
    Create { member: MemberId, source: MemberId },
    Restore { member: MemberId, lineage: Lineage, at: i64 },
    Destroy { member: MemberId, keep: Option<String> },
    Harden { member: MemberId, want: Hardening },
    Preserve { left: Kept, name: String },
}

impl Work {
    /// Whether it changes who writes.
    pub(crate) fn changes_writer(&self) -> bool {
        match self {
            Self::Promote(_) | Self::Swap { .. } => true,
            Self::Rejoin { .. }
            | Self::Follow { .. }
            | Self::Snapshot { .. }
            | Self::Create { .. }
            | Self::Restore { .. }
            | Self::Destroy { .. }
            | Self::Harden { .. }
            | Self::Preserve { .. } => false,
        }
    }
}

/// How an operation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OpState {
    Running,
    Finished,
    Failed(String),
}

/// What a failing operation leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailsHow {
    /// Nothing of it.
    Absent,
    /// A part of it.
    Partial,
    /// All of it, although the provider says it failed.
    Complete,
    /// All of it, a while after the provider said it failed: no honest provider does that.
    Late,
}

/// Something that is wrong with the world for a while.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// Management calls to this region fail; its databases go on.
    ControlOutage(Region),
    /// Nobody can connect to this member, although management calls it available.
    DataOutage(MemberId),
    /// We cannot reach this member in any way; its clients can.
    Partition(MemberId),
    /// Clients cannot reach this member; we can.
    ClientsCut(MemberId),
}

/// Maps whose keys are no text, as lists of pairs.
pub(crate) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map.iter())
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
