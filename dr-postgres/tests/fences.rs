//! Session-level fences, logins and TLS, the file store: the parts that a switchover by clean stop does not show.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{Rig, Side, await_op, done, handle, key, order, promote, rejoin, until, writer};
use dr_core::{
    Fence, Grade, ManagedDatabase, Outcome, ProviderError, SecretStore, Tri,
    base::{Epoch, SecretVersion},
    contract::{
        ClearFence, Effort, EngageFence, FenceReceipt, FenceSet, PatchSecret, RejoinRequest, ReplicationLink,
        RetireFence,
    },
};
use dr_postgres::{
    ClosedHba, FileSecret, HostCommand, LocalControl, Member, Peer, PostgresDatabase, Postmaster, Server,
    ServerControl, Site, Unit, resource_address,
    testing::{ClusterOptions, LocalCluster},
};
use dr_sql::{LoginFence, PgError, Session};

fn direct() -> ClusterOptions {
    ClusterOptions { pooler: false, ..ClusterOptions::default() }
}

async fn engage(side: &Side, fence: &dyn Fence) -> (Outcome<()>, FenceReceipt) {
    let target = side.target().await;
    let token = fence.prepare().await.unwrap();
    let ask = EngageFence { target: target.clone(), token: token.clone(), key: key("fence") };
    let outcome = fence.engage(ask).await;
    let receipt = FenceReceipt {
        run: common::run(),
        epoch: Epoch::new(1),
        target,
        fence: fence.name(),
        token,
        planes: dr_core::contract::Planes::default(),
        silent: false,
        end: None,
        effective_at: dr_core::Timestamp::from_millis(0),
        lapses_at: None,
        detail: String::new(),
    };
    (outcome, receipt)
}

/// Closed hba: open sessions end, new ones are turned away, the log still flows; one look is not enough to confirm it, two are; it is
/// given back on release.
#[tokio::test]
async fn a_closed_hba_is_confirmed_by_two_looks() {
    let rig = Rig::start(direct()).await;
    let one = &rig.sides[0];
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    let fence = ClosedHba::new(Arc::clone(&one.member), vec!["replicator".into()]);
    assert_eq!(fence.inspect().await.unwrap().engaged(), Tri::No);
    let (outcome, receipt) = engage(one, &fence).await;
    done(outcome);
    assert!(app.run("write", "INSERT INTO dr_writes VALUES (1, 1)").await.is_err());
    let refused = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap_err();
    assert!(refused.is_login_refused(), "{refused}");
    assert_eq!(fence.inspect().await.unwrap().grade(), Grade::Enforced);
    let begun = tokio::time::Instant::now();
    until("confirmation", Duration::from_secs(5), || async {
        (fence.inspect().await.unwrap().grade() == Grade::Confirmed).then_some(())
    })
    .await;
    assert!(begun.elapsed() > Duration::from_millis(500), "two looks a second apart");
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    assert!(admin.senders().await.unwrap().iter().any(|row| row.streaming));
    done(fence.release(order(&receipt)).await);
    done(fence.release(order(&receipt)).await);
    until("the login", Duration::from_secs(5), || async {
        Session::open(&rig.cluster.app(rig.cluster.pg1())).await.ok()
    })
    .await;
}

