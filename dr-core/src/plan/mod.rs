//! What people approve: steps, plans, their rules, runbooks, and what a step may do while it runs.

pub(crate) mod catalog;
pub(crate) mod document;
pub(crate) mod gate;
pub(crate) mod handler;
pub(crate) mod mark;
pub mod phase;
pub mod preview;
pub(crate) mod roles;
mod runbook;
mod step;
pub mod steps;
mod survey;
pub mod verify;

pub use catalog::{Catalog, Declared, Derived};
pub use document::{
    Call, Carries, Edge, FoundRef, Held, Hold, Input, IntoSpec, Node, OnFailure, PLAN_FORMAT, Plan, PlanBuilder,
    PlanHeader, Policy, Purpose, RULES_VERSION, Ref, Spec, StandbyBuilder, StandbyStep, StepExt, Unresolved, Verified,
    literals, references, resolve,
};
pub use gate::{GateCall, Liveness, MutationGate};
pub use handler::{
    Handler, Look, Observed, Polled, Prepared, Promotion, Ready, StepCx, StepError, StepErrorClass, not_done, stop,
};
pub use mark::{Duty, Marks, Stage};
pub use roles::{MemberRole, Roles, roles};
pub use runbook::{
    AppFacts, MemberFacts, OutsideWindow, PlannedSwitchover, Presence, PromotionOnly, ReadersFacts, Redirect,
    RejoinStandby, RetiredLineage, Runbook, SecretFacts, Situation, UnplannedFailover,
};
pub use step::{Attempted, Effect, Output, Step};
pub use survey::Survey;
