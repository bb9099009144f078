//! Two streaming servers and a pooler, all on loopback, all gone when dropped.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dr_sql::{PgError, Session, SslMode, Target};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use dr_core::MemberId;

use crate::{
    binaries::Binaries,
    error::HostError,
    member::{Member, Peer, resource_address},
    pgbouncer::{Instance, PgBouncer},
    server::{LocalControl, Postmaster, Server, ServerControl, Site},
};

/// The password of every role in a local cluster. It guards nothing: the servers listen on loopback and live for one test.
pub type ClusterPassword = &'static str;
const PASSWORD: ClusterPassword = "local-cluster";
const PATIENCE: Duration = Duration::from_secs(30);

/// What a local cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// A PgBouncer (transaction pooling) in front.
    pub pooler: bool,
    /// Its pool mode.
    pub pool_mode: String,
    /// Size of log segments in MB.
    pub segment_mb: u32,
    /// Further lines for both servers' `postgresql.conf`.
    pub settings: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { pooler: true, pool_mode: "transaction".into(), segment_mb: 16, settings: Vec::new() }
    }
}

/// One of the two servers.
#[derive(Clone, Debug)]
pub struct Node {
    /// `pg1` or `pg2`.
    pub name: String,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Its processes and files.
    pub server: Server,
    /// A superuser session's target.
    pub admin: Target,
}

/// Two servers, `pg1` primary and `pg2` standby at first, and what stands in front of them.
#[derive(Debug)]
pub struct LocalCluster {
    folder: TempDir,
    binaries: Binaries,
    account: Option<(u32, u32)>,
    pooler: Option<(Child, u16)>,
    options: ClusterOptions,
    /// The servers.
    pub nodes: [Node; 2],
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> PgError {
    let what = what.into();
    move |source| HostError::Io { server: "local cluster".into(), what, source }.into()
}

/// A port that nobody listens on at this moment.
///
/// # Errors
/// The system gives none.
fn free_port() -> Result<u16, PgError> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("find a free port"))?;
    Ok(listener.local_addr().map_err(failed("find a free port"))?.port())
}

/// The unprivileged account that root starts servers under: `postgres`, else `nobody`.
fn account() -> Result<Option<(u32, u32)>, PgError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let text = fs::read_to_string("/etc/passwd").map_err(failed("read the accounts"))?;
    let find = |name: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then(|| Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?)))?
        })
    };
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or_else(|| {
        PgError::Config("PostgreSQL does not run as root, and there is no account `postgres` or `nobody`".into())
    })
}

impl LocalCluster {
    /// Makes and starts everything; the standby streams when this returns.
    ///
    /// # Errors
    /// PostgreSQL is missing (with the command that installs it), or a server does not start.
    pub async fn start(options: ClusterOptions) -> Result<Self, PgError> {
        let binaries = Binaries::find().map_err(|e| PgError::Config(e.to_string()))?;
        let account = account()?;
        let folder = tempfile::Builder::new().prefix("dr-pg-").tempdir().map_err(failed("make a directory"))?;
        if let Some((uid, gid)) = account {
            chown(folder.path(), Some(uid), Some(gid)).map_err(failed("give the directory away"))?;
        }
        let nodes = [node(&folder, &binaries, "pg1")?, node(&folder, &binaries, "pg2")?];
        let mut cluster = Self { folder, binaries, account, pooler: None, options, nodes };
        cluster.make_primary().await?;
        cluster.make_standby().await?;
        if cluster.options.pooler {
            cluster.start_pooler().await?;
        }
        Ok(cluster)
    }

    /// The directory that holds everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first server.
    #[must_use]
    pub fn pg1(&self) -> &Node {
        let [first, _] = &self.nodes;
        first
    }

    /// The second server.
    #[must_use]
    pub fn pg2(&self) -> &Node {
        let [_, second] = &self.nodes;
        second
    }

