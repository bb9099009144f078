//! Keeping the former primary from writing, giving that back in an abort, and taking it away at the end (E01, S9).

use async_trait::async_trait;
use futures_util::future::{join, join3};
use serde::{Deserialize, Serialize};

use super::{
    down::answers,
    lock::held_by_another,
    read::{conflict, later, not_yet, refuse, see},
};
use crate::{
    base::{Json, Kind, MemberId, canonical},
    contract::{
        Cause, Class, EngageFence, Fact, Fence, FenceReceipt, FenceToken, Grade, Outcome, ProviderError, Reach,
        ReleaseOrder, RetireFence, Retry, Target, Touch, Tri, WriterReceipt, verb,
    },
    plan::{
        Attempted, Effect, Handler, Input, Marks, Observed, Prepared, Promotion, Ready, Stage, Step, StepCx, StepError,
        stop,
    },
};

/// Fences a member: it cannot write any more, read back at `minimum` or better.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceMember {
    target: Target,
    minimum: Grade,
    /// The primary is silent: what it cannot be asked does not stop the fence.
    silent: bool,
    /// The fence is the one that can be engaged only after the promotion; another one stands already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
}

impl FenceMember {
    /// Fences `target`, worth at least `minimum`.
    #[must_use]
    pub fn of(target: &Target, minimum: Grade) -> Self {
        Self { target: target.clone(), minimum, silent: false, late: false }
    }

    /// Engages what can be engaged only after the promotion ([`FencePlace::AfterPromotion`](crate::contract::FencePlace)). It authorises
    /// nothing: it keeps closed what was closed before.
    #[must_use]
    pub fn late(self) -> Self {
        Self { late: true, silent: true, ..self }
    }

    fn fence(&self, cx: &StepCx) -> Result<std::sync::Arc<dyn Fence>, StepError> {
        let member = &self.target.member;
        if self.late { cx.late_fence(member) } else { cx.fence(member) }
    }

    /// The member is silent; who it is cannot be asked.
    #[must_use]
    pub fn silent(self) -> Self {
        Self { silent: true, ..self }
    }
}

impl Step for FenceMember {
    const KIND: Kind = Kind::new("dr.fence", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::Fence;
    type Output = FenceReceipt;

    fn sentence(&self) -> String {
        let (member, minimum) = (&self.target.member, self.minimum);
        match self.late {
            false => format!("fence {member}, read back as `{minimum}` or better"),
            true => format!("fence {member} by what its provider refuses before, read back as `{minimum}` or better"),
        }
    }

    fn marks(&self) -> Marks {
        match self.late {
            false => Marks::at(Stage::Fence).or(Stage::Owe).asks_for(self.minimum),
            true => Marks::at(Stage::After).asks_for(self.minimum),
        }
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::FENCE.on(self.target.member.as_str())]
    }
}

/// Lets a fenced member write again, when a planned run turns back before the promotion. It is the give-back of a hold and nothing
/// else: what was read before the fence comes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFence {
    target: Target,
    candidate: Target,
}

impl ReleaseFence {
    /// Gives back the fence of `target`, unless `candidate` was or may have been promoted.
    #[must_use]
    pub fn of(target: &Target, candidate: &Target) -> Self {
        Self { target: target.clone(), candidate: candidate.clone() }
    }
}

impl Step for ReleaseFence {
    const KIND: Kind = Kind::new("dr.release-fence", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::ReleaseFence;
    type Output = ();

    fn sentence(&self) -> String {
        format!("let {} write again, if {} was never promoted", self.target.member, self.candidate.member)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::RELEASE_FENCE.on(self.target.member.as_str())]
    }
}

/// Takes away what is left of a fence, once the member is seen to follow the new writer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireMemberFence {
    fence: Input<FenceReceipt>,
    writer: Input<WriterReceipt>,
    rejoined: Input<Attempted<()>>,
    member: crate::base::MemberId,
}

impl RetireMemberFence {
    /// Retires `fence` of `member`, which has rejoined `writer`.
    #[must_use]
    pub fn of(
        member: &crate::base::MemberId,
        fence: &impl crate::plan::Carries<FenceReceipt>,
        writer: &impl crate::plan::Carries<WriterReceipt>,
        rejoined: &impl crate::plan::Carries<Attempted<()>>,
    ) -> Self {
        Self {
            fence: Input::of(fence),
            writer: Input::of(writer),
            rejoined: Input::of(rejoined),
            member: member.clone(),
        }
    }
}

