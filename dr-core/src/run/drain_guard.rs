//! What keeps a drain from outliving its orchestrator: a second process that can do exactly one thing.
//!
//! ```text
//!   follow the journal ──► a drain is held, its budget is (nearly) over, no fence intent is durable
//!        │                        │
//!        │                        ▼
//!        │                 raise the epoch (the engine can write nothing more) ──► read again
//!        │                        │ still no fence intent           │ a fence intent after all
//!        │                        ▼                                 ▼
//!        │                 resume onto the old primary          alert, with the commands for people
//!        └──► the run is over: nothing to do
//! ```
//!
//! *Guarantees.* Writes are resumed on the old primary only when no fence intent is durable, and none can become durable
//! afterwards under the epoch that was fenced off. A living engine gets its budget and turns back by itself; it counts as hanging
//! when it writes nothing for [`DrainGuard::GRACE`] after that. A dead one is not waited for beyond the budget.

use std::{fmt::Debug, future::Future, sync::Arc};

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::{
    base::{BindingName, Epoch, IdempotencyKey, MemberId, Millis, NodeId, RunId, Timestamp},
    contract::{
        AppTier, Binding, Cause, Notice, Notifier, Occasion, Outcome, ProviderError, Providers, Resolved,
        ResumeRequest, Runtime, Tri,
        contain::{self, NoAnswer},
    },
    run::{DriveError, Event, Head, Journal, JournalError, Phase, Record, RunState},
};

/// Tells whether the engine that drives a run is provably dead.
#[async_trait]
pub trait Pulse: Debug + Send + Sync + 'static {
    /// Whether nobody drives the run: its holder's lock is gone. `false` when that cannot be told.
    async fn is_gone(&self, run: &RunId) -> bool;
}

/// What a guard works with.
#[derive(Clone, Debug)]
pub struct DrainGuard {
    /// The run that it watches.
    pub run: RunId,
    /// Time.
    pub runtime: Arc<dyn Runtime>,
    /// The run's journal.
    pub journal: Arc<dyn Journal>,
    /// The way to the application tier.
    pub providers: Arc<dyn Providers>,
    /// Whether the engine lives.
    pub pulse: Arc<dyn Pulse>,
}

/// How a guard's watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardEnd {
    /// The run ended; there was nothing to do.
    RunOver,
    /// Applications write on the old primary again.
    Resumed {
        /// Which member.
        onto: crate::base::MemberId,
        /// How long they were held back.
        held: Millis,
    },
    /// Another guard of the same run watches already.
    Relieved,
    /// A fence intent is durable: nobody but the run itself, or people, may let writes through.
    PastFence {
        /// What people would type.
        commands: Vec<String>,
    },
}

/// Why a guard cannot watch.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The plan drains nothing.
    #[error("{0} has no application tier that could be drained")]
    NothingToGuard(RunId),
    /// The application tier cannot be reached through its binding.
    #[error("the application tier {name} of {run} cannot be opened")]
    Binding {
        /// The run.
        run: RunId,
        /// The application tier.
        name: BindingName,
        /// Why.
        #[source]
        source: ProviderError,
    },
    /// The journal cannot be followed.
    #[error("the journal of {run} cannot be followed")]
    Journal {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: DriveError,
    },
}

impl DrainGuard {
    /// How long a living engine may be silent beyond the budget before it counts as hanging.
    pub const GRACE: Millis = Millis::seconds(2);

    /// Opens what the guard needs, so that it is known to be able to act before anything is drained.
    ///
    /// # Errors
    /// [`GuardError`]: there must be no drain without another guard.
    pub async fn ready(self) -> Result<ReadyGuard, GuardError> {
        let (state, head) = self.follow().await?;
        let mut apps = Vec::new();
        for (name, binding) in &state.plan.bindings {
            let Binding::App(name) = name else { continue };
            let failed = |source| GuardError::Binding { run: self.run.clone(), name: name.clone(), source };
            let resolved = self.providers.resolve(state.plan.group_digest, binding).await.map_err(failed)?;
            if let Resolved::App(app) = resolved {
                apps.push((name.clone(), app));
            }
        }
        if apps.is_empty() {
            return Err(GuardError::NothingToGuard(self.run.clone()));
        }
        let began = self.runtime.now_wall();
        Ok(ReadyGuard { guard: self, apps, state, head, began })
    }

    async fn follow(&self) -> Result<(RunState, Head), GuardError> {
        let failed = |source| GuardError::Journal { run: self.run.clone(), source };
        let lines = self.journal.read(&self.run, 0).await;
        let lines = lines.map_err(|source| failed(DriveError::Journal { run: self.run.clone(), source }))?;
        crate::run::replay(&self.run, &lines).map_err(failed)
    }
}

