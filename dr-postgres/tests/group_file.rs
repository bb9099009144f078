//! Group files: the tables of this backend, their faults with their places, and a switchover's parts opened from one.
#![expect(clippy::unwrap_used, reason = "tests")]

use dr_core::{Backend, GroupSpec, MemberId, Tri, contract::ReplicationLink};
use dr_postgres::{
    Postgres,
    testing::{ClusterOptions, LocalCluster},
};

fn read(text: &str) -> GroupSpec {
    GroupSpec::read(&toml::from_str::<serde_json::Value>(text).unwrap()).unwrap()
}

const BILLING: &str = r#"
format      = 2
name        = "billing"
environment = "prod"
tier        = 1
home        = "pg1"

[[member]]
name    = "pg1"
region  = "dc-a"
backend = "postgres"
at      = { host = "10.1.0.11", port = 5432, data = "/var/lib/postgresql/15/main", run = "ssh:postgres@10.1.0.11", unit = "postgresql@15-main" }

[[member]]
name    = "pg2"
region  = "dc-b"
backend = "postgres"
at      = { host = "10.2.0.11", port = 5432, data = "/var/lib/postgresql/15/main", run = "ssh:postgres@10.2.0.11", unit = "postgresql@15-main" }

[probe]
user     = "dr_probe"
password = "file:/etc/dr/billing-probe"

[[secret]]
name    = "billing"
store   = "none"
because = "applications connect to PgBouncer"

[[traffic]]
name   = "public"
router = "postgres.pgbouncer"
at     = { admin = ["10.1.0.20:6432", "10.2.0.20:6432"], database = "billing", pause_within = "10 s", run = ["ssh:pgbouncer@10.1.0.20", "ssh:pgbouncer@10.2.0.20"] }
member = { pg1 = "10.1.0.11", pg2 = "10.2.0.11" }

[[fence]]
with  = "postgres.stop"
grade = "confirmed"
"#;

/// The file of the documentation opens without a call: nobody listens at these addresses.
#[test]
fn the_documented_group_opens_and_calls_nobody() {
    let (group, backend) = (read(BILLING), Postgres::new());
    let opened = backend.open(&group, group.member(&MemberId::new("pg1")).unwrap()).unwrap();
    assert_eq!(opened.database.address.as_str(), "10.1.0.11:5432/var/lib/postgresql/15/main");
    let route = backend.route(&group, group.traffic.first().unwrap()).unwrap();
    assert!(route.app.is_some(), "a pooler is a route and a drain");
    let fence = backend.fence(&group, group.fences.first().unwrap(), group.members.first().unwrap()).unwrap();
    assert_eq!(fence.name(), "postgres.stop");
    let commands = fence.manual("engage").join("\n");
    assert!(commands.contains("systemctl mask postgresql@15-main"), "{commands}");
    assert!(commands.contains("/usr/lib/postgresql/15/bin/pg_ctl stop -D /var/lib/postgresql/15/main -m fast"));
}

