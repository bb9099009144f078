//! The way over SSH, against a local sshd, and TLS with a certificate of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[expect(dead_code, reason = "each test file uses its part")]
mod common;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use dr_core::{
    Fence, ManagedDatabase, Outcome, Tri,
    contract::{Effort, EngageFence, Rehearsal, Weight},
};
use dr_postgres::{
    ClusterState, HostCommand, HostError, Member, Peer, Postmaster, Server, ServerControl, SshControl, SshOptions,
    resource_address,
    testing::{ClusterOptions, LocalCluster},
};
use dr_sql::{Password, PgError, Session, SslMode};

/// An sshd on loopback with keys of its own, gone when dropped.
struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn sh(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Sshd {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dr-ssh-").tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        sh("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path("host")]);
        sh("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path("client")]);
        fs::copy(folder.path().join("client.pub"), folder.path().join("authorized")).unwrap();
        fs::set_permissions(folder.path().join("authorized"), fs::Permissions::from_mode(0o600)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let key = fs::read_to_string(folder.path().join("host.pub")).unwrap();
        fs::write(folder.path().join("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n",
            path("host"),
            path("authorized")
        );
        fs::write(folder.path().join("config"), config).unwrap();
        let _there = fs::create_dir_all("/run/sshd");
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f", &path("config")]).stderr(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let begun = std::time::Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "sshd does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, folder, port }
    }

    fn control(&self, known: &Path) -> SshControl {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let place = format!("ssh://{}@127.0.0.1:{}", user.trim(), self.port);
        let options = SshOptions { key: Some(self.folder.path().join("client")), known_hosts: Some(known.to_owned()) };
        SshControl::new("remote", place, options)
    }
}

/// Files arrive whole, missing ones are told from unreadable ones, a failing program says why, secrets are in no argument list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_programs_work_over_ssh() {
    let sshd = Sshd::start();
    let control = sshd.control(&sshd.folder.path().join("known"));
    let file = sshd.folder.path().join("it's a file");
    assert_eq!(control.read(&file).await.unwrap(), None);
    control.write(&file, b"one\n").await.unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let big = vec![b'x'; 300_000];
    control.write(&file, &big).await.unwrap();
    assert_eq!(control.read(&file).await.unwrap().unwrap(), big);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let link = sshd.folder.path().join("link");
    std::os::unix::fs::symlink("it's a file", &link).unwrap();
    control.write(&link, b"through the link").await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), b"through the link");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let other = sshd.folder.path().join("other");
    control.rename(&file, &other).await.unwrap();
    control.remove(&other).await.unwrap();
    control.remove(&other).await.unwrap();
    let command = HostCommand::new(["sh", "-c", "echo \"$PGPASSWORD\"; tr '\\0' ' ' < /proc/$$/cmdline"]);
    let text = control.run(&command.with_password(Some(Password::new("s3cret")))).await.unwrap();
    assert_eq!(text.matches("s3cret").count(), 1, "in the environment only: {text}");
    let failed = control.run(&HostCommand::new(["sh", "-c", "echo why >&2; exit 3"])).await.unwrap_err();
    assert!(matches!(HostError::of(&failed), Some(HostError::Program { stderr, .. }) if stderr == "why"), "{failed}");
}

/// A host that is not known is refused: no key is trusted on first sight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_host_is_refused() {
    let sshd = Sshd::start();
    let nobody = sshd.folder.path().join("nobody");
    fs::write(&nobody, "").unwrap();
    let refused = sshd.control(&nobody).read(Path::new("/etc/hostname")).await.unwrap_err();
    assert!(matches!(HostError::of(&refused), Some(HostError::Ssh { .. })), "{refused}");
}

/// Start, fast stop and control file of a real server, all over SSH. PostgreSQL refuses root, so as root the owner's account is
/// entered on the other side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_stopped_and_started_over_ssh() {
    let sshd = Sshd::start();
    let cluster = LocalCluster::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await.unwrap();
    let control = Arc::new(sshd.control(&sshd.folder.path().join("known")));
    let site = cluster.pg1().server.site().clone();
    let server = Server::new(site, control);
    assert!(matches!(server.postmaster().await.unwrap(), Postmaster::Ready(_)));
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    let data = server.control_data().await.unwrap();
    assert_eq!(data.state, ClusterState::ShutDown);
    assert!(data.end_of_history().is_some());
    server.stop_fast(Duration::from_secs(20)).await.unwrap();
    match server.start().await {
        Ok(()) => server.await_ready(Duration::from_secs(20)).await.unwrap(),
        Err(e) => match HostError::of(&e) {
            Some(HostError::Program { stderr, .. }) => assert!(stderr.contains("cannot be run as root"), "{stderr}"),
            _ => panic!("{e}"),
        },
    }
}

