//! Mocks of every provider trait, made with mockall: for unit tests of single handlers, where a world would be too much.

use std::collections::BTreeMap;

use async_trait::async_trait;
use dr_core::{
    AppTier, DatabaseProbe, Fence, GroupName, ManagedDatabase, MemberId, Millis, Notifier, Outcome, ProviderError,
    RunId, SecretStore, Timestamp, TrafficRouter, Tri,
    base::{Digest, SecretVersion},
    contract::{
        AppReading, Capabilities, ClearFence, CreateReplica, Description, DestroyRequest, DrainRequest, Effort,
        EngageFence, EvidenceSink, FencePlace, FenceReading, FenceToken, FollowRequest, HardenRequest, Health,
        LongTransaction, Notice, OpHandle, OpProgress, PatchSecret, Planes, Position, PositionReading, PositionSample,
        PreserveRequest, PromoteRequest, Protections, Providers, Query, RaiseSequences, Reach, ReadersReading,
        ReadersRouter, RecoveryWindow, RecycleRequest, Rehearsal, RehearseMember, RehearseRoute, RehearseSecret,
        RejoinRequest, ReleaseOrder, Replication, Resolved, ResourceRef, RestoreRequest, ResumeRequest, RetireFence,
        RotateSecret, RouteReading, RouteRequest, Rows, ScaleRequest, SecretReference, Sequences, Sessions,
        SnapshotRequest, SpreadReaders, SwapRequest, Table, TableSum, WriteProbe, WritesSince,
    },
};
use mockall::mock;
use std::sync::Arc;

mock! {
    /// A mocked [`ManagedDatabase`].
    #[derive(Debug)]
    pub ManagedDatabase {}

    #[async_trait]
    impl ManagedDatabase for ManagedDatabase {
        async fn capabilities(&self) -> Result<Capabilities, ProviderError>;
        async fn describe(&self) -> Result<Description, ProviderError>;
        async fn replication(&self) -> Result<Replication, ProviderError>;
        async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError>;
        async fn promote(&self, request: PromoteRequest) -> Outcome<()>;
        async fn swap_roles(&self, request: SwapRequest) -> Outcome<()>;
        async fn swap_fence(&self, since: Timestamp) -> Result<FenceReading, ProviderError>;
        async fn attribution(&self, since: Timestamp) -> Result<Option<dr_core::contract::Attribution>, ProviderError>;
        async fn gave_up(&self, since: Timestamp) -> Result<Option<String>, ProviderError>;
        async fn rejoin(&self, request: RejoinRequest) -> Outcome<()>;
        async fn follow(&self, request: FollowRequest) -> Outcome<()>;
        async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()>;
        async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError>;
        async fn create_replica(&self, request: CreateReplica) -> Outcome<()>;
        async fn recovery_window(&self) -> Result<RecoveryWindow, ProviderError>;
        async fn restore(&self, request: RestoreRequest) -> Outcome<()>;
        async fn destroy(&self, request: DestroyRequest) -> Outcome<()>;
        async fn harden(&self, request: HardenRequest) -> Outcome<()>;
        async fn protections(&self) -> Result<Protections, ProviderError>;
        async fn preserve(&self, request: PreserveRequest) -> Outcome<()>;
        async fn raise_sequences(&self, request: RaiseSequences) -> Outcome<()>;
        fn known_endpoint(&self) -> Option<dr_core::base::Endpoint>;
        async fn settle(&self) -> Outcome<()>;
        async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError>;
        fn manual(&self, verb: &str) -> Vec<String>;
    }
}

mock! {
    /// A mocked [`Fence`].
    #[derive(Debug)]
    pub Fence {}

    #[async_trait]
    impl Fence for Fence {
        fn name(&self) -> String;
        fn offers(&self, reach: Reach) -> Planes;
        async fn prepare(&self) -> Result<FenceToken, ProviderError>;
        async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError>;
        async fn engage(&self, request: EngageFence) -> Outcome<()>;
        async fn inspect(&self) -> Result<FenceReading, ProviderError>;
        async fn release(&self, order: ReleaseOrder) -> Outcome<()>;
        async fn retire(&self, request: RetireFence) -> Outcome<()>;
        fn travels(&self) -> bool;
        async fn carried(&self) -> Result<Vec<String>, ProviderError>;
        async fn clear(&self, request: ClearFence) -> Outcome<()>;
        fn place(&self) -> FencePlace;
        fn poll_every(&self) -> Millis;
        fn manual(&self, verb: &str) -> Vec<String>;
    }
}

