//! An ordinary role of a managed service answers every question of the probe, or says which right it lacks.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{both, fail_over, managed, on, promote, read, refusal, start, until};
use dr_core::{
    DatabaseProbe, Millis, ProviderError, Tri,
    base::{Int64, SystemId},
    contract::{Parted, Position, Query, Rows, Sessions, Table, Tier},
};
use dr_postgres::Binaries;
use dr_sql::{ApplicationLogin, Link, Password, PasswordSource, Probe, Reader, Session, replication};

/// Both tiers tell the same of both servers, before and after a promotion; only what one of them may not read is absent, with the reason.
#[tokio::test]
async fn both_tiers_tell_the_same_where_both_can_tell() {
    let cluster = start(&[]).await;
    for (node, recovery) in [(cluster.pg1(), Tri::No), (cluster.pg2(), Tri::Yes)] {
        let (server, ordinary) = both(node);
        let (server, ordinary) = (read(&server).await, read(&ordinary).await);
        assert_eq!((server.tier, ordinary.tier), (Tier::Server, Tier::Managed));
        assert_eq!((server.in_recovery, ordinary.in_recovery), (recovery, recovery));
        assert_eq!(server.lineage, ordinary.lineage);
        assert!(ordinary.applied.reaches(&server.applied) && ordinary.durable.reaches(&server.durable));
        assert_eq!(server.parted_at, ordinary.parted_at, "neither has left another history");
    }
    let standby = both(cluster.pg2());
    read(&standby.1).await;
    fail_over(&cluster).await;
    let (server, ordinary) = (read(&standby.0).await, read(&standby.1).await);
    assert_eq!((server.lineage.generation, ordinary.lineage.generation), (2, 2));
    assert_eq!(server.lineage, ordinary.lineage);
    assert!(matches!(server.parted_at, Parted::At(_)), "{server:?}");
    let Parted::Untold { because } = ordinary.parted_at else { panic!("an ordinary role read a file") };
    assert!(because.contains("pg_read_file"), "{because}");
}

/// Every other question, each compared with what a superuser is told.
#[tokio::test]
async fn an_ordinary_role_is_answered() {
    let cluster = start(&[]).await;
    let (server, ordinary) = both(cluster.pg1());
    assert_eq!(server.extensions().await.unwrap(), ordinary.extensions().await.unwrap());
    assert_eq!(server.available_extensions().await.unwrap(), ordinary.available_extensions().await.unwrap());
    assert_eq!(ordinary.ask(&Query::new("one", "SELECT 1")).await.unwrap(), Rows::one(1));
    ordinary.warm_up().await.unwrap();

    // A session of an application, with a transaction that stays open.
    let app = Session::open(&cluster.app(cluster.pg1())).await.unwrap();
    app.run("begin", "BEGIN; SELECT 1").await.unwrap();
    let long = async |probe: &Probe| probe.long_transactions(Millis::new(0)).await.unwrap();
    let users = async |probe: &Probe| long(probe).await.into_iter().map(|long| long.user).collect::<Vec<_>>();
    assert_eq!((users(&server).await, users(&ordinary).await), (vec!["app".to_owned()], vec!["app".to_owned()]));
    // Superusers are the service's own; to the server tier they are clients.
    let admin = Session::open_plain(&cluster.pg1().admin.clone().with_application("psql")).await.unwrap();
    let counted = async |probe: &Probe| probe.writing_sessions().await.unwrap();
    let one = |in_transaction, idle| Sessions { in_transaction, idle };
    assert_eq!(counted(&ordinary).await, one(1, 0), "the application");
    assert_eq!(counted(&server).await, one(1, 3), "the application; the ordinary role twice, and psql");
    assert_eq!(counted(&both(cluster.pg2()).1).await, one(0, 0), "nobody writes on a standby");
    app.run("end", "COMMIT").await.unwrap();
    assert_eq!(counted(&ordinary).await, one(0, 1), "a connection that a pool keeps");
    drop(admin);

    assert!(ordinary.group_lock("orders-1").await.unwrap());
    assert!(!server.group_lock("orders-2").await.unwrap(), "the lock is one for both tiers");

    let login = ApplicationLogin::new("app", Some(Password::new("local-cluster")), "app");
    let proof = ordinary.clone().with_application(Some(login)).write_as_application().await.unwrap();
    assert_eq!((proof.accepted, proof.lineage), (Tri::Yes, Some(read(&server).await.lineage)));
    let none = ordinary.write_as_application().await;
    assert!(matches!(none, Err(ProviderError::Unsupported { .. })), "{none:?}");
}

