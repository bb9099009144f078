//! What a candidate is asked before it may become the writer, on real servers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{process::Command, time::Duration};

use common::{Rig, Side, until};
use dr_core::{
    DatabaseProbe, ManagedDatabase, Outcome, Tri,
    contract::{Becomes, Effort, Rehearsal, RehearseMember, ReplicationLink, Weight},
};
use dr_postgres::{
    Binaries,
    testing::{ClusterOptions, LocalCluster, Node},
};
use dr_sql::{ApplicationLogin, Password, Session};

fn direct() -> ClusterOptions {
    ClusterOptions { pooler: false, ..ClusterOptions::default() }
}

async fn rehearse(candidate: &Side, effort: Effort) -> Rehearsal {
    let request = RehearseMember { becomes: Becomes::Writer { instead_of: "pg1".into() }, effort };
    candidate.database.rehearse(&request).await.unwrap()
}

async fn on(node: &Node, sql: &str) {
    Session::open(&node.admin).await.unwrap().run("prepare a test", sql).await.unwrap();
}

/// Changes a setting on a server, and waits until new sessions get it.
async fn set(node: &Node, name: &str, value: &str) {
    let session = Session::open(&node.admin).await.unwrap();
    session.set_and_load(name, value).await.unwrap();
    until(name, Duration::from_secs(5), || async {
        (session.setting(name).await.unwrap().as_deref() == Some(value)).then_some(())
    })
    .await;
}

async fn reset(node: &Node, name: &str) {
    let session = Session::open(&node.admin).await.unwrap();
    let before = session.setting(name).await.unwrap();
    session.reset_and_load(name).await.unwrap();
    until(name, Duration::from_secs(5), || async { (session.setting(name).await.unwrap() != before).then_some(()) })
        .await;
}

fn restart(cluster: &LocalCluster, node: &Node) {
    let data = node.server.site().data.display().to_string();
    cluster.run("pg_ctl", &["restart", "-w", "-s", "-D", &data, "-l", &format!("{data}.log")]).unwrap();
}

fn only(found: &Rehearsal) -> &dr_core::contract::Obstacle {
    let [obstacle] = found.obstacles.as_slice() else { panic!("{found:#?}") };
    obstacle
}

#[tokio::test]
async fn a_good_candidate_meets_no_obstacle() {
    let rig = Rig::start(direct()).await;
    for effort in [Effort::Look, Effort::Try] {
        let found = rehearse(&rig.sides[1], effort).await;
        assert_eq!((found.obstacles, found.untried), (Vec::new(), Vec::new()));
        assert_eq!(found.drops, Vec::new());
    }
}

/// What makes every commit hang or fail after the promotion, or the promotion late: told before anything is touched, and refused
/// once more when the candidate settles. A refusal leaves the candidate as it was.
#[tokio::test]
async fn bug_a_candidate_that_would_be_an_outage_was_promoted() {
    let rig = Rig::start(direct()).await;
    let (node, two) = (rig.cluster.pg2(), &rig.sides[1]);
    let table = [
        ("synchronous_standby_names", "pg1", Weight::Always),
        ("synchronous_standby_names", "ANY 1 (pg1, pg2)", Weight::Always),
        ("default_transaction_read_only", "on", Weight::Always),
        ("recovery_min_apply_delay", "1h", Weight::Planned),
    ];
    for (name, value, weight) in table {
        set(node, name, value).await;
        let found = rehearse(two, Effort::Look).await;
        let obstacle = only(&found);
        assert_eq!(obstacle.weight, weight, "{obstacle:?}");
        assert!(obstacle.what.contains(name) && obstacle.helps.contains("ALTER SYSTEM SET"), "{obstacle:?}");
        let settled = two.database.settle().await;
        let Outcome::NotDone(reason) = &settled else { panic!("{settled:?}") };
        assert!(reason.cause.to_string().contains(name), "{settled:?}");
        reset(node, name).await;
    }
    on(node, "SELECT pg_wal_replay_pause()").await;
    let found = rehearse(two, Effort::Look).await;
    assert!(only(&found).what.contains("paused"), "{found:?}");
    assert!(matches!(two.database.settle().await, Outcome::NotDone(_)));
    on(node, "SELECT pg_wal_replay_resume()").await;
    let retry = Session::open(&node.admin).await.unwrap().setting("wal_retrieve_retry_interval").await.unwrap();
    assert_eq!(retry.as_deref(), Some("5s"), "a refused candidate is left alone");
    common::done(two.database.settle().await);
}

