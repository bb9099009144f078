//! The driver loop: the only place where decisions meet the world. Generic over time, storage and providers, so that what is explored
//! in the simulated cloud is what ships.
//!
//! ```text
//!   decide(state) ──► launch ──► task: prepare | submit | look | poll | gather | timer | inbox
//!        ▲                          │
//!        │                          ▼
//!      apply ◄── append (durable) ◄── take(what happened)
//! ```
//!
//! *Guarantees.* An intent is durable before its call leaves; the journal is sealed before a call that must happen at most once; a
//! call is never dropped half-way, only no longer waited for; after a restart every call in flight is looked at before any deadline
//! is judged. *Cancellation.* Dropping the future of [`drive`] at any await is the same as a crash: another engine resumes.

mod ahead;
mod append;
mod asking;
mod bind;
mod gap;
mod grade;
mod node;
mod outcome;
mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::stream::FuturesUnordered;

use crate::{
    base::{Actor, CanonicalError, Digest, Kind, Millis, Mono, NodeId, ResourceAddress, RunId},
    contract::{Binding, Bound, Cause, Class, Mismatch, Notice, Occasion, ProviderError, Providers, Runtime},
    plan::{Catalog, Effect, Liveness, Plan, Verified},
    run::{
        BadRecord, Event, Head, Illegal, Journal, JournalError, Lease, LeaseError, LeaseStore, Line, NodePhase, Phase,
        Record, RunOutcome, RunState, decide,
    },
};
use bind::{bind, same_resources};
use task::{Happened, Job};

/// What a run is driven with.
#[derive(Clone, Debug)]
pub struct Drive {
    /// The run.
    pub run: RunId,
    /// Time and tasks.
    pub runtime: Arc<dyn Runtime>,
    /// The durable record.
    pub journal: Arc<dyn Journal>,
    /// Mutual exclusion.
    pub leases: Arc<dyn LeaseStore>,
    /// The way to the resources.
    pub providers: Arc<dyn Providers>,
    /// The step kinds.
    pub catalog: Catalog,
    /// The lease under which this engine drives: taken by the caller, given back here at the end.
    pub lease: Lease,
}

/// Why a run is not driven any more, although it is not over. It can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Another engine has the run.
    #[error("{run} was taken over by another engine; this one sends nothing more")]
    TakenOver {
        /// The run.
        run: RunId,
    },
    /// The journal cannot be used.
    #[error("the journal of {run} cannot be used")]
    Journal {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The lease store cannot be used.
    #[error("the lease of {run} cannot be renewed")]
    Lease {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: LeaseError,
    },
    /// A line of the journal is not understood.
    #[error("the journal of {run} is not understood by this version")]
    Record {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: BadRecord,
    },
    /// The journal's events do not fit together.
    #[error("the journal of {run} does not fit together at line {seq}")]
    Illegal {
        /// The run.
        run: RunId,
        /// The line.
        seq: u64,
        /// Why.
        #[source]
        source: Illegal,
    },
    /// An event has no canonical form.
    #[error("an event of {run} cannot be written")]
    Canonical {
        /// The run.
        run: RunId,
        /// Why.
        #[source]
        source: CanonicalError,
    },
    /// Step kinds that the plan needs are missing in this engine. Nothing was touched.
    #[error("this engine does not have the step kinds {}; start it with them, nothing was touched", .kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    MissingKinds {
        /// The kinds.
        kinds: Vec<Kind>,
    },
    /// Another resource answers under the name of a member than the one that the plan was made for. Nothing was touched.
    #[error("{run} was not begun and nothing was touched; make a new plan")]
    Replaced {
        /// The run.
        run: RunId,
        /// Which member, and what answered.
        #[source]
        source: Box<Mismatch>,
    },
    /// A binding of the plan cannot be opened. Nothing was touched.
    #[error("the binding `{name}` of {run} cannot be opened; nothing was touched")]
    Binding {
        /// The run.
        run: RunId,
        /// The binding.
        name: Box<Binding>,
        /// Why.
        #[source]
        source: ProviderError,
    },
}

impl DriveError {
    fn journal(run: &RunId, source: JournalError) -> Self {
        match source {
            JournalError::Fenced { .. } => Self::TakenOver { run: run.clone() },
            source @ (JournalError::Conflict { .. }
            | JournalError::Store { .. }
            | JournalError::Corrupt { .. }
            | JournalError::Unknown(_)) => Self::Journal { run: run.clone(), source },
        }
    }
}

