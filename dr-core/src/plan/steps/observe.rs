//! Exactly one writer where nobody was promoted: the same look as after a promotion, at the member that writes already.

use async_trait::async_trait;
use futures_util::future::{join, join_all, join3};
use serde::{Deserialize, Serialize};

use super::{
    confirm::{fence_owed, takes_no_writes},
    read::{conflict, not_yet, offered, replaced, see},
};
use crate::{
    base::{Kind, MemberId, Millis, Timestamp},
    contract::{
        Binding, Cause, Class, Fence, Grade, Lack, ProviderError, ResourceKind, Shortfall, Target, Tri, Waived,
        WriterOrigin, WriterReceipt, admit,
    },
    plan::{Effect, Look, Marks, Observed, Stage, Step, StepCx, StepError},
};

/// Proves that the expected writer is the only one: it takes a write, and every other member that the plan binds is seen not to write.
/// Nothing is promoted; the receipt says so ([`WriterOrigin::Observed`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveWriter {
    writer: Target,
    minimum: Grade,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    or_accepted: bool,
}

impl ObserveWriter {
    /// This writer, with every other member kept from writing at `minimum` or better.
    #[must_use]
    pub fn of(writer: &Target, minimum: Grade) -> Self {
        Self { writer: writer.clone(), minimum, or_accepted: false }
    }

    /// Two people may accept less than that of members that do not answer, once the writer writes and nothing else is missing. Somebody owes
    /// their fences then. A member that answers, and is not seen to be kept from writing, is accepted by nobody.
    #[must_use]
    pub fn or_accepted(self) -> Self {
        Self { or_accepted: true, ..self }
    }
}

impl Step for ObserveWriter {
    const KIND: Kind = Kind::new("dr.observe-writer", 1);
    const EFFECT: Effect = Effect::ReadOnly;
    const CLASS: Class = Class::ConfirmWriter;
    type Output = WriterReceipt;

    fn sentence(&self) -> String {
        format!(
            "see exactly one writer: {} takes a write, every other member is kept from writing at `{}` or better{}",
            self.writer.member,
            self.minimum,
            if self.or_accepted { ", or two people accept less of one that does not answer" } else { "" }
        )
    }

    fn marks(&self) -> Marks {
        Marks::at(Stage::Confirm).asks_for(self.minimum).looks_at(&self.writer.member)
    }
}

/// What another member is worth, or why the look ends here.
enum Other {
    Kept(Grade, String),
    /// It does not answer, and its fences are worth this.
    Dark(Grade, String),
    Writes(String),
}

pub(super) struct Observing;

#[async_trait]
impl Look for Observing {
    type Step = ObserveWriter;

    async fn look(&self, cx: &StepCx, step: &ObserveWriter) -> Result<Observed<WriterReceipt>, StepError> {
        let member = &step.writer.member;
        let probe = cx.probe(member)?;
        let ours = join(probe.write(), probe.write_as_application());
        let others =
            join_all(others(cx, member).map(|other| async move { (other, kept(cx, &step.writer, other).await) }));
        let (seen, others, (write, application)) = join3(see(cx, member), others, ours).await;
        let (seen, write, application) = (seen?, write?, offered(application)?);
        if let Some(why) = seen.differs(&step.writer) {
            return Ok(conflict(format_args!("{why}; make a new plan")));
        }
        if let Some(upstream) = &seen.description.follows {
            return Ok(conflict(format_args!("`{member}` is no writer: it follows {upstream}; make a new plan")));
        }
        if seen.in_recovery() == Tri::Yes {
            return Ok(conflict(format_args!("`{member}` is no writer: it is in recovery; make a new plan")));
        }
        let (mut least, mut dark) = (Grade::RoleSwap, Vec::new());
        for (name, other) in others {
            match other? {
                Other::Writes(why) => return Ok(conflict(why)),
                Other::Kept(grade, why) if grade < step.minimum => return Ok(not_yet(why)),
                Other::Dark(grade, why) if grade < step.minimum => {
                    least = least.min(grade);
                    dark.push((name, why));
                }
                Other::Kept(grade, _) | Other::Dark(grade, _) => least = least.min(grade),
            }
        }
        if let Some(work) = &seen.description.busy {
            return Ok(not_yet(format_args!("the provider is still at work on `{member}`: {work}")));
        }
        if let Some(verdict) = takes_no_writes(member, &write, application.as_ref()) {
            return Ok(verdict);
        }
        if let Some(lineage) = write.lineage.filter(|lineage| *lineage != step.writer.lineage) {
            let expected = &step.writer.lineage;
            return Ok(conflict(format_args!("`{member}` writes on lineage {lineage}, expected is {expected}")));
        }
        let waived = match enough(cx, step, least, &dark) {
            Ok(waived) => waived,
            Err(verdict) => return Ok(*verdict),
        };
        Ok(Observed::Done(WriterReceipt {
            run: cx.run().clone(),
            target: step.writer.clone(),
            endpoint: seen.description.endpoint,
            origin: WriterOrigin::Observed,
            old_side: least,
            waived,
            at: write.at,
        }))
    }
}

/// What people accepted of the members that do not answer, if one of them needs that; or why it is not enough.
fn enough(
    cx: &StepCx,
    step: &ObserveWriter,
    least: Grade,
    dark: &[(&MemberId, String)],
) -> Result<Option<Waived>, Box<Observed<WriterReceipt>>> {
    if dark.is_empty() {
        return Ok(None);
    }
    let why = dark.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ");
    if !step.or_accepted {
        return Err(Box::new(not_yet(why)));
    }
    if let Some(Ok(waiver)) = cx.waived().map(|waived| admit::waiver(&cx.door(), waived, least)) {
        return Ok(Some(waiver.into_record()));
    }
    Err(Box::new(Observed::Short(Shortfall {
        lack: Lack::Grade { measured: least, needed: step.minimum },
        why: Cause::new(why),
        owes: Some(dark.iter().map(|(member, _)| fence_owed(member)).collect::<Vec<_>>().join("; ")),
    })))
}

