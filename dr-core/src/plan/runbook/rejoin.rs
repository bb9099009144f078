//! The way back of a member that follows nobody: what a change of the writer left as a debt, done later.

use crate::{
    base::{Finding, MemberId, Refusal, RunbookId, known, seconds},
    plan::{
        PlanBuilder, Purpose, Runbook, Situation, StepExt,
        phase::{self, Pace},
        steps::{AskConsent, AttachStandby, FactSpec, Notify, TakeGroupLock},
    },
};

/// Makes a member a standby of the present writer. It moves no application and promotes nothing.
#[derive(Clone, Debug)]
pub struct RejoinStandby {
    member: MemberId,
    may_discard: bool,
}

impl RejoinStandby {
    /// This member, keeping whatever only it has.
    #[must_use]
    pub fn of(member: impl Into<MemberId>) -> Self {
        Self { member: member.into(), may_discard: false }
    }

    /// Data that only the member has may be destroyed: people are asked with these words.
    #[must_use]
    pub fn discarding(self) -> Self {
        Self { may_discard: true, ..self }
    }
}

impl Runbook for RejoinStandby {
    fn id(&self) -> RunbookId {
        RunbookId::new("dr.rejoin-standby", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Standby
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let (member, writer) = (&self.member, &now.writer);
        let refuse = |finding: Finding| Refusal::one(format!("{}: rejoin {member}", now.group.name), finding);
        let known = phase::standby(now, member).map_err(refuse)?;
        if !now.primary_answers {
            return Err(refuse(
                Finding::new(&known::SILENT_WRITER, format!("`{}`, the writer, does not answer", writer.member))
                    .helps(format!("make it answer, or: dr plan failover {} --to {member}", now.group.name)),
            ));
        }
        let Pace { every, visibility, within } = Pace::of_standby(now, known);
        let discards = if self.may_discard { format!("; what only {member} has is destroyed") } else { String::new() };
        let approval = now.group.approval(plan.purpose().operation());
        let mut plan = plan.standby();
        let lock = plan.add("group-lock", TakeGroupLock { at: writer.member.clone() }.within(seconds(30)));
        let ask = AskConsent {
            question: format!("{}: make {member} a standby of {}{discards}", now.group.name, writer.member),
            watch: vec![FactSpec::Writer { member: writer.member.clone() }],
            rehearsed: None,
            loss: None,
            loss_limit: None,
            people: approval.people,
            people_beyond: approval.people,
            roles: approval.roles,
            expires_in: approval.expires,
        };
        let consent = plan.add("consent", ask.after(&lock).within(approval.expires).every(seconds(1)));
        let attach = AttachStandby::of(member, writer, &consent);
        let attach = if self.may_discard { attach.discarding() } else { attach };
        let attached = plan.add("rejoin", attach.within(within).every(every).visibility(visibility));
        let text = format!("{}: {member} follows {}", now.group.name, writer.member);
        plan.add("notify-end", Notify { urgent: false, text }.after(&attached).within(seconds(30)));
        Ok(())
    }
}
