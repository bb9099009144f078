//! The clock of a drain: when its budget is over the run says so, and clients that would hang are turned away.

use std::sync::Arc;

use super::{DriveError, Driver, task};
use crate::{
    AppTier, Millis,
    run::{Event, Phase},
};

/// Why clients are turned away past the promote intent.
const PROMOTING: &str = "the drain has outlived its budget after the promotion was asked for; clients now get errors at once, and are \
                         let through as soon as the writer is ready";

/// Why clients are turned away while a person is asked.
const STUCK: &str = "the drain has outlived its budget and waits for a person; clients now get errors at once";

impl Driver {
    /// While a drain is held, somebody looks at the clock.
    pub(super) fn watch_gap(&mut self) {
        let Some(since) = self.state.drained_since() else { return };
        let settled =
            (self.state.gap_over && !self.stuck()) || self.state.gap_accepted || self.state.phase == Phase::Ended;
        if self.gap_timer || settled {
            return;
        }
        self.gap_timer = true;
        let spent = self.drive.runtime.now_wall().since(since);
        let left = self.state.plan.policy.gap_budget.saturating_sub(spent);
        let left = if self.gap_passed { Millis::seconds(1) } else { left };
        self.jobs.push(task::gap(&self.drive, left, self.apps()));
    }

    /// The budget is over. `flow` says that writes were seen to flow just now: after a restart the clock may have run on although
    /// the drain was given back a moment before the end.
    pub(super) async fn on_gap_timer(&mut self, flow: bool) -> Result<(), DriveError> {
        let Some(since) = self.state.drained_since() else { return Ok(()) };
        let spent = self.drive.runtime.now_wall().since(since);
        let settled = (self.state.gap_over && !self.stuck()) || self.state.gap_accepted || self.state.outcome.is_some();
        if spent < self.state.plan.policy.gap_budget || settled {
            return Ok(());
        }
        if flow && self.state.promote_intended && self.state.letting_through() {
            self.gap_passed = true;
            return Ok(());
        }
        if !self.state.gap_over {
            self.append(vec![Event::DrainOverBudget]).await?;
        }
        if flow {
            // Whoever let them through by hand, or a release whose answer was lost: nobody is turned away then.
            self.turned_away |= self.stuck();
        } else if self.state.promote_intended {
            self.turn_away(PROMOTING);
        } else if self.stuck() {
            self.turn_away(STUCK);
        }
        Ok(())
    }

    /// What was to be given back is not, a person decides, and it was not looked yet whether clients wait for that.
    fn stuck(&self) -> bool {
        self.state.phase == Phase::Parked && self.state.gap_over && !self.turned_away
    }

    /// Once: clients get errors instead of waiting, and somebody is told.
    fn turn_away(&mut self, text: &str) {
        if std::mem::replace(&mut self.turned_away, true) {
            return;
        }
        self.fail_fast();
        self.notify("gap-over", text);
    }

    /// Returns the tiers that this run holds back.
    fn apps(&self) -> Vec<Arc<dyn AppTier>> {
        let held = self.state.drained_apps();
        self.bound.apps().filter(|(name, _)| held.contains(*name)).map(|(_, app)| Arc::clone(app)).collect()
    }

    /// Clients that would hang get errors instead. Best effort: the run goes on whatever comes of it, and the release of the drain takes
    /// it back.
    fn fail_fast(&self) {
        for app in self.apps() {
            self.drive.runtime.spawn_detached(Box::pin(async move {
                drop(crate::contain::caught(async { app.fail_fast().await }).await);
            }));
        }
    }
}
