//! The planned change of the writer alone: where applications find it is somebody else's.

use crate::{
    base::{MemberId, Refusal, RunbookId},
    contract::Binding,
    plan::{PlanBuilder, Purpose, Runbook, Situation, phase},
};

/// Changes the writer while both sides are well, and leaves the secrets and routes as they are. Somebody owes them afterwards: a
/// [`Redirect`](crate::plan::Redirect) settles that debt.
///
/// What the provider of a role swap moves by itself is not left out, for it cannot be.
#[derive(Clone, Debug)]
pub struct PromotionOnly {
    to: MemberId,
    because: String,
}

impl PromotionOnly {
    /// To this member. `because` is shown to people beside every secret and route that stays as it is.
    #[must_use]
    pub fn to(member: impl Into<MemberId>, because: impl Into<String>) -> Self {
        Self { to: member.into(), because: because.into() }
    }
}

impl Runbook for PromotionOnly {
    fn id(&self) -> RunbookId {
        RunbookId::new("dr.promotion-only", 1)
    }

    fn purpose(&self) -> Purpose {
        Purpose::Promotion
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        let moves = now.member(&self.to).map(phase::moves).unwrap_or_default();
        let secrets = now.secrets.keys().map(|name| Binding::Secret(name.clone()));
        let routes = now.routes.keys().map(|name| Binding::Traffic(name.clone()));
        for binding in secrets.chain(routes).filter(|binding| !moves.contains(binding)) {
            plan.leave_out(binding, &self.because);
        }
        let ready = phase::ready_for(plan, now, &self.to)?;
        let drained = phase::drain(plan, now, &ready);
        let handed = phase::hand_over(plan, now, &ready, &drained, &[]);
        let seen = phase::repoint(plan, now, &handed);
        let opened = phase::reopen(plan, drained, &seen);
        phase::finish(plan, now, &handed, &opened);
        phase::readers(plan, now, &handed.writer, &opened);
        phase::harden(plan, now, &handed, &opened);
        phase::rejoin(plan, now, handed, &opened);
        Ok(())
    }
}
