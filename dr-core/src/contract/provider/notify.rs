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
    /// What has happened.
    pub occasion: Occasion,
    /// One sentence.
    pub text: String,
}

/// What has happened to a run, for services that open and close incidents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// The run goes on: a step of it has something to say.
    Progress,
    /// The run asks people, before it goes on.
    Asked,
    /// The run is parked: it does nothing before a person decides.
    Parked,
    /// Applications cannot write, and their clients get errors or will get them.
    Outage,
    /// The run turns back.
    TurningBack,
    /// The run is over, and did what it was for.
    EndedWell,
    /// The run is over, and did not do what it was for.
    Ended,
    /// Nothing has happened: somebody tries whether people can be told.
    Test,
}

/// A way to tell people. It never blocks a failover: a failure is forgotten.
#[async_trait]
pub trait Notifier: Debug + Send + Sync + 'static {
    /// Tells, once per key.
    ///
    /// # Errors
    /// Any [`ProviderError`]; the caller goes on.
    async fn notify(&self, notice: Notice) -> Result<(), ProviderError>;

    /// Tells whether it closes what it opened when it is given [`Occasion::EndedWell`]. It is given that notice, too, where the group file
    /// gives it urgent ones only.
    fn closes(&self) -> bool {
        false
    }
}
