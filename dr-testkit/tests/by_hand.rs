//! Each flavour driven by hand through the provider traits; faults; every law seen to fire.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use dr_core::{
    Actor, AppTier, Grade, GroupName, MemberId, Millis, Outcome, RunId, SecretStore, Target, Touch, TrafficRouter, Tri,
    base::{Digest, Epoch},
    contract::{
        Becomes, CatchUpReceipt, ClearFence, Consent, DrainRequest, Effort, Ends, EngageFence, FenceReceipt,
        FollowRequest, IntendedRole, Loss, LossBound, MemberProvider, OpHandle, OpProgress, PatchSecret,
        PositionReading, PromoteRequest, Providers, QuiesceReceipt, RehearseMember, RejoinRequest, ReleaseOrder,
        ReplicationLink, Resolved, ResourceRef, ResumeRequest, RetireFence, RouteRequest, Runtime, SwapRequest,
        WriterOrigin, WriterReceipt, admit,
    },
    millis, minutes, seconds,
};
use dr_testkit::{
    Access, Broken, CallKind, Careless, ChangeKind, Condition, CrashSwitch, Drift, Ended, Fault, FaultPlan, Flavour,
    FormerLife, Halt, Keeps, Law, Place, Setup, SimCloud, Tweak, VirtualRuntime,
};

fn run_id() -> RunId {
    RunId::new(GroupName::new("orders"), 1)
}

struct Hand {
    rt: VirtualRuntime,
    cloud: SimCloud,
    providers: Arc<dyn Providers>,
}

impl Hand {
    fn new(setup: Setup) -> Self {
        let rt = VirtualRuntime::new();
        let cloud = SimCloud::new(setup, Arc::new(rt.clone()));
        let providers = cloud.providers_for("engine", rt.crash_switch());
        rt.pass(seconds(1)).unwrap();
        Self { rt, cloud, providers }
    }

    fn of(flavour: Flavour) -> Self {
        Self::new(Setup::pair("orders", "neu", "weu").fast().flavour(flavour))
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.rt.run(work).unwrap()
    }

    async fn resolve(&self, wanted: &ResourceRef) -> Resolved {
        self.providers.resolve(Digest::zero(), wanted).await.unwrap()
    }

    async fn member(&self, name: &str) -> MemberProvider {
        let Resolved::Member(member) = self.resolve(&self.cloud.member_ref(name)).await else { panic!("{name}") };
        member
    }

    async fn secret(&self) -> Arc<dyn SecretStore> {
        let Resolved::Secret(secret) = self.resolve(&self.cloud.secret_ref()).await else { panic!("no secret") };
        secret
    }

    async fn route(&self) -> Arc<dyn TrafficRouter> {
        let Resolved::Traffic(route) = self.resolve(&self.cloud.route_ref(0)).await else { panic!("no route") };
        route
    }

    async fn app(&self) -> Arc<dyn AppTier> {
        let Resolved::App(app) = self.resolve(&self.cloud.app_ref()).await else { panic!("no application") };
        app
    }

    fn target(&self, name: &str) -> Target {
        let lineage = self.cloud.look(|truth| truth.member(name).unwrap().lineage().clone());
        Target {
            member: MemberId::new(name),
            address: self.cloud.member_ref(name).address,
            identity: None,
            lineage,
            receives: None,
        }
    }

    fn door<'a>(&'a self, run: &'a RunId) -> admit::Door<'a> {
        admit::Door { run, plan: Digest::zero(), epoch: Epoch::new(1), max_age: minutes(10), runtime: &self.rt }
    }

    /// Looks, as every success must be preceded by a look.
    fn look_again(&self, name: &str) {
        self.run(async { self.member(name).await.probe.position().await.unwrap() });
    }

    fn consent(&self, run: &RunId) -> Consent {
        let now = self.rt.now_wall();
        let agreed = |person: &str| dr_core::contract::Given {
            by: Actor::local(person).authenticated("a test", person),
            role: None,
            choice: dr_core::APPROVE.into(),
            at: now,
            note: None,
        };
        Consent {
            run: run.clone(),
            plan: Digest::zero(),
            ask: Digest::zero(),
            facts: Vec::new(),
            loss: Loss::Unknown { because: "whatever".into() },
            given: ["ana", "ben"].map(agreed).into(),
            at: now,
            expires: now + minutes(15),
        }
    }

    async fn drain(&self) {
        let app = self.app().await;
        let request = DrainRequest { budget: seconds(60), within: seconds(30), key: "orders-1/drain".into() };
        assert!(matches!(app.drain(request).await, Outcome::Accepted(_)));
        while app.read().await.unwrap().drained != Tri::Yes {
            self.sleep(millis(3)).await;
        }
    }

    async fn sleep(&self, time: Millis) {
        self.rt.sleep_until(self.rt.now_mono() + time).await;
    }

    async fn engage(&self, name: &str) -> FenceReceipt {
        let fence = self.member(name).await.fence.unwrap();
        let token = fence.prepare().await.unwrap();
        let target = self.target(name);
        let request = EngageFence { target: target.clone(), token: token.clone(), key: "orders-1/fence".into() };
        assert_eq!(fence.engage(request).await, Outcome::Done(()));
        let reading = fence.inspect().await.unwrap();
        FenceReceipt {
            run: run_id(),
            epoch: Epoch::new(1),
            target,
            fence: fence.name(),
            token,
            planes: reading.planes,
            silent: false,
            end: reading.end,
            effective_at: reading.at,
            lapses_at: reading.lapses_at,
            detail: reading.detail,
        }
    }

    async fn caught_up(&self, name: &str, end: &dr_core::contract::Position) -> PositionReading {
        let probe = self.member(name).await.probe;
        loop {
            let reading = probe.position().await.unwrap();
            if reading.applied.reaches(end) {
                return reading;
            }
            self.sleep(millis(2)).await;
        }
    }

    async fn planned_request(&self, fence: &FenceReceipt) -> PromoteRequest {
        let run = run_id();
        let end = fence.end.clone().unwrap();
        let applied = self.caught_up("weu", &end).await.applied;
        let target = self.target("weu");
        let receipt = CatchUpReceipt { run: run.clone(), target, end, applied, at: self.rt.now_wall() };
        let (old, new) = (self.member("neu").await, self.member("weu").await);
        let fenced =
            admit::fenced(&self.door(&run), old.fence.unwrap().as_ref(), fence, Grade::Confirmed).await.unwrap();
        let caught = admit::caught_up(&self.door(&run), (new.database.as_ref(), new.probe.as_ref()), &receipt, fence)
            .await
            .unwrap();
        let consented = admit::consented(&self.door(&run), &self.consent(&run), &[]).unwrap();
        PromoteRequest::planned("orders-1/promote".into(), fenced, caught, consented)
    }

