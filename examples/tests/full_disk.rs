//! The journal's disk is full in the middle of a write gap, on real servers (G01): the run turns back, and nobody loses anything.
//!
//! The test starts itself again with a disk of its own, mounted for that process alone; that needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    APPROVE, Actor, Answer, Catalog, PlannedSwitchover,
    run::{EventKind, RunOutcome},
};
use dr_engine::{Engine, Start};
use dr_postgres::{
    HostCommand, Postgres, Postmaster, Process, ServerControl, Signalled, Stop,
    testing::{ClusterOptions, LocalCluster, Writers},
};
use dr_sql::PgError;

#[test]
fn a_full_disk_in_the_gap_turns_the_run_back_without_a_loss() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "only root can mount a disk of its own");
        eprintln!("skipped: only root can mount a disk of its own");
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=24m none {0} && exec \"$0\" \"$@\"", disk.path().display());
    let trial = ["--exact", "child_on_a_small_disk", "--ignored", "--nocapture"];
    let mut child = Command::new("unshare");
    child.args(["-m", "sh", "-c", &mount]).arg(std::env::current_exe().unwrap()).args(trial);
    let output = child.env("DR_TEST_DISK", disk.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Reaches a host as before, and fills the disk as soon as a server was told to stop.
#[derive(Debug)]
struct Filling {
    inner: Arc<dyn ServerControl>,
    disk: PathBuf,
}

fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for size in [65_536, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[async_trait]
impl ServerControl for Filling {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        self.inner.run(command).await
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        self.inner.read(path).await
    }

    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        self.inner.write(path, contents).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        self.inner.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.inner.remove(path).await
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        self.inner.postmaster(data).await
    }

    async fn signal(&self, data: &Path, process: Process, stop: Stop) -> Result<Signalled, PgError> {
        fill(&self.disk.join("filler"));
        self.inner.signal(data, process, stop).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test above, on a disk of its own"]
async fn child_on_a_small_disk() {
    let disk = PathBuf::from(std::env::var_os("DR_TEST_DISK").unwrap());
    let cluster = LocalCluster::start(ClusterOptions::default()).await.unwrap();
    let mut writers = Writers::start(vec![cluster.app_through_pooler().unwrap()], 4).await.unwrap();
    let group = cluster.folder().join("group.toml");
    std::fs::write(&group, cluster.group_file()).unwrap();
    let full = disk.clone();
    let backend = Postgres::new().with_control(move |inner| Arc::new(Filling { inner, disk: full.clone() }));
    let engine = Engine::open(disk.join("journal")).leases(cluster.folder().join("leases")).backend(backend);
    let engine = engine.steps(Catalog::built_in()).unguarded().without_watcher().start().await.unwrap();
    let plan = engine.plan(&engine.group(&group).unwrap(), PlannedSwitchover::to("pg2")).await.unwrap();
    let run = engine
        .start(plan, Start::by(Actor::local("mira").authenticated("a test", "mira")).because("a full disk"))
        .await
        .unwrap();
    let mut watch = run.watch();
    let asked = loop {
        if let Some(digest) = watch.next().await.unwrap().unwrap().ask_digest {
            break digest;
        }
    };
    run.answer(Answer::choose(APPROVE, asked, Actor::local("ana").authenticated("a test", "ana"))).await.unwrap();
    let outcome = run.wait().await.unwrap();
    assert!(
        matches!(&outcome, RunOutcome::Aborted { reason } if reason.contains("the journal's disk is full")),
        "{outcome:?}"
    );

    let mut kinds = Vec::new();
    let mut events = run.events(0);
    while let Some(record) = events.next().await.unwrap() {
        kinds.push((record.event.kind(), record.event.node().map(ToString::to_string)));
    }
    let recorded = |kind: EventKind, node: &str| kinds.contains(&(kind, Some(node.to_owned())));
    assert!(recorded(EventKind::Finished, "fence"), "the outcome of an effect is recorded: {kinds:?}");
    assert!(!recorded(EventKind::Intended, "promote"), "nothing new is sent: {kinds:?}");

    writers.await_flow(Duration::from_secs(10)).await.unwrap();
    writers.stop().await;
    let check = writers.check(&cluster.app(cluster.pg1())).await.unwrap();
    assert!(check.acknowledged > 0, "{check:?}");
    assert_eq!((check.lost, writers.report().error_count()), (0, 0), "{check:?}");
}
