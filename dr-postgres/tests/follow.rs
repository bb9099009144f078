//! A third server follows the new primary: its connection is changed while it runs, and what it has is never destroyed.
#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{fs, sync::Arc, time::Duration};

use common::{Rig, Side, await_op, done, handle, key, until};
use dr_core::{
    ManagedDatabase, MemberId, Outcome, Tri,
    contract::{FollowRequest, NotDone, Retry},
};
use dr_postgres::{
    LocalControl, Member, Peer, Server, ServerControl, Site, resource_address,
    testing::{ClusterOptions, Node},
};
use dr_sql::{Session, Target};

const PATIENCE: Duration = Duration::from_secs(20);

/// A third server: a copy of `pg1` that streams from it.
async fn third(rig: &Rig) -> (Node, Side) {
    let cluster = &rig.cluster;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bin = cluster.pg1().server.site().bin.clone();
    let mut site = Site::new("pg3", cluster.folder().join("pg3"), &bin);
    site.log = cluster.folder().join("pg3.log");
    let control: Arc<dyn ServerControl> = Arc::new(LocalControl::new("pg3", cluster.folder()).unwrap());
    let admin = Target { port, name: "pg3".into(), ..cluster.pg1().admin.clone() };
    let node = Node { name: "pg3".into(), port, server: Server::new(site, control), admin };
    let connect = format!(
        "host=127.0.0.1 port={} user=replicator application_name=pg3 password=local-cluster",
        cluster.pg1().port
    );
    let data = cluster.folder().join("pg3").display().to_string();
    let args = ["-d", &connect, "-D", &data, "-R", "-X", "stream", "-c", "fast", "--no-sync"];
    cluster.run("pg_basebackup", &args).unwrap();
    let path = node.server.data("postgresql.conf");
    let text = fs::read_to_string(&path).unwrap();
    let old = cluster.pg1().port;
    fs::write(&path, text.replace(&format!("port = {old}"), &format!("port = {port}"))).unwrap();
    node.server.start().await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
    let peers = cluster.nodes.iter().map(|node| Peer {
        name: MemberId::new(node.name.clone()),
        target: node.admin.clone(),
        address: resource_address(&node.admin, &node.server),
    });
    let target = node.admin.clone().with_application("dr/test/member");
    let side = Side::of(&Arc::new(Member::new("app", node.server.clone(), target, peers.collect())));
    (node, side)
}

async fn follow(side: &Side, new: &Side) -> Outcome<()> {
    let (target, primary) = (side.target().await, new.target().await);
    let request =
        FollowRequest { target, primary, endpoint: new.member.endpoint(), parted_at: None, key: key("follow") };
    side.database.follow(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_follows_the_new_primary_and_one_that_has_more_is_left_alone() {
    let rig = Rig::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await;
    let [old, new] = &rig.sides;
    let (node, uks) = third(&rig).await;
    until("the stream of pg3", PATIENCE, || async {
        uks.database.replication().await.ok().filter(|reading| reading.streaming == Tri::Yes)
    })
    .await;
    done(follow(&uks, old).await);

    let (receipt, _) = common::fence(old).await;
    let op = common::promote(old, new, &receipt).await;
    await_op(new, &op).await.unwrap();
    let op = handle(follow(&uks, new).await);
    await_op(&uks, &op).await.unwrap();
    let (seen, now) = (uks.database.describe().await.unwrap(), uks.database.replication().await.unwrap());
    assert!(seen.follows(&new.member.address(), None), "{:?}", seen.follows);
    assert_eq!((now.streaming, now.lineage), (Tri::Yes, Some(new.target().await.lineage)));
    done(follow(&uks, new).await);
    let slots = Session::open(&rig.cluster.pg2().admin).await.unwrap().slots().await.unwrap();
    assert!(slots.iter().any(|slot| slot.name == "dr_pg3" && slot.active), "{slots:?}");

    // A primary is no standby, whoever asks.
    assert!(matches!(follow(new, new).await, Outcome::Conflict(_) | Outcome::NotDone(_)));

    // What pg3 received of a history that pg1 does not have stays with it.
    let app = Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap();
    app.run("write", "INSERT INTO dr_writes VALUES (3, 1)").await.unwrap();
    let rows = || async {
        let target = Target { port: node.port, name: "pg3".into(), ..rig.cluster.app(rig.cluster.pg1()) };
        let there = Session::open(&target).await.ok()?;
        let found = there.text_rows("look", "SELECT 1 FROM dr_writes WHERE client = 3").await.ok()?;
        (!found.is_empty()).then_some(())
    };
    until("the row on pg3", PATIENCE, rows).await;
    rig.cluster.pg1().server.control().remove(&rig.cluster.pg1().server.data("standby.signal")).await.unwrap();
    rig.cluster.pg1().server.start().await.unwrap();
    rig.cluster.pg1().server.await_ready(PATIENCE).await.unwrap();
    match follow(&uks, old).await {
        Outcome::NotDone(NotDone { cause, retry: Retry::Never }) => {
            assert!(cause.as_str().contains("has received up to"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
    rows().await.unwrap();
    assert!(uks.database.describe().await.unwrap().follows(&new.member.address(), None));
}
