//! Backends that trust what an honest one proves: the directory that a fence was told, a receiver that does not replay, a write of the
//! toolkit's own role. Each planted bug is found, by the law that is named; `otherwise.rs` plays the same worlds with an honest backend.

use std::sync::Arc;

use async_trait::async_trait;
use dr_core::{
    AppTier, Fence, GroupName, ManagedDatabase, MemberId, Millis, Notifier, Outcome, PlannedSwitchover, ProviderError,
    Timestamp, TrafficRouter, Tri,
    base::Digest,
    contract::{
        AppReading, Capabilities, ClearFence, CreateReplica, Description, DestroyRequest, DrainRequest, Effort,
        EngageFence, FencePlace, FenceReading, FenceToken, FollowRequest, HardenRequest, MemberProvider, OpHandle,
        OpProgress, Planes, PositionSample, PreserveRequest, PromoteRequest, Protections, Providers, Reach,
        RecoveryWindow, Rehearsal, RehearseMember, RehearseRoute, RejoinRequest, ReleaseOrder, Replication, Resolved,
        ResourceRef, RestoreRequest, ResumeRequest, RetireFence, RouteReading, RouteRequest, SnapshotRequest,
        SwapRequest,
    },
};
use dr_testkit::{Careless, Drift, Explorer, Fault, FaultPlan, Flavour, FormerLife, Law, Place, SimCloud, Tweak};

use crate::{
    matrix::{failover, switchover},
    otherwise::{kept, unhurried},
    tell,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// The fence rehearses nothing.
    FenceRehearsesNothing,
    /// No part finds anything when it rehearses.
    NothingIsFound,
    /// A stopped server is not said to be silent, so that nobody tries its address.
    SilenceIsNotTold,
    /// What a member drops is not told.
    DropsAreNotTold,
    /// A route makes no write of an application.
    NoWriteThroughRoutes,
    /// Whatever receives is called a standby.
    ReceivingIsEnough,
    /// Parts of the applications that are still held are not told.
    PartsAreNotTold,
}

#[derive(Debug)]
struct Trusting {
    inner: Arc<dyn Providers>,
    bug: Bug,
}

#[async_trait]
impl Providers for Trusting {
    async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        let bug = self.bug;
        Ok(match self.inner.resolve(group, wanted).await? {
            Resolved::Member(MemberProvider { database, probe, fence, late_fence, pace }) => {
                Resolved::Member(MemberProvider {
                    database: Arc::new(TrustingDatabase { inner: database, bug }),
                    probe,
                    fence: fence.map(|inner| Arc::new(TrustingFence { inner, bug }) as Arc<dyn Fence>),
                    late_fence,
                    pace,
                })
            }
            Resolved::Traffic(inner) => Resolved::Traffic(Arc::new(TrustingRoute { inner, bug })),
            Resolved::App(inner) => Resolved::App(Arc::new(TrustingApp { inner, bug })),
            other @ (Resolved::Secret(_) | Resolved::Readers(_)) => other,
        })
    }

    fn notifiers(&self, group: Digest) -> Vec<Arc<dyn Notifier>> {
        self.inner.notifiers(group)
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        self.inner.samples(group, since).await
    }
}

