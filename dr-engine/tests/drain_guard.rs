//! The drain guard on virtual time: it resumes the old primary when nobody else will, and never behind a fence.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use dr_core::{
    Actor, AppTier, Binding, Grade, GroupName, Kind, Millis, NodeId, Notifier, Outcome, PlanBuilder, ProviderError,
    Purpose, RunId, RunbookId, Step, StepExt, Target, Timestamp, Touch,
    base::{Digest, Epoch, Json, SystemId},
    contract::{
        AppReading, Class, DrainRequest, Lineage, Notice, PositionSample, Providers, Resolved, ResourceKind,
        ResourceRef, ResumeRequest, Runtime as _, verb,
    },
    plan::{Effect, PlanHeader, Policy},
    run::{
        DrainGuard, Event, GuardEnd, Head, InboxRow, Journal, JournalError, Line, Pulse, Record, RunOutcome, replay,
    },
    seconds,
};
use dr_testkit::{MemoryJournal, Setup, SimCloud, VirtualRuntime};
use serde::{Deserialize, Serialize};

macro_rules! step {
    ($name:ident, $kind:literal, $class:expr, $sentence:literal) => {
        #[derive(Debug, Serialize, Deserialize)]
        struct $name {}

        impl Step for $name {
            const KIND: Kind = Kind::new($kind, 1);
            const EFFECT: Effect = Effect::Idempotent;
            const CLASS: Class = $class;
            type Output = ();

            fn sentence(&self) -> String {
                $sentence.into()
            }

            fn touches(&self) -> Vec<Touch> {
                verb::ALL
                    .iter()
                    .filter(|verb| verb.class() == Some($class) && verb.of() == ResourceKind::App)
                    .map(|verb| verb.on(app()))
                    .collect()
            }
        }
    };
}

fn app() -> Binding {
    Binding::app(SimCloud::APP)
}

step!(Drain, "dr.toy-drain", Class::Drain, "hold writes back");
step!(Resume, "dr.toy-resume", Class::Resume, "let writes through");
step!(Fence, "dr.toy-fence", Class::Fence, "fence neu");
step!(Release, "dr.toy-release", Class::ReleaseFence, "release neu");

const BUDGET: Millis = seconds(5);
/// A guard that neither acts nor goes by then never will.
const LONGEST_WATCH: Millis = seconds(600);

/// Whether the engine is dead, as the guard is told.
#[derive(Debug)]
struct Gone(bool);

#[async_trait]
impl Pulse for Gone {
    async fn is_gone(&self, _: &RunId) -> bool {
        self.0
    }
}

struct Scene {
    time: VirtualRuntime,
    cloud: SimCloud,
    journal: MemoryJournal,
    run: RunId,
    head: Mutex<Head>,
}

impl Scene {
    /// A run whose drain is held for real, in a journal and in the simulated cloud.
    fn drained() -> Self {
        let time = VirtualRuntime::new();
        let mut setup = Setup::pair("orders", "neu", "weu").fast();
        setup.drain_expires = false;
        let cloud = SimCloud::new(setup, Arc::new(time.clone()));
        let scene = Self {
            journal: MemoryJournal::new(),
            run: "orders-1".parse().unwrap(),
            cloud,
            time,
            head: Mutex::new(Head::EMPTY),
        };
        scene.time.run(scene.begin()).unwrap();
        scene
    }

    fn header(&self) -> PlanHeader {
        let bindings = [("neu".into(), self.cloud.member_ref("neu")), (app(), self.cloud.app_ref())];
        PlanHeader {
            runbook: RunbookId::new("toy.drain", 1),
            purpose: Purpose::Switchover,
            group: GroupName::new("orders"),
            environment: "test".into(),
            group_digest: Digest::zero(),
            expects: Target {
                member: "neu".into(),
                address: self.cloud.member_ref("neu").address,
                identity: None,
                lineage: Lineage { system: SystemId::new("s"), generation: 1 },
                receives: None,
            },
            bindings: BTreeMap::from(bindings),
            fence_travels: false,
            lineages: BTreeMap::new(),
            allow: BTreeSet::new(),
            policy: Policy {
                gap_budget: BUDGET,
                client_limit: None,
                proof_age: seconds(60),
                fact_age: seconds(60),
                fence: Grade::Confirmed,
                unguarded: false,
                automatic: None,
            },
            receives: BTreeMap::new(),
        }
    }

