//! Model, provider traits, guards, plans, steps, runbooks and the run machine of the disaster-recovery toolkit.
//!
//! Nothing here does I/O, starts a thread or reads a clock: time, tasks and storage come in through [`Runtime`], [`Journal`],
//! [`LeaseStore`] and [`Providers`]. What the crate is made of, and why, is in the repository's `docs/architecture.md`.

mod ask;
mod backend;
mod binding;
pub mod canonical;
mod catalog;
mod class;
mod contain;
mod debt;
mod drain_guard;
mod driver;
mod finding;
mod gate;
pub mod group;
pub mod guard;
mod handler;
mod id;
mod journal;
mod mark;
mod model;
mod op_handle;
mod outcome;
pub mod phase;
mod plan;
pub mod preview;
mod provider;
mod report;
mod roles;
pub mod run;
mod runbook;
mod step;
pub mod steps;
mod survey;
pub mod text;
mod time;
pub mod verb;
pub mod verify;
mod view;
pub mod wire;

pub use ask::{APPROVE, Answer, AnswerRefused, Ask, AskKind, Choice, REJECT, Request, decided, judge};
pub use backend::{Backend, Opened, Provider, Route};
pub use binding::Binding;
pub use canonical::{CanonicalError, Int64, Json};
pub use catalog::{Catalog, Declared, Derived};
pub use class::Class;
pub use debt::{Closed, Debt, DebtId, DebtKind};
pub use drain_guard::{DrainGuard, GuardEnd, GuardError, Pulse, ReadyGuard};
pub use driver::{Drive, DriveError, begin, drive, lease_keys, replay};
pub use finding::{
    Finding, Refusal,
    known::{self, Known},
};
pub use gate::{GateCall, Liveness, MutationGate};
pub use group::{
    AllowSpec, AppSpec, ApplicationSpec, ApprovalSpec, AtTable, AutomaticSpec, BackendName, BadSecretRef, ConfigError,
    ConfigFault, DrainSpec, FenceSpec, FoundPattern, GroupFinding, GroupSpec, IntendedRole, Key, KeyPath, LimitsSpec,
    MemberSpec, ObjectivesSpec, ProbeSpec, SecretPattern, SecretRef, SecretSpec, TrafficSpec,
};
pub use guard::{
    AskedLoss, CatchUpReceipt, CaughtUp, Certified, Consent, Consented, DrainReceipt, Ends, FenceReceipt, Fenced,
    Given, LossBound, LossBounded, LossMeasurement, Origin, PromoteRequest, PromotionReceipt, PromotionTerms,
    QuiesceReceipt, Quiesced, RecoveryPoint, ReleaseGround, ReleaseOrder, RestoreReceipt, Shape, Shortfall,
    SwapRequest, Waived, Waiver, WriterOrigin, WriterReceipt, admit,
};
pub use handler::{
    Handler, Look, Observed, Polled, Prepared, Promotion, Ready, StepCx, StepError, StepErrorClass, not_done, stop,
};
pub use id::{
    Actor, BadDigest, BadKind, BadRunId, BindingName, Digest, Endpoint, Epoch, GroupName, IdempotencyKey, Kind,
    MemberId, NodeId, Region, ResourceAddress, ResourceIdentity, Role, RunId, RunbookId, SecretVersion, SystemId,
};
pub use journal::{
    Head, InboxRow, Journal, JournalError, Lease, LeaseError, LeaseRequest, LeaseStore, Line, Runtime, Task,
};
pub use mark::{Duty, Marks, Stage};
pub use model::{
    Fact, Follows, Grade, Lineage, Loss, Mismatch, Peer, Planes, Position, PositionUnit, ReplicationLink, ResourceKind,
    ResourceRef, Target, Tolerance, Touch, Tri,
};
pub use op_handle::{BadHandle, OpHandle};
pub use outcome::{Cause, NotDone, Outcome, ProviderError, Retry};
pub use plan::{
    Call, Carries, Edge, FoundRef, Held, Hold, Input, IntoSpec, Node, OnFailure, PLAN_FORMAT, Plan, PlanBuilder,
    PlanHeader, Policy, Purpose, RULES_VERSION, Ref, Spec, StandbyBuilder, StandbyStep, StepExt, Unresolved, Verified,
    literals, references, resolve,
};
pub use provider::{
    AppReading, AppTier, Attribution, Becomes, Bound, Capabilities, ClearFence, DatabaseProbe, Description,
    DrainRequest, Dropped, Effort, EngageFence, EvidenceSink, Fence, FenceReading, FenceSet, FenceToken, FollowOffer,
    FollowRequest, FollowsBy, ForcedOffer, GradedFence, Health, LagSample, LongTransaction, ManagedDatabase,
    MemberProvider, Notice, Notifier, Obstacle, OpProgress, Parted, PatchSecret, PositionReading, PositionSample,
    PromoteOffer, Providers, Query, Reach, RecycleRequest, Rehearsal, RehearseMember, RehearseRoute, RehearseSecret,
    Rejoin, RejoinRequest, Replication, Resolved, ResumeRequest, RetireFence, RotateSecret, RouteReading, RouteRequest,
    Rows, ScaleRequest, SecretReference, SecretStore, Sequences, ServicePace, Sessions, SnapshotOffer, SnapshotRequest,
    SwapOffer, Table, TableSum, Tier, TrafficRouter, Weight, WriteProbe, WritesSince,
};
pub use report::{Measured, Moment, NotReportable, PhaseName, PhaseTook, Report};
pub use roles::{MemberRole, Roles, roles};
pub use runbook::{
    AppFacts, MemberFacts, PlannedSwitchover, Presence, PromotionOnly, Redirect, RejoinStandby, RetiredLineage,
    Runbook, SecretFacts, Situation, UnplannedFailover,
};
pub use step::{Attempted, Effect, Output, Step};
pub use survey::Survey;
pub use time::{Millis, Mono, Timestamp, millis, minutes, seconds};
pub use verb::Verb;
pub use view::{Eta, HeldView, Progress, Sentence, Standing, StepTook, StepView, View, took};
