//! The two clocks of a drain. Until a promotion was asked for, a drain whose budget is over turns the run back. Behind that moment
//! the run goes on whatever it takes, and clients that would give up get errors instead of hanging.

use std::sync::Arc;

use super::{DriveError, Driver, task};
use crate::{
    base::Millis,
    contract::{AppTier, Occasion},
    run::{Event, Phase},
};

/// The notice says this when clients are turned away behind the promote intent.
const PROMOTING: &str = "the drain has lasted as long as clients wait, and the promotion is under way; clients now get errors at once, \
                         and are let through as soon as the writer is ready";

/// The notice says this when clients are turned away while the run turns back or waits for a person.
const STUCK: &str =
    "the drain has lasted as long as clients wait, and is not given back yet; clients now get errors at once";

/// A drain runs against one of these clocks at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// Past it the run turns back.
    Budget(Millis),
    /// Past it clients are turned away.
    Clients(Millis),
}

impl Clock {
    fn limit(self) -> Millis {
        match self {
            Self::Budget(limit) | Self::Clients(limit) => limit,
        }
    }
}

impl Driver {
    /// Returns the clock that the drain runs against now; `None` when nothing is left for a clock to do.
    fn drain_clock(&self) -> Option<Clock> {
        let (state, policy) = (&self.state, &self.state.plan.policy);
        if state.phase == Phase::Ended {
            return None;
        }
        if !state.pivot_stands() && !state.gap_over && !state.gap_accepted {
            return Some(Clock::Budget(policy.gap_budget));
        }
        let limit = match state.phase {
            // What is held is being given back: only a limit that somebody knows is worth an error.
            Phase::Aborting => policy.client_limit,
            Phase::New | Phase::Running | Phase::Paused | Phase::Parked | Phase::Ended => Some(policy.clients_wait()),
        };
        limit.filter(|_| !self.clients_know).map(Clock::Clients)
    }

    /// While a drain is held, somebody looks at the clock.
    pub(super) fn watch_gap(&mut self) {
        let (Some(since), Some(clock), false) = (self.state.drained_since(), self.drain_clock(), self.gap_timer) else {
            return;
        };
        self.gap_timer = true;
        let spent = self.drive.runtime.now_wall().since(since);
        let left = if self.gap_passed { Millis::seconds(1) } else { clock.limit().saturating_sub(spent) };
        self.jobs.push(task::gap(&self.drive, left, self.apps()));
    }

    /// A clock may be over. `flow` says that writes were seen to flow just now: after a restart the clock may have run on although
    /// the drain was given back a moment before the end.
    pub(super) async fn on_gap_timer(&mut self, flow: bool) -> Result<(), DriveError> {
        let (Some(since), Some(clock)) = (self.state.drained_since(), self.drain_clock()) else { return Ok(()) };
        if self.drive.runtime.now_wall().since(since) < clock.limit() {
            return Ok(());
        }
        match clock {
            Clock::Budget(_) => self.append(vec![Event::DrainOverBudget]).await,
            // Never beside a release: errors that reach the tier after it would stay. A release that does not end fails with its time.
            Clock::Clients(_) if self.state.letting_through() => {
                self.gap_passed = true;
                Ok(())
            }
            // Somebody let them through by hand, or the answer of a release was lost: nobody is turned away then.
            Clock::Clients(_) if flow => {
                self.clients_know = true;
                Ok(())
            }
            Clock::Clients(_) => self.turn_away().await,
        }
    }

    /// Clients get errors instead of waiting, and somebody is told. An engine that resumes the run does so once more: whether the one
    /// before it still could is not known.
    async fn turn_away(&mut self) -> Result<(), DriveError> {
        self.clients_know = true;
        if !self.state.clients_turned_away {
            self.append(vec![Event::ClientsTurnedAway]).await?;
        }
        self.fail_fast();
        let text = if self.state.pivot_stands() { PROMOTING } else { STUCK };
        self.notify("clients-turned-away", Occasion::Outage, text);
        Ok(())
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
                drop(crate::contract::contain::caught(async { app.fail_fast().await }).await);
            }));
        }
    }
}
