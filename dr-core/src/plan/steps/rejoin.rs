//! The former primary becomes a standby of the writer, or somebody owes one (C23, E14, C30); and a look at any member that becomes one by
//! itself.

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::read::not_yet;
use crate::{
    base::{Kind, MemberId},
    contract::{
        Class, OpHandle, OpProgress, Outcome, PromotionReceipt, RejoinRequest, Target, Touch, Tri, WriterReceipt, verb,
    },
    plan::{
        Carries, Duty, Effect, Handler, Input, Look, Marks, Observed, Polled, Prepared, Ready, Stage, Step, StepCx,
        StepError,
    },
};

/// Makes the former primary a standby of the writer. What only it has is not destroyed unless the step says so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejoinMember {
    old: Target,
    writer: Input<WriterReceipt>,
    promotion: Input<PromotionReceipt>,
    may_discard: bool,
}

impl RejoinMember {
    /// `old` follows `writer`, keeping whatever only it has.
    #[must_use]
    pub fn of(old: &Target, writer: &impl Carries<WriterReceipt>, promotion: &impl Carries<PromotionReceipt>) -> Self {
        Self { old: old.clone(), writer: Input::of(writer), promotion: Input::of(promotion), may_discard: false }
    }

    /// Data that only the old primary has may be destroyed (E14, E17).
    #[must_use]
    pub fn discarding(self) -> Self {
        Self { may_discard: true, ..self }
    }
}

impl Step for RejoinMember {
    const KIND: Kind = Kind::new("dr.rejoin", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::Rejoin;
    type Output = ();

    fn sentence(&self) -> String {
        let old = &self.old.member;
        if self.may_discard {
            format!("make {old} a standby of the writer; what only {old} has is destroyed")
        } else {
            format!("make {old} a standby of the writer, if it has nothing of its own")
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::Rejoin).looks_at(&self.old.member)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::REJOIN.on(self.old.member.as_str())]
    }
}

/// Waits until a member is a standby of the writer, where it becomes one by itself, or where its provider or topology code makes it one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwaitRejoined {
    member: MemberId,
    writer: Input<WriterReceipt>,
}

impl AwaitRejoined {
    /// `member` follows `writer`.
    #[must_use]
    pub fn of(member: &MemberId, writer: &impl Carries<WriterReceipt>) -> Self {
        Self { member: member.clone(), writer: Input::of(writer) }
    }
}

impl Step for AwaitRejoined {
    const KIND: Kind = Kind::new("dr.await-rejoined", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        format!("see {} receive from the writer as its standby", self.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::Follow).looks_at(&self.member)
    }
}

/// Whether the member is attached to the writer and receives its current lineage: the one postcondition of every rejoin.
pub(super) async fn attached(
    cx: &StepCx,
    member: &MemberId,
    writer: &WriterReceipt,
) -> Result<Observed<()>, StepError> {
    let database = cx.database(member)?;
    let (description, replication) = join(database.describe(), database.replication()).await;
    // A stopped server tells nothing of replication, and that it follows nobody is an answer.
    let description = description?;
    if !description.follows(&writer.target.address, Some(&writer.endpoint)) {
        // After a crash the provider may still be at work on what we asked for: that is no "not done".
        let working = description.busy.is_some();
        let begun = Observed::InProgress { handle: OpHandle::none(), percent: None };
        return Ok(if working { begun } else { Observed::NotStarted });
    }
    let replication = replication?;
    if let Some(found) = replication.lineage.filter(|found| *found != writer.target.lineage) {
        return Ok(not_yet(format_args!(
            "`{member}` receives lineage {found}, the writer's is {}",
            writer.target.lineage
        )));
    }
    Ok(match replication.streaming {
        Tri::Yes => Observed::Done(()),
        Tri::No | Tri::Unknown => not_yet(format_args!("`{member}` follows the writer, but does not receive yet")),
    })
}

pub(super) struct Rejoining;

#[async_trait]
impl Handler for Rejoining {
    type Step = RejoinMember;

    async fn observe(&self, cx: &StepCx, step: &RejoinMember) -> Result<Observed<()>, StepError> {
        attached(cx, &step.old.member, step.writer.get()?).await
    }

    /// A former primary that is stopped or fenced may tell nothing; whether it may be attached, its backend decides.
    async fn prepare(&self, cx: &StepCx, step: &RejoinMember) -> Result<Prepared<()>, StepError> {
        Ok(match attached(cx, &step.old.member, step.writer.get()?).await {
            Ok(Observed::Done(())) => Prepared::AlreadyDone(()),
            Ok(_) | Err(_) => Prepared::Ready(Ready::default()),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &RejoinMember) -> Result<Outcome<()>, StepError> {
        let (writer, promotion) = (step.writer.get()?, step.promotion.get()?);
        let request = RejoinRequest {
            target: step.old.clone(),
            primary: writer.target.clone(),
            endpoint: writer.endpoint.clone(),
            parted_at: promotion.parted_at.at().cloned(),
            may_discard: step.may_discard,
            key: cx.key(),
        };
        let outcome = cx.database(&step.old.member)?.rejoin(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }

    /// Both are asked: the backend whether anybody works on it and how it ended, and the member whether it is attached. A member that
    /// streams while its backend is still at work has not come back yet.
    async fn poll(&self, cx: &StepCx, step: &RejoinMember, handle: &OpHandle) -> Result<Polled<()>, StepError> {
        let (progress, seen) = join(progress(cx, &step.old.member, handle), self.observe(cx, step)).await;
        Ok(come_back(cx, progress?, seen?))
    }
}

/// How the backend's own operation stands; `Finished` where there is no handle to ask with.
pub(super) async fn progress(cx: &StepCx, member: &MemberId, handle: &OpHandle) -> Result<OpProgress, StepError> {
    if handle.is_none() {
        return Ok(OpProgress::Finished);
    }
    Ok(cx.database(member)?.poll(handle).await?)
}

/// What a backend's word and a look at the member come to. The look alone ends it well, and only once nobody works on it any more.
pub(super) fn come_back(cx: &StepCx, progress: OpProgress, seen: Observed<()>) -> Polled<()> {
    match (progress, seen) {
        (OpProgress::Failed { why }, _) => Polled::Ended(Outcome::unknown(why)),
        (_, Observed::Conflict(cause)) => Polled::Ended(Outcome::Conflict(cause)),
        (OpProgress::Finished | OpProgress::Lost { .. }, Observed::Done(())) => Polled::Ended(Outcome::Done(())),
        (OpProgress::Lost { saw }, _) => Polled::Ended(Outcome::unknown(saw)),
        (OpProgress::Running { percent }, _) => Polled::Pending { again_in: cx.every(), percent },
        (OpProgress::Finished, _) => Polled::Pending { again_in: cx.every(), percent: None },
    }
}

pub(super) struct Rejoined;

#[async_trait]
impl Look for Rejoined {
    type Step = AwaitRejoined;

    async fn look(&self, cx: &StepCx, step: &AwaitRejoined) -> Result<Observed<()>, StepError> {
        let writer = step.writer.get()?;
        let seen = attached(cx, &step.member, writer).await?;
        if seen == Observed::NotStarted {
            let (member, new) = (&step.member, &writer.target.member);
            return Ok(not_yet(format_args!("`{member}` does not follow `{new}`")));
        }
        Ok(seen)
    }
}
