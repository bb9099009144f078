//! Routes of traffic to the group.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    base::{IdempotencyKey, MemberId, Millis, Timestamp},
    contract::{Outcome, ProviderError, Rehearsal, RehearseRoute, Tri, WriteProbe, WriterReceipt},
};

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
    /// - without a login of an application ([`ApplicationSpec`](crate::contract::ApplicationSpec)): `Unsupported`
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        Err(ProviderError::Unsupported { verb: "write" })
    }

    /// Which member answers through the route, one value per sample.
    ///
    /// - each value was seen by itself, in a connection or a request of its own: none is repeated to make up the number
    /// - about `samples` values, or all that were seen at once; fewer where fewer could be seen, none where nobody was connected
    /// - without a way to sample: `Unsupported`
    ///
    /// # Errors
    /// Any [`ProviderError`].
    async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError>;

    /// How often it may be looked at.
    fn poll_every(&self) -> Millis;

    /// What a person would type to do `verb` without us.
    fn manual(&self, verb: &str) -> Vec<String>;
}
