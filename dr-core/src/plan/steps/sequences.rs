//! Sequences of a logical copy: rows come along with replication, the numbers that are handed out next do not.
//!
//! ```text
//!  check ──► … ──► drain ──► read the former primary's ──► fence ──► catch-up ──► promote ──► raise the new writer's ──► confirm
//! ```
//!
//! A writer whose sequences are behind hands numbers out for the second time: inserts fail on a key, or two rows share a number where
//! none forbids it. So the writer is confirmed only behind the raise.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::read::{conflict, not_yet, refuse, replaced};
use crate::{
    base::{Kind, RunId, Timestamp},
    contract::{
        Class, DrainReceipt, Fact, Outcome, PromotionReceipt, RaiseSequences as Request, Sequences, Target, Touch, verb,
    },
    plan::{
        Carries, Duty, Effect, Handler, Input, Look, Marks, Observed, Output, Prepared, Ready, Stage, Step, StepCx,
        StepError,
    },
};

/// How many steps beyond what was read a sequence goes on: what sessions that obey no drain take until the fence stands.
const AHEAD: u32 = 10_000;

/// How far the sequences of a primary were, read by this run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequencesSeen {
    /// The run that read them.
    pub run: RunId,
    /// The values.
    pub sequences: Sequences,
}

impl Output for SequencesSeen {
    fn type_name() -> std::borrow::Cow<'static, str> {
        "dr.sequences-seen".into()
    }
}

/// Reads how far the sequences of a primary are. One that may not be read ends the run while nothing is held back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadSequences {
    primary: Target,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drained: Vec<Input<DrainReceipt>>,
}

impl ReadSequences {
    /// Reads those of `primary`.
    #[must_use]
    pub fn of(primary: &Target) -> Self {
        Self { primary: primary.clone(), drained: Vec::new() }
    }

    /// Only what was true when `drained` held writes back already counts.
    #[must_use]
    pub fn behind(mut self, drained: &impl Carries<DrainReceipt>) -> Self {
        self.drained.push(Input::of(drained));
        self
    }
}

impl Step for ReadSequences {
    const KIND: Kind = Kind::new("dr.read-sequences", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = SequencesSeen;

    fn sentence(&self) -> String {
        format!("read how far the sequences of {} are: a logical copy does not have them", self.primary.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Check).or(Stage::Hold).duty(Duty::SequencesRead)
    }
}

/// Lets the sequences of a new writer go on beyond what its predecessor handed out. None is ever lowered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RaiseSequences {
    target: Target,
    promotion: Input<PromotionReceipt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Input<SequencesSeen>>,
}

impl RaiseSequences {
    /// Raises those of `target`, once `promotion` has made it the writer: each that belongs to a column beyond the greatest value there.
    #[must_use]
    pub fn of(target: &Target, promotion: &impl Carries<PromotionReceipt>) -> Self {
        Self { target: target.clone(), promotion: Input::of(promotion), seen: None }
    }

    /// And beyond what was read of the former primary.
    #[must_use]
    pub fn beyond(self, seen: &impl Carries<SequencesSeen>) -> Self {
        Self { seen: Some(Input::of(seen)), ..self }
    }

    fn floors(&self) -> Result<Sequences, StepError> {
        Ok(match &self.seen {
            Some(seen) => seen.get()?.sequences.clone(),
            None => Sequences::none(Timestamp::from_millis(0)),
        })
    }
}

impl Step for RaiseSequences {
    const KIND: Kind = Kind::new("dr.raise-sequences", 1);
    const EFFECT: Effect = Effect::Idempotent;
    const CLASS: Class = Class::Other;
    type Output = ();

    fn sentence(&self) -> String {
        let member = &self.target.member;
        match self.seen {
            Some(_) => format!("raise the sequences of {member} beyond those of the former primary"),
            None => format!("raise the sequences of {member} beyond the rows that it has: nobody can read others"),
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Clear).duty(Duty::SequencesRaised)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![verb::RAISE_SEQUENCES.on(&self.target.member)]
    }
}

pub(super) struct Reading;

#[async_trait]
impl Look for Reading {
    type Step = ReadSequences;

    async fn look(&self, cx: &StepCx, step: &ReadSequences) -> Result<Observed<SequencesSeen>, StepError> {
        let member = &step.primary.member;
        let sequences = cx.probe(member)?.sequences().await?;
        if !sequences.unread.is_empty() {
            return Ok(conflict(format_args!(
                "the probe's role may not read sequences of `{member}`: {}; grant it USAGE on them",
                sequences.unread.join(", ")
            )));
        }
        for drained in &step.drained {
            let since = drained.get()?.at;
            if sequences.at < since {
                let at = sequences.at;
                return Ok(not_yet(format_args!(
                    "the sequences of `{member}` were read as of {at}, writes are held back since {since}"
                )));
            }
        }
        Ok(Observed::Done(SequencesSeen { run: cx.run().clone(), sequences }))
    }
}

pub(super) struct Raising;

#[async_trait]
impl Handler for Raising {
    type Step = RaiseSequences;

    async fn observe(&self, cx: &StepCx, step: &RaiseSequences) -> Result<Observed<()>, StepError> {
        let floors = step.floors()?;
        // What was raised above rows alone cannot be told from what was not: it is sent, and sent again.
        if floors.values.is_empty() || cx.intended_at().is_none() {
            return Ok(Observed::NotStarted);
        }
        let here = cx.probe(&step.target.member)?.sequences().await?;
        let behind = floors.ahead_of(&here);
        Ok(if behind.is_empty() { Observed::Done(()) } else { Observed::NotStarted })
    }

    /// Nobody but the member that was promoted is raised, as the resource that it is.
    async fn prepare(&self, cx: &StepCx, step: &RaiseSequences) -> Result<Prepared<()>, StepError> {
        let (member, writer) = (&step.target.member, &step.promotion.get()?.target);
        if writer.member != *member {
            return Ok(refuse(format_args!("`{}` was promoted, not `{member}`", writer.member)));
        }
        if let Err(other) = replaced(&cx.database(member)?.describe().await?, writer) {
            return Ok(refuse(other));
        }
        let count = step.floors()?.values.len();
        let facts = vec![Fact::any("sequences", format!("{count} with a floor"), "former primary", cx.now())];
        Ok(Prepared::Ready(Ready { facts, pre_image: None }))
    }

    async fn submit(&self, cx: &StepCx, step: &RaiseSequences) -> Result<Outcome<()>, StepError> {
        let floors = step.floors()?;
        let told = floors.values.is_empty();
        let target = step.promotion.get()?.target.clone();
        let request = Request { target, floors, ahead: AHEAD, key: cx.key() };
        let outcome = cx.database(&step.target.member)?.raise_sequences(request).await;
        Ok(if told { outcome } else { super::read_back(outcome, self.observe(cx, step)).await })
    }
}
