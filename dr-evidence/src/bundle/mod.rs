//! A bundle: the evidence of one run as a handful of files.
//!
//! ```text
//!   events.jsonl               the journal's lines, one a line, byte for byte
//!   leaves.txt                 their RFC 6962 leaf hashes: what tells which line was changed
//!   plan.json                  the plan that people approved
//!   run-key.dsse.json          the run's key, certified by a root key
//!   checkpoints/0000000042.note  C2SP checkpoints, signed by the run's key
//!   statement.dsse.json        an in-toto statement over all of these, signed by the run's key
//! ```

pub(crate) mod disk;
mod key;
mod seal;

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{
    RunId, RunbookId, Timestamp,
    base::{Digest, GroupName},
    plan::Purpose,
    run::{Head, Phase, RunOutcome, RunState},
};
use serde::{Deserialize, Serialize};

pub use disk::DiskError;
pub use key::{KeyClaim, RunKey};
pub use seal::{SealError, Sealing, checkpoint, seal};

/// The journal's lines.
pub const EVENTS: &str = "events.jsonl";
/// Their leaf hashes.
pub const LEAVES: &str = "leaves.txt";
/// The plan.
pub const PLAN: &str = "plan.json";
/// The certificate of the run's key.
pub const RUN_KEY: &str = "run-key.dsse.json";
/// The statement over all other files.
pub const STATEMENT: &str = "statement.dsse.json";
/// The folder of the checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// The files that every bundle has.
pub const FIXED: [&str; 5] = [EVENTS, LEAVES, PLAN, RUN_KEY, STATEMENT];

/// The predicate type of a bundle's statement.
pub const CLAIM_TYPE: &str = "https://github.com/dr-toolkit/dr-toolkit/evidence/run/v1";

/// The version of bundles. Another one is not read.
pub const BUNDLE_VERSION: u16 = 1;

/// The name of the checkpoint over the first `size` events. Ten digits, so that names sort as sizes do.
#[must_use]
pub fn checkpoint_file(size: u64) -> String {
    format!("{CHECKPOINTS}/{size:010}.note")
}

/// The origin line of a run's checkpoints, and the name of its key: no other run has it, also not one of another journal.
#[must_use]
pub fn origin_of(run: &RunId, origin: &Digest) -> String {
    format!("dr-toolkit/{run}/{}", origin.bits64())
}

/// Where a run stood when it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was over.
    Ended,
    /// It waited for a person.
    Parked,
    /// It went on.
    Open,
}

impl Standing {
    pub(crate) fn of(phase: Phase) -> Self {
        match phase {
            Phase::Ended => Self::Ended,
            Phase::Parked => Self::Parked,
            Phase::New | Phase::Running | Phase::Paused | Phase::Aborting => Self::Open,
        }
    }
}

/// What a bundle's statement says of its run. All but `sealed` and `program` follows from the events, and is compared with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// [`BUNDLE_VERSION`].
    pub v: u16,
    /// The run.
    pub run: RunId,
    /// The hash of its first line.
    pub origin: Digest,
    /// Its group.
    pub group: GroupName,
    /// The runbook that made the plan.
    pub runbook: RunbookId,
    /// What the plan was for.
    pub purpose: Purpose,
    /// The hash of the plan that people approved.
    pub plan: Digest,
    /// How many events it has.
    pub events: u32,
    /// The hash of its last line.
    pub head: Digest,
    /// The root of the tree over all lines.
    pub root: Digest,
    /// When it began.
    pub started: Timestamp,
    /// When the last event was recorded.
    pub last: Timestamp,
    /// Where it stood.
    pub standing: Standing,
    /// How it ended, if it did.
    pub outcome: Option<RunOutcome>,
    /// When the bundle was sealed, by the clock of the machine that did.
    pub sealed: Timestamp,
    /// The program that sealed it.
    pub program: String,
}

impl Claim {
    /// What the events themselves say.
    pub(crate) fn of(state: &RunState, head: Head, root: Digest, (sealed, program): (Timestamp, &str)) -> Self {
        Self {
            v: BUNDLE_VERSION,
            run: state.run.clone(),
            origin: state.origin,
            group: state.plan.group.clone(),
            runbook: state.plan.runbook.clone(),
            purpose: state.plan.purpose,
            plan: state.hash,
            events: state.seq,
            head: head.hash,
            root,
            started: state.started,
            last: state.last,
            standing: Standing::of(state.phase),
            outcome: state.outcome.clone(),
            sealed,
            program: program.to_owned(),
        }
    }
}

/// The files of a bundle, as they are stored or sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Names with their bytes; a name has a slash where a folder ends.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What lies beside them and is no file: links, sockets, folders within folders.
    pub strange: BTreeSet<String>,
}

impl Bundle {
    /// The bytes of a file.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// The names of the checkpoints, the smallest size first.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<&str> {
        self.files.keys().map(String::as_str).filter(|name| checkpoint_size(name).is_some()).collect()
    }
}

/// The size that a checkpoint's file is named after.
pub(crate) fn checkpoint_size(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(CHECKPOINTS)?.strip_prefix('/')?.strip_suffix(".note")?;
    let size = digits.parse().ok()?;
    (checkpoint_file(size) == name).then_some(size)
}
