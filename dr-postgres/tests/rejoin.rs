//! The way back of a former primary on real servers: what its files, its places and its fence may do to it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{Rig, Side, await_op, done, fence, handle, key, promote, rejoin, switch, until};
use dr_core::{
    Fence, ManagedDatabase, MemberId, Outcome, Tri,
    contract::{
        Becomes, Effort, EngageFence, OpProgress, Rehearsal, RehearseMember, RejoinRequest, ReplicationLink,
        RetireFence,
    },
};
use dr_postgres::{
    ClosedHba, HostCommand, LocalControl, Member, Peer, PostgresDatabase, Postmaster, Process, Server, ServerControl,
    Signalled, Site, Stop, Unit, resource_address,
    testing::{ClusterOptions, Node},
};
use dr_sql::{PgError, Session, Target};

fn direct() -> ClusterOptions {
    ClusterOptions { pooler: false, ..ClusterOptions::default() }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Adds lines to a file in a node's data directory, as its operator would.
fn append(node: &Node, file: &str, lines: &[&str]) {
    let path = node.server.data(file);
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    text.push_str(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    fs::write(&path, text).unwrap();
    give(node, &path);
}

/// Gives a path to the account that owns the node.
fn give(node: &Node, path: &Path) {
    let owner = fs::metadata(node.server.site().log.parent().unwrap()).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn folder(node: &Node, path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    give(node, path);
}

async fn restart(node: &Node) {
    node.server.stop_fast(PATIENCE).await.unwrap();
    node.server.start().await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
}

async fn set(node: &Node, name: &str, value: &str) {
    Session::open(&node.admin).await.unwrap().set_and_load(name, value).await.unwrap();
}

/// Whether `old` replays what `new` writes now: the judgement of every test here, by what the servers say.
async fn replays(rig: &Rig, old: usize, new: usize) -> bool {
    let app = Session::open(&rig.cluster.app(rig.cluster.nodes.get(new).unwrap())).await.unwrap();
    let mark = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    app.run("write", &format!("INSERT INTO dr_writes VALUES (999, {mark})")).await.unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if let Ok(old) = Session::open(&rig.cluster.app(rig.cluster.nodes.get(old).unwrap())).await {
            let sql = format!("SELECT 1 FROM dr_writes WHERE client = 999 AND seq = {mark}");
            if old.text_rows("look", &sql).await.is_ok_and(|rows| !rows.is_empty()) {
                return old.in_recovery().await.unwrap();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// The planned switchover up to the promotion.
async fn switched(rig: &Rig) {
    let [one, two] = &rig.sides;
    let (receipt, _) = fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
}

async fn rehearse(side: &Side, of: &str, effort: Effort) -> Rehearsal {
    let becomes = Becomes::Standby { of: MemberId::new(of) };
    side.database.rehearse(&RehearseMember { becomes, effort }).await.unwrap()
}

/// The obstacles in one line each.
fn obstacles(found: &Rehearsal) -> Vec<String> {
    found.obstacles.iter().map(|one| format!("{} | {} | {}", one.what, one.why, one.helps)).collect()
}

/// Ends pg1 by a crash, with writes of its own, after pg2 was promoted.
async fn crash(rig: &Rig) {
    diverge_running(rig).await;
    let node = rig.cluster.pg1();
    let Postmaster::Ready(pid) = node.server.postmaster().await.unwrap() else { panic!("not running") };
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::QUIT).unwrap();
    node.server.await_stopped(PATIENCE).await.unwrap();
}

async fn diverge_running(rig: &Rig) {
    let [_, two] = &rig.sides;
    let standby = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    assert!(standby.request_promotion().await.unwrap());
    until("promotion", PATIENCE, || async {
        (two.database.describe().await.unwrap().writable == Tri::Yes).then_some(())
    })
    .await;
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    app.run("write", "INSERT INTO dr_writes SELECT 900, g FROM generate_series(1, 100) g").await.unwrap();
}

/// Ends pg1's connection to pg2, promotes pg2 behind our back, lets pg1 write on and stops it.
async fn diverge(rig: &Rig) {
    diverge_running(rig).await;
    rig.cluster.pg1().server.stop_fast(PATIENCE).await.unwrap();
}

fn without_checksums(rig: &Rig) {
    let data = rig.cluster.pg1().server.site().data.to_string_lossy().into_owned();
    rig.cluster.run("pg_checksums", &["--disable", "-D", &data]).unwrap();
}

/// pg1 as a member whose way to its host is another one.
fn member_with(rig: &Rig, control: Arc<dyn ServerControl>, unit: Option<Unit>) -> PostgresDatabase {
    let (one, two) = (rig.cluster.pg1(), rig.cluster.pg2());
    let peer = Peer {
        name: MemberId::new("pg2"),
        target: two.admin.clone(),
        address: resource_address(&two.admin, &two.server),
    };
    let target: Target = one.admin.clone().with_application("dr/test/other");
    let server = Server::new(Site { unit, ..one.server.site().clone() }, control);
    PostgresDatabase::new(Arc::new(Member::new("app", server, target, vec![peer])))
}

fn local(rig: &Rig) -> Arc<dyn ServerControl> {
    Arc::new(LocalControl::new("pg1", rig.cluster.folder()).unwrap())
}

async fn request(rig: &Rig, may_discard: bool) -> RejoinRequest {
    let [one, two] = &rig.sides;
    let primary = two.target().await;
    let target = one.target().await;
    RejoinRequest { target, primary, endpoint: two.member.endpoint(), parted_at: None, may_discard, key: key("rejoin") }
}

async fn ends(database: &PostgresDatabase, outcome: Outcome<()>) -> Result<(), String> {
    let op = match outcome {
        Outcome::Accepted(op) => op,
        Outcome::Done(()) => return Ok(()),
        other => return Err(format!("{other:?}")),
    };
    until("the rejoin", Duration::from_secs(90), || async {
        match database.poll(&op).await {
            Ok(OpProgress::Finished) => Some(Ok(())),
            Ok(OpProgress::Failed { why } | OpProgress::Lost { saw: why }) => Some(Err(why)),
            Ok(OpProgress::Running { .. }) | Err(_) => None,
        }
    })
    .await
}

/// A primary that was once restored to a point in time still has the target in its files. Started with a signal file it reached that
/// target at once and became a second writer.
#[tokio::test]
async fn bug_settings_of_a_former_life_do_not_promote_a_rejoined_server() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let node = rig.cluster.pg1();
    let trigger = rig.cluster.folder().join("trigger");
    fs::write(&trigger, "").unwrap();
    folder(node, &node.server.data("conf.d"));
    let trigger = format!("promote_trigger_file = '{}'", trigger.display());
    let lines = [
        "recovery_target = 'immediate'",
        "Recovery_Target_Action = promote",
        "recovery_target_timeline = 'current'",
        "recovery_min_apply_delay = '1h'",
        "hot_standby = off",
        "restore_command = 'touch old_archive_was_asked; false'",
        &trigger,
    ];
    append(node, "conf.d/restored.conf", &lines);
    append(node, "postgresql.conf", &["include_dir 'conf.d'"]);
    append(node, "postgresql.auto.conf", &["recovery_target_time = '2025-03-04 05:06:07+00'", "work_mem = '5MB'"]);
    append(node, "recovery.signal", &[]);
    append(node, "recovery.conf", &["standby_mode = on"]);
    switch(&rig, one, two).await;
    assert!(replays(&rig, 0, 1).await);
    let session = Session::open(&node.admin).await.unwrap();
    for (name, value) in
        [("recovery_target", ""), ("recovery_target_time", ""), ("work_mem", "5MB"), ("hot_standby", "on")]
    {
        assert_eq!(session.setting(name).await.unwrap().as_deref(), Some(value), "{name}");
    }
    assert!(!node.server.data("old_archive_was_asked").exists(), "the archive of another life was asked");
    assert!(node.server.data("recovery.conf.dr-aside").exists() && !node.server.data("recovery.signal").exists());
}

/// Two targets are one too many for PostgreSQL's parser, which reads the files of a stopped server for us.
#[tokio::test]
async fn bug_two_recovery_targets_of_a_former_life_are_neutralised_too() {
    let rig = Rig::start(direct()).await;
    let node = rig.cluster.pg1();
    append(node, "postgresql.conf", &["recovery_target_name = 'then'", "recovery_target_xid = '700'"]);
    let [one, two] = &rig.sides;
    switch(&rig, one, two).await;
    assert!(replays(&rig, 0, 1).await);
}

/// A quote or a backslash in the replication password ended in a file that PostgreSQL could not read, or in a wrong password.
#[tokio::test]
async fn bug_any_replication_password_survives_a_rejoin() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let password = r#"it's a\\b \' "x" %41 = #ü$'"#;
    let quoted = format!("ALTER ROLE replicator PASSWORD '{}'", password.replace('\'', "''"));
    let (primary, standby) = (rig.cluster.pg1(), rig.cluster.pg2());
    Session::open(&primary.admin).await.unwrap().run("change the password", &quoted).await.unwrap();
    let info = dr_sql::ConnInfo::default()
        .with("host", "127.0.0.1")
        .with("port", primary.port.to_string())
        .with("user", "replicator")
        .with("application_name", "pg2")
        .with("password", password);
    set(standby, "primary_conninfo", &info.text()).await;
    restart(standby).await;
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    assert_eq!(obstacles(&rehearse(one, "pg2", Effort::Try).await), Vec::<String>::new());
    switch(&rig, one, two).await;
    assert!(replays(&rig, 0, 1).await);
}

/// A standby whose `primary_conninfo` is a URI has a login that works the other way round; one through a service file has none that is
/// known here, and that is told before anything is stopped.
#[tokio::test]
async fn bug_the_standbys_login_is_understood_in_every_form_or_refused_before() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (primary, standby) = (rig.cluster.pg1(), rig.cluster.pg2());
    set(standby, "primary_conninfo", "service=up application_name=pg2").await;
    let told = until("the setting", PATIENCE, || async {
        obstacles(&rehearse(one, "pg2", Effort::Look).await).into_iter().find(|line| line.contains("service `up`"))
    })
    .await;
    assert!(told.contains("set `replication = { user, password }` in the table of pg1"), "{told}");
    let uri = format!("postgresql://replicator:local%2Dcluster@127.0.0.1:{}/?application_name=pg2", primary.port);
    set(standby, "primary_conninfo", &uri).await;
    until("the setting", PATIENCE, || async {
        rehearse(one, "pg2", Effort::Try).await.obstacles.is_empty().then_some(())
    })
    .await;
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    switch(&rig, one, two).await;
    assert!(replays(&rig, 0, 1).await);
}

/// What keeps a former primary from following was found after the promotion, when nothing could be done about it in time.
#[tokio::test]
async fn bug_what_a_rejoin_needs_is_found_while_everything_still_runs() {
    let rig = Rig::start(direct()).await;
    let [one, _] = &rig.sides;
    let (old, candidate) = (rig.cluster.pg1(), rig.cluster.pg2());
    let healthy = rehearse(one, "pg2", Effort::Try).await;
    assert_eq!((obstacles(&healthy), &healthy.untried), (Vec::new(), &Vec::new()));
    assert!(!old.server.data(".dr-rehearsal").exists());
    append(
        candidate,
        "postgresql.auto.conf",
        &["max_connections = 200", "max_worker_processes = 16", "max_replication_slots = 0"],
    );
    restart(candidate).await;
    let hba = fs::read_to_string(candidate.server.data("pg_hba.conf")).unwrap();
    let closed: String =
        hba.lines().filter(|line| !line.contains("replication")).flat_map(|line| [line, "\n"]).collect();
    fs::write(candidate.server.data("pg_hba.conf"), closed).unwrap();
    Session::open(&candidate.admin).await.unwrap().load_configuration().await.unwrap();
    append(old, "postgresql.conf", &["port = 1"]);
    append(old, "pg_hba.conf", &["nonsense"]);
    let found = until("the rules", PATIENCE, || async {
        let found = obstacles(&rehearse(one, "pg2", Effort::Look).await);
        found.iter().any(|line| line.contains("pg_hba.conf entry")).then_some(found)
    })
    .await;
    let wanted = [
        [
            "max_connections of pg1 will be 60 at its next start, and that of pg2 is 200",
            "ALTER SYSTEM SET max_connections = 200",
        ],
        ["max_worker_processes of pg1 will be 8", "ALTER SYSTEM SET max_worker_processes = 16"],
        ["no free replication slot for pg1", "ALTER SYSTEM SET max_replication_slots"],
        ["cannot log in at pg2", "host replication replicator"],
        ["port of pg1 is", "in a file that pg1 reads"],
        ["pg_hba.conf of pg1 is broken", "mend the line"],
    ];
    for [what, helps] in wanted {
        assert!(found.iter().any(|line| line.contains(what) && line.contains(helps)), "{what}: {found:#?}");
    }
    // What helps, helps; a setting that only the next start reads is known.
    for (name, value) in [("max_connections", "200"), ("max_worker_processes", "16")] {
        set(old, name, value).await;
    }
    fs::write(candidate.server.data("pg_hba.conf"), hba).unwrap();
    Session::open(&candidate.admin).await.unwrap().load_configuration().await.unwrap();
    let left = until("the rules", PATIENCE, || async {
        let found = obstacles(&rehearse(one, "pg2", Effort::Look).await);
        (!found.iter().any(|line| line.contains("log in"))).then_some(found)
    })
    .await;
    assert_eq!(left.len(), 3, "{left:#?}");
    append(old, "postgresql.conf", &["max_connections = lots"]);
    let found = obstacles(&rehearse(one, "pg2", Effort::Look).await);
    assert!(found.iter().any(|line| line.contains("would not start")), "{found:#?}");
}

/// A standby asks its archive before it streams: a command that ends it, or that hangs, is found before the change.
#[tokio::test]
async fn bug_a_former_primary_kept_an_archive_command_that_is_not_there() {
    let rig = Rig::start(direct()).await;
    for (command, expected) in [("/opt/no/such-tool %f %p", Some("status 127")), ("false", None)] {
        for node in &rig.cluster.nodes {
            set(node, "restore_command", command).await;
        }
        until("the command", PATIENCE, || async {
            let found = obstacles(&rehearse(&rig.sides[0], "pg2", Effort::Try).await);
            let right = match expected {
                None => found.is_empty(),
                Some(word) => matches!(found.as_slice(), [one] if one.contains(word) && one.contains("on pg1")),
            };
            right.then_some(())
        })
        .await;
    }
}

/// What the control role may not look at is named, and hides nothing else.
#[tokio::test]
async fn a_rehearsal_names_what_the_control_role_may_not_look_at() {
    let rig = Rig::start(direct()).await;
    let (one, two) = (rig.cluster.pg1(), rig.cluster.pg2());
    let admin = Session::open(&one.admin).await.unwrap();
    let role = "CREATE ROLE least LOGIN PASSWORD 'local-cluster' IN ROLE pg_monitor; \
                GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) TO least";
    admin.run("make a role", role).await.unwrap();
    until("the role", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    let least = |node: &Node| Target { user: "least".into(), ..node.admin.clone() };
    let peer =
        Peer { name: MemberId::new("pg2"), target: least(two), address: resource_address(&two.admin, &two.server) };
    let member = Member::new("app", one.server.clone(), least(one), vec![peer]);
    append(two, "postgresql.auto.conf", &["max_worker_processes = 16"]);
    restart(two).await;
    let becomes = Becomes::Standby { of: MemberId::new("pg2") };
    let database = PostgresDatabase::new(Arc::new(member));
    let found = database.rehearse(&RehearseMember { becomes, effort: Effort::Look }).await.unwrap();
    assert!(
        found.untried.iter().any(|line| line.contains("pg_hba.conf") && line.contains("permission denied")),
        "{found:?}"
    );
    let told = obstacles(&found);
    assert!(told.len() == 1 && told.iter().all(|line| line.contains("max_worker_processes")), "{told:#?}");
}

/// Every sender of the candidate is taken: the rejoined server could not stream.
#[tokio::test]
async fn bug_a_candidate_without_a_free_sender_is_found_before() {
    let rig = Rig::start(ClusterOptions { settings: vec!["max_wal_senders = 2".into()], ..direct() }).await;
    let candidate = rig.cluster.pg2();
    let mut takers: Vec<std::process::Child> = (0..2)
        .map(|number| {
            let into = rig.cluster.folder().join(format!("taken-{number}"));
            fs::create_dir(&into).unwrap();
            let place = format!("host=127.0.0.1 port={} user=replicator", candidate.port);
            let mut taker = std::process::Command::new(candidate.server.program("pg_receivewal"));
            taker.args(["-d", &place, "-D", &into.to_string_lossy()]).env("PGPASSWORD", "local-cluster");
            taker.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let found = until("the senders", PATIENCE, || async {
        let found = obstacles(&rehearse(&rig.sides[0], "pg2", Effort::Look).await);
        found.iter().any(|line| line.contains("no free log sender for pg1 (max_wal_senders is 2)")).then_some(found)
    })
    .await;
    assert!(found.iter().any(|line| line.contains("cannot log in at pg2")), "{found:#?}");
    for taker in &mut takers {
        taker.kill().unwrap();
        taker.wait().unwrap();
    }
}

/// Streaming was taken for a rejoin, although replay had stopped for ever: a standby with fewer connections than its primary.
#[tokio::test]
async fn bug_a_member_whose_replay_has_stopped_is_not_called_rejoined() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    set(rig.cluster.pg2(), "max_connections", "200").await;
    restart(rig.cluster.pg2()).await;
    switched(&rig).await;
    let why = await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap_err();
    assert!(why.contains("max_connections") && why.contains("raise on this server"), "{why}");
    assert!(why.contains("the slot `dr_pg1` on pg2 keeps log for it"), "{why}");
    // What helps, helps: asked again, it goes on from what is there.
    append(rig.cluster.pg1(), "postgresql.auto.conf", &["max_connections = 200"]);
    await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap();
    assert!(replays(&rig, 0, 1).await);
}

/// The reason of a failed start stood in the server's log and nowhere else.
#[tokio::test]
async fn bug_a_server_that_does_not_start_is_told_with_the_words_of_its_log() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    switched(&rig).await;
    append(rig.cluster.pg1(), "pg_hba.conf", &["nonsense"]);
    let begun = std::time::Instant::now();
    let why = await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap_err();
    assert!(why.contains("FATAL:  could not load") && begun.elapsed() < Duration::from_secs(15), "{why}");
    append(rig.cluster.pg1(), "postgresql.conf", &["primary_conninfo = 'password=s3cret' s3cret"]);
    let why = await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap_err();
    assert!(why.contains("syntax error") && !why.contains("s3cret"), "{why}");
}

/// A member that left recovery after its rejoin was told as fenced. It is a second writer: stopped at once, and told as what it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_rejoined_member_that_leaves_recovery_is_stopped_and_told() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let node = rig.cluster.pg1();
    switched(&rig).await;
    let session = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    session.run("turn replication away", "ALTER ROLE replicator NOLOGIN").await.unwrap();
    let op = handle(rejoin(one, two, false).await);
    until("a promotion behind our back", PATIENCE, || async {
        Session::open(&node.admin).await.ok()?.request_promotion().await.ok()
    })
    .await;
    let why = await_op(one, &op).await.unwrap_err();
    assert!(why.contains("takes writes on timeline 2 beside pg2") && why.contains("it was stopped at once"), "{why}");
    assert_eq!(node.server.postmaster().await.unwrap(), Postmaster::Stopped);
    assert!(node.server.data("standby.signal").exists(), "whoever starts it gets a standby");
    // Another process that looks with the same handle while both write says so too, and stops nothing.
    fs::remove_file(node.server.data("standby.signal")).unwrap();
    node.server.start().await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
    match member_with(&rig, local(&rig), None).poll(&op).await.unwrap() {
        OpProgress::Failed { why } => assert!(why.contains("takes writes on timeline 2 beside pg2"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(node.server.postmaster().await.unwrap(), Postmaster::Ready(_)));
}

/// What a unit gives on the command line beats every file: it is told before, and a server that would promote itself is not started.
#[tokio::test]
async fn bug_a_unit_whose_command_line_promotes_is_refused() {
    let rig = Rig::start(direct()).await;
    let node = rig.cluster.pg1();
    let (program, data, log) =
        (node.server.program("pg_ctl"), node.server.site().data.display(), node.server.site().log.display());
    let script = rig.cluster.folder().join("systemctl");
    let text = format!(
        "case $1 in show) echo LoadState=loaded;; start) {program} start -W -s -D {data} -l {log} -o '-c recovery_target=immediate \
         -c recovery_target_action=promote';; esac"
    );
    fs::write(&script, text).unwrap();
    let command = vec!["sh".to_owned(), script.to_string_lossy().into_owned()];
    let unit = Unit { name: "postgresql@15-main".into(), command };
    // As the unit starts it: the server keeps its command line in the directory.
    node.server.stop_fast(PATIENCE).await.unwrap();
    let status = std::process::Command::new("chmod").args(["a+r", &script.to_string_lossy()]).status().unwrap();
    assert!(status.success());
    let start = ["sh".to_owned(), script.to_string_lossy().into_owned(), "start".into()];
    node.server.control().run(&HostCommand::new(start)).await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    let database = member_with(&rig, local(&rig), Some(unit));
    let becomes = Becomes::Standby { of: MemberId::new("pg2") };
    let found = obstacles(&database.rehearse(&RehearseMember { becomes, effort: Effort::Look }).await.unwrap());
    let told = "gives `recovery_target` = `immediate` on the command line";
    assert!(
        found.iter().any(|line| line.contains(told) && line.contains("systemctl edit postgresql@15-main")),
        "{found:#?}"
    );
    switched(&rig).await;
    let asked = request(&rig, false).await;
    let outcome = database.rejoin(asked).await;
    let why = ends(&database, outcome).await.unwrap_err();
    assert!(why.contains("`recovery_target` = `immediate` on its command line"), "{why}");
    assert_eq!(node.server.postmaster().await.unwrap(), Postmaster::Stopped);
}

/// After a restart of the orchestrator nothing is remembered: the servers tell.
#[tokio::test]
async fn another_process_tells_how_a_rejoin_stands() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    switched(&rig).await;
    let asked = request(&rig, false).await;
    let other = member_with(&rig, local(&rig), None);
    let op = dr_core::contract::OpHandle::new("rejoin/pg2").unwrap();
    assert!(matches!(other.poll(&op).await.unwrap(), OpProgress::Lost { .. }), "it is stopped and nothing works on it");
    await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap();
    assert_eq!(ends(&other, Outcome::Accepted(op)).await, Ok(()));
    assert!(matches!(other.rejoin(asked).await, Outcome::Done(())), "asked again it has nothing to do");
}

/// Everything in a data directory that PostgreSQL did not put there is the node's own, and a rewind brought the primary's.
#[tokio::test]
async fn bug_a_rewind_keeps_everything_that_is_the_nodes_own() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let before = furnish(&rig);
    crash(&rig).await;
    await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap();
    assert!(!rig.cluster.folder().join("pg1.dr-old").exists(), "a rewind was enough");
    assert_eq!(own_files(rig.cluster.pg1()), before);
    assert!(!rig.cluster.pg1().server.data("of-pg2.conf").exists(), "what came from the primary went");
    assert!(!rig.cluster.folder().join("pg1.dr-node").exists());
    assert!(replays(&rig, 0, 1).await);
}

/// The same for a copy.
#[tokio::test]
async fn bug_a_reseed_keeps_everything_that_is_the_nodes_own() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let before = furnish(&rig);
    diverge(&rig).await;
    without_checksums(&rig);
    await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap();
    assert!(rig.cluster.folder().join("pg1.dr-old").exists());
    assert_eq!(own_files(rig.cluster.pg1()), before);
    assert!(!rig.cluster.pg1().server.data("of-pg2.conf").exists());
    assert!(replays(&rig, 0, 1).await);
}

const OWN: [&str; 6] =
    ["conf.d/10-node.conf", "server.crt", "tls/deep/ca.pem", "pg_stat/node.key", "extra.users", "linked.conf"];

/// Gives both nodes files of their own under the same names, some of them read by the server.
fn furnish(rig: &Rig) -> Vec<String> {
    for node in &rig.cluster.nodes {
        for path in ["conf.d", "tls", "tls/deep"] {
            folder(node, &node.server.data(path));
        }
        append(node, "conf.d/10-node.conf", &[&format!("cluster_name = 'really {}'", node.name)]);
        for file in ["server.crt", "tls/deep/ca.pem", "pg_stat/node.key", "extra.users"] {
            append(node, file, &[&format!("of {}", node.name)]);
        }
        let outside = rig.cluster.folder().join(format!("{}.conf", node.name));
        fs::write(&outside, format!("log_line_prefix = '{} '\n", node.name)).unwrap();
        symlink(&outside, node.server.data("linked.conf")).unwrap();
        let lines = [
            "include_dir 'conf.d'",
            "include 'linked.conf'",
            "include_if_exists = 'of-pg2.conf'",
            "ssl_key_file = 'pg_stat/node.key'",
        ];
        append(node, "postgresql.conf", &lines);
    }
    append(rig.cluster.pg2(), "of-pg2.conf", &["port = 1"]);
    own_files(rig.cluster.pg1())
}

fn own_files(node: &Node) -> Vec<String> {
    let read = |file: &&str| {
        let path = node.server.data(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| e.to_string());
        format!("{file}: {text} {:?}", fs::read_link(&path).ok())
    };
    OWN.iter().map(read).collect()
}

/// A copy lands where everything was: the log's volume behind its link, a tablespace, a data directory behind a link.
#[tokio::test]
async fn bug_a_reseed_leaves_every_place_where_it_was() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let node = rig.cluster.pg1();
    let (base, data) = (rig.cluster.folder().to_owned(), node.server.site().data.clone());
    let at = |name: &str| base.join(name);
    node.server.stop_fast(PATIENCE).await.unwrap();
    folder(node, &at("volume"));
    folder(node, &at("log"));
    fs::rename(&data, at("volume/pg1")).unwrap();
    symlink(at("volume/pg1"), &data).unwrap();
    fs::rename(data.join("pg_wal"), at("log/pg1")).unwrap();
    symlink(at("log/pg1"), data.join("pg_wal")).unwrap();
    node.server.start().await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    // The standby has the tablespace elsewhere, as a base backup with a mapping gives it.
    for name in ["ts1", "ts2"] {
        folder(node, &at(name));
    }
    rig.cluster.pg2().server.stop_fast(PATIENCE).await.unwrap();
    let admin = Session::open(&node.admin).await.unwrap();
    let admin = if admin.is_closed() { Session::open(&node.admin).await.unwrap() } else { admin };
    admin.run("make a tablespace", &format!("CREATE TABLESPACE big LOCATION '{}'", at("ts1").display())).await.unwrap();
    drop(admin);
    let app = Session::open(&rig.cluster.app(node)).await.unwrap();
    let admin_app = Session::open(&{
        let mut t = node.admin.clone();
        t.database = "app".into();
        t
    })
    .await
    .unwrap();
    admin_app
        .run("use it", "CREATE TABLE big_one TABLESPACE big AS SELECT generate_series(1, 1000) AS i")
        .await
        .unwrap();
    drop((app, admin_app));
    let oid = reseed_standby(&rig, &at("ts1"), &at("ts2"));
    rig.cluster.pg2().server.start().await.unwrap();
    rig.cluster.pg2().server.await_ready(PATIENCE).await.unwrap();
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    diverge(&rig).await;
    without_checksums(&rig);
    await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap();
    assert!(replays(&rig, 0, 1).await);
    assert_eq!(fs::read_link(&data).unwrap(), at("volume/pg1"));
    assert_eq!(fs::read_link(data.join("pg_wal")).unwrap(), at("log/pg1"));
    assert_eq!(fs::read_link(data.join("pg_tblspc").join(&oid)).unwrap(), at("ts1"));
    // What was there is kept whole, its links included.
    let kept = at("volume/pg1.dr-old");
    assert_eq!(fs::read_link(kept.join("pg_wal")).unwrap(), at("log/pg1.dr-old"));
    assert_eq!(fs::read_link(kept.join("pg_tblspc").join(&oid)).unwrap(), at("ts1/dr-old"));
    assert!(kept.join("PG_VERSION").exists() && at("ts1/dr-old").read_dir().unwrap().count() == 1);
    assert!(!at("volume/pg1.dr-new").exists() && !at("volume/pg1.dr-rejoin").exists());
    switch(&rig, two, one).await;
}

