//! Two engines of two hosts on one shared store: one is killed or cut off in the middle of a switchover, the other one goes on, and never do
//! both drive.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{LEASE, Mode, Wire, fresh, open_for_an_engine as open, server, target};
use dr_core::{
    APPROVE, Actor, Answer, Millis, RunId,
    base::Epoch,
    run::{DriveError, Event, Head, InboxRow, Journal, JournalError, Line, Record, RunOutcome, Store},
};
use dr_engine::{Engine, EngineBuilder, Error, Run, Start, TokioRuntime, runbook::PlannedSwitchover};
use dr_store_postgres::PostgresStore;
use dr_testkit::{Setup, SimCloud};
use tokio::sync::Notify;

/// One simulated pair and its group file.
struct House {
    cloud: SimCloud,
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let setup = Setup::pair("orders", "neu", "weu").fast();
        let cloud = SimCloud::new(setup, Arc::new(TokioRuntime::current().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("orders.toml"), GROUP).unwrap();
        Self { cloud, dir }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("orders.toml")
    }
}

fn engine(cloud: &SimCloud, store: impl Into<Store>, host: &str) -> EngineBuilder {
    Engine::over(store).backend(cloud.backend()).holder(host).without_watcher().unguarded()
}

fn person(name: &str) -> Actor {
    Actor::local(name).with_role("dba").authenticated("a test", name)
}

async fn begin(engine: &Engine, file: &PathBuf) -> Result<Run, Error> {
    let plan = engine.plan(&engine.group(file)?, PlannedSwitchover::to("weu")).await?;
    engine.start(plan, Start::by(person("mira"))).await
}

/// Approves what is asked for, whoever drives, until the run is over.
async fn approve(engine: Engine, run: RunId) {
    let mut watch = engine.run(&run).unwrap().watch();
    while let Ok(Some(view)) = watch.next().await {
        if let Some(to) = view.ask_digest
            && view.ask.as_ref().is_some_and(|ask| ask.choices.iter().any(|choice| choice.name == APPROVE))
        {
            // Asked twice, answered twice: the same answer is one answer.
            let _late = engine.run(&run).unwrap().answer(Answer::choose(APPROVE, to, person("ana"))).await;
        }
    }
}

/// A journal whose process dies at one of its appends, counted over runs: before it is stored, or after it and before its answer.
#[derive(Debug)]
struct Deadly {
    inner: PostgresStore,
    at: u64,
    stores: bool,
    appends: AtomicU64,
    dies: Arc<Notify>,
}

#[async_trait]
impl Journal for Deadly {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.inner.create(run, epoch, lines).await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        self.inner.take_over(run, epoch).await
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.inner.epoch(run).await
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        let nth = self.appends.fetch_add(1, Ordering::SeqCst) + 1;
        if nth < self.at {
            return self.inner.append(run, epoch, expected, lines).await;
        }
        if nth == self.at && self.stores {
            self.inner.append(run, epoch, expected, lines).await.unwrap();
        }
        self.dies.notify_one();
        std::future::pending().await
    }

    fn linger(&self) -> Millis {
        self.inner.linger()
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        self.inner.seal(run, seq).await
    }

    async fn use_reserve(&self, run: &RunId) -> bool {
        self.inner.use_reserve(run).await
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        self.inner.read(run, from).await
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.inner.runs().await
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        self.inner.post(run, row).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.inner.inbox(run).await
    }

    fn mark(&self, run: &RunId) -> u64 {
        self.inner.mark(run)
    }

    async fn changed(&self, run: &RunId, since: u64) {
        self.inner.changed(run, since).await;
    }
}

/// Takes the run as soon as it may, as an engine that starts again and again does.
async fn resumed(engine: &Engine, run: &RunId) -> Run {
    let began = Instant::now();
    loop {
        match engine.resume_run(run, false).await {
            Ok(run) => return run,
            Err(Error::Busy { .. }) => {}
            Err(error) => panic!("{run} cannot be resumed: {error}"),
        }
        assert!(began.elapsed() < LEASE * 3, "its holder is dead, and nobody may go on");
        tokio::time::sleep(LEASE / 60).await;
    }
}

async fn ended(run: &Run) -> RunOutcome {
    match tokio::time::timeout(Duration::from_secs(40), run.wait()).await {
        Ok(outcome) => outcome.unwrap(),
        Err(_) => panic!("it does not end:\n{}", run.view().await.unwrap()),
    }
}

/// No law of the world was broken, no write was lost, and the epochs of the records only grow: each engine wrote behind the one before.
async fn never_two_drivers(house: &House, store: &PostgresStore, run: &RunId, what: &str) {
    assert_eq!(house.cloud.violations(), [], "{what}");
    house.cloud.look(|truth| assert_eq!(truth.lost_acknowledged(), [], "{what}"));
    let records: Vec<Record> =
        store.read(run, 0).await.unwrap().iter().map(|line| Record::parse(line).unwrap()).collect();
    let epochs: Vec<Epoch> = records.iter().map(|record| record.epoch).collect();
    assert!(epochs.is_sorted(), "{what}: {epochs:?}");
    let takes = records.iter().filter(|record| matches!(record.event, Event::LeaseTaken { .. })).count();
    assert!(takes >= 2, "{what}: {takes} engines took it");
    let promoted = house
        .cloud
        .calls()
        .into_iter()
        .filter(|call| call.touch.as_ref().is_some_and(|touch| touch.verb.as_str() == "promote"));
    assert!(promoted.count() <= 1, "{what}: promoted twice");
}