/// A promotion runs commands of others and waits for them without a limit; one that is not found ends the server instead.
#[tokio::test]
async fn bug_commands_that_a_promotion_runs_hung_or_ended_the_candidate() {
    let rig = Rig::start(direct()).await;
    let (node, two) = (rig.cluster.pg2(), &rig.sides[1]);
    let table = [
        ("restore_command", "case %f in *2.history) sleep 60;; esac; false", Some((Weight::Planned, "within 5 s"))),
        ("restore_command", "/opt/no/such-tool %f %p", Some((Weight::Always, "status 127"))),
        ("restore_command", "echo 1 > %p", None),
        ("restore_command", "cp /no/such/archive/%f %p", None),
        ("recovery_end_command", "/opt/tell-the-team", Some((Weight::Planned, "recovery_end_command"))),
        ("recovery_end_command", "rm -f /tmp/no-such-trigger", None),
    ];
    for (name, value, expected) in table {
        set(node, name, value).await;
        let found = rehearse(two, Effort::Try).await;
        assert_eq!(found.untried, Vec::<String>::new(), "{value}");
        match expected {
            None => assert_eq!(found.obstacles, Vec::new(), "{value}"),
            Some((weight, word)) => {
                let obstacle = only(&found);
                assert_eq!(obstacle.weight, weight, "{obstacle:?}");
                assert!(obstacle.what.contains(word) && obstacle.helps.contains("ALTER SYSTEM"), "{obstacle:?}");
            }
        }
        let left = node.server.data("pg_wal/dr-rehearsal.history");
        assert!(!left.exists(), "what a command fetched is removed");
        reset(node, name).await;
    }
}

/// A standby refuses every transaction that would be serializable, our own questions among them.
#[tokio::test]
async fn bug_a_standby_that_is_serializable_by_default_could_not_be_asked() {
    let settings = vec!["default_transaction_isolation = 'serializable'".to_owned()];
    let rig = Rig::start(ClusterOptions { settings, ..direct() }).await;
    assert_eq!(rehearse(&rig.sides[1], Effort::Try).await.obstacles, Vec::new());
}

/// The control role has a setting of its own, which hid that every other role would have been read-only.
#[tokio::test]
async fn bug_a_setting_of_the_control_role_hid_that_the_candidate_is_read_only() {
    let rig = Rig::start(direct()).await;
    on(rig.cluster.pg1(), "ALTER ROLE dr SET default_transaction_read_only = off").await;
    let two = rig.cluster.pg2();
    until("the role's setting", Duration::from_secs(10), || async {
        let sql = "SELECT setconfig::text FROM pg_db_role_setting";
        let seen = Session::open(&two.admin).await.unwrap().text_rows("look", sql).await.unwrap();
        (!seen.is_empty()).then_some(())
    })
    .await;
    assert_eq!(rehearse(&rig.sides[1], Effort::Look).await.obstacles, Vec::new());
    Session::open(&two.admin).await.unwrap().set_and_load("default_transaction_read_only", "yes").await.unwrap();
    let seen = until("the obstacle", Duration::from_secs(10), || async {
        let found = rehearse(&rig.sides[1], Effort::Look).await;
        (!found.obstacles.is_empty()).then_some(found)
    })
    .await;
    assert!(only(&seen).what.contains("default_transaction_read_only is on"), "{seen:#?}");
}