/// Processes by their sockets, each with a file of its own; a login of an application, whose password no debug output shows.
#[test]
fn processes_on_one_host_are_named_by_their_sockets() {
    let sockets = r#"admin = ["/run/pgbouncer-1:6432", "/run/pgbouncer-2"], file = ["/etc/pgbouncer/1.ini", "/etc/pgbouncer/2.ini"]"#;
    let text = BILLING.replace(r#"admin = ["10.1.0.20:6432", "10.2.0.20:6432"]"#, sockets);
    let login =
        "[application]\nuser = \"shop\"\npassword = \"env:SHOP\"\ndatabase = \"billing\"\ntable = \"public.orders\"\n";
    let (group, backend) = (read(&format!("{text}\n{login}")), Postgres::new());
    let route = backend.route(&group, group.traffic.first().unwrap()).unwrap();
    let commands = route.router.provider.manual("apply").join("\n");
    assert!(commands.contains("vi /etc/pgbouncer/1.ini\npsql -h /run/pgbouncer-1 -p 6432"), "{commands}");
    assert!(commands.contains("vi /etc/pgbouncer/2.ini\npsql -h /run/pgbouncer-2 -p 6432"), "{commands}");
    assert!(!format!("{:?}", route.router.provider).contains("SHOP"));
}

/// The pooler read the table of every member as one of its own: a group with one member in a cloud did not open.
#[test]
fn bug_a_pooler_leaves_the_tables_of_other_backends_alone() {
    let own = r#"backend = "postgres"
at      = { host = "10.2.0.11", port = 5432, data = "/var/lib/postgresql/15/main", run = "ssh:postgres@10.2.0.11", unit = "postgresql@15-main" }"#;
    let foreign = BILLING.replace(own, "backend = \"azure.flexible\"\nat      = { server = \"billing-weu\" }");
    assert_ne!(foreign, BILLING);
    let open = |text: &str| {
        let group = read(text);
        Postgres::new().route(&group, group.traffic.first().unwrap()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(open(&foreign), Ok(()));
    for (named, why) in [("", "does not name `pg2`"), (r#", pg2 = "{member.endpoint}""#, "no host:port")] {
        let refused = open(&foreign.replace(r#", pg2 = "10.2.0.11""#, named)).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

/// A typo, a wrong way to the host, a stored secret, an unknown fence: each is refused with its place.
#[test]
fn faults_name_their_place() {
    let fault = |from: &str, to: &str| {
        let group = read(&BILLING.replace(from, to));
        let backend = Postgres::new();
        let member = group.members.first().unwrap();
        backend
            .open(&group, member)
            .map(drop)
            .and_then(|()| backend.fence(&group, group.fences.first().unwrap(), member).map(drop))
            .and_then(|()| backend.route(&group, group.traffic.first().unwrap()).map(drop))
            .unwrap_err()
            .to_string()
    };
    let typo = fault("unit = \"postgresql@15-main\"", "unti = \"postgresql@15-main\"");
    assert!(typo.contains("unti") && typo.contains("member"), "{typo}");
    let way = fault("ssh:postgres@10.1.0.11", "telnet:10.1.0.11");
    assert!(way.contains("`local` or `ssh:USER@HOST`"), "{way}");
    let stored = fault("file:/etc/dr/billing-probe", "secret:billing");
    assert!(stored.contains("`file:PATH` or `env:NAME`"), "{stored}");
    let fence = fault("postgres.stop", "postgres.hope");
    assert!(fence.contains("postgres.hope") && fence.contains("`postgres.hba`"), "{fence}");
    let console = fault("10.2.0.20:6432", "10.2.0.20:none");
    assert!(console.contains("no host:port"), "{console}");
    let file = fault(
        "database = \"billing\"",
        "database = \"billing\", file = [\"/etc/a.ini\", \"/etc/b.ini\", \"/etc/c.ini\"]",
    );
    assert!(file.contains("2 consoles") && file.contains("3 files"), "{file}");
    let login = |table: &str| {
        fault("[[fence]]", &format!("[application]\nuser = \"shop\"\ndatabase = \"billing\"\n{table}\n\n[[fence]]"))
    };
    let table = login("table = \"orders; DROP\"");
    assert!(table.contains("application.table") && table.contains("is no table"), "{table}");
    let stored = login("password = \"secret:shop\"");
    assert!(stored.contains("application.password") && stored.contains("`file:PATH` or `env:NAME`"), "{stored}");
}

/// A group file for the local pair opens providers that work.
#[tokio::test]
async fn a_local_group_file_reaches_its_servers() {
    let cluster = LocalCluster::start(ClusterOptions::default()).await.unwrap();
    let (group, backend) = (read(&cluster.group_file()), Postgres::new());
    let [one, two] = [0, 1].map(|index: usize| backend.open(&group, group.members.get(index).unwrap()).unwrap());
    let (primary, standby) =
        (one.database.provider.describe().await.unwrap(), two.database.provider.describe().await.unwrap());
    assert_eq!((primary.writable, standby.writable), (Tri::Yes, Tri::No));
    assert_eq!(standby.follows, Some(ReplicationLink::physical(one.database.address.clone())));
    let route = backend.route(&group, group.traffic.first().unwrap()).unwrap();
    assert_eq!(route.router.provider.read().await.unwrap().member, Some(MemberId::new("pg1")));
    assert_eq!(route.app.unwrap().provider.read().await.unwrap().drained, Tri::No);
}
