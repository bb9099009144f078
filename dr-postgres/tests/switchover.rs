//! The provider traits on real servers: what a planned switchover needs, and every trap that was measured.
#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Rig, await_op, budget, done, fence, handle, order, promote, rejoin, resume, run, switch, until};
use dr_core::{
    AppTier, DatabaseProbe, Fence, Grade, ManagedDatabase, Outcome, Tri,
    contract::{OpProgress, ReplicationLink},
    millis, seconds,
};
use dr_postgres::{
    Postmaster,
    testing::{ClusterOptions, DirectProber, Writers},
};
use dr_sql::Session;

fn direct() -> ClusterOptions {
    ClusterOptions { pooler: false, ..ClusterOptions::default() }
}

/// There and back again under load: nothing lost, no error at the client, never two writers, both directions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_and_a_switchback_lose_nothing() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let [one, two] = &rig.sides;
    let mut writers = Writers::start(vec![rig.cluster.app_through_pooler().unwrap()], 4).await.unwrap();
    let prober = DirectProber::start(vec![rig.cluster.pg1().admin.clone(), rig.cluster.pg2().admin.clone()]);
    switch(&rig, one, two).await;
    writers.await_flow(Duration::from_secs(5)).await.unwrap();
    switch(&rig, two, one).await;
    writers.await_flow(Duration::from_secs(5)).await.unwrap();
    writers.stop().await;
    let seen = prober.stop().await;
    assert_eq!(seen.two_writers, 0, "{seen:?}");
    assert_eq!(seen.changes, 2, "{seen:?}");
    let report = writers.report();
    assert_eq!(report.error_count(), 0, "{report:?}");
    let check = writers.check(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    assert_eq!((check.lost, check.acknowledged), (0, report.acknowledged));
    let told = one.database.describe().await.unwrap();
    assert_eq!((told.follows, told.writable, told.lineage.unwrap().generation), (None, Tri::Yes, 3));
    assert_eq!(told.followers, [ReplicationLink::physical(two.member.address())]);
    let slots = Session::open(&rig.cluster.pg2().admin).await.unwrap().slots().await.unwrap();
    assert!(slots.is_empty(), "a standby keeps no log for a slot that nobody uses: {slots:?}");
}

/// Facts of a healthy pair: edges, lineages, positions, lag that is zero for a reason.
#[tokio::test]
async fn a_pair_is_described_by_its_edges() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (primary, standby) = (one.database.describe().await.unwrap(), two.database.describe().await.unwrap());
    assert_eq!((primary.follows, primary.writable), (None, Tri::Yes));
    assert_eq!(primary.followers, [ReplicationLink::physical(standby.address)]);
    assert_eq!((standby.follows, standby.writable), (Some(ReplicationLink::physical(primary.address)), Tri::No));
    assert_eq!(primary.lineage, standby.lineage);
    assert!(primary.version.starts_with("15."), "{}", primary.version);
    let lag = until("lag", Duration::from_secs(5), || async {
        let reading = two.database.replication().await.unwrap();
        (reading.streaming == Tri::Yes).then_some(reading.lag).flatten()
    })
    .await;
    assert!(lag < seconds(5));
    assert_eq!(one.database.replication().await.unwrap().streaming, Tri::No);
    assert_eq!(one.is_writable().await, Tri::Yes);
    assert_eq!(two.is_writable().await, Tri::No);
    let (here, there) = (one.probe.position().await.unwrap(), two.probe.position().await.unwrap());
    assert_eq!((here.lineage, here.in_recovery, there.in_recovery), (there.lineage, Tri::No, Tri::Yes));
    assert!(one.probe.available_extensions().await.unwrap().contains_key("plpgsql"));
    assert!(one.probe.extensions().await.unwrap().contains_key("plpgsql"));
}

