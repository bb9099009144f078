//! Plans that make or check a standby: the steps that would move anybody do not fit in.

use crate::{
    base::Role,
    plan::{
        Attempted, Edge, Held, IntoSpec, Output, PlanBuilder, Ref, Step,
        steps::{
            AskConsent, AttachStandby, CheckCandidate, CheckLag, CheckParity, CheckReplication, CheckSides,
            FinalSnapshot, Notify, SettleMember, TakeGroupLock,
        },
    },
};

/// A step that a standby plan may have. It changes no secret and no traffic and promotes nothing; implement it for your own steps of
/// which that is true. The rule DR150 looks at what they touch all the same.
#[diagnostic::on_unimplemented(
    message = "a standby plan has no `{Self}`",
    label = "may move applications or the writer",
    note = "a standby plan changes no secret and no traffic, and promotes nothing (C10); plan a switchover for that"
)]
pub trait StandbyStep: Step {}

macro_rules! standby_steps {
    ($($step:ty),* $(,)?) => {
        $(impl StandbyStep for $step {})*
    };
}

standby_steps! {
    TakeGroupLock, CheckSides, CheckCandidate, CheckReplication, CheckLag, CheckParity, AskConsent, Notify, SettleMember,
    FinalSnapshot, AttachStandby,
}

/// A plan builder that takes [`StandbyStep`]s only.
#[derive(Debug)]
pub struct StandbyBuilder<'p> {
    plan: &'p mut PlanBuilder,
}

impl StandbyBuilder<'_> {
    /// As [`PlanBuilder::add`].
    pub fn add<I>(&mut self, name: &str, step: I) -> Ref<<I::Step as Step>::Output>
    where
        I: IntoSpec,
        I::Step: StandbyStep,
    {
        self.plan.add(name, step)
    }

    /// As [`PlanBuilder::attempt`].
    pub fn attempt<I>(
        &mut self,
        name: &str,
        step: I,
        text: impl Into<String>,
        owner: impl Into<Role>,
    ) -> Ref<Attempted<<I::Step as Step>::Output>>
    where
        I: IntoSpec,
        I::Step: StandbyStep,
    {
        self.plan.attempt(name, step, text, owner)
    }

    /// As [`PlanBuilder::hold`].
    pub fn hold<I, G>(&mut self, name: &str, take: I, give: G) -> Held<<I::Step as Step>::Output>
    where
        I: IntoSpec,
        I::Step: StandbyStep,
        G: StandbyStep,
    {
        self.plan.hold(name, take, give)
    }

    /// As [`PlanBuilder::release`].
    pub fn release<T: Output>(&mut self, held: Held<T>, after: &(impl Edge + ?Sized)) -> Ref<()> {
        self.plan.release(held, after)
    }
}

impl PlanBuilder {
    /// The same plan, for steps that move nobody: what a runbook with the purpose [`Standby`](crate::plan::Purpose::Standby) writes with.
    pub fn standby(&mut self) -> StandbyBuilder<'_> {
        StandbyBuilder { plan: self }
    }
}
