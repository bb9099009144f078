//! Letting applications into the new writer: what the fence of its predecessor left with it is taken away (S22).
//!
//! ```text
//!  fence the former primary ──replication──► the candidate carries it too ──promote──► clear ──► confirm the writer
//! ```
//!
//! It lies inside the write gap, so nothing is looked at before the one call; that it did its work is seen when the writer is confirmed.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::{not_yet, refuse};
use crate::{
    base::Kind,
    contract::{Class, ClearFence as Request, Fact, FenceReceipt, Outcome, PromotionReceipt, Target, Touch, verb},
    plan::{Carries, Effect, Handler, Input, Marks, Observed, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Takes from a new writer what travelled to it: its own applications are let in again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClearFence {
    target: Target,
    promotion: Input<PromotionReceipt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<Input<FenceReceipt>>,
}

impl ClearFence {
    /// Clears `target` once `promotion` has made it the writer.
    #[must_use]
    pub fn of(target: &Target, promotion: &impl Carries<PromotionReceipt>) -> Self {
        Self { target: target.clone(), promotion: Input::of(promotion), fence: None }
    }

    /// This run fenced the former primary, and what was read before that is known.
    #[must_use]
    pub fn fenced_by(self, fence: &impl Carries<FenceReceipt>) -> Self {
        Self { fence: Some(Input::of(fence)), ..self }
    }
}

impl Step for ClearFence {
    const KIND: Kind = Kind::new("dr.clear-fence", 1);
    const EFFECT: Effect = Effect::Reconcilable;
    const CLASS: Class = Class::ClearFence;
    type Output = ();

    fn sentence(&self) -> String {
        format!("let the applications into {}: the fence of the former primary travelled to it", self.target.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Clear)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::CLEAR_FENCE.on(self.target.member.as_str())]
    }
}

pub(super) struct Clearing;

#[async_trait]
impl Handler for Clearing {
    type Step = ClearFence;

    async fn observe(&self, cx: &StepCx, step: &ClearFence) -> Result<Observed<()>, StepError> {
        if cx.intended_at().is_none() {
            return Ok(Observed::NotStarted);
        }
        let left = cx.fence(&step.target.member)?.carried().await?;
        Ok(if left.is_empty() { Observed::Done(()) } else { Observed::NotStarted })
    }

    async fn prepare(&self, cx: &StepCx, step: &ClearFence) -> Result<Prepared<()>, StepError> {
        let (member, writer) = (&step.target.member, &step.promotion.get()?.target);
        if let Err(other) = step.target.is(&writer.address, writer.identity.as_ref()) {
            return Ok(refuse(format_args!(
                "`{}` was promoted, and `{member}` is to be cleared: {other}",
                writer.member
            )));
        }
        let facts = vec![Fact::any("writer", writer.to_string(), "promotion", cx.now())];
        Ok(Prepared::Ready(Ready { facts, pre_image: None }))
    }

    async fn submit(&self, cx: &StepCx, step: &ClearFence) -> Result<Outcome<()>, StepError> {
        let promotion = step.promotion.get()?;
        let token = step.fence.as_ref().map(Input::get).transpose()?.map(|fence| fence.token.clone());
        let request = Request { target: promotion.target.clone(), was: promotion.was.clone(), token, key: cx.key() };
        Ok(cx.fence(&step.target.member)?.clear(request).await)
    }
}

/// What of a fence that travelled still keeps applications out of a member, as the verdict of a look that may not pass it over.
pub(super) async fn still_carries<T>(cx: &StepCx, target: &Target) -> Result<Option<Observed<T>>, StepError> {
    let left = cx.fence(&target.member)?.carried().await?;
    let why = || {
        format!(
            "the fence of the former primary travelled to `{}` and still keeps its applications out: {}",
            target.member,
            left.join("; ")
        )
    };
    Ok((!left.is_empty()).then(|| not_yet(why())))
}
