//! One run of a plan in a world of its own: planned, driven, answered, crashed and resumed.

use std::{fmt, sync::Arc};

use dr_core::{
    Actor, Catalog, Cause, Plan, PlanBuilder, Purpose, RunId, Runbook, Situation,
    base::{CanonicalError, Epoch, Finding, Known, Refusal},
    contract::{AllowSpec, Loss, LossBound, Providers, Runtime},
    millis, minutes,
    plan::Verified,
    run::{
        Ask, Drive, DriveError, Event, LeaseRequest, LeaseStore, Record, RunOutcome, begin, drive, lease_keys, replay,
    },
};
use futures_util::future::{Either, select};

use super::{Through, people};
use crate::{
    cloud::{Fault, FaultPlan, SimCloud},
    crash::CrashSwitch,
    group::policy,
    journal::{JournalTrouble, MemoryJournal},
    lease::MemoryLeases,
    runtime::{Halt, VirtualRuntime},
    world::{Ended, Setup},
};

/// The simulated setup is wrong: a program that explores has a number of its own.
const SETUP: Known = Known {
    number: 901,
    name: "simulated-setup",
    means: "the simulated group cannot be described",
    why: "nothing can be planned",
    helps: "look at the setup",
};
/// How often a run may be resumed after a crash.
const RESUMES: u32 = 6;

/// How one run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The run is over.
    Ended(RunOutcome),
    /// It waits for people.
    Parked(Box<Ask>),
    /// It never came to an end.
    Halted(Halt),
    /// The engine gave up.
    Failed(String),
}

impl RunEnd {
    pub(super) const SUCCESS: &'static str = "success";
    pub(super) const TURNED_BACK: &'static str = "turned back";
    pub(super) const PARKED: &'static str = "parked";

    /// Success, abort, park …: what must be the same after a crash.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Ended(outcome) if outcome.success() => Self::SUCCESS,
            Self::Ended(
                RunOutcome::Refused { .. }
                | RunOutcome::Aborted { .. }
                | RunOutcome::Cancelled { .. }
                | RunOutcome::Succeeded
                | RunOutcome::SucceededWithDebt { .. },
            ) => Self::TURNED_BACK,
            Self::Ended(RunOutcome::HandedOver { .. }) => "handed over",
            Self::Parked(_) => Self::PARKED,
            Self::Halted(_) => "never ended",
            Self::Failed(_) => "engine error",
        }
    }

    /// In words, with the reason.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Ended(outcome) => format!("{outcome:?}"),
            Self::Parked(ask) => format!("parked: {}", ask.question),
            Self::Halted(halt) => halt.to_string(),
            Self::Failed(why) => why.clone(),
        }
    }
}

/// A world with a journal and leases on virtual time.
#[derive(Clone)]
pub struct Stage {
    /// Time.
    pub runtime: VirtualRuntime,
    /// The cloud.
    pub cloud: SimCloud,
    /// The stored side of the journal.
    pub journal: MemoryJournal,
    /// The leases of the host.
    pub leases: MemoryLeases,
    /// The run that [`Stage::drive`] drives.
    pub run: RunId,
    through: Option<Through>,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("run", &self.run).field("cloud", &self.cloud).finish_non_exhaustive()
    }
}

