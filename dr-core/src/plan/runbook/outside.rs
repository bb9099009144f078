//! A planned operation that may begin outside the windows of its group.

use std::sync::Arc;

use crate::{
    base::{Refusal, RunbookId},
    plan::{PlanBuilder, Purpose, Runbook, Situation},
};

/// Plans another runbook so that it may begin at any time, because of a reason that people are shown before they agree.
#[derive(Clone, Debug)]
pub struct OutsideWindow {
    runbook: Arc<dyn Runbook>,
    because: String,
}

impl OutsideWindow {
    /// `runbook`, at any time.
    #[must_use]
    pub fn of(runbook: Arc<dyn Runbook>, because: impl Into<String>) -> Self {
        Self { runbook, because: because.into() }
    }
}

impl Runbook for OutsideWindow {
    fn id(&self) -> RunbookId {
        self.runbook.id()
    }

    fn purpose(&self) -> Purpose {
        self.runbook.purpose()
    }

    fn plan(&self, now: &Situation, plan: &mut PlanBuilder) -> Result<(), Refusal> {
        plan.outside_window(&self.because);
        self.runbook.plan(now, plan)
    }
}