    /// Where applications connect directly to a server.
    #[must_use]
    pub fn app(&self, node: &Node) -> Target {
        target(&node.name, node.port, "app").with_database("app").with_application("app")
    }

    /// Where applications connect through the pooler.
    #[must_use]
    pub fn app_through_pooler(&self) -> Option<Target> {
        let (_, port) = self.pooler.as_ref()?;
        Some(target("pgbouncer", *port, "app").with_database("app").with_application("app"))
    }

    /// The port of the pooler.
    #[must_use]
    pub fn pooler_port(&self) -> Option<u16> {
        self.pooler.as_ref().map(|(_, port)| *port)
    }

    /// The file that tells the pooler where to send.
    #[must_use]
    pub fn pooler_file(&self) -> PathBuf {
        self.folder.path().join("app.ini")
    }

    /// The pooler as a switchover drives it.
    ///
    /// # Errors
    /// The cluster was made without one.
    pub fn pgbouncer(&self) -> Result<PgBouncer, PgError> {
        let port = self.pooler_port().ok_or_else(|| PgError::Config("this cluster has no pooler".into()))?;
        let control: Arc<dyn ServerControl> = Arc::new(LocalControl::new("pgbouncer", self.folder.path())?);
        let instance = Instance::new(target("pgbouncer", port, "dr"), self.pooler_file(), control);
        Ok(PgBouncer { database: "app".into(), instances: vec![instance] })
    }

    /// Both servers as members of the group `app`.
    #[must_use]
    pub fn members(&self) -> [Arc<Member>; 2] {
        let peer = |node: &Node| Peer {
            name: MemberId::new(node.name.clone()),
            target: node.admin.clone(),
            address: resource_address(&node.admin, &node.server),
        };
        let member = |node: &Node, other: &Node| {
            let target = node.admin.clone().with_application("dr/test/member");
            Arc::new(Member::new("app", node.server.clone(), target, vec![peer(other)]))
        };
        [member(self.pg1(), self.pg2()), member(self.pg2(), self.pg1())]
    }

    /// A group file for this cluster, as an operator would write it for servers of their own.
    #[must_use]
    pub fn group_file(&self) -> String {
        let folder = self.folder.path().display();
        let bin = self.binaries.bin.display();
        let mut text = String::from(
            "format      = 2\nname        = \"app\"\nenvironment = \"demo\"\ntier        = 3\nhome        = \"pg1\"\n\n\
             [objectives]\nrto        = \"10 s\"\nrpo        = \"0 s\"\nrpo_forced = \"10 s\"\n\n",
        );
        for node in &self.nodes {
            let (name, port, data, log) = (&node.name, node.port, &node.server.site().data, &node.server.site().log);
            text.push_str(&format!(
                "[[member]]\nname    = \"{name}\"\nregion  = \"local\"\nbackend = \"postgres\"\nat      = {{ host = \"127.0.0.1\", \
                 port = {port}, data = \"{}\", bin = \"{bin}\", log = \"{}\", ssl = \"disable\" }}\n\n",
                data.display(),
                log.display()
            ));
        }
        text.push_str(&format!("[probe]\nuser     = \"dr\"\npassword = \"file:{folder}/password\"\n\n"));
        text.push_str("[[secret]]\nname    = \"app\"\nstore   = \"none\"\nbecause = \"applications find the writer without one\"\n\n");
        if let Some(port) = self.pooler_port() {
            text.push_str(&format!(
                "[[traffic]]\nname   = \"pooler\"\nrouter = \"postgres.pgbouncer\"\nat     = {{ admin = [\"127.0.0.1:{port}\"], database = \"app\", \
                 pause_within = \"5 s\", file = \"{}\" }}\nmember = {{ pg1 = \"{{member.endpoint}}\", pg2 = \
                 \"{{member.endpoint}}\" }}\n\n",
                self.pooler_file().display()
            ));
        }
        text.push_str(
            "[[fence]]\nwith  = \"postgres.stop\"\ngrade = \"confirmed\"\n\n\
             [limits]\nlag_before_drain = \"1 s\"\nlong_transaction = \"10 s\"\ngap_budget       = \"30 s\"\n\n\
             [approval.switchover]\npeople  = 1\nexpires = \"30 min\"\n",
        );
        text
    }

