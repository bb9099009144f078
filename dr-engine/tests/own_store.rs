//! An engine over a store of one's own: it goes on where another one stopped, and a store that misbehaves ends nothing but the call.
#![expect(clippy::panic, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests")]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use common::{Asking, House, answer};
use dr_core::{
    Catalog, GroupName, RunId, Timestamp,
    base::{Digest, Epoch, ResourceAddress, SystemId},
    contract::Runtime,
    run::{
        Head, InboxRow, Journal, JournalError, Lease, LeaseError, LeaseRequest, LeaseStore, Line, Registry as _,
        RunOutcome, Store,
    },
};
use dr_engine::{APPROVE, Engine, Error, VolatileStore, runbook::PlannedSwitchover};
use dr_testkit::VirtualRuntime;

fn over(house: &House, store: &VolatileStore) -> dr_engine::EngineBuilder {
    Engine::over(store.clone()).backend(house.cloud.backend()).without_watcher().unguarded()
}

/// D-8: nobody could pass a journal or a lease store, so the volatile one that was exported had no use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_no_engine_took_a_store_of_ones_own() {
    let house = House::new();
    let store = VolatileStore::new();
    let engine = over(&house, &store).start().await.unwrap();
    assert_eq!(engine.dir(), None);
    let group = house.group(&engine);
    engine.sample_once(&group).await;
    let plan = engine.plan(&group, PlannedSwitchover::to("weu")).await.unwrap();
    house.cloud.run_begins();
    let start = dr_engine::Start::by(common::dba("mira"));
    let run = engine.start(plan, start).await.unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded, "{}", run.report().await.unwrap());
    assert_eq!(house.cloud.violations(), []);

    let other = over(&house, &store).start().await.unwrap();
    assert_eq!(other.runs().await.unwrap().len(), 1);
    assert_eq!(other.samples(&group).await.unwrap().len(), 1);
    assert_eq!(other.known_groups().await.unwrap().len(), 1);
    assert!(store.last_writer(&GroupName::new("orders")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_engine_goes_on_with_the_run_of_a_closed_one_and_not_with_that_of_a_living_one() {
    let house = House::new();
    let store = VolatileStore::new();
    let steps = || Catalog::empty().with(Asking).with(house.lamp.clone());
    let first = over(&house, &store).steps(steps()).start().await.unwrap();
    let run = house.begin(&first).await.unwrap();
    let second = over(&house, &store).steps(steps()).start().await.unwrap();
    assert_eq!(second.resume().await.unwrap().elsewhere, [run.id().clone()]);
    first.close().await;
    assert_eq!(second.resume().await.unwrap().runs, [run.id().clone()]);
    let run = second.run(run.id()).unwrap();
    answer(&run, "ana", APPROVE).await.unwrap();
    assert_eq!(run.wait().await.unwrap(), RunOutcome::Succeeded);
}

/// A journal inside of the database that is to be moved.
#[derive(Debug)]
struct Inside(VolatileStore);

#[async_trait]
impl Journal for Inside {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.0.create(run, epoch, lines).await
    }
    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        self.0.take_over(run, epoch).await
    }
    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.0.epoch(run).await
    }
    async fn append(&self, run: &RunId, epoch: Epoch, at: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.0.append(run, epoch, at, lines).await
    }
    fn lies_in(&self) -> Option<SystemId> {
        Some(SystemId::new("sys-orders"))
    }
    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        self.0.seal(run, seq).await
    }
    async fn use_reserve(&self, _: &RunId) -> bool {
        false
    }
    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        self.0.read(run, from).await
    }
    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.0.runs().await
    }
    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        self.0.post(run, row).await
    }
    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.0.inbox(run).await
    }
    fn mark(&self, run: &RunId) -> u64 {
        self.0.mark(run)
    }
    async fn changed(&self, run: &RunId, since: u64) {
        self.0.changed(run, since).await;
    }
}

/// Behind its fence the engine could not write down what it does: a new plan is refused, and so is one that was made elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_moves_the_engines_own_store_is_refused() {
    let house = House::new();
    let store = VolatileStore::new();
    let outside = over(&house, &store).start().await.unwrap();
    let plan = outside.plan(&house.group(&outside), PlannedSwitchover::to("weu")).await.unwrap();
    let leases = Arc::new(store.clone());
    let store =
        Store { journal: Arc::new(Inside(store)), leases: Arc::<VolatileStore>::clone(&leases), registry: leases };
    let inside =
        Engine::over(store).backend(house.cloud.backend()).without_watcher().unguarded().start().await.unwrap();
    let new = inside.plan(&house.group(&inside), PlannedSwitchover::to("weu")).await.map(drop).unwrap_err();
    let old = inside.start(plan, dr_engine::Start::by(common::dba("mira"))).await.map(drop).unwrap_err();
    for refused in [new, old] {
        assert!(refused.is_refusal() && refused.to_string().contains("DR608"), "{refused}");
    }
    assert!(house.cloud.calls().iter().all(|call| call.touch.is_none()));
}