    /// A promotion with a waiver: nothing keeps a careless caller from sending it.
    fn careless_request(&self) -> PromoteRequest {
        let run = run_id();
        let bound = LossBound {
            run: run.clone(),
            loss: Loss::Unknown { because: "nobody looked".into() },
            sampled_at: None,
            fenced_at: None,
            asked: None,
        };
        let consent = self.consent(&run);
        let bounded = admit::loss_bounded(&self.door(&run), &bound, &consent).unwrap();
        let consented = admit::consented(&self.door(&run), &consent, &[]).unwrap();
        let waiver = admit::unfenced(&self.door(&run), &consent, "test").unwrap();
        let ends = Ends { from: self.target("neu"), to: self.target("weu") };
        PromoteRequest::dangerous("orders-1/promote".into(), ends, bounded, consented, waiver)
    }

    async fn planned_swap(&self) -> SwapRequest {
        let run = run_id();
        let (old, new) = (self.member("neu").await, self.member("weu").await);
        let receipt = QuiesceReceipt {
            run: run.clone(),
            primary: self.target("neu"),
            target: self.target("weu"),
            sessions: None,
            position: None,
            at: self.rt.now_wall(),
        };
        let quiesced =
            admit::quiesced(&self.door(&run), old.probe.as_ref(), new.probe.as_ref(), &receipt, true).await.unwrap();
        let consented = admit::consented(&self.door(&run), &self.consent(&run), &[]).unwrap();
        SwapRequest::planned("orders-1/swap".into(), quiesced, consented)
    }

    fn forced_swap(&self) -> SwapRequest {
        let run = run_id();
        let consent = self.consent(&run);
        let loss = Loss::Unknown { because: "the primary is silent".into() };
        let bound = LossBound { run: run.clone(), loss, sampled_at: None, fenced_at: None, asked: None };
        let bounded = admit::loss_bounded(&self.door(&run), &bound, &consent).unwrap();
        let consented = admit::consented(&self.door(&run), &consent, &[]).unwrap();
        SwapRequest::forced("orders-1/swap".into(), self.target("neu"), self.target("weu"), bounded, consented)
    }

    async fn finished(&self, member: &str, op: &OpHandle) -> OpProgress {
        let database = self.member(member).await.database;
        loop {
            match database.poll(op).await {
                Ok(OpProgress::Running { .. }) | Err(_) => self.sleep(millis(3)).await,
                Ok(ended) => return ended,
            }
        }
    }

    async fn promote(&self, request: PromoteRequest) -> OpProgress {
        let outcome = self.member("weu").await.database.promote(request).await;
        let Outcome::Accepted(op) = outcome else { panic!("{outcome:?}") };
        self.finished("weu", &op).await
    }

    fn writer(&self, name: &str) -> WriterReceipt {
        let endpoint = format!("orders-{name}.sim:5432").into();
        let (run, at) = (run_id(), self.rt.now_wall());
        WriterReceipt {
            run,
            target: self.target(name),
            endpoint,
            origin: WriterOrigin::Observed,
            old_side: Grade::Confirmed,
            waived: None,
            at,
        }
    }

    async fn repoint(&self, name: &str) {
        let secret = self.secret().await;
        let expected = secret.read().await.unwrap().version;
        let request = PatchSecret { writer: self.writer(name), expected, key: "orders-1/secret".into() };
        assert!(matches!(secret.patch(request).await, Outcome::Done(_)));
        let route = self.route().await;
        let request = RouteRequest { writer: self.writer(name), key: "orders-1/traffic".into() };
        assert!(matches!(route.apply(request).await, Outcome::Accepted(_) | Outcome::Done(())));
        while route.read().await.unwrap().settled != Tri::Yes {
            self.sleep(millis(3)).await;
        }
    }

    async fn rejoin(&self) -> Outcome<()> {
        let request = RejoinRequest {
            target: self.target("neu"),
            primary: self.target("weu"),
            endpoint: "orders-weu.sim:5432".into(),
            parted_at: None,
            may_discard: false,
            key: "orders-1/rejoin".into(),
        };
        self.member("neu").await.database.rejoin(request).await
    }

    async fn resume(&self, name: &str) {
        let request = ResumeRequest { onto: name.into(), key: "orders-1/resume".into() };
        assert_eq!(self.app().await.resume(request).await, Outcome::Done(()));
    }

    /// Drain, fence, catch up, promote, repoint, reopen.
    async fn switchover(&self) {
        self.drain().await;
        let fence = self.engage("neu").await;
        assert_eq!(fence.grade(), Grade::Confirmed);
        let request = self.planned_request(&fence).await;
        assert_eq!(self.promote(request).await, OpProgress::Finished);
        let probe = self.member("weu").await.probe.write().await.unwrap();
        assert_eq!(probe.accepted, Tri::Yes);
        self.repoint("weu").await;
        self.resume("weu").await;
        self.sleep(seconds(1)).await;
    }

    fn clean(&self) {
        let violations = self.cloud.violations();
        assert!(violations.is_empty(), "{}", violations.iter().map(ToString::to_string).collect::<String>());
    }

    fn broken(&self) -> Vec<Law> {
        let mut laws: Vec<Law> = self.cloud.violations().into_iter().map(|found| found.law).collect();
        laws.sort();
        laws
    }

    fn names(&self) -> Vec<String> {
        self.cloud.look(|truth| truth.writers_now().iter().map(ToString::to_string).collect())
    }
}

const PLANNED: Ended = Ended::Succeeded { planned: true, loss: Loss::Nothing, debts: true };

#[test]
fn writers_write_at_their_pace_and_a_standby_follows() {
    let hand = Hand::of(Flavour::Separate);
    hand.rt.pass(seconds(9)).unwrap();
    let (writes, errors, gap) =
        hand.cloud.look(|truth| (truth.acknowledged(), truth.client_errors(), truth.write_gap()));
    assert_eq!((writes, errors), (8 * 1000, 0), "8 writers, one write each in 10 ms, for 10 s");
    assert!(gap <= millis(2), "{gap:?}");
    hand.run(async {
        let weu = hand.member("weu").await;
        let replication = weu.database.replication().await.unwrap();
        assert_eq!((replication.streaming, replication.lag), (Tri::Yes, Some(millis(5))));
        let (standby, primary) =
            (weu.probe.position().await.unwrap(), hand.member("neu").await.probe.position().await.unwrap());
        assert_eq!((standby.in_recovery, primary.in_recovery), (Tri::Yes, Tri::No));
        assert!(primary.durable.missing_to(&standby.applied) == Some(0) && standby.applied != primary.durable);
        assert_eq!(weu.probe.write().await.unwrap().accepted, Tri::No);
        assert_eq!(
            weu.database.describe().await.unwrap().follows,
            Some(ReplicationLink::physical(hand.cloud.member_ref("neu").address))
        );
    });
    hand.clean();
}

