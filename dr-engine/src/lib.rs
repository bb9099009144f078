//! The embedded engine: tokio gives it time and tasks; by default SQLite gives it a journal, and file locks its leases.
//!
//! ```text
//!   Engine ──► driver loop (dr-core) ──► TokioRuntime    time, tasks
//!      └─────► Store ──► Journal     what was decided and done, durable before it is acted on   (SqliteJournal)
//!                  ├───► Registry    groups, samples, notices, closed debts                     (SqliteJournal)
//!                  └───► LeaseStore  who may act on these resources                             (FileLeases)
//! ```
//!
//! An embedder needs this crate, its backends and nothing else: what the signatures here name from `dr-core` is exported again.

mod backends;
mod desk;
mod engine;
mod error;
mod group_file;
mod guard;
mod journal;
mod leases;

mod runtime;
mod store;
mod volatile;
mod watcher;

pub use dr_core::{
    APPROVE, Actor, Answer, Backend, Catalog, GroupName, GroupSpec, MemberId, Millis, Notifier, Plan, Report, RunId,
    Runbook, Situation, Timestamp, View,
    base::{Digest, Finding, Json, Refusal, Role},
    contract::{EvidenceSink, Notice},
    plan::{MemberFacts, Verified},
    run::{self, AnswerRefused, Ask, GuardEnd, Lease, LeaseError, REJECT, Store},
    show::Standing,
};

/// The built-in runbooks.
pub mod runbook {
    pub use dr_core::{PlannedSwitchover, UnplannedFailover};
}

pub use backends::{Told, notifiers, opens};
pub use engine::{Engine, EngineBuilder, Events, Group, GroupStatus, Resumed, Run, RunSummary, Start, Watch};
pub use error::{Error, GuardFailure};
pub use group_file::{GroupFault, GroupFile, GroupFileError, Outputs, OutputsError};
pub use guard::GUARD_VERB;
pub use journal::SqliteJournal;
pub use leases::FileLeases;
pub use runtime::TokioRuntime;
pub use store::{OpenError, StoreError};
pub use volatile::VolatileStore;

/// An error with its sources, for assertions.
#[cfg(test)]
fn chain_of(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