/// A guard that can act.
#[derive(Debug)]
pub struct ReadyGuard {
    guard: DrainGuard,
    apps: Vec<(BindingName, Arc<dyn AppTier>)>,
    state: RunState,
    head: Head,
    began: Timestamp,
}

impl ReadyGuard {
    /// Watches until there is nothing left to guard.
    ///
    /// A journal that cannot be read for a while is read again: what is known already still counts.
    pub async fn watch(mut self) -> GuardEnd {
        let mut told = false;
        loop {
            self.catch_up().await;
            if self.state.phase == Phase::Ended {
                return GuardEnd::RunOver;
            }
            match self.due().await {
                Due::Wait => {}
                Due::Act(since) => match self.take_the_pen().await {
                    Pen::Taken => return self.resume(since).await,
                    Pen::Unsure => {}
                },
                Due::PastFence => {
                    if !told {
                        told = true;
                        self.tell("the drain has outlived its budget, and a fence may be engaged: writes are stopped")
                            .await;
                    }
                    if self.guard.pulse.is_gone(&self.guard.run).await {
                        return GuardEnd::PastFence { commands: self.commands() };
                    }
                }
            }
            self.pause(LOOK_EVERY).await;
        }
    }

    /// Whether it is time to act.
    async fn due(&self) -> Due {
        let Some(since) = self.state.drained_since() else { return Due::Wait };
        let budget = self.state.plan.policy.gap_budget;
        let held = self.guard.runtime.now_wall().since(since);
        let early = Millis::new(budget.count() / 10).max(LOOK_EVERY.saturating_add(LOOK_EVERY));
        let soon = budget.saturating_sub(early).max(Millis::new(budget.count() / 2));
        if held < soon {
            return Due::Wait;
        }
        let gone = self.guard.pulse.is_gone(&self.guard.run).await;
        if !gone && !self.hangs(since + budget) {
            return Due::Wait;
        }
        if !self.state.fence_intended() {
            return Due::Act(since);
        }
        if held < budget { Due::Wait } else { Due::PastFence }
    }

    /// Whether a living engine had its time to turn back by itself: since the budget was over, since its last word, and since
    /// this guard began to watch, whichever is the latest.
    fn hangs(&self, over: Timestamp) -> bool {
        let quiet = over.max(self.state.last).max(self.began);
        self.guard.runtime.now_wall() >= quiet + DrainGuard::GRACE
    }

    /// From here on the engine can write nothing more, so no fence intent can become durable behind our back.
    async fn take_the_pen(&mut self) -> Pen {
        let run = self.guard.run.clone();
        let mut epoch = self.state.epoch.next();
        loop {
            match self.guard.journal.take_over(&run, epoch).await {
                Ok(()) => break,
                Err(JournalError::Fenced { held, .. }) => epoch = held.next(),
                // Nothing can be written by anybody: a dead engine cannot either, a living one keeps its pen.
                Err(JournalError::Store { .. }) if self.guard.pulse.is_gone(&run).await => break,
                Err(
                    JournalError::Store { .. }
                    | JournalError::Conflict { .. }
                    | JournalError::Corrupt { .. }
                    | JournalError::Unknown(_),
                ) => return Pen::Unsure,
            }
        }
        // Read again: an intent may have become durable just before.
        let Ok((state, head)) = self.guard.follow().await else { return Pen::Unsure };
        (self.state, self.head) = (state, head);
        if self.state.fence_intended() || self.state.drained_since().is_none() {
            return Pen::Unsure;
        }
        self.note(epoch).await;
        Pen::Taken
    }

    /// Writes down who acts and why. The deed does not depend on it: a full disk must not keep writes stopped.
    async fn note(&mut self, epoch: Epoch) {
        let mut events = vec![Event::LeaseTaken { holder: HOLDER.to_owned() }];
        if !self.state.gap_over {
            events.push(Event::DrainOverBudget);
        }
        for event in events {
            let record = Record::after(self.head, self.guard.runtime.now_wall(), epoch, event);
            let Ok(line) = record.line() else { return };
            match self.guard.journal.append(&self.guard.run, epoch, self.head.seq, vec![line]).await {
                Ok(head) => self.head = head,
                Err(_) => return,
            }
        }
    }

