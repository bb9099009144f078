//! The stock program on real PostgreSQL servers behind PgBouncer, from a group file as an operator writes it.

use std::time::Duration;

use dr_cli::Exit;
use dr_postgres::testing::{ClusterOptions, LocalCluster, Writers};

use crate::{
    process::{spawn, until},
    stage::Stage,
};

/// Check, plan, start, watch: four lines, while applications write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_lines_switch_real_servers_over() {
    let cluster = LocalCluster::start(ClusterOptions::default()).await.unwrap();
    let mut writers = Writers::start(vec![cluster.app_through_pooler().unwrap()], 4).await.unwrap();
    let stage = Stage::new();
    std::fs::write(stage.path("groups/app.toml"), cluster.group_file()).unwrap();
    let stage = tokio::task::spawn_blocking(move || {
        four_lines(&stage);
        stage
    })
    .await
    .unwrap();
    writers.await_flow(Duration::from_secs(10)).await.unwrap();
    writers.stop().await;
    let check = writers.check(&cluster.app(cluster.pg2())).await.unwrap();
    assert!(check.acknowledged > 100, "{check:?}");
    assert_eq!((check.lost, writers.report().error_count()), (0, 0), "{check:?}");
    drop(stage);
}

fn four_lines(stage: &Stage) {
    let said = stage.dr("check DIR/groups/app.toml");
    assert_eq!(said.exit, Exit::Done, "{}{}", said.out, said.err);
    let said = stage.dr("plan switchover app --to pg2 --save DIR/app.plan");
    assert_eq!(said.exit, Exit::Done, "{}{}", said.out, said.err);
    assert!(said.out.contains("pg1 -> pg2") && said.out.contains("no way back from here"), "{}", said.out);
    let plan = stage.path("app.plan").display().to_string();
    let mut start = spawn(stage, &["start", &plan, "--because", "CHG-4711"]);
    until(&mut start, "answer with:");
    let watch = spawn(stage, &["watch", "app-1"]);
    let code = stage.code("app-1");
    let said = stage.by("ana", Some("dba"), &format!("approve app-1 --code {code}"), None);
    assert_eq!(said.exit, Exit::Done, "{}{}", said.out, said.err);
    for (name, child) in [("start", start), ("watch", watch)] {
        let ended = child.wait_with_output().unwrap();
        let page = String::from_utf8(ended.stdout).unwrap() + &String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{name}: {page}");
        if name == "start" {
            assert!(page.contains("DONE  app-1  switchover pg1 -> pg2"), "{page}");
        }
    }
    let report = stage.dr("report app-1 --json").json();
    assert_eq!(report["outcome"]["is"], "succeeded", "{report}");
    assert_eq!(report["lost"]["is"], "nothing", "{report}");
    let status = stage.dr("status").out;
    assert!(status.contains("pg2") && status.contains("pg1"), "{status}");
}

/// A standby was deleted, and another cluster made in its directory and at its port: the plan speaks of a server that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_another_cluster_at_the_standbys_address_is_refused_before_anything_is_touched() {
    let cluster = LocalCluster::start(ClusterOptions::default()).await.unwrap();
    let mut writers = Writers::start(vec![cluster.app_through_pooler().unwrap()], 2).await.unwrap();
    let stage = Stage::new();
    std::fs::write(stage.path("groups/app.toml"), cluster.group_file()).unwrap();
    let (stage, said) = tokio::task::spawn_blocking(move || {
        let said = stage.dr("plan switchover app --to pg2 --save DIR/app.plan");
        (stage, said)
    })
    .await
    .unwrap();
    assert_eq!(said.exit, Exit::Done, "{}{}", said.out, said.err);
    let server = &cluster.pg2().server;
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let data = server.site().data.clone();
    let kept = data.with_extension("kept");
    std::fs::rename(&data, &kept).unwrap();
    cluster.run("initdb", &["-D", &data.to_string_lossy(), "-U", "dr", "-A", "trust", "-N"]).unwrap();
    std::fs::copy(kept.join("postgresql.conf"), data.join("postgresql.conf")).unwrap();
    server.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
    let (stage, said) = tokio::task::spawn_blocking(move || {
        let said = stage.dr("start DIR/app.plan --because CHG-4711");
        (stage, said)
    })
    .await
    .unwrap();
    assert_eq!(said.exit, Exit::Refused, "{}{}", said.out, said.err);
    assert!(said.err.contains("DR606") && said.err.contains("was made anew"), "{}{}", said.out, said.err);
    assert!(!stage.dr("list").out.contains("app-1"), "no run was begun");
    writers.await_flow(Duration::from_secs(10)).await.unwrap();
    writers.stop().await;
    let check = writers.check(&cluster.app(cluster.pg1())).await.unwrap();
    assert_eq!((check.lost, writers.report().error_count()), (0, 0), "{check:?}");
}
