//! The store on a real server: every promise of a store, and what it makes of lost answers, hung connections and restarts.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{Mode, TERM, Wire, fresh, lines, on, open, run, server, target};
use dr_core::{
    RunId, Timestamp,
    base::{Epoch, Json, ResourceAddress},
    run::{Head, InboxRow, Journal as _, JournalError, LeaseRequest, LeaseStore as _, Registry as _, Store},
};
use dr_engine::TokioRuntime;
use dr_postgres::testing::LocalCluster;
use dr_sql::{Session, Target};
use dr_store_postgres::{OpenError, PostgresStore};
use dr_testkit::stores::{Damage, Place, Subject, hold_to};

struct OnServer {
    target: Target,
}

struct InSchema {
    target: Target,
    schema: String,
}

#[async_trait]
impl Subject for OnServer {
    async fn fresh(&self) -> Result<Box<dyn Place>, String> {
        Ok(Box::new(InSchema { target: self.target.clone(), schema: fresh() }))
    }

    fn term(&self) -> Duration {
        TERM
    }
}

#[async_trait]
impl Place for InSchema {
    async fn open(&self) -> Result<Store, String> {
        let store = PostgresStore::at(self.target.clone()).schema(&self.schema).lasting(TERM);
        store.open().await.map(Into::into).map_err(|error| error.to_string())
    }

    async fn damage(&self, run: &RunId, how: &Damage) -> bool {
        let schema = &self.schema;
        let sql = match how {
            Damage::Edits(seq, text) => {
                format!("UPDATE {schema}.lines SET text = '{text}' WHERE run = '{run}' AND seq = {seq}")
            }
            Damage::Loses(seq) => format!("DELETE FROM {schema}.lines WHERE run = '{run}' AND seq = {seq}"),
        };
        Session::open(&self.target).await.unwrap().run("damage a run", &sql).await.unwrap();
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_store_keeps_every_promise() {
    let cluster = server().await;
    let report = hold_to(&OnServer { target: target(&cluster) }, Arc::new(TokioRuntime::current().unwrap())).await;
    assert!(report.failed().is_empty() && report.skipped().is_empty(), "{report}");
    assert_eq!(report.held(), 38);
}

fn request(run: &RunId) -> LeaseRequest {
    LeaseRequest {
        keys: vec![ResourceAddress::new("neu"), ResourceAddress::new("weu")],
        run: run.clone(),
        holder: "a test".into(),
        above: Epoch::new(0),
        take_over: false,
        at: Timestamp::from_millis(1_000),
    }
}

/// Whether the question or the answer was lost on the way: each call has its effect once, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_neither_loses_nor_doubles_anything() {
    let cluster = server().await;
    let wire = Wire::to(cluster.pg1().port).await;
    let store = open(&wire.target(&cluster), "lossy").await;
    let witness = open(&target(&cluster), "lossy").await;
    let one = Epoch::new(1);
    // Once, so that every session is open and only the call itself is lost.
    store.create(&"warm-1".parse().unwrap(), one, lines(Head::EMPTY, &["a"])).await.unwrap();
    store.runs().await.unwrap();
    store.is_driven(&run()).await.unwrap();
    let mut lost = 0;
    for (number, mode) in (1..).zip([Mode::LosesTheAnswer, Mode::LosesTheQuestion]) {
        let run = RunId::new(dr_core::GroupName::new("orders"), number);
        let mut loses = || {
            assert_eq!(wire.lost(), lost, "the call before lost nothing");
            lost += 1;
            wire.becomes(mode);
        };
        let first = lines(Head::EMPTY, &["a", "b"]);
        loses();
        let head = store.create(&run, one, first.clone()).await.unwrap();
        let more = lines(head, &["c"]);
        loses();
        let end = store.append(&run, one, 2, more.clone()).await.unwrap();
        assert_eq!(end, Head { seq: 3, hash: more[0].hash });
        loses();
        store.take_over(&run, Epoch::new(7)).await.unwrap();
        let row = InboxRow { id: "1".into(), at: Timestamp::from_millis(5), request: Json::default() };
        loses();
        store.post(&run, row.clone()).await.unwrap();
        loses();
        assert_eq!(store.read(&run, 0).await.unwrap().len(), 3);
        loses();
        store.told("k", &run, Timestamp::from_millis(1)).await.unwrap();

        assert_eq!(witness.read(&run, 2).await.unwrap(), more);
        assert_eq!(witness.inbox(&run).await.unwrap(), [row]);
        assert_eq!(witness.epoch(&run).await.unwrap(), Epoch::new(7));
        // What another engine did in the meantime is no earlier try of ours.
        let other = store.create(&run, one, first).await;
        assert!(matches!(other, Err(JournalError::Conflict { found: 3, .. })), "{other:?}");

        let lease = store.acquire(request(&run)).await.unwrap();
        loses();
        store.renew(&lease).await.unwrap();
        loses();
        store.release(&lease).await.unwrap();
        assert!(!witness.is_driven(&run).await.unwrap());
    }
    assert_eq!(wire.lost(), lost);
}

/// A lease is given in one transaction of several statements, and a wire that ends at any of them leaves it whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_transaction_is_cut_is_given_whole_or_not_at_all() {
    let cluster = server().await;
    let wire = Wire::to(cluster.pg1().port).await;
    let witness = open(&target(&cluster), "cut").await;
    let store = open(&wire.target(&cluster), "cut").await;
    store.is_driven(&run()).await.unwrap();
    for statement in 1..=7 {
        for mode in [Mode::LosesTheAnswer, Mode::LosesTheQuestion] {
            // A fresh session each time; then the wire ends at the given message of the transaction.
            let quiet = Duration::from_micros(400) * statement;
            let cut = async {
                tokio::time::sleep(quiet).await;
                wire.becomes(mode);
            };
            let (said, ()) = tokio::join!(store.acquire(request(&run())), cut);
            wire.becomes(Mode::Passes);
            let began = Instant::now();
            match said {
                Ok(lease) => {
                    let held = witness.renew(&lease).await;
                    assert!(held.is_ok(), "{statement} {mode:?}: {held:?}");
                    witness.release(&lease).await.unwrap();
                }
                Err(_) => {
                    // Nobody knows; it is free at once, or when it lapses.
                    while let Err(busy) = witness.acquire(request(&"shop-1".parse().unwrap())).await {
                        assert!(began.elapsed() < TERM * 4, "{busy}");
                        tokio::time::sleep(TERM / 6).await;
                    }
                    let lease =
                        witness.acquire(LeaseRequest { take_over: true, ..request(&"shop-1".parse().unwrap()) });
                    witness.release(&lease.await.unwrap()).await.unwrap();
                }
            }
        }
    }
}

