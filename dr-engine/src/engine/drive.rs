//! Starting runs, resuming them, and the tasks that drive them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use dr_core::{
    Actor, Kind, Plan, RunId, Timestamp,
    base::{Epoch, Finding, Json, Refusal, canonical, known},
    contract::{Class, Providers, Resolved, ResourceKind},
    plan::Verified,
    run::{
        Drive, DriveError, InboxRow, JournalError, KeptGroup, Lease, LeaseError, LeaseRequest, Request, RunOutcome,
        begin, drive, lease_keys, replay,
    },
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use super::{Engine, Run, lock};
use crate::{
    Error, GroupFile,
    runtime::{forget, wall},
};

/// Who wants a run, and why.
#[derive(Clone, Debug)]
pub struct Start {
    by: Actor,
    because: String,
}

impl Start {
    /// `by` wants it.
    #[must_use]
    pub fn by(by: Actor) -> Self {
        Self { by, because: "no reason given".to_owned() }
    }

    /// Why: a change number, an incident.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.because = why.into();
        self
    }
}

/// What [`Engine::resume`] did. Iterating gives the runs that are driven again.
#[derive(Debug, Default)]
#[must_use = "runs that could not be resumed are in `broken`"]
pub struct Resumed {
    /// The runs that are driven again.
    pub runs: Vec<RunId>,
    /// The unfinished runs that another engine drives.
    pub elsewhere: Vec<RunId>,
    /// The runs that could not be resumed, each with its reason.
    pub broken: Vec<(RunId, Error)>,
}

impl IntoIterator for Resumed {
    type Item = RunId;
    type IntoIter = std::vec::IntoIter<RunId>;

    fn into_iter(self) -> Self::IntoIter {
        self.runs.into_iter()
    }
}

/// A run that this engine drives.
#[derive(Debug)]
pub(crate) struct Driving {
    driver: AbortHandle,
    keeper: JoinHandle<()>,
    end: watch::Receiver<Option<Ended>>,
}

/// How driving ended: with the run, or before it.
#[derive(Clone, Debug)]
enum Ended {
    Over(RunOutcome),
    Stopped(Arc<DriveError>),
    Failed(String),
}

impl Driving {
    pub(crate) async fn stop(self) {
        self.driver.abort();
        // It was told to stop; how it ended does not matter.
        drop(self.keeper.await);
    }

    fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }
}

impl Engine {
    /// Starts a plan that was verified. The answer comes when the run is durable; it then goes on by itself.
    ///
    /// After [`Error::Stopped`] because the store's answer was lost, the run may exist although nobody drives it: [`Engine::runs`] lists it, and
    /// [`Engine::resume`] would drive it.
    ///
    /// # Errors
    /// [`Error::Busy`] when another run works on one of the resources, [`Error::Refused`] when nobody would end a drain or the group file
    /// says something else than when the plan was made, [`Error::GroupGone`] for a plan of another journal.
    pub async fn start(&self, plan: Verified, start: Start) -> Result<Run, Error> {
        let kept = self.inner.store.registry.group(plan.plan().group_digest).await?;
        let KeptGroup { spec, file, .. } =
            kept.ok_or_else(|| Error::GroupGone { run: plan.plan().group.to_string() })?;
        refuse_changed(plan.plan(), &file)?;
        self.refuse_its_own(plan.plan().subject(), &[&plan.plan().expects.lineage.system])?;
        self.open_again(&spec, &plan.plan().group)?;
        let guarded = self.needs_guard(plan.plan()).await;
        if guarded && self.inner.guard.is_none() {
            return Err(Error::Refused(Refusal::one(plan.plan().subject(), no_guard())));
        }
        let drive = self.take(&plan, &start).await?;
        let run = drive.run.clone();
        if guarded && let Err(source) = self.spawn_guard(&run).await {
            // Nothing was sent yet: the run turns back at once and says why.
            self.post(&run, "cancel", Request::Cancel { by: start.by, because: no_guard().what }).await?;
            self.drive(drive);
            return Err(Error::Guard { run, source: Box::new(source) });
        }
        self.sample(&spec);
        self.drive(drive);
        Ok(Run::new(self.clone(), run))
    }

