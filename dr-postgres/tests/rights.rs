//! The least rights with which a switchover works, all of it, and what is said when one is missing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{sync::Arc, time::Duration};

use common::{Rig, Side, switch, until};
use dr_core::{
    DatabaseProbe, ManagedDatabase, MemberId, Tri,
    contract::{Becomes, Effort, Rehearsal, RehearseMember, Weight},
    seconds,
};
use dr_postgres::{
    Member, Peer, resource_address,
    testing::{ClusterOptions, LocalCluster, Node},
};
use dr_sql::Session;

/// What docs/postgres.md lists, as it lists it.
const LEAST: &str = "\
GRANT pg_monitor, pg_checkpoint, pg_read_server_files TO probe;
GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_reload_conf() TO probe;
GRANT ALTER SYSTEM ON PARAMETER wal_retrieve_retry_interval TO probe";

async fn start(grants: &str) -> Rig {
    let options = ClusterOptions { pooler: false, ..ClusterOptions::default() };
    let cluster = LocalCluster::start(options).await.unwrap();
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    admin.run("make the role", "CREATE ROLE probe LOGIN PASSWORD 'local-cluster'").await.unwrap();
    if !grants.is_empty() {
        admin.run("give rights", grants).await.unwrap();
    }
    let at = admin.identity().await.unwrap().position;
    let standby = Session::open(&cluster.pg2().admin).await.unwrap();
    until("the role on the standby", Duration::from_secs(10), || async {
        (standby.replayed().await.unwrap().unwrap() >= at).then_some(())
    })
    .await;
    let target = |node: &Node| {
        let mut target = node.admin.clone().with_application("dr/test/member");
        target.user = "probe".into();
        target
    };
    let peer = |node: &Node| Peer {
        name: MemberId::new(node.name.clone()),
        address: resource_address(&target(node), &node.server),
        target: target(node),
    };
    let side = |node: &Node, other: &Node| {
        Side::of(&Arc::new(Member::new("app", node.server.clone(), target(node), vec![peer(other)])))
    };
    let sides = [side(cluster.pg1(), cluster.pg2()), side(cluster.pg2(), cluster.pg1())];
    Rig { cluster, sides, pooler: None }
}

async fn rehearse(candidate: &Side, from: &str) -> Rehearsal {
    let request = RehearseMember { becomes: Becomes::Writer { instead_of: from.into() }, effort: Effort::Try };
    candidate.database.rehearse(&request).await.unwrap()
}

/// There and back, so that every history and slot is made by this role.
#[tokio::test]
async fn bug_the_documented_rights_were_not_enough() {
    let rig = start(LEAST).await;
    let [one, two] = &rig.sides;
    for (old, new, from) in [(one, two, "pg1"), (two, one, "pg2")] {
        assert_eq!(new.database.replication().await.unwrap().streaming, Tri::Yes);
        assert_eq!(new.probe.position().await.unwrap().in_recovery, Tri::Yes);
        assert_eq!(old.probe.long_transactions(seconds(10)).await.unwrap(), Vec::new());
        let found = rehearse(new, from).await;
        assert_eq!(found.obstacles, Vec::new());
        assert!(found.untried.iter().all(|text| text.contains("pg_hba_file_rules")), "{found:?}");
        switch(&rig, old, new).await;
        let position = new.probe.position().await.unwrap();
        assert!(position.parted_at.at().is_some(), "the history can be read: {position:?}");
        assert_eq!(new.is_writable().await, Tri::Yes);
        until("the former primary", Duration::from_secs(10), || async {
            (old.database.replication().await.unwrap().streaming == Tri::Yes).then_some(())
        })
        .await;
    }
    let slots = Session::open(&rig.cluster.pg1().admin).await.unwrap().slots().await.unwrap();
    assert_eq!(slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(), ["dr_pg2"]);
}

/// One look names everything; the command gives everything.
#[tokio::test]
async fn missing_rights_are_told_at_once_and_the_command_gives_them() {
    let rig = start("GRANT pg_monitor TO probe").await;
    let found = rehearse(&rig.sides[1], "pg1").await;
    let [obstacle] = found.obstacles.as_slice() else { panic!("{found:#?}") };
    assert_eq!(obstacle.weight, Weight::Always);
    for part in ["pg_promote", "pg_checkpoint", "pg_reload_conf", "ALTER SYSTEM ON PARAMETER", "pg_read_file"] {
        assert!(obstacle.helps.contains(part), "{part}: {}", obstacle.helps);
    }
    let statements = obstacle.helps.split('\'').nth(1).unwrap();
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    admin.run("give rights", statements).await.unwrap();
    until("the rights on the standby", Duration::from_secs(10), || async {
        rehearse(&rig.sides[1], "pg1").await.obstacles.is_empty().then_some(())
    })
    .await;
}

/// A role that may not read files finds the timeline of a standby whose receiver is gone, and never that of a promotion that has not
/// ended.
#[tokio::test]
async fn a_timeline_is_told_without_reading_files() {
    let rig = start(LEAST).await;
    let [one, two] = &rig.sides;
    switch(&rig, one, two).await;
    // Now pg1 has received timeline 2; its primary goes, and its control file may be older than that.
    rig.cluster.pg2().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let told = one.probe.position().await.unwrap();
    let exact = Session::open(&rig.cluster.pg1().admin).await.unwrap().identity().await.unwrap();
    assert_eq!((told.lineage.generation, exact.timeline.number()), (2, 2));
    // Promoted, it passes from 2 to 3 and shows nothing else on the way.
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    let watching = one.clone();
    let watch = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&(Tri::No, 3)) {
            let told = watching.probe.position().await.unwrap();
            let state = (told.in_recovery, told.lineage.generation);
            if seen.last() != Some(&state) {
                seen.push(state);
            }
        }
        seen
    });
    admin.request_promotion().await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(20), watch).await.unwrap().unwrap();
    assert_eq!(seen.last(), Some(&(Tri::No, 3)));
    assert!(seen.iter().all(|state| [(Tri::Yes, 2), (Tri::No, 3)].contains(state)), "{seen:?}");
}
