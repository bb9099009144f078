//! A server's processes and files: start, fast stop, control file, `pg_rewind`, `pg_basebackup`.
//!
//! ```text
//!   Server ── what to do: stop, prove, start, rewind, reseed        the same everywhere
//!     └── dyn ServerControl ── how to reach the host                LocalControl | SshControl
//! ```

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dr_sql::{Password, PgError};
use tokio::time::{Instant, sleep};

use crate::control_data::ControlData;

mod census;
mod local;
mod ssh;

pub use census::{Census, FileId, Phase};
pub use local::LocalControl;
pub use ssh::{SshControl, SshOptions};

/// How often a state is looked at while somebody waits for it.
pub(crate) const POLL: Duration = Duration::from_millis(2);
/// How long a server that was told to stop is waited for before it is started.
const STOPPING: Duration = Duration::from_secs(30);
/// How long one look at a host may take.
const LOOK: Duration = Duration::from_secs(10);

/// One program to run on a server's host, as the account that owns the data directory.
#[derive(Clone, Debug)]
pub struct HostCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// A password that the program finds in `PGPASSWORD`; it travels through standard input, so no process list shows it.
    pub password: Option<Password>,
    /// How long it may take.
    pub within: Duration,
}

impl HostCommand {
    /// Runs `argv` for at most 30 s.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), password: None, within: Duration::from_secs(30) }
    }

    /// Allows it more or less time.
    #[must_use]
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Hands it a password.
    #[must_use]
    pub fn with_password(mut self, password: Option<Password>) -> Self {
        self.password = password;
        self
    }

    fn program(&self) -> String {
        let name = self.argv.first().map_or("", String::as_str);
        name.rsplit('/').next().unwrap_or(name).to_owned()
    }
}

/// What a server process is doing, read from `postmaster.pid` and the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Postmaster {
    /// No process.
    Stopped,
    /// A process with this id, not yet or no longer accepting sessions.
    Changing(i32),
    /// A process with this id that accepts sessions.
    Ready(i32),
}

impl Postmaster {
    /// Reads `postmaster.pid`: the process id is its first line, the status its eighth.
    pub(crate) fn parse(file: &str) -> Option<Self> {
        let pid = file.lines().next()?.trim().parse().ok()?;
        Some(match file.lines().nth(7).map(str::trim) {
            Some("ready" | "standby") => Self::Ready(pid),
            Some(_) | None => Self::Changing(pid),
        })
    }
}

/// A process that no later one can be taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it was started, in clock ticks since the boot of its host.
    pub started: u64,
}

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, a last checkpoint is written (SIGINT).
    Fast,
    /// Everything ends at once; the next start recovers (SIGQUIT).
    Immediate,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// The process has it.
    Sent,
    /// There is no such process any more.
    Gone,
}

/// How to reach a server's host: a handful of acts, each one attempt. Everything else is built from them in [`Server`].
#[async_trait]
pub trait ServerControl: std::fmt::Debug + Send + Sync + 'static {
    /// Runs a program to its end and answers its standard output; a failure carries what it printed.
    async fn run(&self, command: &HostCommand) -> Result<String, PgError>;

    /// The contents of a file; none if it does not exist.
    async fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, PgError>;

    /// Puts a whole file in place: written beside it, made durable, renamed. Nobody ever sees half of it. Mode, owner and group of an
    /// existing file stay, and a link is followed; where that cannot be kept, nothing is changed.
    async fn write(&self, path: &Path, contents: &[u8]) -> Result<(), PgError>;

    /// Renames a file or directory.
    async fn rename(&self, from: &Path, to: &Path) -> Result<(), PgError>;

    /// Removes a file; an absent one is fine.
    async fn remove(&self, path: &Path) -> Result<(), PgError>;

    /// Whether a server process works on the data directory. A process id left behind by a crash is not taken for one.
    async fn postmaster(&self, data: &Path) -> Result<Postmaster, PgError>;

    /// Looks at the data directory, the process that `postmaster.pid` names, the parent of `backend` and the directory `named`.
    async fn census(&self, data: &Path, backend: Option<i32>, named: Option<&str>) -> Result<Census, PgError> {
        let text = self.run(&Census::command(data, backend, named)).await?;
        Census::parse(&data.to_string_lossy(), &text)
    }

    /// Tells this very process to stop, if it still works on the data directory, and returns. Any other one is refused.
    async fn signal(&self, data: &Path, process: Process, stop: Stop) -> Result<Signalled, PgError> {
        ssh::signal(self.run(&ssh::signal_command(data, process, stop)).await, data, process)
    }
}

/// Where a server lives on its host.
#[derive(Clone, Debug)]
pub struct Site {
    /// The member's name, for messages.
    pub name: String,
    /// The data directory.
    pub data: PathBuf,
    /// The directory of `postgres`, `pg_ctl`, `pg_controldata`.
    pub bin: PathBuf,
    /// `postgresql.conf`, where it is not in the data directory (Debian).
    pub config_file: Option<PathBuf>,
    /// Where a server started by us logs; beside the data directory unless said.
    pub log: PathBuf,
    /// The unit that would start the server again behind our back.
    pub unit: Option<Unit>,
}

