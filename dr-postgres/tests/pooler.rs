//! PgBouncer's own files and processes: what a rehearsal finds before anything is held back, what a move leaves alone, and who gives back
//! what was held.
#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

#[expect(dead_code, reason = "shared with the other tests")]
mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::{Rig, budget, done, handle, key, resume, switch, until, writer};
use dr_core::{
    AppTier, MemberId, Outcome, ProviderError, TrafficRouter, Tri,
    contract::{Effort, Rehearsal, RehearseRoute, ResumeRequest, RouteRequest},
    seconds,
};
use dr_postgres::{
    HostCommand, HostError, LocalControl, PostgresPooler, Postmaster, Process, ServerControl, Signalled, Stop,
    pgbouncer::{Instance, PgBouncer},
    testing::{ClusterOptions, LocalCluster},
};
use dr_sql::{ApplicationLogin, Password, PgError, Session, SslMode, Target};

const PASSWORD: &str = "local-cluster";

fn target(host: &str, port: u16, user: &str) -> Target {
    let mut target = Target::new("pgbouncer", host, port, user).with_password(PASSWORD);
    target.ssl = SslMode::Disable;
    target
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory of one PgBouncer process, its files as the test writes them.
#[derive(Debug)]
struct Bouncer {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Bouncer {
    fn new(cluster: &LocalCluster, name: &str) -> Self {
        let folder = cluster.folder().join(name);
        fs::create_dir(&folder).unwrap();
        let bouncer = Self { folder, port: free_port(), child: None };
        bouncer.own(&bouncer.folder.clone(), cluster.folder());
        fs::copy(cluster.folder().join("users.txt"), bouncer.path("users.txt")).unwrap();
        bouncer.own(&bouncer.path("users.txt"), cluster.folder());
        bouncer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn own(&self, path: &Path, like: &Path) {
        let meta = fs::metadata(like).unwrap();
        chown(path, Some(meta.uid()), Some(meta.gid())).unwrap();
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        self.own(&self.path(name), &self.folder);
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The section [pgbouncer] that every test needs.
    fn main(&self) -> String {
        let (folder, port) = (self.folder.display(), self.port);
        format!(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {folder}\nauth_type = scram-sha-256\n\
             auth_file = {folder}/users.txt\nadmin_users = dr\npool_mode = transaction\nserver_login_retry = 1\n\
             logfile = {folder}/log\npidfile = {folder}/pid\nignore_startup_parameters = extra_float_digits\n"
        )
    }

    async fn start(&mut self) {
        let meta = fs::metadata(&self.folder).unwrap();
        let program = dr_postgres::Binaries::find().unwrap().pgbouncer.unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(self.path("pgbouncer.ini")).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(meta.uid()).gid(meta.gid());
        }
        self.child = Some(command.spawn().unwrap());
        let console = self.console().with_database("pgbouncer");
        until("pgbouncer", Duration::from_secs(10), || async { Session::open_plain(&console).await.ok() }).await;
    }

    fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }

    fn console(&self) -> Target {
        target("127.0.0.1", self.port, "dr")
    }

    fn instance(&self, file: &str) -> Instance {
        Instance::new(self.console(), self.path(file), Arc::new(LocalControl::for_files("pgbouncer")))
    }

    async fn say(&self, command: &str) {
        let console = Session::open_plain(&self.console().with_database("pgbouncer")).await.unwrap();
        console.run("obey", command).await.unwrap();
    }
}

fn route(cluster: &LocalCluster, instances: Vec<Instance>) -> PostgresPooler {
    let places = [("pg1", cluster.pg1().port), ("pg2", cluster.pg2().port)];
    let places = places.map(|(name, port)| (MemberId::new(name), ("127.0.0.1".to_owned(), port)));
    let members = cluster.members();
    let servers = [MemberId::new("pg1"), MemberId::new("pg2")].into_iter().zip(members).collect();
    let pooler = PgBouncer { database: "app".into(), instances };
    let route = PostgresPooler::new(pooler, BTreeMap::from(places), seconds(5)).with_servers(servers);
    route.with_application(Some(login()))
}

async fn rehearse(route: &PostgresPooler, effort: Effort) -> Rehearsal {
    let request = RehearseRoute { from: MemberId::new("pg1"), to: MemberId::new("pg2"), effort };
    route.rehearse(&request).await.unwrap()
}

fn only(found: &Rehearsal, part: &str) {
    let one = found.obstacles.first().is_some_and(|one| one.what.contains(part));
    assert!(one && found.obstacles.len() == 1, "not only {part}: {found:#?}");
}

async fn direct() -> LocalCluster {
    LocalCluster::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await.unwrap()
}

/// Every layout that PgBouncer reads and that can be moved is ready, and a trial of it changes nothing.
#[tokio::test]
async fn what_counts_and_can_be_changed_is_ready() {
    let cluster = direct().await;
    let port = cluster.pg1().port;
    let included = |bouncer: &Bouncer| format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display());
    let own = |bouncer: &Bouncer| bouncer.main();
    type Main<'m> = &'m dyn Fn(&Bouncer) -> String;
    let layouts: [(&str, &str, Main<'_>, String); 6] = [
        ("plain", "app.ini", &included, format!("[databases]\napp = host=127.0.0.1 port={port} dbname=app\n")),
        (
            "spaced",
            "app.ini",
            &included,
            format!("[databases]\napp = host = 127.0.0.1 port = {port} dbname = app pool_size=7"),
        ),
        (
            "named",
            "app.ini",
            &included,
            format!("; ours\r\n[databases]\r\napp=host=localhost port='{port}' connect_query='select ''a b'''\r\n"),
        ),
        (
            "several",
            "app.ini",
            &included,
            format!(
                "[databases]\napp = host=nowhere\nreporting = host=127.0.0.1 port={port} pool_size=5\n* = host=127.0.0.1 port={port}\napp = port={port} host=127.0.0.1\n[users]\napp = max_user_connections=50\n"
            ),
        ),
        (
            "inherited",
            "app.ini",
            &|bouncer| format!("{}[databases]\n%include app.ini\n", bouncer.main()),
            format!("app = host=127.0.0.1 port={port}\n"),
        ),
        ("main", "pgbouncer.ini", &own, String::new()),
    ];
    for (name, file, main, text) in layouts {
        let mut bouncer = Bouncer::new(&cluster, name);
        bouncer.put("app.ini", &text);
        let mut ini = main(&bouncer);
        if file == "pgbouncer.ini" {
            ini = format!("[databases] ; not a comment = 1\n{ini}").replace(" ; not a comment = 1", "");
            ini = ini.replacen(
                "[databases]\n",
                &format!("[databases]\napp = host=127.0.0.1 port={port} dbname=app\n"),
                1,
            );
        }
        bouncer.put("pgbouncer.ini", &ini);
        bouncer.start().await;
        let route = route(&cluster, vec![bouncer.instance(file)]);
        let found = rehearse(&route, Effort::Look).await;
        assert_eq!((&found.obstacles, &found.untried), (&Vec::new(), &Vec::new()), "{name}");
        let before = (bouncer.text("app.ini"), bouncer.text("pgbouncer.ini"));
        let found = rehearse(&route, Effort::Try).await;
        assert_eq!((&found.obstacles, &found.untried), (&Vec::new(), &Vec::new()), "{name}");
        assert_eq!((bouncer.text("app.ini"), bouncer.text("pgbouncer.ini")), before, "{name}");
        let read = TrafficRouter::read(&route).await.unwrap();
        assert_eq!(read.member, Some(MemberId::new("pg1")), "{name}: {read:?}");
    }
}

/// What we read in the oddest file that PgBouncer loads is what it has made of it: otherwise the files would be said to differ.
#[tokio::test]
async fn the_grammar_is_that_of_the_process() {
    let cluster = direct().await;
    let port = cluster.pg1().port;
    let mut bouncer = Bouncer::new(&cluster, "odd");
    bouncer.put("nested.ini", "n1 = host=in.side\n[databases]n2=host=same.line\n; n3 = host=no");
    bouncer.put(
        "app.ini",
        &format!(
            "  ; first\r\n\t# second\n[databases] a1=host=a\r\na2 = port = 7  host = 'b'   \t\na3 = host='c'xport=1\n\
             a4 = host=e\tdbname=f\na5 =\na6 = host=g host=h port=1 port=2\na-7._ =host=i dbname='it''s one' pool_size=3\n\
             a8 = host=j port=99abc pool_mode=statement\na9 = host=k#l;m\n\n\x0b a10 = host=:: user=app password=' x '\n\
             [users]\napp = pool_mode=transaction\n[databases]\n%include \t nested.ini \t\nn4 = host=after\n\
             app = host=wrong\n* = host=any\na1 = host=again\napp=host = '127.0.0.1' port={port}"
        ),
    );
    bouncer.put("pgbouncer.ini", &format!("{}%include app.ini", bouncer.main()));
    bouncer.start().await;
    let route = route(&cluster, vec![bouncer.instance("app.ini")]);
    assert_eq!(rehearse(&route, Effort::Try).await, Rehearsal::default());
    let console = Session::open_plain(&bouncer.console().with_database("pgbouncer")).await.unwrap();
    let told = console.text_rows("tell", "SHOW DATABASES").await.unwrap();
    assert_eq!(told.len(), 15, "every name and the console: {told:?}");
    bouncer.put(
        "pgbouncer.ini",
        &bouncer.text("pgbouncer.ini").replace("admin_users = dr", "admin_users = somebody\nstats_users = dr"),
    );
    bouncer.kill();
    bouncer.start().await;
    only(&rehearse(&route, Effort::Look).await, "`dr` is none of its admin_users");
}

/// Each was found out after the promotion, with nobody writing.
#[tokio::test]
async fn bug_a_file_that_does_not_count_is_found_before_the_gap() {
    let cluster = direct().await;
    let port = cluster.pg1().port;
    let entry = format!("[databases]\napp = host=127.0.0.1 port={port} dbname=app\n");
    let cases = [
        ("not-included", format!("{entry}MAIN"), entry.clone(), "does not read"),
        ("overridden", format!("INCLUDE{entry}MAIN"), entry.clone(), "that counts stands in"),
        (
            "wildcard",
            "MAININCLUDE".to_owned(),
            format!("[databases]\n* = host=127.0.0.1 port={port} pool_size=7\n"),
            "has no entry of its own",
        ),
        ("none", "MAININCLUDE".to_owned(), "[databases]\n".to_owned(), "none of its files has an entry `app`"),
    ];
    for (name, main, file, said) in cases {
        let mut bouncer = Bouncer::new(&cluster, name);
        bouncer.put("app.ini", &file);
        let include = format!("%include {}/app.ini\n", bouncer.folder.display());
        bouncer.put("pgbouncer.ini", &main.replace("MAIN", &bouncer.main()).replace("INCLUDE", &include));
        bouncer.start().await;
        let through = target("127.0.0.1", bouncer.port, "app").with_database("app");
        let _client = Session::open_plain(&through).await;
        let found = rehearse(&route(&cluster, vec![bouncer.instance("app.ini")]), Effort::Try).await;
        only(&found, said);
        assert_eq!(bouncer.text("app.ini"), file, "{name}");
    }
}

/// What cannot be moved, or not without more than is meant, is refused with the reason.
#[tokio::test]
async fn what_cannot_be_moved_is_refused_with_the_reason() {
    let cluster = direct().await;
    let port = cluster.pg1().port;
    let entry = |said: &str| format!("[databases]\napp = {said} port={port}\n");
    let plain = entry("host=127.0.0.1");
    for (name, file, later, said) in [
        ("list", entry("host=127.0.0.1,127.0.0.2"), "", "is a list"),
        ("session", format!("{}[users]\napp = pool_mode=session\n", plain), "", "pooled by session"),
        (
            "other",
            entry("host=127.0.0.1").replace(&port.to_string(), &cluster.pg2().port.to_string()),
            "",
            "not to the writer `pg1`",
        ),
        ("quoted", plain.clone(), "'my app' = host=127.0.0.1\n", "reads no quoted name"),
        ("comment", plain.clone(), "more = host=127.0.0.1 ; a word\n", "key without `=`"),
        ("section", plain.clone(), "[database]\n", "knows no section [database]"),
        ("setting", plain.clone(), "[pgbouncer]\npool_moda = session\n", "knows no setting `pool_moda`"),
        ("include", plain.clone(), "%include /nowhere.ini\n", "/nowhere.ini does not exist"),
        ("unloaded", plain.clone(), "reporting = host=127.0.0.1\n", "changed without RELOAD"),
        ("moved", plain.clone(), "app = host=127.0.0.1 port=1\n", "says port `1` of `app`"),
    ] {
        let mut bouncer = Bouncer::new(&cluster, name);
        bouncer.put("app.ini", &file);
        bouncer.put("pgbouncer.ini", &format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display()));
        bouncer.start().await;
        bouncer.put("app.ini", &format!("{file}{later}"));
        let found = rehearse(&route(&cluster, vec![bouncer.instance("app.ini")]), Effort::Look).await;
        let what: Vec<&str> = found.obstacles.iter().map(|one| one.what.as_str()).collect();
        assert!(what.iter().any(|what| what.contains(said)), "{name}: {what:#?}");
    }
}

/// What somebody else paused or disabled is told and not given back.
#[tokio::test]
async fn what_others_hold_is_refused() {
    let cluster = direct().await;
    let mut bouncer = Bouncer::new(&cluster, "held");
    bouncer.put("app.ini", &format!("[databases]\napp = host=127.0.0.1 port={}\n", cluster.pg1().port));
    bouncer.put("pgbouncer.ini", &format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display()));
    bouncer.start().await;
    let route = route(&cluster, vec![bouncer.instance("app.ini")]);
    for (hold, give, said) in [
        ("PAUSE app", "RESUME app", "`app` is paused"),
        ("DISABLE app", "ENABLE app", "`app` is disabled"),
        ("PAUSE", "RESUME", "paused or suspended as a whole"),
    ] {
        bouncer.say(hold).await;
        for effort in [Effort::Look, Effort::Try] {
            let found = rehearse(&route, effort).await;
            only(&found, said);
        }
        bouncer.say(give).await;
        assert_eq!(rehearse(&route, Effort::Try).await.obstacles, []);
    }
    let resumed = route.manual_of_the_drain();
    assert!(resumed.contains("ENABLE app") && resumed.find("ENABLE") < resumed.find("RESUME app"), "{resumed}");
}