/// A fast stop succeeds although the standby has nothing of it: the proof fails, the promotion is not asked for, and the old
/// primary takes its writes again.
#[tokio::test]
async fn a_standby_that_was_silently_disconnected_is_no_candidate() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let standby = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    standby.set_and_load("primary_conninfo", "host=127.0.0.1 port=1").await.unwrap();
    until("the disconnection", Duration::from_secs(10), || async {
        (two.database.replication().await.unwrap().streaming != Tri::Yes).then_some(())
    })
    .await;
    let reading = two.database.replication().await.unwrap();
    assert_eq!(reading.lag, None, "received = replayed, and still nobody knows");
    let admin = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    admin.run("write", "INSERT INTO dr_writes SELECT 500, g FROM generate_series(1, 1000) g").await.unwrap();
    let (receipt, reading) = fence(one).await;
    let end = reading.end.unwrap();
    let position = two.probe.position().await.unwrap();
    assert!(position.applied.missing_to(&end).unwrap() > 0);
    assert!(!position.applied.reaches(&end), "not caught up: {position:?}");
    done(one.fence.release(order(&receipt)).await);
    assert_eq!(one.is_writable().await, Tri::Yes);
    assert_eq!(one.fence.inspect().await.unwrap().engaged(), Tri::No);
}

/// The checkpoint's own position is where its record begins: having reached it proves nothing.
#[tokio::test]
async fn the_proof_is_strict() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (_, reading) = fence(one).await;
    let control = rig.cluster.pg1().server.control_data().await.unwrap();
    let end = reading.end.unwrap();
    assert_eq!(end.value, control.checkpoint.bytes() + 1);
    let applied = until("replay", Duration::from_secs(5), || async {
        let position = two.probe.position().await.unwrap();
        position.applied.reaches(&end).then_some(position)
    })
    .await;
    assert!(applied.applied.value > control.checkpoint.bytes());
    assert_eq!(applied.lineage, control.lineage(), "the receiver is gone, the timeline is known nevertheless");
}

/// A restart removes the relation cache files. The first login builds them: before the gap, not when the applications come back.
#[tokio::test]
async fn settling_a_candidate_builds_the_caches_of_every_database() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let port = rig.cluster.pg1().port.to_string();
    let sql = "SELECT oid FROM pg_database WHERE datname = 'app'";
    let oid = rig.cluster.run("psql", &["-h", "127.0.0.1", "-p", &port, "-U", "dr", "-d", "postgres", "-Atc", sql]);
    let cache = format!("base/{}/pg_internal.init", oid.unwrap().trim());
    let server = &rig.cluster.nodes[1].server;
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    server.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
    assert!(!server.data(&cache).exists(), "a restarted standby has none");
    done(two.database.settle().await);
    assert!(server.data(&cache).exists(), "{cache}");
    done(one.database.settle().await);
}

/// A fenced server that somebody starts again comes up as a standby; the fence says what it sees.
#[tokio::test]
async fn a_stopped_primary_cannot_come_back_as_one() {
    let rig = Rig::start(direct()).await;
    let [one, _] = &rig.sides;
    let (receipt, _) = fence(one).await;
    let server = &rig.cluster.pg1().server;
    server.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
    assert_eq!(one.is_writable().await, Tri::No);
    let reading = one.fence.inspect().await.unwrap();
    assert_eq!(reading.grade(), Grade::Confirmed, "{}", reading.detail);
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    server.control().remove(&server.data("standby.signal")).await.unwrap();
    let lifted = one.fence.inspect().await.unwrap();
    assert!(lifted.grade() < Grade::Confirmed, "a fence without its mark is worth less: {}", lifted.detail);
    server.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
    assert_eq!(one.fence.inspect().await.unwrap().engaged(), Tri::No);
    assert_eq!(receipt.target.lineage.generation, 1);
}

/// A killed server is stopped, and its control file proves no end of its history; its log does.
#[tokio::test]
async fn a_crash_is_no_clean_stop() {
    let rig = Rig::start(direct()).await;
    let node = rig.cluster.pg1();
    let Postmaster::Ready(pid) = node.server.postmaster().await.unwrap() else { panic!("not running") };
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::QUIT).unwrap();
    node.server.await_stopped(Duration::from_secs(10)).await.unwrap();
    let reading = rig.sides[0].fence.inspect().await.unwrap();
    let data = node.server.control_data().await.unwrap();
    assert_eq!(data.end_of_history(), None);
    let received = rig.sides[1].probe.position().await.unwrap().durable;
    let end = reading.end.unwrap();
    assert!(received.reaches(&end) && end.value > data.checkpoint.bytes(), "{end}, received {received}");
    assert!(reading.planes.restart < Grade::Confirmed, "{}", reading.detail);
}

