//! What an engine keeps beside the records of runs.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    base::{Digest, GroupName, Millis, RunId, Timestamp},
    contract::{GroupSpec, PositionSample, Target},
    run::{Closed, DebtId, JournalError},
};

/// A group as a plan saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptGroup {
    /// What its file said.
    pub spec: GroupSpec,
    /// The path of that file.
    pub file: String,
    /// When it was kept last.
    pub at: Timestamp,
}

/// The last writer that was seen, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWriter {
    /// The member, with its identity and history.
    pub target: Target,
    /// When it was seen.
    pub at: Timestamp,
}

/// The store of what must be known of a group when its file is gone or its writer is silent, of what people were told, and of what they
/// closed.
///
/// *Guarantees.* What a call that returned without an error kept is found by every other engine on the same store, also after a restart.
/// Samples alone may be lost by a power failure. Nothing here is fenced: each call is right whoever drives, in any order, and twice.
/// *Errors.* [`JournalError::Store`] of every call: it was not done, or its answer was lost.
#[async_trait]
pub trait Registry: Debug + Send + Sync + 'static {
    /// Keeps a group under its digest: after a restart a plan must find the group that it was made for, whatever the file says by then. Kept
    /// again, the newest file and time count.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn keep_group(&self, group: &KeptGroup) -> Result<(), JournalError>;

    /// The group that was kept under `digest`.
    ///
    /// # Errors
    /// See [`Registry`]; also for a group that this version cannot read.
    async fn group(&self, digest: Digest) -> Result<Option<KeptGroup>, JournalError>;

    /// The file that was kept last of each name, by name.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError>;

    /// Remembers who wrote. An earlier sight never replaces a later one.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn saw_writer(&self, group: &GroupName, seen: &LastWriter) -> Result<(), JournalError>;

    /// The last writer that was seen; `None` also for one that this version cannot read.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError>;

    /// Keeps a position sample for [`SAMPLES_KEPT`]. It must not take the room that is reserved for outcomes, nor make an append wait.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn keep_sample(&self, group: &GroupName, sample: &PositionSample) -> Result<(), JournalError>;

    /// The samples of a group that are not older than `since`, oldest first. One that this version cannot read is left out: it is not a
    /// smaller loss, only one sample fewer.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, JournalError>;

    /// Remembers that a notice was given.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn told(&self, key: &str, run: &RunId, at: Timestamp) -> Result<(), JournalError>;

    /// Whether a notice of this key was given.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn was_told(&self, key: &str) -> Result<bool, JournalError>;

    /// Remembers that a person closed a debt. Of several, the first one counts.
    ///
    /// # Errors
    /// See [`Registry`].
    async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError>;

    /// What people closed, by debt.
    ///
    /// # Errors
    /// See [`Registry`]; also for one that this version cannot read.
    async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError>;
}

/// How long a position sample is kept at least: a failover is planned from those of the last hours.
pub const SAMPLES_KEPT: Millis = Millis::minutes(24 * 60);
