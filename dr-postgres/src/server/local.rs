//! A server on this machine.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
};

use async_trait::async_trait;
use dr_sql::PgError;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{HostCommand, Postmaster, Process, ServerControl, Signalled, Stop, ssh::elsewhere};
use crate::error::HostError;

/// An account of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Reaches a server on this machine. Run by root it acts as the account that owns the files: PostgreSQL's programs refuse root.
#[derive(Debug, Clone)]
pub struct LocalControl {
    name: String,
    account: Option<Account>,
}

impl LocalControl {
    /// The server `name`, whose files under `owned` tell which account it runs as.
    ///
    /// # Errors
    /// `owned` cannot be looked at, or belongs to root.
    pub fn new(name: impl Into<String>, owned: &Path) -> Result<Self, PgError> {
        let name = name.into();
        if !geteuid().is_root() {
            return Ok(Self { name, account: None });
        }
        let meta = fs::metadata(owned).map_err(|source| HostError::Io {
            server: name.clone(),
            what: format!("look at {}", owned.display()),
            source,
        })?;
        if meta.uid() == 0 {
            let why = format!("{} belongs to root, and PostgreSQL does not run as root", owned.display());
            return Err(PgError::Refused { server: name, why });
        }
        Ok(Self { name, account: Some(Account { uid: meta.uid(), gid: meta.gid() }) })
    }

    /// Files of this machine, read and written as the account that we are: for programs that are not started by us.
    #[must_use]
    pub fn for_files(name: impl Into<String>) -> Self {
        Self { name: name.into(), account: None }
    }

    fn failed(&self, what: impl Into<String>) -> impl FnOnce(io::Error) -> PgError {
        let (server, what) = (self.name.clone(), what.into());
        move |source| HostError::Io { server, what, source }.into()
    }

    fn put(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        use io::Write as _;
        let target = target_of(path)?;
        let path = target.as_path();
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".dr-").tempfile_in(folder)?;
        file.write_all(contents)?;
        let before = fs::metadata(path).ok();
        let owner = before.as_ref().map(|meta| Account { uid: meta.uid(), gid: meta.gid() }).or(self.account);
        let made = file.as_file().metadata()?;
        if let Some(Account { uid, gid }) = owner.filter(|owner| (owner.uid, owner.gid) != (made.uid(), made.gid())) {
            chown(file.path(), Some(uid), Some(gid))?;
        }
        let mode = before.map_or(0o600, |meta| meta.permissions().mode() & 0o777);
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        fs::File::open(folder)?.sync_all()
    }

    fn live_pid(&self, data: &Path) -> Result<Option<(Pid, Postmaster)>, PgError> {
        let path = data.join("postmaster.pid");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed(format!("read {}", path.display()))(e)),
        };
        let Some(state) = Postmaster::parse(&text) else { return Ok(None) };
        let number = match state {
            Postmaster::Stopped => return Ok(None),
            Postmaster::Changing(number) | Postmaster::Ready(number) => number,
        };
        // A living process that may not be looked at is never read as a stopped server.
        let counts = works_on(number, data) != Works::Elsewhere;
        Ok(Pid::from_raw(number).filter(|_| counts).map(|pid| (pid, state)))
    }
}

/// The file that a path means: a link is followed, and one that leads nowhere is an error.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(path.to_path_buf()),
        target => target,
    }
}

/// Whether a process works in the data directory, as every server process does; by whatever name it got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Works {
    Here,
    Elsewhere,
    /// It lives, and is not ours to look at.
    Hidden,
}

fn works_on(pid: i32, data: &Path) -> Works {
    if started(pid).is_none() {
        return Works::Elsewhere;
    }
    let number = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match (fs::metadata(format!("/proc/{pid}/cwd")).map(number), fs::metadata(data).map(number)) {
        (Ok(cwd), Ok(data)) if cwd == data => Works::Here,
        (Err(e), _) if e.kind() == io::ErrorKind::NotFound => Works::Elsewhere,
        (Ok(_), Ok(_)) => Works::Elsewhere,
        (Err(_), _) | (_, Err(_)) => Works::Hidden,
    }
}

/// When a living process was started, in clock ticks since the boot; none if there is no such process, or only its remains.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (!state.starts_with('Z')).then(|| fields.nth(18)?.parse().ok())?
}

#[async_trait]
impl ServerControl for LocalControl {
    async fn run(&self, command: &HostCommand) -> Result<String, PgError> {
        let program = command.program();
        let words = command.argv.split_first();
        let (first, rest) = words.ok_or_else(|| PgError::Config("an empty command".into()))?;
        let mut child = Command::new(first);
        child.args(rest).current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(Account { uid, gid }) = self.account {
            child.uid(uid).gid(gid);
        }
        if let Some(password) = &command.password {
            child.env("PGPASSWORD", password.reveal().await?);
        }
        let output = match timeout(command.within, finish(child)).await {
            Ok(output) => output.map_err(self.failed(format!("run {program}")))?,
            Err(_) => {
                let what = format!("finish {program}");
                return Err(PgError::Late { server: self.name.clone(), what, after: command.within });
            }
        };
        super::ssh::answer(&self.name, &program, &output)
    }

    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(format!("read {}", path.display()))(e)),
        }
    }

    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError> {
        self.put(path, contents).map_err(self.failed(format!("write {}", path.display())))
    }

    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError> {
        fs::rename(from, to).map_err(self.failed(format!("rename {}", from.display())))
    }

    async fn remove(&self, path: &Path) -> Result<(), PgError> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed(format!("remove {}", path.display()))(e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError> {
        Ok(self.live_pid(data)?.map_or(Postmaster::Stopped, |(_, state)| state))
    }

    async fn signal(&self, data: &Path, process: Process, stop: Stop) -> Result<Signalled, PgError> {
        let refuse = |why: String| Err(PgError::Refused { server: self.name.clone(), why });
        let Process { pid, .. } = process;
        let Some(number) = Pid::from_raw(pid) else { return Ok(Signalled::Gone) };
        // Held from here on: what is looked at is what gets the signal.
        let held = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(held) => held,
            Err(rustix::io::Errno::SRCH) => return Ok(Signalled::Gone),
            Err(e) => return refuse(format!("process {pid} cannot be held on to ({e}); nothing was sent to it")),
        };
        if started(pid) != Some(process.started) {
            return Ok(Signalled::Gone);
        }
        if works_on(pid, data) != Works::Here {
            return refuse(elsewhere(pid, data));
        }
        let signal = match stop {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        match pidfd_send_signal(held, signal) {
            Ok(()) => Ok(Signalled::Sent),
            Err(rustix::io::Errno::SRCH) => Ok(Signalled::Gone),
            Err(e) => refuse(format!("process {pid} cannot be signalled: {e}")),
        }
    }
}

/// Runs to the end. The output is a file, not a pipe: a server started by `pg_ctl` inherits it and would hold a pipe open.
async fn finish(mut command: Command) -> io::Result<std::process::Output> {
    let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command.stdout(out.try_clone()?).stderr(err.try_clone()?).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.shutdown().await?;
    }
    let status = child.wait().await?;
    Ok(std::process::Output { status, stdout: whole(out)?, stderr: whole(err)? })
}

fn whole(mut file: fs::File) -> io::Result<Vec<u8>> {
    use io::{Read as _, Seek as _};
    let mut bytes = Vec::new();
    file.seek(io::SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
