//! The provider traits behind the gate. Reads go through; every mutating verb asks first.

#![deny(clippy::missing_trait_methods)]

use std::sync::Arc;

use async_trait::async_trait;

use super::MutationGate;
use crate::{
    AppReading, AppTier, Binding, Capabilities, Description, DrainRequest, Effort, EngageFence, Fence, FenceReading,
    FenceToken, ManagedDatabase, Millis, OpHandle, OpProgress, Outcome, PatchSecret, Planes, PromoteRequest,
    ProviderError, Rehearsal, RehearseMember, RehearseRoute, RehearseSecret, RejoinRequest, ReleaseOrder, Replication,
    ResumeRequest, RetireFence, RouteReading, RouteRequest, SecretReference, SecretStore, SecretVersion,
    SnapshotRequest, SwapRequest, TrafficRouter, Tri, WriteProbe, verb,
};

macro_rules! pass {
    ($self:ident, $resource:expr, $verb:expr, $certified:expr) => {
        if let Err(blocked) = $self.gate.pass($resource, $verb, $certified) {
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
        self.inner.capabilities().await
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        self.inner.describe().await
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        self.inner.replication().await
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        self.inner.poll(op).await
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::PROMOTE, Some(request.certified()));
        self.inner.promote(request).await
    }

    async fn swap_roles(&self, request: SwapRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::SWAP_ROLES, Some(request.certified()));
        self.inner.swap_roles(request).await
    }

    async fn swap_fence(&self, since: crate::Timestamp) -> Result<FenceReading, ProviderError> {
        self.inner.swap_fence(since).await
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::REJOIN, None);
        self.inner.rejoin(request).await
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::SNAPSHOT, None);
        self.inner.snapshot(request).await
    }

    async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError> {
        self.inner.has_snapshot(name).await
    }

    async fn settle(&self) -> Outcome<()> {
        pass!(self, &self.name, verb::SETTLE, None);
        self.inner.settle().await
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
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

    fn promises(&self) -> Planes {
        self.inner.promises()
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        self.inner.prepare().await
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(effort).await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        pass!(self, &self.name, verb::FENCE, None);
        self.inner.engage(request).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.inner.inspect().await
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        pass!(self, &self.name, verb::RELEASE_FENCE, None);
        self.inner.release(order).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        pass!(self, &self.name, verb::RETIRE_FENCE, None);
        self.inner.retire(request).await
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
        self.inner.read().await
    }

    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion> {
        pass!(self, &self.name, verb::PATCH, None);
        self.inner.patch(request).await
    }

    async fn rehearse(&self, request: &RehearseSecret) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        self.inner.versions().await
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
        self.inner.read().await
    }

    async fn apply(&self, request: RouteRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::APPLY, None);
        self.inner.apply(request).await
    }

    async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError> {
        self.inner.write().await
    }

    async fn sample(&self, samples: u8) -> Result<Vec<Option<crate::MemberId>>, ProviderError> {
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
        self.inner.limit().await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.inner.drain_expires_by_itself()
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        self.inner.read().await
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::DRAIN, None);
        self.inner.drain(request).await
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        pass!(self, &self.name, verb::RESUME, None);
        self.inner.resume(request).await
    }

    async fn fail_fast(&self) -> Outcome<()> {
        pass!(self, &self.name, verb::FAIL_FAST, None);
        self.inner.fail_fast().await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}
