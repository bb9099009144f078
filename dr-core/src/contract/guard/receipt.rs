//! What was true once, as data. A receipt authorises nothing by itself.

use serde::{Deserialize, Serialize};

use crate::{
    base::{Actor, Digest, Endpoint, Epoch, MemberId, Millis, Role, RunId, Timestamp},
    contract::{
        Attribution, Cause, Fact, FenceToken, Grade, Lineage, Loss, Parted, Planes, Position, Sessions, Target,
    },
};

/// Applications hold their writes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainReceipt {
    /// Since when, at the latest.
    pub at: Timestamp,
    /// How long it may last.
    pub budget: Millis,
    /// What was seen.
    pub detail: String,
}

/// The former primary was seen to be fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceReceipt {
    /// The run that engaged it.
    pub run: RunId,
    /// The epoch under which it was engaged.
    pub epoch: Epoch,
    /// The member, with the lineage that must not grow any more.
    pub target: Target,
    /// Which fence.
    pub fence: String,
    /// What was read before it was engaged.
    pub token: FenceToken,
    /// The grades read back.
    pub planes: Planes,
    /// Whether nobody gets an answer from the member any more, this toolkit included: a write that passes there all the same proves a
    /// second writer.
    pub silent: bool,
    /// The last position of the fenced history, where the fence can tell.
    pub end: Option<Position>,
    /// From when on nothing could be written.
    pub effective_at: Timestamp,
    /// When the fence falls off by itself, if it does.
    pub lapses_at: Option<Timestamp>,
    /// What was seen.
    pub detail: String,
}

impl FenceReceipt {
    /// What the fence was worth.
    #[must_use]
    pub fn grade(&self) -> Grade {
        self.planes.grade()
    }
}

/// The candidate was seen to have everything that the fenced history contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUpReceipt {
    /// The run.
    pub run: RunId,
    /// The candidate, with the lineage that it followed.
    pub target: Target,
    /// The end of the fenced history.
    pub end: Position,
    /// What the candidate had applied.
    pub applied: Position,
    /// When.
    pub at: Timestamp,
}

/// Nothing writes on the primary, and the candidate has everything, or the provider sees to both by itself: what a planned role swap
/// wants to see first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuiesceReceipt {
    /// The run.
    pub run: RunId,
    /// The primary.
    pub primary: Target,
    /// The candidate, with the lineage that it followed.
    pub target: Target,
    /// Which sessions could still write, if they could be counted; zero where the provider does not stop them.
    pub sessions: Option<Sessions>,
    /// Where both are, unless the provider itself waits for the candidate.
    pub position: Option<Position>,
    /// When.
    pub at: Timestamp,
}

/// Which of the two shapes a promotion has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Fence, catch up, promote.
    SeparateFence,
    /// The provider swaps the roles; its fence is read back afterwards.
    BuiltInFence,
}

/// The candidate was seen to be promoted, by our own intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionReceipt {
    /// The run.
    pub run: RunId,
    /// The new primary, with its lineage after the promotion.
    pub target: Target,
    /// The lineage before it.
    pub was: Lineage,
    /// Where the histories parted.
    pub parted_at: Parted,
    /// Why that position was not compared with what the candidate was proved to have; none if it was.
    pub not_compared: Option<String>,
    /// How it was done.
    pub shape: Shape,
    /// The provider's record of the change, where histories are not counted and it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// The people who said that the change was this run's, where the provider's record does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_by: Vec<String>,
    /// When it was asked for: what a provider tells by events counts from then on.
    pub asked_at: Timestamp,
    /// When it was seen.
    pub at: Timestamp,
}

/// A point of the past to which a member can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// Whose data: the source, with the history that it carried.
    pub source: Target,
    /// Every write that the source acknowledged up to this time is contained, and none that it acknowledged later.
    pub at: Timestamp,
}

/// A new resource was seen that contains what another one had at a point of the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReceipt {
    /// The run.
    pub run: RunId,
    /// The new resource, with its identity and the history that it carries.
    pub target: Target,
    /// What it contains.
    pub point: RecoveryPoint,
    /// When it was seen.
    pub at: Timestamp,
}

/// Why a member is the writer. The rules of a plan ask for the origin that its purpose needs (DR127).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "of")]
pub enum WriterOrigin {
    /// The run promoted it.
    Promoted(PromotionReceipt),
    /// It was the writer before the run, and was only looked at.
    Observed,
    /// The run restored it.
    Restored(RestoreReceipt),
}

/// Which of the [`WriterOrigin`]s a plan's confirmed writer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// [`WriterOrigin::Promoted`].
    Promoted,
    /// [`WriterOrigin::Observed`].
    Observed,
    /// [`WriterOrigin::Restored`].
    Restored,
}

impl WriterOrigin {
    /// Which one it is.
    #[must_use]
    pub const fn kind(&self) -> Origin {
        match self {
            Self::Promoted(_) => Origin::Promoted,
            Self::Observed => Origin::Observed,
            Self::Restored(_) => Origin::Restored,
        }
    }
}