#[test]
fn separate_fence_switchover_and_rejoin_by_hand_lose_nothing() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.switchover());
    hand.look_again("weu");
    hand.cloud.ended(&PLANNED);
    assert_eq!(hand.names(), ["weu"]);
    hand.cloud.look(|truth| {
        assert!(truth.lost_acknowledged().is_empty());
        assert_eq!(truth.promotions().count(), 1);
        assert!(truth.write_gap() > millis(60) && truth.write_gap() < millis(400), "{:?}", truth.write_gap());
        assert_eq!(truth.client_errors(), 0, "the drain held every write back");
    });
    hand.run(async {
        let old = hand.member("neu").await;
        let Outcome::Accepted(op) = hand.rejoin().await else { panic!("not accepted") };
        assert_eq!(hand.finished("neu", &op).await, OpProgress::Finished);
        let fence = old.fence.unwrap();
        let token = fence.prepare().await.unwrap();
        let wrong = RetireFence { target: hand.target("weu"), token: token.clone(), key: "k".into() };
        let wrong = RetireFence {
            target: Target {
                lineage: dr_core::contract::Lineage { generation: 1, ..hand.target("weu").lineage },
                ..wrong.target
            },
            ..wrong
        };
        assert!(matches!(fence.retire(wrong).await, Outcome::Conflict(_)));
        let request = RetireFence { target: hand.target("neu"), token, key: "k".into() };
        assert_eq!(fence.retire(request).await, Outcome::Done(()));
        hand.sleep(seconds(1)).await;
        assert_eq!(old.database.replication().await.unwrap().streaming, Tri::Yes);
    });
    hand.cloud.look(|truth| {
        assert!(!truth.member("neu").unwrap().is_fenced());
        assert_eq!(truth.member("neu").unwrap().follows(), Some(&MemberId::new("weu")));
    });
    hand.clean();
}

#[test]
fn a_swap_gives_up_when_it_was_told_to_and_leaves_the_roles() {
    for (limited, ended, writer) in [(true, false, "neu"), (false, true, "weu")] {
        let pair = Setup::pair("orders", "neu", "weu").fast().flavour(Flavour::RoleSwap);
        let hand = Hand::new(Setup { swap_gives_up: limited, ..pair });
        hand.run(async {
            hand.drain().await;
            let new = hand.member("weu").await.database;
            assert_eq!(new.capabilities().await.unwrap().swap.unwrap().limit, limited);
            let request = hand.planned_swap().await.giving_up_after(millis(60));
            let Outcome::Accepted(op) = new.swap_roles(request).await else { panic!("not accepted") };
            assert_eq!(hand.finished("weu", &op).await == OpProgress::Finished, ended, "limited: {limited}");
            if ended {
                hand.repoint("weu").await;
            }
            hand.resume(writer).await;
            hand.sleep(seconds(1)).await;
        });
        hand.look_again(writer);
        hand.clean();
        assert!(hand.cloud.look(|truth| truth.lost_acknowledged().is_empty()));
    }
}

#[test]
fn role_swap_moves_roles_and_route_and_loses_nothing() {
    let hand = Hand::of(Flavour::RoleSwap);
    hand.run(async {
        hand.drain().await;
        let (old, new) = (hand.member("neu").await, hand.member("weu").await);
        assert!(old.fence.is_none(), "only the swap can take the writes away");
        let request = hand.planned_swap().await;
        let since = hand.rt.now_wall();
        let Outcome::Accepted(op) = new.database.swap_roles(request).await else { panic!("not accepted") };
        assert_eq!(hand.finished("weu", &op).await, OpProgress::Finished);
        hand.sleep(millis(20)).await;
        assert_eq!(old.database.swap_fence(since).await.unwrap().grade(), Grade::RoleSwap);
        assert!(matches!(new.database.promote(hand.careless_request()).await, Outcome::NotDone(_)));
        hand.repoint("weu").await;
        hand.resume("weu").await;
        hand.sleep(seconds(1)).await;
    });
    hand.look_again("weu");
    hand.cloud.ended(&PLANNED);
    hand.clean();
    hand.cloud.look(|truth| {
        assert_eq!(truth.member("neu").unwrap().follows(), Some(&MemberId::new("weu")));
        assert!(truth.member("neu").unwrap().is_streaming() && truth.lost_acknowledged().is_empty());
    });
}

#[test]
fn a_planned_swap_without_replication_rolls_back_and_loses_nothing() {
    let hand = Hand::of(Flavour::RoleSwap);
    hand.run(async {
        hand.drain().await;
        let run = run_id();
        let (old, new) = (hand.member("neu").await, hand.member("weu").await);
        let receipt = QuiesceReceipt {
            run: run.clone(),
            primary: hand.target("neu"),
            target: hand.target("weu"),
            sessions: None,
            position: None,
            at: hand.rt.now_wall(),
        };
        old.probe.write().await.unwrap();
        let quiesced =
            admit::quiesced(&hand.door(&run), old.probe.as_ref(), new.probe.as_ref(), &receipt, true).await.unwrap();
        let consented = admit::consented(&hand.door(&run), &hand.consent(&run), &[]).unwrap();
        let request = SwapRequest::planned("orders-1/swap".into(), quiesced, consented);
        let Outcome::Accepted(op) = new.database.swap_roles(request).await else { panic!("not accepted") };
        old.probe.write().await.unwrap();
        hand.cloud.break_replication("weu", Broken::Stalled);
        assert!(matches!(hand.finished("weu", &op).await, OpProgress::Failed { .. }));
        hand.resume("neu").await;
        hand.sleep(seconds(1)).await;
    });
    hand.cloud.ended(&Ended::Aborted);
    hand.clean();
    assert_eq!(hand.names(), ["neu"]);
}