/// The proof of the new writer is a write of the control role: where that is read-only, the run stopped after the promotion.
#[tokio::test]
async fn bug_a_control_role_that_is_read_only_was_found_out_after_the_promotion() {
    let rig = Rig::start(direct()).await;
    on(rig.cluster.pg1(), "ALTER ROLE dr SET default_transaction_read_only = on").await;
    let fresh = || Side::of(&rig.cluster.members()[1]);
    let seen = until("the obstacle", Duration::from_secs(10), || async {
        let found = rehearse(&fresh(), Effort::Look).await;
        (!found.obstacles.is_empty()).then_some(found)
    })
    .await;
    let obstacle = only(&seen);
    assert!(obstacle.what.contains("is on for the control role") && obstacle.weight == Weight::Always, "{obstacle:?}");
    // The command helps, as it is written.
    on(rig.cluster.pg1(), obstacle.helps.strip_prefix("on the primary: ").unwrap()).await;
    until("the role to write", Duration::from_secs(10), || async {
        rehearse(&fresh(), Effort::Look).await.obstacles.is_empty().then_some(())
    })
    .await;
}

/// The application's table and its right to it were tried after the promotion only: the run stopped there.
#[tokio::test]
async fn bug_the_applications_table_was_looked_for_after_the_promotion() {
    let rig = Rig::start(direct()).await;
    let standby = rig.cluster.app(rig.cluster.pg2());
    let login = |table: &str| {
        let password = Some(Password::new("local-cluster"));
        ApplicationLogin::new("app", password, "app").with_table(table).unwrap()
    };
    for (table, words) in [
        ("public.dr_writes", "the server replays"),
        ("dr_writes", "the server replays"),
        ("public.nope", "does not exist"),
        ("pg_catalog.pg_class", "may not insert into"),
    ] {
        let seen = until(words, Duration::from_secs(10), || async {
            let seen = login(table).write_at(&standby).await;
            (seen.accepted == Tri::No && seen.detail.contains(words)).then_some(seen)
        })
        .await;
        assert_eq!(seen.detail.contains("replays"), table.ends_with("dr_writes"), "{seen:?}");
    }
    on(rig.cluster.pg1(), "ALTER ROLE app SET default_transaction_read_only = on").await;
    until("the role's default", Duration::from_secs(10), || async {
        let seen = login("dr_writes").write_at(&standby).await;
        seen.detail.contains("its transactions are read-only").then_some(())
    })
    .await;
}

/// Another schema before the catalogue in the control role's search_path answered in the place of the server.
#[tokio::test]
async fn bug_what_lies_in_a_schema_answered_for_the_server() {
    let rig = Rig::start(direct()).await;
    let one = rig.cluster.pg1();
    let role = &one.admin.user;
    on(one, "CREATE SCHEMA odd; CREATE FUNCTION odd.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'")
        .await;
    on(one, &format!("ALTER ROLE \"{role}\" SET search_path = odd, pg_catalog")).await;
    let identity = Session::open(&one.admin).await.unwrap().identity().await.unwrap();
    assert!(!identity.in_recovery, "{identity:?}");
}

/// Both servers of a synchronous pair name both: right while both are there.
#[tokio::test]
async fn a_symmetric_synchronous_pair_is_refused_with_the_command() {
    let rig = Rig::start(direct()).await;
    for node in &rig.cluster.nodes {
        set(node, "synchronous_standby_names", "ANY 1 (pg1, pg2)").await;
    }
    let found = rehearse(&rig.sides[1], Effort::Try).await;
    let helps = &only(&found).helps;
    assert!(
        helps.contains("ALTER SYSTEM SET synchronous_standby_names = ") && helps.contains("pg_reload_conf"),
        "{helps}"
    );
    // The command helps: psql runs it as it is written, but for the quotes of the shell.
    set(rig.cluster.pg2(), "synchronous_standby_names", "").await;
    assert_eq!(rehearse(&rig.sides[1], Effort::Try).await.obstacles, Vec::new());
}

