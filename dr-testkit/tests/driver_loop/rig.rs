//! One run, its journal, its leases, and the engines that drive it, all on virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use dr_core::{
    Actor, Answer, Binding, Grade, GroupName, Millis, NodeId, Plan, PlanBuilder, Purpose, RunId, RunbookId, Target,
    Timestamp, Touch,
    base::{Digest, Epoch, Json, ResourceAddress, SystemId},
    contract::{Fact, Lineage, ResourceKind, ResourceRef, Runtime},
    millis, minutes,
    plan::{PlanHeader, Policy},
    run::{
        Drive, DriveError, Event, EventKind, Head, InboxRow, Journal, Lease, LeaseError, LeaseRequest, LeaseStore,
        NodePhase, Phase, Record, Request, RunOutcome, RunState, begin, drive, lease_keys, replay,
    },
    seconds,
};
use dr_testkit::{Halt, JournalTrouble, MemoryJournal, MemoryLeases, VirtualRuntime};

use crate::{
    stubborn::Stubborn,
    world::{Cloud, World, catalog},
};

/// The things that a plan of these tests may bind; `neu` is the writer that every plan expects.
const THINGS: [&str; 7] = ["neu", "weu", "a", "b", "c", "drain", "fence"];

pub(crate) fn policy() -> Policy {
    Policy {
        gap_budget: seconds(30),
        client_limit: None,
        proof_age: minutes(1),
        fact_age: minutes(1),
        fence: Grade::Confirmed,
        unguarded: false,
        automatic: Some("a test".into()),
    }
}

/// A policy under which people are asked.
pub(crate) fn asked() -> Policy {
    Policy { automatic: None, ..policy() }
}

fn bindings(prefix: &str) -> BTreeMap<Binding, ResourceRef> {
    let bound = |name: &str, kind| ResourceRef {
        provider: "test.cloud".into(),
        kind,
        address: ResourceAddress::new(format!("{prefix}{name}-1")),
        identity: None,
        region: None,
        profile: None,
    };
    let mut all: BTreeMap<Binding, ResourceRef> =
        THINGS.iter().map(|name| ((*name).into(), bound(name, ResourceKind::Database))).collect();
    all.insert(Binding::app("api"), bound("app", ResourceKind::App));
    all
}

pub(crate) struct Rig {
    pub(crate) rt: VirtualRuntime,
    pub(crate) journal: MemoryJournal,
    pub(crate) leases: MemoryLeases,
    pub(crate) world: World,
    pub(crate) run: RunId,
    pub(crate) plan: Plan,
    /// What stands between the engines and their journal, if something does.
    pub(crate) stubborn: Option<Arc<Stubborn>>,
    engines: Mutex<u32>,
}

/// What an engine's drive came to, once it has.
pub(crate) type Ended = Arc<Mutex<Option<Result<RunOutcome, DriveError>>>>;

impl Rig {
    /// A plan under which nobody is asked.
    pub(crate) fn new(fill: impl FnOnce(&mut PlanBuilder)) -> Self {
        Self::with(policy(), fill)
    }

    pub(crate) fn with(policy: Policy, fill: impl FnOnce(&mut PlanBuilder)) -> Self {
        Self::of(&GroupName::new("orders"), "", policy, fill)
    }

    /// The same with another group's name; `prefix` tells its resources from those of others.
    pub(crate) fn of(group: &GroupName, prefix: &str, policy: Policy, fill: impl FnOnce(&mut PlanBuilder)) -> Self {
        let rt = VirtualRuntime::new();
        let run = RunId::new(group.clone(), 1);
        let journal = MemoryJournal::new();
        let world = World::new(rt.clone(), journal.clone(), run.clone());
        let mut builder = PlanBuilder::new(PlanHeader {
            runbook: RunbookId::new("trial.runbook", 1),
            purpose: Purpose::Drill,
            group: group.clone(),
            environment: "test".into(),
            group_digest: Digest::zero(),
            expects: Target {
                member: "neu".into(),
                address: ResourceAddress::new(format!("{prefix}neu-1")),
                identity: None,
                lineage: Lineage { system: SystemId::new("s"), generation: 1 },
                receives: None,
            },
            bindings: bindings(prefix),
            fence_travels: false,
            lineages: BTreeMap::new(),
            allow: BTreeSet::from([Touch::new("queue:billing", "pause")]),
            policy,
            receives: BTreeMap::new(),
        });
        fill(&mut builder);
        let (plan, faults) = builder.finish();
        assert!(faults.is_empty(), "{faults:?}");
        Self { rt, journal, leases: MemoryLeases::new(), world, run, plan, stubborn: None, engines: Mutex::new(0) }
    }

