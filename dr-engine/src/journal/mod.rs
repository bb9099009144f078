//! The journal in a SQLite file.
//!
//! ```text
//!   append ──► one transaction: epoch is mine? ends where I think? ──► lines + new end ──► flushed ──► answered
//!   post   ──► inbox (insert-only, no epoch): any process ──────────► seen by the holder within 100 ms
//!   read   ──► every text has its hash, every line names the one before, the end is the stored end
//! ```
//!
//! The file must not lie in the database that is failed over, nor on a network file system.

pub(crate) mod chain;
mod debts;
mod groups;
mod samples;
pub(crate) mod sql;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    Millis, RunId, Timestamp,
    base::{Epoch, Json},
    contract::EvidenceSink,
    run::{Head, InboxRow, Journal, JournalError, Line},
};
use rusqlite::Connection;
pub(crate) use samples::Samples;
use tokio::sync::watch;

use crate::store::{OpenError, Store, StoreError, reserve::Reserve};

/// The durable record of runs, in `journal.db` of a directory.
///
/// Cheap to clone: clones share two connections. Reads have one of their own, so that no append waits behind somebody who watches.
#[derive(Debug, Clone)]
pub struct SqliteJournal {
    store: Store,
    reader: Store,
    reserve: Reserve,
    sink: Option<Arc<dyn EvidenceSink>>,
    /// How far the file's changes had gone when a run's inbox was last read.
    seen: Arc<Mutex<BTreeMap<RunId, u64>>>,
}