/// A logical message passes in read-only transactions: the probe said yes where no application could write.
#[tokio::test]
async fn bug_a_probe_write_passed_where_transactions_are_read_only() {
    let rig = Rig::start(direct()).await;
    let one = &rig.sides[0];
    let probe = one.probe.write().await.unwrap();
    assert_eq!(probe.accepted, Tri::Yes);
    assert!(probe.detail.contains("`dr` in the database `postgres`"), "{}", probe.detail);
    set(rig.cluster.pg1(), "default_transaction_read_only", "on").await;
    let probe = one.probe.write().await.unwrap();
    assert_eq!(probe.accepted, Tri::No, "{}", probe.detail);
    assert!(probe.detail.contains("read-only"), "{}", probe.detail);
    reset(rig.cluster.pg1(), "default_transaction_read_only").await;
    on(rig.cluster.pg1(), "ALTER ROLE dr SET default_transaction_read_only = on").await;
    let again = Rig { sides: rig.cluster.members().each_ref().map(Side::of), cluster: rig.cluster, pooler: None };
    assert_eq!(again.sides[0].is_writable().await, Tri::No, "the defaults of the role count");
}

/// Whoever works on the primary now and would be turned away by the candidate is named, without a password.
#[tokio::test]
async fn bug_applications_were_locked_out_by_the_candidates_rules() {
    let rig = Rig::start(direct()).await;
    let node = rig.cluster.pg2();
    let _app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    let hba = node.server.data("pg_hba.conf");
    let control = node.server.control();
    let original = control.read(&hba).await.unwrap().unwrap();
    for rule in
        ["host all app all reject\n", "host app app 127.0.0.0/24 reject\n", "host sameuser +app 127.0.0.1/32 reject\n"]
    {
        control.write(&hba, &[rule.as_bytes(), &original].concat()).await.unwrap();
        let found = rehearse(&rig.sides[1], Effort::Look).await;
        let obstacle = only(&found);
        assert_eq!(obstacle.weight, Weight::Always);
        assert!(obstacle.what.contains("`app` in the database `app` from 127.0.0.1"), "{obstacle:?}");
        assert!(obstacle.what.contains("line 1 of"), "{obstacle:?}");
        assert!(obstacle.helps.contains("host app app 127.0.0.1/32 scram-sha-256"), "{obstacle:?}");
    }
    control.write(&hba, b"host all dr all scram-sha-256\nhost replication all all scram-sha-256\n").await.unwrap();
    let found = rehearse(&rig.sides[1], Effort::Look).await;
    assert!(only(&found).what.contains("no rule matches it"), "{found:?}");
    control.write(&hba, b"host all everybody\n").await.unwrap();
    let found = rehearse(&rig.sides[1], Effort::Look).await;
    assert!(only(&found).what.contains("is not understood"), "{found:?}");
    control.write(&hba, &original).await.unwrap();
    assert_eq!(rehearse(&rig.sides[1], Effort::Look).await.obstacles, Vec::new());
}

/// Readers take all connections of the candidate: after the promotion nobody could log in.
#[tokio::test]
async fn bug_a_candidate_without_a_free_connection_was_promoted() {
    let rig = Rig::start(direct()).await;
    // Sessions of ours take some too.
    rehearse(&rig.sides[1], Effort::Look).await;
    let mut readers = Vec::new();
    while let Ok(session) = Session::open(&rig.cluster.app(rig.cluster.pg2())).await {
        readers.push(session);
    }
    let found = rehearse(&rig.sides[1], Effort::Look).await;
    assert!(found.obstacles.iter().any(|obstacle| obstacle.what.contains("free connection")), "{found:?}");
    readers.truncate(readers.len() - 20);
    let _writers = [Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap()];
    until("the readers' end", Duration::from_secs(5), || async {
        rehearse(&rig.sides[1], Effort::Look).await.obstacles.is_empty().then_some(())
    })
    .await;
}

