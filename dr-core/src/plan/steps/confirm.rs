//! Exactly one writer: edges, a real write, and the other side's grade (S1, D16).

use async_trait::async_trait;
use futures_util::future::{Either, join, join3, select};
use serde::{Deserialize, Serialize};

use super::{
    clear::still_carries,
    pivot::{Descent, descends},
    read::{conflict, not_yet, offered, replaced, see},
};
use crate::{
    base::{Kind, MemberId, Millis},
    contract::{
        Cause, Class, FenceReceipt, Grade, Lack, Lineage, PromotionReceipt, ProviderError, Retry, Shortfall, Target,
        Tri, Waived, WriteProbe, WriterOrigin, WriterReceipt, admit,
    },
    plan::{Carries, Duty, Effect, Input, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// Proves that there is exactly one writer. What it leaves behind is all that secret and traffic accept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmWriter {
    promotion: Input<PromotionReceipt>,
    from: Target,
    fence: Option<Input<FenceReceipt>>,
    minimum: Grade,
    #[serde(default, skip_serializing_if = "is_false")]
    or_accepted: bool,
    restarts: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cleared: Option<Input<()>>,
}

impl ConfirmWriter {
    /// After `promotion`, with `from` as the former primary, which must be worth [`Grade::Confirmed`] at least.
    #[must_use]
    pub fn of(promotion: &impl Carries<PromotionReceipt>, from: &Target) -> Self {
        Self {
            promotion: Input::of(promotion),
            from: from.clone(),
            fence: None,
            minimum: Grade::Confirmed,
            or_accepted: false,
            restarts: false,
            cleared: None,
        }
    }

    /// The former primary is kept from writing by this fence, which is looked at again. Without one, what the promotion itself did to
    /// the former primary is read back.
    #[must_use]
    pub fn fenced_by(self, fence: &impl Carries<FenceReceipt>) -> Self {
        Self { fence: Some(Input::of(fence)), ..self }
    }

    /// The provider goes on working on the new writer after it took its role (a restart, a backup): it is confirmed only when the
    /// provider is no longer at work on it.
    #[must_use]
    pub fn after_its_restart(self) -> Self {
        Self { restarts: true, ..self }
    }

    /// A fence of the group travels, and `cleared` took from the new writer what had come with it: it is confirmed only when it is seen
    /// to carry nothing that keeps its applications out.
    #[must_use]
    pub fn cleared_by(self, cleared: &impl Carries<()>) -> Self {
        Self { cleared: Some(Input::of(cleared)), ..self }
    }

    /// What the former primary must be worth.
    #[must_use]
    pub fn at_least(self, minimum: Grade) -> Self {
        Self { minimum, ..self }
    }

    /// Two people may accept less than that, once the writer writes and nothing but the grade is missing. Somebody owes the fence then.
    #[must_use]
    pub fn or_accepted(self) -> Self {
        Self { or_accepted: true, ..self }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Step for ConfirmWriter {
    const KIND: Kind = Kind::new("dr.confirm-writer", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::ConfirmWriter;
    type Output = WriterReceipt;

    fn sentence(&self) -> String {
        let from = &self.from.member;
        let restart = if self.restarts { "the provider done with it, " } else { "" };
        let let_in = if self.cleared.is_some() { "its applications let in, " } else { "" };
        format!(
            "see exactly one writer: edges, one probe write, {let_in}{restart}{from} kept from writing at `{}` or better{}",
            self.minimum,
            if self.or_accepted { ", or two people accept less" } else { "" }
        )
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Confirm).asks_for(self.minimum)
    }
}

/// One more probe write on the confirmed writer and one more look at the fence, before the applications are let through: moving
/// secrets and routes may have taken a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckWriter {
    writer: Input<WriterReceipt>,
    fence: Option<Input<FenceReceipt>>,
    swapped: Option<Swapped>,
    minimum: Grade,
}

/// A promotion without a fence of our own, and the former primary that it left behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Swapped {
    promotion: Input<PromotionReceipt>,
    from: Target,
}

impl CheckWriter {
    /// The confirmed writer still writes.
    #[must_use]
    pub fn of(writer: &impl Carries<WriterReceipt>) -> Self {
        Self { writer: Input::of(writer), fence: None, swapped: None, minimum: Grade::Confirmed }
    }

    /// The former primary is still kept from writing by this fence, which is worth `minimum` or more.
    #[must_use]
    pub fn fenced_by(self, fence: &impl Carries<FenceReceipt>, minimum: Grade) -> Self {
        Self { fence: Some(Input::of(fence)), minimum, ..self }
    }

    /// What `promotion` itself did to the former primary `from` is read back once more, and must be worth `minimum` or more.
    #[must_use]
    pub fn swapped(self, promotion: &impl Carries<PromotionReceipt>, from: &Target, minimum: Grade) -> Self {
        let swapped = Swapped { promotion: Input::of(promotion), from: from.clone() };
        Self { swapped: Some(swapped), minimum, ..self }
    }
}

impl Step for CheckWriter {
    const KIND: Kind = Kind::new("dr.check-writer", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::Guard;
    type Output = ();

    fn sentence(&self) -> String {
        match (&self.fence, &self.swapped) {
            (Some(_), _) => "see one more write accepted by the writer, and the fence still in place, before the applications are let through".into(),
            (None, Some(swapped)) => format!(
                "see one more write accepted by the writer, and {} still kept from writing at `{}` or better, before the applications are let through",
                swapped.from.member, self.minimum
            ),
            (None, None) => "see one more write accepted by the writer, before the applications are let through".into(),
        }
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Recheck).duty(Duty::WriterStill).asks_for(self.minimum)
    }
}

/// Whether what the two members say of each other leaves one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edges {
    /// The former primary follows the writer, or does not answer.
    Agree,
    /// It says that it is something else.
    Differ,
}

