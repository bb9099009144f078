//! Ways in which a configured place lies about a server. Each is refused before anything is sent, or is right; nobody is stopped who
//! was not proved, and nothing is called fenced while a primary answers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::{Rig, Side, key, until};
use dr_core::{
    Fence, Grade, ManagedDatabase, Outcome, ProviderError, Tri,
    contract::{Effort, EngageFence, FenceReading, Rehearsal, Weight},
};
use dr_postgres::{
    HostCommand, LocalControl, Member, Peer, Postmaster, Server, ServerControl, Site, Stop, Unit, resource_address,
    testing::{ClusterOptions, LocalCluster, Node},
};
use dr_sql::{PgError, Session, Target};

fn direct() -> ClusterOptions {
    ClusterOptions { pooler: false, ..ClusterOptions::default() }
}

fn sh(script: &str, words: &[&Path]) {
    let run = Command::new("sh").args(["-ec", script, "sh"]).args(words).output().unwrap();
    assert!(run.status.success(), "{script}: {}", String::from_utf8_lossy(&run.stderr));
}

/// Whether this account may mount; containers often may not.
fn may_mount(folder: &Path) -> bool {
    let (a, b) = (folder.join("mount-a"), folder.join("mount-b"));
    fs::create_dir(&a).unwrap();
    fs::create_dir(&b).unwrap();
    let mounted = Command::new("mount").arg("--bind").args([&a, &b]).stderr(Stdio::null()).status();
    let may = mounted.is_ok_and(|status| status.success());
    if may {
        sh("umount \"$1\"", &[&b]);
    }
    may
}