mock! {
    /// A mocked [`DatabaseProbe`].
    #[derive(Debug)]
    pub DatabaseProbe {}

    #[async_trait]
    impl DatabaseProbe for DatabaseProbe {
        async fn write(&self) -> Result<WriteProbe, ProviderError>;
        async fn write_as_application(&self) -> Result<WriteProbe, ProviderError>;
        async fn position(&self) -> Result<PositionReading, ProviderError>;
        async fn extensions(&self) -> Result<BTreeMap<String, String>, ProviderError>;
        async fn available_extensions(&self) -> Result<BTreeMap<String, Vec<String>>, ProviderError>;
        async fn long_transactions(&self, limit: Millis) -> Result<Vec<LongTransaction>, ProviderError>;
        async fn writing_sessions(&self) -> Result<Sessions, ProviderError>;
        async fn writes_since(&self, since: &Position) -> Result<WritesSince, ProviderError>;
        async fn sequences(&self) -> Result<Sequences, ProviderError>;
        async fn checksum(&self, tables: &[Table]) -> Result<BTreeMap<Table, TableSum>, ProviderError>;
        async fn ask(&self, query: &Query) -> Result<Rows, ProviderError>;
        async fn warm_up(&self) -> Result<Millis, ProviderError>;
        async fn group_lock(&self, holder: &str) -> Result<bool, ProviderError>;
    }
}

mock! {
    /// A mocked [`SecretStore`].
    #[derive(Debug)]
    pub SecretStore {}

    #[async_trait]
    impl SecretStore for SecretStore {
        async fn read(&self) -> Result<SecretReference, ProviderError>;
        async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion>;
        async fn rotate(&self, request: RotateSecret) -> Outcome<SecretVersion>;
        async fn rotating(&self) -> Result<Tri, ProviderError>;
        async fn rehearse(&self, request: &RehearseSecret) -> Result<Rehearsal, ProviderError>;
        async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError>;
        fn manual(&self, verb: &str) -> Vec<String>;
    }
}

mock! {
    /// A mocked [`TrafficRouter`].
    #[derive(Debug)]
    pub TrafficRouter {}

    #[async_trait]
    impl TrafficRouter for TrafficRouter {
        async fn read(&self) -> Result<RouteReading, ProviderError>;
        async fn apply(&self, request: RouteRequest) -> Outcome<()>;
        async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError>;
        async fn write(&self) -> Result<Vec<WriteProbe>, ProviderError>;
        async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError>;
        fn poll_every(&self) -> Millis;
        fn manual(&self, verb: &str) -> Vec<String>;
    }
}

mock! {
    /// A mocked [`ReadersRouter`].
    #[derive(Debug)]
    pub ReadersRouter {}

    #[async_trait]
    impl ReadersRouter for ReadersRouter {
        async fn read(&self) -> Result<ReadersReading, ProviderError>;
        async fn spread(&self, request: SpreadReaders) -> Outcome<()>;
        fn poll_every(&self) -> Millis;
        fn manual(&self, verb: &str) -> Vec<String>;
    }
}

mock! {
    /// A mocked [`AppTier`].
    #[derive(Debug)]
    pub AppTier {}

    #[async_trait]
    impl AppTier for AppTier {
        async fn limit(&self) -> Result<Millis, ProviderError>;
        fn drain_expires_by_itself(&self) -> bool;
        async fn read(&self) -> Result<AppReading, ProviderError>;
        async fn drain(&self, request: DrainRequest) -> Outcome<()>;
        async fn resume(&self, request: ResumeRequest) -> Outcome<()>;
        async fn fail_fast(&self) -> Outcome<()>;
        async fn scale(&self, request: ScaleRequest) -> Outcome<()>;
        async fn health(&self) -> Result<Health, ProviderError>;
        async fn recycle(&self, request: RecycleRequest) -> Outcome<()>;
        fn poll_every(&self) -> Millis;
        fn manual(&self, verb: &str) -> Vec<String>;
    }
}

mock! {
    /// A mocked [`Notifier`].
    #[derive(Debug)]
    pub Notifier {}

    #[async_trait]
    impl Notifier for Notifier {
        async fn notify(&self, notice: Notice) -> Result<(), ProviderError>;
    }
}

mock! {
    /// A mocked [`EvidenceSink`].
    #[derive(Debug)]
    pub EvidenceSink {}

    #[async_trait]
    impl EvidenceSink for EvidenceSink {
        async fn seal(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), ProviderError>;
    }
}

mock! {
    /// Mocked [`Providers`].
    #[derive(Debug)]
    pub Providers {}

    #[async_trait]
    impl Providers for Providers {
        async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError>;
        fn notifiers(&self, group: Digest) -> Vec<Arc<dyn Notifier>>;
        async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError>;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VirtualRuntime;

    #[test]
    fn a_mock_stands_where_a_provider_stands() {
        let mut mock = MockAppTier::new();
        mock.expect_limit().times(1).returning(|| Ok(Millis::seconds(9)));
        let app: Arc<dyn AppTier> = Arc::new(mock);
        let limit = VirtualRuntime::new().run(app.limit()).unwrap().unwrap();
        assert_eq!(limit, Millis::seconds(9));
    }
}
