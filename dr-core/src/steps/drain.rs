//! Holding back the writes of applications for a while, and letting them through again (D10, D11, D20).

use async_trait::async_trait;
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use super::read::{Seen, conflict, later, not_yet, refuse, see};
use crate::{
    Class, DrainReceipt, DrainRequest, Effect, Handler, Kind, Look, Marks, MemberId, Millis, Observed, Outcome,
    Prepared, Promotion, Ready, ResumeRequest, Retry, Stage, Step, StepCx, StepError, Touch, Tri, text, verb,
};

/// Holds the writes of applications back. The budget lies below the clients' own limit; a drain never outlives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// How long it may last, whatever happens to us.
    pub budget: Millis,
    /// How long running work may take to end.
    pub within: Millis,
}

impl Step for Drain {
    const KIND: Kind = Kind::new("dr.drain", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Drain;
    type Output = DrainReceipt;

    fn sentence(&self) -> String {
        format!("hold the applications' writes back, for at most {}", text::human(self.budget))
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Hold)
    }

    fn touches(&self) -> Vec<Touch> {
        // Clients that wait too long are told so by the driver, as a part of the drain.
        vec![verb::DRAIN.on("app"), verb::FAIL_FAST.on("app")]
    }
}

/// Lets the applications write again: onto `before` as long as no promotion was ever intended, onto `after` from then on. The same
/// call gives a drain back in an abort and opens the writer after the promotion.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeWrites {
    /// The writer before the run.
    pub before: MemberId,
    /// The writer after it.
    pub after: MemberId,
}

impl ResumeWrites {
    /// Onto which member writes go now.
    fn onto(&self, cx: &StepCx) -> MemberId {
        if cx.promotion() == Promotion::MayStand { self.after.clone() } else { self.before.clone() }
    }
}

impl Step for ResumeWrites {
    const KIND: Kind = Kind::new("dr.resume-writes", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Resume;
    type Output = ();

    fn sentence(&self) -> String {
        format!("let the applications write again, on {} (on {} if nothing was promoted)", self.after, self.before)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Open)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::RESUME.on("app")]
    }
}

/// There is no application tier to drain: the fence or the swap itself cuts the writers off.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoDrain {}

impl Step for NoDrain {
    const KIND: Kind = Kind::new("dr.no-drain", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = DrainReceipt;

    fn sentence(&self) -> String {
        "hold nothing back: the group names no application tier, so clients see errors while nobody writes".into()
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Hold)
    }
}

/// Nothing was held back, so there is nothing to let through.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NothingToResume {}

impl Step for NothingToResume {
    const KIND: Kind = Kind::new("dr.nothing-to-resume", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = ();

    fn sentence(&self) -> String {
        "let nothing through: nothing was held back".into()
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Open)
    }
}

pub(super) struct Draining;

#[async_trait]
impl Handler for Draining {
    type Step = Drain;

    async fn observe(&self, cx: &StepCx, step: &Drain) -> Result<Observed<DrainReceipt>, StepError> {
        let reading = cx.app()?.read().await?;
        Ok(match reading.drained {
            Tri::Yes if reading.stragglers.is_empty() => {
                Observed::Done(DrainReceipt { at: reading.at, budget: step.budget, detail: reading.detail })
            }
            Tri::Yes | Tri::Unknown if !reading.stragglers.is_empty() => {
                Observed::Partial { done: reading.detail, missing: reading.stragglers.join(", ") }
            }
            Tri::No => Observed::NotStarted,
            Tri::Yes | Tri::Unknown => not_yet(reading.detail),
        })
    }

