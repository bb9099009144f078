//! What the driver loop needs from the outside beside the runtime: a journal and leases.
//!
//! ```text
//!   driver loop ──► Journal      append (conditional, fenced by epoch), read, inbox, seal
//!        └────────► LeaseStore   who may act on these resources; separate from the journal
//! ```
//!
//! `dr_testkit::stores` has a test for each guarantee that is written here.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::base::{Digest, Epoch, Json, Millis, ResourceAddress, RunId, SystemId, Timestamp};

/// One line of a journal, as it is stored: canonical JSON, linked to the line before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The position, from 1, without gaps.
    pub seq: u64,
    /// The canonical JSON of the event's record.
    pub text: String,
    /// The RFC 6962 leaf hash of `text`; the next line's record names it.
    pub hash: Digest,
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last line's position; 0 when empty.
    pub seq: u64,
    /// The last line's hash; zero when empty.
    pub hash: Digest,
}

impl Head {
    /// The head of an empty journal.
    pub const EMPTY: Self = Self { seq: 0, hash: Digest::zero() };
}

/// A message of a person (or another process) to a run: inserted without an epoch, turned into events only by the lease holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InboxRow {
    /// Unique per request; the same id twice is the same request.
    pub id: String,
    /// When it was inserted.
    pub at: Timestamp,
    /// A serialised [`Request`](crate::run::Request).
    pub request: Json,
}

/// Why the journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another engine has taken the run over: its epoch is larger.
    #[error("the run is held by a newer engine (epoch {held}, this one has {mine})")]
    Fenced {
        /// The epoch stored with the run.
        held: Epoch,
        /// The epoch of the caller.
        mine: Epoch,
    },
    /// The journal does not end where the caller thinks.
    #[error("the journal of {run} ends at {found}, not at {expected}")]
    Conflict {
        /// The run.
        run: RunId,
        /// Where the caller thought it ends.
        expected: u64,
        /// Where it ends.
        found: u64,
    },
    /// The store did not do it, or its answer was lost: then it may have been done. The same append again finds out: it is stored once, or
    /// conflicts with what is there already.
    #[error("the journal could not {doing}")]
    Store {
        /// What was being done, such as `append to orders-17`.
        doing: String,
        /// Whether room on the disk was the cause.
        full: bool,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored does not fit together: a gap, a broken link, an unknown version, a torn line.
    #[error("the journal of {run} is damaged at line {seq}: {what}")]
    Corrupt {
        /// The run.
        run: RunId,
        /// The first bad line.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such run.
    #[error("there is no run {0}; `dr list` shows those that exist")]
    Unknown(RunId),
}

/// The durable record of runs.
///
/// *Guarantees.* `append` is atomic and durable before it answers: all lines or none, and only if the run ends at
/// `expected` and the caller's epoch is the stored one. An append that was given up and arrives late is held to the same: behind a newer
/// epoch, or a longer run, nothing of it is stored. `read` answers the whole chain or an error, never a shorter one.
/// *Cancellation.* Dropping the future of `append` leaves it unknown whether the lines are stored; read again.
/// *A call that hangs.* The engine waits [`Store::PATIENCE`](crate::run::Store::PATIENCE) for a store and takes its silence as
/// [`JournalError::Store`].
#[async_trait]
pub trait Journal: Debug + Send + Sync + 'static {
    /// Creates a run with its first lines and the epoch that may append to it.
    ///
    /// # Errors
    /// [`JournalError::Conflict`] when the run exists, [`JournalError::Store`] when it could not be stored.
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError>;

    /// Raises the epoch of a run: from here on, only `epoch` may append. Refused unless larger than the stored one.
    ///
    /// # Errors
    /// [`JournalError::Fenced`], [`JournalError::Unknown`], [`JournalError::Store`].
    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError>;

    /// The epoch that may append to a run.
    ///
    /// # Errors
    /// [`JournalError::Unknown`], [`JournalError::Store`].
    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError>;

    /// Appends lines after `expected`, and answers the new end.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] for any epoch but the stored one, [`JournalError::Conflict`] for another end, [`JournalError::Corrupt`] for
    /// lines that do not follow each other, [`JournalError::Unknown`]: nothing is stored. [`JournalError::Store`].
    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError>;

    /// How long an outcome may wait to be appended together with what comes next. Nothing is sent before it is durable; after a crash
    /// within this time the next engine finds it out by looking. Worth it where an append waits for a disk that the databases share.
    fn linger(&self) -> Millis {
        Millis::ZERO
    }

    /// The database system in which this journal lies, if it lies in one and that is known, as a [`DatabaseProbe`] of that server would name it.
    /// The engine refuses plans that move it (DR608).
    ///
    /// [`DatabaseProbe`]: crate::contract::DatabaseProbe
    fn lies_in(&self) -> Option<SystemId> {
        None
    }

    /// Makes everything up to `seq` survive a power loss. Awaited before any call that must happen at most once.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when there is no such line, [`JournalError::Store`].
    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError>;

    /// Releases space kept for the outcome of an effect that already happened. Answers whether there was any.
    async fn use_reserve(&self, run: &RunId) -> bool;

    /// The lines after `from`, checked for completeness and links.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`], [`JournalError::Unknown`], [`JournalError::Store`].
    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError>;

    /// All runs, the first created first. A run that does not parse is listed like any other.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    async fn runs(&self) -> Result<Vec<RunId>, JournalError>;

    /// Puts a request in front of the run's holder; needs no epoch. The same id twice is stored once.
    ///
    /// # Errors
    /// [`JournalError::Unknown`], [`JournalError::Store`].
    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError>;

    /// All rows ever posted to the run, in order of insertion. Those that became events are remembered by the events.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError>;

    /// How far this handle has noticed changes of a run. Taken before a read; what is changed after that read completes
    /// [`Journal::changed`].
    fn mark(&self, run: &RunId) -> u64;

    /// Completes when something may have been posted to or appended to the run after `since` was taken, at once if that is so already.
    /// Early wake-ups are allowed; a missed one is not. A store that may miss the word of another host completes every second or so.
    async fn changed(&self, run: &RunId, since: u64);
}

