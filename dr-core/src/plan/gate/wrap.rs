//! The provider traits behind the gate. Reads have a limit; every mutating verb asks first.

#![deny(clippy::missing_trait_methods)]

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::MutationGate;
use crate::{
    base::{Millis, SecretVersion},
    contract::{
        AppReading, AppTier, Binding, Capabilities, ClearFence, CreateReplica, DatabaseProbe, Description,
        DestroyRequest, DrainRequest, Effort, EngageFence, Fence, FencePlace, FenceReading, FenceToken, FollowRequest,
        HardenRequest, Health, LongTransaction, ManagedDatabase, OpHandle, OpProgress, Outcome, PatchSecret, Planes,
        Position, PositionReading, PreserveRequest, PromoteRequest, Protections, ProviderError, Query, RaiseSequences,
        Reach, ReadersReading, ReadersRouter, RecoveryWindow, RecycleRequest, Rehearsal, RehearseMember, RehearseRoute,
        RehearseSecret, RejoinRequest, ReleaseOrder, Replication, RestoreRequest, ResumeRequest, RetireFence,
        RotateSecret, RouteReading, RouteRequest, Rows, ScaleRequest, SecretReference, SecretStore, Sequences,
        Sessions, SnapshotRequest, SpreadReaders, SwapRequest, Table, TableSum, TrafficRouter, Tri, WriteProbe,
        WritesSince, verb,
    },
};

macro_rules! pass {
    ($self:ident, $resource:expr, $verb:expr, $certified:expr) => {
        pass!($self, $resource, $verb, $certified, &[])
    };
    ($self:ident, $resource:expr, $verb:expr, $certified:expr, $also:expr) => {
        if let Err(blocked) = $self.gate.pass($resource, $verb, $certified, $also) {
            return blocked.outcome();
        }
    };
}

#[derive(Debug)]
pub(super) struct Database {
    pub(super) inner: Arc<dyn ManagedDatabase>,
    pub(super) gate: MutationGate,
    pub(super) name: Binding,
}

