//! Who may act on which resources, on this host: one directory for all engines, apart from every journal.
//!
//! ```text
//!   leases.db            one row per resource: epoch (only grows), run, journal, holder, until when
//!   holders/<process>    a file that the holder keeps locked; the kernel lets go when the process dies
//!
//!   acquire ──► row free? ──────────────────────────► granted, epoch + 1
//!           ├─► holder's file unlocked (dead) ──────► granted, epoch + 1
//!           ├─► same run, and an operator says so ──► marked; the holder's next renewal is refused; its time runs
//!           │                                          out; granted
//!           └─► otherwise ──────────────────────────► Busy
//! ```
//!
//! *Guarantees.* All keys or none. A holder that is alive keeps its lease until it gives it back, or until an operator
//! takes the same run over and the time that the holder was promised is over.
//! *Assumptions.* All engines that can reach the same resources use the same directory. Engines on several hosts need a
//! store that the hosts share; that is another implementation of [`LeaseStore`], such as that of `dr-store-postgres`.

mod holder;
mod sql;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use dr_core::{
    RunId,
    run::{Lease, LeaseError, LeaseRequest, LeaseStore},
};

use self::{
    holder::{Holder, uptime},
    sql::Grant,
};
use crate::store::{OpenError, Store, StoreError};

/// Leases in a directory of this host.
#[derive(Debug, Clone)]
pub struct FileLeases {
    store: Store,
    holder: Arc<Holder>,
    journal: String,
    term: Duration,
}

impl FileLeases {
    /// Opens the leases in `dir`, making it when it does not exist.
    ///
    /// # Errors
    /// [`OpenError`]: a network file system, a read-only or full disk, a damaged or foreign file.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let store = Store::open(&dir.join("leases.db"), sql::SCHEMA)?;
        let failed = |source| OpenError::Directory { path: dir.to_path_buf(), source };
        let holder = Arc::new(Holder::new(dir).map_err(failed)?);
        Ok(Self { store, holder, journal: String::new(), term: TERM })
    }

    /// Opens the leases in the directory that all engines of this host use: `$DR_LEASES`, or `/var/lib/dr/leases`.
    ///
    /// Where that one cannot be used, nothing takes its place: two engines with leases of their own do not see each other, and both would
    /// work on one database.
    ///
    /// # Errors
    /// [`OpenError::Leases`], with what makes the directory usable for everybody who moves databases.
    pub fn open_default() -> Result<Self, OpenError> {
        Self::open_named(std::env::var_os("DR_LEASES"))
    }

    fn open_named(named: Option<std::ffi::OsString>) -> Result<Self, OpenError> {
        let dir = PathBuf::from(named.unwrap_or_else(|| "/var/lib/dr/leases".into()));
        let opened = if dir.is_absolute() {
            Self::open(&dir)
        } else {
            let source = std::io::Error::other("the path is not absolute");
            Err(OpenError::Directory { path: dir.clone(), source })
        };
        opened.map_err(|source| OpenError::Leases { path: dir, source: Box::new(source) })
    }

    /// Says in which journal the runs are: two journals may both have an `orders-17`, and they are not the same run.
    #[must_use]
    pub fn for_journal(mut self, journal: &Path) -> Self {
        self.journal = std::path::absolute(journal).unwrap_or_else(|_| journal.to_path_buf()).display().to_string();
        self
    }

    /// How long a renewal lasts. A live holder is waited for this long when an operator takes its run over.
    #[must_use]
    pub fn lasting(mut self, term: Duration) -> Self {
        self.term = term;
        self
    }

    /// Who holds the resources now, as the store has it: dead holders included.
    ///
    /// # Errors
    /// [`LeaseError::Store`].
    pub async fn held(&self) -> Result<Vec<Lease>, LeaseError> {
        self.ask("list the leases", |connection| sql::held(connection)).await
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.store.file().parent().unwrap_or_else(|| Path::new("."))
    }

    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        job: impl FnOnce(&mut rusqlite::Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, LeaseError> {
        self.store.call(job).await.map_err(|source| failed(doing, source))
    }
}

#[async_trait]
impl LeaseStore for FileLeases {
    /// *Cancellation.* A dropped future may leave the keys granted to this process; acquire again with `take_over`.
    async fn acquire(&self, request: LeaseRequest) -> Result<Lease, LeaseError> {
        let request = Arc::new(request);
        loop {
            let (asked, holder) = (Arc::clone(&request), Arc::clone(&self.holder));
            let (journal, term) = (self.journal.clone(), self.term);
            let job = move |connection: &mut rusqlite::Connection| {
                sql::acquire(connection, &asked, &sql::Claim { journal: &journal, holder: &holder, term })
            };
            match self.ask("give a lease", job).await? {
                Grant::Given(epoch) => {
                    return Ok(Lease {
                        keys: request.keys.clone(),
                        run: request.run.clone(),
                        epoch,
                        holder: request.holder.clone(),
                        since: request.at,
                    });
                }
                Grant::Refused(busy) => return Err(*busy),
                Grant::Wait(left) => tokio::time::sleep(left.min(LOOK_EVERY)).await,
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, LeaseError> {
        let (asked, journal) = (lease.clone(), self.journal.clone());
        let until = uptime().saturating_add(self.term);
        let renewed =
            self.ask("renew a lease", move |connection| sql::renew(connection, &asked, &journal, until)).await?;
        if renewed { Ok(until.saturating_sub(uptime())) } else { Err(LeaseError::Lost { run: lease.run.clone() }) }
    }

    async fn release(&self, lease: &Lease) -> Result<(), LeaseError> {
        let (asked, journal) = (lease.clone(), self.journal.clone());
        self.ask("give a lease back", move |connection| sql::release(connection, &asked, &journal)).await
    }

    /// As far as this host can tell: a holder without proof of death lives.
    async fn is_driven(&self, run: &RunId) -> Result<bool, LeaseError> {
        let (run, journal, holder) = (run.to_string(), self.journal.clone(), Arc::clone(&self.holder));
        self.ask("look for a holder", move |connection| sql::is_driven(connection, &run, &journal, &holder)).await
    }
}

fn failed(doing: &str, source: StoreError) -> LeaseError {
    LeaseError::Store { doing: doing.to_owned(), source: Box::new(source) }
}

const TERM: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