/// A superuser of the control role that comes back again and again defeats every session fence, and the fence says so; the clean
/// stop does not ask sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superuser_that_keeps_writing_is_seen_and_stopped() {
    let rig = Rig::start(direct()).await;
    let one = &rig.sides[0];
    let target = rig.cluster.pg1().admin.clone().with_application("cron").with_database("app");
    let cron = tokio::spawn(async move {
        let mut seq = 0;
        loop {
            if let Ok(session) = Session::open_plain(&target).await {
                seq += 1;
                let _refused = session.run("write", &format!("INSERT INTO dr_writes VALUES (99, {seq})")).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let fence = ClosedHba::new(Arc::clone(&one.member), vec!["replicator".into()]);
    let (_, _) = engage(one, &fence).await;
    let worst = until("the writer", Duration::from_secs(5), || async {
        let reading = fence.inspect().await.unwrap();
        (reading.grade() < Grade::Enforced).then_some(reading)
    })
    .await;
    assert_eq!(worst.planes.open_sessions, Grade::Partial);
    let (receipt, reading) = common::fence(one).await;
    assert_eq!(reading.grade(), Grade::Confirmed);
    let op = promote(one, &rig.sides[1], &receipt).await;
    await_op(&rig.sides[1], &op).await.unwrap();
    cron.abort();
    let session = Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap();
    let rows = session.text_rows("count", "SELECT count(*) AS n FROM dr_writes WHERE client = 99").await.unwrap();
    let there: u64 = rows[0].get("n").unwrap().parse().unwrap();
    assert!(there > 0, "what was committed before the stop is there");
}

/// NOLOGIN travels in the log: the promoted candidate is fenced too, and clearing it gives back exactly what the fence took.
#[tokio::test]
async fn a_role_fence_is_cleared_on_the_new_writer() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    admin.run("make a role", "CREATE ROLE retired NOLOGIN").await.unwrap();
    let login = Arc::new(LoginFence::new(Arc::clone(&one.member) as _, one.member.address(), vec!["app".into()]));
    let (outcome, _) = engage(one, login.as_ref()).await;
    done(outcome);
    assert!(login.inspect().await.unwrap().grade() >= Grade::Enforced);
    assert!(Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap_err().is_login_refused());
    let (receipt, _) = common::fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    let far = LoginFence::new(Arc::clone(&two.member) as _, two.member.address(), vec!["app".into()]);
    assert_eq!(far.carried().await.unwrap(), ["role `app` may not log in"], "a look at the promotion changes nothing");
    assert!(Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap_err().is_login_refused());
    let was = receipt.target.lineage.clone();
    let request = ClearFence { target: two.target().await, was, token: None, key: key("clear") };
    done(far.clear(request).await);
    assert_eq!(far.carried().await.unwrap(), Vec::<String>::new());
    Session::open(&rig.cluster.app(rig.cluster.pg2())).await.unwrap();
    let admin = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    assert_eq!(admin.may_login("retired").await.unwrap(), Some(false), "not ours to give back");
    let op = handle(rejoin(one, two, false).await);
    await_op(one, &op).await.unwrap();
    let target = one.member.bound(two.target().await.lineage);
    done(login.retire(RetireFence { target, token: receipt.token, key: key("retire") }).await);
}

/// Fences of one member together: the better grade on each plane counts, and a stopped server is asked through its files.
#[tokio::test]
async fn fences_of_a_member_complement_each_other() {
    let rig = Rig::start(direct()).await;
    let one = &rig.sides[0];
    let hba: Arc<dyn Fence> = Arc::new(ClosedHba::new(Arc::clone(&one.member), vec!["replicator".into()]));
    let set = FenceSet::new(vec![hba, Arc::clone(&one.fence) as Arc<dyn Fence>]);
    let (outcome, receipt) = engage(one, &set).await;
    assert!(matches!(outcome, Outcome::Accepted(_) | Outcome::Done(())), "{outcome:?}");
    let reading = until("the fence", Duration::from_secs(20), || async {
        set.inspect().await.ok().filter(|reading| reading.grade() == Grade::Confirmed)
    })
    .await;
    assert!(reading.end.is_some());
    done(one.fence.release(order(&receipt)).await);
    assert_eq!(one.is_writable().await, Tri::Yes);
}

/// A fence is not retired on a server that still is what it was.
#[tokio::test]
async fn a_primary_cannot_be_retired() {
    let rig = Rig::start(direct()).await;
    let one = &rig.sides[0];
    let token = one.fence.prepare().await.unwrap();
    let ask = RetireFence { target: one.target().await, token, key: key("retire") };
    assert!(matches!(one.fence.retire(ask).await, Outcome::Conflict(_)));
}

/// A wrong password is refused with the server's word, and says nothing about whether the server writes.
#[tokio::test]
async fn a_wrong_password_is_an_error_and_no_reading() {
    let cluster = LocalCluster::start(direct()).await.unwrap();
    let node = cluster.pg1();
    let target = node.admin.clone().with_password("wrong");
    let peer = cluster.pg2();
    let peers = vec![Peer {
        name: "pg2".into(),
        address: resource_address(&peer.admin, &peer.server),
        target: peer.admin.clone(),
    }];
    let member = Arc::new(Member::new("app", node.server.clone(), target, peers));
    let told = PostgresDatabase::new(Arc::clone(&member)).describe().await.unwrap_err();
    assert!(
        matches!(&told, ProviderError::Refused { why, .. } if why.contains("password authentication failed")),
        "{told}"
    );
    let probe = member.probe();
    assert!(dr_core::DatabaseProbe::write(&probe).await.is_err());
}

/// The cluster's `pg1` with a member of its own: another unit, other times.
fn member(cluster: &LocalCluster, change: impl FnOnce(&mut Site), stop_within: Duration) -> Side {
    member_through(cluster, |host| Arc::new(host), change, stop_within)
}

/// The same through another way to its host.
fn member_through(
    cluster: &LocalCluster,
    way: impl FnOnce(LocalControl) -> Arc<dyn ServerControl>,
    change: impl FnOnce(&mut Site),
    stop_within: Duration,
) -> Side {
    let (node, peer) = (cluster.pg1(), cluster.pg2());
    let mut site = node.server.site().clone();
    change(&mut site);
    let server = Server::new(site, way(LocalControl::new("pg1", cluster.folder()).unwrap()));
    let peers = vec![Peer {
        name: "pg2".into(),
        address: resource_address(&peer.admin, &peer.server),
        target: peer.admin.clone(),
    }];
    let target = node.admin.clone().with_application("dr/test/fence");
    Side::of(&Arc::new(Member::new("app", server, target, peers).with_stop_within(stop_within)))
}

/// A host that can be cut off: then no answer ever comes.
#[derive(Debug)]
struct Cut {
    host: LocalControl,
    cut: Arc<AtomicBool>,
}

impl Cut {
    async fn gate(&self) {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait::async_trait]
impl ServerControl for Cut {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        self.gate().await;
        self.host.run(command).await
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        self.gate().await;
        self.host.read(path).await
    }

    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        self.gate().await;
        self.host.write(path, contents).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        self.gate().await;
        self.host.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.gate().await;
        self.host.remove(path).await
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        self.gate().await;
        self.host.postmaster(data).await
    }
}

/// The way to the host hangs right before the stop. What the server says through a session that was proved before is enough to know
/// that it was not stopped, and nothing less: a server that says nothing either stays unknown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_host_that_hangs_at_the_fence_kept_writes_stopped() {
    let rig = Rig::start(direct()).await;
    let cluster = &rig.cluster;
    let cut = Arc::new(AtomicBool::new(false));
    let one =
        member_through(cluster, |host| Arc::new(Cut { host, cut: Arc::clone(&cut) }), |_| {}, Duration::from_secs(10));
    one.fence.prepare().await.unwrap();
    cut.store(true, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    let (target, token) = (rig.sides[0].target().await, one.fence.prepare().await.unwrap());
    let outcome = one.fence.engage(EngageFence { target, token, key: key("fence") }).await;
    assert!(matches!(&outcome, Outcome::Unknown(_)), "{outcome:?}");
    let reading = one.fence.inspect().await.unwrap();
    assert_eq!(reading.engaged(), Tri::No, "{reading:?}");
    assert!(reading.detail.contains("its host cannot be asked"), "{}", reading.detail);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    cluster.pg1().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let told = one.fence.inspect().await;
    assert!(matches!(&told, Err(ProviderError::Unreachable { .. })), "{told:?}");
}

/// A script that every account may run.
fn script(cluster: &LocalCluster, name: &str, text: &str) -> String {
    let path = cluster.folder().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_string_lossy().into_owned()
}

/// The archive hangs, so the stopped server waits for it; its last checkpoint is written, and that is what the fence is for. Given
/// back, it does not wait for the archive either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_hanging_archive_kept_writes_stopped() {
    let settings = vec!["archive_mode = on".to_owned(), "archive_command = 'exit 1'".to_owned()];
    let rig = Rig::start(ClusterOptions { settings, ..direct() }).await;
    let (one, server) = (&rig.sides[0], &rig.cluster.pg1().server);
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    let hang = script(&rig.cluster, "hang", "exec sleep 300");
    admin.set_and_load("archive_command", &hang).await.unwrap();
    admin.run("switch", "SELECT pg_switch_wal()").await.unwrap();
    let (outcome, mut receipt) = engage(one, one.fence.as_ref()).await;
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    let reading = until("the fence", Duration::from_secs(20), || async {
        one.fence.inspect().await.ok().filter(|reading| reading.grade() == Grade::Confirmed)
    })
    .await;
    assert!(reading.silent && reading.detail.contains("waits for its archiver"), "{}", reading.detail);
    assert!(matches!(server.postmaster().await.unwrap(), Postmaster::Changing(_)), "it still waits");
    let end = reading.end.unwrap();
    until("catch-up", Duration::from_secs(10), || async {
        let position = dr_core::DatabaseProbe::position(&rig.sides[1].probe).await.unwrap();
        position.applied.reaches(&end).then_some(())
    })
    .await;
    receipt.end = Some(end);
    done(one.fence.release(order(&receipt)).await);
    assert_eq!(one.is_writable().await, Tri::Yes);
    assert!(!server.data("standby.signal").exists());
}