/// A promotion is asked for once; the second request meets a primary and is a conflict, never a second timeline.
#[tokio::test]
async fn a_second_promotion_is_a_conflict() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    done(two.database.settle().await);
    let (receipt, _) = fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    let position = two.probe.position().await.unwrap();
    let parted = position.parted_at.at().cloned().unwrap();
    assert!(parted.reaches(receipt.end.as_ref().unwrap()), "the switch point lies past the proof");
    assert_eq!(position.lineage.generation, 2);
    let control = rig.cluster.pg2().server.control_data().await.unwrap();
    assert!(control.timeline.number() <= 2);
}

/// A promotion under way has made files of the next timeline before recovery ends: while the server replays, it carries the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_recovery_never_claims_the_next_timeline() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    done(two.database.settle().await);
    let (receipt, _) = fence(one).await;
    // Through a session of its own: the other one waits for the promotion.
    let probe = rig.cluster.members()[1].probe();
    probe.position().await.unwrap();
    let watcher = tokio::spawn(async move {
        let mut looks = 0_u32;
        loop {
            let Ok(seen) = probe.position().await else { continue };
            looks += 1;
            if seen.in_recovery == Tri::No {
                return (looks, seen.lineage.generation);
            }
            assert_eq!(seen.lineage.generation, 1, "after {looks} looks");
        }
    });
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    let (looks, generation) = watcher.await.unwrap();
    assert!(looks > 5, "{looks}");
    assert_eq!(generation, 2);
}

/// The segment of the last replayed byte was rounded: past the middle of a segment the next one was looked for, and a standby that had
/// rejoined a moment ago and lost its primary was taken for one of the history before.
#[tokio::test]
async fn bug_the_timeline_is_known_past_the_middle_of_a_segment() {
    let rig = Rig::start(ClusterOptions { segment_mb: 1, ..direct() }).await;
    let [one, two] = &rig.sides;
    done(two.database.settle().await);
    let (receipt, _) = fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    let op = handle(rejoin(one, two, false).await);
    await_op(one, &op).await.unwrap();
    let (old, new) = (
        Session::open(&rig.cluster.pg1().admin).await.unwrap(),
        Session::open(&rig.cluster.pg2().admin).await.unwrap(),
    );
    let message = "SELECT pg_logical_emit_message(true, 'filler', repeat('x', 100000))";
    let middle = |lsn: dr_sql::Lsn| (0x8_1000..0xB_0000).contains(&(lsn.bytes() % 0x10_0000));
    let at = until("a position past the middle", Duration::from_secs(20), || async {
        new.run("write a message", message).await.unwrap();
        Some(new.identity().await.unwrap().position).filter(|lsn| middle(*lsn))
    })
    .await;
    let (receipt, _) = fence(two).await;
    until("the end of the old history", Duration::from_secs(20), || async {
        let at = one.probe.position().await.ok()?;
        let gone = old.text_rows("look for a receiver", "SELECT 1 FROM pg_stat_wal_receiver").await.unwrap().is_empty();
        (gone && at.applied.reaches(receipt.end.as_ref()?)).then_some(())
    })
    .await;
    // The next segment may be there already, made for later.
    let next = format!("pg_wal/{:08X}{:08X}{:08X}", 2, 0, at.bytes() / 0x10_0000 + 1);
    let server = &rig.cluster.pg1().server;
    server.control().remove(&server.data(&next)).await.unwrap();
    let seen = one.probe.position().await.unwrap();
    assert_eq!((seen.in_recovery, seen.lineage.generation), (Tri::Yes, 2));
}

/// The standby looks for log every 5 s by default, and for a promotion no oftener when it lost its primary: settling shortens it.
#[tokio::test]
async fn a_promotion_does_not_go_unnoticed() {
    let rig =
        Rig::start(ClusterOptions { settings: vec!["wal_retrieve_retry_interval = 5s".into()], ..direct() }).await;
    let [one, two] = &rig.sides;
    done(two.database.settle().await);
    let (receipt, _) = fence(one).await;
    // Long enough for the standby to fail to reconnect and to wait for its next attempt.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let begun = tokio::time::Instant::now();
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    let op = handle(rejoin(one, two, false).await);
    await_op(one, &op).await.unwrap();
    let session = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    let after = until("the setting", Duration::from_secs(5), || async {
        session.setting("wal_retrieve_retry_interval").await.unwrap().filter(|value| value != "100ms")
    })
    .await;
    assert_eq!(after, "5s");
}

