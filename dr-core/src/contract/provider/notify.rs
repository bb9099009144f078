//! Ways to tell people.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{base::RunId, contract::ProviderError};

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
