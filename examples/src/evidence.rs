//! The evidence of an example's run: a root key, a recorder, and how to verify what it wrote.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use dr_core::RunId;
use dr_engine::{SqliteJournal, TokioRuntime};
use dr_evidence::{PublicKey, Recorder, input};

use crate::Stage;

/// What seals the runs of a stage.
#[derive(Debug)]
pub struct Evidence {
    recorder: Recorder,
    root: PublicKey,
}

impl Evidence {
    /// Seals in `dir`, with the root key that lies in `dir/root.key`; it is made where there is none. A real root key does not lie on the
    /// machine that runs the engine for longer than it has to.
    ///
    /// # Errors
    /// The directory or the journal cannot be written.
    pub fn open(dir: PathBuf, stage: &Stage) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = dir.join("root.key");
        if !file.exists() {
            input::new_secret(&file, "example.com/dr-example")?;
        }
        let root = input::read_secret(&file)?;
        let public = root.public().clone();
        let program = concat!("planned_switchover ", env!("CARGO_PKG_VERSION"));
        let journal = SqliteJournal::open(stage.journal())?;
        let recorder = Recorder::new(dir, root, journal, TokioRuntime::current()?, program);
        Ok(Self { recorder, root: public })
    }

    /// The sink for an engine.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Writes the bundle of a run, and answers where it lies.
    ///
    /// # Errors
    /// The bundle cannot be sealed or written.
    pub async fn finish(&self, run: &RunId) -> Result<PathBuf> {
        Ok(self.recorder.finish(run).await?)
    }

    /// The command that verifies a bundle.
    #[must_use]
    pub fn how_to_verify(&self, place: &Path) -> String {
        format!("evidence in {0}; verify it with:\n  dr verify {0} --root {1}\n", place.display(), self.root)
    }
}