/// A stale `synchronous_standby_names` would block every commit of the new primary: it is found before anything is stopped.
#[tokio::test]
async fn a_stale_synchronous_standby_is_found_before_the_gap() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let standby = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    standby.set_and_load("synchronous_standby_names", "gone").await.unwrap();
    until("the setting", Duration::from_secs(5), || async {
        (standby.setting("synchronous_standby_names").await.unwrap().as_deref() == Some("gone")).then_some(())
    })
    .await;
    match two.database.settle().await {
        Outcome::NotDone(reason) => assert!(reason.cause.as_str().contains("synchronous_standby_names is `gone`")),
        other => panic!("{other:?}"),
    }
    assert_eq!(one.is_writable().await, Tri::Yes);
}

/// On the new primary such a name shows as an unknown write within the client's deadline, never as a success and never as a hang.
#[tokio::test]
async fn a_write_that_waits_for_a_missing_standby_is_unknown() {
    let mut cluster = dr_postgres::testing::LocalCluster::start(direct()).await.unwrap();
    cluster.nodes[0].admin.answer_within = Duration::from_millis(500);
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    admin.set_and_load("synchronous_standby_names", "gone").await.unwrap();
    let members = cluster.members();
    let probe = members[0].probe();
    until("the wait", Duration::from_secs(10), || async {
        (probe.write().await.unwrap().accepted == Tri::Unknown).then_some(())
    })
    .await;
}

/// An operation holds a lock on the candidate; it survives the promotion and falls with its holder.
#[tokio::test]
async fn the_group_lock_survives_a_promotion() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    assert!(two.probe.group_lock("app-1").await.unwrap());
    assert!(two.probe.group_lock("app-1").await.unwrap(), "saying it twice is no change");
    let others = rig.cluster.members();
    let other = others[1].probe();
    assert!(!other.group_lock("app-2").await.unwrap());
    let (receipt, _) = fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    assert!(!other.group_lock("app-2").await.unwrap());
    drop(rig.sides);
    until("the lock", Duration::from_secs(5), || async { other.group_lock("app-2").await.unwrap().then_some(()) })
        .await;
}

/// PAUSE waits for a running transaction, gives up in time, and everything runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_ends_the_pause_and_not_the_service() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.as_ref().unwrap();
    let app = Session::open_plain(&rig.cluster.app_through_pooler().unwrap()).await.unwrap();
    app.run("begin", "BEGIN; INSERT INTO dr_writes VALUES (700, 1)").await.unwrap();
    until("the transaction", Duration::from_secs(5), || async {
        let long = rig.sides[0].probe.long_transactions(millis(20)).await.unwrap();
        long.iter().any(|one| one.user == "app" && one.helps.contains("pg_terminate_backend")).then_some(())
    })
    .await;
    match pooler.drain(budget()).await {
        Outcome::Unknown(cause) => panic!("{cause}"),
        Outcome::NotDone(reason) => {
            assert!(reason.cause.as_str().contains("a transaction is still running"), "{reason:?}");
            assert!(reason.cause.as_str().contains("all instances run again"), "{reason:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::No);
    app.run("commit", "COMMIT").await.unwrap();
    done(pooler.drain(budget()).await);
    done(pooler.drain(budget()).await);
    assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::Yes);
    let onto = dr_core::MemberId::new("pg1");
    resume(pooler, &onto).await;
    resume(pooler, &onto).await;
    app.run("write", "INSERT INTO dr_writes VALUES (700, 2)").await.unwrap();
}

/// Clients that were turned away because a drain outlived its budget stayed turned away after the run had gone on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_pooler_that_failed_fast_lets_clients_in_again() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.as_ref().unwrap();
    let target = rig.cluster.app_through_pooler().unwrap();
    done(pooler.drain(budget()).await);
    done(pooler.fail_fast().await);
    let seen = AppTier::read(pooler).await.unwrap();
    assert!(seen.drained != Tri::No && seen.detail.contains("new clients are refused"), "{seen:?}");
    assert!(Session::open_plain(&target).await.is_err(), "a client was let in");
    resume(pooler, &dr_core::MemberId::new("pg1")).await;
    let app = Session::open_plain(&target).await.unwrap();
    app.run("write", "INSERT INTO dr_writes VALUES (702, 1)").await.unwrap();
}