/// How a run ended after its first engine was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It was over before that append.
    Missed,
    WentOn,
    TurnedBack,
}

/// The second engine goes on after the first one was killed at one of its appends.
async fn killed(place: dr_sql::Target, at: u64) -> Then {
    let stores = at.is_multiple_of(2);
    let what = format!("killed {} append {at}", if stores { "after" } else { "before" });
    let (house, schema) = (House::new(), fresh());
    let second = open(&place, &schema).await;
    house.cloud.run_begins();
    let dies = Arc::new(Notify::new());
    // A host of its own: its threads, tasks and sessions end at once, and nothing is given back.
    let host = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (cloud, file, word) = (house.cloud.clone(), house.file(), Arc::clone(&dies));
    let begun = host.spawn(async move {
        let inner = open(&place, &schema).await;
        let journal = Deadly { inner: inner.clone(), at, stores, appends: AtomicU64::new(0), dies: word };
        let store = Store { journal: Arc::new(journal), leases: Arc::new(inner.clone()), registry: Arc::new(inner) };
        let first = engine(&cloud, store, "host a").start().await.unwrap();
        (begin(&first, &file).await.unwrap().id().clone(), first)
    });
    let (run, first) = begun.await.unwrap();
    let other = engine(&house.cloud, second.clone(), "host b").start().await.unwrap();
    let people = tokio::spawn(approve(other.clone(), run.clone()));
    let watched = other.run(&run).unwrap();
    tokio::select! {
        () = dies.notified() => {}
        _ = ended(&watched) => {}
    }
    host.shutdown_background();
    drop(first);
    if watched.view().await.unwrap().outcome().is_some() {
        return Then::Missed;
    }
    let run = resumed(&other, &run).await;
    let outcome = ended(&run).await;
    people.abort();
    never_two_drivers(&house, &second, run.id(), &what).await;
    let (writer, then) = if outcome.success() { ("weu", Then::WentOn) } else { ("neu", Then::TurnedBack) };
    house.cloud.look(|truth| assert_eq!(truth.primary().unwrap().as_str(), writer, "{what}: {outcome:?}"));
    then
}

/// Two engines on two hosts with the shared store, one killed at its appends, before and after they are stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_engine_goes_on_wherever_the_first_one_was_killed() {
    let cluster = server().await;
    let mut all = tokio::task::JoinSet::new();
    for at in 2..=19 {
        all.spawn(killed(target(&cluster), at));
    }
    let mut ends = Vec::new();
    while let Some(end) = all.join_next().await {
        ends.push(end.unwrap());
    }
    let count = |then| ends.iter().filter(|end| **end == then).count();
    assert!(count(Then::WentOn) >= 8 && count(Then::Missed) <= 4, "{ends:?}");
}

/// The wire of the first host hangs in the middle of the switchover: it sends nothing once its lease has run out, the second one goes on, and
/// what the first one wakes up with is fenced off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_was_cut_off_learns_that_another_one_went_on() {
    let cluster = server().await;
    let wire = Wire::to(cluster.pg1().port).await;
    let (house, schema) = (House::new(), fresh());
    let (near, far) = (open(&target(&cluster), &schema).await, open(&wire.target(&cluster), &schema).await);
    let first = engine(&house.cloud, far, "host a").start().await.unwrap();
    let second = engine(&house.cloud, near.clone(), "host b").start().await.unwrap();
    house.cloud.run_begins();
    let of_first = begin(&first, &house.file()).await.unwrap();
    let run = of_first.id().clone();
    let people = tokio::spawn(approve(second.clone(), run.clone()));
    let mut events = second.run(&run).unwrap().events(0);
    while let Some(record) = events.next().await.unwrap() {
        // In the gap: applications are held back.
        if let Event::Intended { node, .. } = &record.event
            && node.as_str().contains("fence")
        {
            break;
        }
    }
    wire.becomes(Mode::Frozen);
    assert!(matches!(second.resume_run(&run, false).await, Err(Error::Busy { .. })), "its lease still lasts");
    let of_second = resumed(&second, &run).await;
    let outcome = ended(&of_second).await;
    let sent = house.cloud.calls().iter().filter(|call| call.touch.is_some()).count();
    wire.becomes(Mode::Passes);
    let said = tokio::time::timeout(Duration::from_secs(20), of_first.wait()).await.unwrap();
    let fenced = matches!(&said, Err(Error::Stopped(error)) if matches!(**error, DriveError::TakenOver { .. }));
    assert!(fenced || said.is_ok(), "{said:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(house.cloud.calls().iter().filter(|call| call.touch.is_some()).count(), sent, "it sent something");
    assert!(outcome.success() || matches!(outcome, RunOutcome::Aborted { .. }), "{outcome:?}");
    never_two_drivers(&house, &near, &run, "cut off").await;
    people.abort();
}

const GROUP: &str = r#"
format      = 2
name        = "orders"
environment = "test"
home        = "neu"

[objectives]
rto = "1 min"

[[member]]
name    = "neu"
region  = "region-neu"
backend = "sim"
at      = { instance = "neu" }

[[member]]
name    = "weu"
region  = "region-weu"
backend = "sim"
at      = { instance = "weu" }

[limits]
gap_budget = "5 s"

[[secret]]
name  = "orders"
store = "sim"
set   = { host = "{writer.endpoint}" }

[[app]]
name = "api"
tier = "sim"

[[traffic]]
name   = "public"
router = "sim"
member = { neu = "neu", weu = "weu" }

[approval.switchover]
roles = ["dba"]
"#;