/// A bind mount that ends with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn over(from: &Path, to: &Path) -> Self {
        sh("mount --bind \"$1\" \"$2\"", &[from, to]);
        Self(to.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A copy of a data directory as it lies there, `postmaster.pid` included.
fn copy(cluster: &LocalCluster, node: &Node, name: &str) -> PathBuf {
    let to = cluster.folder().join(name);
    sh("cp -a \"$1\" \"$2\"", &[&node.server.site().data, &to]);
    to
}

/// The member `pg1` as a wrong group file describes it.
fn lie(cluster: &LocalCluster, change: impl FnOnce(&mut Site, &mut Target)) -> Side {
    let (node, other) = (cluster.pg1(), cluster.pg2());
    let (mut site, mut target) = (node.server.site().clone(), node.admin.clone().with_application("dr/test/lie"));
    change(&mut site, &mut target);
    let server = Server::new(site, Arc::new(LocalControl::new("pg1", cluster.folder()).unwrap()));
    let address = resource_address(&other.admin, &other.server);
    let peers = vec![Peer { name: "pg2".into(), target: other.admin.clone(), address }];
    Side::of(&Arc::new(Member::new("app", server, target, peers)))
}

async fn engage(rig: &Rig, side: &Side) -> Outcome<()> {
    let token =
        dr_core::contract::FenceToken { fence: side.fence.name(), state: dr_core::base::Json::default(), known: true };
    let lineage = rig.sides[1].target().await.lineage;
    side.fence.engage(EngageFence { target: side.member.bound(lineage), token, key: key("fence") }).await
}

/// Nobody was stopped, and nothing of ours lies about.
async fn unharmed(rig: &Rig) {
    for node in &rig.cluster.nodes {
        assert!(matches!(node.server.postmaster().await.unwrap(), Postmaster::Ready(_)), "{} runs", node.name);
        let left = fs::read_dir(&node.server.site().data)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let left: Vec<String> = left.filter(|name| name.starts_with("pgsql_tmp") || name.starts_with(".dr-")).collect();
        assert!(left.is_empty(), "{}: {left:?}", node.name);
    }
    assert!(!rig.cluster.pg1().server.data("standby.signal").exists());
    assert_eq!(rig.sides[0].is_writable().await, Tri::Yes);
}

fn is_always(rehearsal: &Rehearsal) -> bool {
    rehearsal.obstacles.iter().any(|obstacle| obstacle.weight == Weight::Always)
}

/// The lie is found by the look before a plan, by the rehearsal, before the fence and by the fence, and nothing is sent.
async fn refused(rig: &Rig, side: &Side, name: &str, words: &str) {
    let told = side.database.describe().await.unwrap_err();
    assert!(matches!(&told, ProviderError::Refused { why, .. } if why.contains(words)), "{name}: {told}");
    let rehearsal = side.fence.rehearse(Effort::Try).await.unwrap();
    assert!(is_always(&rehearsal), "{name}: {rehearsal:?}");
    assert!(matches!(side.fence.prepare().await, Err(ProviderError::Refused { .. })), "{name}");
    let outcome = engage(rig, side).await;
    assert!(matches!(&outcome, Outcome::NotDone(_)), "{name}: {outcome:?}");
    not_confirmed(side, name).await;
    unharmed(rig).await;
}

async fn not_confirmed(side: &Side, name: &str) -> Option<FenceReading> {
    let reading = side.fence.inspect().await.ok();
    assert!(reading.as_ref().is_none_or(|reading| reading.grade() < Grade::Confirmed), "{name}: {reading:?}");
    reading
}

/// The place is right, by whatever name: it is described, and the fence is engaged, read back and given back.
async fn right(rig: &Rig, side: &Side, name: &str) {
    let seen = side.database.describe().await.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(seen.writable, Tri::Yes, "{name}");
    let (receipt, reading) = common::fence(side).await;
    assert!(reading.silent && reading.end.is_some(), "{name}: {reading:?}");
    rig.cluster.pg1().server.await_stopped(Duration::from_secs(20)).await.unwrap();
    common::done(side.fence.release(common::order(&receipt)).await);
    assert_eq!(side.is_writable().await, Tri::Yes, "{name}");
}

/// Copies that lie where the server used to be: stopped cleanly, taken while it ran, restored from a snapshot, behind a link, with a
/// `postmaster.pid` that names somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_copy_was_taken_for_the_server() {
    let rig = Rig::start(direct()).await;
    let (cluster, server) = (&rig.cluster, &rig.cluster.pg1().server);
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let clean = copy(cluster, cluster.pg1(), "clean");
    server.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
    let running = copy(cluster, cluster.pg1(), "running");
    let snapshot = copy(cluster, cluster.pg1(), "snapshot");
    fs::remove_file(snapshot.join("postmaster.pid")).unwrap();
    let link = cluster.folder().join("link");
    symlink(&clean, &link).unwrap();
    let reused = copy(cluster, cluster.pg1(), "reused");
    let pid = fs::read_to_string(reused.join("postmaster.pid")).unwrap();
    let (_, rest) = pid.split_once('\n').unwrap();
    fs::write(reused.join("postmaster.pid"), format!("{}\n{rest}", std::process::id())).unwrap();
    let missing = cluster.folder().join("missing");
    let lies = [("clean", clean), ("running", running), ("snapshot", snapshot), ("link", link), ("reused", reused)];
    for (name, data) in lies {
        refused(&rig, &lie(cluster, |site, _| site.data.clone_from(&data)), name, "runs from").await;
    }
    refused(&rig, &lie(cluster, |site, _| site.data = missing), "missing", "runs from").await;
}

/// A relay to another port.
async fn relay(to: u16) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut to) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await else { return };
                let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    port
}