    async fn begin(&self) {
        let mut plan = PlanBuilder::new(self.header());
        let drain = plan.hold("drain", Drain {}, Resume {});
        let fence = plan.hold("fence", Fence {}.after(&drain), Release {});
        let open = plan.release(drain, &fence);
        plan.retired(fence, &open);
        let (plan, _) = plan.finish();
        let hash = plan.hash().unwrap();
        let started = Event::Started { plan: Box::new(plan), hash, by: Actor::local("mira"), because: "a test".into() };
        let record = Record::after(Head::EMPTY, self.time.now_wall(), Epoch::new(1), started);
        let head = self.journal.create(&self.run, Epoch::new(1), vec![record.line().unwrap()]).await.unwrap();
        *self.head.lock().unwrap() = head;
        self.engine_writes(intended("drain")).await.unwrap();
        let app = match self.cloud.providers().resolve(Digest::zero(), &self.cloud.app_ref()).await.unwrap() {
            Resolved::App(app) => app,
            other @ (Resolved::Member(_) | Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::Readers(_)) => {
                unreachable!("{other:?}")
            }
        };
        let request = DrainRequest {
            budget: BUDGET,
            within: seconds(1),
            key: self.run.key(&Digest::zero(), &NodeId::new("drain")),
        };
        assert!(matches!(app.drain(request).await, Outcome::Done(()) | Outcome::Accepted(_)));
        self.engine_writes(finished("drain")).await.unwrap();
    }

    async fn engine_writes(&self, event: Event) -> Result<(), JournalError> {
        let head = *self.head.lock().unwrap();
        let line = Record::after(head, self.time.now_wall(), Epoch::new(1), event).line().unwrap();
        let head = self.journal.append(&self.run, Epoch::new(1), head.seq, vec![line]).await?;
        *self.head.lock().unwrap() = head;
        Ok(())
    }

    fn guard(&self, engine_is_gone: bool) -> DrainGuard {
        DrainGuard {
            run: self.run.clone(),
            runtime: Arc::new(self.time.clone()),
            journal: Arc::new(self.journal.clone()),
            providers: self.cloud.providers(),
            pulse: Arc::new(Gone(engine_is_gone)),
        }
    }

    fn watch(&self, guard: DrainGuard) -> GuardEnd {
        let time = self.time.clone();
        let watched = async move { guard.ready().await.unwrap().watch().await };
        let bounded = async move {
            let late = time.sleep_until(time.now_mono() + LONGEST_WATCH);
            match futures_util::future::select(Box::pin(watched), late).await {
                futures_util::future::Either::Left((end, _)) => end,
                futures_util::future::Either::Right(_) => panic!("the guard still watches after {LONGEST_WATCH:?}"),
            }
        };
        self.time.run(bounded).unwrap()
    }

    fn drained_now(&self) -> bool {
        self.cloud.look(|truth| !truth.app().is_open())
    }

    fn events(&self) -> Vec<String> {
        let lines = self.time.run(self.journal.read(&self.run, 0)).unwrap().unwrap();
        let kind = |line: &Line| format!("{:?}", Record::parse(line).unwrap().event.kind());
        lines.iter().map(kind).collect()
    }
}

fn intended(node: &str) -> Event {
    let run: RunId = "orders-1".parse().unwrap();
    let node = NodeId::new(node);
    let (key, request) = (run.key(&Digest::zero(), &node), Digest::zero());
    Event::Intended { node, attempt: 1, key, facts: Vec::new(), pre_image: None, request }
}

fn finished(node: &str) -> Event {
    Event::Finished { node: NodeId::new(node), output: Json(serde_json::Value::Null), calls: Vec::new() }
}

/// Covers "the orchestrator killed during the gap and never restarted".
#[test]
fn a_dead_engine_is_replaced_within_the_budget() {
    let scene = Scene::drained();
    let end = scene.watch(scene.guard(true));
    let GuardEnd::Resumed { onto, held } = end else { panic!("{end:?}") };
    assert_eq!(onto.as_str(), "neu");
    assert!(held <= BUDGET, "writes were stopped for {held:?}");
    assert!(!scene.drained_now());
    assert_eq!(scene.events(), ["Started", "Intended", "Finished", "LeaseTaken", "DrainOverBudget"]);
    let late = scene.time.run(scene.engine_writes(intended("fence"))).unwrap();
    assert!(matches!(late, Err(JournalError::Fenced { .. })), "the engine that was thought dead writes nothing more");
    assert_eq!(scene.cloud.violations(), []);
}

