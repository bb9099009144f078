//! What is done once applications write again: the new writer gets the protections that the group asks for, and what the former primary
//! lost is copied before its provider throws it away.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::{not_yet, offered, refuse, replaced};
use crate::{
    base::{Kind, MemberId},
    contract::{
        Class, HardenRequest, Hardening, Outcome, PreserveRequest, PromotionReceipt, Protection, Target, Touch, Tri,
        WriterReceipt, verb,
    },
    plan::{Carries, Effect, Handler, Input, Marks, Observed, Prepared, Ready, Stage, Step, StepCx, StepError},
};

/// Turns on the protections that a writer of the group has to have. None is ever turned off by it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardenWriter {
    member: MemberId,
    writer: Input<WriterReceipt>,
    want: Hardening,
}

impl HardenWriter {
    /// `member`, which `writer` confirms, gets what `want` asks for.
    #[must_use]
    pub fn of(member: &MemberId, writer: &impl Carries<WriterReceipt>, want: Hardening) -> Self {
        Self { member: member.clone(), writer: Input::of(writer), want }
    }
}

impl Step for HardenWriter {
    const KIND: Kind = Kind::new("dr.harden-writer", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Other;
    type Output = ();

    fn sentence(&self) -> String {
        let wanted: Vec<&str> = self.want.wants().into_iter().map(Protection::words).collect();
        format!("protect {}: {}", self.member, wanted.join(", "))
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::HARDEN.on(&self.member)]
    }
}

/// Copies what the provider of a former primary keeps, for a while, of the writes that it lost in a failover. The name is made from the
/// run's key, so that asking twice makes one copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreserveOldSide {
    target: Target,
    promotion: Input<PromotionReceipt>,
}

impl PreserveOldSide {
    /// What `target` lost when `promotion` was asked for.
    #[must_use]
    pub fn of(target: &Target, promotion: &impl Carries<PromotionReceipt>) -> Self {
        Self { target: target.clone(), promotion: Input::of(promotion) }
    }
}

impl Step for PreserveOldSide {
    const KIND: Kind = Kind::new("dr.preserve-old-side", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Harmless;
    type Output = ();

    fn sentence(&self) -> String {
        format!("keep a copy of what {} lost", self.target.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::PRESERVE.on(&self.target.member)]
    }
}

/// Protections in words: what is missing, or that nothing is.
pub(super) fn lacking(missing: &[(Protection, Tri)]) -> String {
    let word = |(protection, there): &(Protection, Tri)| match there {
        Tri::Unknown => format!("{} is not told", protection.words()),
        Tri::Yes | Tri::No => format!("no {}", protection.words()),
    };
    if missing.is_empty() { "all there".to_owned() } else { missing.iter().map(word).collect::<Vec<_>>().join(", ") }
}

pub(super) struct Hardened;

#[async_trait]
impl Handler for Hardened {
    type Step = HardenWriter;

    async fn observe(&self, cx: &StepCx, step: &HardenWriter) -> Result<Observed<()>, StepError> {
        let seen = cx.database(&step.member)?.protections().await?;
        let missing = step.want.missing(&seen);
        Ok(match (missing.is_empty(), cx.intended_at()) {
            (true, _) => Observed::Done(()),
            // Asked for: it may take its time.
            (false, Some(_)) => not_yet(format_args!("`{}`: {}", step.member, lacking(&missing))),
            (false, None) => Observed::NotStarted,
        })
    }

    /// Nobody but the confirmed writer is protected, as the resource that was confirmed.
    async fn prepare(&self, cx: &StepCx, step: &HardenWriter) -> Result<Prepared<()>, StepError> {
        let writer = step.writer.get()?;
        let (database, member) = (cx.database(&step.member)?, &step.member);
        if writer.target.member != *member {
            return Ok(refuse(format_args!("`{}` is the writer, not `{member}`", writer.target.member)));
        }
        if let Err(other) = replaced(&database.describe().await?, &writer.target) {
            return Ok(refuse(other));
        }
        let can = database.capabilities().await?.harden.map(|offer| offer.can).unwrap_or_default();
        let missing = step.want.missing(&database.protections().await?);
        if let Some((protection, _)) = missing.iter().find(|(protection, _)| !can.contains(protection)) {
            return Ok(refuse(format_args!("{} of `{member}` cannot be turned on from here", protection.words())));
        }
        Ok(if missing.is_empty() { Prepared::AlreadyDone(()) } else { Prepared::Ready(Ready::default()) })
    }

    async fn submit(&self, cx: &StepCx, step: &HardenWriter) -> Result<Outcome<()>, StepError> {
        let request = HardenRequest { target: step.writer.get()?.target.clone(), want: step.want, key: cx.key() };
        let outcome = cx.database(&step.member)?.harden(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}

pub(super) struct Preserving;

#[async_trait]
impl Handler for Preserving {
    type Step = PreserveOldSide;

    async fn observe(&self, cx: &StepCx, step: &PreserveOldSide) -> Result<Observed<()>, StepError> {
        let exists = offered(cx.database(&step.target.member)?.has_snapshot(&cx.key().slug()).await)?;
        Ok(match exists {
            Some(Tri::Yes) => Observed::Done(()),
            Some(Tri::No) => Observed::NotStarted,
            Some(Tri::Unknown) | None => not_yet("nobody can say whether the copy exists"),
        })
    }

    async fn submit(&self, cx: &StepCx, step: &PreserveOldSide) -> Result<Outcome<()>, StepError> {
        let request = PreserveRequest {
            target: step.target.clone(),
            name: cx.key().slug(),
            since: step.promotion.get()?.asked_at,
            key: cx.key(),
        };
        let outcome = cx.database(&step.target.member)?.preserve(request).await;
        Ok(super::read_back(outcome, self.observe(cx, step)).await)
    }
}