/// A sender that hangs keeps a server from writing its last checkpoint. Meanwhile nobody may take it for released; after a while it
/// is stopped the hard way, its log tells the end, and it is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_server_that_still_stops_was_called_released() {
    let rig = Rig::start(direct()).await;
    let one = member(&rig.cluster, |_| {}, Duration::from_secs(3));
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    let rows = admin.text_rows("tell its sender", "SELECT pid FROM pg_stat_replication").await.unwrap();
    let pid = rustix::process::Pid::from_raw(rows[0].get("pid").unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let (outcome, receipt) = engage(&one, one.fence.as_ref()).await;
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    let first = one.fence.inspect().await;
    assert!(matches!(&first, Err(ProviderError::Unreachable { why, .. }) if why.contains("did not stop")), "{first:?}");
    let reading = until("the fence", Duration::from_secs(30), || async {
        match one.fence.inspect().await {
            Ok(reading) => Some(reading),
            Err(e) => {
                assert!(matches!(e, ProviderError::Unreachable { .. }), "{e}");
                None
            }
        }
    })
    .await;
    assert_eq!(reading.grade(), Grade::Confirmed, "{}", reading.detail);
    assert!(reading.end.is_some() && reading.silent);
    done(one.fence.release(order(&receipt)).await);
    assert_eq!(one.is_writable().await, Tri::Yes);
}