/// What a run must hold a lease on: the addresses of all resources that its plan may change, sorted.
#[must_use]
pub fn lease_keys(plan: &Plan) -> Vec<ResourceAddress> {
    let keys: BTreeSet<ResourceAddress> = plan.bindings.values().map(|binding| binding.address.clone()).collect();
    keys.into_iter().collect()
}

/// Creates the journal of a new run, after one look at every member. Nothing is sent; [`drive`] does the rest.
///
/// A member that does not answer is not compared here: the plan's own checks wait for it, and a failover is made for a silent one.
///
/// # Errors
/// [`DriveError::Replaced`] when a member was deleted and made again since the plan was made; or the journal could not be created.
/// There is then no run.
pub async fn begin(drive: &Drive, plan: &Verified, by: &Actor, because: &str) -> Result<(), DriveError> {
    let bound = bind(drive, plan.plan()).await?;
    same_resources(drive, plan.plan(), &bound).await?;
    let event = Event::Started {
        plan: Box::new((**plan.plan()).clone()),
        hash: plan.hash(),
        by: by.clone(),
        because: because.to_owned(),
    };
    let record = Record::after(Head::EMPTY, drive.runtime.now_wall(), drive.lease.epoch, event);
    let line = record.line().map_err(|source| DriveError::Canonical { run: drive.run.clone(), source })?;
    let created = drive.journal.create(&drive.run, drive.lease.epoch, vec![line]).await;
    created.map(drop).map_err(|source| DriveError::journal(&drive.run, source))
}

/// Rebuilds the state of a run from its lines.
///
/// # Errors
/// A line is not understood or does not fit.
pub fn replay(run: &RunId, lines: &[Line]) -> Result<(RunState, Head), DriveError> {
    let mut state: Option<RunState> = None;
    let mut head = Head::EMPTY;
    for line in lines {
        let record = Record::parse(line).map_err(|source| DriveError::Record { run: run.clone(), source })?;
        if record.prev != head.hash || line.seq != head.seq.saturating_add(1) {
            let source = JournalError::Corrupt {
                run: run.clone(),
                seq: line.seq,
                what: "it does not name the line before".into(),
            };
            return Err(DriveError::Journal { run: run.clone(), source });
        }
        let illegal = |source| DriveError::Illegal { run: run.clone(), seq: line.seq, source };
        match &mut state {
            None => state = Some(RunState::begin(run.clone(), &record).map_err(illegal)?),
            Some(state) => state.apply(&record).map_err(illegal)?,
        }
        head = Head { seq: line.seq, hash: line.hash };
    }
    let unknown = || DriveError::Journal { run: run.clone(), source: JournalError::Unknown(run.clone()) };
    state.map(|state| (state, head)).ok_or_else(unknown)
}

/// Drives a run to its end, from wherever it stands.
///
/// Answers when the run is over. While it waits for people it goes on waiting; dropping the future leaves the run as it is.
///
/// # Errors
/// [`DriveError`]: the run is not over, and nothing more is sent by this call.
pub async fn drive(drive: Drive) -> Result<RunOutcome, DriveError> {
    let outcome = drive_on(&drive).await;
    if !matches!(outcome, Err(DriveError::TakenOver { .. })) {
        give_back(&drive).await;
    }
    outcome
}

async fn drive_on(drive: &Drive) -> Result<RunOutcome, DriveError> {
    let run = drive.run.clone();
    let lines = drive.journal.read(&run, 0).await.map_err(|source| DriveError::journal(&run, source))?;
    let (state, head) = replay(&run, &lines)?;
    if let Some(outcome) = state.outcome.clone() {
        return Ok(outcome);
    }
    let missing = missing_kinds(&drive.catalog, &state.plan);
    if !missing.is_empty() {
        return Err(DriveError::MissingKinds { kinds: missing });
    }
    let bound = bind(drive, &state.plan).await?;
    let mut driver = Driver::new(drive.clone(), state, head, bound);
    driver.take_over().await?;
    let ended = driver.run().await;
    if !matches!(ended, Ok(_) | Err(DriveError::TakenOver { .. })) {
        driver.leave().await;
    }
    ended
}

/// A lease that cannot be given back lapses with this process; the run's outcome is not changed by it.
async fn give_back(drive: &Drive) {
    drop(drive.leases.release(&drive.lease).await);
}