#[test]
fn a_forced_takeover_by_storage_fence_tells_its_grade_only_afterwards() {
    for works in [true, false] {
        let setup = Setup { storage_fence_works: works, ..Setup::pair("orders", "neu", "weu").fast() };
        let hand = Hand::new(setup.flavour(Flavour::StorageFence));
        hand.cloud.suffer(Condition::ClientsCut(MemberId::new("neu")), None);
        hand.run(async {
            let (old, new) = (hand.member("neu").await, hand.member("weu").await);
            let since = hand.rt.now_wall();
            let Outcome::Accepted(op) = new.database.swap_roles(hand.forced_swap()).await else {
                panic!("not accepted")
            };
            assert_eq!(old.database.swap_fence(since).await.unwrap().grade(), Grade::Unconfirmable);
            assert_eq!(hand.finished("weu", &op).await, OpProgress::Finished);
            hand.sleep(millis(20)).await;
            let grade = old.database.swap_fence(since).await.unwrap().grade();
            assert_eq!(grade, if works { Grade::Enforced } else { Grade::Unconfirmable });
            hand.sleep(seconds(2)).await;
            let later = old.database.swap_fence(since).await.unwrap().grade();
            assert_eq!(later, if works { Grade::RoleSwap } else { Grade::Unconfirmable }, "rebuilt by the provider");
        });
        hand.clean();
        assert_eq!(hand.names(), ["weu"]);
    }
}

#[test]
fn a_dead_region_is_failed_over_and_what_was_not_replicated_is_counted() {
    let hand = Hand::of(Flavour::RoleSwap);
    hand.cloud.lose_region("neu");
    hand.run(async {
        let new = hand.member("weu").await;
        assert!(hand.member("neu").await.database.describe().await.is_err());
        let Outcome::Accepted(op) = new.database.swap_roles(hand.forced_swap()).await else { panic!("not accepted") };
        assert_eq!(hand.finished("weu", &op).await, OpProgress::Finished);
        hand.repoint("weu").await;
        hand.sleep(seconds(1)).await;
        let samples = hand.providers.samples(&"orders".into(), dr_core::Timestamp::from_millis(0)).await.unwrap();
        let generation =
            |sample: &dr_core::contract::PositionSample| sample.lineage.as_ref().map(|lineage| lineage.generation);
        assert_eq!((generation(&samples[0]), generation(samples.last().unwrap())), (Some(1), Some(2)));
    });
    let lost = hand.cloud.look(|truth| truth.lost_acknowledged());
    assert_eq!(lost.len(), 3, "8 writers in 10 ms, 5 ms behind: those of the last 4 ms");
    let time = hand.cloud.look(|truth| truth.lost_time());
    assert!(time <= millis(6), "{time:?}");
    let because = "a sample".to_owned();
    hand.look_again("weu");
    hand.cloud.ended(&Ended::Succeeded {
        planned: false,
        debts: true,
        loss: Loss::AtMost { time: seconds(1), amount: None, because },
    });
    hand.cloud.heal(&Condition::ControlOutage("region-neu".into()));
    hand.cloud.comes_back("neu", millis(1));
    hand.rt.pass(seconds(1)).unwrap();
    hand.clean();
    assert_eq!(hand.names(), ["weu"], "the provider attached the returned side as a standby");
}

#[test]
fn a_fence_lifted_behind_the_back_is_seen_and_a_promotion_then_breaks_s7() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async {
        hand.drain().await;
        let receipt = hand.engage("neu").await;
        let request = hand.planned_request(&receipt).await;
        hand.cloud.drift(Drift::Fence);
        let fence = hand.member("neu").await.fence.unwrap();
        assert_eq!(fence.inspect().await.unwrap().engaged(), Tri::No);
        let run = run_id();
        let refused = admit::fenced(&hand.door(&run), fence.as_ref(), &receipt, Grade::Confirmed).await;
        assert!(matches!(refused, Err(admit::Refused::Lost { .. })), "{refused:?}");
        hand.promote(request).await;
    });
    assert_eq!(hand.broken(), [Law::S1, Law::S7, Law::S10], "{:?}", hand.cloud.violations());
}

#[test]
fn a_fence_that_only_refuses_new_sessions_is_no_fence() {
    let hand = Hand::of(Flavour::Separate);
    hand.cloud.faults(FaultPlan::one("neu.fence.engage/2-terminate", Fault::FailBefore));
    hand.run(async {
        let fence = hand.member("neu").await.fence.unwrap();
        let token = fence.prepare().await.unwrap();
        let request = EngageFence { target: hand.target("neu"), token, key: "k".into() };
        assert!(matches!(fence.engage(request).await, Outcome::Unknown(_)), "a part is up, a part is not");
        let reading = fence.inspect().await.unwrap();
        assert_eq!((reading.engaged(), reading.grade()), (Tri::Yes, Grade::Unconfirmable));
        let before = hand.cloud.look(|truth| truth.acknowledged());
        hand.sleep(seconds(1)).await;
        assert!(hand.cloud.look(|truth| truth.acknowledged()) > before, "open sessions go on committing");
    });
    assert_eq!(hand.names(), ["neu"]);
}

#[test]
fn reads_lag_and_an_injected_stale_read_goes_backwards() {
    let hand = Hand::new(Setup::pair("orders", "neu", "weu"));
    hand.rt.pass(minutes(20)).unwrap();
    hand.cloud.faults(FaultPlan::one("neu.describe#3", Fault::StaleRead).and("neu.describe#4", Fault::Contradiction));
    hand.run(async {
        hand.engage("neu").await;
        let database = hand.member("neu").await.database;
        let first = database.describe().await.unwrap();
        assert_eq!(first.writable, Tri::Yes, "the management view is 5 s behind");
        hand.sleep(seconds(6)).await;
        assert_eq!(database.describe().await.unwrap().writable, Tri::No);
        assert_eq!(database.describe().await.unwrap().writable, Tri::Yes, "F9");
        assert_eq!(database.describe().await.unwrap().writable, Tri::Yes, "F10");
        assert_eq!(database.describe().await.unwrap().writable, Tri::No);
    });
}

#[test]
fn a_lost_reply_a_late_effect_and_a_duplicate_follow_the_providers_rules() {
    let promote = |fault: Fault| {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.faults(FaultPlan::one("weu.promote", fault));
        let outcome = hand.run(async {
            hand.drain().await;
            let fence = hand.engage("neu").await;
            let request = hand.planned_request(&fence).await;
            hand.member("weu").await.database.promote(request).await
        });
        let at_once = hand.cloud.look(|truth| truth.promotions().count());
        hand.rt.pass(seconds(5)).unwrap();
        let later = hand.cloud.look(|truth| truth.promotions().count());
        hand.clean();
        (outcome, at_once, later)
    };
    let (outcome, now, later) = promote(Fault::LostReply);
    assert!(matches!(outcome, Outcome::Unknown(_)));
    assert_eq!((now, later), (1, 1), "the effect happened while the caller waited for the reply");
    let (outcome, now, later) = promote(Fault::Late);
    assert!(matches!(outcome, Outcome::Unknown(_)));
    assert_eq!((now, later), (0, 1));
    let (outcome, _, later) = promote(Fault::Duplicate);
    assert!(matches!(outcome, Outcome::Accepted(_)));
    assert_eq!(later, 1, "the second delivery finds no standby: refused by the provider itself");
    let (outcome, _, later) = promote(Fault::FailBefore);
    assert!(matches!(outcome, Outcome::NotDone(_)));
    assert_eq!(later, 0);
}

