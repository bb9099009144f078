//! A store without a disk: for trials and tests, where the process is the world.
//!
//! *Guarantees.* Those of [`Journal`], [`LeaseStore`] and [`Registry`](dr_core::run::Registry), as long as the process lives. *Assumptions.* A holder that does not
//! renew is gone: nobody proves the death of an engine within a process.

mod registry;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    RunId,
    base::{Epoch, ResourceAddress},
    run::{Head, InboxRow, Journal, JournalError, Lease, LeaseError, LeaseRequest, LeaseStore, Line, Store, chain},
};
use tokio::{sync::watch, time::Instant};

/// A store that really stores, checks, excludes and fences, and forgets everything with the process. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct VolatileStore {
    shelf: Arc<Mutex<Shelf>>,
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shelf {
    order: Vec<RunId>,
    runs: BTreeMap<RunId, Kept>,
    leases: BTreeMap<ResourceAddress, Row>,
    beside: registry::Beside,
    /// How long a renewal lasts, if it was said.
    term: Option<Duration>,
}

impl Shelf {
    fn term(&self) -> Duration {
        self.term.unwrap_or(TERM)
    }
}

#[derive(Debug)]
struct Kept {
    epoch: Epoch,
    lines: Vec<Line>,
    inbox: Vec<InboxRow>,
}

impl Kept {
    fn head(&self) -> Head {
        self.lines.last().map_or(Head::EMPTY, |line| Head { seq: line.seq, hash: line.hash })
    }
}

/// What was last granted of a resource. It outlives the lease: the epoch must not start again.
#[derive(Clone, Debug)]
struct Row {
    lease: Lease,
    /// When it lapses; none once it was given back.
    until: Option<Instant>,
    contested: bool,
}

impl Row {
    fn left(&self) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    fn is(&self, lease: &Lease) -> bool {
        self.lease == *lease && self.until.is_some() && !self.contested
    }
}

impl VolatileStore {
    /// An empty store. A lease lasts a minute without being renewed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a renewal of a lease lasts.
    #[must_use]
    pub fn lasting(self, term: Duration) -> Self {
        self.shelf().term = Some(term);
        self
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, run: &RunId, job: impl FnOnce(&mut Kept) -> Result<T, JournalError>) -> Result<T, JournalError> {
        self.shelf().runs.get_mut(run).map_or_else(|| Err(JournalError::Unknown(run.clone())), job)
    }

    fn touch(&self) {
        self.generation.send_modify(|generation| *generation = generation.wrapping_add(1));
    }
}

impl From<VolatileStore> for Store {
    fn from(store: VolatileStore) -> Self {
        Self::of(store)
    }
}

#[async_trait]
impl Journal for VolatileStore {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        let mut shelf = self.shelf();
        if let Some(kept) = shelf.runs.get(run) {
            return Err(JournalError::Conflict { run: run.clone(), expected: 0, found: kept.head().seq });
        }
        let head = chain::follow(run, Head::EMPTY, &lines)?;
        shelf.order.push(run.clone());
        shelf.runs.insert(run.clone(), Kept { epoch, lines, inbox: Vec::new() });
        drop(shelf);
        self.touch();
        Ok(head)
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        self.with(run, |kept| {
            if epoch <= kept.epoch {
                return Err(JournalError::Fenced { held: kept.epoch, mine: epoch });
            }
            kept.epoch = epoch;
            Ok(())
        })?;
        self.touch();
        Ok(())
    }

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.with(run, |kept| Ok(kept.epoch))
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        let head = self.with(run, |kept| {
            if kept.epoch != epoch {
                return Err(JournalError::Fenced { held: kept.epoch, mine: epoch });
            }
            let head = kept.head();
            if head.seq != expected {
                return Err(JournalError::Conflict { run: run.clone(), expected, found: head.seq });
            }
            let head = chain::follow(run, head, &lines)?;
            kept.lines.extend(lines);
            Ok(head)
        })?;
        self.touch();
        Ok(head)
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        self.with(run, |kept| {
            if kept.head().seq >= seq {
                return Ok(());
            }
            Err(JournalError::Corrupt { run: run.clone(), seq, what: "it is to be sealed and is not there".into() })
        })
    }

    async fn use_reserve(&self, _: &RunId) -> bool {
        false
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        self.with(run, |kept| {
            chain::follow(run, Head::EMPTY, &kept.lines)?;
            Ok(kept.lines.iter().filter(|line| line.seq > from).cloned().collect())
        })
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        Ok(self.shelf().order.clone())
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        self.with(run, |kept| {
            if kept.inbox.iter().all(|earlier| earlier.id != row.id) {
                kept.inbox.push(row);
            }
            Ok(())
        })?;
        self.touch();
        Ok(())
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        self.with(run, |kept| Ok(kept.inbox.clone()))
    }

    fn mark(&self, _: &RunId) -> u64 {
        *self.generation.borrow()
    }

    async fn changed(&self, _: &RunId, since: u64) {
        // The sender lives as long as `self`, so this ends only by a change.
        let _moved = self.generation.subscribe().wait_for(|now| *now != since).await.is_ok();
    }
}