/// A systemd unit and the command that manages it.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Such as `postgresql@15-main`.
    pub name: String,
    /// `systemctl` and what must stand before it, such as `sudo -n`.
    pub command: Vec<String>,
}

impl Unit {
    /// The unit `name`, managed with `sudo -n systemctl`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), command: ["sudo", "-n", "systemctl"].map(String::from).to_vec() }
    }

    fn verb(&self, words: &[&str]) -> HostCommand {
        let words = words.iter().copied().map(String::from);
        HostCommand::new(self.command.iter().cloned().chain(words).chain([self.name.clone()]))
    }
}

impl Site {
    /// A data directory and the programs for it.
    #[must_use]
    pub fn new(name: impl Into<String>, data: impl Into<PathBuf>, bin: impl Into<PathBuf>) -> Self {
        let data = data.into();
        let log = data.with_extension("log");
        Self { name: name.into(), log, data, bin: bin.into(), config_file: None, unit: None }
    }
}

/// The bytes of a control file, and what the program said of them.
type Explained = (Vec<u8>, ControlData);

/// One server: its place and the way to its host.
#[derive(Clone, Debug)]
pub struct Server {
    site: Site,
    control: Arc<dyn ServerControl>,
    explained: Arc<Mutex<Option<Explained>>>,
}

impl Server {
    /// The server at `site`, reached through `control`.
    #[must_use]
    pub fn new(site: Site, control: Arc<dyn ServerControl>) -> Self {
        Self { site, control, explained: Arc::default() }
    }

    /// Where it lives.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The way to its host.
    #[must_use]
    pub fn control(&self) -> &dyn ServerControl {
        self.control.as_ref()
    }

    /// A path in the data directory.
    #[must_use]
    pub fn data(&self, file: &str) -> PathBuf {
        self.site.data.join(file)
    }

    /// A program of this server's version.
    #[must_use]
    pub fn program(&self, name: &str) -> String {
        self.site.bin.join(name).to_string_lossy().into_owned()
    }

    /// What the server process is doing.
    ///
    /// # Errors
    /// The host cannot be asked.
    pub async fn postmaster(&self) -> Result<Postmaster, PgError> {
        self.control.postmaster(&self.site.data).await
    }

    /// The control file, read by `pg_controldata` in the C locale: its labels are translated otherwise. The file itself is read every
    /// time; the program is only run when its bytes differ from those it explained last.
    ///
    /// # Errors
    /// The program fails or prints something unknown.
    pub async fn control_data(&self) -> Result<ControlData, PgError> {
        let file = self.data("global/pg_control");
        let bytes = self.control.read(&file).await?;
        if let Some((seen, explained)) = self.explained.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
            && bytes.as_ref() == Some(seen)
        {
            return Ok(explained.clone());
        }
        let data = self.site.data.to_string_lossy().into_owned();
        let argv = ["env".into(), "LC_ALL=C".into(), self.program("pg_controldata"), data];
        let text = self.control.run(&HostCommand::new(argv)).await?;
        let explained = ControlData::parse(&self.site.name, &text)?;
        // Only what did not change meanwhile is what the program has read.
        if let (Some(before), Some(after)) = (bytes, self.control.read(&file).await?)
            && before == after
        {
            let mut slot = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some((after, explained.clone()));
        }
        Ok(explained)
    }

    /// Starts the server and returns; [`Server::await_ready`] waits. A running server is left alone.
    ///
    /// # Errors
    /// The program fails, or the unit refuses.
    pub async fn start(&self) -> Result<(), PgError> {
        if self.postmaster().await? != Postmaster::Stopped {
            let census = self.census(None, None).await?;
            // Between the two looks it may have gone, and that is no running server.
            if census.process.is_some() && census.phase != Phase::Stopping {
                return Ok(());
            }
            // It runs no more, it only has not gone yet.
            self.await_stopped(STOPPING).await?;
        }
        if let Some(unit) = &self.site.unit {
            self.enable_supervisor().await?;
            return self.control.run(&unit.verb(&["start", "--no-block"])).await.map(drop);
        }
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut argv = vec![self.program("pg_ctl"), "start".into(), "-W".into(), "-s".into()];
        argv.extend(["-D".into(), text(&self.site.data), "-l".into(), text(&self.site.log)]);
        if let Some(config) = &self.site.config_file {
            argv.extend(["-o".into(), format!("-c config_file='{}'", text(config))]);
        }
        self.control.run(&HostCommand::new(argv)).await.map(drop)
    }

    /// Waits until the server accepts sessions, looking every 2 ms.
    ///
    /// # Errors
    /// It does not within the time; it ended instead (the message carries the end of its log).
    pub async fn await_ready(&self, within: Duration) -> Result<(), PgError> {
        let begun = Instant::now();
        loop {
            if matches!(self.postmaster().await?, Postmaster::Ready(_)) {
                return Ok(());
            }
            if begun.elapsed() > within {
                let what = format!("accept sessions ({})", self.log_tail().await);
                return Err(PgError::Late { server: self.site.name.clone(), what, after: within });
            }
            sleep(POLL).await;
        }
    }