trait Manual {
    fn manual_of_the_drain(&self) -> String;
}

impl Manual for PostgresPooler {
    fn manual_of_the_drain(&self) -> String {
        AppTier::manual(self, "resume").join("\n")
    }
}

/// A disk that is full, as the way to the pooler's host shows it.
#[derive(Debug)]
struct Full(LocalControl);

#[async_trait::async_trait]
impl ServerControl for Full {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        self.0.run(command).await
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        self.0.read(path).await
    }

    async fn write(&self, path: &Path, _contents: &[u8]) -> Result<(), PgError> {
        let what = format!("write {}", path.display());
        Err(HostError::Io { server: "pgbouncer".into(), what, source: std::io::ErrorKind::StorageFull.into() }.into())
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        self.0.rename(from, to).await
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        self.0.remove(path).await
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        self.0.postmaster(data).await
    }

    async fn signal(&self, data: &Path, process: Process, stop: Stop) -> Result<Signalled, PgError> {
        self.0.signal(data, process, stop).await
    }
}

/// What can only be tried is tried before the gap; a console that accepts and says nothing does not hold anybody up.
#[tokio::test]
async fn a_trial_finds_a_full_disk_and_a_console_that_hangs() {
    let cluster = direct().await;
    let mut bouncer = Bouncer::new(&cluster, "full");
    bouncer.put("app.ini", &format!("[databases]\napp = host=127.0.0.1 port={}\n", cluster.pg1().port));
    bouncer.put("pgbouncer.ini", &format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display()));
    bouncer.start().await;
    let full = Arc::new(Full(LocalControl::for_files("pgbouncer")));
    let full = Instance::new(bouncer.console(), bouncer.path("app.ini"), full);
    let full = route(&cluster, vec![full]);
    assert_eq!(rehearse(&full, Effort::Look).await, Rehearsal::default());
    only(&rehearse(&full, Effort::Try).await, "no storage space");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut console = target("127.0.0.1", silent.local_addr().unwrap().port(), "dr");
    console.connect_within = Duration::from_millis(300);
    let control = Arc::new(LocalControl::for_files("pgbouncer"));
    let silent =
        route(&cluster, vec![bouncer.instance("app.ini"), Instance::new(console, bouncer.path("app.ini"), control)]);
    only(&rehearse(&silent, Effort::Try).await, "a console cannot be asked");
    let written: Vec<Tri> = silent.write().await.unwrap().into_iter().map(|one| one.accepted).collect();
    assert_eq!(written, [Tri::Yes, Tri::Unknown]);
}

