//! What is true inside a database server: probe writes, positions, sessions and questions.

use std::{collections::BTreeMap, fmt::Debug};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    base::{Millis, Timestamp},
    contract::{Lineage, Position, ProviderError, Sequences, Table, TableSum, Tri, WritesSince},
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

/// A probe counts the sessions of others that could write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Those with an open transaction.
    pub in_transaction: u32,
    /// Those without: connections that a pool keeps, most often.
    pub idle: u32,
}

impl Sessions {
    /// How many there are of both kinds.
    #[must_use]
    pub const fn all(self) -> u32 {
        self.in_transaction.saturating_add(self.idle)
    }
}

impl std::fmt::Display for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} sessions ({} of them in a transaction)", self.all(), self.in_transaction)
    }
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
    /// - without a login of an application ([`ApplicationSpec`](crate::contract::ApplicationSpec)): `Unsupported`
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

    /// How many sessions of others could write now; those in an open transaction are counted apart from those that are idle.
    ///
    /// # Errors
    /// Any [`ProviderError`]; `Unsupported` is no obstacle to a swap whose provider itself waits for the standby
    /// ([`SwapOffer::catches_up`](crate::contract::SwapOffer::catches_up)).
    async fn writing_sessions(&self) -> Result<Sessions, ProviderError>;

    /// Whether anything but this toolkit's probe writes was committed on this member after a position that it, or a member of the same
    /// history, told. What the server or its role does not tell is `Unknown`, with the reason.
    ///
    /// - `No` is a proof: a write that was acknowledged after the position is never `No`
    /// - a probe write of this toolkit alone is never `Yes`
    /// - a position of another system is refused
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn writes_since(&self, _since: &Position) -> Result<WritesSince, ProviderError> {
        Err(ProviderError::Unsupported { verb: "writes-since" })
    }

    /// How far the sequences of the probe's database are: replication that is not physical leaves them behind. One that may not be read
    /// is named apart, never left out. PostgreSQL logs a sequence ahead of its use, so a standby may be up to 32 values further.
    ///
    /// - a standby that has everything is never behind its primary, unless it is a logical copy
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn sequences(&self) -> Result<Sequences, ProviderError> {
        Err(ProviderError::Unsupported { verb: "sequences" })
    }

    /// What tables add up to, all of one moment. It reads them whole.
    ///
    /// - the same rows add up to the same on a primary and on a standby that has them
    /// - a table that is missing or may not be read is refused, never added up to nothing
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn checksum(&self, _tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, ProviderError> {
        Err(ProviderError::Unsupported { verb: "checksum" })
    }

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
