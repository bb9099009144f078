//! The other providers: the data plane's truth, secrets, traffic, applications, people, evidence.

use std::{collections::BTreeMap, fmt::Debug};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Digest, Endpoint, IdempotencyKey, Lineage, MemberId, Millis, Outcome, Position, ProviderError, Rehearsal,
    RehearseRoute, RehearseSecret, RunId, SecretVersion, Timestamp, Tri, WriterReceipt,
};

/// What a probe write showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteProbe {
    /// Whether a real write was acknowledged.
    pub accepted: Tri,
    /// The lineage that took it, if it was accepted.
    pub lineage: Option<Lineage>,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// The rights with which a server is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The server's own files can be read: a superuser, or a role that was granted as much.
    Server,
    /// An ordinary role of a managed service: what it may not read is absent, with a reason.
    Managed,
}

/// Where a history left its parent, or why that is not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parted {
    /// At this position: the switch point of the last promotion.
    At(Position),
    /// Nobody tells.
    Untold {
        /// Why, for people: `the history has no parent`, `the role may not read it`.
        because: String,
    },
}

impl Parted {
    /// The reason why the position is not told.
    #[must_use]
    pub fn untold(because: impl Into<String>) -> Self {
        Self::Untold { because: because.into() }
    }

    /// The position, if it is told.
    #[must_use]
    pub const fn at(&self) -> Option<&Position> {
        match self {
            Self::At(position) => Some(position),
            Self::Untold { .. } => None,
        }
    }
}

/// Where a server is, from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionReading {
    /// The history it carries.
    pub lineage: Lineage,
    /// Whether it is in recovery (a standby).
    pub in_recovery: Tri,
    /// Durable here: written and flushed on a primary, received and flushed on a standby.
    pub durable: Position,
    /// Visible here: the same as durable on a primary, applied on a standby.
    pub applied: Position,
    /// Where this history left its parent.
    pub parted_at: Parted,
    /// The rights with which this was read.
    pub tier: Tier,
    /// When.
    pub at: Timestamp,
}

/// A transaction that has been open for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongTransaction {
    /// What an operator would name it by, such as `pid 48121`.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// For how long it has been open.
    pub age: Millis,
    /// What it does: `active`, `idle in transaction`, `prepared`.
    pub state: String,
    /// What ends it, as a command.
    pub helps: String,
}

/// A named question to the database. The name is what the simulated cloud and evidence know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// The name.
    pub name: String,
    /// The SQL that answers one or a few rows.
    pub sql: String,
}

impl Query {
    /// The question `sql`, called `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, sql: impl Into<String>) -> Self {
        Self { name: name.into(), sql: sql.into() }
    }
}

/// A few rows, as text. Absent values are `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows(pub Vec<Vec<Option<String>>>);

impl Rows {
    /// One row with one value.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call: Rows::one(count)")]
    pub fn one(value: impl ToString) -> Self {
        Self(vec![vec![Some(value.to_string())]])
    }
}

/// The data plane of one member: what is true inside, not what the management plane believes.
#[async_trait]
pub trait DatabaseProbe: Debug + Send + Sync + 'static {
    /// Tries one real write that touches nothing of the applications, and says what happened.
    ///
    /// - a refused write (recovery, read-only) is `accepted: No`
    /// - no answer is `accepted: Unknown`
    ///
    /// # Errors
    /// Any [`ProviderError`] that says nothing about the server.
    async fn write(&self) -> Result<WriteProbe, ProviderError>;

    /// Tries one write as an application makes it: its role, its database, its default settings.
    ///
    /// - a refused login or write is `accepted: No` with the server's words
    /// - without a login of an application ([`ApplicationSpec`](crate::ApplicationSpec)): `Unsupported`
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn write_as_application(&self) -> Result<WriteProbe, ProviderError> {
        Err(ProviderError::Unsupported { verb: "write-as-application" })
    }

    /// Where the server is.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn position(&self) -> Result<PositionReading, ProviderError>;

    /// Extensions with their versions (D05).
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError>;

    /// Extensions that could be used here after a promotion, with the versions available.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError>;

    /// Transactions older than `limit`, prepared ones included (D04).
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn long_transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, ProviderError>;

    /// How many sessions of others could write now.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn writing_sessions(&self) -> Result<u32, ProviderError>;

    /// Asks one question.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn ask(&self, query: &Query) -> Result<Rows, ProviderError>;

    /// Runs synthetic reads so that caches and pools are warm (D19); answers how long the slowest of the last ones took.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn warm_up(&self) -> Result<Millis, ProviderError>;

    /// Takes the lock that says "this group is being operated" at the resource itself, for as long as this object's
    /// connection lives. `Ok(false)` when another holds it; `Unsupported` where the resource has none.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn group_lock(&self, _holder: &str) -> Result<bool, ProviderError> {
        Err(ProviderError::Unsupported { verb: "group-lock" })
    }
}

/// What a secret says about where to connect; never its secret parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretReference {
    /// The current version.
    pub version: SecretVersion,
    /// The endpoint that it names.
    pub endpoint: Option<Endpoint>,
    /// The token of the write that made this version, where the store keeps it.
    pub token: Option<IdempotencyKey>,
    /// Whether a rotation is going on; a cutover waits for its end (B24).
    pub rotating: Tri,
}