/// A server that stopped answering is an error in time; what was sent before arrives late, and stores nothing behind a newer epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_on_a_hung_connection_is_an_error_in_time_and_arrives_behind_the_fence() {
    let cluster = server().await;
    let wire = Wire::to(cluster.pg1().port).await;
    let hung = open(&wire.target(&cluster), "hung").await;
    let head = hung.create(&run(), Epoch::new(1), lines(Head::EMPTY, &["a"])).await.unwrap();
    wire.becomes(Mode::Frozen);
    let began = Instant::now();
    let said = hung.append(&run(), Epoch::new(1), 1, lines(head, &["late"])).await;
    assert!(matches!(said, Err(JournalError::Store { .. })), "{said:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());

    let other = open(&target(&cluster), "hung").await;
    other.take_over(&run(), Epoch::new(2)).await.unwrap();
    other.append(&run(), Epoch::new(2), 1, lines(head, &["b"])).await.unwrap();
    wire.becomes(Mode::Passes);
    let said = hung.append(&run(), Epoch::new(1), 1, lines(head, &["late"])).await;
    assert!(matches!(said, Err(JournalError::Fenced { .. })), "{said:?}");
    let texts: Vec<String> = other.read(&run(), 1).await.unwrap().into_iter().map(|line| line.text).collect();
    assert!(texts.len() == 1 && texts[0].contains("\"b\""), "{texts:?}");
}

