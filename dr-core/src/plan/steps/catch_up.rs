//! The candidate has everything: after a fence by positions, before a swap by silence and positions (C04, D11).

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::{
    drain::not_held_back,
    read::{conflict, not_yet, see},
};
use crate::{
    base::{Kind, Millis, Timestamp},
    contract::{
        CatchUpReceipt, Class, DrainReceipt, FenceReceipt, Position, PositionReading, QuiesceReceipt, Sessions, Target,
        Tri, admit::copied, contain::within,
    },
    plan::{Carries, Effect, Input, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// Waits until the candidate has everything that the fenced history contains.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwaitCatchUp {
    target: Target,
    fence: Input<FenceReceipt>,
}

impl AwaitCatchUp {
    /// `target` shall have everything up to where `fence` ended the old history.
    #[must_use]
    pub fn of(target: &Target, fence: &impl Carries<FenceReceipt>) -> Self {
        Self { target: target.clone(), fence: Input::of(fence) }
    }
}

impl Step for AwaitCatchUp {
    const KIND: Kind = Kind::new("dr.catch-up", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::CatchUp;
    type Output = CatchUpReceipt;

    fn sentence(&self) -> String {
        format!("wait until {} has everything up to the end of the fenced history", self.target.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Prove)
    }
}

/// Waits until nothing writes on the primary and the candidate is equal. Where the provider's own swap sees to both
/// ([`SwapOffer::catches_up`](crate::contract::SwapOffer::catches_up)), it records the sessions that are left and waits for nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwaitQuiesced {
    primary: Target,
    target: Target,
    drained: Input<DrainReceipt>,
    by_provider: bool,
}

impl AwaitQuiesced {
    /// `primary` shall be silent and `target` equal to it, once the applications are `drained`.
    #[must_use]
    pub fn of(primary: &Target, target: &Target, drained: &impl Carries<DrainReceipt>) -> Self {
        Self { primary: primary.clone(), target: target.clone(), drained: Input::of(drained), by_provider: false }
    }

    /// People read that the provider stops the writes and waits for the candidate by itself. What it offers when the step looks decides.
    #[must_use]
    pub fn by_provider(self) -> Self {
        Self { by_provider: true, ..self }
    }
}

impl Step for AwaitQuiesced {
    const KIND: Kind = Kind::new("dr.quiesced", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::CatchUp;
    type Output = QuiesceReceipt;

    fn sentence(&self) -> String {
        let (primary, target) = (&self.primary.member, &self.target.member);
        if self.by_provider {
            format!(
                "count the sessions on {primary}; the swap itself stops them and waits until {target} has everything"
            )
        } else {
            format!("see no writing session on {primary} and {target} equal to it")
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Prove)
    }
}

/// What speaks against a position being that of a standby with this history.
fn no_standby<T>(reading: &PositionReading, target: &Target) -> Option<Observed<T>> {
    let member = &target.member;
    if reading.lineage != target.lineage {
        let found = &reading.lineage;
        return Some(conflict(format_args!("`{member}` carries lineage {found}, it followed {}", target.lineage)));
    }
    match reading.in_recovery {
        Tri::Yes => None,
        Tri::No => Some(conflict(format_args!("`{member}` is no standby any more; somebody else promoted it"))),
        Tri::Unknown => Some(not_yet(format_args!("nobody can say whether `{member}` is a standby"))),
    }
}

/// How far a candidate has what the fenced history holds, and when that was so; or what speaks against it being a candidate.
async fn has<T>(cx: &StepCx, target: &Target) -> Result<Result<(Position, Timestamp), Observed<T>>, StepError> {
    let member = &target.member;
    if !target.is_copy() {
        let now = cx.probe(member)?.position().await?;
        return Ok(match no_standby(&now, target) {
            Some(verdict) => Err(verdict),
            None => Ok((now.applied, now.at)),
        });
    }
    let database = cx.database(member)?;
    let (seen, reading) = join(see(cx, member), database.replication()).await;
    let (seen, reading) = (seen?, reading?);
    if let Some(why) = seen.differs(target) {
        return Ok(Err(conflict(why)));
    }
    if !seen.description.is_copy() || seen.in_recovery() == Tri::No {
        return Ok(Err(conflict(format_args!("`{member}` is no logical copy any more; somebody else promoted it"))));
    }
    Ok(match copied(target, &reading) {
        Ok(applied) => Ok((applied.clone(), reading.at)),
        Err(why) => Err(not_yet(why)),
    })
}

pub(super) struct CatchUp;

impl CatchUp {
    /// Where the fenced history ends. A fence that does not know it leaves the server readable; what it says *after* the fence counts.
    async fn end(cx: &StepCx, fence: &FenceReceipt) -> Result<Result<Position, String>, StepError> {
        if let Some(end) = &fence.end {
            return Ok(Ok(end.clone()));
        }
        let old = match cx.probe(&fence.target.member)?.position().await {
            Ok(old) => old,
            Err(error) if fence.silent => {
                let (fence, member) = (&fence.fence, &fence.target.member);
                return Ok(Err(format!(
                    "`{fence}` keeps everybody out of `{member}` and does not tell where its history ends, so nothing can prove that the \
                     candidate has everything; list a fence that leaves `{member}` readable ({})",
                    crate::contract::Cause::chain(&error)
                )));
            }
            Err(error) => return Err(error.into()),
        };
        if old.lineage != fence.target.lineage {
            let member = &fence.target.member;
            return Ok(Err(format!("`{member}` carries lineage {}, fenced was {}", old.lineage, fence.target.lineage)));
        }
        Ok(Ok(old.durable))
    }
}

#[async_trait]
impl Look for CatchUp {
    type Step = AwaitCatchUp;

    async fn look(&self, cx: &StepCx, step: &AwaitCatchUp) -> Result<Observed<CatchUpReceipt>, StepError> {
        let fence = step.fence.get()?;
        if fence.target.lineage != *step.target.holds() {
            return Ok(conflict(format_args!(
                "`{}` follows lineage {}, fenced was {}",
                step.target.member,
                step.target.holds(),
                fence.target.lineage
            )));
        }
        let end = match Self::end(cx, fence).await? {
            Ok(end) => end,
            Err(why) => return Ok(conflict(why)),
        };
        let (applied, at) = match has(cx, &step.target).await? {
            Ok(has) => has,
            Err(verdict) => return Ok(verdict),
        };
        if applied.compare(&end).is_none() {
            return Ok(conflict(format_args!(
                "the position {applied} of `{}` does not compare with {end}",
                step.target.member
            )));
        }
        if !applied.reaches(&end) {
            let missing = applied.missing_to(&end).unwrap_or_default();
            let member = &step.target.member;
            return Ok(not_yet(format_args!(
                "`{member}` has {applied}, the fenced history ends at {end}: {missing} missing"
            )));
        }
        Ok(Observed::Done(CatchUpReceipt { run: cx.run().clone(), target: step.target.clone(), end, applied, at }))
    }
}

/// How long sessions are counted where nothing depends on their number.
const COUNTING: Millis = Millis::seconds(2);

pub(super) struct Quiescing;

#[async_trait]
impl Look for Quiescing {
    type Step = AwaitQuiesced;

    async fn look(&self, cx: &StepCx, step: &AwaitQuiesced) -> Result<Observed<QuiesceReceipt>, StepError> {
        step.drained.get()?;
        if let Some(verdict) = not_held_back(cx).await? {
            return Ok(verdict);
        }
        let (old, new) = (cx.probe(&step.primary.member)?, cx.probe(&step.target.member)?);
        let receipt = |sessions: Option<Sessions>, position: Option<Position>| QuiesceReceipt {
            run: cx.run().clone(),
            primary: step.primary.clone(),
            target: step.target.clone(),
            sessions,
            position,
            at: cx.now(),
        };
        if cx.database(&step.target.member)?.capabilities().await?.swap.is_some_and(|offer| offer.catches_up) {
            // Nothing depends on the count, so neither an error nor silence is waited out while applications are held back.
            let counted = within(cx.runtime(), COUNTING, old.writing_sessions()).await;
            return Ok(Observed::Done(receipt(counted.ok().and_then(Result::ok), None)));
        }
        let sessions = old.writing_sessions().await?;
        if sessions.all() > 0 {
            let member = &step.primary.member;
            return Ok(not_yet(format_args!("{sessions} can still write on `{member}`")));
        }
        // The primary first: what the candidate has afterwards can only be more.
        let old = old.position().await?;
        let new = new.position().await?;
        if old.lineage != step.primary.lineage {
            let member = &step.primary.member;
            return Ok(conflict(format_args!(
                "`{member}` carries lineage {}, the plan expects {}",
                old.lineage, step.primary.lineage
            )));
        }
        if let Some(verdict) = no_standby(&new, &step.target) {
            return Ok(verdict);
        }
        Ok(if new.applied.reaches(&old.durable) {
            Observed::Done(receipt(Some(sessions), Some(old.durable)))
        } else {
            not_yet(format_args!("`{}` has {}, the primary {}", step.target.member, new.applied, old.durable))
        })
    }
}

/// Both sides' positions at once, where neither depends on the other.
pub(super) async fn both(
    cx: &StepCx,
    old: &Target,
    new: &Target,
) -> Result<(Option<PositionReading>, Option<PositionReading>), StepError> {
    let (old, new) = join(super::read::position(cx, &old.member), super::read::position(cx, &new.member)).await;
    Ok((old.ok().flatten(), new?))
}