    /// The group file that a plan was made from, as it was kept with the plan; `None` for a group that came from no file.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn group_file_of(&self, plan: &Plan) -> Result<Option<PathBuf>, Error> {
        Ok(self.inner.store.registry.group(plan.group_digest).await?.map(|kept| PathBuf::from(kept.file)))
    }

    /// Takes the leases and makes the run durable, under the next free number of its group.
    async fn take(&self, plan: &Verified, start: &Start) -> Result<Drive, Error> {
        let group = &plan.plan().group;
        loop {
            let numbers = self.inner.store.journal.runs().await?;
            let last = numbers.iter().filter(|run| run.group() == group).map(RunId::number).max().unwrap_or(0);
            let run = RunId::new(group.clone(), last.saturating_add(1));
            let lease = self.lease(&run, plan.plan(), Epoch::new(0), false).await?;
            let drive = self.drive_of(run, lease);
            match begin(&drive, plan, &start.by, &start.because).await {
                Ok(()) => return Ok(drive),
                // Another process took the number between the look and the lease.
                Err(DriveError::Journal { source: JournalError::Conflict { .. }, .. }) => {
                    self.inner.store.leases.release(&drive.lease).await?;
                }
                Err(DriveError::Replaced { source, .. }) => {
                    self.inner.store.leases.release(&drive.lease).await?;
                    let finding = Finding::new(&known::REPLACED, source.to_string());
                    return Err(Error::Refused(Refusal::one(plan.plan().subject(), finding)));
                }
                Err(error) => {
                    self.inner.store.leases.release(&drive.lease).await?;
                    return Err(error.into());
                }
            }
        }
    }

    /// Drives every unfinished run that nobody drives. One that cannot be resumed does not keep the others.
    ///
    /// # Errors
    /// [`Error::Journal`] when the list of runs cannot be read.
    pub async fn resume(&self) -> Result<Resumed, Error> {
        let mut resumed = Resumed::default();
        for run in self.inner.store.journal.runs().await? {
            match self.resume_run(&run, false).await {
                Ok(_) => resumed.runs.push(run),
                Err(Error::Over(_) | Error::Driven(_)) => {}
                Err(Error::Busy { .. }) => resumed.elsewhere.push(run),
                Err(error) => resumed.broken.push((run, error)),
            }
        }
        Ok(resumed)
    }

    /// Drives one unfinished run. `take_over` takes it from an engine that lives but does not answer any more: that one is
    /// waited for as long as its lease was promised, and can write nothing afterwards.
    ///
    /// # Errors
    /// [`Error::Over`], [`Error::Driven`], [`Error::Busy`] when another engine drives it, [`Error::GroupGone`], [`Error::Stopped`] when this
    /// engine lacks step kinds of the plan.
    pub async fn resume_run(&self, run: &RunId, take_over: bool) -> Result<Run, Error> {
        if lock(&self.inner.drives).get(run).is_some_and(|driving| !driving.is_over()) {
            return Err(Error::Driven(run.clone()));
        }
        let lines = self.inner.store.journal.read(run, 0).await?;
        let (state, _) = replay(run, &lines)?;
        if state.outcome.is_some() {
            return Err(Error::Over(run.clone()));
        }
        let missing = self.missing_kinds(&state.plan);
        if !missing.is_empty() {
            return Err(DriveError::MissingKinds { kinds: missing }.into());
        }
        let spec = self.open_plan(&state.plan, run).await?;
        let above = self.inner.store.journal.epoch(run).await?;
        let lease = self.lease(run, &state.plan, above, take_over).await?;
        if self.inner.guard.is_some() && self.needs_guard(&state.plan).await {
            // The run may be past the drain already: without a guard it is no worse than it was.
            let _no_guard = self.spawn_guard(run).await;
        }
        self.sample(&spec);
        self.drive(self.drive_of(run.clone(), lease));
        Ok(Run::new(self.clone(), run.clone()))
    }

    /// The step kinds of a plan that this engine was started without.
    fn missing_kinds(&self, plan: &Plan) -> Vec<Kind> {
        let kinds: BTreeSet<&Kind> = plan.nodes.values().map(|node| &node.call.kind).collect();
        kinds.into_iter().filter(|kind| self.inner.catalog.declared(kind).is_none()).cloned().collect()
    }

    /// Opens what a plan's group names, as it was kept.
    pub(crate) async fn open_plan(&self, plan: &Plan, run: &RunId) -> Result<dr_core::GroupSpec, Error> {
        let kept = self.inner.store.registry.group(plan.group_digest).await?;
        let spec = kept.ok_or_else(|| Error::GroupGone { run: run.to_string() })?.spec;
        self.open_again(&spec, run)?;
        Ok(spec)
    }

    /// Opens what a kept group names, so that a plan's bindings are found.
    fn open_again(&self, spec: &dr_core::GroupSpec, whose: impl std::fmt::Display) -> Result<(), Error> {
        let opened = self.inner.backends.open(spec).map_err(|error| {
            let what = format!("{whose}: {error}");
            Error::Refused(Refusal::one(spec.name.to_string(), Finding::new(&known::NOT_OPENED, what)))
        })?;
        self.inner.desk.put(spec, &opened);
        Ok(())
    }

    async fn lease(&self, run: &RunId, plan: &Plan, above: Epoch, take_over: bool) -> Result<Lease, Error> {
        let request = LeaseRequest {
            keys: lease_keys(plan),
            run: run.clone(),
            holder: self.inner.holder.clone(),
            above,
            take_over,
            at: wall(),
        };
        let mut patience = GIVING_BACK / LOOK_AGAIN;
        loop {
            match self.inner.store.leases.acquire(request.clone()).await {
                // A run that is over gives its lease back a moment after its last event.
                Err(LeaseError::Busy { run, .. }) if patience > 0 && self.is_over(&run).await => {
                    patience -= 1;
                    tokio::time::sleep(std::time::Duration::from_millis(LOOK_AGAIN)).await;
                }
                other => return Ok(other?),
            }
        }
    }

    async fn is_over(&self, run: &RunId) -> bool {
        let lines = self.inner.store.journal.read(run, 0).await;
        lines.is_ok_and(|lines| replay(run, &lines).is_ok_and(|(state, _)| state.outcome.is_some()))
    }

    fn drive_of(&self, run: RunId, lease: Lease) -> Drive {
        let inner = &self.inner;
        Drive {
            run,
            runtime: Arc::clone(&inner.runtime),
            journal: Arc::clone(&inner.store.journal),
            leases: Arc::clone(&inner.store.leases),
            providers: Arc::<crate::desk::Desk>::clone(&inner.desk),
            catalog: inner.catalog.clone(),
            lease,
        }
    }

    fn drive(&self, parts: Drive) {
        let (run, lease) = (parts.run.clone(), parts.lease.clone());
        self.keep(run, lease, tokio::spawn(drive(parts)));
    }

    /// Waits for a driver, gives its lease back and tells whoever watches how it ended, also where it ended by a bug.
    fn keep(&self, run: RunId, lease: Lease, task: JoinHandle<Result<RunOutcome, DriveError>>) {
        let (tell, end) = watch::channel(None);
        let leases = Arc::clone(&self.inner.store.leases);
        let driver = task.abort_handle();
        let keeper = tokio::spawn(async move {
            let ended = match task.await {
                Ok(Ok(outcome)) => Ended::Over(outcome),
                Ok(Err(error)) => Ended::Stopped(Arc::new(error)),
                Err(failed) => {
                    let what = failed.to_string();
                    forget(failed);
                    Ended::Failed(what)
                }
            };
            let taken_over = match &ended {
                Ended::Stopped(error) => matches!(**error, DriveError::TakenOver { .. }),
                Ended::Over(_) | Ended::Failed(_) => false,
            };
            if !taken_over {
                // The driver's gates are shut. What cannot be given back now lapses with the process.
                drop(leases.release(&lease).await);
            }
            let _nobody_listens = tell.send(Some(ended));
        });
        lock(&self.inner.drives).insert(run, Driving { driver, keeper, end });
    }

    /// How driving ended, if this engine drove the run and does not any more.
    pub(super) fn ended(&self, run: &RunId) -> Option<Result<RunOutcome, Error>> {
        let drives = lock(&self.inner.drives);
        let ended = drives.get(run)?.end.borrow().clone()?;
        Some(match ended {
            Ended::Over(outcome) => Ok(outcome),
            Ended::Stopped(error) => Err(Error::Stopped(error)),
            Ended::Failed(what) => Err(Error::Bug { run: run.clone(), what }),
        })
    }

    /// Completes when this engine has stopped driving the run, at once if that is so already; never, if it did not drive it.
    pub(super) async fn stopped_driving(&self, run: &RunId) {
        let end = |run| lock(&self.inner.drives).get(run).map(|driving| driving.end.clone());
        match end(run) {
            // An error means that the task is gone without a word: it has stopped all the same.
            Some(mut end) => drop(end.wait_for(Option::is_some).await.is_ok()),
            None => std::future::pending().await,
        }
    }

    /// Whether somebody would have to end a drain of this plan if this process died.
    async fn needs_guard(&self, plan: &Plan) -> bool {
        let drains = plan.nodes.values().any(|node| node.call.class == Class::Drain);
        if !drains || plan.policy.unguarded {
            return false;
        }
        for binding in plan.bindings.values().filter(|binding| binding.kind == ResourceKind::App) {
            match self.inner.desk.resolve(plan.group_digest, binding).await {
                Ok(Resolved::App(app)) if !app.drain_expires_by_itself() => return true,
                // The driver refuses a binding that cannot be opened.
                Ok(
                    Resolved::App(_)
                    | Resolved::Member(_)
                    | Resolved::Secret(_)
                    | Resolved::Traffic(_)
                    | Resolved::Readers(_),
                )
                | Err(_) => {}
            }
        }
        false
    }

    /// Puts a request in front of whoever drives the run, now or later.
    pub(super) async fn post(&self, run: &RunId, id: &str, request: Request) -> Result<(), Error> {
        let store = |source| JournalError::Store { doing: format!("post to {run}"), full: false, source };
        let request = canonical::to_value(&request).map_err(|error| store(Box::new(error)))?;
        let row = InboxRow { id: id.to_owned(), at: wall(), request: Json(request) };
        Ok(self.inner.store.journal.post(run, row).await?)
    }
}

