//! Routes that spread readers over standbys.

use std::{collections::BTreeSet, fmt::Debug};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    base::{IdempotencyKey, MemberId, Millis, Timestamp},
    contract::{Outcome, ProviderError, Tri, WriterReceipt},
};

/// Where a route sends readers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadersReading {
    /// The members it sends to.
    pub members: BTreeSet<MemberId>,
    /// Whether every resolver, edge or pooler that was asked agrees, and it sends to members only.
    pub settled: Tri,
    /// What was seen, for people.
    pub detail: String,
    /// When.
    pub at: Timestamp,
}

/// Asks that a route send readers to these members, and to nobody else.
#[derive(Clone, Debug)]
pub struct SpreadReaders {
    /// The members: standbys of the writer, or the writer alone where there is none. Never empty.
    pub to: BTreeSet<MemberId>,
    /// The writer that they follow, proved.
    pub writer: WriterReceipt,
    /// The run-scoped key.
    pub key: IdempotencyKey,
}

/// One route by which readers find standbys. It is moved after applications write again, and nobody waits for it. Absolute, never
/// relative.
#[async_trait]
pub trait ReadersRouter: Debug + Send + Sync + 'static {
    /// Where it sends now.
    ///
    /// - an origin that is no member of the group leaves it unsettled, and `detail` names it
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn read(&self) -> Result<ReadersReading, ProviderError>;

    /// Sends readers to these members.
    ///
    /// - to all of them, and to nobody else
    /// - asking again is no change
    /// - to nobody: refused for ever
    async fn spread(&self, request: SpreadReaders) -> Outcome<()>;

    /// How often it may be looked at.
    fn poll_every(&self) -> Millis;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}