/// Copies pg1 to pg2 anew, with its tablespace mapped, and answers the tablespace's id.
fn reseed_standby(rig: &Rig, from: &Path, to: &Path) -> String {
    let (node, primary) = (rig.cluster.pg2(), rig.cluster.pg1().port);
    let data: PathBuf = node.server.site().data.clone();
    let conf = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    fs::remove_dir_all(&data).unwrap();
    let place = format!("host=127.0.0.1 port={primary} user=replicator application_name=pg2 password=local-cluster");
    let mapping = format!("{}={}", from.display(), to.display());
    let args = [
        "-d",
        &place,
        "-D",
        &data.to_string_lossy(),
        "-R",
        "-X",
        "stream",
        "-S",
        "dr_pg2",
        "-c",
        "fast",
        "-T",
        &mapping,
    ];
    rig.cluster.run("pg_basebackup", &args).unwrap();
    fs::write(data.join("postgresql.conf"), conf).unwrap();
    let first = fs::read_dir(data.join("pg_tblspc")).unwrap().next().unwrap().unwrap();
    first.file_name().to_string_lossy().into_owned()
}

/// A directory that cannot be renamed, as a mount point cannot, keeps its place: only its contents are exchanged.
#[tokio::test]
async fn bug_a_directory_that_cannot_be_renamed_is_reseeded_from_inside() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let node = rig.cluster.pg1();
    let (data, vault) = (node.server.site().data.clone(), rig.cluster.folder().join("vault"));
    diverge(&rig).await;
    without_checksums(&rig);
    fs::create_dir(&vault).unwrap();
    fs::rename(&data, vault.join("pg1")).unwrap();
    symlink(vault.join("pg1"), &data).unwrap();
    // The account may enter the folder and write nothing there.
    fs::set_permissions(&vault, fs::Permissions::from_mode(0o555)).unwrap();
    let inode = fs::metadata(&data).unwrap().ino();
    await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap();
    assert!(replays(&rig, 0, 1).await);
    assert_eq!(fs::metadata(&data).unwrap().ino(), inode);
    assert!(
        data.join("dr-old/PG_VERSION").exists() && !data.join("dr-new").exists() && !data.join("dr-rejoin").exists()
    );
    fs::set_permissions(&vault, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A place that a copy would lose is refused before anything is copied, and told before anything is planned.
#[tokio::test]
async fn bug_a_reseed_that_would_lose_a_place_is_refused_before_the_copy() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let node = rig.cluster.pg1();
    let elsewhere = rig.cluster.folder().join("elsewhere");
    node.server.stop_fast(PATIENCE).await.unwrap();
    fs::rename(node.server.data("pg_xact"), &elsewhere).unwrap();
    symlink(&elsewhere, node.server.data("pg_xact")).unwrap();
    node.server.start().await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    let told = rehearse(one, "pg2", Effort::Look).await;
    assert!(
        told.obstacles.is_empty() && told.untried.iter().any(|line| line.contains("pg_xact is a link")),
        "{told:?}"
    );
    diverge(&rig).await;
    without_checksums(&rig);
    let why = await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap_err();
    assert!(why.contains("pg_xact is a link to a directory") && why.contains("nothing was copied"), "{why}");
    assert!(!rig.cluster.folder().join("pg1.dr-new").exists() && node.server.data("PG_VERSION").exists());
}

