//! Wrong management planes.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use dr_core::{
    ManagedDatabase, Millis, Outcome, ProviderError, Timestamp, Tri,
    base::{Endpoint, ResourceIdentity, SystemId},
    contract::{
        Attribution, Capabilities, CreateReplica, Description, DestroyRequest, FenceReading, FollowRequest,
        HardenRequest, OpHandle, OpProgress, Position, PreserveRequest, PromoteRequest, Protections, RaiseSequences,
        RecoveryPoint, RecoveryWindow, Rehearsal, RehearseMember, RejoinRequest, Replication, RestoreRequest, Runtime,
        SnapshotRequest, SwapRequest,
    },
    millis,
};

use super::Wrong;

#[derive(Debug)]
pub(super) struct WrongDatabase {
    pub(super) inner: Arc<dyn ManagedDatabase>,
    pub(super) how: Wrong,
    pub(super) clock: Arc<dyn Runtime>,
    /// The first description that was seen.
    pub(super) first: Mutex<Option<Description>>,
    pub(super) calls: AtomicU32,
}

impl WrongDatabase {
    fn is(&self, how: Wrong) -> bool {
        self.how == how
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ManagedDatabase for WrongDatabase {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        self.inner.capabilities().await
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        if self.is(Wrong::TidiesWhileLooking) {
            let _tidied = self.inner.settle().await;
        }
        let mut told = match self.inner.describe().await {
            Err(ProviderError::Unreachable { verb, why, .. }) if self.is(Wrong::SwallowsUnreachable) => {
                return Err(ProviderError::Refused { verb, why });
            }
            other => other?,
        };
        if self.is(Wrong::NamesItselfByAddress) {
            told.identity = Some(ResourceIdentity::new(told.address.as_str()));
        }
        if self.is(Wrong::StampsOldRoles) {
            let first =
                self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| told.clone()).clone();
            let Description { follows, writable, .. } = first;
            return Ok(Description { follows, writable, at: self.clock.now_wall(), ..told });
        }
        Ok(told)
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        let told = self.inner.replication().await?;
        let lies = self.is(Wrong::LiesAboutLag) && told.received.is_some();
        let own = |position: Position| {
            let system = SystemId::new("its-own");
            if self.is(Wrong::TellsOwnPositions) { Position { system, ..position } } else { position }
        };
        Ok(Replication {
            lag: told.lag.or_else(|| lies.then_some(Millis::ZERO)),
            received: told.received.map(own),
            applied: told.applied.map(own),
            ..told
        })
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        let told = self.inner.poll(op).await?;
        let goes_on = matches!(told, OpProgress::Running { .. });
        Ok(if goes_on && self.is(Wrong::FinishesEarly) { OpProgress::Finished } else { told })
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        match self.inner.promote(request).await {
            Outcome::Conflict(_) if self.is(Wrong::PromotesWithoutLooking) => Outcome::accepted(),
            Outcome::Accepted(_) if self.is(Wrong::IsDoneEarly) => Outcome::Done(()),
            Outcome::Unknown(cause) if self.is(Wrong::HidesLostReplies) => Outcome::not_done_yet(cause, millis(10)),
            told @ (Outcome::Done(())
            | Outcome::Accepted(_)
            | Outcome::NotDone(_)
            | Outcome::Unknown(_)
            | Outcome::Conflict(_)) => told,
        }
    }

    async fn swap_roles(&self, request: SwapRequest) -> Outcome<()> {
        self.inner.swap_roles(request).await
    }

    async fn swap_fence(&self, since: Timestamp) -> Result<FenceReading, ProviderError> {
        self.inner.swap_fence(since).await
    }

    async fn gave_up(&self, since: Timestamp) -> Result<Option<String>, ProviderError> {
        self.inner.gave_up(since).await
    }

    async fn attribution(&self, since: Timestamp) -> Result<Option<Attribution>, ProviderError> {
        let told = self.inner.attribution(since).await?;
        let mine = |found| Attribution { ours: Tri::Yes, ..found };
        Ok(if self.is(Wrong::CallsAllItsOwn) { told.map(mine) } else { told })
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        let may_discard = request.may_discard || self.is(Wrong::DiscardsSilently);
        self.inner.rejoin(RejoinRequest { may_discard, ..request }).await
    }

    async fn follow(&self, request: FollowRequest) -> Outcome<()> {
        self.inner.follow(request).await
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        let name = if self.is(Wrong::RenamesSnapshots) {
            format!("{}-{}", request.name, self.calls.fetch_add(1, Ordering::Relaxed))
        } else {
            request.name.clone()
        };
        self.inner.snapshot(SnapshotRequest { name, ..request }).await
    }

    async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError> {
        self.inner.has_snapshot(name).await
    }

    async fn create_replica(&self, request: CreateReplica) -> Outcome<()> {
        self.inner.create_replica(request).await
    }

    async fn recovery_window(&self) -> Result<RecoveryWindow, ProviderError> {
        self.inner.recovery_window().await
    }

    async fn restore(&self, request: RestoreRequest) -> Outcome<()> {
        let moved = self.is(Wrong::RestoresAnotherPoint).then(|| self.inner.recovery_window());
        let newest = match moved {
            Some(window) => window.await.ok().map(|window| window.latest),
            None => None,
        };
        let at = newest.unwrap_or(request.point.at);
        self.inner.restore(RestoreRequest { point: RecoveryPoint { at, ..request.point }, ..request }).await
    }

    async fn destroy(&self, request: DestroyRequest) -> Outcome<()> {
        match self.inner.destroy(request).await {
            Outcome::Accepted(_) if self.is(Wrong::SaysDestroyedEarly) => Outcome::Done(()),
            told @ (Outcome::Done(())
            | Outcome::Accepted(_)
            | Outcome::NotDone(_)
            | Outcome::Unknown(_)
            | Outcome::Conflict(_)) => told,
        }
    }

    async fn harden(&self, request: HardenRequest) -> Outcome<()> {
        self.inner.harden(request).await
    }

    async fn protections(&self) -> Result<Protections, ProviderError> {
        match self.inner.protections().await {
            Err(ProviderError::Unreachable { .. }) if self.is(Wrong::TakesSilenceForOff) => Ok(Protections {
                high_availability: Tri::No,
                deletion_protection: Tri::No,
                point_in_time: Tri::No,
                retention: None,
                at: self.clock.now_wall(),
            }),
            told => told,
        }
    }

    async fn preserve(&self, request: PreserveRequest) -> Outcome<()> {
        self.inner.preserve(request).await
    }

    async fn raise_sequences(&self, request: RaiseSequences) -> Outcome<()> {
        if self.is(Wrong::RaisesNothing) { Outcome::Done(()) } else { self.inner.raise_sequences(request).await }
    }

    async fn settle(&self) -> Outcome<()> {
        self.inner.settle().await
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    fn known_endpoint(&self) -> Option<Endpoint> {
        self.inner.known_endpoint()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}
