//! Everything that an engine keeps outside of its process, as one value, and what holds a store that is not ours to its word.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    base::{Digest, Epoch, GroupName, Millis, RunId, SystemId, Timestamp},
    contract::{
        EvidenceSink, PositionSample, Runtime,
        contain::{self, NoAnswer},
    },
    run::{
        Closed, DebtId, Head, InboxRow, Journal, JournalError, KeptGroup, LastWriter, Lease, LeaseError, LeaseRequest,
        LeaseStore, Line, Registry,
    },
};

/// Where an engine keeps what must outlive its process: runs, leases, and what stands beside the runs.
///
/// The three may be one thing ([`Store::of`]) or several. Engines that can reach the same resources must share the leases; engines that
/// go on with each other's runs must share all three.
#[derive(Clone, Debug)]
pub struct Store {
    /// The records of runs.
    pub journal: Arc<dyn Journal>,
    /// Who may act on which resources.
    pub leases: Arc<dyn LeaseStore>,
    /// Groups, samples, notices, closed debts.
    pub registry: Arc<dyn Registry>,
}

impl Store {
    /// How long an engine waits for one call of a store. Longer than what a store of ours waits for its own disk or server (10 s), so that
    /// its own words are heard.
    pub const PATIENCE: Millis = Millis::seconds(20);
    /// How long it waits for a lease that it takes over: the former holder keeps it for as long as it was promised.
    pub const TAKE_OVER_PATIENCE: Millis = Millis::minutes(5);

    /// Uses one value for all three.
    pub fn of<S: Journal + LeaseStore + Registry>(one: S) -> Self {
        let one = Arc::new(one);
        Self { journal: Arc::<S>::clone(&one), leases: Arc::<S>::clone(&one), registry: one }
    }

    /// Seals the lines of runs with `sink` too, whenever the journal seals.
    #[must_use]
    pub fn sealed_by(self, sink: Arc<dyn EvidenceSink>) -> Self {
        Self { journal: Arc::new(Sealed { inner: self.journal, sink }), ..self }
    }

    /// Bounds every call, so that a store that hangs or panics ends nothing but the call: the engine then does as when the store had said
    /// that it failed. What was called may still happen, and a journal is fenced against that.
    #[must_use]
    pub fn bounded(self, runtime: &Arc<dyn Runtime>) -> Self {
        let journal = Bounded { inner: self.journal, runtime: Arc::clone(runtime) };
        let leases = Bounded { inner: self.leases, runtime: Arc::clone(runtime) };
        let registry = Bounded { inner: self.registry, runtime: Arc::clone(runtime) };
        Self { journal: Arc::new(journal), leases: Arc::new(leases), registry: Arc::new(registry) }
    }
}

/// A journal whose seals reach the evidence sink as well.
#[derive(Debug)]
struct Sealed {
    inner: Arc<dyn Journal>,
    sink: Arc<dyn EvidenceSink>,
}

/// A part of a store whose calls are bounded.
#[derive(Debug)]
struct Bounded<T: ?Sized> {
    inner: Arc<T>,
    runtime: Arc<dyn Runtime>,
}

impl<T: ?Sized + Send + Sync> Bounded<T> {
    async fn ask<A: Send, E: Silent + Send>(
        &self,
        doing: impl FnOnce() -> String + Send,
        call: impl Future<Output = Result<A, E>> + Send,
    ) -> Result<A, E> {
        self.ask_for(Store::PATIENCE, doing, call).await
    }

    async fn ask_for<A: Send, E: Silent + Send>(
        &self,
        limit: Millis,
        doing: impl FnOnce() -> String + Send,
        call: impl Future<Output = Result<A, E>> + Send,
    ) -> Result<A, E> {
        let answer = contain::within(self.runtime.as_ref(), limit, call).await;
        answer.unwrap_or_else(|silence| Err(E::of(doing(), &silence)))
    }
}

/// An error that can say that a store gave no answer.
trait Silent {
    fn of(doing: String, why: &NoAnswer) -> Self;
}

impl Silent for JournalError {
    fn of(doing: String, why: &NoAnswer) -> Self {
        Self::Store { doing, full: false, source: why.to_string().into() }
    }
}

impl Silent for LeaseError {
    fn of(doing: String, why: &NoAnswer) -> Self {
        Self::Store { doing, source: why.to_string().into() }
    }
}

#[async_trait]
impl Journal for Sealed {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.inner.create(run, epoch, lines).await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        self.inner.take_over(run, epoch).await
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.inner.epoch(run).await
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.inner.append(run, epoch, expected, lines).await
    }

    fn linger(&self) -> Millis {
        self.inner.linger()
    }

    fn lies_in(&self) -> Option<SystemId> {
        self.inner.lies_in()
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        self.inner.seal(run, seq).await?;
        let lines = self.inner.read(run, seq.saturating_sub(1)).await?;
        let line = lines.first().filter(|line| line.seq == seq).ok_or_else(|| not_there(run, seq))?;
        let failed =
            |source| JournalError::Store { doing: format!("seal {run}"), full: false, source: Box::new(source) };
        self.sink.seal(run, seq, line.hash).await.map_err(failed)
    }

    async fn use_reserve(&self, run: &RunId) -> bool {
        self.inner.use_reserve(run).await
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        self.inner.read(run, from).await
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.inner.runs().await
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        self.inner.post(run, row).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.inner.inbox(run).await
    }

    fn mark(&self, run: &RunId) -> u64 {
        self.inner.mark(run)
    }

    async fn changed(&self, run: &RunId, since: u64) {
        self.inner.changed(run, since).await;
    }
}