/// RESUME answers at once, whether or not the server behind the pooler lets anybody in. As long as every client still waits, writes do
/// not flow, and nobody says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_wait_for_a_server_are_not_said_to_write() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.as_ref().unwrap();
    let app = Session::open_plain(&rig.cluster.app_through_pooler().unwrap()).await.unwrap();
    app.run("write", "INSERT INTO dr_writes VALUES (701, 1)").await.unwrap();
    done(pooler.drain(budget()).await);
    let (_stopped, _) = fence(&rig.sides[0]).await;
    let waiting = tokio::spawn(async move { app.run("write", "INSERT INTO dr_writes VALUES (701, 2)").await });
    let look = || async { AppTier::read(pooler).await.unwrap() };
    until("a client that waits", Duration::from_secs(5), || async {
        look().await.detail.contains("hold 1 clients back").then_some(())
    })
    .await;
    rig.cluster.pgbouncer().unwrap().resume().await.unwrap();
    let seen = look().await;
    assert_eq!(seen.drained, Tri::Unknown, "{seen:?}");
    assert!(seen.detail.contains("1 clients wait for a server") && seen.stragglers.len() == 1, "{seen:?}");
    waiting.abort();
}

/// Session pooling would pause for ever: it is refused with the reason before anything waits.
#[tokio::test]
async fn session_pooling_is_refused_with_the_reason() {
    let rig = Rig::start(ClusterOptions { pool_mode: "session".into(), ..ClusterOptions::default() }).await;
    match rig.pooler.as_ref().unwrap().drain(budget()).await {
        Outcome::NotDone(reason) => assert!(reason.cause.as_str().contains("pooled by session"), "{reason:?}"),
        other => panic!("{other:?}"),
    }
}

/// A budget above PgBouncer's own limit would end in errors at the clients; a pooler that is gone cannot be drained.
#[tokio::test]
async fn a_drain_stays_below_the_clients_limit_and_needs_its_pooler() {
    let mut rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.clone().unwrap();
    assert_eq!(pooler.limit().await.unwrap(), seconds(120));
    let mut ask = budget();
    ask.budget = seconds(120);
    match pooler.drain(ask).await {
        Outcome::NotDone(reason) => assert!(reason.cause.as_str().contains("query_wait_timeout")),
        other => panic!("{other:?}"),
    }
    rig.cluster.kill_pooler();
    assert!(matches!(pooler.drain(budget()).await, Outcome::NotDone(_) | Outcome::Unknown(_)));
    assert!(AppTier::read(&pooler).await.is_err());
    assert_eq!(rig.sides[0].is_writable().await, Tri::Yes);
}

/// Prepared transactions are told with what ends them, and survive the switchover.
#[tokio::test]
async fn prepared_transactions_are_told_and_survive() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    app.run("prepare", "BEGIN; INSERT INTO dr_writes VALUES (800, 1); PREPARE TRANSACTION 'two-phase'").await.unwrap();
    let told = until("the transaction", Duration::from_secs(5), || async {
        one.probe.long_transactions(millis(1)).await.unwrap().into_iter().find(|long| long.state == "prepared")
    })
    .await;
    assert!(told.helps.contains("COMMIT PREPARED 'two-phase'"));
    drop(app);
    switch(&rig, one, two).await;
    let app = Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap();
    app.run("commit", "COMMIT PREPARED 'two-phase'").await.unwrap();
    assert_eq!(run().number(), 1);
}

/// A candidate that is restarted before it acts has forgotten what it was asked for: nobody waits for that any longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_promotion_that_a_restart_forgot_was_waited_for() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (receipt, _) = common::fence(one).await;
    let node = rig.cluster.pg2();
    let admin = Session::open(&node.admin).await.unwrap();
    const STARTUP: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'";
    let rows = admin.text_rows("tell its startup process", STARTUP).await.unwrap();
    let pid = rustix::process::Pid::from_raw(rows[0].get("pid").unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let op = promote(one, two, &receipt).await;
    let told = two.database.poll(&op).await.unwrap();
    assert!(matches!(told, OpProgress::Running { .. }), "{told:?}");
    let data = node.server.site().data.display().to_string();
    rig.cluster
        .run("pg_ctl", &["restart", "-m", "immediate", "-w", "-s", "-D", &data, "-l", &format!("{data}.log")])
        .unwrap();
    let told = until("an answer", Duration::from_secs(10), || async { two.database.poll(&op).await.ok() }).await;
    assert!(matches!(&told, OpProgress::Lost { saw } if saw.contains("restarted")), "{told:?}");
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    assert_eq!(two.is_writable().await, Tri::Yes);
}