#[async_trait]
impl LeaseStore for VolatileStore {
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        loop {
            let wait = {
                let mut shelf = self.shelf();
                match contest(&mut shelf, &request)? {
                    Some(wait) => wait,
                    None => return Ok(grant(&mut shelf, &request)),
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, LeaseError> {
        let mut shelf = self.shelf();
        let until = Instant::now().checked_add(shelf.term());
        let mine = |key| shelf.leases.get(key).is_some_and(|row| row.is(lease));
        if !lease.keys.iter().all(mine) {
            return Err(LeaseError::Lost { run: lease.run.clone() });
        }
        for row in shelf.leases.values_mut().filter(|row| row.is(lease)) {
            row.until = until;
        }
        Ok(shelf.term())
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        for row in self.shelf().leases.values_mut().filter(|row| row.lease == *lease) {
            row.until = None;
        }
        Ok(())
    }

    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError> {
        Ok(self.shelf().leases.values().any(|row| row.lease.run == *run && !row.left().is_zero()))
    }
}

/// Refuses a request for what another run holds; marks what the same run holds, and answers how long that is waited for.
fn contest(shelf: &mut Shelf, request: &LeaseRequest) -> Result<Option<Duration>, LeaseError> {
    let mut wait = Duration::ZERO;
    for key in &request.keys {
        let Some(row) = shelf.leases.get(key).filter(|row| !row.left().is_zero()) else { continue };
        if row.lease.run != request.run || !request.take_over {
            let Lease { run, holder, since, .. } = row.lease.clone();
            return Err(LeaseError::Busy { key: key.clone(), run, holder, since });
        }
        wait = wait.max(row.left());
    }
    if wait.is_zero() {
        return Ok(None);
    }
    let held = |row: &&mut Row| row.lease.run == request.run && !row.left().is_zero();
    for row in shelf.leases.values_mut().filter(held) {
        row.contested = true;
    }
    Ok(Some(wait))
}

fn grant(shelf: &mut Shelf, request: &LeaseRequest) -> Lease {
    let earlier = request.keys.iter().filter_map(|key| shelf.leases.get(key)).map(|row| row.lease.epoch);
    let lease = Lease {
        keys: request.keys.clone(),
        run: request.run.clone(),
        epoch: earlier.fold(request.above, Epoch::max).next(),
        holder: request.holder.clone(),
        since: request.at,
    };
    let until = Instant::now().checked_add(shelf.term());
    for row in shelf.leases.values_mut().filter(|row| row.lease.run == request.run) {
        row.until = None;
    }
    for key in &request.keys {
        shelf.leases.insert(key.clone(), Row { lease: lease.clone(), until, contested: false });
    }
    lease
}

const TERM: Duration = Duration::from_secs(60);
