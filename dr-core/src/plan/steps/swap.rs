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
    base::{Kind, Millis, Timestamp, text::human},
    contract::{
        Binding, Class, Consent, DrainReceipt, LossBound, OpHandle, Outcome, PromotionReceipt, QuiesceReceipt, Shape,
        SwapRequest, Target, Touch, admit, verb,
    },
    plan::{Carries, Effect, Handler, Input, Marks, Observed, Polled, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Makes the standby the primary and the primary a standby, in one call. Its intent is the point of no return.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRoles {
    from: Target,
    to: Target,
    consent: Input<Consent>,
    terms: Terms,
    takes: Option<Millis>,
    moves: Vec<Binding>,
    held: Option<HeldBack>,
}

/// Writes that wait while the provider swaps.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldBack {
    drained: Input<DrainReceipt>,
    /// How long they may wait in all.
    limit: Millis,
    /// Whether the provider can be told.
    told: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Terms {
    Planned {
        quiesced: Input<QuiesceReceipt>,
    },
    Forced {
        bound: Input<LossBound>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        without_fence: Option<String>,
    },
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
        Self::on(from, to, consent, Terms::Planned { quiesced: Input::of(quiesced) })
    }

    /// With bounded loss, while the primary is silent. What the fence of such a swap is worth is read back afterwards.
    #[must_use]
    pub fn forced(
        from: &Target,
        to: &Target,
        bound: &impl Carries<LossBound>,
        consent: &impl Carries<Consent>,
    ) -> Self {
        Self::on(from, to, consent, Terms::Forced { bound: Input::of(bound), without_fence: None })
    }

    fn on(from: &Target, to: &Target, consent: &impl Carries<Consent>, terms: Terms) -> Self {
        let (from, to, consent) = (from.clone(), to.clone(), Input::of(consent));
        Self { from, to, consent, terms, takes: None, moves: Vec::new(), held: None }
    }

    /// Two people took the risk of a second writer, because of `reason`; only a forced swap can be without a fence.
    #[must_use]
    pub fn without_fence(mut self, reason: impl Into<String>) -> Self {
        if let Terms::Forced { without_fence, .. } = &mut self.terms {
            *without_fence = Some(reason.into());
        }
        self
    }

    /// People read how long it takes at most, as its provider says.
    #[must_use]
    pub fn taking(self, takes: Millis) -> Self {
        Self { takes: Some(takes), ..self }
    }

    /// The provider moves these routes, or the secret, by itself.
    #[must_use]
    pub fn moving(self, moves: &[Binding]) -> Self {
        Self { moves: moves.to_vec(), ..self }
    }

    /// Writes are held back since `drained` and may wait for `limit` in all: what is left of it when the swap is asked for, the provider
    /// is told. `told` says whether it heeds that; people read it.
    #[must_use]
    pub fn held_since(self, drained: &impl Carries<DrainReceipt>, limit: Millis, told: bool) -> Self {
        Self { held: Some(HeldBack { drained: Input::of(drained), limit, told }), ..self }
    }

    /// What is left of the time for which writes may wait. Never nothing: some providers read that as no limit.
    fn left(&self, now: Timestamp) -> Result<Option<Millis>, StepError> {
        let Some(HeldBack { drained, limit, .. }) = &self.held else { return Ok(None) };
        let drained = drained.get()?;
        // Where no tier was drained, writes go on until the provider itself stops them: they wait from the call on.
        let waited = if drained.budget == Millis::ZERO { Millis::ZERO } else { now.since(drained.at) };
        Ok(Some(limit.saturating_sub(waited).max(LEAST)))
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
        let what = match &self.terms {
            Terms::Planned { .. } => format!("swap roles: {to} writes, {from} follows"),
            Terms::Forced { .. } => {
                format!("force the roles over to {to} and lose at most what was accepted; {from} is silent")
            }
        };
        let what = super::up_to(what, self.takes);
        match &self.held {
            Some(HeldBack { limit, told: true, .. }) => {
                format!("{what}, and the provider gives up before writes have waited {}", human(*limit))
            }
            Some(HeldBack { limit, told: false, .. }) => {
                format!("{what}, and the provider cannot be told that writes wait {} at most", human(*limit))
            }
            None => what,
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Change)
    }

    fn touches(&self) -> Vec<Touch> {
        let members = [&self.to, &self.from].map(|target| verb::SWAP_ROLES.on(target.member.as_str()));
        members.into_iter().chain(self.moves.iter().cloned().map(verb::follow)).collect()
    }
}

/// The least that a provider is told.
const LEAST: Millis = Millis::seconds(1);

pub(super) struct Swapping;

impl Swapping {
    async fn request(cx: &StepCx, step: &SwapRoles) -> Result<Result<SwapRequest, admit::Refused>, StepError> {
        let door = cx.door();
        let consent = step.consent.get()?;
        match &step.terms {
            Terms::Planned { quiesced } => {
                let (old, new) = (cx.probe(&step.from.member)?, cx.probe(&step.to.member)?);
                let offered = cx.database(&step.to.member)?.capabilities().await?.swap;
                let by_provider = offered.is_some_and(|offer| offer.catches_up);
                let receipt = quiesced.get()?;
                let (quiesced, facts) = join(
                    admit::quiesced(&door, old.as_ref(), new.as_ref(), receipt, by_provider),
                    at_pivot(cx, consent, &step.to.member),
                )
                .await;
                let (facts, left) = (facts?, step.left(cx.now())?);
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    let request = SwapRequest::planned(cx.key(), quiesced?, consented);
                    Ok(left.into_iter().fold(request, SwapRequest::giving_up_after))
                })())
            }
            Terms::Forced { bound, without_fence } => {
                let facts = at_pivot(cx, consent, &step.to.member).await?;
                let bound = bound.get()?;
                Ok((|| {
                    let consented = admit::consented(&door, consent, &facts)?;
                    let bounded = admit::loss_bounded(&door, bound, consent)?;
                    let (from, to) = (step.from.clone(), step.to.clone());
                    let request = SwapRequest::forced(cx.key(), from, to, bounded, consented);
                    Ok(match without_fence {
                        Some(reason) => request.without_fence(admit::unfenced(&door, consent, reason)?),
                        None => request,
                    })
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
