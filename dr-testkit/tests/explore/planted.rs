//! Backends with a planted bug. Without a fault nobody notices; one fault at the right call must give each of them away.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use dr_core::{
    AppTier, Fence, Grade, GroupName, Millis, Notifier, Outcome, ProviderError, SecretStore, Timestamp,
    UnplannedFailover,
    base::{Digest, SecretVersion},
    contract::{
        AppReading, ClearFence, DrainRequest, EngageFence, FencePlace, FenceReading, FenceToken, MemberProvider,
        PatchSecret, Planes, PositionSample, Providers, Reach, ReleaseOrder, Resolved, ResourceRef, ResumeRequest,
        RetireFence, SecretReference,
    },
    seconds,
};
use dr_testkit::{Explorer, Fault, FaultPlan, Flavour, Law, sim};

use crate::matrix::switchover;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// The fence reports what was ordered and not what holds.
    FenceThatLies,
    /// The secret store drops the error of a write.
    SecretErrorIgnored,
    /// The fence is taken down for good only in the provider's words.
    RetireErrorIgnored,
    /// Looking at the applications changes something.
    ChangeWhileLooking,
    /// The applications are said to write again, whatever came of the call.
    ResumeErrorIgnored,
}

#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Providers>,
    bug: Bug,
}

#[async_trait]
impl Providers for Broken {
    async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        Ok(match (self.inner.resolve(group, wanted).await?, self.bug) {
            (
                Resolved::Member(MemberProvider { fence: Some(inner), late_fence, database, probe, pace }),
                Bug::FenceThatLies | Bug::RetireErrorIgnored,
            ) => {
                let ordered = AtomicBool::new(false);
                let fence: Arc<dyn Fence> = Arc::new(BrokenFence { inner, ordered, bug: self.bug });
                Resolved::Member(MemberProvider { fence: Some(fence), late_fence, database, probe, pace })
            }
            (Resolved::Secret(inner), Bug::SecretErrorIgnored) => Resolved::Secret(Arc::new(CarelessSecret(inner))),
            (Resolved::App(inner), bug @ (Bug::ResumeErrorIgnored | Bug::ChangeWhileLooking)) => {
                Resolved::App(Arc::new(BrokenApp { inner, bug }))
            }
            (resolved, _) => resolved,
        })
    }

    fn notifiers(&self) -> Vec<Arc<dyn Notifier>> {
        self.inner.notifiers()
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        self.inner.samples(group, since).await
    }
}

#[derive(Debug)]
struct BrokenFence {
    inner: Arc<dyn Fence>,
    bug: Bug,
    ordered: AtomicBool,
}

#[async_trait]
impl Fence for BrokenFence {
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

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        let outcome = self.inner.engage(request).await;
        if self.bug != Bug::FenceThatLies {
            return outcome;
        }
        self.ordered.store(true, Ordering::SeqCst);
        Outcome::Done(())
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        let mut reading = self.inner.inspect().await?;
        if self.ordered.load(Ordering::SeqCst) {
            reading.planes = Planes::all(Grade::Confirmed);
        }
        Ok(reading)
    }

    async fn release(&self, order: ReleaseOrder) -> Outcome<()> {
        self.inner.release(order).await
    }

    async fn retire(&self, request: RetireFence) -> Outcome<()> {
        if self.bug == Bug::RetireErrorIgnored {
            return Outcome::Done(());
        }
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
struct CarelessSecret(Arc<dyn SecretStore>);

#[async_trait]
impl SecretStore for CarelessSecret {
    async fn read(&self) -> Result<SecretReference, ProviderError> {
        self.0.read().await
    }

    async fn patch(&self, request: PatchSecret) -> Outcome<SecretVersion> {
        let before = request.expected.clone();
        let outcome = self.0.patch(request).await;
        if matches!(outcome, Outcome::NotDone(_)) { Outcome::Done(before) } else { outcome }
    }

    async fn versions(&self) -> Result<Vec<SecretVersion>, ProviderError> {
        self.0.versions().await
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.0.manual(verb)
    }
}

#[derive(Debug)]
struct BrokenApp {
    inner: Arc<dyn AppTier>,
    bug: Bug,
}

#[async_trait]
impl AppTier for BrokenApp {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        self.inner.limit().await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.inner.drain_expires_by_itself()
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        if self.bug == Bug::ChangeWhileLooking {
            drop(self.inner.fail_fast().await);
        }
        self.inner.read().await
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        self.inner.drain(request).await
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        let outcome = self.inner.resume(request).await;
        if self.bug == Bug::ResumeErrorIgnored { Outcome::Done(()) } else { outcome }
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, verb: &str) -> Vec<String> {
        self.inner.manual(verb)
    }
}