    /// A new engine: a process of its own on the same host.
    pub(crate) fn engine(&self) -> Engine {
        let mut engines = self.engines.lock().unwrap();
        *engines += 1;
        let rt = self.rt.process();
        Engine {
            name: format!("engine-{engines}"),
            journal: match &self.stubborn {
                Some(stubborn) => Arc::clone(stubborn) as Arc<dyn Journal>,
                None => Arc::new(self.journal.for_process(rt.crash_switch())),
            },
            leases: self.leases.process(),
            world: self.world.clone(),
            run: self.run.clone(),
            plan: self.plan.clone(),
            rt,
        }
    }

    /// One engine from the beginning to the end.
    pub(crate) fn go(&self) -> RunOutcome {
        let engine = self.engine();
        engine.rt.run(engine.start()).unwrap().unwrap()
    }

    pub(crate) fn state(&self) -> RunState {
        replay(&self.run, &self.journal.lines(&self.run)).unwrap().0
    }

    pub(crate) fn begun(&self) -> bool {
        !self.journal.lines(&self.run).is_empty()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.journal.lines(&self.run).iter().map(|line| Record::parse(line).unwrap()).collect()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.records().into_iter().map(|record| record.event).collect()
    }

    /// What happened to one step, in order.
    pub(crate) fn story(&self, node: &str) -> Vec<EventKind> {
        let node = NodeId::new(node);
        self.events().iter().filter(|event| event.node() == Some(&node)).map(Event::kind).collect()
    }

    pub(crate) fn count(&self, kind: EventKind) -> usize {
        self.events().iter().filter(|event| event.kind() == kind).count()
    }

    /// Why messages did not count, in order.
    pub(crate) fn turned_away(&self) -> Vec<String> {
        let events = self.events().into_iter();
        events.filter_map(|event| if let Event::TurnedAway { why, .. } = event { Some(why) } else { None }).collect()
    }

    /// Seconds of virtual time that have passed.
    pub(crate) fn now(&self) -> Millis {
        Millis::of(self.rt.now_mono().since_start())
    }

    pub(crate) fn at(&self, since_start: Millis) -> Timestamp {
        let _ = self;
        VirtualRuntime::ORIGIN + since_start
    }

    /// Lets time pass until `seen`, at most two hours; looks when something was appended, and now and then.
    pub(crate) fn wait(&self, what: &str, seen: impl Fn(&Self) -> bool) {
        let mut appends = None;
        for step in 0..720_000 {
            let now = Some(self.journal.appends());
            if (now != appends || step % 50 == 0) && seen(self) {
                return;
            }
            appends = now;
            self.rt.pass(millis(10)).unwrap();
        }
        let last = self.records().last().cloned();
        panic!("not seen within two hours: {what}; the journal ends with {last:?}");
    }

    pub(crate) fn wait_phase(&self, phase: Phase) {
        self.wait(&format!("{phase:?}"), |rig| rig.begun() && rig.state().phase == phase);
    }

    pub(crate) fn wait_node(&self, node: &str, phase: NodePhase) {
        self.wait(&format!("{node} {phase:?}"), |rig| rig.begun() && rig.state().phase_of(&NodeId::new(node)) == phase);
    }

    pub(crate) fn wait_end(&self, ended: &Ended) -> Result<RunOutcome, DriveError> {
        self.wait("the end of the drive", |_| ended.lock().unwrap().is_some());
        ended.lock().unwrap().take().unwrap()
    }

    /// Posts a request now.
    pub(crate) fn post(&self, id: &str, request: &Request) {
        let row = InboxRow {
            id: id.to_owned(),
            at: self.rt.now_wall(),
            request: Json(serde_json::to_value(request).unwrap()),
        };
        let journal = self.journal.clone();
        let run = self.run.clone();
        self.rt.run(async move { journal.post(&run, row).await }).unwrap().unwrap();
    }

    /// Answers what is asked now.
    pub(crate) fn answer(&self, id: &str, choice: &str, by: &Actor) {
        let ask = self.state().ask.unwrap();
        self.post(id, &Request::Answer(Answer::choose(choice, ask.digest().unwrap(), by.clone())));
    }