/// Somebody edited a setting and did not reload: the trial tells what came into effect by it.
#[tokio::test]
async fn a_reload_that_changes_something_is_refused() {
    let cluster = direct().await;
    let mut bouncer = Bouncer::new(&cluster, "edited");
    bouncer.put("app.ini", &format!("[databases]\napp = host=127.0.0.1 port={}\n", cluster.pg1().port));
    let main = format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display());
    bouncer.put("pgbouncer.ini", &main);
    bouncer.start().await;
    let route = route(&cluster, vec![bouncer.instance("app.ini")]);
    bouncer.put("pgbouncer.ini", &main.replace("server_login_retry = 1", "server_login_retry = 9"));
    only(&rehearse(&route, Effort::Try).await, "setting server_login_retry was 1");
    assert_eq!(rehearse(&route, Effort::Try).await.obstacles, [], "it is in effect now");
}

/// The whole way there and back, with another database, a comment and a catch-all beside ours: only our host and port have moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_switchover_moves_one_entry_and_keeps_the_others() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let [one, two] = &rig.sides;
    let (here, there) = (rig.cluster.pg1().port, rig.cluster.pg2().port);
    let text = |port: u16| {
        format!(
            "; kept by the data team\n[databases]\napp = host = 127.0.0.1 port = {port} dbname = app\n\
             reporting = host=127.0.0.1 port={here} dbname=app pool_size=5\n* = host=127.0.0.1 port={here} pool_size=3\n"
        )
    };
    fs::write(rig.cluster.pooler_file(), text(here)).unwrap();
    let console = target("127.0.0.1", rig.cluster.pooler_port().unwrap(), "dr").with_database("pgbouncer");
    let console = Session::open_plain(&console).await.unwrap();
    console.run("reload", "RELOAD").await.unwrap();
    assert_eq!(rehearse(rig.pooler.as_ref().unwrap(), Effort::Try).await.obstacles, []);
    switch(&rig, one, two).await;
    assert_eq!(fs::read_to_string(rig.cluster.pooler_file()).unwrap(), text(there));
    switch(&rig, two, one).await;
    assert_eq!(fs::read_to_string(rig.cluster.pooler_file()).unwrap(), text(here));
}

