//! The way to the engine: every verb asks through here, and every error of the engine becomes a page with an exit code here.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use dr_core::{
    Actor, Backend, Catalog, MemberId, Report, RunId, Runbook, Timestamp, View,
    base::{Digest, Role},
    plan::Verified,
    run::{Ask, judge},
};
use dr_core::{PlannedSwitchover, UnplannedFailover, plan::RejoinStandby};
use dr_engine::{Engine, EngineBuilder, Error, GroupFile, GroupStatus, OpenError, Run, RunSummary, Start};

use crate::{
    App,
    args::{Places, Risks},
    exit::{Stop, chain},
    files,
    people::{self, People},
    sandbox,
    sim::Simulated,
};

/// An open engine, and who acts: verbs that only look work without it, whatever is wrong with the file of people.
#[derive(Debug)]
pub(crate) struct Link {
    engine: Engine,
    actor: Result<Actor, Stop>,
    /// Where the roles of this program stand, for those who lack one.
    roles_in: String,
    /// An administrator says who may do what; then it is he, too, who says how many must agree: a group file of somebody else starts no run.
    administered: bool,
    /// Only runs that were begun in a sandbox are touched.
    sandboxed: bool,
    /// The directory in which no journal is, where only groups are looked at.
    pub(crate) without_journal: Option<PathBuf>,
    /// What stands in for the journal then; it goes with this value.
    _stand_in: Option<tempfile::TempDir>,
}

/// All step kinds of this program.
pub(crate) fn catalog(app: &App) -> Catalog {
    Catalog::built_in().and(app.steps.clone())
}

/// The built-in runbook for a planned change of the writer.
pub(crate) fn switchover(to: &MemberId) -> Arc<dyn Runbook> {
    Arc::new(PlannedSwitchover::to(to.clone()))
}

/// The built-in runbook for a writer that is silent.
pub(crate) fn failover(to: &MemberId, accepts: &Risks) -> Arc<dyn Runbook> {
    let failover = UnplannedFailover::to(to.clone());
    let failover = accepts.without_fence.iter().fold(failover, UnplannedFailover::without_fence);
    Arc::new(accepts.although_behind.iter().fold(failover, UnplannedFailover::although_behind))
}

/// The built-in runbook for a member that follows nobody.
pub(crate) fn rejoin(member: &MemberId, discard: bool) -> Arc<dyn Runbook> {
    let rejoin = RejoinStandby::of(member.clone());
    Arc::new(if discard { rejoin.discarding() } else { rejoin })
}

/// What answers for the things of group files: in a sandbox the simulated cloud alone.
pub(crate) fn backends(app: &App, places: &Places) -> Vec<Arc<dyn Backend>> {
    match &places.sandbox {
        Some(dir) => vec![Arc::new(Simulated::in_dir(dir.join("sim")))],
        None => app.backends.clone(),
    }
}

/// An engine in the making, with everything that is compiled in.
fn builder(app: &App, places: &Places) -> EngineBuilder {
    let mut builder = Engine::open(places.journal()).steps(catalog(app)).backends(backends(app, places));
    if let Some(dir) = &places.sandbox {
        builder = builder.leases(dir.join("leases"));
    }
    if let Some(leases) = &app.leases {
        builder = builder.leases(leases);
    }
    match std::env::current_exe() {
        Ok(program) => {
            let words: Vec<OsString> = match &places.sandbox {
                Some(dir) => vec!["--sandbox".into(), dir.into()],
                None => {
                    vec!["--dir".into(), places.journal().into_os_string(), "--groups".into(), places.groups().into()]
                }
            };
            builder.guarded_by(program, words)
        }
        Err(_) => builder,
    }
}

/// Watches over the drain of a run until there is nothing left to guard.
pub(crate) async fn guard(app: &App, places: &Places, run: &str) -> Result<(), Stop> {
    let run: RunId = run.parse().map_err(|error: dr_core::base::BadRunId| Stop::input(error.to_string(), &[]))?;
    builder(app, places).guard(&run).await.map(drop).map_err(|error| stop(&error))
}