    /// Ends the pooler at once.
    pub fn kill_pooler(&mut self) {
        if let Some((child, _)) = &mut self.pooler {
            // Already gone is what is wanted.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Runs one of PostgreSQL's programs as the cluster's account.
    ///
    /// # Errors
    /// It fails; the message carries what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String, PgError> {
        let mut command = self.command(&self.binaries.bin.join(program));
        let output =
            command.args(args).env("PGPASSWORD", PASSWORD).output().map_err(failed(format!("run {program}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(HostError::Program {
            server: "local cluster".into(),
            program: program.into(),
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
        .into())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env("LC_ALL", "C").env("HOME", self.folder.path());
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn put(&self, name: &str, text: &str) -> Result<PathBuf, PgError> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).map_err(failed(format!("write {name}")))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed(format!("guard {name}")))?;
        if let Some((uid, gid)) = self.account {
            chown(&path, Some(uid), Some(gid)).map_err(failed(format!("give {name} away")))?;
        }
        Ok(path)
    }

    async fn make_primary(&self) -> Result<(), PgError> {
        let node = self.pg1();
        let password = self.put("password", PASSWORD)?;
        let (data, file) = (text(&node.server.site().data), text(&password));
        let segment = format!("--wal-segsize={}", self.options.segment_mb);
        let pwfile = format!("--pwfile={file}");
        let args =
            ["-D", &data, "-k", "-U", "dr", "-A", "scram-sha-256", &pwfile, "-E", "UTF8", "--locale=C", "-N", &segment];
        self.run("initdb", &args)?;
        self.configure(node)?;
        node.server.start().await?;
        node.server.await_ready(PATIENCE).await?;
        let session = Session::open(&node.admin).await?;
        let roles = format!(
            "CREATE ROLE replicator LOGIN REPLICATION PASSWORD '{PASSWORD}'; CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"
        );
        session.run("make roles", &roles).await?;
        session.run("make the database", "CREATE DATABASE app OWNER app").await?;
        // The servers' own secrets: with them PgBouncer logs in with what its clients proved, and stretches no password itself.
        let secrets =
            "SELECT format('\"%s\" \"%s\"', rolname, rolpassword) FROM pg_authid WHERE rolname IN ('dr', 'app')";
        let secrets = session.names("tell its secrets", secrets).await?;
        self.put("users.txt", &format!("{}\n", secrets.join("\n")))?;
        session.ensure_slot("dr_pg2").await?;
        let app = Session::open(&self.app(node)).await?;
        app.run("make the table", "CREATE TABLE dr_writes (client int, seq bigint, PRIMARY KEY (client, seq))").await
    }

    /// The settings that belong to one node are in its own `postgresql.conf`, as on many real hosts: copying them is a trap.
    fn configure(&self, node: &Node) -> Result<(), PgError> {
        let path = node.server.data("postgresql.conf");
        let mut conf = fs::read_to_string(&path).map_err(failed("read postgresql.conf"))?;
        let own = conf.find("\n# node settings\n").unwrap_or(conf.len());
        conf.truncate(own);
        let lines = [
            "\n# node settings".to_owned(),
            format!("port = {}", node.port),
            format!("cluster_name = '{}'", node.name),
            format!("unix_socket_directories = '{}'", self.folder.path().display()),
            "listen_addresses = '127.0.0.1'".into(),
            "max_prepared_transactions = 8".into(),
            "max_connections = 60".into(),
            "shared_buffers = 64MB".into(),
            "wal_keep_size = 128MB".into(),
            "max_wal_size = 1GB".into(),
            "log_line_prefix = '%m [%p] '".into(),
            "log_timezone = 'UTC'".into(),
        ];
        for line in lines.iter().chain(&self.options.settings) {
            conf.push_str(line);
            conf.push('\n');
        }
        fs::write(&path, conf).map_err(failed("write postgresql.conf"))
    }

    async fn make_standby(&self) -> Result<(), PgError> {
        let (primary, node) = (self.pg1(), self.pg2());
        let (data, port) = (text(&node.server.site().data), primary.port.to_string());
        let connect = format!("host=127.0.0.1 port={port} user=replicator application_name=pg2 password={PASSWORD}");
        let args = ["-d", &connect, "-D", &data, "-R", "-X", "stream", "-S", "dr_pg2", "-c", "fast", "--no-sync"];
        self.run("pg_basebackup", &args)?;
        self.configure(node)?;
        node.server.start().await?;
        node.server.await_ready(PATIENCE).await?;
        let begun = Instant::now();
        let session = Session::open(&primary.admin).await?;
        while !session.senders().await?.iter().any(|row| row.streaming) {
            if begun.elapsed() > PATIENCE {
                return Err(PgError::Late { server: "pg2".into(), what: "stream".into(), after: PATIENCE });
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Starts the pooler, or starts it again.
    ///
    /// # Errors
    /// It is not installed, or does not answer.
    pub async fn start_pooler(&mut self) -> Result<(), PgError> {
        let missing = || PgError::Config("no pgbouncer found; install it with `apt-get install pgbouncer`".into());
        let program = self.binaries.pgbouncer.clone().ok_or_else(missing)?;
        let port = match self.pooler_port() {
            Some(port) => port,
            None => free_port()?,
        };
        if !self.pooler_file().exists() {
            self.put("app.ini", &format!("[databases]\napp = host=127.0.0.1 port={} dbname=app\n", self.pg1().port))?;
        }
        let folder = self.folder.path().display();
        let ini = format!(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {folder}/users.txt\nadmin_users = dr\npool_mode = {}\ndefault_pool_size = 20\n\
             max_client_conn = 200\nserver_login_retry = 1\nlogfile = {folder}/pgbouncer.log\nignore_startup_parameters = \
             extra_float_digits\nlog_connections = 0\nlog_disconnections = 0\n%include {folder}/app.ini\n",
            self.options.pool_mode
        );
        let ini = self.put("pgbouncer.ini", &ini)?;
        let mut command = self.command(&program);
        command.arg("-q").arg(ini).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(failed("start pgbouncer"))?;
        self.pooler = Some((child, port));
        let pooler = self.pgbouncer()?;
        let begun = Instant::now();
        while let Err(e) = pooler.readings().await {
            if begun.elapsed() > PATIENCE {
                return Err(e);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.kill_pooler();
        for node in &self.nodes {
            let pid = fs::read_to_string(node.server.data("postmaster.pid"));
            let state = pid.ok().and_then(|file| Postmaster::parse(&file));
            if let Some(Postmaster::Changing(pid) | Postmaster::Ready(pid)) = state
                && let Some(pid) = Pid::from_raw(pid)
            {
                // An immediate stop: the directory goes away with the cluster.
                let _gone = kill_process(pid, Signal::QUIT);
            }
        }
        for node in &self.nodes {
            for _ in 0..500 {
                if !node.server.data("postmaster.pid").exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn node(folder: &TempDir, binaries: &Binaries, name: &str) -> Result<Node, PgError> {
    let port = free_port()?;
    let mut site = Site::new(name, folder.path().join(name), &binaries.bin);
    site.log = folder.path().join(format!("{name}.log"));
    let control: Arc<dyn ServerControl> = Arc::new(LocalControl::new(name, folder.path())?);
    let admin = target(name, port, "dr");
    Ok(Node { name: name.into(), port, server: Server::new(site, control), admin })
}

fn target(name: &str, port: u16, user: &str) -> Target {
    let mut target = Target::new(name, "127.0.0.1", port, user).with_password(PASSWORD);
    target.ssl = SslMode::Disable;
    target
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
