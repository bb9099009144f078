//! Where the examples play: a simulated cloud, a group file and an engine, in one directory.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use dr_core::{Catalog, minutes};
use dr_engine::{Engine, EngineBuilder, TokioRuntime};
use dr_testkit::{Setup, SimCloud};
use tempfile::TempDir;

/// The group file of the examples. Members have no roles: who writes is read from the cloud.
pub const GROUP: &str = include_str!("../groups/orders.toml");

/// A simulated cloud with its group file, and the directory of the engine.
#[derive(Debug)]
pub struct Stage {
    /// The cloud; its truth is what the examples count at the end.
    pub cloud: SimCloud,
    dir: PathBuf,
    // Deleted with the stage.
    _temporary: Option<TempDir>,
}

impl Stage {
    /// In `dir`, or in a new directory that is deleted at the end. The cloud lives in this process.
    ///
    /// # Errors
    /// The directory cannot be written; there is no tokio runtime.
    pub fn open(dir: Option<PathBuf>, setup: Setup) -> Result<Self> {
        let cloud = SimCloud::new(patient(setup), Arc::new(TokioRuntime::current()?));
        Self::around(dir, cloud)
    }

    /// In `dir`, where the cloud is kept in a file: it goes on while no process looks at it, and outlives all of them.
    ///
    /// # Errors
    /// The directory cannot be written; there is no tokio runtime.
    pub fn kept(dir: PathBuf, setup: Setup) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let cloud = SimCloud::open(&dir.join("cloud.json"), patient(setup), Arc::new(TokioRuntime::current()?))?;
        Self::around(Some(dir), cloud)
    }

    fn around(dir: Option<PathBuf>, cloud: SimCloud) -> Result<Self> {
        let temporary = if dir.is_none() { Some(tempfile::tempdir()?) } else { None };
        let dir = dir.or_else(|| temporary.as_ref().map(|made| made.path().to_path_buf())).unwrap_or_default();
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        std::fs::write(dir.join("orders.toml"), GROUP).context("cannot write the group file")?;
        Ok(Self { cloud, dir, _temporary: temporary })
    }

    /// The group file.
    #[must_use]
    pub fn group_file(&self) -> PathBuf {
        self.dir.join("orders.toml")
    }

    /// The directory of the journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// An engine with the built-in steps: journal and leases lie in the directory.
    pub fn engine(&self) -> EngineBuilder {
        self.engine_with(Catalog::built_in())
    }

    /// An engine with steps of one's own.
    pub fn engine_with(&self, steps: Catalog) -> EngineBuilder {
        Engine::open(self.journal()).leases(self.dir.join("leases")).backend(self.cloud.backend()).steps(steps)
    }
}

/// Clients that wait for two minutes: longer than the gap budget of the group file, also on a busy machine.
fn patient(setup: Setup) -> Setup {
    Setup { drain_limit: minutes(2), ..setup }
}