    pub(crate) fn trouble(&self, trouble: JournalTrouble) {
        self.journal.trouble(trouble);
    }

    /// Nothing ever reached the cloud without a durable intent, and nothing changed twice.
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.world.wrong(), Vec::<String>::new());
    }
}

/// One engine process.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) rt: VirtualRuntime,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) leases: MemoryLeases,
    world: World,
    run: RunId,
    plan: Plan,
}

impl Engine {
    pub(crate) async fn lease(&self, above: Epoch, take_over: bool) -> Result<Lease, LeaseError> {
        let request = LeaseRequest {
            keys: lease_keys(&self.plan),
            run: self.run.clone(),
            holder: self.name.clone(),
            above,
            take_over,
            at: self.rt.now_wall(),
        };
        self.leases.acquire(request).await
    }

    /// What a drive under this lease is made of.
    pub(crate) fn drive(&self, lease: Lease) -> Drive {
        Drive {
            run: self.run.clone(),
            runtime: Arc::new(self.rt.clone()),
            journal: Arc::clone(&self.journal),
            leases: Arc::new(self.leases.clone()),
            providers: Arc::new(Cloud { world: self.world.clone(), engine: self.name.clone() }),
            catalog: catalog(&self.world),
            lease,
        }
    }

    /// Begins the run and drives it. Plans without a promotion pass the rules; what a promotion needs beside itself is a whole
    /// runbook, which has tests of its own, so the journal of such a plan is begun by hand.
    pub(crate) async fn start(&self) -> Result<RunOutcome, DriveError> {
        let lease = self.lease(Epoch::default(), false).await.unwrap();
        let with = self.drive(lease);
        let by = person("mira");
        if self.plan.pivot().is_none() {
            let verified = self.plan.clone().verify(Vec::new(), &with.catalog);
            begin(&with, &verified.unwrap_or_else(|refusal| panic!("{refusal}")), &by, "a test").await?;
        } else {
            let hash = self.plan.hash().unwrap();
            let event = Event::Started { plan: Box::new(self.plan.clone()), hash, by, because: "a test".into() };
            let record = Record::after(Head::EMPTY, self.rt.now_wall(), with.lease.epoch, event);
            self.journal.create(&self.run, with.lease.epoch, vec![record.line().unwrap()]).await.unwrap();
        }
        drive(with).await
    }

    /// Takes the lease above what the journal says, and drives.
    pub(crate) async fn resume(&self) -> Result<RunOutcome, DriveError> {
        drive(self.resumed(false).await.unwrap()).await
    }

    /// What a resume is driven with.
    pub(crate) async fn resumed(&self, take_over: bool) -> Result<Drive, LeaseError> {
        let lines = self.journal.read(&self.run, 0).await.unwrap();
        let above = replay(&self.run, &lines).unwrap().0.epoch;
        Ok(self.drive(self.lease(above, take_over).await?))
    }

    /// Drives beside everything else.
    pub(crate) fn spawn(&self, how: impl Future<Output = Result<RunOutcome, DriveError>> + Send + 'static) -> Ended {
        let ended = Ended::default();
        let seen = Arc::clone(&ended);
        self.rt.spawn_detached(Box::pin(async move {
            let result = how.await;
            *seen.lock().unwrap() = Some(result);
        }));
        ended
    }

    pub(crate) fn spawn_start(&self) -> Ended {
        let engine = self.clone();
        self.spawn(async move { engine.start().await })
    }

    pub(crate) fn spawn_resume(&self) -> Ended {
        let engine = self.clone();
        self.spawn(async move { engine.resume().await })
    }

    /// The process is gone, its calls under way with it.
    pub(crate) fn die(&self) {
        self.rt.kill();
        self.leases.die();
    }

    /// Drives until it ends or crashes.
    pub(crate) fn run(&self, how: impl Future<Output = Result<RunOutcome, DriveError>>) -> Result<RunOutcome, Halt> {
        let halted = self.rt.run(how);
        if halted.is_err() {
            self.leases.die();
        }
        halted.map(|ended| ended.unwrap())
    }
}

pub(crate) fn person(name: &str) -> Actor {
    Actor::local(name).authenticated("a test", name)
}

pub(crate) fn fact(name: &str, value: &str) -> Fact {
    Fact::equal(name, value, "test", VirtualRuntime::ORIGIN)
}
