//! Model, provider traits, guards, plans, steps, runbooks and the run machine of the disaster-recovery toolkit.
//!
//! Nothing here does I/O, starts a thread or reads a clock: time, tasks and storage come in through [`contract::Runtime`],
//! [`run::Journal`], [`run::LeaseStore`] and [`contract::Providers`].
//!
//! Five folders, each of which knows only those before it:
//!
//! | folder | what it holds | who reads it |
//! |---|---|---|
//! | [`base`] | identifiers, times, canonical JSON, texts, findings | everybody |
//! | [`contract`] | the model, the provider traits, their requests and proofs, the group file | authors of backends |
//! | [`plan`] | steps, plans, their rules, phases, runbooks | authors of runbooks |
//! | [`run`] | the journal, the run machine, the driver, questions to people | engines |
//! | [`show`] | views and reports | command lines and platforms |
//!
//! The names that most programs need lie flat at the root. What the crate is made of, and why, is in the repository's `docs/architecture.md`.

pub mod base;
pub mod contract;
pub mod plan;
pub mod run;
pub mod show;

pub use base::{
    Actor, GroupName, Kind, MemberId, Millis, NodeId, Refusal, RunId, RunbookId, Timestamp, millis, minutes, seconds,
};
pub use contract::{
    AppTier, Backend, Binding, Cause, DatabaseProbe, Fence, Grade, GroupSpec, ManagedDatabase, Notifier, Outcome,
    ProviderError, SecretStore, Target, Touch, TrafficRouter, Tri,
};
pub use plan::{
    Catalog, Handler, Input, Look, Observed, Plan, PlanBuilder, PlannedSwitchover, Purpose, Runbook, Situation, Step,
    StepCx, StepError, StepExt, UnplannedFailover,
};
pub use run::{APPROVE, Answer};
pub use show::{Report, View};
