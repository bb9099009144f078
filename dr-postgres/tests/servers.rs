//! The parts below the provider traits, on real servers.

use std::time::Duration;

use dr_postgres::{
    ClusterState, Postmaster,
    hba::{self, HbaFence},
    testing::{ClusterOptions, LocalCluster, Writers, bare_switchover},
};
use dr_sql::Session;

/// The shortest sequence that PostgreSQL and PgBouncer allow loses nothing and shows no error through the pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bare_sequence_loses_nothing() {
    let cluster = LocalCluster::start(ClusterOptions::default()).await.unwrap();
    let pooler = cluster.pgbouncer().unwrap();
    let mut writers = Writers::start(vec![cluster.app_through_pooler().unwrap()], 8).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    writers.mark();
    let times = bare_switchover(cluster.pg1(), cluster.pg2(), Some(&pooler)).await.unwrap();
    writers.await_flow(Duration::from_secs(10)).await.unwrap();
    eprintln!("gap {:?}, parts {times:?}", writers.gap());
    writers.stop().await;
    let report = writers.report();
    assert_eq!(report.error_count(), 0, "{report:?}");
    let check = writers.check(&cluster.app(cluster.pg2())).await.unwrap();
    assert_eq!(check.lost, 0);
    assert_eq!(check.acknowledged, report.acknowledged);
    assert!(check.acknowledged > 100);

    let end = cluster.pg1().server.control_data().await.unwrap();
    assert_eq!(end.state, ClusterState::ShutDown);
    assert_eq!(cluster.pg1().server.postmaster().await.unwrap(), Postmaster::Stopped);
    let who = Session::open(&cluster.pg2().admin).await.unwrap().identity().await.unwrap();
    assert!(!who.in_recovery);
    assert_eq!(who.timeline, end.timeline.next());
}

/// A rule alone leaves sessions working; a malformed file is never loaded; the original file comes back byte for byte.
#[tokio::test]
async fn the_hba_fence_closes_opens_and_restores() {
    let cluster = LocalCluster::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await.unwrap();
    let node = cluster.pg1();
    let control = node.server.control();
    let original = control.read(&node.server.data("pg_hba.conf")).await.unwrap().unwrap();
    let app = Session::open(&cluster.app(node)).await.unwrap();
    let admin = Session::open(&node.admin).await.unwrap();
    let fence = HbaFence::of(&admin, control).await.unwrap();

    assert!(!hba::is_refused(&cluster.app(node)).await.unwrap());
    let rejected = fence.close(&["dr".into(), "replicator".into()]).await.unwrap();
    assert_eq!(rejected, ["app"]);
    hba::await_refused(&cluster.app(node), Duration::from_secs(5)).await.unwrap();
    app.run("write", "INSERT INTO dr_writes VALUES (1000, 1)").await.unwrap();
    assert_eq!(admin.client_sessions().await.unwrap().len(), 1);
    assert_eq!(admin.terminate_clients().await.unwrap(), 1);
    tokio::time::timeout(Duration::from_secs(5), async { while !admin.client_sessions().await.unwrap().is_empty() {} })
        .await
        .unwrap();
    assert!(app.run("write", "INSERT INTO dr_writes VALUES (1000, 2)").await.is_err());
    assert!(admin.senders().await.unwrap().iter().any(|row| row.streaming), "the standby keeps streaming");
    assert_eq!(control.read(&fence.original()).await.unwrap().unwrap(), original);

    fence.open().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), async { while hba::is_refused(&cluster.app(node)).await.unwrap() {} })
        .await
        .unwrap();
    fence.withdraw().await.unwrap();
    assert_eq!(control.read(&node.server.data("pg_hba.conf")).await.unwrap().unwrap(), original);

    let broken = [b"host all everybody\n", original.as_slice()].concat();
    control.write(&node.server.data("pg_hba.conf"), &broken).await.unwrap();
    let error = fence.close(&["dr".into()]).await.unwrap_err().to_string();
    assert!(error.contains("would not be loaded") && error.contains("nothing was changed"), "{error}");
    assert_eq!(control.read(&node.server.data("pg_hba.conf")).await.unwrap().unwrap(), broken);
}
