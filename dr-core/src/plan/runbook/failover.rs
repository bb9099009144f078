//! The forced change of the writer, while the primary is silent: the loss is bounded and accepted before, counted after.

use crate::{
    base::{MemberId, Refusal, RunbookId},
    plan::{
        PlanBuilder, Purpose, Runbook, Situation,
        phase::{self, Accepts},
    },
};

/// Changes the writer while the primary is silent (C03). Automatic rollback is not possible.
#[derive(Clone, Debug)]
pub struct UnplannedFailover {
    to: MemberId,
    accepts: Accepts,
}

impl UnplannedFailover {
    /// To this member.
    #[must_use]
    pub fn to(member: impl Into<MemberId>) -> Self {
        Self { to: member.into(), accepts: Accepts::default() }
    }

    /// Nobody can fence the silent primary, because of `reason`: two people are asked to take the risk of a second writer, the fence
    /// stays owed, and a primary that answers after all stops the run.
    #[must_use]
    pub fn without_fence(self, reason: impl Into<String>) -> Self {
        Self { accepts: Accepts { without_fence: Some(reason.into()), ..self.accepts }, ..self }
    }

    /// Another candidate has received more than this one, and what only that one has is given up, because of `reason`.
    #[must_use]
    pub fn although_behind(self, reason: impl Into<String>) -> Self {
        Self { accepts: Accepts { although_behind: Some(reason.into()), ..self.accepts }, ..self }
    }
}

impl Runbook for UnplannedFailover {
    fn id(&self) -> RunbookId {
        RunbookId::new("dr.unplanned-failover", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Failover
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let ready = phase::ready_to_fail_over(plan, now, &self.to, &self.accepts)?;
        let handed = phase::hand_over(plan, now, &ready, None, &[]);
        let traffic = phase::repoint(plan, now, &handed);
        let opened = [traffic];
        phase::finish(plan, now, &handed, &opened);
        phase::bring_along(plan, now, &handed, &opened);
        phase::readers(plan, now, &handed.writer, &opened);
        phase::harden(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}
