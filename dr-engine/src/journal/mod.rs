//! The journal in a SQLite file.
//!
//! ```text
//!   append ──► one transaction: epoch is mine? ends where I think? ──► lines + new end ──► flushed ──► answered
//!   post   ──► inbox (insert-only, no epoch): any process ──────────► seen by the holder within 100 ms
//!   read   ──► every text has its hash, every line names the one before, the end is the stored end
//! ```
//!
//! The file must not lie in the database that is failed over, nor on a network file system.

mod registry;
mod samples;
pub(crate) mod sql;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use dr_core::{
    Millis, RunId,
    base::{Epoch, Json},
    run::{Head, InboxRow, Journal, JournalError, Line},
};
use rusqlite::Connection;
use samples::Samples;

use crate::store::{OpenError, Store, StoreError, reserve::Reserve};

/// The durable record of runs, in `journal.db` of a directory.
///
/// Cheap to clone: clones share three connections. Reads and samples have one each, so that no append waits behind somebody who watches.
#[derive(Debug, Clone)]
pub struct SqliteJournal {
    store: Store,
    reader: Store,
    reserve: Reserve,
    samples: Samples,
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
        let samples = Samples::open(&file, sql::SCHEMA, reserve.clone())?;
        Ok(Self { store, reader, reserve, samples })
    }

    /// The end of a run.
    ///
    /// # Errors
    /// [`JournalError::Unknown`], [`JournalError::Store`], [`JournalError::Corrupt`].
    pub async fn head(&self, run: &RunId) -> Result<Head, JournalError> {
        let of = run.clone();
        self.look(format!("find the end of {run}"), move |connection| sql::head(connection, &of)).await
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

    async fn epoch(&self, run: &RunId) -> Result<Epoch, JournalError> {
        let of = run.clone();
        self.look(format!("find the epoch of {run}"), move |connection| sql::epoch(connection, &of)).await
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

    /// Every append is flushed when it answers, so what is left is to see that the line is there.
    async fn seal(&self, run: &RunId, seq: u64) -> Result<(), JournalError> {
        if self.head(run).await?.seq >= seq {
            return Ok(());
        }
        Err(JournalError::Corrupt { run: run.clone(), seq, what: "it is to be sealed and is not there".into() })
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
        let of = run.clone();
        let rows = self.look(format!("read the inbox of {run}"), move |connection| sql::inbox(connection, &of).map(Ok));
        let rows = rows.await?.into_iter().map(|(id, at, request)| match serde_json::from_str(&request) {
            Ok(request) => Ok(InboxRow { id, at, request: Json(request) }),
            Err(error) => {
                let what = format!("the request `{id}` in its inbox is no JSON ({error})");
                Err(JournalError::Corrupt { run: run.clone(), seq: 0, what })
            }
        });
        rows.collect()
    }

    fn mark(&self, _: &RunId) -> u64 {
        *self.store.generation().borrow()
    }

    async fn changed(&self, _: &RunId, since: u64) {
        let mut generation = self.store.generation();
        let moved = generation.wait_for(|now| *now != since);
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