/// Mode, owner and group stay, and a link stays a link.
#[tokio::test]
async fn bug_a_linked_file_is_written_through() {
    let cluster = direct().await;
    let mut bouncer = Bouncer::new(&cluster, "linked");
    let before = format!("# kept\n[databases]\nother = host=a\napp = host=127.0.0.1 port={}\n", cluster.pg1().port);
    bouncer.put("real.ini", &before);
    fs::set_permissions(bouncer.path("real.ini"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.ini", bouncer.path("app.ini")).unwrap();
    bouncer.put("pgbouncer.ini", &format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display()));
    bouncer.start().await;
    let rig = Rig { sides: sides(&cluster), pooler: None, cluster };
    let route = route(&rig.cluster, vec![bouncer.instance("app.ini")]);
    assert_eq!(rehearse(&route, Effort::Try).await.obstacles, []);
    let old = fs::metadata(bouncer.path("real.ini")).unwrap();
    let two = &rig.sides[1];
    done(route.apply(RouteRequest { writer: writer(two.target().await, two), key: key("traffic") }).await);
    let new = fs::metadata(bouncer.path("real.ini")).unwrap();
    assert!(fs::symlink_metadata(bouncer.path("app.ini")).unwrap().is_symlink());
    assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));
    let (one, two) = (rig.cluster.pg1().port.to_string(), rig.cluster.pg2().port.to_string());
    assert_eq!(bouncer.text("app.ini"), before.replace(&one, &two));
}

