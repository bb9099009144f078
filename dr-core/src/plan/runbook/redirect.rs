//! Applications are pointed at the writer that is there: after a promotion that left them out, or one that somebody else made.

use crate::{
    base::{MemberId, Refusal, RunbookId},
    plan::{PlanBuilder, Purpose, Runbook, Situation, phase},
};

/// Points every secret and route of a group at its present writer. Nobody is promoted, and no writes are held back.
#[derive(Clone, Debug)]
pub struct Redirect {
    to: MemberId,
}

impl Redirect {
    /// To this member, which must be the writer already.
    #[must_use]
    pub fn to(member: impl Into<MemberId>) -> Self {
        Self { to: member.into() }
    }
}

impl Runbook for Redirect {
    fn id(&self) -> RunbookId {
        RunbookId::new("dr.redirect", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Redirect
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let agreed = phase::ready_to_redirect(plan, now, &self.to)?;
        let writer = phase::observe(plan, now, &agreed);
        phase::redirect(plan, now, &writer);
        Ok(())
    }
}