/// The receiver sleeps, and its connection looks alive: only what is sent through it shows that.
#[tokio::test]
async fn bug_a_half_open_connection_looked_like_no_lag() {
    let rig = Rig::start(direct()).await;
    let session = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    let receiver = "SELECT pid::text AS pid FROM pg_stat_activity WHERE backend_type = 'walreceiver'";
    let rows = session.text_rows("find the receiver", receiver).await.unwrap();
    let pid = rows[0].get("pid").unwrap().to_owned();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let found = rehearse(&rig.sides[1], Effort::Try).await;
    signal("-CONT");
    let obstacle = only(&found);
    assert_eq!(obstacle.weight, Weight::Planned);
    assert!(obstacle.what.contains("has replayed up to"), "{obstacle:?}");
    assert_eq!(rehearse(&rig.sides[1], Effort::Try).await.obstacles, Vec::new());
}

/// While something small is replayed, the age of the last commit is no lag.
#[tokio::test]
async fn bug_the_first_write_after_an_idle_time_was_taken_for_a_lag() {
    let rig = Rig::start(direct()).await;
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    app.run("write", "INSERT INTO dr_writes VALUES (1, 0)").await.unwrap();
    // Each commit is replayed late enough to be seen on its way.
    set(rig.cluster.pg2(), "recovery_min_apply_delay", "180ms").await;
    rig.sides[1].database.replication().await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    app.run("write", "INSERT INTO dr_writes VALUES (1, 1)").await.unwrap();
    let seen = until("something to replay", Duration::from_secs(5), || async {
        let reading = rig.sides[1].database.replication().await.unwrap();
        (reading.lag.unwrap().duration() > Duration::ZERO).then_some(reading)
    })
    .await;
    assert!(seen.lag.unwrap().duration() < Duration::from_secs(1), "{seen:?}");
}

/// A pause is a lag that grows, whatever was measured before it.
#[tokio::test]
async fn a_paused_standby_is_behind() {
    let rig = Rig::start(direct()).await;
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    app.run("write", "INSERT INTO dr_writes VALUES (1, 0)").await.unwrap();
    assert_eq!(rehearse(&rig.sides[1], Effort::Look).await.obstacles, Vec::new(), "it is replayed");
    on(rig.cluster.pg2(), "SELECT pg_wal_replay_pause()").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    app.run("write", "INSERT INTO dr_writes VALUES (1, 1)").await.unwrap();
    let seen = until("the lag", Duration::from_secs(5), || async {
        let reading = rig.sides[1].database.replication().await.unwrap();
        (reading.lag.unwrap().duration() > Duration::from_secs(1)).then_some(reading)
    })
    .await;
    assert_eq!(seen.streaming, Tri::Unknown);
}

