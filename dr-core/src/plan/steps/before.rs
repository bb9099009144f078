//! What is done before writes are stopped: checkpoints, so that the gap is short, and a last snapshot.
//!
//! ```text
//!  begin-snapshot ──► consent ──► … ──► drain        the provider works on it meanwhile
//!       └──► await-snapshot                           nobody waits for it, unless it blocks a promotion: then the question does
//! ```

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::not_yet;
use crate::{
    base::{Kind, MemberId},
    contract::{Class, Outcome, SnapshotRequest, Target, Touch, Tri, verb},
    plan::{
        Attempted, Carries, Duty, Effect, Handler, Input, Look, Marks, Observed, Output, Prepared, Ready, Stage, Step,
        StepCx, StepError,
    },
};

/// Lets a member do what makes the coming stop or promotion short, and changes no data: a checkpoint, retry intervals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettleMember {
    /// The member.
    pub member: MemberId,
}

impl Step for SettleMember {
    const KIND: Kind = Kind::new("dr.settle", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Harmless;
    type Output = ();

    fn sentence(&self) -> String {
        format!("settle {} (checkpoint), so that the gap is short", self.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Shorten).duty(Duty::Settling)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::SETTLE.on(self.member.as_str())]
    }
}

/// Takes a last snapshot of a former primary that was promoted away from while it was silent: only it may have what was written last.
/// The name is made from the run's key, so that asking twice makes one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalSnapshot {
    /// Of which member.
    pub target: Target,
}

impl Step for FinalSnapshot {
    const KIND: Kind = Kind::new("dr.final-snapshot", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Harmless;
    type Output = ();

    fn sentence(&self) -> String {
        format!("take a last snapshot of {}", self.target.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::Snapshot)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::SNAPSHOT.on(self.target.member.as_str())]
    }
}

/// The provider was asked for a snapshot and has begun it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotBegun {
    /// The name by which the provider knows it.
    pub name: String,
}

impl Output for SnapshotBegun {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "dr.snapshot-begun".into()
    }
}

/// Asks for a last snapshot of the writer before people are asked, and does not wait for its end: it may take hours, and a consent does
/// not last so long. The name is made from the run's key, so that asking twice makes one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginSnapshot {
    /// Of which member.
    pub target: Target,
}

impl Step for BeginSnapshot {
    const KIND: Kind = Kind::new("dr.begin-snapshot", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Harmless;
    type Output = SnapshotBegun;

    fn sentence(&self) -> String {
        format!("begin a last snapshot of {}", self.target.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Check).duty(Duty::Snapshot)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::SNAPSHOT.on(self.target.member.as_str())]
    }
}

/// Sees the snapshot that [`BeginSnapshot`] asked for complete. It changes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwaitSnapshot {
    target: Target,
    begun: Input<Attempted<SnapshotBegun>>,
    blocks: bool,
}

impl AwaitSnapshot {
    /// The snapshot of `target` that `begun` asked for. Nothing waits for it.
    #[must_use]
    pub fn of(target: &Target, begun: &impl Carries<Attempted<SnapshotBegun>>) -> Self {
        Self { target: target.clone(), begun: Input::of(begun), blocks: false }
    }

    /// The provider promotes nobody while the snapshot is under way: people are asked only after its end.
    #[must_use]
    pub fn before_asking(self) -> Self {
        Self { blocks: true, ..self }
    }
}

impl Step for AwaitSnapshot {
    const KIND: Kind = Kind::new("dr.await-snapshot", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        format!("see the last snapshot of {} complete", self.target.member)
    }

    fn marks(&self) -> Marks {
        if self.blocks { Marks::at(Stage::Check) } else { Marks::default() }
    }
}

pub(super) struct Settle;

#[async_trait]
impl Handler for Settle {
    type Step = SettleMember;

    /// There is nothing to read back, and nothing depends on it but the length of the gap: once asked for, it counts as done.
    async fn observe(&self, cx: &StepCx, _step: &SettleMember) -> Result<Observed<()>, StepError> {
        Ok(if cx.intended_at().is_some() { Observed::Done(()) } else { Observed::NotStarted })
    }

    async fn prepare(&self, _cx: &StepCx, _step: &SettleMember) -> Result<Prepared<()>, StepError> {
        Ok(Prepared::Ready(Ready::default()))
    }

    async fn submit(&self, cx: &StepCx, step: &SettleMember) -> Result<Outcome<()>, StepError> {
        // A refusal stops the run while nothing is held back: a candidate that would hang is found here at the latest.
        Ok(cx.database(&step.member)?.settle().await)
    }
}

pub(super) struct Snapshot;

#[async_trait]
impl Handler for Snapshot {
    type Step = FinalSnapshot;

    async fn observe(&self, cx: &StepCx, step: &FinalSnapshot) -> Result<Observed<()>, StepError> {
        let exists = cx.database(&step.target.member)?.has_snapshot(&cx.key().slug()).await?;
        Ok(match exists {
            Tri::Yes => Observed::Done(()),
            Tri::No => Observed::NotStarted,
            Tri::Unknown => not_yet("nobody can say whether the snapshot exists"),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &FinalSnapshot) -> Result<Outcome<()>, StepError> {
        let request = SnapshotRequest { target: step.target.clone(), name: cx.key().slug(), key: cx.key() };
        Ok(cx.database(&step.target.member)?.snapshot(request).await)
    }
}

pub(super) struct SnapshotBegins;

#[async_trait]
impl Handler for SnapshotBegins {
    type Step = BeginSnapshot;

    /// A provider may list a snapshot only when it is complete: what is not there may be under way, and is asked for again by its name.
    async fn observe(&self, cx: &StepCx, step: &BeginSnapshot) -> Result<Observed<SnapshotBegun>, StepError> {
        let name = cx.key().slug();
        Ok(match cx.database(&step.target.member)?.has_snapshot(&name).await? {
            Tri::Yes => Observed::Done(SnapshotBegun { name }),
            Tri::No => Observed::NotStarted,
            Tri::Unknown => not_yet("nobody can say whether the snapshot exists"),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &BeginSnapshot) -> Result<Outcome<SnapshotBegun>, StepError> {
        let begun = SnapshotBegun { name: cx.key().slug() };
        let request = SnapshotRequest { target: step.target.clone(), name: begun.name.clone(), key: cx.key() };
        Ok(match cx.database(&step.target.member)?.snapshot(request).await {
            Outcome::Done(()) | Outcome::Accepted(_) => Outcome::Done(begun),
            Outcome::NotDone(reason) => Outcome::NotDone(reason),
            Outcome::Unknown(cause) => Outcome::Unknown(cause),
            Outcome::Conflict(cause) => Outcome::Conflict(cause),
        })
    }
}

pub(super) struct SnapshotEnds;

#[async_trait]
impl Look for SnapshotEnds {
    type Step = AwaitSnapshot;

    async fn look(&self, cx: &StepCx, step: &AwaitSnapshot) -> Result<Observed<()>, StepError> {
        let Attempted::Done(begun) = step.begun.get()? else {
            // None was begun, and somebody owes it: there is no end to wait for.
            return Ok(Observed::Done(()));
        };
        let member = &step.target.member;
        Ok(match cx.database(member)?.has_snapshot(&begun.name).await? {
            Tri::Yes => Observed::Done(()),
            Tri::No | Tri::Unknown => {
                not_yet(format_args!("the provider does not list the snapshot `{}` of `{member}` yet", begun.name))
            }
        })
    }
}