/// A living engine turns back by itself; one that hangs is not waited for for ever.
#[test]
fn a_hanging_engine_gets_its_grace_and_no_more() {
    let scene = Scene::drained();
    let end = scene.watch(scene.guard(false));
    let GuardEnd::Resumed { held, .. } = end else { panic!("{end:?}") };
    assert!(held >= BUDGET.saturating_add(DrainGuard::GRACE), "{held:?}");
    assert!(held < BUDGET.saturating_add(DrainGuard::GRACE).saturating_add(seconds(1)), "{held:?}");
}

#[test]
fn behind_a_fence_intent_it_only_tells() {
    let scene = Scene::drained();
    scene.time.run(scene.engine_writes(intended("fence"))).unwrap().unwrap();
    let end = scene.watch(scene.guard(true));
    assert!(matches!(&end, GuardEnd::PastFence { .. }), "{end:?}");
    assert!(scene.drained_now(), "nobody lets writes through behind a fence");
    assert_eq!(scene.cloud.look(|truth| truth.notices().count()), 1, "people are told once");
    assert_eq!(scene.events().last().unwrap(), "Intended", "and the run is left as it is");
}

#[test]
fn a_run_that_ended_needs_no_guard() {
    let scene = Scene::drained();
    let ended = Event::Ended { outcome: RunOutcome::HandedOver { reason: "a test".into() } };
    let aborting = Event::Aborting { reason: "a test".into() };
    scene.time.run(scene.engine_writes(aborting)).unwrap().unwrap();
    scene.time.run(scene.engine_writes(ended)).unwrap().unwrap();
    assert_eq!(scene.watch(scene.guard(true)), GuardEnd::RunOver);
    assert!(scene.drained_now());
}

/// The last moment: the engine makes its fence intent durable just before the guard takes the pen away.
#[test]
fn a_fence_intent_at_the_last_moment_wins() {
    let scene = Arc::new(Scene::drained());
    let guard = DrainGuard { journal: Bad::new(&scene, How::LastMoment), ..scene.guard(true) };
    let end = scene.watch(guard);
    assert!(matches!(&end, GuardEnd::PastFence { .. }), "{end:?}");
    assert!(scene.drained_now());
}

/// A full journal keeps nobody's writes stopped: the guard acts although it cannot write down that it does.
#[test]
fn a_dead_engine_and_a_journal_that_cannot_be_written() {
    let scene = Arc::new(Scene::drained());
    let guard = DrainGuard { journal: Bad::new(&scene, How::Full), ..scene.guard(true) };
    assert!(matches!(scene.watch(guard), GuardEnd::Resumed { .. }));
    let scene = Arc::new(Scene::drained());
    let guard = DrainGuard { journal: Bad::new(&scene, How::Full), ..scene.guard(false) };
    let waited = scene.time.run(async {
        let watch = std::pin::pin!(guard.ready().await.unwrap().watch());
        let limit = scene.time.sleep_until(scene.time.now_mono() + seconds(30));
        matches!(futures_util::future::select(watch, limit).await, futures_util::future::Either::Right(_))
    });
    assert!(waited.unwrap(), "a living engine may still make a fence intent durable: nothing is done behind its back");
    assert!(scene.drained_now());
}

#[test]
fn the_resumed_run_ends_as_a_clean_abort() {
    let scene = Scene::drained();
    scene.watch(scene.guard(true));
    let lines = scene.time.run(scene.journal.read(&scene.run, 0)).unwrap().unwrap();
    let (state, _) = replay(&scene.run, &lines).unwrap();
    let next = format!("{:?}", dr_core::run::decide(&state));
    assert!(next.contains("Aborting") && next.contains("outlived its budget"), "{next}");
}

/// A journal that behaves badly at the moment when the guard reaches for the pen.
struct Bad {
    scene: Arc<Scene>,
    how: How,
    done: Mutex<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// The engine's fence intent becomes durable just before.
    LastMoment,
    /// Nothing can be written any more: a full disk.
    Full,
}

impl Bad {
    fn new(scene: &Arc<Scene>, how: How) -> Arc<Self> {
        Arc::new(Self { scene: Arc::clone(scene), how, done: Mutex::new(false) })
    }

    fn inner(&self) -> &MemoryJournal {
        &self.scene.journal
    }
}

fn full() -> JournalError {
    JournalError::Store { doing: "append".into(), full: true, source: "no room".into() }
}

impl std::fmt::Debug for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bad")
    }
}