async fn conninfo(cluster: &LocalCluster, text: &str) {
    on(cluster.pg2(), &format!("ALTER SYSTEM SET primary_conninfo = '{text}'")).await;
    on(cluster.pg2(), "SELECT pg_reload_conf()").await;
    let primary = Session::open(&cluster.pg1().admin).await.unwrap();
    // The name comes from the cluster's, and changes with the connection.
    until("the standby's new connection", Duration::from_secs(15), || async {
        let receiver = Session::open(&cluster.pg2().admin).await.unwrap().setting("primary_conninfo").await.unwrap();
        let there = primary.senders().await.unwrap().iter().any(|row| row.streaming);
        (receiver.as_deref() == Some(text) && there).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    until("the standby", Duration::from_secs(15), || async {
        primary.senders().await.unwrap().iter().any(|row| row.streaming).then_some(())
    })
    .await;
}

async fn follows(side: &Side) -> Option<ReplicationLink> {
    side.database.describe().await.unwrap().follows
}

/// Another name for the same server is no stranger.
#[tokio::test]
async fn bug_localhost_was_another_server_than_its_address() {
    let rig = Rig::start(direct()).await;
    let port = rig.cluster.pg1().port;
    let folder = rig.cluster.folder().display().to_string();
    let places = [
        format!("host=localhost port={port}"),
        format!("host=somewhere hostaddr=127.0.0.1 port={port}"),
        format!("host=nowhere.invalid,localhost port=1,{port}"),
        format!("host={folder} port={port}"),
    ];
    for place in places {
        conninfo(&rig.cluster, &format!("{place} user=replicator password=local-cluster")).await;
        let [one, two] = &rig.sides;
        assert_eq!(follows(two).await, Some(ReplicationLink::physical(one.member.address())), "{place}");
        assert_eq!(
            one.database.describe().await.unwrap().followers,
            [ReplicationLink::physical(two.member.address())],
            "{place}"
        );
    }
    // The name still means the primary when that is down.
    conninfo(&rig.cluster, &format!("postgresql://replicator:local-cluster@localhost:{port}")).await;
    rig.cluster.pg1().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let [one, two] = &rig.sides;
    assert_eq!(follows(two).await, Some(ReplicationLink::physical(one.member.address())));
}

/// A relay shows the primary under an address that is none of its own: the primary's own row decides.
#[tokio::test]
async fn a_standby_behind_a_relay_is_known_by_the_primarys_row() {
    let rig = Rig::start(direct()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (relay, port) = (listener.local_addr().unwrap().port(), rig.cluster.pg1().port);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    conninfo(&rig.cluster, &format!("host=127.0.0.1 port={relay} user=replicator password=local-cluster")).await;
    let [one, two] = &rig.sides;
    assert_eq!(follows(two).await, Some(ReplicationLink::physical(one.member.address())));
    rig.cluster.pg1().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let told = follows(two).await.unwrap();
    let (relay, own) = (format!("127.0.0.1:{relay}"), format!("`pg1` at 127.0.0.1:{port}"));
    assert!(told.to_string().contains(&relay) && told.to_string().contains(&own), "both texts: {told}");
}

/// A standby that fetches from an archive alone follows no server.
#[tokio::test]
async fn bug_a_standby_of_an_archive_followed_a_port() {
    let rig = Rig::start(direct()).await;
    on(rig.cluster.pg2(), "ALTER SYSTEM SET restore_command = 'false'").await;
    on(rig.cluster.pg2(), "ALTER SYSTEM SET primary_conninfo = ''").await;
    restart(&rig.cluster, rig.cluster.pg2());
    let told = follows(&rig.sides[1]).await.unwrap();
    assert!(told.to_string().contains("the archive only"), "{told}");
}

/// Consumers of changes and keepers of the log read from the primary and follow nobody.
#[tokio::test]
async fn bug_a_logical_consumer_was_a_standby_that_nobody_listed() {
    let rig = Rig::start(ClusterOptions { settings: vec!["wal_level = logical".into()], ..direct() }).await;
    let bin = Binaries::find().unwrap().bin;
    let connect = |database: &str, name: &str| {
        let port = rig.cluster.pg1().port;
        format!("host=127.0.0.1 port={port} user=dr password=local-cluster dbname={database} application_name={name}")
    };
    let start = |program: &str, args: &[&str]| {
        let mut command = Command::new(bin.join(program));
        command.args(args).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    on(rig.cluster.pg1(), "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')").await;
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().to_str().unwrap();
    let mut readers = [
        start("pg_recvlogical", &["-d", &connect("postgres", "debezium"), "--slot", "cdc", "--start", "-f", "-"]),
        start("pg_receivewal", &["-d", &connect("postgres", "archiver"), "-D", keep, "--status-interval=1"]),
    ];
    let session = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    until("the readers", Duration::from_secs(20), || async {
        let rows = session.readers().await.unwrap();
        let keeps = rows.iter().any(|row| row.name == "archiver" && row.reader == dr_sql::Reader::Log);
        let reads = rows.iter().any(|row| row.name == "debezium" && row.reader == dr_sql::Reader::Changes);
        (keeps && reads).then_some(())
    })
    .await;
    let [one, two] = &rig.sides;
    assert_eq!(one.database.describe().await.unwrap().followers, [ReplicationLink::physical(two.member.address())]);
    for reader in &mut readers {
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
}