#[test]
fn operations_run_slowly_fail_late_and_lose_their_handles() {
    use dr_testkit::FailsHow;
    for (fault, promoted, finishes) in [
        (Fault::Slow, true, true),
        (Fault::OperationFails(FailsHow::Absent), false, false),
        (Fault::OperationFails(FailsHow::Partial), false, false),
        (Fault::OperationFails(FailsHow::Complete), true, false),
        (Fault::HandleLost, true, false),
    ] {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.faults(FaultPlan::one("weu.promote", fault));
        let ended = hand.run(async {
            hand.drain().await;
            let fence = hand.engage("neu").await;
            let request = hand.planned_request(&fence).await;
            hand.promote(request).await
        });
        hand.rt.pass(seconds(1)).unwrap();
        assert_eq!(ended == OpProgress::Finished, finishes, "{fault}: {ended:?}");
        let found = hand.cloud.look(|truth| truth.promotions().count() == 1);
        assert_eq!(found, promoted, "{fault}");
        hand.clean();
    }
}

#[test]
fn a_crash_inside_a_compound_verb_leaves_the_rest_unsent_and_in_flight_effects_go_on() {
    let engage = |plan: FaultPlan| {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.faults(plan);
        let halt = hand.rt.run(hand.engage("neu"));
        assert!(matches!(halt, Err(Halt::Crashed(_))), "{halt:?}");
        let other = VirtualRuntime::process(&hand.rt);
        other.pass(seconds(1)).unwrap();
        hand.cloud.look(|truth| {
            let neu = truth.member("neu").unwrap();
            (neu.is_fenced(), neu.sessions(), neu.is_running())
        })
    };
    let before = |call: &str| FaultPlan::one(call, Fault::CrashBefore);
    assert_eq!(engage(before("neu.fence.engage/1-deny")), (false, 8, true));
    assert_eq!(engage(before("neu.fence.engage/2-terminate")), (true, 8, true));
    assert_eq!(engage(before("neu.fence.engage/3-stop")), (true, 0, true));
    assert_eq!(engage(FaultPlan::one("neu.fence.engage/3-stop", Fault::CrashAfter)), (true, 0, false));
}

#[test]
fn outages_and_partitions_cut_exactly_their_plane() {
    let hand = Hand::of(Flavour::RoleSwap);
    let seen = || {
        hand.run(async {
            let neu = hand.member("neu").await;
            (neu.database.describe().await.is_ok(), neu.probe.position().await.is_ok())
        })
    };
    let writing = || {
        let before = hand.cloud.look(|truth| truth.acknowledged());
        hand.rt.pass(seconds(1)).unwrap();
        hand.cloud.look(|truth| truth.acknowledged()) > before
    };
    let cases = [
        (Condition::ControlOutage("region-neu".into()), (false, true), true),
        (Condition::DataOutage(MemberId::new("neu")), (true, false), false),
        (Condition::Partition(MemberId::new("neu")), (true, false), true),
        (Condition::ClientsCut(MemberId::new("neu")), (true, true), false),
    ];
    for (condition, expected, writes) in cases {
        hand.cloud.suffer(condition.clone(), None);
        assert_eq!(seen(), expected, "{condition:?}");
        assert_eq!(writing(), writes, "{condition:?}");
        hand.cloud.heal(&condition);
        assert_eq!((seen(), writing()), ((true, true), true));
    }
    hand.clean();
}

#[test]
fn replication_breaks_in_three_ways() {
    for how in [Broken::Stalled, Broken::MetricFrozen, Broken::Diverged] {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.break_replication("weu", how);
        hand.rt.pass(seconds(1)).unwrap();
        hand.run(async {
            let weu = hand.member("weu").await;
            let before = weu.probe.position().await.unwrap();
            hand.sleep(seconds(1)).await;
            let after = weu.probe.position().await.unwrap();
            assert_eq!(before.applied, after.applied);
            let replication = weu.database.replication().await.unwrap();
            assert_eq!(replication.streaming, Tri::No);
            assert_eq!(replication.lag.is_some(), how == Broken::MetricFrozen, "{how:?}");
            let same = after.lineage == hand.target("neu").lineage;
            assert_eq!(same, how != Broken::Diverged);
        });
    }
}

#[test]
fn a_client_that_ignores_the_ttl_goes_on_to_the_old_place() {
    let hand = Hand::of(Flavour::Separate);
    hand.cloud.faults(FaultPlan::one("app.drain", Fault::IgnoredTtl));
    hand.run(hand.switchover());
    hand.rt.pass(seconds(5)).unwrap();
    hand.clean();
    let errors = hand.cloud.look(|truth| truth.client_errors());
    assert_eq!(errors, 0, "its cache was filled before it began to ignore the TTL");
}

#[test]
fn a_drain_expires_by_itself_when_its_budget_is_over() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.drain());
    assert!(hand.cloud.look(|truth| truth.app().is_drained()));
    hand.rt.pass(seconds(61)).unwrap();
    assert!(hand.cloud.look(|truth| truth.app().is_open()));
    assert!(hand.cloud.look(|truth| truth.client_errors()) > 0, "10 s is the clients' own limit");
    assert_eq!(hand.names(), ["neu"]);
}

#[test]
fn the_secret_is_compared_and_set_and_a_token_is_one_version() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async {
        hand.drain().await;
        let fence = hand.engage("neu").await;
        let request = hand.planned_request(&fence).await;
        hand.promote(request).await;
        let secret = hand.secret().await;
        let patch = |expected: &str, key: &str| PatchSecret {
            writer: hand.writer("weu"),
            expected: expected.into(),
            key: key.into(),
        };
        assert!(matches!(secret.patch(patch("v9", "a")).await, Outcome::Conflict(_)));
        assert_eq!(secret.patch(patch("v1", "a")).await, Outcome::Done("v2".into()));
        assert_eq!(secret.patch(patch("v1", "a")).await, Outcome::Done("v2".into()));
        assert_eq!(secret.patch(patch("v2", "b")).await, Outcome::Done("v2".into()));
        assert_eq!(secret.versions().await.unwrap().len(), 2);
    });
    hand.clean();
}