/// A release does not wait for a stop that does not end: it ends it, and the server writes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_release_waited_for_a_stop_that_hangs() {
    let rig = Rig::start(direct()).await;
    let one = member(&rig.cluster, |_| {}, Duration::from_secs(300));
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    let rows = admin.text_rows("tell its sender", "SELECT pid FROM pg_stat_replication").await.unwrap();
    let pid = rustix::process::Pid::from_raw(rows[0].get("pid").unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let (_, receipt) = engage(&one, one.fence.as_ref()).await;
    let begun = tokio::time::Instant::now();
    done(one.fence.release(order(&receipt)).await);
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(one.is_writable().await, Tri::Yes);
}

/// Somebody starts the fenced server: while it comes up it is neither fenced nor unfenced, then it is a standby. Given back, it
/// writes again, although it came up as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_fenced_server_that_was_started_parked_the_run() {
    let rig = Rig::start(direct()).await;
    let one = &rig.sides[0];
    let (receipt, _) = common::fence(one).await;
    let server = &rig.cluster.pg1().server;
    // It is fenced as soon as its last checkpoint is written, a moment before it is gone.
    server.await_stopped(Duration::from_secs(20)).await.unwrap();
    server.start().await.unwrap();
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        match one.fence.inspect().await {
            Ok(reading) => assert_eq!(reading.grade(), Grade::Confirmed, "{}", reading.detail),
            Err(e) => assert!(matches!(e, ProviderError::Unreachable { .. }), "{e}"),
        }
    }
    let reading = one.fence.inspect().await.unwrap();
    assert!(reading.detail.contains("standby"), "{}", reading.detail);
    done(one.fence.release(order(&receipt)).await);
    assert_eq!(one.is_writable().await, Tri::Yes);
}

