//! How much a forced promotion loses: bounded before, counted after (S3, E10, I08).

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{catch_up::both, lags, read::position};
use crate::{
    base::{Kind, Millis, Timestamp, text},
    contract::{
        AskedLoss, CatchUpReceipt, Class, FenceReceipt, Loss, LossBound, LossMeasurement, Parted, Position,
        PositionSample, PromotionReceipt, QuiesceReceipt, Target, admit,
    },
    plan::{Carries, Duty, Effect, Input, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// How far back samples are asked for.
const WATCHED: Millis = Millis::minutes(24 * 60);
/// How long before its time a sample may have been read.
pub(super) const SAMPLING: Millis = Millis::seconds(1);

/// Bounds the loss from the watcher's samples: from log positions, or from the provider's lag where nobody tells them. Before the fence stands, the primary is assumed to write on while people answer and
/// while it is fenced; from the fence's effective time on it cannot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundLoss {
    primary: Target,
    candidate: Target,
    fence: Option<Input<FenceReceipt>>,
    /// How long people may take to answer.
    answer: Millis,
    /// How long it may take from the first change until the primary cannot write any more.
    closing: Millis,
}

impl BoundLoss {
    /// What is lost at most if the first change begins within `answer` from now, and the primary cannot write any more `closing` later.
    #[must_use]
    pub fn before_fence(primary: &Target, candidate: &Target, answer: Millis, closing: Millis) -> Self {
        Self { primary: primary.clone(), candidate: candidate.clone(), fence: None, answer, closing }
    }

    /// What is lost at most, now that the primary is fenced.
    #[must_use]
    pub fn fenced(primary: &Target, candidate: &Target, fence: &impl Carries<FenceReceipt>) -> Self {
        Self {
            primary: primary.clone(),
            candidate: candidate.clone(),
            fence: Some(Input::of(fence)),
            answer: Millis::ZERO,
            closing: Millis::ZERO,
        }
    }
}

impl Step for BoundLoss {
    const KIND: Kind = Kind::new("dr.bound-loss", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = LossBound;

    fn sentence(&self) -> String {
        let (old, new) = (&self.primary.member, &self.candidate.member);
        match &self.fence {
            None => format!(
                "bound what {new} would lose, if {old} goes on writing for another {} at most",
                text::human(self.answer.saturating_add(self.closing))
            ),
            Some(_) => format!("bound what {new} loses, now that {old} is fenced"),
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(if self.fence.is_some() { Stage::Prove } else { Stage::Check }).duty(Duty::LossBound)
    }
}

/// Counts what was lost, from where the histories parted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureLoss {
    from: Target,
    promotion: Input<PromotionReceipt>,
    caught_up: Option<Input<CatchUpReceipt>>,
    quiesced: Option<Input<QuiesceReceipt>>,
    fence: Option<Input<FenceReceipt>>,
    bound: Option<Input<LossBound>>,
}

impl MeasureLoss {
    /// Of `promotion`, after which `from` is the former primary.
    #[must_use]
    pub fn of(from: &Target, promotion: &impl Carries<PromotionReceipt>) -> Self {
        Self {
            from: from.clone(),
            promotion: Input::of(promotion),
            caught_up: None,
            quiesced: None,
            fence: None,
            bound: None,
        }
    }

    /// The candidate was proved to have everything.
    #[must_use]
    pub fn caught_up(self, receipt: &impl Carries<CatchUpReceipt>) -> Self {
        Self { caught_up: Some(Input::of(receipt)), ..self }
    }

    /// Nothing wrote, and the candidate was equal.
    #[must_use]
    pub fn quiesced(self, receipt: &impl Carries<QuiesceReceipt>) -> Self {
        Self { quiesced: Some(Input::of(receipt)), ..self }
    }

    /// The former primary was fenced; where its history ends may be known.
    #[must_use]
    pub fn fenced(self, receipt: &impl Carries<FenceReceipt>) -> Self {
        Self { fence: Some(Input::of(receipt)), ..self }
    }

    /// What it was bounded to before.
    #[must_use]
    pub fn bounded(self, bound: &impl Carries<LossBound>) -> Self {
        Self { bound: Some(Input::of(bound)), ..self }
    }
}

impl Step for MeasureLoss {
    const KIND: Kind = Kind::new("dr.measure-loss", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    type Output = LossMeasurement;

    fn sentence(&self) -> String {
        format!("count what was lost of {}", self.from.member)
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::After).duty(Duty::LossMeasured)
    }
}

/// What a bound stands on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    /// From when on the old side cannot write any more.
    pub(super) stop: Timestamp,
    /// Whether that is a fence's effective time, or only assumed.
    pub(super) fenced: bool,
}

/// The bound: everything since the last moment whose position the candidate surely has. In positions: the gap at the last good
/// sample, and the fastest growth that was seen, for as long as the old side could write.
pub(super) fn bound(
    samples: &[PositionSample],
    primary: &Target,
    has: &Position,
    until: Until,
) -> (Loss, Option<Timestamp>) {
    let good: Vec<(&PositionSample, &Position)> = samples
        .iter()
        .filter(|sample| sample.lineage.as_ref().is_none_or(|lineage| *lineage == primary.lineage))
        .filter_map(|sample| sample.primary.as_ref().map(|position| (sample, position)))
        .filter(|(sample, position)| position.compare(has).is_some() && sample.at <= until.stop)
        .collect();
    let Some((last, end)) = good.last() else {
        let because = format!("there is no sample of the primary {} on lineage {}", primary.member, primary.lineage);
        return (Loss::Unknown { because }, None);
    };
    let covered = good.iter().rev().find(|(_, position)| has.reaches(position));
    let Some((covered, _)) = covered else {
        let because = format!("the candidate has {has}, less than the oldest sample of {}", primary.member);
        return (Loss::Unknown { because }, Some(last.at));
    };
    let time = until.stop.since(covered.at).saturating_add(SAMPLING);
    let gap = has.missing_to(end).unwrap_or_default();
    let grown = growth(&good, until.stop.since(last.at));
    let amount = grown.map(|grown| Position { value: gap.saturating_add(grown), ..has.clone() });
    let stop = if until.fenced { "fenced" } else { "assumed to write until" };
    let because =
        format!("{gap} behind at the last good sample, taken {}; {} {stop} {}", last.at, primary.member, until.stop);
    (Loss::AtMost { time, amount, because }, Some(last.at))
}

/// The fastest growth between two samples, over `time`; `None` when no pace was seen.
fn growth(good: &[(&PositionSample, &Position)], time: Millis) -> Option<u64> {
    let paces = good.windows(2).filter_map(|pair| {
        let [(earlier, from), (later, to)] = pair else { return None };
        let took = later.at.since(earlier.at).count();
        (took > 0).then(|| (u128::from(from.missing_to(to).unwrap_or_default()), u128::from(took)))
    });
    let fastest = paces.max_by(|(a, t), (b, u)| (a * u).cmp(&(b * t)))?;
    let grown = fastest.0 * u128::from(time.count()) / fastest.1 + 1;
    Some(u64::try_from(grown).unwrap_or(u64::MAX))
}

pub(super) struct Bounding;

#[async_trait]
impl Look for Bounding {
    type Step = BoundLoss;

    async fn look(&self, cx: &StepCx, step: &BoundLoss) -> Result<Observed<LossBound>, StepError> {
        let fenced_at = match &step.fence {
            Some(fence) => Some(fence.get()?.effective_at),
            None => None,
        };
        let now = cx.now();
        let good_until = now + step.answer;
        let stop = fenced_at.unwrap_or(good_until + step.closing);
        let samples = cx.samples(Timestamp::from_millis(0).max(ago(now, WATCHED))).await?;
        let candidate = has(cx, &step.candidate).await?;
        let until = |stop: Timestamp| {
            let until = Until { stop, fenced: fenced_at.is_some() };
            let from_positions = match &candidate {
                Some(has) => bound(&samples, &step.primary, has, until),
                None => (Loss::Unknown { because: lags::untold(&step.candidate.member) }, None),
            };
            match from_positions {
                unknown @ (Loss::Unknown { .. }, _) => {
                    lags::bound(&samples, &step.primary, &step.candidate.member, until).unwrap_or(unknown)
                }
                known @ (Loss::Nothing | Loss::AtMost { .. }, _) => known,
            }
        };
        let (loss, sampled_at) = until(stop);
        let asked = || AskedLoss { now: until(now).0, answer: step.answer, good_until };
        let asked = fenced_at.is_none().then(asked);
        Ok(Observed::Done(LossBound { run: cx.run().clone(), loss, sampled_at, fenced_at, asked }))
    }
}

/// How far the candidate has, durably, what its primary wrote, if anybody tells.
async fn has(cx: &StepCx, candidate: &Target) -> Result<Option<Position>, StepError> {
    if candidate.is_copy() {
        let reading = cx.database(&candidate.member)?.replication().await?;
        return Ok(admit::copied(candidate, &reading).ok().cloned());
    }
    Ok(position(cx, &candidate.member).await?.map(|reading| reading.durable))
}

fn ago(now: Timestamp, back: Millis) -> Timestamp {
    Timestamp::from_millis(now.millis().saturating_sub_unsigned(back.count()))
}

pub(super) struct Measuring;

#[async_trait]
impl Look for Measuring {
    type Step = MeasureLoss;

    async fn look(&self, cx: &StepCx, step: &MeasureLoss) -> Result<Observed<LossMeasurement>, StepError> {
        let promotion = step.promotion.get()?;
        let done = |loss: Loss, how: String| Ok(Observed::Done(LossMeasurement { loss, how, at: cx.now() }));
        if let Some(proof) = &step.caught_up {
            let end = &proof.get()?.end;
            return done(Loss::Nothing, planned(promotion, Some(end)));
        }
        if let Some(proof) = &step.quiesced {
            return done(Loss::Nothing, planned(promotion, proof.get()?.position.as_ref()));
        }
        let bound = match &step.bound {
            Some(bound) => bound.get()?.loss.clone(),
            None => Loss::Unknown { because: "it was not bounded before".into() },
        };
        let fence_end = match &step.fence {
            Some(fence) => fence.get()?.end.clone(),
            None => None,
        };
        let old_end = match fence_end {
            Some(end) => Some(end),
            None => {
                let (old, _) = both(cx, &step.from, &promotion.target).await.unwrap_or((None, None));
                old.filter(|old| old.lineage == step.from.lineage).map(|old| old.durable)
            }
        };
        let (loss, how) = counted(promotion.parted_at.at(), old_end.as_ref(), bound);
        done(loss, how)
    }
}

pub(super) fn planned(promotion: &PromotionReceipt, proven: Option<&Position>) -> String {
    match (&promotion.parted_at, proven) {
        (Parted::At(parted), Some(end)) => {
            format!("the new history parted at {parted}; the old one was proved to end at {end}")
        }
        (Parted::Untold { because }, Some(end)) => format!(
            "the candidate had everything up to {end} before it was promoted; where its history parted was not compared: {because}"
        ),
        (_, None) => {
            "nothing wrote before the swap, and the provider's planned swap waits for the candidate".to_owned()
        }
    }
}

/// What lies between the parting of the histories and the end of the old one; the bound, where one of them is not known.
pub(super) fn counted(parted: Option<&Position>, old_end: Option<&Position>, bound: Loss) -> (Loss, String) {
    let missing = parted.zip(old_end).and_then(|(parted, end)| parted.missing_to(end).map(|gap| (parted, end, gap)));
    match missing {
        Some((parted, end, 0)) => {
            (Loss::Nothing, format!("the histories parted at {parted}, the old one ends at {end}"))
        }
        Some((parted, end, gap)) => {
            let how =
                format!("the histories parted at {parted}, the old one ends at {end}: {gap} are on the old side only");
            let amount = Some(Position { value: gap, ..end.clone() });
            let loss = match bound {
                Loss::AtMost { time, .. } => Loss::AtMost { time, amount, because: how.clone() },
                Loss::Nothing | Loss::Unknown { .. } => Loss::Unknown { because: how.clone() },
            };
            (loss, how)
        }
        None if parted.is_none() && old_end.is_some() => {
            (bound, "where the new history left the old one is not told; this is the bound from before".to_owned())
        }
        None => (bound, "the end of the old history is not known yet; this is the bound from before".to_owned()),
    }
}