#[test]
fn the_list_of_calls_is_the_list_of_fault_points() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.engage("neu"));
    let calls: Vec<(String, CallKind)> = hand.cloud.calls().into_iter().map(|call| (call.name, call.kind)).collect();
    let expected = [
        ("neu.fence.prepare#1", CallKind::Read),
        ("neu.fence.engage/1-deny#1", CallKind::Change),
        ("neu.fence.engage/2-terminate#1", CallKind::Change),
        ("neu.fence.engage/3-stop#1", CallKind::Change),
        ("neu.fence.inspect#1", CallKind::Read),
    ];
    assert_eq!(calls, expected.map(|(name, kind)| (name.to_owned(), kind)));
}

/// A fence acts on the directory that it was told. An honest one proves that it is the server's first; a careless one stops whatever
/// runs there, and what answers at the address goes on.
#[test]
fn a_fence_acts_on_the_place_that_it_was_told() {
    let engage = |place: Place, careless: bool| {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.tweak("neu", Tweak::Place(place));
        if careless {
            hand.cloud.careless(Careless::ActsOnPlace);
        }
        hand.run(async {
            let fence = hand.member("neu").await.fence.unwrap();
            let token = fence.prepare().await.unwrap();
            let request = EngageFence { target: hand.target("neu"), token, key: "orders-1/fence".into() };
            let outcome = fence.engage(request).await;
            let seen = fence.inspect().await.unwrap();
            let running = ["neu", "weu"].map(|name| hand.cloud.look(|truth| truth.member(name).unwrap().is_running()));
            (matches!(outcome, Outcome::NotDone(_)), seen.grade(), running, hand.broken())
        })
    };
    for place in [Place::Copy, Place::Nobody, Place::Of("weu".into())] {
        let honest = engage(place.clone(), false);
        assert_eq!(honest, (true, Grade::Unconfirmable, [true, true], Vec::new()), "{place:?}");
    }
    for place in [Place::Copy, Place::Nobody] {
        let careless = engage(place.clone(), true);
        assert_eq!(careless, (false, Grade::Unconfirmable, [true, true], Vec::new()), "{place:?}");
    }
    let wrong = engage(Place::Of("weu".into()), true);
    assert_eq!(wrong, (false, Grade::Unconfirmable, [true, false], vec![Law::S13]), "it stopped the standby");
    assert_eq!(engage(Place::Own, false), (false, Grade::Confirmed, [false, true], Vec::new()));
}

/// The toolkit's own role writes where that of the applications does not; a write through the route tells.
#[test]
fn what_the_applications_role_meets_is_told_by_a_write_through_the_route_and_not_by_the_probe() {
    for access in [Access::Open, Access::Refused, Access::Full, Access::ReadOnly] {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.tweak("weu", Tweak::Access(access));
        hand.run(hand.switchover());
        let (probed, written) = hand.run(async {
            let probe = hand.member("weu").await.probe;
            (probe.write().await.unwrap(), hand.route().await.write().await.unwrap())
        });
        assert_eq!(probed.accepted, Tri::Yes, "{access:?}");
        let said = written.first().unwrap();
        assert_eq!(said.accepted, Tri::from(access == Access::Open), "{access:?}: {}", said.detail);
        assert!(said.detail.contains(access.refusal().unwrap_or("committed")), "{access:?}: {}", said.detail);
        let errors = hand.cloud.look(|truth| truth.client_errors());
        assert_eq!(errors > 0, access != Access::Open, "{access:?}: {errors} writes of clients failed");
        hand.clean();
        hand.rt.pass(millis(5)).unwrap();
        hand.run(async { hand.route().await.sample(1).await.unwrap() });
        hand.look_again("weu");
        hand.cloud.ended(&PLANNED);
        assert_eq!(hand.broken(), if access == Access::Open { vec![] } else { vec![Law::S22] }, "{access:?}");
    }
}

/// Settings of a former life take effect when the former primary is started as a standby. A rejoin is done when it replays.
#[test]
fn a_rejoin_with_settings_of_a_former_life_is_not_done_and_leaves_no_second_writer() {
    let lives = [FormerLife::LeavesRecovery, FormerLife::DoesNotReplay, FormerLife::DoesNotStart];
    for life in lives {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.tweak("neu", Tweak::FormerLife(life));
        hand.run(hand.switchover());
        hand.run(async {
            let Outcome::Accepted(op) = hand.rejoin().await else { panic!("not accepted") };
            let ended = hand.finished("neu", &op).await;
            assert!(matches!(ended, OpProgress::Failed { .. }), "{life:?}: {ended:?}");
            hand.sleep(millis(20)).await;
            let seen = hand.member("neu").await.database.replication().await.unwrap();
            assert_eq!(seen.streaming, Tri::No, "{life:?}");
            assert_eq!(seen.applied == seen.received, life != FormerLife::DoesNotReplay, "{life:?}: {seen:?}");
            let again = hand.rejoin().await;
            assert!(
                matches!(&again, Outcome::NotDone(why) if why.cause.as_str().contains(life.trouble().unwrap())),
                "{again:?}"
            );
        });
        assert_eq!(hand.names(), ["weu"], "{life:?}");
        hand.look_again("weu");
        hand.cloud.ended(&PLANNED);
        hand.clean();
    }
}

/// What a primary has beside its log is gone with the promotion of another member, and told by the rehearsal while it answers.
#[test]
fn what_a_promotion_drops_is_rehearsed_while_the_primary_answers() {
    let hand = Hand::of(Flavour::Separate);
    hand.cloud.tweak("neu", Tweak::Keeps(Keeps::Unlogged { table: "carts".into(), rows: 12 }));
    let rehearse = || async {
        let becomes = Becomes::Writer { instead_of: "neu".into() };
        hand.member("weu").await.database.rehearse(&RehearseMember { becomes, effort: Effort::Look }).await.unwrap()
    };
    let found = hand.run(rehearse());
    assert_eq!((found.drops.len(), found.untried.len(), found.obstacles.len()), (1, 0, 0));
    assert_eq!(
        (found.drops[0].what.as_str(), found.drops[0].detail.as_str()),
        ("the rows of the unlogged table `carts`", "12 rows")
    );
    hand.cloud.break_down("neu");
    let silent = hand.run(rehearse());
    assert_eq!((silent.drops.len(), silent.untried.len()), (0, 1), "{silent:?}");
    hand.run(async { hand.promote(hand.careless_request()).await });
    assert_eq!(hand.cloud.look(|truth| truth.gone()), ["the rows of the unlogged table `carts`"]);
}

// Every law is seen to fire; S21, S22 and S24 by the planted bugs of the explorer, too.

#[test]
fn s20_fires_when_a_success_without_debts_leaves_a_fence_up() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.switchover());
    hand.look_again("weu");
    hand.cloud.ended(&Ended::Succeeded { planned: true, loss: Loss::Nothing, debts: false });
    assert_eq!(hand.broken(), [Law::S20]);
}

