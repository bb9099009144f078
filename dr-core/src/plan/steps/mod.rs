//! The steps of the library: data that plans are made of, and the handlers that do them.
//!
//! ```text
//!  checks ──► consent ──► settle ──► still well? ──► drain ──► fence ──► catch-up ──► promote ─┐
//!                                         └──► quiesced ──► swap-roles ────────┴─► confirm-writer ──► secret, warm-up, traffic ──► resume
//! ```
//!
//! A step is plain data; those that guard something dangerous have constructors and private fields. Waiting belongs to the
//! driver: every handler here looks once.

mod attach;
mod before;
mod catch_up;
mod checks;
mod clear;
mod confirm;
mod consent;
mod down;
mod drain;
pub mod facts;
mod fence;
mod follow;
mod keep;
mod lags;
mod lock;
mod loss;
mod notify;
mod observe;
mod parity;
mod pivot;
mod promote;
mod read;
mod readers;
mod rehearse;
mod rejoin;
mod secret;
mod sequences;
mod swap;
#[cfg(test)]
mod tests;
mod traffic;
mod warm_up;
mod window;

pub use attach::AttachStandby;
pub use before::{AwaitSnapshot, BeginSnapshot, FinalSnapshot, SettleMember, SnapshotBegun};
pub use catch_up::{AwaitCatchUp, AwaitQuiesced};
pub use checks::{CheckCandidate, CheckLag, CheckReplication, CheckSides, SidesSeen};
pub use clear::ClearFence;
pub(crate) use confirm::fence_owed;
pub use confirm::{CheckWriter, ConfirmWriter};
pub use consent::AskConsent;
pub use down::CheckPrimaryDown;
pub(crate) use down::answers_a_write;
pub use drain::{Drain, NoDrain, NothingToResume, ResumeWrites};
pub use facts::FactSpec;
pub use fence::{FenceMember, ReleaseFence, RetireMemberFence};
pub use follow::FollowWriter;
pub use keep::{HardenWriter, PreserveOldSide};
pub use lock::TakeGroupLock;
pub use loss::{BoundLoss, MeasureLoss};
pub use notify::Notify;
pub use observe::ObserveWriter;
pub use parity::{CheckParity, CheckTransactions};
pub(crate) use parity::{major, missing_extensions, transactions_in_words};
pub use promote::Promote;
pub use readers::ShiftReaders;
pub(crate) use rehearse::Cast;
pub use rehearse::{Rehearse, RehearseAgain, Rehearsed, Terms as RehearsalTerms};
pub use rejoin::{AwaitRejoined, RejoinMember};
pub use secret::{PointSecret, SecretReceipt};
pub use sequences::{RaiseSequences, ReadSequences, SequencesSeen};
pub use swap::SwapRoles;
pub use traffic::{Served, ShiftTraffic, VerifyServing};
pub use warm_up::{SmokeTest, WarmUp};
pub use window::CheckWindow;

use crate::{
    contract::Outcome,
    plan::{Catalog, Observed, StepError},
};

impl Catalog {
    /// All step kinds of the library.
    #[must_use]
    pub fn built_in() -> Self {
        Self::empty()
            .looking(lock::GroupLock)
            .looking(window::Windowed)
            .looking(checks::Sides)
            .looking(checks::Candidate)
            .looking(checks::ReplicationHealth)
            .looking(checks::Lag)
            .looking(parity::Transactions)
            .looking(parity::Parity)
            .looking(rehearse::Rehearsing)
            .looking(rehearse::RehearsingAgain)
            .looking(down::PrimaryDown)
            .looking(loss::Bounding)
            .with(consent::Asking)
            .with(notify::Telling)
            .with(before::Settle)
            .with(before::Snapshot)
            .with(before::SnapshotBegins)
            .looking(before::SnapshotEnds)
            .with(drain::Draining)
            .with(drain::Resuming)
            .looking(drain::Undrained)
            .looking(drain::NothingHeld)
            .with(fence::Fencing)
            .with(fence::Releasing)
            .with(fence::Retiring)
            .with(clear::Clearing)
            .looking(sequences::Reading)
            .with(sequences::Raising)
            .looking(catch_up::CatchUp)
            .looking(catch_up::Quiescing)
            .with(promote::Promoting)
            .with(swap::Swapping)
            .looking(confirm::Confirming)
            .looking(observe::Observing)
            .looking(confirm::WriterStill)
            .with(secret::Pointing)
            .looking(warm_up::Warming)
            .looking(warm_up::Smoke)
            .with(traffic::Shifting)
            .looking(traffic::Serving)
            .with(readers::Spreading)
            .with(rejoin::Rejoining)
            .with(attach::Attaching)
            .with(follow::Following)
            .with(keep::Hardened)
            .with(keep::Preserving)
            .looking(rejoin::Rejoined)
            .looking(loss::Measuring)
    }
}

/// A call that says it is done, and what a look says right after it: only the look counts.
fn seen<T>(look: Result<Observed<T>, StepError>) -> Outcome<T> {
    match look {
        Ok(Observed::Done(output)) => Outcome::Done(output),
        Ok(Observed::Conflict(cause)) => Outcome::Conflict(cause),
        Ok(
            Observed::NotStarted
            | Observed::Partial { .. }
            | Observed::InProgress { .. }
            | Observed::Unknown(_)
            | Observed::GivenUp(_)
            | Observed::Short(_),
        )
        | Err(_) => Outcome::accepted(),
    }
}

/// A sentence with the upper figure of its provider, if that is known.
fn up_to(sentence: String, takes: Option<crate::base::Millis>) -> String {
    match takes {
        Some(takes) => format!("{sentence}; this takes up to {}", crate::base::text::human(takes)),
        None => sentence,
    }
}

/// What became of a call, with its postcondition read back at once where the call says that it is done.
async fn read_back<T>(outcome: Outcome<()>, look: impl Future<Output = Result<Observed<T>, StepError>>) -> Outcome<T> {
    match outcome {
        Outcome::Done(()) => seen(look.await),
        Outcome::Accepted(handle) => Outcome::Accepted(handle),
        Outcome::NotDone(reason) => Outcome::NotDone(reason),
        Outcome::Unknown(cause) => Outcome::Unknown(cause),
        Outcome::Conflict(cause) => Outcome::Conflict(cause),
    }
}