/// What a stop would meet is found before it: a failing archive, a foreign signal file, rules that are not loaded, unknown roles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_fence_would_meet_is_found_before() {
    let settings = vec!["archive_mode = on".to_owned(), "archive_command = 'true'".to_owned()];
    let rig = Rig::start(ClusterOptions { settings, ..direct() }).await;
    let (one, server) = (&rig.sides[0], &rig.cluster.pg1().server);
    let found = one.fence.rehearse(Effort::Try).await.unwrap();
    assert_eq!(found, dr_core::contract::Rehearsal::default(), "a healthy pair has nothing against it");
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    admin.set_and_load("archive_command", "false").await.unwrap();
    admin.run("write", "SELECT pg_logical_emit_message(true, 'x', 'x')").await.unwrap();
    admin.run("switch", "SELECT pg_switch_wal()").await.unwrap();
    std::fs::write(server.data("standby.signal"), "").unwrap();
    until("the failure", Duration::from_secs(20), || async {
        let found = one.fence.rehearse(Effort::Look).await.unwrap();
        let has = |words: &str| found.obstacles.iter().any(|one| one.what.contains(words));
        (has("archiving of `pg1` fails") && has("standby.signal lies in the directory")).then_some(())
    })
    .await;
    std::fs::remove_file(server.data("standby.signal")).unwrap();
    let login = LoginFence::new(
        Arc::clone(&one.member) as _,
        one.member.address(),
        ["app", "nobody", "dr"].map(String::from).to_vec(),
    );
    let found = login.rehearse(Effort::Look).await.unwrap();
    let words: Vec<&str> = found.obstacles.iter().map(|one| one.what.as_str()).collect();
    assert!(words.len() == 2 && words[0].contains("`nobody`") && words[1].contains("control role"), "{words:?}");
    let hba = ClosedHba::new(Arc::clone(&one.member), Vec::new());
    assert_eq!(hba.rehearse(Effort::Try).await.unwrap(), dr_core::contract::Rehearsal::default());
    std::fs::write(server.data("pg_hba.conf"), "host all everybody\n").unwrap();
    let found = hba.rehearse(Effort::Try).await.unwrap();
    assert!(found.obstacles.iter().any(|one| one.what.contains("has an error")), "{found:?}");
}

/// What keeps a fence from being sent is known to have sent nothing: the run turns back at once instead of waiting for an effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_fence_that_was_never_sent_kept_writes_stopped() {
    let rig = Rig::start(direct()).await;
    let cluster = &rig.cluster;
    let file = cluster.pg1().server.data("postmaster.pid");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let hidden = member(cluster, |_| {}, Duration::from_secs(10));
    let (outcome, _) = engage(&hidden, hidden.fence.as_ref()).await;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(
        matches!(&outcome, Outcome::NotDone(why) if why.cause.as_str().contains("Permission denied")),
        "{outcome:?}"
    );
    // A unit that may be asked and not be masked.
    let pid = std::fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
    let text = format!("case $1 in show) echo MainPID={pid};; *) echo 'a password is required' >&2; exit 1;; esac");
    let command = vec![script(cluster, "systemctl", &text)];
    let asks = member(cluster, |site| site.unit = Some(Unit { name: "pg".into(), command }), Duration::from_secs(10));
    let (outcome, _) = engage(&asks, asks.fence.as_ref()).await;
    assert!(matches!(&outcome, Outcome::NotDone(why) if why.cause.as_str().contains("password")), "{outcome:?}");
    assert_eq!(rig.sides[0].is_writable().await, Tri::Yes);
}