fn planted(bug: Bug) -> Explorer {
    switchover(Flavour::Separate).through(move |inner| Arc::new(Broken { inner, bug }))
}

/// The bug hides without a fault; the named fault gives it away, by this law.
fn found(bug: Bug, at: &str, law: &Law) {
    let explorer = planted(bug);
    let healthy = explorer.play(&FaultPlan::none());
    assert_eq!(
        (healthy.end.class(), healthy.violations.len()),
        ("success", 0),
        "{bug:?}: nobody notices without a fault"
    );
    let verdict = explorer.replay(&format!("{} {at}", explorer.scenario()));
    let laws = verdict.map(|verdict| verdict.failures.into_iter().map(|failure| failure.law).collect::<Vec<_>>());
    assert_eq!(laws.as_deref(), Ok([law.clone()].as_slice()), "{bug:?}");
}

#[test]
fn a_fence_that_reports_what_was_ordered_is_found() {
    found(Bug::FenceThatLies, "neu.fence.engage/1-deny#1:F1", &Law::S21);
}

#[test]
fn a_secret_store_that_drops_an_error_is_found() {
    found(Bug::SecretErrorIgnored, "secret.patch#1:F1", &Law::S5);
}

#[test]
fn applications_that_are_only_said_to_write_again_are_found() {
    found(Bug::ResumeErrorIgnored, "app.resume#1:F1", &Law::S20);
}

/// Nobody has to know where to look: a refusal at each change of the run, one after the other, finds each of them.
#[test]
fn the_explorer_finds_every_planted_bug_by_itself() {
    for bug in [Bug::FenceThatLies, Bug::SecretErrorIgnored, Bug::ResumeErrorIgnored] {
        let explorer = planted(bug);
        let baseline = explorer.play(&FaultPlan::none());
        let changes = baseline.calls.iter().filter(|call| call.touch.is_some());
        let played = changes.map(|call| explorer.play(&FaultPlan::one(call.name.clone(), Fault::FailBefore)));
        let broken = played.filter(|played| !played.violations.is_empty()).count();
        assert!(broken > 0, "{bug:?} is not found");
    }
}

/// S11 fires on a change that no intent announced.
#[test]
fn a_change_without_an_intent_is_found() {
    let played = planted(Bug::ChangeWhileLooking).play(&FaultPlan::none());
    let found = played.violations.iter().find(|violation| violation.law == Law::S11);
    assert!(found.is_some_and(|found| found.text.contains("app.fail-fast")), "{:?}", played.violations);
}

/// S11 fires, too, on an outcome that speaks of a call nobody made.
#[test]
fn an_outcome_without_a_call_is_found() {
    let played = planted(Bug::RetireErrorIgnored).play(&FaultPlan::none());
    let found = played.violations.iter().find(|violation| violation.law == Law::S11);
    assert!(found.is_some_and(|found| found.text.contains("no such call was made")), "{:?}", played.violations);
}

/// S12 fires when a run succeeds after a crash, but leaves something else behind than the run without one: here the former primary
/// follows only where nothing crashed.
#[test]
fn a_resumed_run_that_leaves_something_else_behind_is_found() {
    let plays = AtomicU32::new(0);
    let explorer = Explorer::new(sim::pair("orders", "neu", "weu"), UnplannedFailover::to("weu"))
        .on(Flavour::RoleSwap)
        .given(|cloud| cloud.break_down("neu"))
        .then(move |cloud| {
            if plays.fetch_add(1, Ordering::SeqCst) == 0 {
                cloud.comes_back("neu", seconds(5));
            }
        });
    let verdict = explorer.replay(&format!("{} journal.append#5:F16-after", explorer.scenario()));
    let laws = verdict.map(|verdict| verdict.failures.into_iter().map(|failure| failure.law).collect::<Vec<_>>());
    assert_eq!(laws.as_deref(), Ok([Law::S12].as_slice()));
}
