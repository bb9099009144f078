//! What is done before writes are stopped, so that the gap is short: checkpoints, a last snapshot.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Class, Duty, Effect, Handler, Kind, Marks, MemberId, Observed, Outcome, Prepared, Ready, SnapshotRequest, Stage,
    Step, StepCx, StepError, Target, Touch, Tri, verb,
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

/// Takes a last snapshot of the former primary's data. The name is made from the run's key, so that asking twice makes one.
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
        Marks::at(Stage::Shorten).or(Stage::After).duty(Duty::Snapshot)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::SNAPSHOT.on(self.target.member.as_str())]
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
            Tri::Unknown => super::read::not_yet("nobody can say whether the snapshot exists"),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &FinalSnapshot) -> Result<Outcome<()>, StepError> {
        let request = SnapshotRequest { target: step.target.clone(), name: cx.key().slug(), key: cx.key() };
        Ok(cx.database(&step.target.member)?.snapshot(request).await)
    }
}