/// The file store: one version per change, compare and set, the same token twice is one version, for the owner's eyes only.
#[tokio::test]
async fn a_file_secret_is_versioned_and_compared() {
    let rig = Rig::start(direct()).await;
    let folder = rig.cluster.folder().join("secret");
    let fields = [("host", "127.0.0.1:1"), ("password", "p")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    FileSecret::create(&folder, BTreeMap::from(fields)).unwrap();
    let set = BTreeMap::from([("host".to_owned(), "{writer.endpoint}".to_owned())]);
    let store = FileSecret::new(&folder, set);
    let before = store.read().await.unwrap();
    assert_eq!((before.version.as_str(), before.endpoint.unwrap().as_str()), ("1", "127.0.0.1:1"));
    let one = &rig.sides[0];
    let receipt = writer(one.target().await, one);
    let ask = |expected: &str, node: &str| PatchSecret {
        writer: receipt.clone(),
        expected: SecretVersion::new(expected),
        key: key(node),
    };
    assert!(matches!(store.patch(ask("7", "secret")).await, Outcome::Conflict(_)));
    assert_eq!(done(store.patch(ask("1", "secret")).await), SecretVersion::new("2"));
    assert_eq!(
        done(store.patch(ask("1", "secret")).await),
        SecretVersion::new("2"),
        "the same token, the same version"
    );
    let after = store.read().await.unwrap();
    assert_eq!((after.endpoint.unwrap(), after.token.unwrap()), (one.member.endpoint(), key("secret")));
    assert_eq!(store.versions().await.unwrap(), ["2", "1"].map(SecretVersion::new));
    let mode = std::fs::metadata(folder.join("v00000002.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(folder.join("current")).unwrap();
    assert!(text.contains("\"password\": \"p\""), "other fields stay");
    std::fs::write(folder.join("rotating"), "").unwrap();
    assert_eq!(store.read().await.unwrap().rotating, Tri::Yes);
}

/// The same server comes back by itself: its way back does not wait for the archive either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_rejoin_waited_for_a_hanging_archive() {
    let settings = vec!["archive_mode = on".to_owned(), "archive_command = 'exit 1'".to_owned()];
    let rig = Rig::start(ClusterOptions { settings, ..direct() }).await;
    let [one, two] = &rig.sides;
    let server = &rig.cluster.pg1().server;
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    admin.set_and_load("archive_command", &script(&rig.cluster, "hang", "exec sleep 300")).await.unwrap();
    admin.run("switch", "SELECT pg_switch_wal()").await.unwrap();
    let (receipt, _) = common::fence(one).await;
    let op = common::promote(one, two, &receipt).await;
    common::await_op(two, &op).await.unwrap();
    assert!(matches!(server.postmaster().await.unwrap(), Postmaster::Changing(_)), "it still waits");
    let begun = tokio::time::Instant::now();
    let (target, primary) = (receipt.target.clone(), two.target().await);
    let (endpoint, key) = (two.member.endpoint(), common::key("rejoin"));
    let ask = RejoinRequest { target, primary, endpoint, parted_at: None, may_discard: false, key };
    let op = common::handle(one.database.rejoin(ask).await);
    common::await_op(one, &op).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(one.database.describe().await.unwrap().follows, Some(ReplicationLink::physical(two.member.address())));
}

/// Every fence of a member refuses the order to lift the fence of another one, before it does anything.
#[tokio::test]
async fn bug_a_fence_followed_the_order_for_another_member() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (receipt, _) = common::fence(one).await;
    let other = FenceReceipt { target: two.target().await, ..receipt };
    let fences: [Arc<dyn Fence>; 3] = [
        Arc::<dr_postgres::StopFence>::clone(&one.fence),
        Arc::new(ClosedHba::new(Arc::clone(&one.member), vec!["replicator".into()])),
        Arc::new(LoginFence::new(Arc::clone(&one.member) as _, one.member.address(), vec!["replicator".into()])),
    ];
    for fence in fences {
        let outcome = fence.release(order(&other)).await;
        assert!(matches!(outcome, Outcome::Conflict(_)), "{}: {outcome:?}", fence.name());
    }
    assert_eq!(one.fence.inspect().await.unwrap().grade(), Grade::Confirmed);
}