#[async_trait]
impl Journal for Bounded<dyn Journal> {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.ask(|| format!("create {run}"), async { self.inner.create(run, epoch, lines).await }).await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        self.ask(|| format!("raise the epoch of {run}"), async { self.inner.take_over(run, epoch).await }).await
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.ask(|| format!("find the epoch of {run}"), async { self.inner.epoch(run).await }).await
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        let call = async { self.inner.append(run, epoch, expected, lines).await };
        self.ask(|| format!("append to {run}"), call).await
    }

    fn linger(&self) -> Millis {
        contain::at_once(|| self.inner.linger()).unwrap_or_default()
    }

    fn lies_in(&self) -> Option<SystemId> {
        contain::at_once(|| self.inner.lies_in()).ok().flatten()
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        self.ask(|| format!("seal {run}"), async { self.inner.seal(run, seq).await }).await
    }

    async fn use_reserve(&self, run: &RunId) -> bool {
        let call = async { self.inner.use_reserve(run).await };
        contain::within(self.runtime.as_ref(), Store::PATIENCE, call).await.unwrap_or(false)
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        self.ask(|| format!("read {run}"), async { self.inner.read(run, from).await }).await
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.ask(|| "list the runs".into(), async { self.inner.runs().await }).await
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        self.ask(|| format!("post to {run}"), async { self.inner.post(run, row).await }).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.ask(|| format!("read the inbox of {run}"), async { self.inner.inbox(run).await }).await
    }

    fn mark(&self, run: &RunId) -> u64 {
        contain::at_once(|| self.inner.mark(run)).unwrap_or_default()
    }

    /// A store that never says a word is read all the same, once in each [`Store::PATIENCE`]; one that panics no more often than that.
    async fn changed(&self, run: &RunId, since: u64) {
        let call = contain::caught(async { self.inner.changed(run, since).await });
        let ended = contain::within(self.runtime.as_ref(), Store::PATIENCE, call).await;
        if let Ok(Err(_panicked)) = ended {
            self.runtime.sleep_until(self.runtime.now_mono() + Store::PATIENCE).await;
        }
    }
}

#[async_trait]
impl LeaseStore for Bounded<dyn LeaseStore> {
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        let limit = if request.take_over { Store::TAKE_OVER_PATIENCE } else { Store::PATIENCE };
        self.ask_for(limit, || "give a lease".into(), async { self.inner.acquire(request).await }).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, LeaseError> {
        self.ask(|| "renew a lease".into(), async { self.inner.renew(lease).await }).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        self.ask(|| "give a lease back".into(), async { self.inner.release(lease).await }).await
    }

    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError> {
        self.ask(|| "look for a holder".into(), async { self.inner.is_driven(run).await }).await
    }
}

#[async_trait]
impl Registry for Bounded<dyn Registry> {
    async fn keep_group(&self, group: &KeptGroup) -> Result<(), JournalError> {
        let doing = || format!("keep the group {}", group.spec.name);
        self.ask(doing, async { self.inner.keep_group(group).await }).await
    }

    async fn group(&self, digest: Digest) -> Result<Option<KeptGroup>, JournalError> {
        self.ask(|| format!("find the group {digest}"), async { self.inner.group(digest).await }).await
    }

    async fn group_files(&self) -> Result<Vec<(GroupName, String)>, JournalError> {
        self.ask(|| "list the groups".into(), async { self.inner.group_files().await }).await
    }

    async fn saw_writer(&self, group: &GroupName, seen: &LastWriter) -> Result<(), JournalError> {
        let doing = || format!("remember the writer of {group}");
        self.ask(doing, async { self.inner.saw_writer(group, seen).await }).await
    }

    async fn last_writer(&self, group: &GroupName) -> Result<Option<LastWriter>, JournalError> {
        self.ask(|| format!("find the last writer of {group}"), async { self.inner.last_writer(group).await }).await
    }

    async fn keep_sample(&self, group: &GroupName, sample: &PositionSample) -> Result<(), JournalError> {
        self.ask(|| format!("keep a sample of {group}"), async { self.inner.keep_sample(group, sample).await }).await
    }

    async fn samples(&self, group: &GroupName, since: Timestamp) -> Result<Vec<PositionSample>, JournalError> {
        self.ask(|| format!("read the samples of {group}"), async { self.inner.samples(group, since).await }).await
    }

    async fn told(&self, key: &str, run: &RunId, at: Timestamp) -> Result<(), JournalError> {
        self.ask(|| format!("remember a notice of {run}"), async { self.inner.told(key, run, at).await }).await
    }

    async fn was_told(&self, key: &str) -> Result<bool, JournalError> {
        self.ask(|| "look a notice up".into(), async { self.inner.was_told(key).await }).await
    }

    async fn close_debt(&self, id: &DebtId, closed: &Closed) -> Result<(), JournalError> {
        self.ask(|| format!("close {id}"), async { self.inner.close_debt(id, closed).await }).await
    }

    async fn closed_debts(&self) -> Result<Vec<Closed>, JournalError> {
        self.ask(|| "list what was closed".into(), async { self.inner.closed_debts().await }).await
    }
}

fn not_there(run: &RunId, seq: u64) -> JournalError {
    JournalError::Corrupt { run: run.clone(), seq, what: "it is to be sealed and is not there".into() }
}