impl Link {
    /// Opens the engine on a journal that is there: looking makes none. Where there is none, groups can still be looked at.
    pub(crate) async fn looking(app: &App, places: &Places, groups: bool) -> Result<Self, Stop> {
        let nowhere = places.journal();
        if dr_engine::SqliteJournal::is_in(&nowhere) {
            return Self::open_with(app, places, EngineBuilder::existing).await;
        }
        if !groups {
            return Self::open_with(app, places, EngineBuilder::existing).await;
        }
        let failed = |error| Stop::bug(format!("no temporary directory: {}", chain(&error)));
        let stand_in = tempfile::tempdir().map_err(failed)?;
        let (journal, leases) = (stand_in.path().join("journal"), stand_in.path().join("leases"));
        let elsewhere = Places { dir: Some(journal), ..places.clone() };
        let opened = match &places.sandbox {
            Some(_) => Self::open_with(app, places, |builder| builder).await?,
            None => Self::open_with(&app.clone().leases_in(leases), &elsewhere, |builder| builder).await?,
        };
        Ok(Self { without_journal: Some(nowhere), _stand_in: Some(stand_in), ..opened })
    }

    /// Opens the engine. Nothing is driven by that.
    pub(crate) async fn open(app: &App, places: &Places) -> Result<Self, Stop> {
        Self::open_with(app, places, |builder| builder).await
    }

    async fn open_with(
        app: &App,
        places: &Places,
        how: impl FnOnce(EngineBuilder) -> EngineBuilder + Send,
    ) -> Result<Self, Stop> {
        let sandboxed = places.sandbox.is_some();
        let (actor, roles_in, administered) = match (&places.sandbox, &app.acting) {
            (Some(_), _) => (sandbox::person(places.acting.as_deref()), "the sandbox".to_owned(), false),
            (None, Some(actor)) => (Ok(actor.clone()), "this program".to_owned(), false),
            (None, None) => {
                let path = app.people.as_deref().unwrap_or_else(|| std::path::Path::new(people::FILE));
                let people = People::read(path);
                let administered = people.as_ref().map_or(true, People::exist);
                (people.map(|people| people.acting()), path.display().to_string(), administered)
            }
        };
        let engine = how(builder(app, places)).start().await.map_err(|error| stop(&error))?;
        Ok(Self { engine, actor, roles_in, administered, sandboxed, without_journal: None, _stand_in: None })
    }

    /// Who acts.
    pub(crate) fn actor(&self) -> Result<&Actor, Stop> {
        self.actor.as_ref().map_err(Clone::clone)
    }

    /// Whether the acting person may pause this run, let it go on, turn it back or take it from another engine.
    pub(crate) async fn may_steer(&self, run: &Run) -> Result<(), Stop> {
        let actor = self.actor()?;
        run.may_steer(actor).await.map_err(|error| {
            let Error::Answer { refused, .. } = &error else { return stop(&error) };
            Stop::refused(refused.to_string(), &[self.roles(actor)])
        })
    }

