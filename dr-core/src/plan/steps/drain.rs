//! Holding back the writes of applications for a while, and letting them through again (D10, D11, D20).

use async_trait::async_trait;
use futures_util::future::{join, try_join_all};
use serde::{Deserialize, Serialize};

use super::read::{Seen, conflict, later, not_yet, refuse, see};
use crate::{
    base::{BindingName, Kind, MemberId, Millis, text},
    contract::{Binding, Class, DrainReceipt, DrainRequest, Outcome, ResumeRequest, Retry, Touch, Tri, verb},
    plan::{Effect, Handler, Look, Marks, Observed, Prepared, Promotion, Ready, Stage, Step, StepCx, StepError},
};

/// Holds the writes of applications back. The budget lies below the clients' own limit; a drain never outlives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// The application tier.
    pub app: BindingName,
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
        format!("hold the writes of {} back, for at most {}", self.app, text::human(self.budget))
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Hold)
    }

    fn touches(&self) -> Vec<Touch> {
        // Clients that wait too long are told so by the driver, as a part of the drain.
        let app = Binding::App(self.app.clone());
        vec![verb::DRAIN.on(app.clone()), verb::FAIL_FAST.on(app)]
    }
}

/// Lets the applications write again: onto `before` as long as no promotion was ever intended, onto `after` from then on. The same
/// call gives a drain back in an abort and opens the writer after the promotion.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeWrites {
    /// The application tier.
    pub app: BindingName,
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
        format!("let {} write again, on {} (on {} if nothing was promoted)", self.app, self.after, self.before)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Open)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::RESUME.on(Binding::App(self.app.clone()))]
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
        let reading = cx.app(&step.app)?.read().await?;
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
        let app = cx.app(&step.app)?;
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
        let outcome = cx.app(&step.app)?.drain(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}

pub(super) struct Resuming;

#[async_trait]
impl Handler for Resuming {
    type Step = ResumeWrites;

    async fn observe(&self, cx: &StepCx, step: &ResumeWrites) -> Result<Observed<()>, StepError> {
        let reading = cx.app(&step.app)?.read().await?;
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
        Ok(cx.app(&step.app)?.resume(request).await)
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

/// What speaks against the applications being held back, if a group has tiers: for the proof that nothing writes. All of them are
/// asked at once, and one that writes again weighs more than one that is not known.
pub(super) async fn not_held_back<T>(cx: &StepCx) -> Result<Option<Observed<T>>, StepError> {
    let names = cx.plan().bindings.keys().filter_map(|binding| match binding {
        Binding::App(name) => Some(name),
        Binding::Member(_) | Binding::Secret(_) | Binding::Traffic(_) | Binding::Readers(_) | Binding::Custom(_) => {
            None
        }
    });
    let looks = names.map(|name| async move { Ok::<_, StepError>((name, cx.app(name)?.read().await?)) });
    let mut unsure = None;
    for (name, reading) in try_join_all(looks).await? {
        match reading.drained {
            Tri::Yes if reading.stragglers.is_empty() => {}
            Tri::No => return Ok(Some(conflict(format_args!("{name} writes again: {}", reading.detail)))),
            Tri::Yes | Tri::Unknown => {
                unsure = Some(not_yet(format_args!("{name} is not held back: {}", reading.detail)));
            }
        }
    }
    Ok(unsure)
}
