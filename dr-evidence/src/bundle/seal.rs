//! From journal lines to a bundle.

use dr_core::{
    RunId, Timestamp,
    base::{CanonicalError, Digest},
    run::{DriveError, Line, RunState, replay},
};

use super::{
    Bundle, CLAIM_TYPE, Claim, EVENTS, LEAVES, PLAN, RUN_KEY, RunKey, STATEMENT, checkpoint_file, checkpoint_size,
    origin_of,
};
use crate::{
    dsse::{Envelope, IN_TOTO, Statement, Subject},
    key::BadKey,
    note::{BadNote, Checkpoint, Note},
    tree,
};

/// Why a run could not be sealed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The lines are no run that the machine can replay.
    #[error("the journal of {run} cannot be replayed, so nobody could verify it")]
    Replay {
        /// The run.
        run: RunId,
        /// Why.
        source: Box<DriveError>,
    },
    /// The run's key belongs to another run.
    #[error("the key was certified for {certified} and not for {run} of this journal")]
    OtherRun {
        /// The run to be sealed.
        run: RunId,
        /// The run of the certificate.
        certified: RunId,
    },
    /// A checkpoint does not belong to these lines or this key.
    #[error("the checkpoint over {size} events was not made of this run")]
    Checkpoint {
        /// Its size.
        size: u64,
    },
    /// What was kept of the run's key cannot be used.
    #[error("the run's key that was kept cannot be used: {0}")]
    Kept(&'static str),
    /// A key could not be made or read.
    #[error("the run's key could not be made")]
    Key(#[from] BadKey),
    /// A note could not be made.
    #[error("the checkpoint could not be signed")]
    Note(#[from] BadNote),
    /// Something has no canonical form.
    #[error("the evidence has no canonical form")]
    Form(#[from] CanonicalError),
}

/// What sealing needs beside the lines.
#[derive(Debug)]
pub struct Sealing<'a> {
    /// The run.
    pub run: &'a RunId,
    /// Its key.
    pub key: &'a RunKey,
    /// Checkpoints that were signed while the run went on.
    pub checkpoints: &'a [Note],
    /// The time of sealing.
    pub at: Timestamp,
    /// The program that seals, with its version.
    pub program: &'a str,
}

/// Signs how long the journal is now, and the root over its lines.
///
/// # Errors
/// [`SealError::OtherRun`] for a key of another run.
pub fn checkpoint(run: &RunId, lines: &[Line], key: &RunKey) -> Result<Note, SealError> {
    let leaves: Vec<Digest> = lines.iter().map(|line| line.hash).collect();
    let origin = leaves.first().copied().unwrap_or_else(Digest::zero);
    if key.claim().origin != origin || key.claim().run != *run {
        return Err(SealError::OtherRun { run: run.clone(), certified: key.claim().run.clone() });
    }
    let size = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
    let checkpoint = Checkpoint { origin: origin_of(run, &origin), size, root: tree::root(&leaves) };
    Ok(checkpoint.sign(key.secret())?)
}

/// Seals the lines of a run: one that is over, turned back, parked, or goes on. A run that is not over verifies as unterminated.
///
/// # Errors
/// [`SealError`].
pub fn seal(lines: &[Line], with: &Sealing<'_>) -> Result<Bundle, SealError> {
    let unread = |source| SealError::Replay { run: with.run.clone(), source: Box::new(source) };
    let (state, head) = replay(with.run, lines).map_err(unread)?;
    let leaves: Vec<Digest> = lines.iter().map(|line| line.hash).collect();
    let last = checkpoint(with.run, lines, with.key)?;

    let mut bundle = Bundle::default();
    let mut put = |name: &str, bytes: Vec<u8>| bundle.files.insert(name.to_owned(), bytes);
    put(EVENTS, lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect::<String>().into_bytes());
    put(LEAVES, leaves.iter().map(|leaf| format!("{}\n", leaf.hex())).collect::<String>().into_bytes());
    put(PLAN, state.plan.canonical()?.into_bytes());
    put(RUN_KEY, with.key.certificate().bytes()?);
    for note in with.checkpoints.iter().chain([&last]) {
        let size = belongs(note, &state, &leaves, with.key)?;
        put(&checkpoint_file(size), note.to_string().into_bytes());
    }
    let subjects = bundle.files.iter().map(|(name, bytes)| Subject::of(name, bytes)).collect();
    let claim = Claim::of(&state, head, tree::root(&leaves), (with.at, with.program));
    let statement = Statement::new(CLAIM_TYPE, subjects, claim).bytes()?;
    let envelope = Envelope::sign(IN_TOTO, statement, with.key.secret());
    bundle.files.insert(STATEMENT.to_owned(), envelope.bytes()?);
    Ok(bundle)
}

/// The size of a checkpoint that this key signed over a beginning of these lines.
fn belongs(note: &Note, state: &RunState, leaves: &[Digest], key: &RunKey) -> Result<u64, SealError> {
    let found = Checkpoint::parse(note.text())?;
    let beginning = usize::try_from(found.size).ok().and_then(|size| leaves.get(..size));
    let same = beginning.is_some_and(|leaves| tree::root(leaves) == found.root);
    let named = checkpoint_size(&checkpoint_file(found.size)).is_some();
    if same
        && named
        && found.origin == origin_of(&state.run, &state.origin)
        && note.check(key.secret().public()).is_ok()
    {
        Ok(found.size)
    } else {
        Err(SealError::Checkpoint { size: found.size })
    }
}