fn missing_kinds(catalog: &Catalog, plan: &Plan) -> Vec<Kind> {
    let calls = plan.nodes.values().map(|node| &node.call).chain(plan.holds.values().map(|hold| &hold.undo));
    let missing: BTreeSet<Kind> =
        calls.filter(|call| catalog.handler(&call.kind).is_none()).map(|call| call.kind.clone()).collect();
    missing.into_iter().collect()
}

/// How long one engine goes on trying to record an outcome before it gives up; it sends nothing meanwhile.
const OUTCOME_PATIENCE: Millis = Millis::minutes(60);
/// How long it tries to record an intent: nothing was sent, so giving up early is safe.
const INTENT_PATIENCE: Millis = Millis::seconds(5);

struct Driver {
    drive: Drive,
    state: RunState,
    /// The end of what is known, durable or not.
    head: Head,
    /// The end of what is durable.
    durable: Head,
    /// Outcomes that are known and not durable yet. Nothing is sent before they are.
    unsaved: Vec<Line>,
    /// Since when the first of them waits.
    unsaved_since: Mono,
    saving: Option<append::Saving>,
    bound: Arc<Bound>,
    live: Arc<Liveness>,
    jobs: FuturesUnordered<Job>,
    busy: BTreeSet<NodeId>,
    clocks: BTreeMap<NodeId, Clock>,
    prepared_ahead: ahead::PreparedAhead,
    /// The moment of the first of two looks in a row that saw a call given up by its provider.
    given_up: BTreeMap<NodeId, Mono>,
    /// The moment of the first of several looks in a row that saw everything but the grade.
    short_since: BTreeMap<NodeId, Mono>,
    gap_timer: bool,
    /// Clients would have been turned away, but were seen to write while the release of the drain is under way: its confirmation is all
    /// that is missing.
    gap_passed: bool,
    /// This engine has turned clients away, or has seen that none of them waits.
    clients_know: bool,
    space_checked: bool,
}

/// The pace of one step in this process.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// When its time is over.
    deadline: Mono,
    /// When it may be looked at or tried again.
    next: Mono,
}

/// A call may outlive the driver that prepared it; once the driver is gone, for whatever reason, nothing of it passes a gate.
impl Drop for Driver {
    fn drop(&mut self) {
        self.live.lost();
    }
}

impl Driver {
    fn new(drive: Drive, state: RunState, head: Head, bound: Arc<Bound>) -> Self {
        let live = Arc::new(Liveness::new(drive.lease.epoch));
        Self {
            drive,
            state,
            head,
            durable: head,
            unsaved: Vec::new(),
            unsaved_since: Mono::default(),
            saving: None,
            bound,
            live,
            jobs: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            clocks: BTreeMap::new(),
            prepared_ahead: BTreeMap::new(),
            given_up: BTreeMap::new(),
            short_since: BTreeMap::new(),
            gap_timer: false,
            gap_passed: false,
            clients_know: false,
            space_checked: false,
        }
    }

    async fn take_over(&mut self) -> Result<(), DriveError> {
        let run = self.drive.run.clone();
        if self.state.epoch != self.drive.lease.epoch {
            let taken = self.drive.journal.take_over(&run, self.drive.lease.epoch).await;
            taken.map_err(|source| DriveError::journal(&run, source))?;
        }
        self.renew().await?;
        self.append(vec![Event::LeaseTaken { holder: self.drive.lease.holder.clone() }]).await
    }

    /// Decides, launches, waits for one thing to happen, again and again.
    async fn run(&mut self) -> Result<RunOutcome, DriveError> {
        self.jobs.push(task::inbox(&self.drive, self.state.rows.len()));
        loop {
            self.settle_decisions().await?;
            if let Some(outcome) = self.state.outcome.clone() {
                return Ok(outcome);
            }
            self.watch_gap();
            self.prepare_ahead().await?;
            if let Some(happened) = self.next_job().await? {
                self.take(happened).await?;
            }
        }
    }

