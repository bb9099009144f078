//! Promoting a standby after a separate fence: without loss, with bounded loss, or at a person's risk.

use async_trait::async_trait;
use futures_util::future::{join, join3};
use serde::{Deserialize, Serialize};

use super::{
    down::{Verdict, vantages},
    facts::at_pivot,
    pivot::{self, Expected, no_proof, not_proved},
    read::refuse,
};
use crate::{
    base::{Kind, Millis},
    contract::{
        CatchUpReceipt, Class, Consent, Ends, FenceReceipt, Grade, LossBound, OpHandle, Outcome, PromoteRequest,
        PromotionReceipt, Shape, Target, Touch, admit, verb,
    },
    plan::{Carries, Effect, Handler, Input, Marks, Observed, Polled, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Makes a standby the primary. Its intent is the point of no return.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    target: Target,
    consent: Input<Consent>,
    terms: Terms,
    takes: Option<Millis>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Terms {
    Planned { fence: Input<FenceReceipt>, caught_up: Input<CatchUpReceipt>, minimum: Grade },
    Forced { fence: Input<FenceReceipt>, bound: Input<LossBound>, minimum: Grade },
    Dangerous { from: Target, bound: Input<LossBound>, reason: String },
}

impl Promote {
    /// Without loss: the former primary is fenced at [`Grade::Confirmed`] or better, the candidate has everything, people agreed.
    #[must_use]
    pub fn planned(
        target: &Target,
        fence: &impl Carries<FenceReceipt>,
        caught_up: &impl Carries<CatchUpReceipt>,
        consent: &impl Carries<Consent>,
    ) -> Self {
        let terms =
            Terms::Planned { fence: Input::of(fence), caught_up: Input::of(caught_up), minimum: Grade::Confirmed };
        Self { target: target.clone(), consent: Input::of(consent), terms, takes: None }
    }

    /// With bounded loss: the former primary is fenced at [`Grade::Enforced`] or better, people accepted the loss.
    #[must_use]
    pub fn forced(
        target: &Target,
        fence: &impl Carries<FenceReceipt>,
        bound: &impl Carries<LossBound>,
        consent: &impl Carries<Consent>,
    ) -> Self {
        let terms = Terms::Forced { fence: Input::of(fence), bound: Input::of(bound), minimum: Grade::Enforced };
        Self { target: target.clone(), consent: Input::of(consent), terms, takes: None }
    }

    /// Without a fence: two people took the risk of a second writer, because of `reason`.
    #[must_use]
    pub fn dangerous(
        Ends { from, to }: Ends,
        bound: &impl Carries<LossBound>,
        consent: &impl Carries<Consent>,
        reason: impl Into<String>,
    ) -> Self {
        let terms = Terms::Dangerous { from, bound: Input::of(bound), reason: reason.into() };
        Self { target: to, consent: Input::of(consent), terms, takes: None }
    }

    /// Raises the grade that the fence must have, to that of the policy.
    #[must_use]
    pub fn at_least(mut self, grade: Grade) -> Self {
        match &mut self.terms {
            Terms::Planned { minimum, .. } | Terms::Forced { minimum, .. } => *minimum = grade.max(*minimum),
            Terms::Dangerous { .. } => {}
        }
        self
    }

    /// People read how long it takes at most, as its provider says.
    #[must_use]
    pub fn taking(self, takes: Millis) -> Self {
        Self { takes: Some(takes), ..self }
    }

    fn expected(&self) -> Result<Expected<'_>, StepError> {
        let proven = match &self.terms {
            Terms::Planned { caught_up, .. } => Some(&caught_up.get()?.end),
            Terms::Forced { .. } | Terms::Dangerous { .. } => None,
        };
        Ok(Expected { target: &self.target, proven, shape: Shape::SeparateFence })
    }
}

impl Step for Promote {
    const KIND: Kind = Kind::new("dr.promote", 1);
    const EFFECT: Effect = Effect::AtMostOnce;
    const CLASS: Class = Class::Pivot;
    type Output = PromotionReceipt;

    fn sentence(&self) -> String {
        let member = &self.target.member;
        let what = match &self.terms {
            Terms::Planned { .. } => format!("promote {member}, which has everything"),
            Terms::Forced { .. } => format!("promote {member} and lose at most what was accepted"),
            Terms::Dangerous { from, .. } => {
                format!("promote {member} although {} is not fenced: two writers are possible", from.member)
            }
        };
        super::up_to(what, self.takes)
    }

    fn marks(&self) -> Marks {
        match &self.terms {
            Terms::Planned { minimum, .. } | Terms::Forced { minimum, .. } => {
                Marks::at(Stage::Change).asks_for(*minimum)
            }
            Terms::Dangerous { reason, .. } => Marks::at(Stage::Change).risk(Some(reason.clone())),
        }
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::PROMOTE.on(self.target.member.as_str())]
    }
}