/// Refuses a plan whose group file was changed since: an older plan is no way round a stricter approval or a shorter budget. A
/// file that is gone says nothing, and the plan stands on the group as it was kept.
fn refuse_changed(plan: &Plan, file: &str) -> Result<(), Error> {
    if !Path::new(file).exists() {
        return Ok(());
    }
    let read = GroupFile::read(file).map_err(|error| error.to_string());
    let digest = read.and_then(|now| now.spec().digest().map_err(|error| error.to_string()));
    let what = match digest {
        Ok(now) if now == plan.group_digest => return Ok(()),
        Ok(_) => format!("{file} was changed after this plan was made"),
        Err(why) => format!("{file} cannot be read, so nobody can say whether it still allows this plan: {why}"),
    };
    Err(Error::Refused(Refusal::one(plan.subject(), Finding::new(&known::GROUP_CHANGED, what))))
}

/// The finding of a plan that drains without a guard.
pub(super) fn no_guard() -> Finding {
    Finding::new(&known::NO_GUARD, "the drain does not end by itself, and no guard process is available")
}

/// A new id for a request that is not the same request when it is said twice.
pub(super) fn fresh(kind: &str, at: Timestamp) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{kind}-{}-{}-{count}", at.millis(), std::process::id())
}

/// How long a run that is over may take to give its lease back, and how often that is looked at, in milliseconds.
const GIVING_BACK: u64 = 2_000;
const LOOK_AGAIN: u64 = 20;