/// The write is a row in the schema of the role, on the history that the server writes; a standby refuses it.
#[tokio::test]
async fn an_ordinary_role_proves_the_writer_in_its_own_schema() {
    let cluster = start(&[]).await;
    let (server, ordinary) = both(cluster.pg1());
    for _ in 0..2 {
        let probe = ordinary.write().await.unwrap();
        assert_eq!((probe.accepted, probe.lineage), (Tri::Yes, Some(read(&server).await.lineage)), "{}", probe.detail);
    }
    let rows = server.ask(&Query::new("rows", "SELECT count(*) FROM svc.dr_probe")).await.unwrap();
    assert_eq!(rows, Rows::one(1), "one row, however often");
    let probe = both(cluster.pg2()).1.write().await.unwrap();
    assert_eq!(probe.accepted, Tri::No, "{}", probe.detail);

    on(&cluster, "ALTER ROLE svc SET default_transaction_read_only = on").await;
    let probe = both(cluster.pg1()).1.write().await.unwrap();
    assert!(probe.accepted == Tri::No && probe.detail.contains("read-only"), "{}", probe.detail);
    on(&cluster, "ALTER ROLE svc RESET default_transaction_read_only; DROP SCHEMA svc CASCADE").await;
    let why = refusal(both(cluster.pg1()).1.write().await);
    assert!(why.contains(r#"CREATE SCHEMA "svc" AUTHORIZATION "svc""#), "nothing is said of the server: {why}");
}

/// Lag and attachment, from the standby alone, with its primary, and without it.
#[tokio::test]
async fn an_ordinary_role_tells_how_far_a_standby_is() {
    let cluster = start(&[]).await;
    let primary = [Link::new(managed(cluster.pg1()))];
    let session = Session::open(&managed(cluster.pg2())).await.unwrap();
    let admin = Session::open(&cluster.pg2().admin).await.unwrap();
    let (told, theirs) = (replication(&session, &primary).await.unwrap(), replication(&admin, &[]).await.unwrap());
    assert_eq!((told.streaming, told.lag), (Tri::Yes, Some(Millis::new(0))));
    assert_eq!((told.lineage, told.streaming, told.lag), (theirs.lineage, theirs.streaming, theirs.lag));
    let writer = Session::open(&managed(cluster.pg1())).await.unwrap();
    assert_eq!(replication(&writer, &[]).await.unwrap().streaming, Tri::No);
    cluster.pg1().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    until("the end of the stream", async || {
        let told = replication(&session, &primary).await.unwrap();
        (told.streaming == Tri::No).then(|| assert_eq!(told.lag, None, "never zero"))
    })
    .await;
}

/// Where the service keeps the control file to itself, the receiver tells a standby's timeline, and nobody does when it is gone.
#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let cluster = start(&[]).await;
    on(
        &cluster,
        "REVOKE EXECUTE ON FUNCTION pg_control_checkpoint() FROM PUBLIC; REVOKE EXECUTE ON FUNCTION pg_control_recovery() FROM PUBLIC",
    )
    .await;
    let (server, ordinary) = both(cluster.pg2());
    assert_eq!(read(&ordinary).await.lineage, read(&server).await.lineage);
    assert_eq!(read(&both(cluster.pg1()).1).await.lineage, read(&server).await.lineage);

    cluster.pg1().server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let why = until("the end of the receiver", async || ordinary.position().await.err()).await;
    assert!(why.to_string().contains("position"), "{why}");
    let why = refusal(ordinary.position().await);
    assert!(why.contains("no receiver runs") && why.contains("pg_control_checkpoint()"), "{why}");
    promote(&cluster).await;
    assert_eq!(read(&ordinary).await.lineage, read(&server).await.lineage, "a primary tells its own");

    let admin = Session::open(&cluster.pg2().admin).await.unwrap();
    admin.run("revoke", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC").await.unwrap();
    let why = refusal(both(cluster.pg2()).1.position().await);
    assert!(why.contains(r#"GRANT EXECUTE ON FUNCTION pg_control_system() TO "svc""#), "{why}");
}

/// A role that is not shown what others do was told of no session and of no receiver, and that reads as "nobody writes".
#[tokio::test]
async fn bug_a_role_that_is_shown_no_sessions_counted_none() {
    let cluster = start(&[]).await;
    on(&cluster, "REVOKE pg_monitor FROM svc").await;
    let _app = Session::open(&cluster.app(cluster.pg1())).await.unwrap();
    let mut other = managed(cluster.pg1());
    other.rights = dr_sql::Rights::Server;
    for probe in [Probe::new("app", other), both(cluster.pg1()).1] {
        for why in [refusal(probe.writing_sessions().await), refusal(probe.long_transactions(Millis::new(0)).await)] {
            assert!(why.contains(r#"GRANT pg_monitor TO "svc""#), "{why}");
        }
    }
    let why = refusal(both(cluster.pg2()).1.position().await);
    assert!(why.contains("GRANT pg_monitor"), "{why}");
    let standby = Session::open(&managed(cluster.pg2())).await.unwrap();
    assert!(standby.receiver().await.is_err() && standby.client_sessions().await.is_err());
    assert!(Session::open(&managed(cluster.pg1())).await.unwrap().senders().await.is_err());
}

/// What an ordinary role sees of a consumer of changes: a reader, and no standby.
#[tokio::test]
async fn a_logical_consumer_is_a_reader_to_an_ordinary_role_too() {
    let cluster = start(&["wal_level = logical"]).await;
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    admin.run("make a slot", "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')").await.unwrap();
    let port = cluster.pg1().port;
    let connect =
        format!("host=127.0.0.1 port={port} user=dr password=local-cluster application_name=debezium dbname=postgres");
    let mut reader = Command::new(Binaries::find().unwrap().bin.join("pg_recvlogical"))
        .args(["-d", &connect, "--slot", "cdc", "--start", "-f", "-"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let session = Session::open(&managed(cluster.pg1())).await.unwrap();
    until("the reader", async || {
        let rows = session.readers().await.unwrap();
        rows.iter().any(|row| row.name == "debezium" && row.reader == Reader::Changes).then_some(())
    })
    .await;
    let standbys: Vec<String> = session.senders().await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(standbys, ["pg2"]);
    reader.kill().unwrap();
    reader.wait().unwrap();
}

/// Hands out what is valid now, and counts.
#[derive(Debug, Default)]
struct Tokens(AtomicU32);

#[async_trait]
impl PasswordSource for Tokens {
    async fn password(&self) -> Result<String, String> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Ok("local-cluster".to_owned()),
            2 => Ok("expired".to_owned()),
            _ => Err("the identity service does not answer".to_owned()),
        }
    }
}

/// A token expires: it is asked for again with each session, and an open session needs none.
#[tokio::test]
async fn a_password_is_asked_for_with_each_session() {
    let cluster = start(&[]).await;
    let tokens = Arc::new(Tokens::default());
    let mut target = managed(cluster.pg1());
    target.password = Some(Password::asked(Arc::clone(&tokens) as Arc<dyn PasswordSource>));
    let probe = Probe::new("app", target.clone());
    for _ in 0..3 {
        read(&probe).await;
    }
    assert_eq!(tokens.0.load(Ordering::Relaxed), 1, "one session, one token");
    Session::open(&target).await.unwrap();
    assert!(Session::open(&target).await.unwrap_err().is_login_refused());
    let none = refusal(Probe::new("app", target).position().await);
    assert!(none.contains("the identity service does not answer"), "{none}");
}

/// Whether others wrote, how far sequences are and what tables add up to, in both tiers of rights. What an ordinary role is not told is
/// unknown with a reason, or named apart.
#[tokio::test]
async fn both_tiers_tell_what_they_can_of_the_data() {
    let cluster = start(&[]).await;
    on(
        &cluster,
        "CREATE EXTENSION pg_walinspect; CREATE TABLE orders (id serial PRIMARY KEY, what text);
         INSERT INTO orders (what) SELECT 'order ' || n FROM generate_series(1, 100) n;
         CREATE SEQUENCE unused; CREATE SEQUENCE svc.own; ALTER SEQUENCE svc.own OWNER TO svc; GRANT SELECT ON orders TO svc",
    )
    .await;
    let (server, ordinary) = both(cluster.pg1());
    let before = read(&server).await.durable;
    assert_eq!(server.write().await.unwrap().accepted, Tri::Yes);
    let told = server.writes_since(&before).await.unwrap();
    assert_eq!(told.written, Tri::No, "our own message is none: {}", told.detail);
    let told = ordinary.writes_since(&before).await.unwrap();
    assert!(told.written == Tri::Unknown && told.detail.contains("ordinary role"), "{}", told.detail);
    on(&cluster, "UPDATE orders SET what = 'other' WHERE id = 1").await;
    let told = server.writes_since(&before).await.unwrap();
    assert!(told.written == Tri::Yes && told.detail.contains("Heap"), "{}", told.detail);
    let quiet = read(&both(cluster.pg2()).1).await.applied;
    let told = both(cluster.pg2()).1.writes_since(&quiet).await.unwrap();
    assert_ne!(told.written, Tri::Yes, "{}", told.detail);
    let elsewhere = Position { system: SystemId::new("1"), ..before.clone() };
    assert!(refusal(server.writes_since(&elsewhere).await).contains("no position of system"));
    on(&cluster, "DROP EXTENSION pg_walinspect").await;
    let told = server.writes_since(&before).await.unwrap();
    assert!(told.written == Tri::Unknown && told.detail.contains("pg_walinspect"), "{}", told.detail);

    let sequences = server.sequences().await.unwrap();
    assert_eq!(sequences.values.get("public.orders_id_seq"), Some(&Some(Int64(100))));
    assert_eq!(sequences.values.get("public.unused"), Some(&None), "never used");
    assert_eq!(sequences.unread, Vec::<String>::new());
    let there = both(cluster.pg2()).0.sequences().await.unwrap();
    assert_eq!(there.values.get("public.orders_id_seq"), Some(&Some(Int64(132))), "the log is ahead of the use");
    assert_eq!(there.values.keys().collect::<Vec<_>>(), sequences.values.keys().collect::<Vec<_>>());
    let sequences = ordinary.sequences().await.unwrap();
    assert_eq!(sequences.unread, ["public.orders_id_seq", "public.unused"]);
    assert_eq!(sequences.values.keys().collect::<Vec<_>>(), ["svc.own"]);

    let table = [Table::new("public", "orders")];
    let sums = server.checksum(&table).await.unwrap();
    assert_eq!(sums.values().map(|sum| sum.rows).collect::<Vec<_>>(), [Int64(100)]);
    for probe in [&ordinary, &both(cluster.pg2()).0, &both(cluster.pg2()).1] {
        assert_eq!(probe.checksum(&table).await.unwrap(), sums, "the same rows");
    }
    on(&cluster, "ALTER ROLE svc SET datestyle = 'SQL, DMY'; UPDATE orders SET what = 'third' WHERE id = 2").await;
    assert_ne!(server.checksum(&table).await.unwrap(), sums);
    assert!(refusal(server.checksum(&[Table::new("public", "nothing")]).await).contains("nothing"));
    on(&cluster, "REVOKE SELECT ON orders FROM svc").await;
    assert!(refusal(ordinary.checksum(&table).await).contains("permission denied"));
}

/// What a logical copy has when it becomes the writer: rows, and sequences that stand where they were made. Nothing that is handed out
/// afterwards was handed out before, no sequence is lowered, and a small one is not used up by being careful.
#[tokio::test]
async fn sequences_go_on_beyond_what_the_predecessor_handed_out() {
    let cluster = start(&[]).await;
    on(
        &cluster,
        "CREATE TABLE orders (id serial PRIMARY KEY, what text);
         INSERT INTO orders (id, what) SELECT n, 'replicated' FROM generate_series(1, 100) n;
         CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT BY -1) PRIMARY KEY);
         INSERT INTO items OVERRIDING SYSTEM VALUE SELECT -n FROM generate_series(1, 50) n;
         CREATE SEQUENCE tickets; CREATE SEQUENCE svc.small AS smallint; ALTER SEQUENCE svc.small OWNER TO svc",
    )
    .await;
    let admin = Session::open(&cluster.pg1().admin).await.unwrap();
    let server = both(cluster.pg1()).0;
    let last = async |name: &str| server.sequences().await.unwrap().values[name].map(|last| last.0);
    let floors =
        |floors: &[(&str, i64)]| floors.iter().map(|(name, last)| ((*name).to_owned(), *last)).collect::<Vec<_>>();
    assert!(server.sequences().await.unwrap().down.contains("public.items_id_seq"));

    let unknown = floors(&[("public.tickets", 7), ("public.nobodys", 1)]);
    let refused = admin.raise_sequences(&unknown, 0).await.unwrap_err().to_string();
    assert!(refused.contains("there is no sequence public.nobodys"), "{refused}");
    assert_eq!(last("public.tickets").await, None, "nothing was raised");

    admin.raise_sequences(&floors(&[("public.tickets", 7_000), ("svc.small", 5_000)]), 10_000).await.unwrap();
    assert_eq!(last("public.tickets").await, Some(17_000));
    assert_eq!(last("svc.small").await, Some(5_277), "of the room that is left, a hundredth");
    assert_eq!(last("public.orders_id_seq").await, Some(100), "its column tells");
    assert_eq!(last("public.items_id_seq").await, Some(-50), "downwards, too");
    on(&cluster, "INSERT INTO orders (what) VALUES ('new'); INSERT INTO items DEFAULT VALUES").await;

    admin.raise_sequences(&floors(&[("public.tickets", 9), ("public.items_id_seq", -3)]), 0).await.unwrap();
    assert_eq!(
        (last("public.tickets").await, last("public.items_id_seq").await),
        (Some(17_000), Some(-51)),
        "none is lowered"
    );

    let ordinary = Session::open(&managed(cluster.pg1())).await.unwrap();
    let denied = ordinary.raise_sequences(&[], 0).await.unwrap_err();
    assert!(denied.is_denied(), "{denied}: its rows say how far it must be, and the role may not read them");
    on(&cluster, "GRANT SELECT ON orders, items TO svc").await;
    let refused = ordinary.raise_sequences(&[], 0).await.unwrap_err().to_string();
    assert!(refused.contains("GRANT SELECT, UPDATE ON SEQUENCE public.items_id_seq"), "{refused}");
    let standby = Session::open(&cluster.pg2().admin).await.unwrap();
    assert!(
        standby.raise_sequences(&floors(&[("public.tickets", 99_000)]), 0).await.is_err(),
        "a standby takes no writes"
    );
}