#[test]
fn s26_fires_when_a_success_without_debts_leaves_a_standby_behind() {
    let hand = Hand::new(Setup::pair("orders", "neu", "weu").with("uks", IntendedRole::Follower).fast());
    hand.run(hand.switchover());
    hand.look_again("weu");
    hand.cloud.ended(&Ended::Succeeded { planned: true, loss: Loss::Nothing, debts: false });
    assert_eq!(hand.broken(), [Law::S20, Law::S26]);
    let reads = Hand::new(Setup::pair("orders", "neu", "weu").with("uks", IntendedRole::Reader).fast());
    reads.run(reads.switchover());
    reads.look_again("weu");
    reads.cloud.ended(&Ended::Succeeded { planned: true, loss: Loss::Nothing, debts: false });
    assert_eq!(reads.broken(), [Law::S20], "a reader is left alone");
}

/// A standby follows the new primary with what it has; one that received more than that one's history holds is refused, and keeps it.
#[test]
fn a_standby_that_has_more_is_not_pointed_at_the_new_primary() {
    let follow = async |hand: &Hand, to: &str| {
        let database = hand.member("uks").await.database;
        let endpoint = hand.member(to).await.database.describe().await.unwrap().endpoint;
        let (target, primary) = (hand.target("uks"), hand.target(to));
        database
            .follow(FollowRequest { target, primary, endpoint, parted_at: None, key: "orders-1/follow".into() })
            .await
    };
    let three = || Hand::new(Setup::pair("orders", "neu", "weu").with("uks", IntendedRole::Follower).fast());
    let hand = three();
    hand.run(hand.switchover());
    hand.run(async {
        let Outcome::Accepted(op) = follow(&hand, "weu").await else { panic!("not accepted") };
        hand.finished("uks", &op).await;
    });
    hand.cloud.look(|truth| {
        let uks = truth.member("uks").unwrap();
        assert!(uks.follows() == Some(&"weu".into()) && uks.is_streaming() && uks.lineage() == truth.lineage());
    });
    hand.clean();

    let hand = three();
    hand.cloud.break_replication("weu", Broken::Stalled);
    hand.run(hand.sleep(seconds(2)));
    hand.cloud.break_down("neu");
    hand.run(async {
        hand.promote(hand.careless_request()).await;
        let refused = follow(&hand, "weu").await;
        assert!(
            matches!(&refused, Outcome::NotDone(why) if why.cause.as_str().contains("that weu never had")),
            "{refused:?}"
        );
    });
    hand.cloud.look(|truth| assert_eq!(truth.member("uks").unwrap().follows(), Some(&"neu".into())));
}

#[test]
fn s23_fires_when_a_success_leaves_a_member_that_does_not_replay_or_that_left_recovery() {
    for (life, law) in [(FormerLife::DoesNotReplay, Law::S23), (FormerLife::LeavesRecovery, Law::S1)] {
        let hand = Hand::of(Flavour::Separate);
        hand.cloud.careless(Careless::LeavesPromoted);
        hand.cloud.tweak("neu", Tweak::FormerLife(life));
        hand.run(hand.switchover());
        hand.run(async {
            let Outcome::Accepted(op) = hand.rejoin().await else { panic!("not accepted") };
            hand.finished("neu", &op).await;
            let fence = hand.member("neu").await.fence.unwrap();
            let token = fence.prepare().await.unwrap();
            let request = RetireFence { target: hand.target("neu"), token, key: "k".into() };
            // A member that left recovery follows nobody: its fence is not retired.
            let retired = fence.retire(request).await;
            assert_eq!(retired == Outcome::Done(()), life == FormerLife::DoesNotReplay, "{retired:?}");
        });
        hand.look_again("weu");
        hand.cloud.ended(&Ended::Succeeded { planned: true, loss: Loss::Nothing, debts: false });
        let broken = hand.broken();
        assert!(broken.contains(&law) && broken.contains(&Law::S23), "{life:?}: {broken:?}");
    }
}

#[test]
fn s1_and_s10_fire_when_two_members_take_writes() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async { hand.promote(hand.careless_request()).await });
    assert_eq!(hand.broken(), [Law::S1, Law::S7, Law::S10]);
    let shown = hand.cloud.violations()[1].to_string();
    assert!(shown.contains("weu.promote#1") && shown.contains("promoted to"), "{shown}");
}

#[test]
fn s10_fires_alone_when_the_old_history_is_written_after_the_new_one_was_stopped() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.switchover());
    hand.clean();
    hand.cloud.break_down("weu");
    hand.cloud.operator_lifts("neu");
    hand.run(async {
        let fence = hand.member("neu").await.fence.unwrap();
        let token = fence.prepare().await.unwrap();
        let order = ReleaseOrder::by_operator("k".into(), hand.target("neu"), token, Actor::local("mira"));
        assert_eq!(fence.release(order).await, Outcome::Done(()));
    });
    assert_eq!(hand.broken(), [Law::S10]);
}

#[test]
fn s2_and_s3_fire_when_more_is_lost_than_was_said() {
    let hand = Hand::of(Flavour::Separate);
    hand.cloud.break_down("neu");
    hand.run(async {
        hand.promote(hand.careless_request()).await;
        hand.repoint("weu").await;
    });
    hand.look_again("weu");
    hand.clean();
    hand.cloud.ended(&PLANNED);
    assert_eq!(hand.broken(), [Law::S2]);
    let loss = Loss::AtMost { time: millis(1), amount: None, because: "a guess".into() };
    hand.cloud.ended(&Ended::Succeeded { planned: false, loss, debts: true });
    assert_eq!(hand.broken(), [Law::S2, Law::S3]);
}

#[test]
fn s4_and_s5_fire_when_route_or_secret_name_the_wrong_member_at_the_end() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async {
        hand.drain().await;
        let fence = hand.engage("neu").await;
        let request = hand.planned_request(&fence).await;
        hand.promote(request).await;
        hand.resume("weu").await;
        hand.member("weu").await.probe.write().await.unwrap();
    });
    hand.cloud.ended(&PLANNED);
    assert_eq!(hand.broken(), [Law::S4, Law::S5]);
}

#[test]
fn s20_fires_when_a_success_leaves_the_applications_held_back() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async {
        hand.drain().await;
        let fence = hand.engage("neu").await;
        let request = hand.planned_request(&fence).await;
        hand.promote(request).await;
        hand.repoint("weu").await;
    });
    hand.look_again("weu");
    hand.cloud.ended(&PLANNED);
    assert_eq!(hand.broken(), [Law::S20]);
}

