//! The forced change of the writer, while the primary is silent: the loss is bounded and accepted before, counted after.

use crate::{MemberId, PlanBuilder, Purpose, Refusal, Runbook, RunbookId, Situation, phase};

/// Changes the writer while the primary is silent (C03). Automatic rollback is not possible.
#[derive(Clone, Debug)]
pub struct UnplannedFailover {
    to: MemberId,
    without_fence: Option<String>,
}

impl UnplannedFailover {
    /// To this member.
    #[must_use]
    pub fn to(member: impl Into<MemberId>) -> Self {
        Self { to: member.into(), without_fence: None }
    }

    /// Nobody can fence the silent primary, because of `reason`: two people are asked to take the risk of a second writer, the fence
    /// stays owed, and a primary that answers after all stops the run.
    #[must_use]
    pub fn without_fence(self, reason: impl Into<String>) -> Self {
        Self { without_fence: Some(reason.into()), ..self }
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
        let ready = phase::ready_to_fail_over(plan, now, &self.to, self.without_fence.as_deref())?;
        let handed = phase::hand_over(plan, now, &ready, None, &[]);
        let traffic = phase::repoint(plan, now, &handed);
        let opened = [traffic];
        phase::finish(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}
