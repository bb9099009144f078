//! The traits that backends implement, and the bundle in which they come.
//!
//! Backends report facts and do single verbs. They know no runbook, no run and no other backend.

mod app;
mod data;
mod database;
mod evidence;
mod fence;
mod graded;
mod lifecycle;
mod notify;
mod probe;
mod readers;
mod rehearsal;
mod samples;
mod secret;
mod traffic;

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use async_trait::async_trait;

pub use app::{AppReading, AppTier, DrainRequest, Health, RecycleRequest, ResumeRequest, ScaleRequest};
pub use data::{RaiseSequences, Sequences, Table, TableSum, WritesSince};
pub use database::{
    Attribution, Capabilities, Description, FollowOffer, FollowRequest, FollowsBy, ForcedOffer, ManagedDatabase,
    OpProgress, PromoteOffer, Rejoin, RejoinRequest, Replication, ServicePace, SnapshotOffer, SnapshotRequest,
    SwapOffer,
};
pub use evidence::EvidenceSink;
pub use fence::{ClearFence, EngageFence, Fence, FencePlace, FenceReading, FenceSet, FenceToken, Reach, RetireFence};
pub use graded::GradedFence;
pub use lifecycle::{
    CreateOffer, CreateReplica, DestroyOffer, HardenOffer, HardenRequest, Hardening, PreserveOffer, PreserveRequest,
    Protection, Protections, RecoveryWindow, RestoreOffer, RestoreRequest,
};
pub use notify::{Notice, Notifier, Occasion};
pub use probe::{DatabaseProbe, LongTransaction, Parted, PositionReading, Query, Rows, Sessions, Tier, WriteProbe};
pub use readers::{ReadersReading, ReadersRouter, SpreadReaders};
pub use rehearsal::{
    Becomes, Dropped, Effort, Obstacle, Rehearsal, RehearseMember, RehearseRoute, RehearseSecret, Weight,
};
pub use samples::{LagSample, PositionSample};
pub use secret::{PatchSecret, RotateSecret, SecretReference, SecretStore};
pub use traffic::{RouteReading, RouteRequest, TrafficRouter};

use crate::{
    base::{BindingName, Digest, GroupName, Timestamp},
    contract::{Binding, ProviderError, ResourceRef},
};

/// Everything that reaches one member.
#[derive(Clone, Debug)]
pub struct MemberProvider {
    /// The management plane.
    pub database: Arc<dyn ManagedDatabase>,
    /// The data plane.
    pub probe: Arc<dyn DatabaseProbe>,
    /// The fences of this member, composed; `None` where only a role swap can take the writes away.
    pub fence: Option<Arc<dyn Fence>>,
    /// Those of its fences that can be engaged only after the promotion, composed.
    pub late_fence: Option<Arc<dyn Fence>>,
    /// How slow its service is, for the time when it says nothing itself.
    pub pace: ServicePace,
}

/// What a resolved binding is.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// A member of the group.
    Member(MemberProvider),
    /// The connection secret.
    Secret(Arc<dyn SecretStore>),
    /// A route.
    Traffic(Arc<dyn TrafficRouter>),
    /// A route for readers.
    Readers(Arc<dyn ReadersRouter>),
    /// The applications' write path.
    App(Arc<dyn AppTier>),
}

/// The way from a plan's bindings to live providers. The engine is given one at start; a run asks it again after a take-over.
#[async_trait]
pub trait Providers: Debug + Send + Sync + 'static {
    /// Opens what the group file with the digest `group` means by `wanted`: two versions of a file may reach one address in two
    /// ways.
    ///
    /// *Guarantees.* The answer reaches this address, or it is an error. Whether the resource there is still the one that a plan
    /// means, [`ManagedDatabase::describe`] tells; every step of a plan compares it.
    ///
    /// # Errors
    /// A [`ProviderError`] that names the binding's resource.
    async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError>;

    /// Who is told of runs that were planned with the group file of this digest.
    fn notifiers(&self, group: Digest) -> Vec<Arc<dyn Notifier>>;

    /// The samples that a watcher kept outside the patient, oldest first, not older than `since`.
    ///
    /// # Errors
    /// A [`ProviderError`] when they could not be read.
    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError>;
}

/// All bindings of a plan, resolved.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// The providers.
    pub by_name: BTreeMap<Binding, Resolved>,
}

impl Bound {
    /// Returns the application tiers, by name.
    pub(crate) fn apps(&self) -> impl Iterator<Item = (&BindingName, &Arc<dyn AppTier>)> {
        self.by_name.iter().filter_map(|(name, resolved)| match (name, resolved) {
            (Binding::App(name), Resolved::App(app)) => Some((name, app)),
            (
                _,
                Resolved::App(_)
                | Resolved::Member(_)
                | Resolved::Secret(_)
                | Resolved::Traffic(_)
                | Resolved::Readers(_),
            ) => None,
        })
    }
}