pub(super) struct Promoting;

impl Promoting {
    /// The request with its proofs, all asked for just now.
    async fn request(cx: &StepCx, step: &Promote) -> Result<Result<PromoteRequest, admit::Refused>, StepError> {
        let door = cx.door();
        let consent = step.consent.get()?;
        match &step.terms {
            Terms::Planned { fence, caught_up, minimum } => {
                let (receipt, caught_up) = (fence.get()?, caught_up.get()?);
                let (fence, member) = (cx.fence(&receipt.target.member)?, &step.target.member);
                let (database, probe) = (cx.database(member)?, cx.probe(member)?);
                let (fenced, caught_up, facts) = join3(
                    admit::fenced(&door, fence.as_ref(), receipt, *minimum),
                    admit::caught_up(&door, (database.as_ref(), probe.as_ref()), caught_up, receipt),
                    at_pivot(cx, consent, &step.target.member),
                )
                .await;
                let facts = facts?;
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    Ok(PromoteRequest::planned(cx.key(), fenced?, caught_up?, consented))
                })())
            }
            Terms::Forced { fence, bound, minimum } => {
                let receipt = fence.get()?;
                let fence = cx.fence(&receipt.target.member)?;
                let (fenced, facts) = join(
                    admit::fenced(&door, fence.as_ref(), receipt, *minimum),
                    at_pivot(cx, consent, &step.target.member),
                )
                .await;
                let (facts, bound) = (facts?, bound.get()?);
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    let bounded = admit::loss_bounded(&door, bound, consent)?;
                    PromoteRequest::forced(cx.key(), step.target.clone(), fenced?, bounded, consented)
                        .map_err(|found| admit::Refused::Weak { found, needed: Grade::Enforced })
                })())
            }
            Terms::Dangerous { from, bound, reason } => {
                let facts = at_pivot(cx, consent, &step.target.member).await?;
                let bound = bound.get()?;
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    let bounded = admit::loss_bounded(&door, bound, consent)?;
                    let waiver = admit::unfenced(&door, consent, reason)?;
                    let ends = Ends { from: from.clone(), to: step.target.clone() };
                    Ok(PromoteRequest::dangerous(cx.key(), ends, bounded, consented, waiver))
                })())
            }
        }
    }

    /// Without a fence, a primary that answers is a second writer (E08).
    async fn alive(cx: &StepCx, step: &Promote) -> Result<Option<String>, StepError> {
        let Terms::Dangerous { from, .. } = &step.terms else { return Ok(None) };
        let alive = vantages(cx, from, &step.target).await?.verdict() == Verdict::Alive;
        Ok(alive.then(|| format!("`{}` is alive and not fenced: a promotion would make a second writer", from.member)))
    }
}

#[async_trait]
impl Handler for Promoting {
    type Step = Promote;

    async fn observe(&self, cx: &StepCx, step: &Promote) -> Result<Observed<PromotionReceipt>, StepError> {
        pivot::observe(cx, step.expected()?).await
    }

    /// Everything that could speak against it is asked before the intent: afterwards there is no way back.
    async fn prepare(&self, cx: &StepCx, step: &Promote) -> Result<Prepared<PromotionReceipt>, StepError> {
        let (not_now, request) = join(pivot::not_now(cx, step.expected()?), Self::request(cx, step)).await;
        if let Some(verdict) = not_now? {
            return Ok(verdict);
        }
        if let Some(why) = Self::alive(cx, step).await? {
            return Ok(refuse(why));
        }
        Ok(match request? {
            Ok(_asked_again_after_the_intent) => {
                Prepared::Ready(Ready { facts: step.consent.get()?.facts.clone(), pre_image: None })
            }
            Err(refused) => not_proved(&refused),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &Promote) -> Result<Outcome<PromotionReceipt>, StepError> {
        if let Some(why) = Self::alive(cx, step).await? {
            return Ok(Outcome::refused(why));
        }
        let request = match Self::request(cx, step).await? {
            Ok(request) => request,
            Err(refused) => return Ok(Outcome::NotDone(no_proof(&refused))),
        };
        let outcome = cx.database(&step.target.member)?.promote(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }

    async fn poll(
        &self,
        cx: &StepCx,
        step: &Promote,
        handle: &OpHandle,
    ) -> Result<Polled<PromotionReceipt>, StepError> {
        pivot::poll(cx, step.expected()?, handle).await
    }
}
