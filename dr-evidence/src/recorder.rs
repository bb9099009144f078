//! Sealing while a run goes on, and at its end.
//!
//! ```text
//!   driver ──seal──► journal ──► Recorder: checkpoint on the disk, then the promotion leaves
//!                                   └─ finish: the bundle beside it, the run's key is gone
//! ```

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use dr_core::{
    Millis, ProviderError, RunId,
    base::Digest,
    contract::{EvidenceSink, Runtime},
    run::{Journal, JournalError, Line},
};

use crate::{
    bundle::{
        Bundle, CHECKPOINTS, DiskError, RunKey, SealError, Sealing, checkpoint, checkpoint_file,
        disk::{create, failed, flush},
        seal,
    },
    key::SecretKey,
    note::Note,
};

/// How long the key of a run is good: 30 days, longer than a run may wait for people.
const VALID: Millis = Millis::minutes(30 * 24 * 60);

/// Seals the runs of one journal in one directory, each in a folder of its own.
///
/// As the sink of an engine it signs a checkpoint before each call that must happen at most once; that checkpoint is on the disk when
/// [`seal`](EvidenceSink::seal) answers, and if it cannot be, the call is not sent (E04). The key of a run lies beside its folder in a file
/// that its owner alone may read, so that an engine which takes the run over goes on with it, and is wiped by [`finish`](Self::finish).
///
/// *Assumes* that the directory is local: the write to it is awaited within the write gap, and blocks the thread for the time of a flush.
#[derive(Debug, Clone)]
pub struct Recorder {
    dir: PathBuf,
    root: Arc<SecretKey>,
    journal: Arc<dyn Journal>,
    runtime: Arc<dyn Runtime>,
    program: String,
}

/// Evidence could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The journal could not be read.
    #[error("the journal could not be read")]
    Journal(#[from] JournalError),
    /// The journal's lines are not those that are to be sealed.
    #[error("line {seq} of {run} has another hash in the journal than the one to be sealed")]
    OtherLine {
        /// The run.
        run: RunId,
        /// The line.
        seq: u64,
    },
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It could not be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Recorder {
    /// Seals the runs of `journal` in `dir`, with keys that `root` certifies.
    #[must_use]
    pub fn new(
        dir: impl Into<PathBuf>,
        root: SecretKey,
        journal: impl Journal,
        runtime: impl Runtime,
        program: impl Into<String>,
    ) -> Self {
        Self {
            dir: dir.into(),
            root: Arc::new(root),
            journal: Arc::new(journal),
            runtime: Arc::new(runtime),
            program: program.into(),
        }
    }

    /// Where the bundle of a run lies, whose first line has the hash `origin`: numbers of runs begin again with every journal, and the runs
    /// of two journals may be sealed in one directory.
    #[must_use]
    pub fn place(&self, run: &RunId, origin: &Digest) -> PathBuf {
        self.dir.join(format!("{run}-{}", origin.bits64()))
    }

    fn key_file(&self, run: &RunId, origin: &Digest) -> PathBuf {
        self.dir.join(format!("{run}-{}.key", origin.bits64()))
    }

    /// Seals a run that is over, or as far as it went, and wipes its key. Answers where the bundle lies.
    ///
    /// # Errors
    /// [`RecordError`]. What was written stays, and the next call goes on from there as long as the journal has not grown.
    pub async fn finish(&self, run: &RunId) -> Result<PathBuf, RecordError> {
        let lines = self.journal.read(run, 0).await?;
        let origin = first(&lines);
        let key = self.key(run, &origin)?;
        let place = self.place(run, &origin);
        let checkpoints = kept(&place)?;
        let with =
            Sealing { run, key: &key, checkpoints: &checkpoints, at: self.runtime.now_wall(), program: &self.program };
        seal(&lines, &with)?.write(&place)?;
        wipe(&self.key_file(run, &origin))?;
        Ok(place)
    }

    async fn checkpoint(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), RecordError> {
        let mut lines = self.journal.read(run, 0).await?;
        lines.retain(|line| line.seq <= seq);
        if lines.last().map(|line| (line.seq, line.hash)) != Some((seq, head)) {
            return Err(RecordError::OtherLine { run: run.clone(), seq });
        }
        let origin = first(&lines);
        let note = checkpoint(run, &lines, &self.key(run, &origin)?)?;
        let place = self.place(run, &origin);
        let folder = place.join(CHECKPOINTS);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        create(&place.join(checkpoint_file(seq)), note.to_string().as_bytes())?;
        for folder in [folder.as_path(), &place, &self.dir] {
            flush(folder)?;
        }
        Ok(())
    }

    /// The key of a run: the one that was kept, or a new one.
    fn key(&self, run: &RunId, origin: &Digest) -> Result<RunKey, RecordError> {
        let file = self.key_file(run, origin);
        if file.exists() {
            let text = fs::read_to_string(&file).map_err(failed("read", &file))?;
            return Ok(RunKey::from_text(&text, self.root.public())?);
        }
        fs::create_dir_all(&self.dir).map_err(failed("create", &self.dir))?;
        let key = RunKey::issue(&self.root, (run, *origin), self.runtime.now_wall(), VALID)?;
        keep(&file, &key.text()?)?;
        flush(&self.dir)?;
        Ok(key)
    }
}

#[async_trait]
impl EvidenceSink for Recorder {
    async fn seal(&self, run: &RunId, seq: u64, head: Digest) -> Result<(), ProviderError> {
        let sealed = self.checkpoint(run, seq, head).await;
        sealed.map_err(|error| ProviderError::unreachable("seal", dr_core::Cause::chain(&error)))
    }
}

fn first(lines: &[Line]) -> Digest {
    lines.first().map_or_else(Digest::zero, |line| line.hash)
}

/// The checkpoints that lie in a folder already.
fn kept(place: &Path) -> Result<Vec<Note>, RecordError> {
    if !place.exists() {
        return Ok(Vec::new());
    }
    let there = Bundle::read(place)?;
    let notes = there.checkpoints().into_iter().filter_map(|name| there.file(name)).map(Note::parse);
    Ok(notes.collect::<Result<_, _>>().map_err(SealError::from)?)
}

/// Writes a key into a new file that its owner alone may read: first under another name, so that no half of a key is ever found.
fn keep(file: &Path, text: &str) -> Result<(), DiskError> {
    let new = file.with_extension("key.new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(&new).map_err(failed("create", &new))?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(failed("write", &new))?;
    fs::rename(&new, file).map_err(failed("create", file))
}

/// Overwrites a key and removes its file. A disk that keeps old blocks may still have it.
fn wipe(file: &Path) -> Result<(), DiskError> {
    let mut open = OpenOptions::new().write(true).open(file).map_err(failed("wipe", file))?;
    let size = open.metadata().map_err(failed("wipe", file))?.len();
    let zeros = vec![0; usize::try_from(size).unwrap_or_default()];
    open.write_all(&zeros).and_then(|()| open.sync_all()).map_err(failed("wipe", file))?;
    fs::remove_file(file).map_err(failed("wipe", file))
}