/// What the former primary is worth, or why the look ends here.
enum OldSide<T> {
    Worth(Grade, String, Edges),
    Verdict(Observed<T>),
}

/// How long a fenced server may take to answer a write: one that is down answers at once, one that is dark never.
const ANSWER: Millis = Millis::new(250);

/// What the fence of the former primary is worth now. No reading of a fence outweighs a write that passes on a server that should
/// answer nobody: then the fence is engaged again at once, and the look ends in a conflict.
async fn fenced<T>(cx: &StepCx, receipt: &FenceReceipt, minimum: Grade) -> Result<OldSide<T>, StepError> {
    let fence = cx.fence(&receipt.target.member)?;
    let door = cx.door();
    let admitted = admit::fenced(&door, fence.as_ref(), receipt, minimum);
    let (admitted, written) = join(admitted, still_writes(cx, receipt)).await;
    if let Some(detail) = written? {
        let member = &receipt.target.member;
        let again = cx.fence_again(receipt).await;
        return Ok(OldSide::Verdict(conflict(format_args!(
            "two writers: `{member}` still accepts writes ({detail}) although its fence was confirmed; {again}; \
             stop `{member}` by hand if it still answers, and keep its data"
        ))));
    }
    Ok(match admitted {
        Ok(fenced) => OldSide::Worth(fenced.grade(), receipt.detail.clone(), Edges::Agree),
        Err(refused) if refused.retry() == Retry::Never => OldSide::Verdict(conflict(refused.cause())),
        Err(refused) => OldSide::Verdict(not_yet(refused.cause())),
    })
}

/// The words of a write that passed on a member whose fence lets nobody in.
async fn still_writes(cx: &StepCx, receipt: &FenceReceipt) -> Result<Option<String>, StepError> {
    if !receipt.silent {
        return Ok(None);
    }
    let probe = cx.probe(&receipt.target.member)?;
    Ok(match select(probe.write(), Box::pin(cx.pause(ANSWER))).await {
        Either::Left((Ok(write), _)) if write.accepted == Tri::Yes => Some(write.detail),
        Either::Left((Ok(_) | Err(_), _)) | Either::Right(((), _)) => None,
    })
}