/// Asks that a secret name another endpoint, everything else staying as it is.
#[derive(Clone, Debug)]
pub struct PatchSecret {
    /// The writer, proved: it carries the endpoint to name.
    pub writer: WriterReceipt,
    /// The version that must still be the current one (compare and set).
    pub expected: SecretVersion,
    /// The client token: the same token twice is one version.
    pub key: IdempotencyKey,
}

/// The store of one connection secret. No value reaches a step.
#[async_trait]
pub trait SecretStore: Debug + Send + Sync + 'static {
    /// Reads what the secret names.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn read(&self) -> Result<SecretReference, ProviderError>;

    /// Points the secret at the writer.
    ///
    /// - creates exactly one version; none when it names the writer already
    /// - another current version than expected: `Conflict`, nothing changed
    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion>;

    /// Tries and compares what pointing the secret at another writer will need: its present value is the present writer's in the form
    /// that will be written, and a new version could be put.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn rehearse(&self, _request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        Ok(Rehearsal::untried("this store rehearses nothing"))
    }

    /// The versions that the store keeps, newest first.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError>;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}

/// Where a route sends traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReading {
    /// The member it sends to; `None` when it sends to none or to several.
    pub member: Option<MemberId>,
    /// Whether every resolver, edge or pooler that was asked agrees.
    pub settled: Tri,
    /// How long clients may keep an older answer.
    pub ttl: Millis,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// Asks that a route send to one member, and to no other.
#[derive(Clone, Debug)]
pub struct RouteRequest {
    /// The writer, proved.
    pub writer: WriterReceipt,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// One route of traffic to the group. Absolute, never relative; all or nothing where it has several parts.
#[async_trait]
pub trait TrafficRouter: Debug + Send + Sync + 'static {
    /// Where it sends now.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn read(&self) -> Result<RouteReading, ProviderError>;

    /// Sends to the writer.
    ///
    /// - saying it twice is no change
    /// - several records or poolers change together or not at all
    async fn apply(&self, request: RouteRequest) -> Outcome<()>;

    /// Tries and compares what sending to another writer will need: what is written is what counts, every part can be asked.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn rehearse(&self, _request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        Ok(Rehearsal::untried("this route rehearses nothing"))
    }

    /// Makes one write through every part of the route (every pooler process), as an application makes it.
    ///
    /// - a refused write is `accepted: No` with the server's words
    /// - without a login of an application ([`ApplicationSpec`](crate::ApplicationSpec)): `Unsupported`
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        Err(ProviderError::Unsupported { verb: "write" })
    }

    /// Which member answers through the route, one value per sample (D25).
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError>;

    /// How often it may be looked at.
    fn poll_every(&self) -> Millis;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}

/// What a drain is and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReading {
    /// Whether writes of applications are held back, everywhere.
    pub drained: Tri,
    /// Parts (instances, poolers) that are not in the state of the others.
    pub stragglers: Vec<String>,
    /// When a drain falls off by itself, if one is engaged and it does.
    pub expires: Option<Timestamp>,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// Asks applications to hold their writes back.
#[derive(Clone, Debug)]
pub struct DrainRequest {
    /// How long the drain may last from now, whatever happens to us. Below the clients' own limit.
    pub budget: Millis,
    /// How long running work may take to end before the drain counts as failed.
    pub within: Millis,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that applications write again.
#[derive(Clone, Debug)]
pub struct ResumeRequest {
    /// Onto which member: the old primary in an abort, the writer after a take-over.
    pub onto: MemberId,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// The applications' write path.
#[async_trait]
pub trait AppTier: Debug + Send + Sync + 'static {
    /// How long a drain may last at most before clients see errors (`query_wait_timeout` and the like).
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn limit(&self) -> Result<Millis, ProviderError>;

    /// Whether a drain ends by itself when its budget is over, without us. Where it does not, the engine starts a guard process.
    fn drain_expires_by_itself(&self) -> bool;

    /// Whether writes are held back.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn read(&self) -> Result<AppReading, ProviderError>;

    /// Holds writes back.
    ///
    /// - everywhere or nowhere: a part that refuses undoes the rest
    /// - draining a drained tier is no change
    async fn drain(&self, request: DrainRequest) -> Outcome<()>;

    /// Lets writes through again.
    ///
    /// - resuming a running tier is no change
    async fn resume(&self, request: ResumeRequest) -> Outcome<()>;

    /// Turns a drain whose budget is over into quick errors: clients are told, they no longer hang.
    async fn fail_fast(&self) -> Outcome<()> {
        Outcome::unsupported("fail-fast")
    }

    /// How often it may be looked at.
    fn poll_every(&self) -> Millis;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same key twice is the same notice (D32).
    pub key: String,
    /// The run.
    pub run: RunId,
    /// Whether somebody must act.
    pub urgent: bool,
    /// One sentence.
    pub text: String,
}

/// A way to tell people. It never blocks a failover: a failure is recorded and forgotten.
#[async_trait]
pub trait Notifier: Debug + Send + Sync + 'static {
    /// Tells, once per key.
    ///
    /// # Errors
    /// Any [`ProviderError`]; the caller goes on.
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError>;
}

/// Where the evidence of a run goes. Awaited before calls that must happen at most once.
#[async_trait]
pub trait EvidenceSink: Debug + Send + Sync + 'static {
    /// Seals the journal of `run` up to `seq`, whose line has the hash `head`.
    ///
    /// # Errors
    /// A [`ProviderError`] when the seal could not be made; the driver then sends nothing.
    async fn seal(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), ProviderError>;
}

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