impl Step for RetireMemberFence {
    const KIND: Kind = Kind::new("dr.retire-fence", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::RetireFence;
    type Output = ();

    fn sentence(&self) -> String {
        format!("take the fence of {} away, which follows the new writer", self.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::RETIRE_FENCE.on(self.member.as_str())]
    }
}

/// What was read before the fence, as it was journaled with the intent.
fn token(cx: &StepCx) -> Result<FenceToken, StepError> {
    let image = cx.pre_image().ok_or_else(|| stop("what was there before the fence is not in the journal"))?;
    serde_json::from_value(image.0.clone())
        .map_err(|error| stop(format_args!("the fence's record cannot be read: {error}")))
}

pub(super) struct Fencing;

impl Fencing {
    /// Why the fence of a silent member cannot be had over the ways that are open now, if so. It is seen twice: one look may have been
    /// unlucky. Once a fence was sent, what it is worth is read back and nothing else counts.
    pub(super) async fn beyond_reach(
        cx: &StepCx,
        step: &FenceMember,
        fence: &dyn Fence,
    ) -> Result<Option<String>, StepError> {
        if !step.silent || cx.intended_at().is_some() {
            return Ok(None);
        }
        let member = &step.target.member;
        let first = reach(cx, member, fence).await?;
        if fence.offers(first).grade() >= step.minimum {
            return Ok(None);
        }
        cx.pause(cx.every()).await;
        let now = reach(cx, member, fence).await?;
        let best = fence.offers(now).grade();
        if best >= step.minimum {
            return Ok(None);
        }
        let unfenced = match &cx.plan().to {
            Some(to) if cx.promotion() != Promotion::MayStand => format!(
                "; make them reachable, or take the risk of two writers by name, which two people must agree to: \
                 dr plan failover {} --to {to} --without-fence <reason>",
                cx.plan().group
            ),
            Some(_) | None => String::new(),
        };
        Ok(Some(format!(
            "the fences of `{member}` are worth `{best}` at best now, this needs `{}`: {} cannot be reached (its management plane \
             answers: {}, its server: {}){unfenced}",
            step.minimum,
            fence.out_of_reach(now).join(", "),
            now.management,
            now.server
        )))
    }
}

/// Which ways to a member are open now. A way on which nothing of the fence depends is not tried: a dark one costs its caller seconds.
async fn reach(cx: &StepCx, member: &MemberId, fence: &dyn Fence) -> Result<Reach, StepError> {
    let offers = |management, server| fence.offers(Reach { management, server });
    let ways = [Tri::Yes, Tri::No];
    let by_management = ways.iter().any(|server| offers(Tri::Yes, *server) != offers(Tri::No, *server));
    let by_server = ways.iter().any(|management| offers(*management, Tri::Yes) != offers(*management, Tri::No));
    let (database, probe) = (cx.database(member)?, cx.probe(member)?);
    let management = async {
        if !by_management {
            return Tri::Unknown;
        }
        match database.describe().await {
            Ok(_) => Tri::Yes,
            Err(ProviderError::Throttled { .. } | ProviderError::Strange { .. }) => Tri::Unknown,
            Err(
                ProviderError::Unsupported { .. }
                | ProviderError::Refused { .. }
                | ProviderError::Missing { .. }
                | ProviderError::Unreachable { .. },
            ) => Tri::No,
        }
    };
    let server = async { if by_server { answers(probe.as_ref()).await } else { Tri::Unknown } };
    let (management, server) = join(management, server).await;
    Ok(Reach { management, server })
}

#[async_trait]
impl Handler for Fencing {
    type Step = FenceMember;

    async fn observe(&self, cx: &StepCx, step: &FenceMember) -> Result<Observed<FenceReceipt>, StepError> {
        if cx.intended_at().is_none() {
            return Ok(Observed::NotStarted);
        }
        let fence = step.fence(cx)?;
        let reading = fence.inspect().await?;
        let member = &step.target.member;
        if let Err(other) = reading.is_of(&step.target) {
            return Ok(conflict(format_args!("the fence of `{member}` speaks of another member: {other}")));
        }
        if let Some(other) = reading.lineage.as_ref().filter(|lineage| **lineage != step.target.lineage) {
            return Ok(conflict(format_args!(
                "`{member}` carries lineage {other}, to be fenced was {}",
                step.target.lineage
            )));
        }
        match reading.engaged() {
            Tri::Yes => {}
            Tri::No => return Ok(Observed::NotStarted),
            Tri::Unknown => return Ok(not_yet(format_args!("not read: {}", reading.unread.join("; ")))),
        }
        if reading.grade() < step.minimum {
            return Ok(Observed::Partial {
                done: reading.detail.clone(),
                missing: format!("the fence is worth `{}`, this needs `{}`", reading.grade(), step.minimum),
            });
        }
        Ok(Observed::Done(FenceReceipt {
            run: cx.run().clone(),
            epoch: cx.epoch(),
            target: step.target.clone(),
            fence: fence.name(),
            token: token(cx)?,
            planes: reading.planes,
            silent: reading.silent,
            end: reading.end,
            effective_at: reading.at,
            lapses_at: reading.lapses_at,
            detail: reading.detail,
        }))
    }