#[async_trait]
impl ManagedDatabase for Database {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        self.gate.read("capabilities", self.inner.capabilities()).await
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        self.gate.read("describe", self.inner.describe()).await
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        self.gate.read("replication", self.inner.replication()).await
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        self.gate.read("poll", self.inner.poll(op)).await
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::PROMOTE, Some(request.certified()));
        self.gate.while_mine(self.inner.promote(request)).await
    }

    async fn swap_roles(&self, request: SwapRequest) -> Outcome<()> {
        let demoted = verb::SWAP_ROLES.on(request.from().member.as_str());
        pass!(self, &self.name, verb::SWAP_ROLES, Some(request.certified()), &[demoted]);
        self.gate.while_mine(self.inner.swap_roles(request)).await
    }

    async fn swap_fence(&self, since: crate::base::Timestamp) -> Result<FenceReading, ProviderError> {
        self.gate.read("swap-fence", self.inner.swap_fence(since)).await
    }

    async fn attribution(
        &self,
        since: crate::base::Timestamp,
    ) -> Result<Option<crate::contract::Attribution>, ProviderError> {
        self.gate.read("attribution", self.inner.attribution(since)).await
    }

    async fn gave_up(&self, since: crate::base::Timestamp) -> Result<Option<String>, ProviderError> {
        self.gate.read("gave-up", self.inner.gave_up(since)).await
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::REJOIN, None);
        self.gate.while_mine(self.inner.rejoin(request)).await
    }

    async fn follow(&self, request: FollowRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::FOLLOW, None);
        self.gate.while_mine(self.inner.follow(request)).await
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::SNAPSHOT, None);
        self.gate.while_mine(self.inner.snapshot(request)).await
    }

    async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError> {
        self.gate.read("snapshot", self.inner.has_snapshot(name)).await
    }

    async fn create_replica(&self, request: CreateReplica) -> Outcome<()> {
        pass!(self, &self.name, verb::CREATE_REPLICA, None);
        self.gate.while_mine(self.inner.create_replica(request)).await
    }

    async fn recovery_window(&self) -> Result<RecoveryWindow, ProviderError> {
        self.gate.read("recovery-window", self.inner.recovery_window()).await
    }

    async fn restore(&self, request: RestoreRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::RESTORE, None);
        self.gate.while_mine(self.inner.restore(request)).await
    }

    async fn destroy(&self, request: DestroyRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::DESTROY, Some(request.certified()));
        self.gate.while_mine(self.inner.destroy(request)).await
    }

    async fn harden(&self, request: HardenRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::HARDEN, None);
        self.gate.while_mine(self.inner.harden(request)).await
    }

    async fn protections(&self) -> Result<Protections, ProviderError> {
        self.gate.read("protections", self.inner.protections()).await
    }

    async fn preserve(&self, request: PreserveRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::PRESERVE, None);
        self.gate.while_mine(self.inner.preserve(request)).await
    }

    async fn raise_sequences(&self, request: RaiseSequences) -> Outcome<()> {
        pass!(self, &self.name, verb::RAISE_SEQUENCES, None);
        self.gate.while_mine(self.inner.raise_sequences(request)).await
    }

    async fn settle(&self) -> Outcome<()> {
        pass!(self, &self.name, verb::SETTLE, None);
        self.gate.while_mine(self.inner.settle()).await
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    fn known_endpoint(&self) -> Option<crate::base::Endpoint> {
        self.inner.known_endpoint()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

/// The data plane. A call that looks at the server has a limit; one that works there, such as a warm-up, has that of its step.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) inner: Arc<dyn DatabaseProbe>,
    pub(super) gate: MutationGate,
}

#[async_trait]
impl DatabaseProbe for Probe {
    async fn write(&self) -> Result<WriteProbe, ProviderError> {
        self.gate.read("write", self.inner.write()).await
    }

    async fn write_as_application(&self) -> Result<WriteProbe, ProviderError> {
        self.gate.read("write-as-application", self.inner.write_as_application()).await
    }

    async fn position(&self) -> Result<PositionReading, ProviderError> {
        self.gate.read("position", self.inner.position()).await
    }

    async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError> {
        self.gate.read("extensions", self.inner.extensions()).await
    }

    async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError> {
        self.gate.read("available-extensions", self.inner.available_extensions()).await
    }

    async fn long_transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, ProviderError> {
        self.gate.read("long-transactions", self.inner.long_transactions(limit)).await
    }

    async fn writing_sessions(&self) -> Result<Sessions, ProviderError> {
        self.gate.read("writing-sessions", self.inner.writing_sessions()).await
    }

    async fn writes_since(&self, since: &Position) -> Result<WritesSince, ProviderError> {
        self.inner.writes_since(since).await
    }

    async fn sequences(&self) -> Result<Sequences, ProviderError> {
        self.gate.read("sequences", self.inner.sequences()).await
    }

    async fn checksum(&self, tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, ProviderError> {
        self.inner.checksum(tables).await
    }

    async fn ask(&self, query: &Query) -> Result<Rows, ProviderError> {
        self.inner.ask(query).await
    }

    async fn warm_up(&self) -> Result<Millis, ProviderError> {
        self.inner.warm_up().await
    }

    async fn group_lock(&self, holder: &str) -> Result<bool, ProviderError> {
        self.inner.group_lock(holder).await
    }
}

#[derive(Debug)]
pub(super) struct GatedFence {
    pub(super) inner: Arc<dyn Fence>,
    pub(super) gate: MutationGate,
    pub(super) name: Binding,
}

#[async_trait]
impl Fence for GatedFence {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn offers(&self, reach: Reach) -> Planes {
        self.inner.offers(reach)
    }

    fn promises(&self) -> Planes {
        self.inner.promises()
    }

    fn out_of_reach(&self, reach: Reach) -> Vec<String> {
        self.inner.out_of_reach(reach)
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        self.inner.prepare().await
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(effort).await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        pass!(self, &self.name, verb::FENCE, None);
        self.gate.while_mine(self.inner.engage(request)).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.gate.read("inspect", self.inner.inspect()).await
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        pass!(self, &self.name, verb::RELEASE_FENCE, None);
        self.gate.while_mine(self.inner.release(order)).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        pass!(self, &self.name, verb::RETIRE_FENCE, None);
        self.gate.while_mine(self.inner.retire(request)).await
    }

    fn travels(&self) -> bool {
        self.inner.travels()
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        self.gate.read("carried", self.inner.carried()).await
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        pass!(self, &self.name, verb::CLEAR_FENCE, None);
        self.gate.while_mine(self.inner.clear(request)).await
    }

    fn place(&self) -> FencePlace {
        self.inner.place()
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[derive(Debug)]
pub(super) struct Secret {
    pub(super) inner: Arc<dyn SecretStore>,
    pub(super) gate: MutationGate,
    pub(super) name: Binding,
}

#[async_trait]
impl SecretStore for Secret {
    async fn read(&self) -> Result<SecretReference, ProviderError> {
        self.gate.read("read", self.inner.read()).await
    }

    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion> {
        pass!(self, &self.name, verb::PATCH, None);
        self.gate.while_mine(self.inner.patch(request)).await
    }

    async fn rotate(&self, request: RotateSecret) -> Outcome<SecretVersion> {
        pass!(self, &self.name, verb::ROTATE, None);
        self.gate.while_mine(self.inner.rotate(request)).await
    }

    async fn rotating(&self) -> Result<Tri, ProviderError> {
        self.gate.read("rotating", self.inner.rotating()).await
    }

    async fn rehearse(&self, request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        self.gate.read("versions", self.inner.versions()).await
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) inner: Arc<dyn TrafficRouter>,
    pub(super) gate: MutationGate,
    pub(super) name: Binding,
}

#[async_trait]
impl TrafficRouter for Traffic {
    async fn read(&self) -> Result<RouteReading, ProviderError> {
        self.gate.read("read", self.inner.read()).await
    }

    async fn apply(&self, request: RouteRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::APPLY, None);
        self.gate.while_mine(self.inner.apply(request)).await
    }

    async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        self.inner.write().await
    }

    async fn sample(&self, samples: u8) -> Result<Vec<Option<crate::base::MemberId>>, ProviderError> {
        self.inner.sample(samples).await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) inner: Arc<dyn AppTier>,
    pub(super) gate: MutationGate,
    pub(super) name: Binding,
}

#[async_trait]
impl AppTier for App {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        self.gate.read("limit", self.inner.limit()).await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.inner.drain_expires_by_itself()
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        self.gate.read("read", self.inner.read()).await
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::DRAIN, None);
        self.gate.while_mine(self.inner.drain(request)).await
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::RESUME, None);
        self.gate.while_mine(self.inner.resume(request)).await
    }

    async fn fail_fast(&self) -> Outcome<()> {
        pass!(self, &self.name, verb::FAIL_FAST, None);
        self.gate.while_mine(self.inner.fail_fast()).await
    }

    async fn scale(&self, request: ScaleRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::SCALE, None);
        self.gate.while_mine(self.inner.scale(request)).await
    }

    async fn health(&self) -> Result<Health, ProviderError> {
        self.gate.read("health", self.inner.health()).await
    }

    async fn recycle(&self, request: RecycleRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::RECYCLE, None);
        self.gate.while_mine(self.inner.recycle(request)).await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[derive(Debug)]
pub(super) struct Readers {
    pub(super) inner: Arc<dyn ReadersRouter>,
    pub(super) gate: MutationGate,
    pub(super) name: Binding,
}

#[async_trait]
impl ReadersRouter for Readers {
    async fn read(&self) -> Result<ReadersReading, ProviderError> {
        self.gate.read("read", self.inner.read()).await
    }

    async fn spread(&self, request: SpreadReaders) -> Outcome<()> {
        pass!(self, &self.name, verb::SPREAD, None);
        self.gate.while_mine(self.inner.spread(request)).await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}