/// Other servers: exchanged lines, a forwarded port, a clone that runs beside, a clone that was promoted and is ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_another_server_was_taken_for_this_one() {
    let rig = Rig::start(direct()).await;
    let (cluster, two) = (&rig.cluster, rig.cluster.pg2());
    let theirs = two.server.site().data.clone();
    refused(&rig, &lie(cluster, |site, _| site.data.clone_from(&theirs)), "exchanged lines", "runs from").await;
    let forwarded = relay(two.port).await;
    let side = lie(cluster, |_, target| target.port = forwarded);
    refused(&rig, &side, "a port forwarded to another server", "runs from").await;

    let clone = copy(cluster, cluster.pg2(), "clone");
    sh("rm -f \"$1\"/postmaster.pid; printf 'port = 1\\n' >> \"$1\"/postgresql.auto.conf", &[&clone]);
    let clone_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let auto = clone.join("postgresql.auto.conf");
    fs::write(&auto, format!("port = {clone_port}\ncluster_name = 'clone'\n")).unwrap();
    let data = clone.to_string_lossy().into_owned();
    let log = cluster.folder().join("clone.log").to_string_lossy().into_owned();
    cluster.run("pg_ctl", &["start", "-w", "-s", "-D", &data, "-l", &log]).unwrap();
    refused(&rig, &lie(cluster, |site, _| site.data.clone_from(&clone)), "a clone that runs beside", "runs from").await;
    cluster.run("pg_ctl", &["promote", "-w", "-s", "-D", &data]).unwrap();
    refused(&rig, &lie(cluster, |site, _| site.data.clone_from(&clone)), "a clone that writes", "runs from").await;
    let side = lie(cluster, |_, target| target.port = clone_port);
    refused(&rig, &side, "the address of a clone that writes", "runs from").await;
    cluster.run("pg_ctl", &["stop", "-w", "-s", "-m", "fast", "-D", &data]).unwrap();
    refused(&rig, &lie(cluster, |site, _| site.data = clone), "a clone that is ahead, stopped", "runs from").await;
}

/// `systemctl` that says what it is told to.
fn unit(cluster: &LocalCluster, says: &str) -> Unit {
    let script = cluster.folder().join(format!("systemctl-{}", says.replace(|c: char| !c.is_alphanumeric(), "-")));
    fs::write(&script, format!("#!/bin/sh\necho \"$@\" >> {}\n{says}\n", cluster.folder().join("asked").display()))
        .unwrap();
    sh("chmod 755 \"$1\"; : > \"$2\"; chmod 666 \"$2\"", &[&script, &cluster.folder().join("asked")]);
    Unit { name: "postgresql@15-other".into(), command: vec![script.to_string_lossy().into_owned()] }
}

/// The unit of another cluster, one that runs nothing, one that may not be asked: nothing is masked, nothing is signalled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_does_not_run_this_server_is_refused() {
    let rig = Rig::start(direct()).await;
    let cluster = &rig.cluster;
    for (name, says) in
        [("the unit of another cluster", "echo MainPID=1"), ("a unit that runs nothing", "echo MainPID=0")]
    {
        let side = lie(cluster, |site, _| site.unit = Some(unit(cluster, says)));
        refused(&rig, &side, name, "postgresql@15-other").await;
        assert!(!fs::read_to_string(cluster.folder().join("asked")).unwrap().contains("mask"), "{name}");
    }
    let silent = "echo 'sudo: a password is required' >&2; exit 1";
    let side = lie(cluster, |site, _| site.unit = Some(unit(cluster, silent)));
    side.database.describe().await.unwrap();
    let rehearsal = side.fence.rehearse(Effort::Look).await.unwrap();
    assert!(rehearsal.obstacles.iter().any(|one| one.what.contains("a password is required")), "{rehearsal:?}");
    let outcome = engage(&rig, &side).await;
    assert!(matches!(&outcome, Outcome::NotDone(_)), "{outcome:?}");
    unharmed(&rig).await;
}