/// A held lease over some resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// What is leased: the immutable ids of every bound mutable resource, sorted.
    pub keys: Vec<ResourceAddress>,
    /// The run that holds it.
    pub run: RunId,
    /// The holder's number; grows with every grant.
    pub epoch: Epoch,
    /// Who holds it, for people.
    pub holder: String,
    /// Since when.
    pub since: Timestamp,
}

/// Why a lease was not given.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another run holds one of the resources.
    #[error("{key} is held by {run} ({holder}, since {since}); wait for it, or resume it")]
    Busy {
        /// The resource.
        key: ResourceAddress,
        /// The run that holds it.
        run: RunId,
        /// Who drives that run.
        holder: String,
        /// Since when.
        since: Timestamp,
    },
    /// The lease was taken over.
    #[error("the lease of {run} was taken over by a newer engine")]
    Lost {
        /// The run.
        run: RunId,
    },
    /// The store failed.
    #[error("the lease store could not {doing}")]
    Store {
        /// What was being done.
        doing: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Mutual exclusion over resources, separate from the journal: two journals on one host must still exclude each other.
///
/// *Guarantees.* All keys or none. Of two engines that can reach a resource at most one has an unexpired lease of it, by each one's own
/// clock: what [`LeaseStore::renew`] answers counts from before it was called, and nobody else is given the resource within that time.
#[async_trait]
pub trait LeaseStore: Debug + Send + Sync + 'static {
    /// Takes all `keys` for `run`, or none. A holder that is provably dead, or has not renewed in time, is replaced; the epoch is larger than
    /// every earlier one for any of the keys, and than `above`.
    ///
    /// The same run may take its own lease again (a resume by a new engine) only if the former holder is dead or
    /// `take_over` says so; it is then waited for as long as it was promised, and its renewals are refused. `take_over` never takes the lease
    /// of another run.
    ///
    /// # Errors
    /// [`LeaseError::Busy`], [`LeaseError::Store`].
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError>;

    /// Answers whether the lease is still ours, and how long it stays so at least without being renewed; renews it. The driver renews when
    /// a third of that has passed, and lets no call through that may take longer than what is left (at most 10 s): a store whose leases last
    /// less than 18 s lets none through.
    ///
    /// # Errors
    /// [`LeaseError::Lost`], [`LeaseError::Store`].
    async fn renew(&self, lease: &Lease) -> Result<std::time::Duration, LeaseError>;

    /// Gives the lease back. A lost lease is no error: there is nothing to give back.
    ///
    /// # Errors
    /// [`LeaseError::Store`].
    async fn release(&self, lease: &Lease) -> Result<(), LeaseError>;

    /// Tells whether somebody may drive the run: its holder is not provably dead, and has not let its time pass. The drain guard acts on
    /// "no" without waiting any longer.
    ///
    /// # Errors
    /// [`LeaseError::Store`].
    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError>;
}

/// What is asked of a [`LeaseStore`].
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// The immutable ids, sorted.
    pub keys: Vec<ResourceAddress>,
    /// For which run.
    pub run: RunId,
    /// Who asks, for people.
    pub holder: String,
    /// The epoch must be larger than this (the one stored with the journal).
    pub above: Epoch,
    /// Take the lease from a live holder of the *same run* (an operator's decision).
    pub take_over: bool,
    /// The time of asking.
    pub at: Timestamp,
}