/// What the promotion itself did to the former primary: by its edge, by the provider's word, and by a write that must not pass.
async fn read_back<T>(cx: &StepCx, from: &Target, promotion: &PromotionReceipt) -> Result<OldSide<T>, StepError> {
    let (database, probe) = (cx.database(&from.member)?, cx.probe(&from.member)?);
    let endpoint = cx.database(&promotion.target.member)?.known_endpoint();
    let (seen, told, write) =
        join3(see(cx, &from.member), database.swap_fence(promotion.asked_at), probe.write()).await;
    if let Ok(write) = &write
        && write.accepted == Tri::Yes
    {
        return Ok(OldSide::Verdict(conflict(format_args!(
            "two writers: `{}` still accepts writes ({}), and so may `{}`; fence `{}` now",
            from.member, write.detail, promotion.target.member, from.member
        ))));
    }
    let told = match told {
        Ok(reading) => match reading.is_of(from) {
            Ok(()) => (reading.grade(), reading.detail),
            Err(other) => (Grade::Unconfirmable, format!("the provider's word is about another resource: {other}")),
        },
        Err(ProviderError::Unsupported { .. }) => (Grade::Unconfirmable, "the provider tells nothing".to_owned()),
        Err(error) => (Grade::Unconfirmable, error.to_string()),
    };
    let by_edge = match seen {
        Ok(seen) if replaced(&seen.description, from).is_err() => {
            (Grade::Unconfirmable, format!("`{}` is another resource now", from.member), Edges::Differ)
        }
        Ok(seen) if seen.description.follows(&promotion.target.address, endpoint.as_ref()) => {
            match seen.in_recovery() {
                Tri::Yes | Tri::Unknown => {
                    (Grade::RoleSwap, format!("`{}` follows `{}`", from.member, promotion.target.member), Edges::Agree)
                }
                Tri::No => {
                    let words = format!("`{}` is called a follower, but is not in recovery", from.member);
                    (Grade::Unconfirmable, words, Edges::Differ)
                }
            }
        }
        Ok(seen) => match &seen.description.follows {
            Some(other) => (Grade::Unconfirmable, format!("`{}` follows {other}", from.member), Edges::Differ),
            None => (
                Grade::Unconfirmable,
                format!(
                    "two members call themselves writer and neither follows the other: `{}` ({}), `{}`",
                    from.member, seen.description.status, promotion.target.member
                ),
                Edges::Differ,
            ),
        },
        Err(error) => {
            let words = format!("`{}` does not answer: {}; {}", from.member, error.cause, told.1);
            (Grade::Unconfirmable, words, Edges::Agree)
        }
    };
    let (seen, words, edges) = by_edge;
    let (grade, words) = if told.0 > seen { told } else { (seen, words) };
    Ok(OldSide::Worth(grade, words, edges))
}

/// What speaks against the member taking writes: our own, and those of an application where one is tried.
pub(super) fn takes_no_writes<T>(
    member: &MemberId,
    ours: &WriteProbe,
    application: Option<&WriteProbe>,
) -> Option<Observed<T>> {
    match ours.accepted {
        Tri::Yes => {}
        Tri::No => return Some(not_yet(format_args!("`{member}` refuses a probe write: {}", ours.detail))),
        Tri::Unknown => {
            return Some(not_yet(format_args!("a probe write on `{member}` has no answer: {}", ours.detail)));
        }
    }
    let application = application.filter(|write| write.accepted != Tri::Yes)?;
    Some(not_yet(format_args!("an application cannot write on `{member}`: {}", application.detail)))
}

/// What people accepted, if the grade needs that; or why the grade is not enough.
fn enough(
    cx: &StepCx,
    step: &ConfirmWriter,
    grade: Grade,
    words: &str,
    edges: Edges,
) -> Result<Option<Waived>, Box<Observed<WriterReceipt>>> {
    if grade >= step.minimum {
        return Ok(None);
    }
    let from = &step.from.member;
    let why = format!("`{from}` is worth `{grade}`, this needs `{}`: {words}", step.minimum);
    if !step.or_accepted || edges == Edges::Differ {
        return Err(Box::new(not_yet(why)));
    }
    if let Some(Ok(waiver)) = cx.waived().map(|waived| admit::waiver(&cx.door(), waived, grade)) {
        return Ok(Some(waiver.into_record()));
    }
    Err(Box::new(Observed::Short(Shortfall {
        lack: Lack::Grade { measured: grade, needed: step.minimum },
        why: Cause::new(why),
        owes: Some(fence_owed(from)),
    })))
}

/// What somebody owes after a promotion whose former primary is not known to be fenced.
pub(crate) fn fence_owed(member: &MemberId) -> String {
    format!("fence {member} as soon as it answers, before anything else, and keep its data")
}

pub(super) struct Confirming;

#[async_trait]
impl Look for Confirming {
    type Step = ConfirmWriter;