fn sides(cluster: &LocalCluster) -> [common::Side; 2] {
    let [one, two] = cluster.members();
    [common::Side::of(&one), common::Side::of(&two)]
}

/// RESUME before RELOAD has come into effect would let clients write at the old place: it is not said, and the client waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_clients_are_not_let_through_to_the_former_writer() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.as_ref().unwrap();
    let app = Session::open_plain(&rig.cluster.app_through_pooler().unwrap()).await.unwrap();
    done(pooler.drain(budget()).await);
    let landed = tokio::spawn(async move {
        let rows = app.text_rows("tell where it is", "SELECT inet_server_port()::text AS port").await.unwrap();
        rows[0].get("port").unwrap().to_owned()
    });
    let onto = MemberId::new("pg2");
    match pooler.resume(ResumeRequest { onto: onto.clone(), key: key("resume") }).await {
        Outcome::Unknown(cause) => assert!(cause.as_str().contains("still sends `app` to `pg1`"), "{cause}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::Yes);
    assert!(!landed.is_finished(), "a client was let through");
    let two = &rig.sides[1];
    done(pooler.apply(RouteRequest { writer: writer(two.target().await, two), key: key("traffic") }).await);
    assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::Yes, "RELOAD lets nobody through");
    resume(pooler, &onto).await;
    assert_eq!(landed.await.unwrap(), rig.cluster.pg2().port.to_string());
}