impl Stage {
    /// A world of `setup` in which clients have been writing for a second.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let runtime = VirtualRuntime::new();
        let run = RunId::new(setup.group.clone(), 1);
        let cloud = SimCloud::new(setup, Arc::new(runtime.clone()));
        let stage =
            Self { runtime, cloud, journal: MemoryJournal::new(), leases: MemoryLeases::new(), run, through: None };
        stage.pass(millis(1000));
        stage.cloud.watch_journal(&stage.journal);
        stage
    }

    /// Every process reaches the providers through this.
    pub(super) fn through(mut self, wrap: Option<Through>) -> Self {
        self.through = wrap;
        self
    }

    fn providers_of(&self, process: &str, switch: CrashSwitch) -> Arc<dyn Providers> {
        let providers = self.cloud.providers_for(process, switch);
        match &self.through {
            Some(wrap) => wrap(providers),
            None => providers,
        }
    }

    /// Lets time pass.
    pub fn pass(&self, time: dr_core::Millis) {
        // A sleep cannot be stuck, and its end is near.
        drop(self.runtime.pass(time));
        self.cloud.look(|_| ());
    }

    /// Looks, plans and verifies. Whatever is changed meanwhile breaks S14.
    ///
    /// # Errors
    /// Everything that speaks against it.
    pub fn plan(&self, runbook: &dyn Runbook, catalog: &Catalog) -> Result<Verified, Refusal> {
        let refuse = |what: String| Refusal::one(self.run.to_string(), Finding::new(&SETUP, what));
        self.cloud.only_look(Some("planning"));
        let planned = self.runtime.run(async {
            let providers = self.providers_of("engine", CrashSwitch::new());
            let group = self.cloud.group().map_err(|error| refuse(error.to_string()))?;
            let survey = self.cloud.survey(group, providers.as_ref()).await;
            let situation = survey.map_err(|error| refuse(Cause::chain(&error).to_string()))?.situation().await?;
            let (plan, findings) = draw_up(runbook, &situation).map_err(|error| refuse(error.to_string()))??;
            let own = plan.touches().into_iter().filter(|touch| !plan.bindings.contains_key(&touch.resource));
            let own: Vec<AllowSpec> = own.map(|touch| AllowSpec::new(touch.resource, touch.verb)).collect();
            if own.is_empty() {
                return plan.verify(findings, catalog);
            }
            // The group of a trial lets the author's own steps touch what they say they touch.
            let mut situation = situation;
            situation.group.allow.extend(own);
            let (plan, findings) = draw_up(runbook, &situation).map_err(|error| refuse(error.to_string()))??;
            plan.verify(findings, catalog)
        });
        self.cloud.only_look(None);
        planned.unwrap_or_else(|halt| Err(refuse(halt.to_string())))
    }

    /// Injects the faults of `plan`, those of the journal included (`journal.append#5:F16-before`).
    pub fn faults(&self, plan: &FaultPlan) {
        let mut trouble = JournalTrouble::default();
        for (call, fault) in plan.iter() {
            let Some(nth) = call.strip_prefix("journal.append#").and_then(|nth| nth.parse().ok()) else { continue };
            if fault == Fault::CrashBefore {
                trouble.crash_before.insert(nth);
            } else if fault == Fault::CrashAfter {
                trouble.crash_after.insert(nth);
            }
        }
        self.journal.trouble(trouble);
        self.cloud.faults(plan.clone());
    }

    /// Drives the plan to its end: people approve what is asked, and after every crash a new engine resumes. A run that parks is
    /// left there. Then time passes until everything that was on its way has arrived, and the laws of the end are checked.
    pub fn drive(&self, plan: &Verified, catalog: &(dyn Fn() -> Catalog + Sync)) -> RunEnd {
        self.cloud.run_begins();
        self.cloud.run_has(plan.plan());
        let end = self.drive_through_crashes(plan, catalog);
        let timeout = self.cloud.setup().timing.timeout.count();
        self.settle(millis(timeout.saturating_mul(20)));
        self.check_end(plan, &end);
        end
    }

    fn drive_through_crashes(&self, plan: &Verified, catalog: &(dyn Fn() -> Catalog + Sync)) -> RunEnd {
        for number in 1..=RESUMES {
            let process = self.runtime.process();
            let leases = self.leases.process();
            match process.run(self.incarnation(plan, catalog, (number, &process, &leases))) {
                Ok(end) => return end,
                Err(Halt::Crashed(_)) => leases.die(),
                Err(halt) => return RunEnd::Halted(halt),
            }
        }
        RunEnd::Failed(format!("it crashed {RESUMES} times"))
    }

    async fn incarnation(
        &self,
        plan: &Verified,
        catalog: &(dyn Fn() -> Catalog + Sync),
        (number, process, leases): (u32, &VirtualRuntime, &MemoryLeases),
    ) -> RunEnd {
        let name = format!("engine-{number}");
        let engine = Box::pin(self.engine(plan, catalog(), (&name, process, leases), false));
        let people = Box::pin(people::until_parked(self.journal.clone(), self.runtime.clone(), self.run.clone()));
        let rival = Box::pin(self.rival_wanted());
        match select(engine, select(people, rival)).await {
            Either::Left((ended, _)) => end_of(ended),
            Either::Right((Either::Left((ask, _)), _)) => RunEnd::Parked(ask),
            Either::Right((Either::Right(((), _)), first)) => {
                // The first engine stands still, with every call it has under way; a second one takes over, and then the first one
                // wakes up.
                process.freeze();
                let (second, its_leases) = (self.runtime.process(), self.leases.process());
                let rival = format!("{name}-rival");
                self.cloud.lease_lost(&name);
                let engine = Box::pin(self.engine(plan, catalog(), (&rival, &second, &its_leases), true));
                let people =
                    Box::pin(people::until_parked(self.journal.clone(), self.runtime.clone(), self.run.clone()));
                let end = match select(engine, people).await {
                    Either::Left((ended, _)) => end_of(ended),
                    Either::Right((ask, _)) => RunEnd::Parked(ask),
                };
                let wake = self.runtime.sleep_until(self.runtime.now_mono() + minutes(40));
                drop(select(first, wake).await);
                // S15 speaks of what leaves after an engine could know: its calls go on when it has read that its lease is gone.
                process.thaw();
                end
            }
        }
    }

    async fn rival_wanted(&self) {
        if !self.cloud.expects_rival() {
            return std::future::pending().await;
        }
        while !self.cloud.rival_wanted() {
            self.runtime.sleep_until(self.runtime.now_mono() + millis(5)).await;
        }
    }

    async fn engine(
        &self,
        plan: &Verified,
        catalog: Catalog,
        (name, process, leases): (&str, &VirtualRuntime, &MemoryLeases),
        take_over: bool,
    ) -> Result<RunOutcome, DriveError> {
        let switch = process.crash_switch();
        self.cloud.current_process(name, switch.clone());
        let request = LeaseRequest {
            keys: lease_keys(plan.plan()),
            run: self.run.clone(),
            holder: name.to_owned(),
            above: Epoch::default(),
            take_over,
            at: process.now_wall(),
        };
        let lease = leases.acquire(request).await;
        let lease = lease.map_err(|source| DriveError::Lease { run: self.run.clone(), source })?;
        let with = Drive {
            run: self.run.clone(),
            runtime: Arc::new(process.clone()),
            journal: Arc::new(self.journal.for_process(switch.clone())),
            leases: Arc::new(leases.clone()),
            providers: self.providers_of(name, switch),
            catalog,
            lease,
        };
        if self.journal.lines(&self.run).is_empty() {
            begin(&with, plan, &Actor::local("mira").authenticated("testkit", "mira"), "a trial").await?;
        }
        drive(with).await
    }

    /// Everything that is on its way arrives.
    fn settle(&self, time: dr_core::Millis) {
        self.pass(time);
    }

    fn check_end(&self, plan: &Verified, end: &RunEnd) {
        let planned = plan.plan().purpose != Purpose::Failover;
        match end {
            RunEnd::Ended(outcome) if outcome.success() => {
                let debts = matches!(outcome, RunOutcome::SucceededWithDebt { .. });
                self.cloud.ended(&Ended::Succeeded { planned, loss: self.reported_loss(), debts });
            }
            RunEnd::Ended(RunOutcome::HandedOver { .. }) | RunEnd::Parked(_) => self.cloud.ended(&Ended::Parked),
            RunEnd::Ended(_) => self.cloud.ended(&Ended::Aborted),
            RunEnd::Halted(halt) => self.cloud.violate(crate::Law::L2, &halt.to_string()),
            RunEnd::Failed(why) => self.cloud.violate(crate::Law::L2, why),
        }
        super::evidence::check_told(self);
        super::evidence::check(self, matches!(end, RunEnd::Ended(_)));
    }

    /// Tells how often people were asked, each park and each question that was asked again included.
    #[must_use]
    pub fn asked(&self) -> usize {
        let lines = self.journal.lines(&self.run);
        let records = lines.iter().filter_map(|line| Record::parse(line).ok());
        records.filter(|record| matches!(record.event, Event::Asked { .. } | Event::Parked { .. })).count()
    }

    /// The loss that the run bounded, as its journal says.
    #[must_use]
    pub fn reported_loss(&self) -> Loss {
        let unknown = || Loss::Unknown { because: "the run bounded none".to_owned() };
        let Ok((state, _)) = replay(&self.run, &self.journal.lines(&self.run)) else { return unknown() };
        let bounds = state
            .nodes
            .iter()
            .filter(|(id, _)| state.plan.call(id).is_some_and(|call| call.output.contains("loss-bound")));
        let bounds = bounds.filter_map(|(_, node)| node.output.clone());
        let bound = bounds.filter_map(|output| serde_json::from_value::<LossBound>(output.0).ok()).next_back();
        bound.map_or_else(unknown, |bound| bound.loss)
    }
}

type Drawn = Result<(Plan, Vec<Finding>), Refusal>;

fn draw_up(runbook: &dyn Runbook, situation: &Situation) -> Result<Drawn, CanonicalError> {
    let policy = policy(&situation.group, runbook.purpose());
    let mut builder = PlanBuilder::new(situation.header(runbook.id(), runbook.purpose(), policy)?);
    Ok(runbook.plan(situation, &mut builder).map(|()| builder.finish()))
}

fn end_of(ended: Result<RunOutcome, DriveError>) -> RunEnd {
    ended.map_or_else(|error| RunEnd::Failed(Cause::chain(&error).to_string()), RunEnd::Ended)
}