#[derive(Debug)]
struct TrustingDatabase {
    inner: Arc<dyn ManagedDatabase>,
    bug: Bug,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ManagedDatabase for TrustingDatabase {
    async fn capabilities(&self) -> Result<Capabilities, ProviderError> {
        self.inner.capabilities().await
    }

    async fn describe(&self) -> Result<Description, ProviderError> {
        self.inner.describe().await
    }

    async fn replication(&self) -> Result<Replication, ProviderError> {
        let mut reading = self.inner.replication().await?;
        if self.bug == Bug::ReceivingIsEnough && reading.applied != reading.received {
            reading.streaming = Tri::Yes;
        }
        Ok(reading)
    }

    async fn poll(&self, op: &OpHandle) -> Result<OpProgress, ProviderError> {
        self.inner.poll(op).await
    }

    async fn promote(&self, request: PromoteRequest) -> Outcome<()> {
        self.inner.promote(request).await
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

    async fn attribution(&self, since: Timestamp) -> Result<Option<dr_core::contract::Attribution>, ProviderError> {
        self.inner.attribution(since).await
    }

    async fn rejoin(&self, request: RejoinRequest) -> Outcome<()> {
        self.inner.rejoin(request).await
    }

    async fn follow(&self, request: FollowRequest) -> Outcome<()> {
        self.inner.follow(request).await
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Outcome<()> {
        self.inner.snapshot(request).await
    }

    async fn has_snapshot(&self, name: &str) -> Result<Tri, ProviderError> {
        self.inner.has_snapshot(name).await
    }

    async fn settle(&self) -> Outcome<()> {
        self.inner.settle().await
    }

    async fn create_replica(&self, request: CreateReplica) -> Outcome<()> {
        self.inner.create_replica(request).await
    }

    async fn recovery_window(&self) -> Result<RecoveryWindow, ProviderError> {
        self.inner.recovery_window().await
    }

    async fn restore(&self, request: RestoreRequest) -> Outcome<()> {
        self.inner.restore(request).await
    }

    async fn destroy(&self, request: DestroyRequest) -> Outcome<()> {
        self.inner.destroy(request).await
    }

    async fn harden(&self, request: HardenRequest) -> Outcome<()> {
        self.inner.harden(request).await
    }

    async fn protections(&self) -> Result<Protections, ProviderError> {
        self.inner.protections().await
    }

    async fn preserve(&self, request: PreserveRequest) -> Outcome<()> {
        self.inner.preserve(request).await
    }

    async fn rehearse(&self, request: &RehearseMember) -> Result<Rehearsal, ProviderError> {
        let mut found = self.inner.rehearse(request).await?;
        match self.bug {
            Bug::NothingIsFound => found = Rehearsal::default(),
            Bug::DropsAreNotTold => found.drops.clear(),
            Bug::SilenceIsNotTold
            | Bug::FenceRehearsesNothing
            | Bug::NoWriteThroughRoutes
            | Bug::ReceivingIsEnough
            | Bug::PartsAreNotTold => {}
        }
        Ok(found)
    }

    async fn raise_sequences(&self, request: dr_core::contract::RaiseSequences) -> Outcome<()> {
        self.inner.raise_sequences(request).await
    }

    fn known_endpoint(&self) -> Option<dr_core::base::Endpoint> {
        self.inner.known_endpoint()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

#[derive(Debug)]
struct TrustingFence {
    inner: Arc<dyn Fence>,
    bug: Bug,
}

#[async_trait]
impl Fence for TrustingFence {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn offers(&self, reach: Reach) -> Planes {
        self.inner.offers(reach)
    }

    fn out_of_reach(&self, reach: Reach) -> Vec<String> {
        self.inner.out_of_reach(reach)
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        self.inner.prepare().await
    }

    async fn rehearse(&self, effort: Effort) -> Result<Rehearsal, ProviderError> {
        if matches!(self.bug, Bug::FenceRehearsesNothing | Bug::NothingIsFound) {
            return Ok(Rehearsal::default());
        }
        self.inner.rehearse(effort).await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        self.inner.engage(request).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let mut reading = self.inner.inspect().await?;
        reading.silent &= self.bug != Bug::SilenceIsNotTold;
        Ok(reading)
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        self.inner.release(order).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        self.inner.retire(request).await
    }

    fn travels(&self) -> bool {
        self.inner.travels()
    }

    async fn carried(&self) -> Result<Vec<String>, ProviderError> {
        self.inner.carried().await
    }

    async fn clear(&self, request: ClearFence) -> Outcome<()> {
        self.inner.clear(request).await
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
struct TrustingRoute {
    inner: Arc<dyn TrafficRouter>,
    bug: Bug,
}

#[async_trait]
impl TrafficRouter for TrustingRoute {
    async fn read(&self) -> Result<RouteReading, ProviderError> {
        self.inner.read().await
    }

    async fn apply(&self, request: RouteRequest) -> Outcome<()> {
        self.inner.apply(request).await
    }

    async fn rehearse(&self, request: &RehearseRoute) -> Result<Rehearsal, ProviderError> {
        self.inner.rehearse(request).await
    }

    async fn write(&self) -> Result<Vec<dr_core::contract::WriteProbe>, ProviderError> {
        if self.bug == Bug::NoWriteThroughRoutes {
            return Err(ProviderError::Unsupported { verb: "write" });
        }
        self.inner.write().await
    }

    async fn sample(&self, samples: u8) -> Result<Vec<Option<MemberId>>, ProviderError> {
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
struct TrustingApp {
    inner: Arc<dyn AppTier>,
    bug: Bug,
}

#[async_trait]
impl AppTier for TrustingApp {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        self.inner.limit().await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.inner.drain_expires_by_itself()
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        let mut reading = self.inner.read().await?;
        if self.bug == Bug::PartsAreNotTold {
            reading.stragglers.clear();
        }
        Ok(reading)
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        self.inner.drain(request).await
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        self.inner.resume(request).await
    }

    async fn fail_fast(&self) -> Outcome<()> {
        self.inner.fail_fast().await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

fn with(explorer: Explorer, bug: Bug) -> Explorer {
    explorer.through(move |inner| Arc::new(Trusting { inner, bug }))
}

/// The explorer finds it in the run without faults already, first of all by this law.
fn found(explorer: &Explorer, law: &Law, says: &str) {
    let verdict = explorer.every_nth_fault(1);
    let first = verdict.failures.first().map(|failure| (failure.law.clone(), failure.text.as_str()));
    let (found, text) = first.unwrap_or_else(|| (Law::Own("none".into()), ""));
    assert_eq!(&found, law, "{verdict}");
    assert!(text.contains(says), "{verdict}");
    tell(&format!("planted, found without a fault: {law}: {text}"));
}

/// Without a fault nobody notices; the explorer finds it by a change of the world at one of the calls, by this law and no other.
fn found_under(explorer: &Explorer, fault: Fault, law: &Law) {
    let healthy = explorer.play(&FaultPlan::none());
    assert_eq!((healthy.end.class(), healthy.violations), ("success", Vec::new()), "{}", healthy.end.words());
    let changes = healthy.calls.iter().filter(|call| call.touch.is_some()).map(|call| call.name.clone());
    let plans: Vec<FaultPlan> = changes.map(|call| FaultPlan::one(call, fault)).collect();
    let played: Vec<_> = plans.iter().map(|plan| (plan, explorer.play(plan).violations)).collect();
    let laws = |broken: &[dr_testkit::Violation]| broken.iter().map(|one| one.law.clone()).collect::<Vec<_>>();
    let found: Vec<_> = played.iter().filter(|(_, broken)| !broken.is_empty()).collect();
    assert!(!found.is_empty(), "{fault} at {} calls: nothing is found", plans.len());
    assert!(found.iter().all(|(_, broken)| laws(broken).first() == Some(law)), "{found:?}");
    let at: Vec<String> = found.iter().map(|(plan, _)| plan.to_string()).collect();
    tell(&format!("planted, found by {law} at {} of {} calls: {}", found.len(), plans.len(), at.join(" ")));
}

fn at(place: Place) -> impl Fn(&SimCloud) + Send + Sync + 'static {
    move |cloud| cloud.tweak("neu", Tweak::Place(place.clone()))
}

#[test]
fn a_fence_that_trusts_the_place_is_found() {
    for place in [Place::Copy, Place::Of("weu".into())] {
        let law = if place == Place::Copy { Law::S21 } else { Law::S13 };
        let explorer = switchover(Flavour::Separate).given(at(place)).given(|cloud| {
            cloud.careless(Careless::ActsOnPlace);
            cloud.careless(Careless::ReadsPlace);
        });
        found(&with(explorer, Bug::FenceRehearsesNothing), &law, "neu");
    }
}

/// The directory is moved after the fence was engaged: what answers at the address is a second writer, and the look at the fence before
/// the applications are let through does not see it.
#[test]
fn an_inspection_that_confirms_although_the_address_takes_writes_is_found() {
    let explorer = switchover(Flavour::Separate).given(|cloud| cloud.careless(Careless::ReadsPlace));
    found_under(&with(explorer, Bug::SilenceIsNotTold), Fault::Drift(Drift::Place), &Law::S23);
}

/// A fence that says that nobody gets an answer any more is held to it: a write on the member passes, and the run does not end as a
/// success.
#[test]
fn a_confirmed_fence_whose_member_takes_a_write_parks_the_run() {
    let explorer = switchover(Flavour::Separate).given(|cloud| cloud.careless(Careless::ReadsPlace));
    for call in ["traffic:route-0.apply", "secret.patch"] {
        let played = explorer.play(&FaultPlan::one(call, Fault::Drift(Drift::Place)));
        let words = played.end.words();
        assert_eq!((played.end.class(), played.violations), ("parked", Vec::new()), "{call}: {words}");
        assert!(words.contains("neu"), "{call}: {words}");
        tell(&format!("a second writer at {call}: {words}"));
    }
}

#[test]
fn a_rehearsal_that_finds_nothing_before_a_fence_that_trusts_the_place_is_found() {
    let explorer = switchover(Flavour::Separate)
        .given(at(Place::Of("weu".into())))
        .given(|cloud| cloud.careless(Careless::ActsOnPlace));
    found(&with(explorer, Bug::NothingIsFound), &Law::S13, "acts on weu");
}

#[test]
fn a_success_by_a_write_of_the_toolkits_own_role_is_found() {
    let explorer = Explorer::new(unhurried(), PlannedSwitchover::to("weu"));
    found_under(&with(explorer, Bug::NoWriteThroughRoutes), Fault::Drift(Drift::Access), &Law::S22);
}

#[test]
fn a_rejoin_that_is_done_when_it_only_receives_is_found() {
    let explorer =
        failover(Flavour::Separate).then(|cloud| cloud.tweak("neu", Tweak::FormerLife(FormerLife::DoesNotReplay)));
    found(&with(explorer, Bug::ReceivingIsEnough), &Law::S23, "neu does not replay");
}

#[test]
fn a_rejoin_that_leaves_a_member_running_that_promoted_itself_is_found() {
    let explorer = failover(Flavour::Separate).then(|cloud| {
        cloud.careless(Careless::LeavesPromoted);
        cloud.tweak("neu", Tweak::FormerLife(FormerLife::LeavesRecovery));
    });
    found(&explorer, &Law::S1, "neu and weu");
}

#[test]
fn a_resume_that_leaves_one_part_held_is_found() {
    let explorer = switchover(Flavour::Separate).given(|cloud| cloud.careless(Careless::ResumesInPart));
    found(&with(explorer, Bug::PartsAreNotTold), &Law::S20, "part 1 of the applications is still held");
}

#[test]
fn drops_that_people_are_not_told_are_found() {
    let explorer = switchover(Flavour::Separate)
        .given(|cloud| kept().into_iter().for_each(|one| cloud.tweak("neu", Tweak::Keeps(one))));
    found(&with(explorer, Bug::DropsAreNotTold), &Law::S24, "people were not shown that");
}