#[tokio::test]
async fn a_directory_of_leases_beside_a_store_with_leases_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Engine::over(VolatileStore::new()).leases(dir.path()).start().await.unwrap_err();
    assert!(matches!(&refused, Error::Open(_)), "{refused}");
    assert!(refused.to_string().contains("give it one of them"), "{refused}");
}

/// What a bad store does with every call.
#[derive(Clone, Copy, Debug)]
enum Does {
    Hang,
    Panic,
}

impl Does {
    async fn now<T>(self) -> T {
        match self {
            Self::Hang => std::future::pending().await,
            Self::Panic => panic!("the store is broken"),
        }
    }
}

#[derive(Debug)]
struct Bad(Does);

#[async_trait]
impl Journal for Bad {
    async fn create(&self, _: &RunId, _: Epoch, _: Vec<Line>) -> Result<Head, JournalError> {
        self.0.now().await
    }
    async fn take_over(&self, _: &RunId, _: Epoch) -> Result<(), JournalError> {
        self.0.now().await
    }
    async fn epoch(&self, _: &RunId) -> Result<Epoch, JournalError> {
        self.0.now().await
    }
    async fn append(&self, _: &RunId, _: Epoch, _: u64, _: Vec<Line>) -> Result<Head, JournalError> {
        self.0.now().await
    }
    async fn seal(&self, _: &RunId, _: u64) -> Result<(), JournalError> {
        self.0.now().await
    }
    async fn use_reserve(&self, _: &RunId) -> bool {
        self.0.now().await
    }
    async fn read(&self, _: &RunId, _: u64) -> Result<Vec<Line>, JournalError> {
        self.0.now().await
    }
    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.0.now().await
    }
    async fn post(&self, _: &RunId, _: InboxRow) -> Result<(), JournalError> {
        self.0.now().await
    }
    async fn inbox(&self, _: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.0.now().await
    }
    fn mark(&self, _: &RunId) -> u64 {
        7
    }
    async fn changed(&self, _: &RunId, _: u64) {
        self.0.now().await
    }
}

#[async_trait]
impl LeaseStore for Bad {
    async fn acquire(&self, _: LeaseRequest) -> Result<Lease, LeaseError> {
        self.0.now().await
    }
    async fn renew(&self, _: &Lease) -> Result<Duration, LeaseError> {
        self.0.now().await
    }
    async fn release(&self, _: &Lease) -> Result<(), LeaseError> {
        self.0.now().await
    }
    async fn is_driven(&self, _: &RunId) -> Result<bool, LeaseError> {
        self.0.now().await
    }
}

/// A store that never answered stopped the driver for ever, in the middle of a drain; one that panicked ended its task.
#[test]
fn bug_a_store_that_hangs_or_panics_ends_nothing_but_the_call() {
    for does in [Does::Hang, Does::Panic] {
        let rt = VirtualRuntime::new();
        let runtime: Arc<dyn Runtime> = Arc::new(rt.clone());
        let bad = Arc::new(Bad(does));
        let store = Store { journal: Arc::<Bad>::clone(&bad), leases: bad, registry: Arc::new(VolatileStore::new()) };
        let store = store.bounded(&runtime);
        let run: RunId = "orders-1".parse().unwrap();
        let began = rt.now_wall();
        rt.run(async move {
            let Store { journal, leases, registry } = store;
            let said = [
                journal.create(&run, Epoch::new(1), Vec::new()).await.map(drop),
                journal.take_over(&run, Epoch::new(1)).await,
                journal.epoch(&run).await.map(drop),
                journal.append(&run, Epoch::new(1), 0, Vec::new()).await.map(drop),
                journal.seal(&run, 1).await,
                journal.read(&run, 0).await.map(drop),
                journal.runs().await.map(drop),
                journal.inbox(&run).await.map(drop),
            ];
            for error in said {
                let Err(JournalError::Store { full: false, source, .. }) = &error else {
                    panic!("{does:?}: {error:?}")
                };
                let words = source.to_string();
                assert!(words == "no answer within 20 s" || words == "it panicked: the store is broken", "{words}");
            }
            assert!(!journal.use_reserve(&run).await);
            journal.changed(&run, 7).await;
            let at = Timestamp::from_millis(0);
            let keys = vec![ResourceAddress::new("db")];
            let lease = Lease { keys, run: run.clone(), epoch: Epoch::new(1), holder: "a".into(), since: at };
            for error in [leases.renew(&lease).await.map(drop), leases.release(&lease).await] {
                assert!(matches!(error, Err(LeaseError::Store { .. })), "{error:?}");
            }
            assert!(leases.is_driven(&run).await.is_err(), "nobody knows, which is no proof of death");
            assert!(registry.group(Digest::zero()).await.unwrap().is_none());
        })
        .unwrap();
        let passed = rt.now_wall().since(began);
        let most = dr_core::seconds(20 * 14);
        assert!(passed <= most && passed >= Store::PATIENCE, "{does:?}: {passed:?}");
    }
}