/// Two names of one directory are right: a link, a relay, a bind mount. Another directory under the same name is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_of_the_same_place_are_right() {
    let rig = Rig::start(direct()).await;
    let (cluster, data) = (&rig.cluster, rig.cluster.pg1().server.site().data.clone());
    let link = cluster.folder().join("link");
    symlink(&data, &link).unwrap();
    right(&rig, &lie(cluster, |site, _| site.data = link), "a link").await;
    let forwarded = relay(cluster.pg1().port).await;
    right(&rig, &lie(cluster, |_, target| target.port = forwarded), "a relay").await;
    if !may_mount(cluster.folder()) {
        return;
    }
    let bound = cluster.folder().join("bound");
    fs::create_dir(&bound).unwrap();
    let mounted = Mounted::over(&data, &bound);
    right(&rig, &lie(cluster, |site, _| site.data.clone_from(&bound)), "a bind mount").await;
    // It was started again under that name.
    let server = &cluster.pg1().server;
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    drop(mounted);
    server.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
    let other = copy(cluster, cluster.pg1(), "other");
    let mounted = Mounted::over(&other, &bound);
    let side = lie(cluster, |site, _| site.data.clone_from(&bound));
    refused(&rig, &side, "a bind mount of another directory", "runs from").await;
    drop(mounted);
    // The volume is mounted anew, from a snapshot, below the server that runs: its own path shows another directory now.
    let mounted = Mounted::over(&other, &data);
    let side = lie(cluster, |_, _| {});
    let told = side.database.describe().await;
    let outcome = engage(&rig, &side).await;
    not_confirmed(&side, "a volume that was mounted anew").await;
    drop(mounted);
    assert!(matches!(&told, Err(ProviderError::Refused { why, .. }) if why.contains("another directory")), "{told:?}");
    assert!(matches!(outcome, Outcome::NotDone(_)), "{outcome:?}");
    unharmed(&rig).await;
}

/// A process that ends with the test.
struct Contained(Child);

impl Drop for Contained {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A server in a pid namespace of its own, as in a container, whose directory the host sees: `postmaster.pid` says 1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_a_container_is_not_a_stopped_one() {
    let rig = Rig::start(direct()).await;
    let (cluster, server) = (&rig.cluster, &rig.cluster.pg1().server);
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let owner = fs::metadata(&server.site().data).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]);
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt as _;
        let (uid, gid) = (owner.uid().to_string(), owner.gid().to_string());
        command.args(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups"]);
    } else {
        command.args(["--user", "--map-current-user"]);
    }
    let child = command.arg(server.program("postgres")).arg("-D").arg(&server.site().data);
    let _container = Contained(child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("the server", Duration::from_secs(20), || async { Session::open(&cluster.pg1().admin).await.ok() }).await;
    let side = lie(cluster, |_, _| {});
    let told = side.database.describe().await.unwrap_err();
    assert!(
        matches!(&told, ProviderError::Refused { why, .. } if why.contains("trust the files of another server")),
        "{told}"
    );
    assert!(matches!(engage(&rig, &side).await, Outcome::NotDone(_)));
    let reading = not_confirmed(&side, "a container").await;
    assert!(reading.is_none_or(|reading| reading.detail.contains("NOT FENCED") && reading.engaged() == Tri::No));
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    assert!(matches!(admin.probe_write("alive").await.unwrap(), dr_sql::Probed::Written(_)));
}

/// The directory is exchanged while the session lives that proved it; `postmaster.pid` is edited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_changes_after_its_proof_gets_no_signal() {
    let rig = Rig::start(direct()).await;
    let (cluster, server) = (&rig.cluster, &rig.cluster.pg1().server);
    let data = &server.site().data;
    let pid_file = data.join("postmaster.pid");
    let original = fs::read(&pid_file).unwrap();
    for (name, pid) in [("another process", std::process::id()), ("no process", 4_000_000)] {
        let rest = String::from_utf8(original.clone()).unwrap();
        fs::write(&pid_file, format!("{pid}\n{}", rest.split_once('\n').unwrap().1)).unwrap();
        let side = lie(cluster, |_, _| {});
        let told = side.database.describe().await;
        let outcome = engage(&rig, &side).await;
        not_confirmed(&side, name).await;
        fs::write(&pid_file, &original).unwrap();
        assert!(matches!(told, Err(ProviderError::Refused { .. })), "{name}: {told:?}");
        assert!(matches!(outcome, Outcome::NotDone(_)), "{name}: {outcome:?}");
    }
    unharmed(&rig).await;

    let side = lie(cluster, |_, _| {});
    side.database.describe().await.unwrap();
    let other = copy(cluster, cluster.pg1(), "other");
    fs::remove_file(other.join("postmaster.pid")).unwrap();
    let away = cluster.folder().join("away");
    fs::rename(data, &away).unwrap();
    fs::rename(&other, data).unwrap();
    let outcome = engage(&rig, &side).await;
    let marked = data.join("standby.signal").exists();
    let reading = not_confirmed(&side, "an exchanged directory").await;
    fs::rename(data, &other).unwrap();
    fs::rename(&away, data).unwrap();
    assert!(matches!(outcome, Outcome::NotDone(_)), "{outcome:?}");
    assert!(!marked, "the other directory is left alone");
    assert!(reading.is_none_or(|reading| reading.detail.contains("NOT FENCED")));
    unharmed(&rig).await;
}