#[async_trait]
impl Journal for Bad {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.inner().create(run, epoch, lines).await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        if self.how == How::Full {
            return Err(full());
        }
        let first = !std::mem::replace(&mut *self.done.lock().unwrap(), true);
        if first {
            self.scene.engine_writes(intended("fence")).await.unwrap();
        }
        self.inner().take_over(run, epoch).await
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        if self.how == How::Full {
            return Err(full());
        }
        self.inner().append(run, epoch, expected, lines).await
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        self.inner().seal(run, seq).await
    }

    async fn use_reserve(&self, run: &RunId) -> bool {
        self.inner().use_reserve(run).await
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        self.inner().read(run, from).await
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.inner().runs().await
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        self.inner().post(run, row).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.inner().inbox(run).await
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.inner().epoch(run).await
    }

    fn mark(&self, run: &RunId) -> u64 {
        self.inner().mark(run)
    }

    async fn changed(&self, run: &RunId, since: u64) {
        self.inner().changed(run, since).await;
    }
}

/// How the calls of a tier or a notifier go wrong.
#[derive(Clone, Copy, Debug)]
enum Astray {
    Hangs,
    Panics,
}

/// The tier and the notifiers of the cloud, behind calls that go wrong: the first resume, the first look, and every notice.
#[derive(Debug)]
struct Stray {
    inner: Arc<dyn Providers>,
    how: Astray,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Debug)]
struct StrayTier {
    inner: Arc<dyn AppTier>,
    how: Astray,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Debug)]
struct StrayBell(Astray);

async fn go_astray(how: Astray) {
    match how {
        Astray::Hangs => std::future::pending().await,
        Astray::Panics => panic!("a planted panic"),
    }
}

impl StrayTier {
    async fn first(&self, verb: &'static str) {
        let first = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(verb);
            calls.iter().filter(|call| **call == verb).count() == 1
        };
        if first {
            go_astray(self.how).await;
        }
    }
}

#[async_trait]
impl AppTier for StrayTier {
    async fn limit(&self) -> Result<Millis, ProviderError> {
        self.inner.limit().await
    }

    fn drain_expires_by_itself(&self) -> bool {
        self.inner.drain_expires_by_itself()
    }

    async fn read(&self) -> Result<AppReading, ProviderError> {
        self.first("read").await;
        self.inner.read().await
    }

    async fn drain(&self, request: DrainRequest) -> Outcome<()> {
        self.inner.drain(request).await
    }

    async fn resume(&self, request: ResumeRequest) -> Outcome<()> {
        self.first("resume").await;
        self.inner.resume(request).await
    }

    fn poll_every(&self) -> Millis {
        self.inner.poll_every()
    }

    fn manual(&self, _verb: &str) -> Vec<String> {
        panic!("a planted panic")
    }
}

#[async_trait]
impl Notifier for StrayBell {
    async fn notify(&self, _notice: Notice) -> Result<(), ProviderError> {
        go_astray(self.0).await;
        Ok(())
    }
}

#[async_trait]
impl Providers for Stray {
    async fn resolve(&self, group: Digest, wanted: &ResourceRef) -> Result<Resolved, ProviderError> {
        Ok(match self.inner.resolve(group, wanted).await? {
            Resolved::App(inner) => {
                Resolved::App(Arc::new(StrayTier { inner, how: self.how, calls: Arc::clone(&self.calls) }))
            }
            other @ (Resolved::Member(_) | Resolved::Secret(_) | Resolved::Traffic(_) | Resolved::Readers(_)) => other,
        })
    }

    fn notifiers(&self, _group: Digest) -> Vec<Arc<dyn Notifier>> {
        vec![Arc::new(StrayBell(self.how))]
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, ProviderError> {
        self.inner.samples(group, since).await
    }
}

/// A tier whose resume or look hangs, or panics, held the guard for ever, and so did a notifier: nobody gave the drain back.
#[test]
fn bug_a_tier_or_notifier_that_hangs_or_panics_does_not_hold_the_guard() {
    for how in [Astray::Hangs, Astray::Panics] {
        let scene = Scene::drained();
        let calls = Arc::default();
        let providers = Arc::new(Stray { inner: scene.cloud.providers(), how, calls: Arc::clone(&calls) });
        let end = scene.watch(DrainGuard { providers, ..scene.guard(true) });
        let GuardEnd::Resumed { held, .. } = end else { panic!("{end:?}") };
        assert!(held <= seconds(30), "{how:?}: {held:?}");
        assert!(!scene.drained_now(), "{how:?}");
        assert_eq!(*calls.lock().unwrap(), ["resume", "read", "resume", "read"], "{how:?}");
    }
}