    async fn prepare(&self, cx: &StepCx, step: &FenceMember) -> Result<Prepared<FenceReceipt>, StepError> {
        let member = &step.target.member;
        let fence = step.fence(cx)?;
        // Over every way that could be open: what is worth less than that can never be had.
        let best = fence.promises().grade();
        if best < step.minimum {
            return Ok(refuse(format_args!(
                "the fences of `{member}` are worth `{best}` at best, this needs `{}`; list another fence in the group file",
                step.minimum
            )));
        }
        if fence.travels() && !cx.plan().fence_travels {
            return Ok(refuse(format_args!(
                "the fence of `{member}` travels to the new writer, and this plan does not clear it there; make a new plan"
            )));
        }
        let held = async {
            match &cx.plan().to {
                Some(candidate) => held_by_another(cx, candidate).await,
                None => Ok(None),
            }
        };
        let changed = async {
            if step.silent || cx.intended_at().is_some() {
                return Ok(None);
            }
            Ok::<_, StepError>(see(cx, member).await?.differs(&step.target))
        };
        let (held, changed, unreachable) = join3(held, changed, Self::beyond_reach(cx, step, fence.as_ref())).await;
        if let Some(why) = held?.or(changed?) {
            return Ok(refuse(why));
        }
        if let Some(why) = unreachable? {
            // Nobody waits for a fence that is owed: the way may open again within its time.
            let owed = cx.promotion() == Promotion::MayStand;
            return Ok(if owed { later(why, Retry::After(cx.every())) } else { refuse(why) });
        }
        let token = fence.prepare().await?;
        Ok(Prepared::Ready(Ready {
            facts: vec![Fact::any("fence", format!("{} of {}", fence.name(), step.target), "plan", cx.now())],
            pre_image: Some(Json(canonical::to_value(&token)?)),
        }))
    }

