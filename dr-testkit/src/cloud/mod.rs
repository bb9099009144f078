//! The simulated cloud: providers over a [`World`], every call a numbered fault point.

mod backend;
mod database;
mod fault;
mod fence;
mod line;
mod plane;
mod probe;
mod providers;
mod rehearse;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dr_core::{
    MemberId, Millis, Plan, RunId, Touch,
    contract::{FenceReceipt, Providers, Rows, Runtime, verb},
    run::{Event, Record},
};

pub use backend::SimBackend;
pub(crate) use database::told;
pub use fault::{BadFault, Broken, CallKind, Drift, Fault, FaultPlan};
pub use line::CallRecord;
pub(crate) use line::{Plane, Point};
pub(crate) use providers::SimProviders;
pub use store::OpenError;

use crate::{
    crash::CrashSwitch,
    journal::MemoryJournal,
    truth::{MemberTruth, Truth},
    world::{
        Access, Careless, ChangeKind, Condition, Due, Ended, FormerLife, Keeps, Law, Place, Setup, TruthLine,
        Violation, World,
    },
};

type Answer = Arc<dyn Fn(&MemberTruth<'_>) -> Rows + Send + Sync>;

/// A simulated cloud with one group. Clones share the world.
#[derive(Clone)]
pub struct SimCloud {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) setup: Setup,
    world: Mutex<World>,
    store: Option<store::Store>,
    pub(crate) calls: Mutex<line::Calls>,
    answers: Mutex<BTreeMap<String, Answer>>,
    pub(crate) journal: Mutex<Option<MemoryJournal>>,
    current: Mutex<(String, CrashSwitch)>,
    /// How many lines of each run were heard.
    heard: Mutex<BTreeMap<RunId, usize>>,
}

impl fmt::Debug for SimCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCloud").field("calls", &self.calls().len()).finish_non_exhaustive()
    }
}

impl SimCloud {
    /// A cloud with the group of `setup`, whose time is that of `runtime`.
    #[must_use]
    pub fn new(setup: Setup, runtime: Arc<dyn Runtime>) -> Self {
        let world = World::new(setup, runtime.now_wall().millis());
        Self::around(world, runtime, None)
    }

    /// The cloud that is kept in the file at `path`, or a new one of `setup` kept there from now on. Clients have gone on writing
    /// since it was last looked at. Several processes may have it open.
    ///
    /// # Errors
    /// The file cannot be read, written or understood.
    pub fn open(path: &Path, setup: Setup, runtime: Arc<dyn Runtime>) -> Result<Self, OpenError> {
        let fresh = World::new(setup, runtime.now_wall().millis());
        let (store, world) = store::Store::open(path, fresh)?;
        Ok(Self::around(world, runtime, Some(store)))
    }

