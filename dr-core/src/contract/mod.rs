//! What a backend and the core agree on: the model, the provider traits, their requests and proofs, the group file.

mod backend;
mod binding;
mod class;
pub(crate) mod contain;
pub mod group;
pub mod guard;
mod model;
mod op_handle;
mod outcome;
mod provider;
mod runtime;
pub mod verb;
pub mod wire;

pub use backend::{Backend, Opened, Provider, Route};
pub use binding::Binding;
pub use class::Class;
pub use group::{
    AllowSpec, AppSpec, ApplicationSpec, ApprovalSpec, AtTable, AutomaticSpec, BackendName, BadSecretRef, BadWindow,
    ConfigError, ConfigFault, DrainSpec, FenceSpec, FoundPattern, GroupFinding, GroupSpec, IntendedRole, Key, KeyPath,
    LimitsSpec, MemberSpec, Notices, NotifySpec, ObjectivesSpec, ProbeSpec, SecretPattern, SecretRef, SecretSpec,
    Serves, TrafficSpec, Window,
};
pub use guard::{
    Accepted, AskedLoss, Attested, CatchUpReceipt, CaughtUp, Certified, Consent, Consented, DestroyRequest,
    DrainReceipt, Ends, FenceReceipt, Fenced, Given, Lack, LossBound, LossBounded, LossMeasurement, NotWriter, Origin,
    PromoteRequest, PromotionReceipt, PromotionTerms, QuiesceReceipt, Quiesced, RecoveryPoint, ReleaseGround,
    ReleaseOrder, RestoreReceipt, Shape, Shortfall, SwapRequest, Waived, Waiver, WriterOrigin, WriterReceipt, admit,
};
pub use model::{
    Fact, Follows, Grade, Lineage, Loss, Mismatch, Peer, Planes, Position, PositionUnit, ReplicationLink, ResourceKind,
    ResourceRef, Target, Tolerance, Touch, Tri,
};
pub use op_handle::{BadHandle, OpHandle};
pub use outcome::{Cause, NotDone, Outcome, ProviderError, Retry};
pub use provider::{
    AppReading, AppTier, Attribution, Becomes, Bound, Capabilities, ClearFence, CreateOffer, CreateReplica,
    DatabaseProbe, Description, DestroyOffer, DrainRequest, Dropped, Effort, EngageFence, EvidenceSink, Fence,
    FencePlace, FenceReading, FenceSet, FenceToken, FollowOffer, FollowRequest, FollowsBy, ForcedOffer, GradedFence,
    HardenOffer, HardenRequest, Hardening, Health, LagSample, LongTransaction, ManagedDatabase, MemberProvider, Notice,
    Notifier, Obstacle, Occasion, OpProgress, Parted, PatchSecret, PositionReading, PositionSample, PreserveOffer,
    PreserveRequest, PromoteOffer, Protection, Protections, Providers, Query, RaiseSequences, Reach, ReadersReading,
    ReadersRouter, RecoveryWindow, RecycleRequest, Rehearsal, RehearseMember, RehearseRoute, RehearseSecret, Rejoin,
    RejoinRequest, Replication, Resolved, RestoreOffer, RestoreRequest, ResumeRequest, RetireFence, RotateSecret,
    RouteReading, RouteRequest, Rows, ScaleRequest, SecretReference, SecretStore, Sequences, ServicePace, Sessions,
    SnapshotOffer, SnapshotRequest, SpreadReaders, SwapOffer, Table, TableSum, Tier, TrafficRouter, Weight, WriteProbe,
    WritesSince,
};
pub use runtime::{Runtime, Task};
pub use verb::Verb;
