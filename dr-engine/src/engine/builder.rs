//! How an engine comes to be.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use dr_core::{
    Backend, Catalog, Notifier,
    contract::{EvidenceSink, Runtime},
};

use super::{Engine, Inner};
use crate::{
    Error, FileLeases, SqliteJournal, TokioRuntime, backends::Backends, desk::Desk, guard::GuardProgram,
    store::OpenError,
};

/// An engine in the making. Nothing is opened before [`EngineBuilder::start`].
#[derive(Debug)]
#[must_use = "nothing is opened before `start`"]
pub struct EngineBuilder {
    dir: PathBuf,
    backends: Backends,
    catalog: Catalog,
    sink: Option<Arc<dyn EvidenceSink>>,
    leases: Option<PathBuf>,
    notifiers: Vec<Arc<dyn Notifier>>,
    guard: Option<GuardProgram>,
    unguarded: bool,
    holder: Option<String>,
    watching: bool,
    existing: bool,
}

impl EngineBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            backends: Backends::default(),
            catalog: Catalog::built_in(),
            sink: None,
            leases: None,
            notifiers: Vec::new(),
            guard: None,
            unguarded: false,
            holder: None,
            watching: true,
            existing: false,
        }
    }

    /// Adds a backend: it answers for the names in group files that begin with its prefix.
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backends.add(Arc::new(backend));
        self
    }

    /// Adds backends that are shared already.
    pub fn backends(mut self, backends: impl IntoIterator<Item = Arc<dyn Backend>>) -> Self {
        backends.into_iter().for_each(|backend| self.backends.add(backend));
        self
    }

    /// Step kinds that plans may use besides the built-in ones.
    pub fn steps(mut self, catalog: Catalog) -> Self {
        self.catalog = self.catalog.and(catalog);
        self
    }

    /// Seals what runs write with `sink`, before every call that must happen at most once.
    pub fn evidence(mut self, sink: impl EvidenceSink) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }

    /// Keeps the leases in `dir` instead of the directory that all engines of this host use. Engines exclude each other only
    /// within one directory.
    pub fn leases(mut self, dir: impl AsRef<Path>) -> Self {
        self.leases = Some(dir.as_ref().to_path_buf());
        self
    }

    /// Tells `notifier` what people should know.
    pub fn notifier(mut self, notifier: impl Notifier) -> Self {
        self.notifiers.push(Arc::new(notifier));
        self
    }

    /// The program that guards drains: the `dr` binary, or a program of yours whose hidden verb `__guard` calls
    /// [`EngineBuilder::guard`]. `args` come before that verb.
    pub fn guarded_by(mut self, program: impl AsRef<Path>, args: impl IntoIterator<Item = OsString>) -> Self {
        self.guard = Some(GuardProgram::new(program.as_ref(), args));
        self
    }

    /// Accepts that nobody ends a drain if this process dies during it. Plans say so in their preview.
    pub fn unguarded(mut self) -> Self {
        self.unguarded = true;
        self
    }

    /// What others are told about who drives a run here. Default: the process and the host.
    pub fn holder(mut self, name: impl Into<String>) -> Self {
        self.holder = Some(name.into());
        self
    }

    /// Does not sample positions by itself. A failover without samples has an unknown loss.
    pub fn without_watcher(mut self) -> Self {
        self.watching = false;
        self
    }

    /// Opens only a journal that is there: whoever looks for a run in the wrong directory is told so, and leaves no new journal behind.
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Opens the journal and the leases. No run is driven before [`Engine::resume`] or [`Engine::start`].
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NoRuntime`].
    pub async fn start(self) -> Result<Engine, Error> {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime::current().map_err(|_| Error::NoRuntime)?);
        if self.existing && !SqliteJournal::is_in(&self.dir) {
            return Err(OpenError::Nothing { path: self.dir }.into());
        }
        let (dir, lease_dir) = (self.dir.clone(), self.leases.clone());
        let opened = tokio::task::spawn_blocking(move || open(&dir, lease_dir.as_deref())).await;
        let (journal, leases, samples) = opened.map_err(|_| Error::NoRuntime)??;
        let desk = Desk::new(samples, &journal, self.notifiers);
        let journal = match self.sink {
            Some(sink) => journal.sealed_by(sink),
            None => journal,
        };
        let holder = self.holder.unwrap_or_else(|| format!("process {} on {}", std::process::id(), host()));
        Ok(Engine::of(Inner {
            dir: self.dir,
            runtime,
            journal,
            leases,
            desk: Arc::new(desk),
            backends: self.backends,
            catalog: self.catalog,
            holder,
            guard: self.guard,
            unguarded: self.unguarded,
            watching: self.watching,
            drives: std::sync::Mutex::default(),
            watchers: std::sync::Mutex::default(),
        }))
    }
}

fn open(dir: &Path, leases: Option<&Path>) -> Result<(SqliteJournal, FileLeases, crate::journal::Samples), OpenError> {
    let journal = SqliteJournal::open(dir)?;
    let samples = journal.samples()?;
    let leases = match leases {
        Some(dir) => FileLeases::open(dir)?,
        None => FileLeases::open_default()?,
    };
    // One journal has one name, however it was reached.
    let name = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    Ok((journal, leases.for_journal(&name), samples))
}

fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