impl SqliteJournal {
    /// Tells whether there is a journal in `dir`. Nothing is opened or made.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join("journal.db").exists()
    }

    /// Opens the journal in `dir`, making both when they do not exist.
    ///
    /// # Errors
    /// [`OpenError`]: a network file system, a read-only or full disk, a damaged or foreign file.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let file = dir.join("journal.db");
        let store = Store::open(&file, sql::SCHEMA)?;
        let reader = Store::open(&file, sql::SCHEMA)?;
        let reserve = Reserve::in_dir(dir);
        // A disk too full for it does not keep anybody from looking; `create` insists on it.
        let _refused_at_create = reserve.keep();
        Ok(Self { store, reader, reserve, sink: None, seen: Arc::default() })
    }

    /// Seals with `sink` too.
    #[must_use]
    pub fn sealed_by(mut self, sink: Arc<dyn EvidenceSink>) -> Self {
        self.sink = Some(sink);
        self
    }

    /// The end of a run.
    ///
    /// # Errors
    /// [`JournalError::Unknown`], [`JournalError::Store`], [`JournalError::Corrupt`].
    pub async fn head(&self, run: &RunId) -> Result<Head, JournalError> {
        let of = run.clone();
        self.look(format!("find the end of {run}"), move |connection| sql::head(connection, &of)).await
    }

    /// The epoch that may append to a run.
    ///
    /// # Errors
    /// [`JournalError::Unknown`], [`JournalError::Store`].
    pub async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        let of = run.clone();
        self.look(format!("find the epoch of {run}"), move |connection| sql::epoch(connection, &of)).await
    }

    /// Whether a notice of this key was given (D32).
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub async fn was_told(&self, key: &str) -> Result<bool, JournalError> {
        let key = key.to_owned();
        let job = move |connection: &mut Connection| sql::was_told(connection, &key).map(Ok);
        self.ask("look a notice up".to_owned(), job).await
    }

    /// Stores that a notice was given: after it was, so that one that failed is given again.
    ///
    /// # Errors
    /// [`JournalError::Store`].
    pub async fn told(&self, key: &str, run: &RunId, at: Timestamp) -> Result<(), JournalError> {
        let (key, of) = (key.to_owned(), run.clone());
        let job = move |connection: &mut Connection| sql::told(connection, &key, &of, at).map(Ok);
        self.ask(format!("remember a notice of {run}"), job).await
    }

    /// The position samples in this journal's file.
    pub(crate) fn samples(&self) -> Result<Samples, OpenError> {
        Samples::open(self.store.file(), sql::SCHEMA, self.reserve.clone())
    }

    /// Grows whenever something may have been written, by this process or another.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.store.generation()
    }

    async fn ask<T: Send + 'static>(
        &self,
        doing: String,
        job: impl FnOnce(&mut Connection) -> sql::Answer<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.store.call(job).await.map_err(|source| failed(doing, source))?
    }

    async fn look<T: Send + 'static>(
        &self,
        doing: String,
        job: impl FnOnce(&mut Connection) -> sql::Answer<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.reader.call(job).await.map_err(|source| failed(doing, source))?
    }

    async fn change<T: Send + 'static>(
        &self,
        doing: String,
        job: impl FnOnce(&mut Connection) -> sql::Answer<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let done = self.ask(doing, job).await?;
        self.store.touch();
        Ok(done)
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn create(&self, run: &RunId, epoch: Epoch, lines: Vec<Line>) -> Result<Head, JournalError> {
        let (doing, of, reserve) = (format!("create {run}"), run.clone(), self.reserve.clone());
        // Nothing was touched yet: a run that could not write down its last outcome does not begin.
        let kept = tokio::task::spawn_blocking(move || reserve.keep()).await;
        if let Some(source) = kept.map_or_else(|gone| Some(Box::new(gone).into()), |kept| kept.err().map(Into::into)) {
            return Err(JournalError::Store {
                doing: "keep its reserve of room on the disk".into(),
                full: true,
                source,
            });
        }
        self.change(doing, move |connection| sql::create(connection, &of, epoch, &lines)).await
    }

    async fn take_over(&self, run: &RunId, epoch: Epoch) -> Result<(), JournalError> {
        let of = run.clone();
        self.change(format!("raise the epoch of {run}"), move |connection| sql::take_over(connection, &of, epoch)).await
    }

    async fn append(&self, run: &RunId, epoch: Epoch, expected: u64, lines: Vec<Line>) -> Result<Head, JournalError> {
        let of = run.clone();
        let job = move |connection: &mut Connection| sql::append(connection, &of, epoch, expected, &lines);
        self.change(format!("append to {run}"), job).await
    }

    /// A flush costs about a millisecond of a quiet disk, and of whoever else waits for it.
    fn linger(&self) -> Millis {
        Millis::new(100)
    }

    /// Every append is flushed when it answers, so what is left is to see that the line is there, and the sink.
    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        let lines = self.read(run, seq.saturating_sub(1)).await?;
        let Some(line) = lines.first().filter(|line| line.seq == seq) else {
            return Err(JournalError::Corrupt {
                run: run.clone(),
                seq,
                what: "it is to be sealed and is not there".into(),
            });
        };
        let Some(sink) = &self.sink else { return Ok(()) };
        sink.seal(run, seq, line.hash).await.map_err(|source| JournalError::Store {
            doing: format!("seal {run}"),
            full: false,
            source: Box::new(source),
        })
    }

    async fn use_reserve(&self, _: &RunId) -> bool {
        let reserve = self.reserve.clone();
        tokio::task::spawn_blocking(move || reserve.give_up()).await.unwrap_or(false)
    }

    async fn read(&self, run: &RunId, from: u64) -> Result<Vec<Line>, JournalError> {
        let of = run.clone();
        self.look(format!("read {run}"), move |connection| sql::read(connection, &of, from)).await
    }

    async fn runs(&self) -> Result<Vec<RunId>, JournalError> {
        self.look("list the runs".into(), |connection| sql::runs(connection).map(Ok)).await
    }

    async fn post(&self, run: &RunId, row: InboxRow) -> Result<(), JournalError> {
        let of = run.clone();
        let request = row.request.0.to_string();
        self.change(format!("post to {run}"), move |connection| sql::post(connection, &of, &row, &request)).await
    }

    async fn inbox(&self, run: &RunId) -> Result<Vec<InboxRow>, JournalError> {
        let generation = *self.store.generation().borrow();
        let of = run.clone();
        let rows = self.look(format!("read the inbox of {run}"), move |connection| sql::inbox(connection, &of).map(Ok));
        let rows = rows.await?.into_iter().map(|(id, at, request)| match serde_json::from_str(&request) {
            Ok(request) => Ok(InboxRow { id, at, request: Json(request) }),
            Err(error) => {
                let what = format!("the request `{id}` in its inbox is no JSON ({error})");
                Err(JournalError::Corrupt { run: run.clone(), seq: 0, what })
            }
        });
        let rows = rows.collect::<Result<_, _>>()?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), generation);
        Ok(rows)
    }

    /// Measured from the last `inbox`, so that what arrives between that look and this wait is not missed.
    async fn changed(&self, run: &RunId) {
        let mut generation = self.store.generation();
        let now = *generation.borrow();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(run).copied().unwrap_or(now);
        let moved = generation.wait_for(|now| *now != seen);
        // Early wake-ups are allowed: a change that nobody told about is found this much later.
        let _either = tokio::time::timeout(LOOK_ANYWAY, moved).await;
    }
}

fn failed(doing: String, source: StoreError) -> JournalError {
    JournalError::Store { doing, full: source.is_full(), source: Box::new(source) }
}

const LOOK_ANYWAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