/// Every member of the plan but the writer: none can be left out.
fn others<'a>(cx: &'a StepCx, writer: &'a MemberId) -> impl Iterator<Item = &'a MemberId> {
    let bindings = cx.plan().bindings.iter().filter(|(_, bound)| bound.kind == ResourceKind::Database);
    let members = bindings.filter_map(|(name, _)| match name {
        Binding::Member(name) => Some(name),
        Binding::Secret(_) | Binding::App(_) | Binding::Traffic(_) | Binding::Readers(_) | Binding::Custom(_) => None,
    });
    members.filter(move |name| *name != writer)
}

/// What keeps one other member from writing: that it does not exist, that it follows the writer, or its fences.
async fn kept(cx: &StepCx, writer: &Target, member: &MemberId) -> Result<Other, StepError> {
    let (database, probe) = (cx.database(member)?, cx.probe(member)?);
    let (seen, inside, write) = join3(database.describe(), probe.position(), probe.write()).await;
    if let Ok(write) = &write
        && write.accepted == Tri::Yes
    {
        return Ok(Other::Writes(format!(
            "two writers: `{member}` accepts writes ({}), and so may `{}`; fence `{member}` now",
            write.detail, writer.member
        )));
    }
    let recovery = inside.as_ref().map_or(Tri::Unknown, |inside| inside.in_recovery);
    let why = match seen {
        Err(ProviderError::Missing { .. }) if inside.is_err() => {
            return Ok(Other::Kept(Grade::Confirmed, format!("`{member}` does not exist")));
        }
        Err(error) => {
            let why = format!("`{member}` does not answer: {error}");
            let dark = matches!(error, ProviderError::Unreachable { .. });
            return Ok(match fenced(cx, member, why).await? {
                Other::Kept(grade, why) if dark && recovery == Tri::Unknown => Other::Dark(grade, why),
                other @ (Other::Kept(..) | Other::Dark(..) | Other::Writes(_)) => other,
            });
        }
        Ok(seen) => {
            if let Some(other) = bound(cx, member).and_then(|bound| replaced(&seen, &bound).err()) {
                return Ok(Other::Writes(format!("another resource than the one of the plan answers: {other}")));
            }
            let endpoint = cx.database(&writer.member)?.known_endpoint();
            let follows = seen.follows(&writer.address, endpoint.as_ref());
            let recovery = if seen.is_copy() { seen.standby_by_word() } else { recovery };
            let quiet = recovery != Tri::No && seen.writable != Tri::Yes;
            match &seen.follows {
                Some(_) if follows && quiet => {
                    return Ok(Other::Kept(Grade::RoleSwap, format!("`{member}` follows `{}`", writer.member)));
                }
                Some(_) if follows => format!("`{member}` is called a follower, and is not in recovery"),
                Some(other) => format!("`{member}` follows {other}, not `{}`", writer.member),
                None => format!("`{member}` follows nobody ({})", seen.status),
            }
        }
    };
    fenced(cx, member, why).await
}

/// The member as the plan binds it.
fn bound(cx: &StepCx, member: &MemberId) -> Option<Target> {
    let bound = cx.plan().bindings.get(&Binding::from(member))?;
    let lineage = cx.plan().lineages.get(member).unwrap_or_else(|| &cx.plan().expects.lineage).clone();
    let (address, identity) = (bound.address.clone(), bound.identity.clone());
    let receives = cx.plan().receives.get(member).cloned();
    Some(Target { member: member.clone(), address, identity, lineage, receives })
}

/// What the fences of a member are worth that does not follow the writer, for as long as a proof may be trusted.
async fn fenced(cx: &StepCx, member: &MemberId, why: String) -> Result<Other, StepError> {
    let mut best: Option<(Grade, String)> = None;
    for fence in [cx.fence(member), cx.late_fence(member)].into_iter().flatten() {
        let found = worth(cx, member, fence.as_ref()).await;
        if best.as_ref().is_none_or(|best| found.0 > best.0) {
            best = Some(found);
        }
    }
    let Some((grade, words)) = best else {
        return Ok(Other::Kept(Grade::Unconfirmable, format!("{why}; it has no fence")));
    };
    Ok(Other::Kept(grade, format!("{why}; its fences are worth `{grade}`: {words}")))
}

async fn worth(cx: &StepCx, member: &MemberId, fence: &dyn Fence) -> (Grade, String) {
    let reading = match fence.inspect().await {
        Ok(reading) => reading,
        Err(ProviderError::Unsupported { .. }) => return (Grade::Unconfirmable, "they tell nothing".to_owned()),
        Err(error) => return (Grade::Unconfirmable, error.to_string()),
    };
    if let Some(other) = bound(cx, member).and_then(|bound| reading.is_of(&bound).err()) {
        return (Grade::Unconfirmable, format!("they speak of another resource: {other}"));
    }
    match reading.lapses_at.filter(|at| soon(*at, cx.now(), cx.policy().proof_age)) {
        Some(at) => (Grade::Unconfirmable, format!("they fall off by themselves at {at}")),
        None => (reading.grade(), reading.detail),
    }
}

fn soon(at: Timestamp, now: Timestamp, age: Millis) -> bool {
    at.since(now) <= age
}
