//! One provider call that swaps the roles: without loss, or forced while the primary is silent.

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::{
    down::{Verdict, vantages},
    facts::at_pivot,
    pivot::{self, Expected, no_proof, not_proved},
    read::refuse,
};
use crate::{
    Carries, Class, Consent, Effect, Handler, Input, Kind, LossBound, Marks, Observed, OpHandle, Outcome, Polled,
    Prepared, PromotionReceipt, QuiesceReceipt, Ready, Shape, Stage, Step, StepCx, StepError, SwapRequest, Target,
    Touch, admit, verb,
};

/// Makes the standby the primary and the primary a standby, in one call. Its intent is the point of no return.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRoles {
    from: Target,
    to: Target,
    consent: Input<Consent>,
    terms: Terms,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Terms {
    Planned { quiesced: Input<QuiesceReceipt> },
    Forced { bound: Input<LossBound> },
}

impl SwapRoles {
    /// Without loss: nothing writes, the candidate is equal, people agreed.
    #[must_use]
    pub fn planned(
        from: &Target,
        to: &Target,
        quiesced: &impl Carries<QuiesceReceipt>,
        consent: &impl Carries<Consent>,
    ) -> Self {
        let terms = Terms::Planned { quiesced: Input::of(quiesced) };
        Self { from: from.clone(), to: to.clone(), consent: Input::of(consent), terms }
    }

    /// With bounded loss, while the primary is silent. What the fence of such a swap is worth is read back afterwards.
    #[must_use]
    pub fn forced(
        from: &Target,
        to: &Target,
        bound: &impl Carries<LossBound>,
        consent: &impl Carries<Consent>,
    ) -> Self {
        let terms = Terms::Forced { bound: Input::of(bound) };
        Self { from: from.clone(), to: to.clone(), consent: Input::of(consent), terms }
    }

    fn expected(&self) -> Result<Expected<'_>, StepError> {
        let proven = match &self.terms {
            Terms::Planned { quiesced } => quiesced.get()?.position.as_ref(),
            Terms::Forced { .. } => None,
        };
        Ok(Expected { target: &self.to, proven, shape: Shape::BuiltInFence })
    }
}

impl Step for SwapRoles {
    const KIND: Kind = Kind::new("dr.swap-roles", 1);
    const EFFECT: Effect = Effect::AtMostOnce;
    const CLASS: Class = Class::Pivot;
    type Output = PromotionReceipt;

    fn sentence(&self) -> String {
        let (from, to) = (&self.from.member, &self.to.member);
        match &self.terms {
            Terms::Planned { .. } => format!("swap roles: {to} writes, {from} follows"),
            Terms::Forced { .. } => {
                format!("force the roles over to {to} and lose at most what was accepted; {from} is silent")
            }
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Change)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::SWAP_ROLES.on(self.to.member.as_str())]
    }
}

pub(super) struct Swapping;

impl Swapping {
    async fn request(cx: &StepCx, step: &SwapRoles) -> Result<Result<SwapRequest, admit::Refused>, StepError> {
        let door = cx.door();
        let consent = step.consent.get()?;
        match &step.terms {
            Terms::Planned { quiesced } => {
                let (old, new) = (cx.probe(&step.from.member)?, cx.probe(&step.to.member)?);
                let by_provider = cx.database(&step.to.member)?.capabilities().await?.swap_catches_up;
                let receipt = quiesced.get()?;
                let (quiesced, facts) = join(
                    admit::quiesced(&door, old.as_ref(), new.as_ref(), receipt, by_provider),
                    at_pivot(cx, consent, &step.to.member),
                )
                .await;
                let facts = facts?;
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    Ok(SwapRequest::planned(cx.key(), quiesced?, consented))
                })())
            }
            Terms::Forced { bound } => {
                let facts = at_pivot(cx, consent, &step.to.member).await?;
                let bound = bound.get()?;
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    let bounded = admit::loss_bounded(&door, bound, consent)?;
                    Ok(SwapRequest::forced(cx.key(), step.from.clone(), step.to.clone(), bounded, consented))
                })())
            }
        }
    }

    /// A forced swap is for a silent primary (E08).
    async fn alive(cx: &StepCx, step: &SwapRoles) -> Result<Option<String>, StepError> {
        let Terms::Forced { .. } = &step.terms else { return Ok(None) };
        let alive = vantages(cx, &step.from, &step.to).await?.verdict() == Verdict::Alive;
        Ok(alive
            .then(|| format!("`{}` is alive; a forced swap would lose its writes; use a switchover", step.from.member)))
    }
}

#[async_trait]
impl Handler for Swapping {
    type Step = SwapRoles;

    async fn observe(&self, cx: &StepCx, step: &SwapRoles) -> Result<Observed<PromotionReceipt>, StepError> {
        let seen = pivot::observe(cx, step.expected()?).await?;
        if seen != Observed::NotStarted {
            return Ok(seen);
        }
        Ok(pivot::given_up(cx, &step.from, &step.to).await?.map_or(seen, Observed::GivenUp))
    }

    /// Everything that could speak against it is asked before the intent: afterwards there is no way back.
    async fn prepare(&self, cx: &StepCx, step: &SwapRoles) -> Result<Prepared<PromotionReceipt>, StepError> {
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

    async fn submit(&self, cx: &StepCx, step: &SwapRoles) -> Result<Outcome<PromotionReceipt>, StepError> {
        if let Some(why) = Self::alive(cx, step).await? {
            return Ok(Outcome::refused(why));
        }
        let request = match Self::request(cx, step).await? {
            Ok(request) => request,
            Err(refused) => return Ok(Outcome::NotDone(no_proof(&refused))),
        };
        let outcome = cx.database(&step.to.member)?.swap_roles(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }

    async fn poll(
        &self,
        cx: &StepCx,
        step: &SwapRoles,
        handle: &OpHandle,
    ) -> Result<Polled<PromotionReceipt>, StepError> {
        pivot::poll(cx, step.expected()?, handle).await
    }
}
