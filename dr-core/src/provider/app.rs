//! The applications' write path: holding writes back and letting them through.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{IdempotencyKey, MemberId, Millis, Outcome, ProviderError, Timestamp, Tri};

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