    fn roles(&self, actor: &Actor) -> String {
        let roles: Vec<&str> = actor.roles.iter().map(Role::as_str).collect();
        let has = if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
        let how = actor.shown_by.as_deref().unwrap_or("nobody checked who it is");
        format!("{} ({how}) has {has}; roles come from {}", actor.name, self.roles_in)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Looks and writes a plan.
    pub(crate) async fn plan(&self, file: &GroupFile, runbook: &dyn Runbook) -> Result<Verified, Stop> {
        let group = self.engine.group_of(file).map_err(|error| stop(&error))?;
        self.engine.plan_with(&group, runbook).await.map_err(|error| stop(&error))
    }

    pub(crate) async fn start(&self, plan: Verified, because: &str) -> Result<Run, Stop> {
        if self.administered {
            let file = self.engine.group_file_of(plan.plan()).await.map_err(|error| stop(&error))?;
            let named = file.as_ref().map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
            let real = file.and_then(|file| file.canonicalize().ok());
            let gone = || Stop::refused(format!("the plan is of {named}, which is not there any more"), &[]);
            people::trusted(&real.ok_or_else(gone)?, 0)?;
        }
        let start = Start::by(self.actor()?.clone()).because(because);
        self.engine.start(plan, start).await.map_err(|error| stop(&error))
    }

    pub(crate) async fn resume(&self, run: &RunId, take_over: bool) -> Result<Run, Stop> {
        self.engine.resume_run(run, take_over).await.map_err(|error| stop(&error))
    }

    /// All runs, oldest first.
    pub(crate) async fn runs(&self) -> Result<Vec<RunSummary>, Stop> {
        self.engine.runs().await.map_err(|error| stop(&error))
    }

    /// The run that people mean.
    pub(crate) async fn find(&self, name: &str) -> Result<Run, Stop> {
        let runs = self.runs().await?;
        let all: Vec<RunId> = runs.iter().map(|run| run.run.clone()).collect();
        let open: Vec<RunId> =
            runs.iter().filter(|run| run.view.is_some() && run.outcome.is_none()).map(|run| run.run.clone()).collect();
        let id = files::run(&all, &open, name)?;
        let run = self.engine.run(&id).map_err(|error| stop(&error))?;
        if self.sandboxed {
            // A journal of real runs, linked into a sandbox, would let one person answer as three.
            let by = view(&run).await?.by;
            if !by.identities.iter().any(|identity| identity.by == sandbox::PEOPLE_OF) {
                return Err(Stop::refused(
                    format!("{id} was not begun in a sandbox"),
                    &["leave --sandbox away".into()],
                ));
            }
        }
        Ok(run)
    }

    /// Looks at a group.
    pub(crate) async fn status(&self, file: &GroupFile) -> Result<GroupStatus, Stop> {
        look_at(&self.engine, file).await
    }

    /// What would keep a switchover of the group from working, or make it unsafe.
    pub(crate) async fn check(&self, file: &GroupFile) -> Result<Vec<dr_core::base::Finding>, Stop> {
        let group = self.engine.group_of(file).map_err(|error| stop(&error))?;
        self.engine.check(&group).await.map_err(|error| stop(&error))
    }

    /// What keeps the acting person from giving this answer, before he types anything.
    pub(crate) fn may_answer(&self, view: &View, ask: &Ask, choice: &str, to: Digest) -> Result<Option<Role>, Stop> {
        let actor = self.actor()?;
        let answer = dr_core::Answer::choose(choice, to, actor.clone());
        let given = judge(ask, &view.given, &answer, view.now);
        given.map(|given| given.role).map_err(|refused| Stop::refused(refused.to_string(), &[self.roles(actor)]))
    }
}

/// Looks at the group of this file.
pub(crate) async fn look(engine: Engine, path: PathBuf) -> Result<GroupStatus, Stop> {
    let file = GroupFile::read(path).map_err(|error| Stop::input(chain(&error), &[]))?;
    look_at(&engine, &file).await
}

/// Looks at a group, and keeps where it stood: a failover that is planned later needs that for the bound of its loss.
async fn look_at(engine: &Engine, file: &GroupFile) -> Result<GroupStatus, Stop> {
    let group = engine.group_of(file).map_err(|error| stop(&error))?;
    let (status, ()) = tokio::join!(engine.status(&group), engine.sample_once(&group));
    status.map_err(|error| stop(&error))
}

/// What is true of a run.
pub(crate) async fn view(run: &Run) -> Result<View, Stop> {
    run.view().await.map_err(|error| stop(&error))
}

/// Whether an engine drives it.
pub(crate) async fn driven(run: &Run) -> Result<bool, Stop> {
    run.is_driven().await.map_err(|error| stop(&error))
}

/// What it came to.
pub(crate) async fn report(run: &Run) -> Result<Report, Stop> {
    run.report().await.map_err(|error| stop(&error))
}

/// The page and the code for an error of the engine.
pub(crate) fn stop(error: &Error) -> Stop {
    let text = chain(error);
    match error {
        Error::Refused(refusal) => Stop::from(refusal),
        Error::Busy { run, .. } => Stop::refused(
            text,
            &[
                format!("see what it does:  dr status {run}"),
                format!("if its applications write again and it only waits:  dr finish {run} --because TEXT"),
            ],
        ),
        Error::Answer { .. } | Error::Over(_) | Error::Debt { .. } | Error::Driven(_) | Error::Guard { .. } => {
            Stop::refused(text, &[])
        }
        // It says itself which directory, and what makes it usable.
        Error::Open(open) if matches!(**open, OpenError::Leases { .. }) => Stop::input(text, &[]),
        Error::Open(_) | Error::Journal(_) | Error::Lease(_) => {
            Stop::input(text, &["another directory is named with --dir, or DR_DIR".into()])
        }
        Error::Group(_) | Error::UnknownRun(_) | Error::GroupGone { .. } => Stop::input(text, &[]),
        Error::Stopped(_) => Stop::waits(text, &[]),
        Error::NoRuntime | Error::Bug { .. } | Error::Report(_) => Stop::bug(text),
        other => Stop::bug(chain(other)),
    }
}

/// `2026-11-21 08:42:36`.
pub(crate) fn minute(at: Timestamp) -> String {
    at.to_string().chars().take(19).collect::<String>().replace('T', " ")
}

/// The wall clock, for ages on screens.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