    async fn look(&self, cx: &StepCx, step: &ConfirmWriter) -> Result<Observed<WriterReceipt>, StepError> {
        let promotion = step.promotion.get()?;
        let new = &promotion.target;
        let old_side = async {
            match &step.fence {
                Some(fence) => fenced(cx, fence.get()?, step.minimum).await,
                None => read_back(cx, &step.from, promotion).await,
            }
        };
        let (database, probe) = (cx.database(&new.member)?, cx.probe(&new.member)?);
        let ours = join(probe.write(), probe.write_as_application());
        let carries = async {
            match &step.cleared {
                Some(_) => still_carries(cx, new).await,
                None => Ok(None),
            }
        };
        let (old_side, description, ((write, application), carries)) =
            join3(old_side, database.describe(), join(ours, carries)).await;
        let (grade, words, edges) = match old_side? {
            OldSide::Worth(grade, words, edges) => (grade, words, edges),
            OldSide::Verdict(verdict) => return Ok(verdict),
        };
        let (description, write, application) = (description?, write?, offered(application)?);
        let member = &new.member;
        if let Err(other) = replaced(&description, new) {
            return Ok(conflict(format_args!("another resource than the promoted one answers: {other}")));
        }
        if let Some(upstream) = &description.follows {
            return Ok(not_yet(format_args!("`{member}` is still shown as following {upstream}")));
        }
        if let Some(work) = description.busy.as_ref().filter(|_| step.restarts) {
            return Ok(not_yet(format_args!("the provider is still at work on `{member}`: {work}")));
        }
        if let Some(verdict) = carries?.or_else(|| takes_no_writes(member, &write, application.as_ref())) {
            return Ok(verdict);
        }
        let lineage = write.lineage.unwrap_or_else(|| new.lineage.clone());
        if let Some(verdict) = on_another_history(&lineage, promotion) {
            return Ok(verdict);
        }
        let waived = match enough(cx, step, grade, &words, edges) {
            Ok(waived) => waived,
            Err(verdict) => return Ok(*verdict),
        };
        Ok(Observed::Done(WriterReceipt {
            run: cx.run().clone(),
            target: Target { lineage, ..new.clone() },
            endpoint: description.endpoint,
            origin: WriterOrigin::Promoted(promotion.clone()),
            old_side: grade,
            waived,
            at: write.at,
        }))
    }
}

/// A conflict, if the writer's history is not the one that the promotion began.
fn on_another_history(lineage: &Lineage, promotion: &PromotionReceipt) -> Option<Observed<WriterReceipt>> {
    let new = &promotion.target;
    let known = new.lineage != promotion.was;
    match descends(lineage, new) {
        Descent::Same | Descent::NewSystem => None,
        Descent::Child if !known || *lineage == new.lineage => None,
        Descent::Child | Descent::Other => {
            Some(conflict(format_args!("`{}` writes on lineage {lineage}, promoted was {}", new.member, new.lineage)))
        }
    }
}

/// Why a confirmed writer is none any more, if so: asked before anything is pointed at it.
pub(super) async fn no_writer_any_more(cx: &StepCx, writer: &WriterReceipt) -> Result<Option<String>, StepError> {
    let member = &writer.target.member;
    let seen = see(cx, member).await?;
    // Where only the provider speaks, the resource is compared; it may be the last to know of a new generation.
    let replaced = replaced(&seen.description, &writer.target).is_err();
    if let Some(why) = seen.differs(&writer.target).filter(|_| replaced || seen.position.is_some()) {
        return Ok(Some(why));
    }
    // What was true before the writer was confirmed says nothing of it now.
    let current = seen.description.at >= writer.at;
    let by_word = seen.position.is_none() || seen.description.is_copy();
    let standby = if by_word { seen.description.follows.is_some() && current } else { seen.in_recovery() == Tri::Yes };
    Ok(standby.then(|| format!("`{member}` is no writer any more")))
}

pub(super) struct WriterStill;

#[async_trait]
impl Look for WriterStill {
    type Step = CheckWriter;

    async fn look(&self, cx: &StepCx, step: &CheckWriter) -> Result<Observed<()>, StepError> {
        let writer = step.writer.get()?;
        let member = &writer.target.member;
        // What people accepted when the writer was confirmed holds for as long as the former primary is worth that: the routes that
        // were moved since are not left half-way because the question has expired.
        let waived = writer.waived.is_some();
        let least = if waived { step.minimum.min(writer.old_side) } else { step.minimum };
        let probe = cx.probe(member)?;
        let old_side = async {
            match (&step.fence, &step.swapped) {
                (Some(fence), _) => fenced(cx, fence.get()?, step.minimum).await.map(Some),
                (None, Some(swapped)) => read_back(cx, &swapped.from, swapped.promotion.get()?).await.map(Some),
                (None, None) => Ok(None),
            }
        };
        let (gone, old_side, write) = join3(no_writer_any_more(cx, writer), old_side, probe.write()).await;
        if let Some(why) = gone? {
            return Ok(conflict(why));
        }
        match old_side? {
            Some(OldSide::Verdict(verdict)) => return Ok(verdict),
            Some(OldSide::Worth(grade, words, edges)) if grade < least || (waived && edges == Edges::Differ) => {
                return Ok(not_yet(format_args!("the former primary is worth `{grade}` now: {words}")));
            }
            Some(OldSide::Worth(..)) | None => {}
        }
        Ok(takes_no_writes(member, &write?, None).unwrap_or(Observed::Done(())))
    }
}