    fn around(world: World, runtime: Arc<dyn Runtime>, store: Option<store::Store>) -> Self {
        let inner = Inner {
            runtime,
            setup: world.setup.clone(),
            world: Mutex::new(world),
            store,
            calls: Mutex::default(),
            answers: Mutex::default(),
            journal: Mutex::default(),
            current: Mutex::new(("engine".to_owned(), CrashSwitch::new())),
            heard: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The providers, for an engine without injected crashes.
    #[must_use]
    pub fn providers(&self) -> Arc<dyn Providers> {
        self.providers_for("engine", CrashSwitch::new())
    }

    /// The providers as one process uses them; an injected crash trips `switch`.
    #[must_use]
    pub fn providers_for(&self, process: &str, switch: CrashSwitch) -> Arc<dyn Providers> {
        Arc::new(providers::SimProviders { line: self.line(process, switch) })
    }

    pub(crate) fn line(&self, process: &str, switch: CrashSwitch) -> line::Line {
        line::Line { cloud: self.clone(), process: process.to_owned(), switch }
    }

    /// The faults from now on.
    pub fn faults(&self, plan: FaultPlan) {
        self.calls_lock().plan = plan;
    }

    /// Every call so far, in order: the list from which fault positions are generated.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.calls_lock().records.clone()
    }

    /// Calls of users' own services are made by this process from now on.
    pub(crate) fn current_process(&self, name: &str, switch: CrashSwitch) {
        *self.inner.current.lock().unwrap_or_else(PoisonError::into_inner) = (name.to_owned(), switch);
    }

    pub(crate) fn current_line(&self) -> line::Line {
        let (process, switch) = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.line(&process, switch)
    }

    /// Whether a fault to come asks for a second engine.
    pub(crate) fn expects_rival(&self) -> bool {
        self.calls_lock().plan.iter().any(|(_, fault)| fault == Fault::Rival)
    }

    /// Whether a fault asked for a second engine since this was last asked (F17).
    #[must_use]
    pub fn rival_wanted(&self) -> bool {
        std::mem::take(&mut self.calls_lock().rival)
    }

    /// Looks at the truth, as it is now.
    pub fn look<T>(&self, look: impl FnOnce(&Truth<'_>) -> T) -> T {
        self.with(|world| look(&Truth { world }))
    }

    /// The laws that were broken so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.with(|world| world.violations.clone())
    }

    /// Everything that really changed so far.
    #[must_use]
    pub fn log(&self) -> Vec<TruthLine> {
        self.with(|world| world.log.clone())
    }

    /// Checks the laws of the end of a run (S2 to S6, S16).
    pub fn ended(&self, ended: &Ended) {
        self.with(|world| world.check_end(ended));
        let calls = self.calls_lock();
        let later = calls.records.iter().rev().take_while(|call| call.kind == CallKind::Read || call.is_clean_up());
        let looked = later.filter(|call| call.looks_at_database()).count() > 0;
        let changed = calls.records.iter().any(|call| call.kind != CallKind::Read);
        drop(calls);
        if changed && !looked && matches!(ended, Ended::Succeeded { .. }) {
            self.violate(Law::S16, "success was claimed, and the last call was a change that nobody looked at");
        }
    }

    /// Records a violation that the harness found.
    pub fn violate(&self, law: Law, text: &str) {
        self.with(|world| world.violate(law, text));
    }

    /// A law of one's own, checked after every change.
    pub fn always(&self, name: &str, law: impl Fn(&Truth<'_>) -> bool + Send + Sync + 'static) {
        self.with(|world| world.hooks.laws.push((name.to_owned(), Arc::new(law))));
    }

    /// What the databases answer to the named query.
    pub fn answer(&self, query: &str, answer: impl Fn(&MemberTruth<'_>) -> Rows + Send + Sync + 'static) {
        let mut answers = self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(query.to_owned(), Arc::new(answer));
    }

    /// Links the journal of the engines, so that each call knows how much was durable when it was sent (S11).
    pub fn watch_journal(&self, journal: &MemoryJournal) {
        *self.inner.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(journal.clone());
    }

    /// Hears what became durable since the last call: what it claims of a fence is compared with the truth (S21).
    pub(crate) fn hear(&self, journal: &MemoryJournal) {
        let news = journal.news(&mut self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner));
        for record in news.iter().filter_map(|line| Record::parse(line).ok()) {
            let Event::Finished { output, .. } = record.event else { continue };
            if let Ok(receipt) = serde_json::from_value::<FenceReceipt>(output.0) {
                self.with(|world| world.fence_claimed(&receipt));
            }
        }
    }

    /// A new run begins: the laws about runs count from here.
    pub fn run_begins(&self) {
        self.with(|world| {
            world.begin_run();
        });
    }

    /// From now on nothing may be changed, because of `why` (S14); `None` ends it.
    pub fn only_look(&self, why: Option<&str>) {
        self.with(|world| world.duties.only_look = why.map(str::to_owned));
    }

    /// A cancellation was acknowledged: from now on only releases are legal (S8).
    pub fn cancel_acknowledged(&self) {
        self.with(|world| world.duties.cancelled = true);
    }

    /// All that the plan allows to be touched (S13). Whoever may drain may also end the wait of those that are drained.
    pub fn allow_only(&self, touches: impl IntoIterator<Item = Touch>) {
        let mut touches: BTreeSet<Touch> = touches.into_iter().collect();
        let drained = touches.iter().find(|touch| verb::DRAIN.is(touch)).map(|touch| touch.resource.clone());
        touches.extend(drained.map(|tier| verb::FAIL_FAST.on(tier)));
        self.with(|world| world.duties.allow = Some(touches));
    }

    /// Tells the laws what the plan of the run that begins may touch, whether it promotes anybody, and what it leaves out.
    pub fn run_has(&self, plan: &Plan) {
        self.allow_only(plan.touches());
        let (keeps_writer, left_out) = (plan.pivot().is_none(), plan.leaves_out.keys().cloned().collect());
        self.with(|world| {
            world.duties.keeps_writer = keeps_writer;
            world.duties.left_out = left_out;
        });
    }

    /// Deletes a member, as somebody else might: its provider knows no such resource from now on.
    pub fn delete(&self, member: &str) {
        let member = MemberId::new(member);
        self.with(|world| {
            if world.instances.remove(&member).is_some() {
                world.line("drift", ChangeKind::World, member.as_str(), "is deleted");
            }
        });
    }

    /// Points the secret and every route at a member, as somebody else might.
    pub fn point_at(&self, member: &str) {
        let member = MemberId::new(member);
        self.with(|world| {
            let endpoint = world.instances.get(&member).map(|found| found.endpoint.clone());
            if let Some(endpoint) = endpoint {
                world.publish(endpoint, None, "drift");
            }
            for route in 0..world.routes.len() {
                // It is there, as it was counted.
                drop(world.point_route(route, &member, "drift"));
            }
        });
    }

    /// An operator ordered the fence of this member to be lifted (S9).
    pub fn operator_lifts(&self, member: &str) {
        self.with(|world| {
            world.duties.operator_lifts.insert(MemberId::new(member));
        });
    }

    /// A person accepted the risk of two writers (S1a).
    pub fn risk_accepted(&self) {
        self.with(|world| world.duties.risk_accepted = true);
    }

    /// The engine in this process lost its lease and knows it (S15).
    pub fn lease_lost(&self, process: &str) {
        self.with(|world| {
            world.duties.stale.insert(process.to_owned());
        });
    }

    /// A condition begins now; it ends after `lasts`, if that is said.
    pub fn suffer(&self, condition: Condition, lasts: Option<Millis>) {
        let lasts = lasts.map(ms);
        self.with(|world| world.suffer(condition, lasts));
    }

    /// The condition ends now.
    pub fn heal(&self, condition: &Condition) {
        self.with(|world| world.heal(condition));
    }

    /// The server of a member dies.
    pub fn break_down(&self, member: &str) {
        self.with(|world| world.break_down(&MemberId::new(member), "drift"));
    }

    /// A dead member comes back after `after`.
    pub fn comes_back(&self, member: &str, after: Millis) {
        let member = MemberId::new(member);
        self.with(|world| {
            let at = world.now.saturating_add(ms(after));
            world.schedule(at, Due::Returns { member });
        });
    }

    /// A whole region is lost: its server dies and its management calls fail.
    pub fn lose_region(&self, member: &str) {
        let member = MemberId::new(member);
        self.with(|world| {
            world.break_down(&member, "drift");
            if let Some(region) = world.instances.get(&member).map(|found| found.region.clone()) {
                world.suffer(Condition::ControlOutage(region), None);
            }
        });
    }

    /// Replication of a standby breaks; see [`Broken`].
    pub fn break_replication(&self, member: &str, how: Broken) {
        self.with(|world| line::break_replication(world, &MemberId::new(member), how));
    }

    /// Somebody changes something by hand; see [`Drift`].
    pub fn drift(&self, drift: Drift) {
        self.with(|world| line::drift(world, drift, false));
    }

    /// Changes an instance's surroundings before or during a run: extensions, long transactions, stray sessions.
    pub fn tweak(&self, member: &str, tweak: Tweak) {
        self.with(|world| {
            let Some(instance) = world.instances.get_mut(&MemberId::new(member)) else { return };
            match tweak {
                Tweak::Stray(sessions) => instance.strays = sessions,
                Tweak::LongTransaction(transaction) => instance.long_transactions.push(transaction),
                Tweak::NoLongTransactions => instance.long_transactions.clear(),
                Tweak::Extension { name, version } => drop(instance.extensions.insert(name, version)),
                Tweak::Available { name, versions } => drop(instance.available.insert(name, versions)),
                Tweak::Version(version) => instance.version = version,
                Tweak::NewestBackup(at) => instance.newest_backup = at,
                Tweak::SecretRotating(rotating) => world.secret.rotating = rotating,
                Tweak::Place(place) => world.put_place(&MemberId::new(member), place, "drift"),
                Tweak::Access(access) => line::let_in(world, &MemberId::new(member), access),
                Tweak::NoLogin(taken) => instance.no_login = taken.then_some(0),
                Tweak::FormerLife(life) => instance.former_life = life,
                Tweak::Keeps(kept) => instance.keeps.push(kept),
            }
        });
    }

    /// The backend leaves this proof out from now on.
    pub fn careless(&self, how: Careless) {
        self.with(|world| {
            world.careless.insert(how);
        });
    }

    /// What went wrong with the file since this was last asked, for a cloud that is kept in one.
    #[must_use]
    pub fn store_trouble(&self) -> Option<std::io::Error> {
        self.inner.store.as_ref().and_then(store::Store::trouble)
    }

    /// The setup that the world was made from.
    #[must_use]
    pub fn setup(&self) -> Setup {
        self.inner.setup.clone()
    }

    /// Advances the world to the present and works on it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let now = self.inner.runtime.now_wall().millis();
        let mut world = self.inner.world.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.inner.store.as_ref().map(|store| store.load(&mut world));
        world.advance(now);
        let result = work(&mut world);
        world.settle_down();
        if let (Some(store), Some(held)) = (&self.inner.store, held) {
            store.save(&world, held);
        }
        result
    }

    /// Keeps code that a call of a user's own service will run when it arrives.
    pub(crate) fn hook(&self, change: impl Fn() + Send + Sync + 'static) -> u64 {
        self.with(|world| {
            let id = world.number();
            world.hooks.custom.insert(id, Arc::new(change));
            id
        })
    }

    pub(crate) fn calls_lock(&self) -> MutexGuard<'_, line::Calls> {
        self.inner.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answer_to(&self, query: &str) -> Option<Answer> {
        self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner).get(query).cloned()
    }
}

/// A change of a member's surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tweak {
    /// Sessions that belong to no writer of the world and obey no drain.
    Stray(u32),
    /// A transaction has been open for long.
    LongTransaction(dr_core::contract::LongTransaction),
    /// No transaction is open for long.
    NoLongTransactions,
    /// An extension is installed in this version.
    Extension {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// An extension is available in these versions.
    Available {
        /// Its name.
        name: String,
        /// The versions; none means that it is not available.
        versions: Vec<String>,
    },
    /// The engine's version.
    Version(String),
    /// The newest backup, in milliseconds after 1970.
    NewestBackup(Option<i64>),
    /// Whether a rotation of the secret is going on.
    SecretRotating(bool),
    /// What directory the member's host-side fence was told.
    Place(Place),
    /// What the applications' role meets on the member.
    Access(Access),
    /// An earlier run left the fence of logins on the member, or nobody did.
    NoLogin(bool),
    /// Settings that take effect when the member is started as a standby.
    FormerLife(FormerLife),
    /// Something that only this member has, beside its log.
    Keeps(Keeps),
}

pub(crate) fn ms(time: Millis) -> i64 {
    i64::try_from(time.count()).unwrap_or(i64::MAX)
}