    async fn resume(self, since: Timestamp) -> GuardEnd {
        let onto = self.state.plan.expects.member.clone();
        let mut told = false;
        loop {
            // A tier that this run did not drain may be held back by somebody else.
            let ours = self.state.drained_apps();
            let held = self.apps.iter().filter(|(name, _)| ours.contains(name));
            let said = join_all(held.map(|(name, app)| self.let_through(name, app, &onto))).await;
            if said.iter().all(Result::is_ok) {
                let held = self.guard.runtime.now_wall().since(since);
                self.tell(&format!("the drain guard let applications write on {onto} again; resume the run to end it"))
                    .await;
                return GuardEnd::Resumed { onto, held };
            }
            if !told {
                told = true;
                let why: Vec<String> = said.into_iter().filter_map(Result::err).collect();
                let why = why.join("; ");
                self.tell(&format!("the drain guard could not let applications write again: {why}")).await;
            }
            self.pause(LOOK_EVERY).await;
        }
    }

    /// Lets one tier write again, and sees that it does; or says why not.
    async fn let_through(&self, name: &BindingName, app: &Arc<dyn AppTier>, onto: &MemberId) -> Result<(), String> {
        let request = ResumeRequest { onto: onto.clone(), key: self.key(name) };
        let said = self.ask(RESUME_WITHIN, async { app.resume(request).await }).await;
        let reading = self.ask(READ_WITHIN, async { app.read().await }).await;
        if reading.is_ok_and(|reading| reading.is_ok_and(|reading| reading.drained == Tri::No)) {
            return Ok(());
        }
        let why = match said.unwrap_or_else(Outcome::unknown) {
            Outcome::Done(()) | Outcome::Accepted(_) => Cause::new("the tier still says that it is drained"),
            Outcome::NotDone(reason) => reason.cause,
            Outcome::Unknown(cause) | Outcome::Conflict(cause) => cause,
        };
        Err(format!("{name}: {why}"))
    }

    /// Asks a tier or a notifier. Nothing of theirs may keep the guard from what it is there for.
    async fn ask<T>(&self, limit: Millis, call: impl Future<Output = T> + Send) -> Result<T, NoAnswer> {
        contain::within(self.guard.runtime.as_ref(), limit, call).await
    }

    fn key(&self, app: &BindingName) -> IdempotencyKey {
        self.guard.run.key(&self.state.origin, &NodeId::new(format!("drain-guard-{app}")))
    }

    /// What people would type to give the drain back and to look at the fence.
    fn commands(&self) -> Vec<String> {
        let holds = self.state.held();
        let undos = holds.iter().filter_map(|held| self.state.plan.holds.get(&held.node));
        let listed = undos.flat_map(|hold| hold.undo.manual.iter().cloned());
        let resume = |(_, app): &(BindingName, Arc<dyn AppTier>)| contain::at_once(|| app.manual("resume"));
        self.apps.iter().filter_map(|app| resume(app).ok()).flatten().chain(listed).collect()
    }

    async fn tell(&self, text: &str) {
        let run = &self.guard.run;
        let commands = self.commands();
        let how = if commands.is_empty() { String::new() } else { format!("; by hand: {}", commands.join("; ")) };
        let (key, text) = (format!("{run}/drain-guard/{text}"), format!("{run}: {text}{how}"));
        let tell = |notifier: Arc<dyn Notifier>| {
            let occasion = Occasion::Outage;
            let notice = Notice { key: key.clone(), run: run.clone(), urgent: true, occasion, text: text.clone() };
            self.ask(TELL_WITHIN, async move { notifier.notify(notice).await })
        };
        // Best effort: what is told is in the journal and in the guard's end as well.
        drop(join_all(self.guard.providers.notifiers(self.state.plan.group_digest).into_iter().map(tell)).await);
    }

    async fn catch_up(&mut self) {
        let Ok(lines) = self.guard.journal.read(&self.guard.run, self.head.seq).await else { return };
        for line in lines {
            let Ok(record) = Record::parse(&line) else { return };
            if self.state.apply(&record).is_err() {
                return;
            }
            self.head = Head { seq: line.seq, hash: line.hash };
        }
    }

    async fn pause(&self, pause: Millis) {
        let runtime = &self.guard.runtime;
        runtime.sleep_until(runtime.now_mono() + pause).await;
    }
}

enum Due {
    Wait,
    /// A drain is held since then.
    Act(Timestamp),
    PastFence,
}

enum Pen {
    Taken,
    Unsure,
}

const LOOK_EVERY: Millis = Millis::new(50);
/// How long the tier may take to answer before it is asked again, and how long a notifier may take.
const RESUME_WITHIN: Millis = Millis::seconds(10);
const READ_WITHIN: Millis = Millis::seconds(2);
const TELL_WITHIN: Millis = Millis::seconds(5);
const HOLDER: &str = "drain guard";