async fn restart(cluster: &LocalCluster) {
    let server = &cluster.pg1().server;
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    server.start().await.unwrap();
    while Session::open(&cluster.pg1().admin).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sessions that a restart ended are replaced within the call; nobody plans again because of it. What was posted is heard again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_between_calls_is_not_noticed() {
    let cluster = server().await;
    let store = open(&target(&cluster), "restarted").await;
    let head = store.create(&run(), Epoch::new(1), lines(Head::EMPTY, &["a"])).await.unwrap();
    let lease = store.acquire(request(&run())).await.unwrap();
    for round in 0..2 {
        if round == 0 {
            restart(&cluster).await;
        } else {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dr/store'";
            on(&cluster, end).await;
        }
        assert_eq!(store.read(&run(), 0).await.unwrap().len(), 1 + round);
        store.renew(&lease).await.unwrap();
        let head = if round == 0 { head } else { store_head(&store).await };
        store.append(&run(), Epoch::new(1), head.seq, lines(head, &["b"])).await.unwrap();
        let again = store.acquire(request(&"shop-1".parse().unwrap())).await;
        assert!(matches!(again, Err(dr_core::run::LeaseError::Busy { .. })), "{again:?}");
        store.was_told("k").await.unwrap();
    }
    let other = open(&target(&cluster), "restarted").await;
    let mark = store.mark(&run());
    let row = InboxRow { id: "1".into(), at: Timestamp::from_millis(5), request: Json::default() };
    other.post(&run(), row).await.unwrap();
    tokio::time::timeout(Duration::from_secs(4), store.changed(&run(), mark)).await.unwrap();
}

async fn store_head(store: &PostgresStore) -> Head {
    let last = store.read(&run(), 0).await.unwrap().pop().unwrap();
    Head { seq: last.seq, hash: last.hash }
}

/// A store whose server lost its last commits (an asynchronous standby took its place) is not written to by an engine that knows more, even
/// where epoch and length fit by chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_knows_lines_which_the_server_lost_is_refused() {
    let cluster = server().await;
    let store = open(&target(&cluster), "lossy_standby").await;
    let one = Epoch::new(1);
    let head = store.create(&run(), one, lines(Head::EMPTY, &["a"])).await.unwrap();
    let known = store.append(&run(), one, 1, lines(head, &["b"])).await.unwrap();
    let back = format!(
        "DELETE FROM lossy_standby.lines WHERE seq = 2; UPDATE lossy_standby.runs SET seq = 1, hash = '{}'",
        head.hash.hex()
    );
    on(&cluster, &back).await;
    let short = store.append(&run(), one, 2, lines(known, &["c"])).await;
    assert!(matches!(short, Err(JournalError::Conflict { found: 1, .. })), "{short:?}");
    open(&target(&cluster), "lossy_standby").await.append(&run(), one, 1, lines(head, &["x"])).await.unwrap();
    let other = store.append(&run(), one, 2, lines(known, &["c"])).await;
    assert!(matches!(other, Err(JournalError::Corrupt { seq: 3, .. })), "{other:?}");
}

/// The store names its server as a backend would, so that an engine sees when a plan moves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_knows_in_which_system_it_lies() {
    let cluster = server().await;
    let probe = dr_sql::Probe::new("app", cluster.pg2().admin.clone());
    let named = dr_core::DatabaseProbe::position(&probe).await.unwrap().lineage.system;
    assert_eq!(open(&target(&cluster), "known").await.lies_in(), Some(named));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_store_is_refused_with_what_helps() {
    let cluster = server().await;
    let refused = async |target: Target, schema: &str| {
        PostgresStore::at(target).schema(schema).open().await.map(drop).unwrap_err()
    };
    let standby = refused(cluster.pg2().admin.clone(), "s").await;
    assert!(matches!(standby, OpenError::Standby { .. }) && standby.to_string().contains("is a standby"), "{standby}");
    let name = refused(target(&cluster), "s; DROP SCHEMA public").await;
    assert!(matches!(name, OpenError::Name(_)), "{name}");
    open(&target(&cluster), "newer").await;
    on(&cluster, "UPDATE newer.store SET version = 9").await;
    let newer = refused(target(&cluster), "newer").await;
    assert!(newer.to_string().contains("has version 9, and this program knows version 1"), "{newer}");

    // A role that may not make schemas uses one that was made for it, and a colleague's table of the same name is not taken for ours.
    on(&cluster, "CREATE ROLE eng LOGIN PASSWORD 'local-cluster'; CREATE SCHEMA given AUTHORIZATION eng; CREATE TABLE public.runs (x int)").await;
    let eng = Target { user: "eng".into(), ..target(&cluster) }.with_password("local-cluster");
    let store = open(&eng, "given").await;
    assert_eq!(store.runs().await.unwrap(), []);
    let denied = refused(eng, "not_given").await;
    assert!(matches!(denied, OpenError::Server(_)), "{denied}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_open_an_empty_database_at_once_share_one_store() {
    let cluster = server().await;
    let target = target(&cluster);
    let opened = (0..6).map(|_| PostgresStore::at(target.clone()).schema("shared").open());
    let mut all = tokio::task::JoinSet::new();
    opened.for_each(|opening| drop(all.spawn(opening)));
    while let Some(store) = all.join_next().await {
        assert_eq!(store.unwrap().unwrap().runs().await.unwrap(), []);
    }
}