/// Until its first checkpoint a promoted server's control file names the old timeline. A rewind from it finds nothing to do, and what it
/// leaves follows nobody.
#[tokio::test]
async fn a_rewind_from_a_source_without_a_checkpoint_works() {
    let slow = ["checkpoint_timeout = 1h", "checkpoint_completion_target = 0.9", "bgwriter_lru_maxpages = 0"];
    let rig = Rig::start(ClusterOptions { settings: slow.map(String::from).to_vec(), ..direct() }).await;
    let [one, two] = &rig.sides;
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    // Many dirty pages on the standby: the checkpoint after its promotion is spread over them.
    app.run("fill", "CREATE TABLE filler AS SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g")
        .await
        .unwrap();
    until("the stream", PATIENCE, || async { replays(&rig, 1, 0).await.then_some(()) }).await;
    diverge(&rig).await;
    let control = rig.cluster.pg2().server.control_data().await.unwrap();
    assert_eq!(control.timeline.number(), 1, "the checkpoint after the promotion is not over yet");
    await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap();
    assert!(!rig.cluster.folder().join("pg1.dr-old").exists(), "a rewind was enough");
    assert!(replays(&rig, 0, 1).await);
}

/// A fence that keeps sessions out leaves a running primary behind, which nobody could make follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_primary_behind_a_session_fence_is_stopped_and_rejoins() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let node = rig.cluster.pg1();
    let hba = ClosedHba::new(Arc::clone(&one.member), vec!["replicator".into()]);
    let target = one.target().await;
    let token = hba.prepare().await.unwrap();
    // Without a fence, or without a promotion, it is somebody's primary: it is left alone.
    assert!(matches!(rejoin(one, two, false).await, Outcome::Conflict(_)));
    done(hba.engage(EngageFence { target: target.clone(), token: token.clone(), key: key("fence") }).await);
    assert!(Session::open(&rig.cluster.pg2().admin).await.unwrap().request_promotion().await.unwrap());
    until("promotion", PATIENCE, || async {
        (two.database.describe().await.unwrap().writable == Tri::Yes).then_some(())
    })
    .await;
    // Our own probe may have written there; it leaves no row.
    assert_eq!(one.is_writable().await, Tri::Yes);
    await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap();
    assert_eq!(one.is_writable().await, Tri::No);
    let fresh = one.member.bound(two.target().await.lineage);
    until("the retirement", PATIENCE, || async {
        let ask = RetireFence { target: fresh.clone(), token: token.clone(), key: key("retire") };
        matches!(hba.retire(ask).await, Outcome::Done(())).then_some(())
    })
    .await;
    assert!(replays(&rig, 0, 1).await);
    assert!(node.server.data("dr_fence.users").exists());
}

