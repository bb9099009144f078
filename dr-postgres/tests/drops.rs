//! What a promotion drops although nothing of the log is lost, on real servers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use common::{Rig, Side};
use dr_core::{
    ManagedDatabase,
    contract::{Becomes, Effort, Rehearsal, RehearseMember},
};
use dr_postgres::testing::{ClusterOptions, LocalCluster, Node};
use dr_sql::Session;

async fn start(settings: &[&str]) -> Rig {
    let settings = settings.iter().map(|line| (*line).to_owned()).collect();
    Rig::start(ClusterOptions { pooler: false, settings, ..ClusterOptions::default() }).await
}

async fn rehearse(rig: &Rig) -> Rehearsal {
    let request = RehearseMember { becomes: Becomes::Writer { instead_of: "pg1".into() }, effort: Effort::Try };
    rig.sides[1].database.rehearse(&request).await.unwrap()
}

async fn on(node: &Node, database: &str, sql: &str) {
    let session = Session::open(&node.admin.clone().with_database(database)).await.unwrap();
    session.run("prepare a test", sql).await.unwrap();
}

fn restart(cluster: &LocalCluster, node: &Node) {
    let data = node.server.site().data.display().to_string();
    cluster.run("pg_ctl", &["restart", "-w", "-s", "-D", &data, "-l", &format!("{data}.log")]).unwrap();
}

fn told(found: &Rehearsal, word: &str) -> (String, String) {
    let drop = found.drops.iter().find(|drop| drop.what.contains(word));
    let drop = drop.unwrap_or_else(|| panic!("{word}: {found:#?}"));
    (drop.what.clone(), drop.detail.clone())
}

/// Every database is looked at, and only tables that hold rows are told.
#[tokio::test]
async fn bug_unlogged_rows_were_lost_without_a_word() {
    let rig = start(&[]).await;
    let node = rig.cluster.pg1();
    on(node, "postgres", "CREATE DATABASE other").await;
    on(node, "other", "CREATE UNLOGGED TABLE sessions(id int); INSERT INTO sessions SELECT generate_series(1, 1000)")
        .await;
    on(node, "app", "CREATE UNLOGGED TABLE never(id int)").await;
    on(node, "app", "CREATE UNLOGGED TABLE once(id int); INSERT INTO once VALUES (1); DELETE FROM once").await;
    on(node, "app", "CREATE TABLE kept(id int); INSERT INTO kept VALUES (1); CREATE TEMP TABLE temporary(id int)")
        .await;
    let found = rehearse(&rig).await;
    let (what, detail) = told(&found, "unlogged");
    assert_eq!(what, "the rows of unlogged tables in the database `other`: public.sessions");
    assert!(detail.contains("kB"), "{detail}");
    assert_eq!(found.drops.len(), 1, "{found:#?}");
    assert_eq!(found.obstacles, Vec::new());
    // With a silent primary the names are known from the candidate's own catalogue.
    node.server.stop_fast(std::time::Duration::from_secs(20)).await.unwrap();
    let found = rehearse(&rig).await;
    assert!(told(&found, "public.sessions").1.contains("does not answer"));
    assert!(found.untried.iter().any(|text| text.contains("what pg1 has and pg2 lacks")), "{found:#?}");
}

#[tokio::test]
async fn bug_logical_slots_were_lost_without_a_word() {
    let rig = start(&["wal_level = logical"]).await;
    let node = rig.cluster.pg1();
    on(node, "app", "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')").await;
    on(node, "app", "SELECT pg_create_physical_replication_slot('barman')").await;
    let found = rehearse(&rig).await;
    let (what, detail) = told(&found, "`cdc`");
    assert!(
        what.contains("test_decoding") && what.contains("`app`") && detail.contains("not in use"),
        "{what} {detail}"
    );
    assert!(told(&found, "`barman`").0.contains("stays behind on pg1"));
    // The slot of the candidate itself means nothing once it is the primary.
    assert_eq!(found.drops.len(), 2, "{found:#?}");
}

#[tokio::test]
async fn sequences_and_prepared_transactions_are_told_in_a_line() {
    let rig = start(&[]).await;
    on(rig.cluster.pg1(), "app", "CREATE SEQUENCE one; CREATE TABLE two(id serial)").await;
    on(rig.cluster.pg1(), "app", "BEGIN; INSERT INTO dr_writes VALUES (7, 7); PREPARE TRANSACTION 'order-7'").await;
    let found = rehearse(&rig).await;
    let (what, detail) = told(&found, "every sequence");
    assert!(!what.contains('2') || what.contains("32"), "figures that change are no part of the words: {what}");
    assert_eq!(detail, "sequences: 2 in `app`");
    assert!(found.untried.iter().any(|text| text.contains("`order-7`")), "{found:#?}");
}

/// A library with an extension is an obstacle, another one is told; archiving that ends is told.
#[tokio::test]
async fn bug_libraries_and_archiving_ended_without_a_word() {
    let rig = start(&[]).await;
    let node = rig.cluster.pg1();
    for (name, value) in [
        ("shared_preload_libraries", "pg_stat_statements, auto_explain"),
        ("archive_mode", "on"),
        ("archive_command", "/bin/true"),
    ] {
        let value = if name.starts_with("shared") { value.to_owned() } else { format!("'{value}'") };
        on(node, "postgres", &format!("ALTER SYSTEM SET {name} = {value}")).await;
    }
    restart(&rig.cluster, node);
    on(node, "app", "CREATE EXTENSION pg_stat_statements").await;
    let rig = Rig { sides: rig.cluster.members().each_ref().map(Side::of), ..rig };
    let found = rehearse(&rig).await;
    assert!(told(&found, "archiving").1.contains("archive_mode is off on pg2"));
    assert!(told(&found, "auto_explain").0.contains("preloaded library"));
    let [obstacle] = found.obstacles.as_slice() else { panic!("{found:#?}") };
    assert!(obstacle.what.contains("pg_stat_statements") && obstacle.what.contains("app"), "{obstacle:?}");
}

/// A database that nobody may enter is told, and hides no other one.
#[tokio::test]
async fn a_database_that_cannot_be_entered_is_untried() {
    let rig = start(&[]).await;
    let node = rig.cluster.pg1();
    on(node, "postgres", "CREATE DATABASE closed ALLOW_CONNECTIONS false").await;
    on(node, "app", "CREATE UNLOGGED TABLE sessions(id int); INSERT INTO sessions VALUES (1)").await;
    let found = rehearse(&rig).await;
    assert!(found.untried.iter().any(|text| text.contains("`closed`")), "{found:#?}");
    told(&found, "public.sessions");
}

/// Extensions of every database are looked for on the candidate, in the version that the data is of.
#[tokio::test]
async fn bug_extensions_of_other_databases_were_not_looked_for() {
    let rig = start(&[]).await;
    let node = rig.cluster.pg1();
    on(node, "app", "CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gin").await;
    assert_eq!(rehearse(&rig).await.obstacles, Vec::new());
    // The same as on a host without the package, or with an older one.
    on(node, "app", "UPDATE pg_extension SET extname = 'elsewhere' WHERE extname = 'pg_trgm'").await;
    on(node, "app", "UPDATE pg_extension SET extversion = '99.1' WHERE extname = 'btree_gin'").await;
    let found = rehearse(&rig).await;
    let what = |word: &str| found.obstacles.iter().any(|obstacle| obstacle.what.contains(word));
    assert!(what("`elsewhere`") && what("is not installed on pg2"), "{found:#?}");
    assert!(what("`btree_gin` 99.1 of the database `app` is there as"), "{found:#?}");
}