/// The primary is dead, and an older copy of it lies where the group file looks: its log ends before what the standby received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_dead_primary_was_judged_by_an_older_copy() {
    let rig = Rig::start(direct()).await;
    let (cluster, server) = (&rig.cluster, &rig.cluster.pg1().server);
    let snapshot = copy(cluster, cluster.pg1(), "snapshot");
    fs::remove_file(snapshot.join("postmaster.pid")).unwrap();
    let app = Session::open(&cluster.app(cluster.pg1())).await.unwrap();
    app.run("write", "INSERT INTO dr_writes SELECT 1, g FROM generate_series(1, 100) g").await.unwrap();
    let wrote = rig.sides[0].probe_position().await;
    until("the standby", Duration::from_secs(10), || async {
        rig.sides[1].probe_position().await.reaches(&wrote).then_some(())
    })
    .await;
    let process = server.census(None, None).await.unwrap().server().unwrap();
    server.signal(process, Stop::Immediate).await.unwrap();
    server.await_stopped(Duration::from_secs(20)).await.unwrap();
    let side = lie(cluster, |site, _| site.data = snapshot);
    assert!(matches!(engage(&rig, &side).await, Outcome::Accepted(_)), "nothing runs there: it may be marked");
    let told = side.fence.inspect().await.unwrap_err();
    assert!(matches!(&told, ProviderError::Refused { why, .. } if why.contains("has received")), "{told}");
    // The real directory proves where the log ends, at once.
    let own = lie(cluster, |_, _| {});
    assert!(matches!(engage(&rig, &own).await, Outcome::Accepted(_)));
    let reading = own.fence.inspect().await.unwrap();
    assert_eq!(reading.grade(), Grade::Confirmed, "{}", reading.detail);
    assert!(reading.silent && rig.sides[1].probe_position().await.reaches(&reading.end.unwrap()));
}

/// Nothing answers where the group file looks, and the primary writes on at the address that its standby uses. The same where
/// something answers and turns us away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_primary_at_another_address_was_called_fenced() {
    let rig = Rig::start(direct()).await;
    let cluster = &rig.cluster;
    let clean = {
        let server = &cluster.pg1().server;
        server.stop_fast(Duration::from_secs(20)).await.unwrap();
        let clean = copy(cluster, cluster.pg1(), "clean");
        server.start().await.unwrap();
        server.await_ready(Duration::from_secs(20)).await.unwrap();
        clean
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let side = lie(cluster, |site, target| (site.data, target.port) = (clean.clone(), nobody));
    let outcome = engage(&rig, &side).await;
    assert!(matches!(outcome, Outcome::Accepted(_) | Outcome::NotDone(_)), "{outcome:?}");
    let reading = not_confirmed(&side, "another address").await;
    assert!(reading.is_none_or(|reading| reading.detail.contains("NOT FENCED")));
    let turned_away = lie(cluster, |site, target| {
        site.data.clone_from(&clean);
        *target = target.clone().with_password("wrong");
    });
    assert!(matches!(engage(&rig, &turned_away).await, Outcome::NotDone(_)));
    not_confirmed(&turned_away, "a login that is turned away").await;
    unharmed(&rig).await;
}