/// The same server with a write of an application past the promotion: it is stopped, for the fence did not hold, and nothing is destroyed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_fence_that_did_not_hold_loses_nothing_without_a_word() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    diverge_running(&rig).await;
    match rejoin(one, two, false).await {
        Outcome::Conflict(cause) => assert!(cause.as_str().contains("it has to be fenced first"), "{cause}"),
        other => panic!("{other:?}"),
    }
    let hba = ClosedHba::new(Arc::clone(&one.member), vec!["replicator".into()]);
    let token = hba.prepare().await.unwrap();
    let ask = EngageFence { target: one.target().await, token: token.clone(), key: key("fence") };
    done(hba.engage(ask).await);
    let why = await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap_err();
    assert!(why.contains("stays stopped") && why.contains("may hold writes"), "{why}");
    let slots = Session::open(&rig.cluster.pg2().admin).await.unwrap().slots().await.unwrap();
    assert!(slots.is_empty(), "no slot keeps log for a server that does not follow: {slots:?}");
    await_op(one, &handle(rejoin(one, two, true).await)).await.unwrap();
    let target = one.member.bound(two.target().await.lineage);
    done(hba.retire(RetireFence { target, token, key: key("retire") }).await);
    assert!(replays(&rig, 0, 1).await);
}

/// The log that it needs is gone from the primary: everything it holds is in the primary's history, so a copy destroys nothing.
#[tokio::test]
async fn a_former_primary_whose_log_is_gone_is_copied_anew() {
    let settings = ["wal_keep_size = 0", "max_wal_size = 32MB", "min_wal_size = 2MB"].map(String::from).to_vec();
    let rig = Rig::start(ClusterOptions { segment_mb: 1, settings, ..direct() }).await;
    let [one, two] = &rig.sides;
    switched(&rig).await;
    let new = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    for slot in new.slots().await.unwrap() {
        new.run("drop a slot", &format!("SELECT pg_drop_replication_slot('{}')", slot.name)).await.unwrap();
    }
    for _ in 0..4 {
        new.run("write", "SELECT pg_logical_emit_message(true, 'filler', repeat('x', 3000000))").await.unwrap();
        new.run("go on", "SELECT pg_switch_wal(); CHECKPOINT").await.unwrap();
    }
    await_op(one, &handle(rejoin(one, two, false).await)).await.unwrap();
    assert!(rig.cluster.folder().join("pg1.dr-old").exists());
    assert!(replays(&rig, 0, 1).await);
}