    /// The main process of the configured unit; none without a unit, zero if it runs none.
    ///
    /// # Errors
    /// The unit cannot be asked.
    pub async fn unit_process(&self) -> Result<Option<i32>, PgError> {
        let Some(unit) = &self.site.unit else { return Ok(None) };
        let text = self.control.run(&unit.verb(&["show", "--property=MainPID"])).await?;
        let pid = text.trim().strip_prefix("MainPID=").and_then(|pid| pid.parse().ok());
        pid.map(Some).ok_or_else(|| PgError::Unreadable {
            server: self.site.name.clone(),
            what: "the main process of its unit",
            saw: text.trim().to_owned(),
        })
    }

    /// Lets the supervisor start the server again, without starting it now.
    ///
    /// # Errors
    /// The unit cannot be unmasked.
    pub async fn enable_supervisor(&self) -> Result<(), PgError> {
        let Some(unit) = &self.site.unit else { return Ok(()) };
        self.control.run(&unit.verb(&["unmask"])).await.map(drop)
    }

    /// Keeps a supervisor from starting the server again. Without a configured unit there is nothing to disable.
    ///
    /// # Errors
    /// The unit cannot be masked, or does not read back as masked.
    pub async fn disable_supervisor(&self) -> Result<(), PgError> {
        let Some(unit) = &self.site.unit else { return Ok(()) };
        self.control.run(&unit.verb(&["mask"])).await?;
        if self.supervisor_disabled().await? {
            return Ok(());
        }
        let why = format!("unit {} does not read back as masked; it could restart the server", unit.name);
        Err(PgError::Refused { server: self.site.name.clone(), why })
    }

    /// Whether no supervisor can start the server by itself.
    ///
    /// # Errors
    /// The unit cannot be asked.
    pub async fn supervisor_disabled(&self) -> Result<bool, PgError> {
        let Some(unit) = &self.site.unit else { return Ok(true) };
        let text = self.control.run(&unit.verb(&["show", "--property=LoadState"])).await?;
        Ok(text.trim() == "LoadState=masked")
    }

    /// Stops the server cleanly: supervisor first, then the signal, then a look every 2 ms until the process is gone.
    ///
    /// Idempotent: a stopped server stays stopped. A late answer leaves the stop under way; it is not taken back.
    ///
    /// # Errors
    /// The supervisor stays active, or the process is still there after `within`.
    pub async fn stop_fast(&self, within: Duration) -> Result<(), PgError> {
        self.disable_supervisor().await?;
        if let Some(process) = self.census(None, None).await?.server() {
            self.signal(process, Stop::Fast).await?;
        }
        self.await_stopped(within).await
    }

    /// What the host says about the data directory and its process.
    ///
    /// # Errors
    /// The host cannot be asked, or does not let us look.
    pub async fn census(&self, backend: Option<i32>, named: Option<&str>) -> Result<Census, PgError> {
        self.control.census(&self.site.data, backend, named).await
    }

    /// Tells this very process to stop, and no other.
    ///
    /// # Errors
    /// [`PgError::Refused`] if it works on another directory now: then nothing was sent.
    pub async fn signal(&self, process: Process, stop: Stop) -> Result<Signalled, PgError> {
        self.control.signal(&self.site.data, process, stop).await
    }

    /// Waits until no server process works on the data directory.
    ///
    /// # Errors
    /// One is still there after `within`.
    pub async fn await_stopped(&self, within: Duration) -> Result<(), PgError> {
        let begun = Instant::now();
        while self.postmaster().await? != Postmaster::Stopped {
            if begun.elapsed() > within {
                return Err(PgError::Late { server: self.site.name.clone(), what: "stop".into(), after: within });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends a server that was told to stop and does not: the hard way after `patience`, or at once if its last checkpoint is written and
    /// it waits for an archive or a standby only. The next start recovers what the log has. Any other server is left alone.
    ///
    /// # Errors
    /// The process is still there afterwards, or the host cannot be asked.
    pub async fn end_stopping(&self, patience: Duration) -> Result<(), PgError> {
        let census = self.census(None, None).await?;
        let Some(process) = census.server().filter(|_| census.phase == Phase::Stopping) else { return Ok(()) };
        let patience = if self.control_data().await?.is_clean_primary_stop() { POLL } else { patience };
        match self.await_stopped(patience).await {
            Err(PgError::Late { .. }) => {}
            ended => return ended,
        }
        self.signal(process, Stop::Immediate).await?;
        self.await_stopped(STOPPING).await
    }

    async fn log_tail(&self) -> String {
        let bytes = self.control.read(&self.site.log).await.ok().flatten().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mut last: Vec<&str> = text.lines().rev().take(5).collect();
        last.reverse();
        last.join(" | ")
    }
}

/// What a host's look says, for tests of what is concluded from it.
#[cfg(test)]
pub(crate) fn testing_census(text: &str) -> Census {
    Census::parse("test", text).unwrap()
}
