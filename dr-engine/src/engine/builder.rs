//! How an engine comes to be.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use dr_core::{
    Backend, Catalog, Notifier,
    contract::{EvidenceSink, Runtime},
    run::Store,
};

use super::{Engine, Inner};
use crate::{
    Error, FileLeases, SqliteJournal, TokioRuntime, backends::Backends, desk::Desk, guard::GuardProgram,
    store::OpenError,
};

/// Where an engine's store is.
#[derive(Debug)]
enum Place {
    /// Files of this host.
    Host(PathBuf),
    /// A store of one's own.
    Given(Store),
}

/// An engine in the making. Nothing is opened before [`EngineBuilder::start`].
#[derive(Debug)]
#[must_use = "nothing is opened before `start`"]
pub struct EngineBuilder {
    place: Place,
    backends: Backends,
    catalog: Catalog,
    sink: Option<Arc<dyn EvidenceSink>>,
    leases: Option<PathBuf>,
    notifiers: Vec<Arc<dyn Notifier>>,
    guard: Option<GuardProgram>,
    guards: Option<PathBuf>,
    unguarded: bool,
    holder: Option<String>,
    watching: bool,
    existing: bool,
}

impl EngineBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        Self { guards: Some(dir.join("guards")), ..Self::over(Place::Host(dir.to_path_buf())) }
    }

    pub(super) fn with(store: Store) -> Self {
        Self::over(Place::Given(store))
    }

    fn over(place: Place) -> Self {
        Self {
            place,
            backends: Backends::default(),
            catalog: Catalog::built_in(),
            sink: None,
            leases: None,
            notifiers: Vec::new(),
            guard: None,
            guards: None,
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
    /// within one directory. An engine over a store of one's own has the leases of that store, and refuses to start with a directory too.
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
    /// [`EngineBuilder::guard`]. `args` come before that verb. Behind it stand `--journal DIR --leases DIR --run RUN`; for an engine over a
    /// store of one's own `--run RUN` alone: the program knows its store, and opens it by itself, as another process.
    pub fn guarded_by(mut self, program: impl AsRef<Path>, args: impl IntoIterator<Item = OsString>) -> Self {
        self.guard = Some(GuardProgram::new(program.as_ref(), args));
        self
    }

    /// Keeps the logs and locks of drain guards in `dir` of this host: the directory `guards` beside a journal in files. An engine over a store
    /// of one's own keeps none unless a directory is named here; two guards of one run then do the same thing twice, which is harmless.
    pub fn guards(mut self, dir: impl AsRef<Path>) -> Self {
        self.guards = Some(dir.as_ref().to_path_buf());
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

    /// Opens only a journal that is there: whoever looks for a run in the wrong directory is told so, and leaves no new journal behind. A store
    /// of one's own is there already.
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
        let (store, dir, guard_args) = match self.place {
            Place::Given(_) if self.leases.is_some() => return Err(OpenError::TwoLeases.into()),
            Place::Given(store) => (store, None, Vec::new()),
            Place::Host(dir) => {
                let (store, args) = of_host(dir.clone(), self.leases, self.existing).await?;
                (store, Some(dir), args)
            }
        };
        let store = match self.sink {
            Some(sink) => store.sealed_by(sink),
            None => store,
        };
        let store = store.bounded(&runtime);
        let holder = self.holder.unwrap_or_else(|| format!("process {} on {}", std::process::id(), host()));
        Ok(Engine::of(Inner {
            dir,
            runtime,
            desk: Arc::new(Desk::new(&store.registry, self.notifiers)),
            store,
            backends: self.backends,
            catalog: self.catalog,
            holder,
            guard: self.guard,
            guards: self.guards,
            guard_args,
            unguarded: self.unguarded,
            watching: self.watching,
            drives: std::sync::Mutex::default(),
            watchers: std::sync::Mutex::default(),
        }))
    }
}

/// Opens the files of this host, and answers what a guard needs to open them too.
async fn of_host(dir: PathBuf, leases: Option<PathBuf>, existing: bool) -> Result<(Store, Vec<OsString>), Error> {
    if existing && !SqliteJournal::is_in(&dir) {
        return Err(OpenError::Nothing { path: dir }.into());
    }
    let opened = tokio::task::spawn_blocking(move || {
        let journal = SqliteJournal::open(&dir)?;
        let leases = match leases {
            Some(dir) => FileLeases::open(dir)?,
            None => FileLeases::open_default()?,
        };
        // One journal has one name, however it was reached.
        let name = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        Ok::<_, OpenError>((journal, leases.for_journal(&name), dir))
    });
    let (journal, leases, dir) = opened.await.map_err(|_| Error::NoRuntime)??;
    let args = ["--journal".into(), dir.into(), "--leases".into(), leases.dir().into()];
    let registry = Arc::new(journal.clone());
    Ok((Store { journal: Arc::new(journal), leases: Arc::new(leases), registry }, args.into()))
}

fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
