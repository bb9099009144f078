//! The drain guard as a process: started before a run may drain, told nothing, able to do one thing.

use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    Plan, RunId,
    run::{DrainGuard, GuardEnd, LeaseStore, Pulse, replay},
};
use tokio::sync::oneshot;

use crate::{Engine, Error, engine::EngineBuilder, error::GuardFailure};

/// What guards drains: a program and what stands before its hidden verb.
#[derive(Debug, Clone)]
pub(crate) struct GuardProgram {
    program: PathBuf,
    args: Vec<OsString>,
}

/// The hidden verb.
pub const GUARD_VERB: &str = "__guard";

/// What the guard says on its output when it can act.
const READY: &str = "ready";
const PATIENCE: Duration = Duration::from_secs(20);

impl GuardProgram {
    pub(crate) fn new(program: &Path, args: impl IntoIterator<Item = OsString>) -> Self {
        Self { program: program.to_path_buf(), args: args.into_iter().collect() }
    }

    /// `<program> <args> __guard --journal DIR --leases DIR --run RUN`, without directories for a store of one's own.
    fn command(&self, place: &[OsString], guards: Option<&Path>, run: &RunId) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).arg(GUARD_VERB).args(place).arg("--run").arg(run.to_string());
        let log = guards.and_then(|dir| log_of(dir, run).ok()).map_or_else(Stdio::null, Stdio::from);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command
    }
}

/// The pulse of an engine is its lease. In files of this host it ends with the process; in a store of several hosts when it lapses.
#[derive(Debug)]
struct Leased(Arc<dyn LeaseStore>);

#[async_trait]
impl Pulse for Leased {
    async fn is_gone(&self, run: &RunId) -> bool {
        self.0.is_driven(run).await.is_ok_and(|driven| !driven)
    }
}

impl Engine {
    /// Starts the guard of a run and waits until it says that it can act.
    pub(crate) async fn spawn_guard(&self, run: &RunId) -> Result<(), GuardFailure> {
        let inner = self.inner();
        let Some(guard) = &inner.guard else {
            return Err(GuardFailure::NotReady { program: "no program".into(), said: "nothing".into() });
        };
        let program = guard.program.display().to_string();
        let spawned = guard.command(&inner.guard_args, inner.guards.as_deref(), run).spawn();
        let child = spawned.map_err(|source| GuardFailure::Spawn { program: program.clone(), source })?;
        let (tell, told) = oneshot::channel();
        // The thread collects the child at its end, whenever that is, so that it does not stay as a zombie.
        let named = std::thread::Builder::new().name("dr-guard".into());
        let thread = named.spawn(move || attend(child, tell));
        thread.map_err(|source| GuardFailure::Spawn { program: program.clone(), source })?;
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(said)) if said == READY => Ok(()),
            Ok(Ok(said)) if !said.is_empty() => Err(GuardFailure::NotReady { program, said }),
            Ok(Ok(_) | Err(_)) | Err(_) => {
                let log = inner.guards.as_ref().map(|dir| dir.join(format!("{run}.log")));
                let see = log.map_or_else(String::new, |log| format!("; see {}", log.display()));
                Err(GuardFailure::NotReady { program, said: format!("nothing{see}") })
            }
        }
    }
}

/// Where a guard's last words go: nobody may be there to read them when they are said.
fn log_of(dir: &Path, run: &RunId) -> std::io::Result<std::fs::File> {
    std::fs::create_dir_all(dir)?;
    std::fs::File::options().create(true).append(true).open(dir.join(format!("{run}.log")))
}

/// The lock that only one guard of a run has; the kernel lets go of it with the process. A directory that cannot be used keeps
/// nobody from guarding: two guards do the same thing, and it is harmless twice.
fn alone(dir: Option<&Path>, run: &RunId) -> Option<Option<std::fs::File>> {
    let Some(dir) = dir else { return Some(None) };
    let file = std::fs::create_dir_all(dir).and_then(|()| std::fs::File::create(dir.join(run.to_string())));
    let Ok(file) = file else { return Some(None) };
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => None,
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => Some(Some(file)),
    }
}

fn attend(mut child: std::process::Child, tell: oneshot::Sender<String>) {
    use std::io::BufRead as _;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        // An error reads as having said nothing.
        let _said = std::io::BufReader::new(output).read_line(&mut line);
    }
    let _nobody_waits = tell.send(line.trim().to_owned());
    let _gone = child.wait();
}

impl EngineBuilder {
    /// What the program behind `__guard` does: watches `run` until its drain needs nobody any more.
    ///
    /// Over a store that several hosts share, an engine that died counts as gone when its lease has lapsed. A drain that is over its budget
    /// before that is given back all the same once the engine was silent for [`DrainGuard::GRACE`].
    ///
    /// It leaves the terminal's session, says on its output that it is ready, and nothing after that.
    ///
    /// # Errors
    /// [`Error::Guard`] before it said that it is ready.
    pub async fn guard(self, run: &RunId) -> Result<GuardEnd, Error> {
        // Fails for the leader of a session, which has no terminal to lose.
        let _leader = rustix::process::setsid();
        let engine = self.without_watcher().start().await?;
        let failed = |source| Error::Guard { run: run.clone(), source: Box::new(GuardFailure::Guard(source)) };
        let Some(_alone) = alone(engine.inner().guards.as_deref(), run) else {
            let _nobody_reads = writeln!(std::io::stdout(), "{READY}");
            return Ok(GuardEnd::Relieved);
        };
        let plan = engine.plan_of(run).await?;
        engine.open_plan(&plan, run).await?;
        let inner = engine.inner();
        let guard = DrainGuard {
            run: run.clone(),
            runtime: Arc::clone(&inner.runtime),
            journal: Arc::clone(&inner.store.journal),
            providers: Arc::<crate::desk::Desk>::clone(&inner.desk),
            pulse: Arc::new(Leased(Arc::clone(&inner.store.leases))),
        };
        let ready = guard.ready().await.map_err(failed)?;
        // Whoever started it may be gone already; then it watches all the more.
        let _nobody_reads = writeln!(std::io::stdout(), "{READY}");
        Ok(ready.watch().await)
    }
}

impl Engine {
    async fn plan_of(&self, run: &RunId) -> Result<Arc<Plan>, Error> {
        let lines = self.inner().store.journal.read(run, 0).await?;
        let (state, _) = replay(run, &lines)?;
        Ok(state.plan)
    }
}
