//! A world in a file, so that it survives the process that looks at it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::world::World;

/// The simulated cloud's file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be read, written or locked.
    #[error("the simulated cloud in `{}` could not be {doing}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// What is in the file is no simulated cloud of this version.
    #[error("`{}` holds no simulated cloud of this version; delete it to begin with a new one", .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Where a world is kept.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    lock: File,
    trouble: Mutex<Option<io::Error>>,
}

/// The file lock is held.
#[must_use]
pub(crate) struct Held;

impl Store {
    pub(crate) fn open(path: &Path, fresh: World) -> Result<(Self, World), OpenError> {
        let fail = |doing| move |source| OpenError::File { path: path.to_owned(), doing, source };
        let beside = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&beside).map_err(fail("locked"))?;
        let store = Self { path: path.to_owned(), lock, trouble: Mutex::default() };
        store.lock.lock().map_err(fail("locked"))?;
        let world = match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| OpenError::Content { path: path.to_owned(), source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                store.write(&fresh).map_err(fail("written")).map(|()| fresh)
            }
            Err(error) => Err(fail("read")(error)),
        };
        let unlocked = store.lock.unlock().map_err(fail("unlocked"));
        let world = world?;
        unlocked?;
        Ok((store, world))
    }

    /// Locks the file and takes what other processes left there.
    pub(crate) fn load(&self, world: &mut World) -> Held {
        self.note(self.lock.lock());
        let read = fs::read(&self.path).and_then(|bytes| serde_json::from_slice::<World>(&bytes).map_err(Into::into));
        match read {
            Ok(mut stored) => {
                std::mem::swap(&mut stored.hooks, &mut world.hooks);
                *world = stored;
            }
            Err(error) => self.note(Err(error)),
        }
        Held
    }

    pub(crate) fn save(&self, world: &World, _held: Held) {
        self.note(self.write(world));
        self.note(self.lock.unlock());
    }

    /// The first trouble since this was last asked.
    pub(crate) fn trouble(&self) -> Option<io::Error> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    fn write(&self, world: &World) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let bytes = serde_json::to_vec(world)?;
        // The rename makes it whole for every process, also after a SIGKILL; a power loss takes simulated databases, too.
        fs::write(&beside, &bytes)?;
        fs::rename(&beside, &self.path)
    }
}
