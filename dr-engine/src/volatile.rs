//! A journal without a disk: for trials and tests, where the process is the world.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use dr_core::{
    RunId,
    base::Epoch,
    run::{Head, InboxRow, Journal, JournalError, Line},
};
use tokio::sync::watch;

use crate::journal::chain;

/// A journal that really stores, checks and fences, and forgets everything with the process.
#[derive(Debug, Default)]
pub struct VolatileJournal {
    shelf: Mutex<Shelf>,
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shelf {
    order: Vec<RunId>,
    runs: BTreeMap<RunId, Kept>,
}

#[derive(Debug)]
struct Kept {
    epoch: Epoch,
    lines: Vec<Line>,
    inbox: Vec<InboxRow>,
    /// The generation when the inbox was last read.
    seen: Option<u64>,
}

impl Kept {
    fn head(&self) -> Head {
        self.lines.last().map_or(Head::EMPTY, |line| Head { seq: line.seq, hash: line.hash })
    }
}

impl VolatileJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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

#[async_trait]
impl Journal for VolatileJournal {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        let mut shelf = self.shelf();
        if let Some(kept) = shelf.runs.get(run) {
            return Err(JournalError::Conflict { run: run.clone(), expected: 0, found: kept.head().seq });
        }
        let head = chain::follow(run, Head::EMPTY, &lines)?;
        shelf.order.push(run.clone());
        shelf.runs.insert(run.clone(), Kept { epoch, lines, inbox: Vec::new(), seen: None });
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
        let generation = *self.generation.borrow();
        self.with(run, |kept| {
            kept.seen = Some(generation);
            Ok(kept.inbox.clone())
        })
    }

    async fn changed(&self, run: &RunId) {
        let seen = self.with(run, |kept| Ok(kept.seen)).unwrap_or_default();
        let mut generation = self.generation.subscribe();
        // The sender lives as long as `self`, so this ends only by a change.
        let _moved = generation.wait_for(|now| Some(*now) != seen).await.is_ok();
    }
}