/// The server did not take the clients; the budget ended; the pooler was disabled by us and nobody's to enable, minutes after the cause
/// was gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_pooler_that_was_resumed_is_not_disabled_again() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.as_ref().unwrap();
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    let onto = MemberId::new("pg1");
    done(pooler.drain(budget()).await);
    admin.run("close the door", "ALTER ROLE app CONNECTION LIMIT 0").await.unwrap();
    handle(pooler.resume(ResumeRequest { onto, key: key("resume") }).await);
    done(pooler.fail_fast().await);
    let seen = AppTier::read(pooler).await.unwrap();
    assert!(!seen.detail.contains("disabled") && !seen.detail.contains("paused"), "{seen:?}");
    admin.run("open the door", "ALTER ROLE app CONNECTION LIMIT -1").await.unwrap();
    let through = rig.cluster.app_through_pooler().unwrap();
    until("a client", Duration::from_secs(10), || async {
        let app = Session::open_plain(&through).await.ok()?;
        app.run("write", "INSERT INTO dr_writes VALUES (703, 1)").await.ok()
    })
    .await;
    assert_eq!(AppTier::read(pooler).await.unwrap().drained, Tri::No);
}

/// One of two processes dies: the other is handled, the dead one is named, and its file is written for when it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_in_the_middle_is_named_and_the_other_goes_on() {
    let cluster = direct().await;
    let mut both = ["one", "two"].map(|name| Bouncer::new(&cluster, name));
    for bouncer in &mut both {
        bouncer.put("app.ini", &format!("[databases]\napp = host=127.0.0.1 port={}\n", cluster.pg1().port));
        bouncer.put("pgbouncer.ini", &format!("{}%include {}/app.ini\n", bouncer.main(), bouncer.folder.display()));
        bouncer.start().await;
    }
    let route = route(&cluster, both.iter().map(|bouncer| bouncer.instance("app.ini")).collect());
    assert_eq!(rehearse(&route, Effort::Try).await.obstacles, []);
    done(route.drain(budget()).await);
    both[1].kill();
    let (alive, dead) = (format!("127.0.0.1:{}", both[0].port), format!("127.0.0.1:{}", both[1].port));
    let seen = AppTier::read(&route).await.unwrap();
    assert_eq!(seen.drained, Tri::Unknown);
    assert!(seen.stragglers.len() == 1 && seen.stragglers[0].contains(&dead), "{seen:?}");
    assert!(seen.detail.contains(&format!("({alive}): paused")) && seen.detail.contains("cannot be asked"), "{seen:?}");
    let [_, two] = sides(&cluster);
    let named = |outcome: Outcome<()>| match outcome {
        Outcome::Unknown(cause) => {
            assert!(cause.as_str().contains(&dead) && !cause.as_str().contains(&alive), "{cause}")
        }
        other => panic!("{other:?}"),
    };
    named(route.apply(RouteRequest { writer: writer(two.target().await, &two), key: key("traffic") }).await);
    assert!(both[1].text("app.ini").contains(&cluster.pg2().port.to_string()));
    let read = TrafficRouter::read(&route).await.unwrap();
    assert!(read.member.is_none() && read.detail.contains(&dead), "{read:?}");
    match route.resume(ResumeRequest { onto: MemberId::new("pg2"), key: key("resume") }).await {
        Outcome::Unknown(cause) => {
            assert!(cause.as_str().contains(&dead) && !cause.as_str().contains(&alive), "{cause}")
        }
        other => panic!("{other:?}"),
    }
    let seen = AppTier::read(&route).await.unwrap();
    assert!(seen.detail.contains(&format!("({alive}): running")), "{seen:?}");
    let found = rehearse(&route, Effort::Look).await;
    assert!(found.obstacles.iter().any(|one| one.what.contains("cannot be asked")), "{found:?}");
    both[1].start().await;
    handle(route.resume(ResumeRequest { onto: MemberId::new("pg2"), key: key("resume") }).await);
    assert_eq!(TrafficRouter::read(&route).await.unwrap().member, Some(MemberId::new("pg2")));
}

