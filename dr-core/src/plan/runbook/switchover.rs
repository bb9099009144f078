//! The planned change of the writer: nothing acknowledged is lost, or it stops.

use crate::{
    base::{MemberId, Refusal, RunbookId},
    plan::{PlanBuilder, Purpose, Runbook, Situation, phase},
};

/// Changes the writer while both sides are well (C01, C02, C04, C12).
#[derive(Clone, Debug)]
pub struct PlannedSwitchover {
    to: MemberId,
}

impl PlannedSwitchover {
    /// To this member.
    #[must_use]
    pub fn to(member: impl Into<MemberId>) -> Self {
        Self { to: member.into() }
    }
}

impl Runbook for PlannedSwitchover {
    fn id(&self) -> RunbookId {
        RunbookId::new("dr.planned-switchover", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Switchover
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let ready = phase::ready_for(plan, now, &self.to)?;
        let drained = phase::drain(plan, now, &ready);
        let handed = phase::hand_over(plan, now, &ready, &drained, &[]);
        let traffic = phase::repoint(plan, now, &handed);
        let opened = phase::reopen(plan, drained, &traffic);
        phase::finish(plan, now, &handed, &opened);
        phase::bring_along(plan, now, &handed, &opened);
        phase::readers(plan, now, &handed.writer, &opened);
        phase::harden(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}