/// A way to a host that breaks at its n-th act: before it, or after it and before its answer.
#[derive(Debug)]
struct Breaks {
    inner: Arc<dyn ServerControl>,
    left: AtomicUsize,
    after: bool,
}

impl Breaks {
    async fn act<T>(&self, call: impl Future<Output = Result<T, PgError>> + Send) -> Result<T, PgError> {
        let left =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1))).unwrap();
        let broken = || PgError::Config("the way to the host broke".into());
        match left {
            0 => Err(broken()),
            1 if self.after => call.await.and(Err(broken())),
            1 => Err(broken()),
            _ => call.await,
        }
    }
}

#[async_trait]
impl ServerControl for Breaks {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        self.act(self.inner.run(command)).await
    }
    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        self.act(self.inner.read(path)).await
    }
    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        self.act(self.inner.write(path, contents)).await
    }
    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        self.act(self.inner.rename(from, to)).await
    }
    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.act(self.inner.remove(path)).await
    }
    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        self.inner.postmaster(data).await
    }
    async fn signal(&self, data: &Path, process: Process, stop: Stop) -> Result<Signalled, PgError> {
        self.act(self.inner.signal(data, process, stop)).await
    }
}

/// Cut off at every act, with and without its effect, and asked for again, it ends the same: the node's files are its own, it follows,
/// and the only copy of its old writes is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejoin_that_is_cut_off_at_every_act_ends_the_same() {
    let rig = Rig::start(direct()).await;
    let before = furnish(&rig);
    diverge(&rig).await;
    without_checksums(&rig);
    let (asked, mut finished) = (request(&rig, true).await, None);
    for acts in 1..120 {
        let breaks = Breaks { inner: local(&rig), left: AtomicUsize::new(acts / 2 + 1), after: acts % 2 == 1 };
        let database = member_with(&rig, Arc::new(breaks), None);
        let outcome = database.rejoin(asked.clone()).await;
        if ends(&database, outcome).await.is_ok() {
            finished = Some(acts);
            break;
        }
    }
    assert!(finished.is_some_and(|acts| acts > 30), "{finished:?}");
    assert_eq!(own_files(rig.cluster.pg1()), before);
    assert!(replays(&rig, 0, 1).await);
    let kept = rig.cluster.folder().join("pg1.dr-old");
    assert!(kept.join("PG_VERSION").exists() && !rig.cluster.folder().join("pg1.dr-old-2").exists());
    assert!(!rig.cluster.folder().join("pg1.dr-node").exists() && !rig.cluster.folder().join("pg1.dr-new").exists());
}