#[test]
fn s5_fires_when_a_fenced_member_is_published() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async {
        hand.drain().await;
        let secret = hand.secret().await;
        let request = PatchSecret { writer: hand.writer("weu"), expected: "v1".into(), key: "k".into() };
        assert!(matches!(secret.patch(request).await, Outcome::Done(_)));
    });
    assert_eq!(hand.broken(), [Law::S5, Law::S7], "weu is a standby, and neu still takes writes");
}

#[test]
fn s9_and_s25_fire_when_the_wrong_member_is_cleared_or_the_right_one_is_not() {
    let hand = Hand::new(Setup { login_fence: true, ..Setup::pair("orders", "neu", "weu").fast() });
    hand.run(async {
        hand.engage("neu").await;
        hand.promote(hand.careless_request()).await;
    });
    hand.clean();
    hand.run(async {
        let fence = hand.member("neu").await.fence.unwrap();
        let (target, was) = (hand.target("neu"), hand.target("neu").lineage);
        let request = ClearFence { target, was, token: None, key: "k".into() };
        assert!(matches!(fence.clear(request).await, Outcome::Conflict(_)), "it was not promoted");
        hand.repoint("weu").await;
    });
    assert_eq!(hand.broken(), [Law::S5, Law::S9, Law::S25]);
}

#[test]
fn s6_fires_on_a_second_promotion_and_on_one_after_an_abort() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.switchover());
    hand.cloud.ended(&Ended::Aborted);
    assert_eq!(hand.broken(), [Law::S6, Law::S20]);
    let hand = Hand::of(Flavour::RoleSwap);
    hand.cloud.suffer(Condition::ClientsCut(MemberId::new("neu")), None);
    hand.run(async {
        for name in ["weu", "neu"] {
            let (from, to) = (if name == "weu" { "neu" } else { "weu" }, name);
            let run = run_id();
            let consent = hand.consent(&run);
            let loss = Loss::Unknown { because: "test".into() };
            let bound = LossBound { run: run.clone(), loss, sampled_at: None, fenced_at: None, asked: None };
            let bounded = admit::loss_bounded(&hand.door(&run), &bound, &consent).unwrap();
            let consented = admit::consented(&hand.door(&run), &consent, &[]).unwrap();
            let request = SwapRequest::forced("k".into(), hand.target(from), hand.target(to), bounded, consented);
            let Outcome::Accepted(op) = hand.member(to).await.database.swap_roles(request).await else { panic!("no") };
            assert_eq!(hand.finished(to, &op).await, OpProgress::Finished);
        }
    });
    assert_eq!(hand.broken(), [Law::S6]);
}

#[test]
fn s8_s13_s14_and_s15_fire_at_the_call() {
    let drain = |prepare: &dyn Fn(&SimCloud)| {
        let hand = Hand::of(Flavour::Separate);
        prepare(&hand.cloud);
        hand.run(hand.drain());
        hand.broken()
    };
    assert_eq!(drain(&|cloud| cloud.cancel_acknowledged()), [Law::S8]);
    assert_eq!(drain(&|cloud| cloud.allow_only([Touch::new("neu", "fence")])), [Law::S13]);
    assert_eq!(drain(&|cloud| cloud.allow_only([Touch::new("app:main", "drain")])), []);
    assert_eq!(drain(&|cloud| cloud.only_look(Some("a dry run"))), [Law::S14]);
    assert_eq!(drain(&|cloud| cloud.lease_lost("engine")), [Law::S15]);
    assert_eq!(drain(&|cloud| cloud.lease_lost("another")), []);
}

#[test]
fn s9_fires_when_a_fence_is_lifted_after_the_promotion_was_asked_for() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(async {
        hand.drain().await;
        let receipt = hand.engage("neu").await;
        let request = hand.planned_request(&receipt).await;
        hand.cloud.faults(FaultPlan::one("weu.promote", Fault::OperationFails(dr_testkit::FailsHow::Absent)));
        hand.promote(request).await;
        let fence = hand.member("neu").await.fence.unwrap();
        let order =
            ReleaseOrder::by_operator("k".into(), hand.target("neu"), receipt.token, Actor::local("nobody asked"));
        assert_eq!(fence.release(order).await, Outcome::Done(()));
    });
    assert_eq!(hand.broken(), [Law::S9]);
}

#[test]
fn s16_fires_when_success_is_claimed_right_after_a_change() {
    let hand = Hand::of(Flavour::Separate);
    hand.run(hand.switchover());
    hand.cloud.ended(&PLANNED);
    assert_eq!(hand.broken(), [Law::S16], "the last call was `resume`");
}

#[test]
fn an_authors_own_law_is_checked_after_every_change() {
    let hand = Hand::of(Flavour::Separate);
    hand.cloud.always("nobody is promoted", |truth| truth.promotions().count() == 0);
    hand.run(hand.switchover());
    assert_eq!(hand.broken(), [Law::Own("nobody is promoted".into())]);
}

#[test]
fn a_world_in_a_file_survives_the_process_and_its_clients_go_on() {
    let dir = std::env::temp_dir().join(format!("dr-testkit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("world.json");
    let rt = VirtualRuntime::new();
    let open = || SimCloud::open(&path, Setup::pair("orders", "neu", "weu").fast(), Arc::new(rt.clone())).unwrap();
    {
        let cloud = open();
        rt.pass(seconds(10)).unwrap();
        assert_eq!(cloud.look(|truth| truth.acknowledged()), 8000);
        let providers = cloud.providers_for("one", CrashSwitch::new());
        rt.run(async {
            let Resolved::App(app) = providers.resolve(Digest::zero(), &cloud.app_ref()).await.unwrap() else {
                panic!("no app")
            };
            let request = DrainRequest { budget: seconds(30), within: seconds(5), key: "k".into() };
            assert!(matches!(app.drain(request).await, Outcome::Accepted(_)));
        })
        .unwrap();
        assert!(cloud.store_trouble().is_none());
    }
    rt.pass(seconds(5)).unwrap();
    let (first, second) = (open(), open());
    assert!(first.look(|truth| truth.app().is_drained()), "what was begun went on while nobody looked");
    first.drift(Drift::Role);
    assert_eq!(second.look(|truth| truth.promotions().count()), 1, "two processes see one world");
    assert!(second.log().iter().any(|line| line.kind == ChangeKind::Promoted && line.by == "drift"));
    rt.pass(seconds(60)).unwrap();
    assert!(second.look(|truth| truth.app().is_open() && truth.acknowledged() > 8000));
    std::fs::write(&path, "{}").unwrap();
    let wrong = SimCloud::open(&path, Setup::pair("orders", "neu", "weu"), Arc::new(rt));
    assert!(wrong.unwrap_err().to_string().contains("holds no simulated cloud"));
    std::fs::remove_dir_all(&dir).unwrap();
}
