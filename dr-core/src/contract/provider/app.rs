//! The applications' write path: holding writes back and letting them through.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    base::{IdempotencyKey, MemberId, Millis, Timestamp},
    contract::{Outcome, ProviderError, Tri, WriterReceipt},
};

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
    /// Onto which member: the old primary in an abort, the writer after the promotion.
    pub onto: MemberId,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that a tier have this capacity.
#[derive(Clone, Debug)]
pub struct ScaleRequest {
    /// How many parts (instances, poolers) shall run: a number to reach, never one to add.
    pub capacity: u32,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// Asks that a tier give up the connections that its pools keep.
#[derive(Clone, Debug)]
pub struct RecycleRequest {
    /// The writer, proved: what is opened again is opened there.
    pub writer: WriterReceipt,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// How an application tier is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How many parts there shall be.
    pub capacity: u32,
    /// How many of them answer and are called healthy. One that does not answer is not.
    pub healthy: u32,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

impl Health {
    /// Whether every part that there shall be is healthy, and there is one.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.capacity > 0 && self.healthy >= self.capacity
    }
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

    /// Brings the tier to a capacity.
    ///
    /// - the same capacity twice is one change
    /// - done only when as many parts are healthy
    async fn scale(&self, _request: ScaleRequest) -> Outcome<()> {
        Outcome::unsupported("scale")
    }

    /// How many parts there are, and how many of them are healthy.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn health(&self) -> Result<Health, ProviderError> {
        Err(ProviderError::Unsupported { verb: "health" })
    }

    /// Gives up the connections that pools keep, so that whatever they held the old address for is opened again.
    ///
    /// - it is no drain: applications write on
    /// - a drained tier stays drained
    async fn recycle(&self, _request: RecycleRequest) -> Outcome<()> {
        Outcome::unsupported("recycle")
    }

    /// How often it may be looked at.
    fn poll_every(&self) -> Millis;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}