/// A former primary with writes of its own is not touched without a word; with one it is rewound, keeps its own port and follows.
#[tokio::test]
async fn a_diverged_primary_is_rewound_only_when_allowed() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    diverge(&rig).await;
    match rejoin(one, two, false).await {
        Outcome::NotDone(reason) => assert!(reason.cause.as_str().contains("may hold writes"), "{reason:?}"),
        other => panic!("{other:?}"),
    }
    let op = handle(rejoin(one, two, true).await);
    await_op(one, &op).await.unwrap();
    let told = one.database.describe().await.unwrap();
    assert_eq!(
        (told.follows, told.lineage.unwrap().generation),
        (Some(ReplicationLink::physical(two.member.address())), 2)
    );
    let conf =
        rig.cluster.pg1().server.control().read(&rig.cluster.pg1().server.data("postgresql.conf")).await.unwrap();
    assert!(String::from_utf8(conf.unwrap()).unwrap().contains(&format!("port = {}", rig.cluster.pg1().port)));
    assert!(!rig.cluster.folder().join("pg1.dr-old").exists(), "a rewind was enough");
    switch(&rig, two, one).await;
}

/// Without checksums or hints nothing can be rewound: the server is built anew and the old directory kept.
#[tokio::test]
async fn what_cannot_be_rewound_is_reseeded() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    diverge(&rig).await;
    let data = rig.cluster.pg1().server.site().data.to_string_lossy().into_owned();
    rig.cluster.run("pg_checksums", &["--disable", "-D", &data]).unwrap();
    let op = handle(rejoin(one, two, true).await);
    await_op(one, &op).await.unwrap();
    assert!(rig.cluster.folder().join("pg1.dr-old").exists());
    assert!(!rig.cluster.folder().join("pg1.dr-rejoin").exists());
    assert_eq!(one.database.describe().await.unwrap().follows, Some(ReplicationLink::physical(two.member.address())));
}

