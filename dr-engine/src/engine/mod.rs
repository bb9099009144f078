//! The engine: plans, runs, and what people may ask of them.
//!
//! ```text
//!   Engine::open(dir) ──start──► Engine ──group──► Group ──plan──► Verified ──start──► Run ──► watch, answer, report
//!                                   └──resume: every unfinished run, each for itself
//! ```
//!
//! Opening drives nothing. A run outlives the value that started it, and the process too.

mod builder;
mod debts;
mod drive;
mod planning;
mod run;
mod status;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dr_core::{Catalog, GroupName, GroupSpec, RunId, contract::Runtime, run::Store};

pub use builder::EngineBuilder;
pub use drive::{Resumed, Start};
pub use run::{Events, Run, Watch};
pub use status::{GroupStatus, RunSummary};

use self::drive::Driving;
use crate::{
    Error, GroupFile,
    backends::{Backends, Bindings},
    desk::Desk,
    guard::GuardProgram,
};

/// An embedded engine. Cheap to clone; clones are the same engine.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// Where local files lie; an engine over a store of one's own may have none.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) store: Store,
    pub(crate) desk: Arc<Desk>,
    pub(crate) backends: Backends,
    pub(crate) catalog: Catalog,
    pub(crate) holder: String,
    pub(crate) guard: Option<GuardProgram>,
    /// Where guards keep their logs and locks.
    pub(crate) guards: Option<PathBuf>,
    /// What tells a guard where the store is.
    pub(crate) guard_args: Vec<std::ffi::OsString>,
    pub(crate) unguarded: bool,
    pub(crate) watching: bool,
    pub(crate) drives: Mutex<BTreeMap<RunId, Driving>>,
    pub(crate) watchers: Mutex<BTreeMap<GroupName, crate::watcher::Watcher>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for watcher in lock(&self.watchers).values() {
            watcher.stop();
        }
    }
}

/// A group whose file was read and whose providers were opened. No call was made.
#[derive(Clone, Debug)]
pub struct Group {
    spec: GroupSpec,
    file: String,
    bindings: Bindings,
}

impl Group {
    /// What the file says.
    #[must_use]
    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// The file's path as it was given.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn bindings(&self) -> &Bindings {
        &self.bindings
    }
}

impl Engine {
    /// The engine around what a task of its own holds.
    pub(crate) fn around(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner) }
    }

    /// An engine of this host: its journal is in `dir`, made when it does not exist and refused on a network file system; its leases are in
    /// the directory that all engines of the host share.
    pub fn open(dir: impl AsRef<Path>) -> EngineBuilder {
        EngineBuilder::new(dir.as_ref())
    }

    /// An engine over a store of one's own, such as one that several hosts share. Every call of it is bounded
    /// ([`Store::PATIENCE`](dr_core::run::Store::PATIENCE)), and a panic is an error of that call.
    ///
    /// ```
    /// use dr_engine::{Engine, VolatileStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), dr_engine::Error> {
    /// let store = VolatileStore::new(); // forgets everything with the process
    /// let engine = Engine::over(store.clone()).start().await?;
    /// let other = Engine::over(store).start().await?; // goes on with the runs of the first one
    /// assert!(engine.runs().await?.is_empty() && other.runs().await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn over(store: impl Into<Store>) -> EngineBuilder {
        EngineBuilder::with(store.into())
    }

    fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Reads a group file and opens what it names. No call is made.
    ///
    /// # Errors
    /// [`Error::Group`], with file, line and what helps.
    pub fn group(&self, file: impl AsRef<Path>) -> Result<Group, Error> {
        let file = GroupFile::read(file.as_ref())?;
        self.group_of(&file)
    }

    /// Opens what a group file that was read already names. No call is made.
    ///
    /// # Errors
    /// [`Error::Group`], with file, line and what helps.
    pub fn group_of(&self, file: &GroupFile) -> Result<Group, Error> {
        let spec = file.spec().clone();
        let bindings = self.inner.backends.open(&spec).map_err(|error| file.locate(&error))?;
        self.inner.desk.put(&spec, &bindings);
        // Found again by a run that is resumed from another directory.
        let path = std::path::absolute(file.path()).unwrap_or_else(|_| file.path().to_path_buf());
        Ok(Group { spec, file: path.display().to_string(), bindings })
    }

    /// The run of this name.
    ///
    /// # Errors
    /// None for a name that does not exist: the first use of the run says so.
    pub fn run(&self, run: &RunId) -> Result<Run, Error> {
        Ok(Run::new(self.clone(), run.clone()))
    }

    /// All runs, oldest first. A run that cannot be read is listed with its fault.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn runs(&self) -> Result<Vec<RunSummary>, Error> {
        let mut runs = Vec::new();
        for run in self.inner.store.journal.runs().await? {
            runs.push(status::summary(self, run).await);
        }
        Ok(runs)
    }

    /// The groups that runs of this journal were made for, with their files.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn known_groups(&self) -> Result<Vec<(GroupName, PathBuf)>, Error> {
        let files = self.inner.store.registry.group_files().await?;
        Ok(files.into_iter().map(|(name, file)| (name, PathBuf::from(file))).collect())
    }

    /// The directory of the journal; none for an engine over a store of one's own.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.inner.dir.as_deref()
    }

    /// Stops driving every run of this engine, which leaves them as they are: they can be resumed by another. Calls that have
    /// left are not taken back.
    pub async fn close(self) {
        let drives: Vec<Driving> = std::mem::take(&mut *lock(&self.inner.drives)).into_values().collect();
        for driving in drives {
            driving.stop().await;
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// A value behind a lock that no panic can leave half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
