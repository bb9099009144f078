//! A fence of logins travels with the history: the new writer refuses its own applications until it is cleared, whatever dies or is lost
//! on the way. Covers S9, S22, S25 and S20; that S25 fires, a test by hand shows.

use std::sync::Arc;

use async_trait::async_trait;
use dr_core::{
    Fence, GroupName, Millis, Notifier, Outcome, PlannedSwitchover, ProviderError, Timestamp, UnplannedFailover,
    base::Digest,
    contract::{
        ClearFence, EngageFence, FencePlace, FenceReading, FenceToken, MemberProvider, Planes, PositionSample,
        Providers, Reach, ReleaseOrder, Resolved, ResourceRef, RetireFence,
    },
};
use dr_testkit::{Explorer, Fault, FaultPlan, Played, Setup, Tweak, sim};

use crate::tell;

fn setup() -> Setup {
    Setup { login_fence: true, ..sim::pair("orders", "neu", "weu") }
}

fn switchover() -> Explorer {
    Explorer::new(setup(), PlannedSwitchover::to("weu"))
}

/// An earlier run fenced the primary and did not get further; then its server died, and nothing can be fenced any more.
fn failover() -> Explorer {
    let runbook = UnplannedFailover::to("weu").without_fence("the server does not answer");
    Explorer::new(setup(), runbook).given(|cloud| {
        cloud.tweak("neu", Tweak::NoLogin(true));
        cloud.break_down("neu");
        cloud.tweak("weu", Tweak::NoLogin(true));
    })
}

fn survives_every_kill(explorer: &Explorer) {
    let verdict = explorer.crashes();
    tell(&format!("kill matrix of logins: {verdict}"));
    let baseline = explorer.play(&FaultPlan::none());
    let clear = explorer.crash_positions(&baseline).iter().filter(|(call, _)| call.contains("fence.clear")).count();
    assert_eq!(clear, 2, "before and after the clearing");
    assert_eq!(verdict.ends.get("success"), Some(&verdict.schedules), "{verdict}");
    verdict.assert_clean();
}

#[test]
fn a_switchover_with_a_fence_of_logins_survives_every_kill() {
    survives_every_kill(&switchover());
}

#[test]
fn a_failover_clears_what_an_earlier_run_left() {
    survives_every_kill(&failover());
}

#[test]
fn a_fence_of_logins_obeys_the_laws_under_single_faults() {
    let all = std::env::var("DR_EXPLORE").is_ok_and(|wanted| wanted == "all");
    for explorer in [switchover(), failover()] {
        let verdict = if all { explorer.single_faults() } else { explorer.every_nth_fault(7) };
        tell(&format!("single faults of logins: {verdict}"));
        verdict.assert_clean();
    }
}

/// A refusal, a lost reply, a reply that comes late: each at the clearing itself.
#[test]
fn no_fault_at_the_clearing_costs_more_than_time() {
    for explorer in [switchover(), failover()] {
        let baseline = explorer.play(&FaultPlan::none());
        let clear = explorer.positions(&baseline).into_iter().filter(|(call, _)| call.contains("fence.clear"));
        let clear: Vec<(String, Fault)> = clear.filter(|(_, fault)| fault.transient()).collect();
        assert!(clear.len() >= 4, "{clear:?}");
        for (call, fault) in clear {
            let played = explorer.play(&FaultPlan::one(call, fault));
            assert_eq!(
                (played.end.class(), &played.violations),
                ("success", &vec![]),
                "{fault}: {}",
                played.end.words()
            );
        }
    }
}

/// How the fence of the new writer is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// It says that it cleared, and did not.
    ForgetsToClear,
    /// It may not.
    RefusesToClear,
    /// It answers nothing.
    Hangs,
}

#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Providers>,
    bug: Bug,
}

#[async_trait]
impl Providers for Broken {
    async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        Ok(match self.inner.resolve(group, wanted).await? {
            Resolved::Member(MemberProvider { fence: Some(inner), late_fence, database, probe, pace }) => {
                let fence: Arc<dyn Fence> = Arc::new(BrokenFence { inner, bug: self.bug });
                Resolved::Member(MemberProvider { fence: Some(fence), late_fence, database, probe, pace })
            }
            resolved @ (Resolved::Member(_)
            | Resolved::Secret(_)
            | Resolved::Traffic(_)
            | Resolved::Readers(_)
            | Resolved::App(_)) => resolved,
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
struct BrokenFence {
    inner: Arc<dyn Fence>,
    bug: Bug,
}

#[async_trait]
impl Fence for BrokenFence {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn offers(&self, reach: Reach) -> Planes {
        self.inner.offers(reach)
    }

    async fn prepare(&self) -> Result<FenceToken, ProviderError> {
        self.inner.prepare().await
    }

    async fn engage(&self, request: EngageFence) -> Outcome<()> {
        self.inner.engage(request).await
    }

    async fn inspect(&self) -> Result<FenceReading, ProviderError> {
        self.inner.inspect().await
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
        // A call is made, which the service refuses: what is told of a call that nobody made is for another law.
        let was = request.target.lineage.clone();
        drop(self.inner.clear(ClearFence { was, ..request }).await);
        match self.bug {
            Bug::RefusesToClear => Outcome::refused("permission denied to alter role"),
            Bug::ForgetsToClear => Outcome::Done(()),
            Bug::Hangs => std::future::pending().await,
        }
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

fn played(bug: Bug) -> Played {
    switchover().through(move |inner| Arc::new(Broken { inner, bug })).play(&FaultPlan::none())
}

/// A new writer that still refuses its applications is never confirmed: the run waits for people, with the words of the service.
#[test]
fn a_writer_that_is_not_cleared_is_never_confirmed() {
    let table = [
        (Bug::ForgetsToClear, "role `app` may not log in"),
        (Bug::RefusesToClear, "permission denied to alter role"),
        (Bug::Hangs, ""),
    ];
    for (bug, why) in table {
        let played = played(bug);
        assert_eq!(played.end.class(), "parked", "{bug:?}: {}", played.end.words());
        assert!(played.end.words().contains(why), "{bug:?}: {}", played.end.words());
        let moved = played.calls.iter().any(|call| call.name.contains("secret.patch") || call.name.contains("apply#"));
        assert!(!moved, "{bug:?}: nothing was pointed at it");
        assert_eq!(played.violations, [], "{bug:?}");
    }
}