/// A directory of another cluster is never attached and never overwritten.
#[tokio::test]
async fn a_server_of_another_cluster_is_refused() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (receipt, _) = fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    let (primary, target) = (two.target().await, one.target().await);
    let data = rig.cluster.pg1().server.site().data.clone();
    std::fs::rename(&data, data.with_extension("kept")).unwrap();
    rig.cluster.run("initdb", &["-D", &data.to_string_lossy(), "-U", "dr", "-N"]).unwrap();
    let endpoint = two.member.endpoint();
    let request = RejoinRequest { target, primary, endpoint, parted_at: None, may_discard: true, key: key("rejoin") };
    match one.database.rejoin(request).await {
        Outcome::Conflict(cause) => assert!(cause.as_str().contains("belongs to another cluster"), "{cause}"),
        other => panic!("{other:?}"),
    }
}

/// A clone whose configuration names a slot that does not exist starts, answers and never streams: that is no rejoin.
#[tokio::test]
async fn a_standby_with_a_dead_slot_is_not_called_rejoined() {
    let rig = Rig::start(direct()).await;
    let [one, two] = &rig.sides;
    let (receipt, _) = fence(one).await;
    let op = promote(one, two, &receipt).await;
    await_op(two, &op).await.unwrap();
    let op = handle(rejoin(one, two, false).await);
    await_op(one, &op).await.unwrap();
    let session = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    session.set_and_load("primary_slot_name", "no_such_slot").await.unwrap();
    until("the broken stream", Duration::from_secs(20), || async {
        matches!(one.database.poll(&op).await.unwrap(), OpProgress::Running { .. }).then_some(())
    })
    .await;
    let op = handle(rejoin(one, two, false).await);
    await_op(one, &op).await.unwrap();
}

/// The new primary is started again in the moment in which the old one asks to follow it: a rejoin waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_primary_that_starts_again_made_the_rejoin_a_debt() {
    let rig = Rig::start(direct()).await;
    switched(&rig).await;
    let [one, two] = &rig.sides;
    let (target, primary) = (one.target().await, two.target().await);
    let node = rig.cluster.pg2();
    node.server.stop_fast(PATIENCE).await.unwrap();
    let (endpoint, key) = (two.member.endpoint(), common::key("rejoin"));
    let ask = RejoinRequest { target, primary, endpoint, parted_at: None, may_discard: false, key };
    let op = handle(one.database.rejoin(ask).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    node.server.start().await.unwrap();
    node.server.await_ready(PATIENCE).await.unwrap();
    await_op(one, &op).await.unwrap();
    assert!(replays(&rig, 0, 1).await);
}