    async fn prepare(&self, cx: &StepCx, step: &Drain) -> Result<Prepared<DrainReceipt>, StepError> {
        let app = cx.app()?;
        let (limit, reading) = join(app.limit(), app.read()).await;
        let (limit, reading) = (limit?, reading?);
        if step.budget >= limit {
            let (budget, limit) = (text::human(step.budget), text::human(limit));
            return Ok(refuse(format_args!(
                "a drain may last {budget}, but clients give up after {limit}; make the gap budget smaller"
            )));
        }
        Ok(match (reading.drained, cx.intended_at()) {
            (Tri::No, _) | (Tri::Yes | Tri::Unknown, Some(_)) => Prepared::Ready(Ready::default()),
            (Tri::Yes, None) => refuse(format_args!(
                "the applications are held back already, and not by this run ({}); giving that back would undo someone else's work",
                reading.detail
            )),
            (Tri::Unknown, None) => later(reading.detail, Retry::After(cx.every())),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &Drain) -> Result<Outcome<DrainReceipt>, StepError> {
        let request = DrainRequest { budget: step.budget, within: step.within, key: cx.key() };
        let outcome = cx.app()?.drain(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}

pub(super) struct Resuming;

#[async_trait]
impl Handler for Resuming {
    type Step = ResumeWrites;

    async fn observe(&self, cx: &StepCx, _step: &ResumeWrites) -> Result<Observed<()>, StepError> {
        let reading = cx.app()?.read().await?;
        Ok(match reading.drained {
            Tri::No if reading.stragglers.is_empty() => Observed::Done(()),
            Tri::No | Tri::Unknown if !reading.stragglers.is_empty() => {
                Observed::Partial { done: reading.detail, missing: reading.stragglers.join(", ") }
            }
            Tri::Yes => Observed::NotStarted,
            Tri::No | Tri::Unknown => not_yet(reading.detail),
        })
    }

    /// A drain that fell off by itself may have left the tier pointed at another member, so it is always said again onto which.
    ///
    /// Where a promotion was asked for and proved not to stand, the former writer is looked at once more: a provider that does late
    /// what it gave up would leave the applications on a standby.
    async fn prepare(&self, cx: &StepCx, step: &ResumeWrites) -> Result<Prepared<()>, StepError> {
        if cx.promotion() == Promotion::Disproved {
            // One that does not answer keeps nobody waiting: that it is a standby has to be seen.
            let standby = |seen: Seen| seen.in_recovery() == Tri::Yes || seen.description.follows.is_some();
            if see(cx, &step.before).await.is_ok_and(standby) {
                let member = &step.before;
                return Ok(refuse(format_args!(
                    "`{member}` is a standby now: the promotion that its provider had given up came after all"
                )));
            }
        }
        Ok(Prepared::Ready(Ready::default()))
    }

    async fn submit(&self, cx: &StepCx, step: &ResumeWrites) -> Result<Outcome<()>, StepError> {
        let request = ResumeRequest { onto: step.onto(cx), key: cx.key() };
        Ok(cx.app()?.resume(request).await)
    }
}

pub(super) struct Undrained;

#[async_trait]
impl Look for Undrained {
    type Step = NoDrain;

    async fn look(&self, cx: &StepCx, _step: &NoDrain) -> Result<Observed<DrainReceipt>, StepError> {
        let detail = "no application tier; nothing is held back".to_owned();
        Ok(Observed::Done(DrainReceipt { at: cx.now(), budget: Millis::ZERO, detail }))
    }
}

pub(super) struct NothingHeld;

#[async_trait]
impl Look for NothingHeld {
    type Step = NothingToResume;

    async fn look(&self, _cx: &StepCx, _step: &NothingToResume) -> Result<Observed<()>, StepError> {
        Ok(Observed::Done(()))
    }
}

/// What speaks against the applications being held back, if a group has a tier: for the proof that nothing writes.
pub(super) async fn not_held_back<T>(cx: &StepCx) -> Result<Option<Observed<T>>, StepError> {
    if !cx.plan().bindings.contains_key("app") {
        return Ok(None);
    }
    let reading = cx.app()?.read().await?;
    Ok(match reading.drained {
        Tri::Yes if reading.stragglers.is_empty() => None,
        Tri::No => Some(conflict(format_args!("the applications write again: {}", reading.detail))),
        Tri::Yes | Tri::Unknown => {
            Some(not_yet(format_args!("the applications are not held back: {}", reading.detail)))
        }
    })
}