/// A console behind a shared port reaches any one of the processes; a socket that nobody named is one that is not paused.
#[tokio::test]
async fn bug_processes_that_share_a_port_are_named_by_their_sockets() {
    let cluster = direct().await;
    let mut both = ["one", "two"].map(|name| Bouncer::new(&cluster, name));
    let port = both[0].port;
    for bouncer in &mut both {
        bouncer.port = port;
        bouncer.put("app.ini", &format!("[databases]\napp = host=127.0.0.1 port={}\n", cluster.pg1().port));
        let main = bouncer.main().replace("pool_mode", "so_reuseport = 1\npool_mode");
        bouncer.put("pgbouncer.ini", &format!("{main}%include {}/app.ini\n", bouncer.folder.display()));
        bouncer.start().await;
    }
    only(&rehearse(&route(&cluster, vec![both[0].instance("app.ini")]), Effort::Look).await, "so_reuseport = 1");
    let by_socket = |bouncer: &Bouncer| {
        let console = target(&bouncer.folder.to_string_lossy(), port, "dr");
        Instance::new(console, bouncer.path("app.ini"), Arc::new(LocalControl::for_files("pgbouncer")))
    };
    let found = rehearse(&route(&cluster, vec![by_socket(&both[0])]), Effort::Look).await;
    only(&found, &format!("unix_socket_dir is `{}`", both[1].folder.display()));
    let route = route(&cluster, both.iter().map(by_socket).collect());
    assert_eq!(rehearse(&route, Effort::Try).await.obstacles, []);
    done(route.drain(budget()).await);
    resume(&route, &MemberId::new("pg1")).await;
    let written = route.write().await.unwrap();
    assert!(written.len() == 2 && written.iter().all(|one| one.accepted == Tri::Yes), "{written:?}");
}

/// The candidate takes no more sessions: found while they still have a place at the present writer.
#[tokio::test]
async fn bug_a_candidate_without_room_is_refused() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let pooler = rig.pooler.as_ref().unwrap();
    assert_eq!(rehearse(pooler, Effort::Look).await.obstacles, []);
    let mut held = Vec::new();
    let admin = rig.cluster.pg2().admin.clone();
    while let Ok(session) = Session::open_plain(&rig.cluster.app(rig.cluster.pg2())).await {
        held.push(session);
        assert!(held.len() < 100);
    }
    drop(admin);
    only(&rehearse(pooler, Effort::Look).await, "`pg2` has room for 0 more sessions");
}

/// The candidate does not take what PgBouncer would send: found from PgBouncer's own host, in the server's words.
#[tokio::test]
async fn bug_a_candidate_that_rejects_the_application_is_refused() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let bare = rig.pooler.clone().unwrap();
    let found = rehearse(&bare, Effort::Look).await;
    assert!(found.obstacles.is_empty() && found.untried[0].contains("names no [application]"), "{found:?}");
    let pooler = bare.with_application(Some(login()));
    assert_eq!(rehearse(&pooler, Effort::Try).await, Rehearsal::default());
    let hba = rig.cluster.pg2().server.site().data.join("pg_hba.conf");
    let before = fs::read_to_string(&hba).unwrap();
    fs::write(&hba, format!("host all app 127.0.0.1/32 reject\n{before}")).unwrap();
    let admin = Session::open(&rig.cluster.pg2().admin).await.unwrap();
    admin.load_configuration().await.unwrap();
    until("the rejection", Duration::from_secs(5), || async {
        let found = rehearse(&pooler, Effort::Look).await;
        let what = found.obstacles.first()?.what.clone();
        (what.contains("pg_hba.conf rejects connection") && !what.contains(PASSWORD)).then_some(())
    })
    .await;
}

fn login() -> ApplicationLogin {
    ApplicationLogin::new("app", Some(Password::new(PASSWORD)), "app").with_table("public.dr_writes").unwrap()
}