/// Exactly one writer: edges agree, a real write succeeded there, and the other side's grade meets the policy. All that secret and
/// traffic steps accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterReceipt {
    /// The run.
    pub run: RunId,
    /// The writer.
    pub target: Target,
    /// Where applications connect.
    pub endpoint: Endpoint,
    /// Why it is the writer.
    pub origin: WriterOrigin,
    /// What the others are kept from writing by, as it was read back: the least grade of all of them.
    pub old_side: Grade,
    /// What people accepted where that is less than the policy asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
    /// When.
    pub at: Timestamp,
}

/// What a look lacks that people may supply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Lack {
    /// The former primary is worth less than the plan asks for: people may accept what was measured.
    Grade {
        /// What it was read to be worth.
        measured: Grade,
        /// What the plan asks for.
        needed: Grade,
    },
    /// One place does not see the member, and no other one can tell: people who know may attest that it is down.
    Silence {
        /// The member.
        member: MemberId,
    },
}

impl Lack {
    /// Tells whether people who accepted `accepted` were told no more than this lacks.
    #[must_use]
    pub fn is_covered_by(&self, accepted: &Accepted) -> bool {
        match (self, accepted) {
            (Self::Grade { measured, .. }, Accepted::Grade(least)) => least <= measured,
            (Self::Silence { member }, Accepted::Silence(attested)) => member == attested,
            (Self::Grade { .. } | Self::Silence { .. }, Accepted::Grade(_) | Accepted::Silence(_)) => false,
        }
    }
}

/// A look found everything as the step wants it, except for one thing that people may accept or attest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// What it lacks.
    pub lack: Lack,
    /// The provider's words, or why nobody answers.
    pub why: Cause,
    /// What somebody has to do by hand where people say yes; `None` where nothing is left to do.
    pub owes: Option<String>,
}

/// What people accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accepted {
    /// At least this grade of the former primary.
    Grade(Grade),
    /// That this member is down, which they attest.
    Silence(MemberId),
}

impl std::fmt::Display for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grade(grade) => write!(f, "`{grade}` was accepted"),
            Self::Silence(member) => write!(f, "it was attested that {member} is down"),
        }
    }
}

/// The journal keeps what people accepted although a guard asks for more. [`admit::waiver`](crate::contract::admit::waiver) makes the proof of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// The run.
    pub run: RunId,
    /// The hash of the plan.
    pub plan: Digest,
    /// The digest of the question as it was shown.
    pub ask: Digest,
    /// Who said yes: two different people at least.
    pub given: Vec<Given>,
    /// Why.
    pub reason: String,
    /// What they accept.
    pub accepts: Accepted,
    /// What somebody has to do by hand therefore; `None` where the plan has a step for it.
    pub owes: Option<String>,
    /// Until when it can be made use of.
    pub expires: Timestamp,
}

/// One person's yes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Who.
    pub by: Actor,
    /// In which role it counts.
    pub role: Option<Role>,
    /// The choice.
    pub choice: String,
    /// When.
    pub at: Timestamp,
    /// What they noted.
    pub note: Option<String>,
}

impl Given {
    /// Counts the different people who gave these answers: two names of one identity are one person, and so are all whom nobody checked.
    #[must_use]
    pub fn people<'a>(given: impl IntoIterator<Item = &'a Self>) -> usize {
        let mut people: Vec<&'a Actor> = Vec::new();
        for yes in given {
            if !people.iter().any(|person| person.may_be(&yes.by)) {
                people.push(&yes.by);
            }
        }
        people.len()
    }
}

/// What people agreed to: this plan, these facts, at most this loss (I04).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// The run.
    pub run: RunId,
    /// The hash of the plan.
    pub plan: Digest,
    /// The digest of the question as it was shown.
    pub ask: Digest,
    /// The facts as they were shown.
    pub facts: Vec<Fact>,
    /// The loss that was accepted at most.
    pub loss: Loss,
    /// Who said yes.
    pub given: Vec<Given>,
    /// When the last needed yes came.
    pub at: Timestamp,
    /// Until when the first change must have begun.
    pub expires: Timestamp,
}

/// How much a forced promotion loses at most, computed before it (S3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossBound {
    /// The run.
    pub run: RunId,
    /// The bound.
    pub loss: Loss,
    /// The sample it stands on, if there is a good one.
    pub sampled_at: Option<Timestamp>,
    /// From when on the fenced side cannot have grown.
    pub fenced_at: Option<Timestamp>,
    /// What of it people are asked about; `None` where nobody is.
    pub asked: Option<AskedLoss>,
}

/// A loss that may grow while people are asked about it: [`LossBound::loss`] is what they agree to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedLoss {
    /// What would be lost if the primary wrote nothing more.
    pub now: Loss,
    /// For how much longer it may write while people answer; part of what they agree to.
    pub answer: Millis,
    /// Until when the first change must have begun, so that no more is lost. Later the loss is bounded and asked about anew.
    pub good_until: Timestamp,
}

/// How much was lost, counted after the promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossMeasurement {
    /// The interval.
    pub loss: Loss,
    /// How it was measured.
    pub how: String,
    /// When.
    pub at: Timestamp,
}