/// The member `pg1` of a cluster, its host reached by `control`.
fn over(cluster: &LocalCluster, control: SshControl) -> common::Side {
    let (node, peer) = (cluster.pg1(), cluster.pg2());
    let server = Server::new(node.server.site().clone(), Arc::new(control));
    let peers = vec![Peer {
        name: "pg2".into(),
        address: resource_address(&peer.admin, &peer.server),
        target: peer.admin.clone(),
    }];
    common::Side::of(&Arc::new(Member::new("app", server, node.admin.clone(), peers)))
}

/// The place of a server is proved over SSH, and a copy is found; the fence stops the proved process and reads it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_is_proved_and_fenced_over_ssh() {
    let sshd = Sshd::start();
    let known = sshd.folder.path().join("known");
    let cluster = LocalCluster::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await.unwrap();
    let side = over(&cluster, sshd.control(&known));
    let rehearsal = side.fence.rehearse(Effort::Try).await.unwrap();
    assert_eq!(rehearsal, Rehearsal::default());
    let copy = cluster.folder().join("copy");
    sh("cp", &["-a", &cluster.pg1().server.site().data.to_string_lossy(), &copy.to_string_lossy()]);
    let mut site = cluster.pg1().server.site().clone();
    site.data = copy;
    let server = Server::new(site, Arc::new(sshd.control(&known)));
    let lie = common::Side::of(&Arc::new(Member::new("app", server, cluster.pg1().admin.clone(), Vec::new())));
    let told = lie.database.describe().await.unwrap_err().to_string();
    assert!(told.contains("runs from"), "{told}");
    let (_, reading) = common::fence(&side).await;
    assert!(reading.silent && reading.end.is_some(), "{reading:?}");
}

/// The way to the host is refused: nothing was sent, and that is known. The rehearsal says so before anything is held back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bug_a_refused_ssh_kept_writes_stopped() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = LocalCluster::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await.unwrap();
    let control = SshControl::new("pg1", format!("ssh://nobody@127.0.0.1:{closed}"), SshOptions::default());
    let side = over(&cluster, control);
    side.database.describe().await.unwrap();
    let rehearsal = side.fence.rehearse(Effort::Look).await.unwrap();
    assert!(rehearsal.obstacles.iter().any(|one| one.weight == Weight::Planned), "{rehearsal:?}");
    let token = side.fence.prepare().await.unwrap();
    let ask = EngageFence { target: side.target().await, token, key: common::key("fence") };
    let outcome = side.fence.engage(ask).await;
    assert!(
        matches!(&outcome, Outcome::NotDone(why) if why.cause.as_str().contains("nothing was sent")),
        "{outcome:?}"
    );
    assert_eq!(side.is_writable().await, Tri::Yes);
}

/// `require` encrypts whatever certificate there is; `verify-full` wants the one it was told and the right name.
#[tokio::test]
async fn tls_is_required_and_verified_when_asked() {
    let keys = tempfile::tempdir().unwrap();
    let path = |name: &str| keys.path().join(name);
    let text = |name: &str| path(name).to_string_lossy().into_owned();
    let args =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj"];
    let names = [
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &text("key"),
        "-out",
        &text("cert"),
    ];
    sh("openssl", &[args.as_slice(), names.as_slice()].concat());
    let cluster = LocalCluster::start(ClusterOptions { pooler: false, ..ClusterOptions::default() }).await.unwrap();
    let node = cluster.pg1();
    for (from, to) in [("key", "server.key"), ("cert", "server.crt")] {
        node.server.control().write(&node.server.data(to), &fs::read(path(from)).unwrap()).await.unwrap();
    }
    let admin = Session::open(&node.admin).await.unwrap();
    admin.set_and_load("ssl", "on").await.unwrap();
    let mut target = node.admin.clone();
    target.ssl = SslMode::Require;
    let session = common::until("TLS", Duration::from_secs(5), || async { Session::open(&target).await.ok() }).await;
    let rows = session.text_rows("tell", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await.unwrap();
    assert_eq!(rows.first().unwrap().get("ssl"), Some("t"));
    target.ssl = SslMode::VerifyFull;
    assert!(
        matches!(Session::open(&target).await, Err(PgError::Config(_))),
        "without an authority nothing is verified"
    );
    target.root_cert = Some(path("cert"));
    assert!(matches!(Session::open(&target).await, Err(PgError::Connect { .. })), "127.0.0.1 is not its name");
    target.host = "localhost".into();
    Session::open(&target).await.unwrap();
}