/// A role that may read no file lists names instead; one that may do neither is proved by numbers, and people are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_the_right_to_read_files_is_proved_otherwise() {
    let rig = Rig::start(direct()).await;
    let cluster = &rig.cluster;
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    let make = "CREATE ROLE plain LOGIN PASSWORD 'local-cluster'; CREATE ROLE monitor LOGIN PASSWORD 'local-cluster'; \
                GRANT pg_monitor TO monitor";
    admin.run("make roles", make).await.unwrap();
    for (role, untried) in [("monitor", 0), ("plain", 1)] {
        let side = lie(cluster, |_, target| target.user = role.into());
        let rehearsal = side.fence.rehearse(Effort::Look).await.unwrap();
        let told = rehearsal.untried.iter().filter(|what| what.contains("GRANT pg_monitor")).count();
        assert_eq!(told, untried, "{role}: {rehearsal:?}");
        assert!(!is_always(&rehearsal), "{role}: {rehearsal:?}");
    }
    unharmed(&rig).await;
}

/// A host on which every number is right, and whose files are those of a copy: a snapshot that is mounted for us only.
#[derive(Debug)]
struct Snapshot {
    host: LocalControl,
    real: PathBuf,
    copy: PathBuf,
}

impl Snapshot {
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.real).map_or_else(|_| path.to_owned(), |rest| self.copy.join(rest))
    }
}

#[async_trait::async_trait]
impl ServerControl for Snapshot {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        self.host.run(command).await
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        self.host.read(&self.shown(path)).await
    }

    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        self.host.write(&self.shown(path), contents).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        self.host.rename(&self.shown(from), &self.shown(to)).await
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.host.remove(&self.shown(path)).await
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        self.host.postmaster(data).await
    }
}

/// Every number is right and the files are another directory's: only a file that is written on one side and read on the other tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_snapshot_are_found_out_although_every_number_is_right() {
    let rig = Rig::start(direct()).await;
    let (cluster, site) = (&rig.cluster, rig.cluster.pg1().server.site().clone());
    let snapshot = copy(cluster, cluster.pg1(), "snapshot");
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    let make = "CREATE ROLE monitor LOGIN PASSWORD 'local-cluster'; GRANT pg_monitor TO monitor";
    admin.run("make a role", make).await.unwrap();
    for user in ["dr", "monitor"] {
        let mut target = cluster.pg1().admin.clone();
        target.user = user.into();
        let control = Snapshot {
            host: LocalControl::new("pg1", cluster.folder()).unwrap(),
            real: site.data.clone(),
            copy: snapshot.clone(),
        };
        let server = Server::new(site.clone(), Arc::new(control));
        let side = Side::of(&Arc::new(Member::new("app", server, target, Vec::new())));
        let rehearsal = side.fence.rehearse(Effort::Look).await.unwrap();
        let found = rehearsal.obstacles.iter().any(|one| one.what.contains("does not see a file"));
        assert!(found && is_always(&rehearsal), "{user}: {rehearsal:?}");
        assert!(matches!(engage(&rig, &side).await, Outcome::NotDone(_)), "{user}");
    }
    unharmed(&rig).await;
    let left = fs::read_dir(&snapshot)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("pgsql_tmp"));
    assert_eq!(left.count(), 0, "nothing is left in the other directory either");
}

