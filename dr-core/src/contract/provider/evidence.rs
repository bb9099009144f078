//! Where the evidence of a run goes.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    base::{Digest, RunId},
    contract::ProviderError,
};

/// Where the evidence of a run goes. Awaited before calls that must happen at most once.
#[async_trait]
pub trait EvidenceSink: Debug + Send + Sync + 'static {
    /// Seals the journal of `run` up to `seq`, whose line has the hash `head`.
    ///
    /// # Errors
    /// A [`ProviderError`] when the seal could not be made; the driver then sends nothing.
    async fn seal(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), ProviderError>;
}