#[cfg(test)]
mod tests {
    use dr_core::base::ResourceAddress;

    use super::*;

    /// What the panic of a driver carries may panic too; its watchers, and the next engine, are told all the same.
    #[tokio::test]
    async fn a_driver_that_dies_reaches_its_watchers_and_gives_its_lease_back() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(std::thread::panicking(), "once more");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).leases(dir.path().join("leases")).start().await.unwrap();
        let run: RunId = "orders-1".parse().unwrap();
        let take = |above| LeaseRequest {
            keys: vec![ResourceAddress::new("db")],
            run: run.clone(),
            holder: "test".into(),
            above,
            take_over: false,
            at: wall(),
        };
        let lease = engine.inner.store.leases.acquire(take(Epoch::new(0))).await.unwrap();
        let (epoch, task) = (lease.epoch, async { std::panic::panic_any(Bomb) });
        engine.keep(run.clone(), lease, tokio::spawn(task));
        engine.stopped_driving(&run).await;
        let ended = engine.ended(&run).unwrap();
        assert!(matches!(ended, Err(Error::Bug { .. })), "{ended:?}");
        assert!(lock(&engine.inner.drives).get(&run).is_some_and(Driving::is_over), "it can be resumed");
        assert!(engine.inner.store.leases.acquire(take(epoch)).await.is_ok(), "the lease is free");
    }
}