    async fn submit(&self, cx: &StepCx, step: &FenceMember) -> Result<Outcome<FenceReceipt>, StepError> {
        let request = EngageFence { target: step.target.clone(), token: token(cx)?, key: cx.key() };
        let outcome = step.fence(cx)?.engage(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}

pub(super) struct Releasing;

impl Releasing {
    /// Why the fence must stay, if so: a promotion was intended, or the candidate is not surely a standby of the old lineage.
    async fn must_stay(cx: &StepCx, step: &ReleaseFence) -> Result<Option<String>, StepError> {
        if cx.promotion() == Promotion::MayStand {
            return Ok(Some("a promotion was asked for: past that point a fence is retired, never released".into()));
        }
        let member = &step.candidate.member;
        let seen = match see(cx, member).await {
            Ok(seen) => seen,
            Err(silent) => return if Self::is_down(cx, &step.candidate).await { Ok(None) } else { Err(silent) },
        };
        if let Some(why) = seen.differs(&step.candidate) {
            return Ok(Some(format!("{why}: it may have been promoted")));
        }
        let standby = match seen.in_recovery() {
            Tri::Yes => true,
            Tri::No => false,
            Tri::Unknown => {
                let endpoint = cx.database(&step.target.member)?.known_endpoint();
                seen.description.follows(&step.target.address, endpoint.as_ref())
            }
        };
        Ok((!standby).then(|| format!("`{member}` is not seen to be a standby of the old history")))
    }

    /// Whether a candidate that does not answer is proved to be stopped, to have begun no history of its own, and to come back as a
    /// standby. It is as little a second writer as one that answers, and the applications need not wait for it.
    async fn is_down(cx: &StepCx, candidate: &Target) -> bool {
        let Ok(fence) = cx.fence(&candidate.member) else { return false };
        let Ok(reading) = fence.inspect().await else { return false };
        let same = reading.address.is_some()
            && reading.is_of(candidate).is_ok()
            && reading.lineage.as_ref() == Some(&candidate.lineage);
        same && reading.silent && reading.end.is_none() && reading.grade() >= Grade::Confirmed
    }
}

#[async_trait]
impl Handler for Releasing {
    type Step = ReleaseFence;

    async fn observe(&self, cx: &StepCx, step: &ReleaseFence) -> Result<Observed<()>, StepError> {
        let reading = cx.fence(&step.target.member)?.inspect().await?;
        Ok(match reading.engaged() {
            Tri::No => Observed::Done(()),
            Tri::Yes => Observed::NotStarted,
            Tri::Unknown => not_yet(format_args!("not read: {}", reading.unread.join("; "))),
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &ReleaseFence) -> Result<Prepared<()>, StepError> {
        token(cx)?;
        if let Some(why) = Self::must_stay(cx, step).await? {
            return Ok(refuse(why));
        }
        let visibility = cx.database(&step.candidate.member)?.capabilities().await?.visibility;
        cx.pause(visibility).await;
        if let Some(why) = Self::must_stay(cx, step).await? {
            return Ok(refuse(why));
        }
        let words = format!("{} on {}, no writer, seen twice", step.candidate.member, step.candidate.lineage);
        Ok(Prepared::Ready(Ready {
            facts: vec![Fact::any("candidate", words, "provider, server", cx.now())],
            pre_image: cx.pre_image().cloned(),
        }))
    }

    async fn submit(&self, cx: &StepCx, step: &ReleaseFence) -> Result<Outcome<()>, StepError> {
        if let Some(why) = Self::must_stay(cx, step).await? {
            return Ok(Outcome::refused(why));
        }
        let order = ReleaseOrder::abort(cx.key(), step.target.clone(), token(cx)?);
        Ok(cx.fence(&step.target.member)?.release(order).await)
    }
}

pub(super) struct Retiring;

/// The words of a debt: nobody can say that taking a fence away left what was there before it.
const NOT_READABLE: &str = "what stood before the fence was not readable; compare with the configuration";

impl Retiring {
    /// Why the member is not seen to follow the writer, if so.
    async fn not_following(cx: &StepCx, step: &RetireMemberFence) -> Result<Option<String>, StepError> {
        let writer = step.writer.get()?;
        let member = &step.member;
        let database = cx.database(member)?;
        let (description, replication) = join(database.describe(), database.replication()).await;
        let (description, replication) = (description?, replication?);
        if !description.follows(&writer.target.address, Some(&writer.endpoint)) {
            return Ok(Some(format!("`{member}` does not follow `{}`", writer.target.member)));
        }
        let strange = replication.lineage.is_some_and(|lineage| lineage != writer.target.lineage);
        let attached = replication.streaming == Tri::Yes && !strange;
        Ok((!attached).then(|| format!("`{member}` does not receive lineage {}", writer.target.lineage)))
    }
}

#[async_trait]
impl Handler for Retiring {
    type Step = RetireMemberFence;

    async fn observe(&self, cx: &StepCx, step: &RetireMemberFence) -> Result<Observed<()>, StepError> {
        let reading = cx.fence(&step.member)?.inspect().await?;
        Ok(match reading.engaged() {
            Tri::No if !step.fence.get()?.token.known => conflict(NOT_READABLE),
            Tri::No => Observed::Done(()),
            Tri::Yes => Observed::NotStarted,
            Tri::Unknown => not_yet(format_args!("not read: {}", reading.unread.join("; "))),
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &RetireMemberFence) -> Result<Prepared<()>, StepError> {
        if let Attempted::Owed(why) = step.rejoined.get()? {
            let member = &step.member;
            let lapse =
                step.fence.get()?.lapses_at.map_or_else(String::new, |at| format!("; it falls off by itself at {at}"));
            return Ok(refuse(format_args!("`{member}` has not rejoined ({why}), so its fence stays{lapse}")));
        }
        match Self::not_following(cx, step).await? {
            Some(why) => Ok(later(why, Retry::After(cx.every()))),
            None => Ok(Prepared::Ready(Ready::default())),
        }
    }

    async fn submit(&self, cx: &StepCx, step: &RetireMemberFence) -> Result<Outcome<()>, StepError> {
        if let Some(why) = Self::not_following(cx, step).await? {
            // It followed a moment ago; a receiver that connects anew follows again in a moment.
            return Ok(Outcome::not_done_yet(why, cx.every()));
        }
        let (receipt, writer) = (step.fence.get()?, step.writer.get()?);
        let target = Target { lineage: writer.target.lineage.clone(), ..receipt.target.clone() };
        let request = RetireFence { target, token: receipt.token.clone(), key: cx.key() };
        let outcome = cx.fence(&step.member)?.retire(request).await;
        let unread = matches!(outcome, Outcome::Done(())) && !receipt.token.known;
        Ok(if unread { Outcome::Conflict(Cause::new(NOT_READABLE)) } else { outcome })
    }
}