/// A write counts only as the application makes it: with its rights, its settings, its way in.
#[tokio::test]
async fn bug_success_is_a_write_as_the_application_makes_it() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let bare = rig.pooler.clone().unwrap();
    assert!(matches!(bare.write().await, Err(ProviderError::Unsupported { .. })));
    let write = |login: ApplicationLogin| {
        let pooler = bare.clone().with_application(Some(login));
        async move { pooler.write().await.unwrap().remove(0) }
    };
    let fine = write(login()).await;
    assert_eq!(fine.accepted, Tri::Yes, "{fine:?}");
    assert_eq!(fine.lineage, Some(rig.sides[0].target().await.lineage));
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    let app = Session::open(&rig.cluster.app(rig.cluster.pg1())).await.unwrap();
    let count = app.text_rows("count", "SELECT count(*)::text AS n FROM dr_writes").await.unwrap();
    assert_eq!(count[0].get("n"), Some("0"), "no row is left behind");
    let pools = rig.cluster.pgbouncer().unwrap();
    let settings = [
        (
            "ALTER DATABASE app SET default_transaction_read_only = on",
            "ALTER DATABASE app RESET default_transaction_read_only",
            "transaction_read_only = on",
        ),
        ("ALTER ROLE app NOLOGIN", "ALTER ROLE app LOGIN", "not permitted to log in"),
        ("ALTER ROLE app CONNECTION LIMIT 0", "ALTER ROLE app CONNECTION LIMIT -1", "too many connections"),
    ];
    for (set, reset, words) in settings {
        admin.run("change a role", set).await.unwrap();
        admin
            .run("end its sessions", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await
            .unwrap();
        let seen = until(words, Duration::from_secs(20), || async {
            let seen = write(login()).await;
            (seen.accepted == Tri::No && seen.detail.contains(words)).then_some(seen)
        })
        .await;
        assert!(!seen.detail.contains(PASSWORD), "{seen:?}");
        admin.run("change it back", reset).await.unwrap();
        admin
            .run("end its sessions", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await
            .unwrap();
    }
    until("writes again", Duration::from_secs(20), || async {
        (write(login()).await.accepted == Tri::Yes).then_some(())
    })
    .await;
    let other = write(login().with_table("pg_catalog.pg_class").unwrap()).await;
    assert!(other.accepted == Tri::No && other.detail.contains("permission denied"), "{other:?}");
    let wrong = ApplicationLogin::new("app", Some(Password::new("not-this-one")), "app");
    let wrong = write(wrong).await;
    assert!(wrong.accepted == Tri::No && !wrong.detail.contains("not-this-one"), "{wrong:?}");
    pools.point_at("127.0.0.1", rig.cluster.pg2().port).await.unwrap();
    let standby = write(login()).await;
    assert!(standby.accepted == Tri::No && standby.detail.contains("replays"), "{standby:?}");
    let direct = login().write_at(&rig.cluster.app(rig.cluster.pg1())).await;
    assert_eq!(direct.accepted, Tri::Yes, "{direct:?}");
}

/// The move was proved by a login that the pooler has never let in: the run waited for it after the promotion.
#[tokio::test]
async fn bug_a_login_that_the_pooler_refuses_was_tried_after_the_move() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let rehearse = |login: ApplicationLogin| {
        let pooler = rig.pooler.clone().unwrap().with_application(Some(login));
        async move {
            let request = RehearseRoute { from: "pg1".into(), to: "pg2".into(), effort: Effort::Look };
            pooler.rehearse(&request).await.unwrap()
        }
    };
    assert_eq!(rehearse(login()).await.obstacles, Vec::new());
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    admin.run("make a role", &format!("CREATE ROLE app2 LOGIN PASSWORD '{PASSWORD}'")).await.unwrap();
    let stranger = ApplicationLogin::new("app2", Some(Password::new(PASSWORD)), "app");
    until("the role on pg2", Duration::from_secs(10), || async {
        let found = rehearse(stranger.clone()).await;
        found.obstacles.iter().any(|o| o.what.contains("the application cannot write through pgbouncer")).then_some(())
    })
    .await;
}

/// Between two clients the pooler holds no session, so nobody saw that the candidate turns its next one away.
#[tokio::test]
async fn bug_a_pooler_without_a_session_was_moved_to_a_server_that_turns_it_away() {
    let rig = Rig::start(ClusterOptions::default()).await;
    let route = rig.pooler.clone().unwrap();
    let request = RehearseRoute { from: "pg1".into(), to: "pg2".into(), effort: Effort::Look };
    // A client came, and went.
    assert_eq!(login().through("app").write_at(&rig.cluster.app_through_pooler().unwrap()).await.accepted, Tri::Yes);
    let admin = Session::open(&rig.cluster.pg1().admin).await.unwrap();
    const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    admin.run("end its sessions", END).await.unwrap();
    assert_eq!(route.rehearse(&request).await.unwrap().obstacles, Vec::new());
    let hba = rig.cluster.pg2().server.site().data.join("pg_hba.conf");
    let before = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host app app all reject\n{before}")).unwrap();
    admin.run("end its sessions", END).await.unwrap();
    let found = route.rehearse(&request).await.unwrap();
    assert!(found.obstacles.iter().any(|o| o.what.contains("turns away `app` in the database `app`")), "{found:#?}");
}