    async fn settle_decisions(&mut self) -> Result<(), DriveError> {
        loop {
            self.live.cancel(self.state.cancel.is_some() && !self.state.pivot_stands());
            let decided_at = self.head;
            for command in decide(&self.state) {
                self.launch(command).await?;
                // Whatever was recorded, a failure above all, may change what is to be done.
                if self.head != decided_at {
                    break;
                }
            }
            if self.head == decided_at {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, happened: Happened) -> Result<(), DriveError> {
        match happened {
            Happened::Prepared(prepared) => self.on_prepared(prepared).await,
            Happened::Submitted { node, result, calls } => {
                self.busy.remove(&node);
                self.on_submitted(&node, result, calls).await
            }
            Happened::Looked { node, began, result } => {
                self.busy.remove(&node);
                self.on_looked(&node, began, result).await
            }
            Happened::Polled { node, began, result } => {
                self.busy.remove(&node);
                self.on_polled(&node, began, result).await
            }
            Happened::Gathered { node, result } => {
                self.busy.remove(&node);
                self.on_gathered(&node, result).await
            }
            Happened::AskTimer { node } => {
                self.busy.remove(&node);
                self.on_ask_timer(&node).await
            }
            Happened::GapTimer { flow } => {
                self.gap_timer = false;
                self.on_gap_timer(flow).await
            }
            Happened::Inbox { rows } => {
                self.read_inbox(rows).await?;
                self.jobs.push(task::inbox(&self.drive, self.state.rows.len()));
                Ok(())
            }
            Happened::Renew => self.renew().await,
        }
    }

    async fn renew(&mut self) -> Result<(), DriveError> {
        let now = self.drive.runtime.now_mono();
        match self.drive.leases.renew(&self.drive.lease).await {
            Ok(left) => {
                self.live.lasts(Mono::new(now.since_start().saturating_add(left)));
                self.jobs.push(task::renew(&self.drive, Millis::of(left / 3)));
                Ok(())
            }
            Err(LeaseError::Lost { run }) => {
                self.live.lost();
                Err(DriveError::TakenOver { run })
            }
            // The lease still lasts for a while; the gate stops sending when it does not last long enough.
            Err(LeaseError::Store { .. } | LeaseError::Busy { .. }) => {
                self.jobs.push(task::renew(&self.drive, Millis::seconds(1)));
                Ok(())
            }
        }
    }

    /// Tells people, without waiting for it.
    fn notify(&self, what: &str, occasion: Occasion, text: &str) {
        let key = format!("{}/{what}/{}", self.drive.run, self.head.seq);
        let urgent = self.state.phase == Phase::Parked || self.state.gap_over || self.state.clients_turned_away;
        let text = format!("{}: {text}", self.drive.run);
        let notice = Notice { key, run: self.drive.run.clone(), urgent, occasion, text };
        for notifier in self.drive.providers.notifiers(self.state.plan.group_digest) {
            let notice = notice.clone();
            self.drive.runtime.spawn_detached(Box::pin(async move {
                drop(crate::contract::contain::caught(async { notifier.notify(notice).await }).await);
            }));
        }
    }

    /// The clock of a step: made when it begins, or from the journal after a restart.
    fn clock(&mut self, node: &NodeId) -> Clock {
        if let Some(clock) = self.clocks.get(node) {
            return *clock;
        }
        let now = self.drive.runtime.now_mono();
        let within = self.state.paced(node).map_or(Millis::minutes(5), |paced| paced.within);
        let started = self.state.nodes.get(node).and_then(|node| node.started);
        let spent = started.map_or(Millis::ZERO, |started| self.drive.runtime.now_wall().since(started));
        let clock = Clock { deadline: now + within.saturating_sub(spent), next: now };
        self.clocks.insert(node.clone(), clock);
        clock
    }

    fn again_in(&mut self, node: &NodeId, pause: Millis) {
        let now = self.drive.runtime.now_mono();
        let clock = self.clock(node);
        let next = now + pause;
        // The last look begins at the deadline, or at once when it has gone by.
        let next = if now < clock.deadline { next.min(clock.deadline) } else { now };
        self.clocks.insert(node.clone(), Clock { next, ..clock });
    }

    fn every(&self, node: &NodeId) -> Millis {
        self.state.paced(node).map_or(Millis::seconds(1), |paced| paced.every)
    }
}

fn unknown(text: &str) -> Cause {
    Cause::new(text)
}

/// Which calls must be sealed before they leave.
fn must_seal(class: Class, effect: Effect) -> bool {
    effect == Effect::AtMostOnce || class == Class::Pivot
}

/// The digest of a request, for the intent.
fn request_digest(params: &serde_json::Value) -> Digest {
    crate::base::canonical::sha256(params.to_string().as_bytes())
}

/// How long one call may take before it is no longer waited for.
fn attempt_timeout(within: Millis) -> Duration {
    within.duration()
}

fn is_waiting(phase: NodePhase) -> bool {
    matches!(phase, NodePhase::Waiting | NodePhase::Backoff)
}