/// The address that applications use has moved to the new primary: that is another member, and no second writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_moved_to_the_new_primary_is_no_second_writer() {
    let rig = Rig::start(direct()).await;
    let (one, two, cluster) = (&rig.sides[0], &rig.sides[1], &rig.cluster);
    let (receipt, _) = common::fence(one).await;
    let op = common::promote(one, two, &receipt).await;
    common::await_op(two, &op).await.unwrap();
    let moved = relay(cluster.pg2().port).await;
    let (node, other) = (cluster.pg1(), cluster.pg2());
    let address = resource_address(&other.admin, &other.server);
    let peers = vec![Peer { name: "pg2".into(), target: other.admin.clone(), address }];
    let member = |peers| {
        let member = Member::new("app", node.server.clone(), node.admin.clone(), peers);
        Side::of(&Arc::new(member.with_addresses(vec![("127.0.0.1".into(), moved)])))
    };
    let reading = member(peers).fence.inspect().await.unwrap();
    assert_eq!(reading.grade(), Grade::Confirmed, "{}", reading.detail);
    // A primary of this system that nobody knows is one.
    let reading = member(Vec::new()).fence.inspect().await.unwrap();
    assert!(reading.engaged() == Tri::No && reading.detail.contains("NOT FENCED"), "{}", reading.detail);
}

impl Side {
    async fn probe_position(&self) -> dr_core::contract::Position {
        dr_core::DatabaseProbe::position(&self.probe).await.unwrap().durable
    }
}

/// A host on which something happens right after the process was looked at.
#[derive(Debug)]
struct Meanwhile {
    host: LocalControl,
    server: Server,
    admin: Target,
    happens: Happens,
}

#[derive(Debug)]
enum Happens {
    /// Somebody starts the server, which was seen stopped.
    Starts,
    /// The server goes, which was seen alive.
    Goes,
}

#[async_trait::async_trait]
impl ServerControl for Meanwhile {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        self.host.run(command).await
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        self.host.read(path).await
    }

    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        self.host.write(path, contents).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        self.host.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.host.remove(path).await
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        let seen = self.host.postmaster(data).await?;
        match (&self.happens, seen == Postmaster::Stopped) {
            (Happens::Starts, true) => {
                self.server.start().await?;
                let up = || async { Session::open(&self.admin).await.ok() };
                until("it is up", Duration::from_secs(20), up).await;
            }
            (Happens::Goes, false) => self.server.await_stopped(Duration::from_secs(20)).await?,
            (Happens::Starts, false) | (Happens::Goes, true) => {}
        }
        Ok(seen)
    }
}

/// A rejoin starts the former primary while the run looks at it: seen stopped at first and answering a moment later, it was taken for
/// another server, and the rejoin that went well was left as a debt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_server_that_starts_between_two_looks_was_taken_for_another_one() {
    let rig = Rig::start(direct()).await;
    let (cluster, server) = (&rig.cluster, rig.cluster.pg1().server.clone());
    server.signal(server.census(None, None).await.unwrap().server().unwrap(), Stop::Fast).await.unwrap();
    server.await_stopped(Duration::from_secs(20)).await.unwrap();
    let admin = cluster.pg1().admin.clone();
    let control = Meanwhile {
        host: LocalControl::new("pg1", cluster.folder()).unwrap(),
        server: server.clone(),
        admin: admin.clone(),
        happens: Happens::Starts,
    };
    let watched = Server::new(server.site().clone(), Arc::new(control));
    let side = Side::of(&Arc::new(Member::new("app", watched, admin, Vec::new())));
    let told = side.database.describe().await.unwrap_err();
    assert!(matches!(told, ProviderError::Unreachable { .. }), "{told:?}");
    assert_eq!(side.database.describe().await.unwrap().status, "primary");
}

/// A server that was told to stop went between two looks of a start, which took that for a running server and started none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_server_that_goes_between_two_looks_of_a_start_was_left_stopped() {
    let rig = Rig::start(direct()).await;
    let server = rig.cluster.pg1().server.clone();
    let control = Meanwhile {
        host: LocalControl::new("pg1", rig.cluster.folder()).unwrap(),
        server: server.clone(),
        admin: rig.cluster.pg1().admin.clone(),
        happens: Happens::Goes,
    };
    let watched = Server::new(server.site().clone(), Arc::new(control));
    server.signal(server.census(None, None).await.unwrap().server().unwrap(), Stop::Fast).await.unwrap();
    watched.start().await.unwrap();
    server.await_ready(Duration::from_secs(20)).await.unwrap();
}
