//! A journal that takes its time, or answers something else than what it did.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use dr_core::{
    Millis, RunId,
    base::Epoch,
    contract::Runtime,
    run::{Head, InboxRow, Journal, JournalError, Line},
};
use dr_testkit::{MemoryJournal, VirtualRuntime};

/// What becomes of one append.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Append {
    /// Stored and answered.
    Well,
    /// Stored; the answer says that it was not.
    StoredWithError,
    /// Stored by a first try, and the answer says that the end is another one.
    StoredWithConflict,
    /// Stored; meanwhile another engine raised the epoch, and the answer says that it was not stored.
    StoredAndTakenOver,
}

#[derive(Debug)]
pub(crate) struct Stubborn {
    inner: MemoryJournal,
    rt: VirtualRuntime,
    takes: Mutex<Millis>,
    lingers: Mutex<Millis>,
    next: Mutex<VecDeque<Append>>,
    /// The sealing of a journal fails this often.
    seals_fail: Mutex<u32>,
}

impl Stubborn {
    pub(crate) fn new(inner: &MemoryJournal, rt: &VirtualRuntime) -> Arc<Self> {
        Arc::new(Self {
            inner: inner.clone(),
            rt: rt.clone(),
            takes: Mutex::new(Millis::ZERO),
            lingers: Mutex::new(Millis::ZERO),
            next: Mutex::default(),
            seals_fail: Mutex::new(0),
        })
    }

    /// Every append takes this long before it is stored.
    pub(crate) fn takes(&self, time: Millis) {
        *self.takes.lock().unwrap() = time;
    }

    /// Outcomes may wait this long for company.
    pub(crate) fn lingers(&self, time: Millis) {
        *self.lingers.lock().unwrap() = time;
    }

    /// The next appends end like this.
    pub(crate) fn next(&self, appends: &[Append]) {
        self.next.lock().unwrap().extend(appends);
    }

    pub(crate) fn seals_fail(&self, times: u32) {
        *self.seals_fail.lock().unwrap() = times;
    }
}

fn lost(doing: &str) -> JournalError {
    JournalError::Store { doing: doing.into(), full: false, source: "the answer is lost".into() }
}

#[async_trait]
impl Journal for Stubborn {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        self.inner.create(run, epoch, lines).await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        self.inner.take_over(run, epoch).await
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        let takes = *self.takes.lock().unwrap();
        if takes > Millis::ZERO {
            self.rt.sleep_until(self.rt.now_mono() + takes).await;
        }
        let next = self.next.lock().unwrap().pop_front().unwrap_or(Append::Well);
        let stored = self.inner.append(run, epoch, expected, lines).await?;
        match next {
            Append::Well => Ok(stored),
            Append::StoredWithError => Err(lost("append")),
            Append::StoredWithConflict => Err(JournalError::Conflict { run: run.clone(), expected, found: stored.seq }),
            Append::StoredAndTakenOver => {
                self.inner.take_over(run, epoch.next()).await?;
                Err(lost("append"))
            }
        }
    }

    fn linger(&self) -> Millis {
        *self.lingers.lock().unwrap()
    }

    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        {
            let mut left = self.seals_fail.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Err(lost("seal"));
            }
        }
        self.inner.seal(run, seq).await
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

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        self.inner.epoch(run).await
    }

    fn mark(&self, run: &RunId) -> u64 {
        self.inner.mark(run)
    }

    async fn changed(&self, run: &RunId, since: u64) {
        self.inner.changed(run, since).await;
    }
}
