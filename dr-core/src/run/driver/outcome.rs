//! Turning answers into events: what is done, what is not, what nobody knows.

use super::{DriveError, Driver};
use crate::{
    base::{Json, Millis, Mono, NodeId},
    contract::{Cause, NotDone, Outcome, Retry, Shortfall, Touch},
    plan::{Effect, Observed, OnFailure, Polled, StepError, StepErrorClass},
    run::{Event, NodePhase},
};

/// Whether an effect of a step that failed may have happened nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It may: only a look or a person can tell.
    Left,
    /// It did not: nothing was sent, or the provider proved that nothing was done.
    None,
}

impl Driver {
    pub(super) async fn on_submitted(
        &mut self,
        node: &NodeId,
        result: Option<Result<Outcome<Json>, StepError>>,
        calls: Vec<Touch>,
    ) -> Result<(), DriveError> {
        // What goes round the gate, through a client of the step's own, nobody saw leave: then it may have.
        let sent = !calls.is_empty() || !self.gate_sees_all(node);
        let outcome = match result {
            None => Outcome::Unknown(Cause::new("no answer in time")),
            Some(Ok(outcome)) => outcome,
            Some(Err(StepError { class: StepErrorClass::Unknown | StepErrorClass::Stop, cause })) if sent => {
                Outcome::Unknown(cause)
            }
            // Nothing went through the gate, so nothing can have happened there: a failed guard, an unreachable witness.
            Some(Err(StepError { class: StepErrorClass::Unknown, cause })) => {
                Outcome::NotDone(NotDone { cause, retry: Retry::After(Millis::seconds(1)) })
            }
            Some(Err(StepError { class: StepErrorClass::NotDone(retry), cause })) => {
                Outcome::NotDone(NotDone { cause, retry })
            }
            Some(Err(StepError { class: StepErrorClass::Stop, cause })) => {
                Outcome::NotDone(NotDone { cause, retry: Retry::Never })
            }
        };
        match outcome {
            Outcome::Done(output) => {
                self.clocks.remove(node);
                self.append(vec![Event::Finished { node: node.clone(), output, calls }]).await
            }
            Outcome::Accepted(handle) => {
                self.again_in(node, Millis::ZERO);
                self.append(vec![Event::Accepted { node: node.clone(), handle, calls }]).await
            }
            Outcome::NotDone(NotDone { cause, retry: Retry::After(pause) }) => {
                self.refuse(node, cause, pause, sent).await
            }
            Outcome::NotDone(NotDone { cause, retry: Retry::Never }) => self.fail(node, cause, Doubt::None).await,
            Outcome::NotDone(NotDone { cause, retry: Retry::ReadFirst }) | Outcome::Unknown(cause) => {
                self.again_in(node, Millis::ZERO);
                self.append(vec![Event::InDoubt { node: node.clone(), cause, calls }]).await
            }
            Outcome::Conflict(cause) => self.fail(node, cause, Doubt::Left).await,
        }
    }

    /// Whether all that a step may touch is reached through the gate.
    fn gate_sees_all(&self, node: &NodeId) -> bool {
        self.state.plan.call(node).is_some_and(|call| {
            let bound = |touch: &Touch| self.bound.by_name.contains_key(&touch.resource);
            !call.touches.is_empty() && call.touches.iter().all(bound)
        })
    }

    /// Not done: again, while attempts are left.
    pub(super) async fn refuse(
        &mut self,
        node: &NodeId,
        cause: Cause,
        again_in: Millis,
        sent: bool,
    ) -> Result<(), DriveError> {
        // Giving back is bounded by its time alone: whoever feels what is held is not helped by a count.
        let giving_back = node.undone().is_some();
        let most = self.state.paced(node).map_or(1, |paced| paced.attempts);
        let spent = sent && !giving_back && self.state.node(node).attempt >= most;
        if spent || self.over(node) {
            let cause = Cause::new(format!("no attempt or time is left: {cause}"));
            let doubt = if self.state.phase_of(node) == NodePhase::InDoubt { Doubt::Left } else { Doubt::None };
            return self.fail(node, cause, doubt).await;
        }
        let again_in = if giving_back { again_in.max(Millis::new(100)) } else { again_in };
        self.again_in(node, again_in);
        self.append(vec![Event::NotDone { node: node.clone(), cause, again_in, sent }]).await
    }

    /// Failed for good, or owed.
    pub(super) async fn fail(&mut self, node: &NodeId, cause: Cause, doubt: Doubt) -> Result<(), DriveError> {
        self.clocks.remove(node);
        let event = match self.state.on_failure(node) {
            OnFailure::Stop => Event::Failed { node: node.clone(), cause, doubt: doubt == Doubt::Left },
            OnFailure::Debt { .. } => Event::Owed { node: node.clone(), cause },
        };
        self.append(vec![event]).await
    }

    /// Whether the time of a step is over.
    fn over(&mut self, node: &NodeId) -> bool {
        self.drive.runtime.now_mono() >= self.clock(node).deadline
    }

    pub(super) async fn on_looked(
        &mut self,
        node: &NodeId,
        began: Mono,
        result: Result<Observed<Json>, StepError>,
    ) -> Result<(), DriveError> {
        match self.state.phase_of(node) {
            NodePhase::Waiting | NodePhase::Looking => self.on_watched(node, began, result).await,
            NodePhase::InDoubt => self.on_found(node, began, result).await,
            NodePhase::Asking => self.on_watched_while_asking(node, result).await,
            NodePhase::Intended
            | NodePhase::Accepted
            | NodePhase::Backoff
            | NodePhase::Done
            | NodePhase::Failed
            | NodePhase::Owed => Ok(()),
        }
    }

    /// A step that only looks looked.
    async fn on_watched(
        &mut self,
        node: &NodeId,
        began: Mono,
        result: Result<Observed<Json>, StepError>,
    ) -> Result<(), DriveError> {
        if self.state.aborting.is_some() && node.undone().is_none() {
            return Ok(());
        }
        if !matches!(result, Ok(Observed::Short(_))) {
            self.short_since.remove(node);
        }
        let why = match result {
            Ok(Observed::Done(output)) => {
                self.clocks.remove(node);
                return self.append(vec![Event::Finished { node: node.clone(), output, calls: Vec::new() }]).await;
            }
            Ok(Observed::Conflict(cause)) | Err(StepError { class: StepErrorClass::Stop, cause }) => {
                return self.fail(node, cause, Doubt::None).await;
            }
            Ok(Observed::Short(short)) if self.asks_for_less(node, began, &short) => {
                return self.ask_for_less(node, short).await;
            }
            Ok(Observed::Short(short)) => short.why,
            Ok(Observed::NotStarted) => Cause::new("it is not so"),
            Ok(Observed::Partial { missing, .. }) => Cause::new(format!("missing: {missing}")),
            Ok(Observed::InProgress { .. }) => Cause::new("it is still going on"),
            Ok(Observed::Unknown(cause) | Observed::GivenUp(cause)) | Err(StepError { cause, .. }) => cause,
        };
        let clock = self.clock(node);
        if began >= clock.deadline {
            let cause = Cause::new(format!("its time is over: {why}"));
            return self.fail(node, cause, Doubt::None).await;
        }
        self.again_in(node, self.every(node));
        if self.state.phase_of(node) == NodePhase::Waiting {
            self.append(vec![Event::Began { node: node.clone() }]).await?;
        }
        Ok(())
    }

    /// A look after a doubt.
    async fn on_found(
        &mut self,
        node: &NodeId,
        began: Mono,
        result: Result<Observed<Json>, StepError>,
    ) -> Result<(), DriveError> {
        let effect = self.state.plan.call(node).map_or(Effect::AtMostOnce, |call| call.effect);
        if !matches!(result, Ok(Observed::GivenUp(_))) {
            self.given_up.remove(node);
        }
        match result {
            Ok(Observed::Done(output)) => {
                self.clocks.remove(node);
                self.append(vec![Event::Finished { node: node.clone(), output, calls: Vec::new() }]).await
            }
            Ok(Observed::InProgress { handle, .. }) => {
                self.again_in(node, self.every(node));
                // A look that saw somebody at work knows no operation by name; what the provider called it before still asks best.
                let known = self.state.node(node).handle.filter(|_| handle.is_none());
                let handle = known.unwrap_or(handle);
                self.append(vec![Event::Accepted { node: node.clone(), handle, calls: Vec::new() }]).await
            }
            // What was not there when the look began may be there now: only a look that began after the deadline ends the step.
            Ok(Observed::Partial { .. } | Observed::NotStarted)
                if self.over(node) && began < self.clock(node).deadline =>
            {
                self.again_in(node, Millis::ZERO);
                Ok(())
            }
            Ok(Observed::Partial { missing, .. }) => {
                let cause = Cause::new(format!("completed forward; missing: {missing}"));
                self.refuse(node, cause, Millis::ZERO, true).await
            }
            Ok(Observed::NotStarted) if effect == Effect::Idempotent => {
                let cause = self.doubted(node, "a look saw no trace of it");
                self.refuse(node, cause, Millis::ZERO, true).await
            }
            Ok(Observed::NotStarted) => self.absent(node, began).await,
            Ok(Observed::GivenUp(cause)) => self.given_up(node, began, cause).await,
            Ok(Observed::Conflict(cause)) | Err(StepError { class: StepErrorClass::Stop, cause }) => {
                self.fail(node, cause, Doubt::Left).await
            }
            Ok(Observed::Unknown(cause) | Observed::Short(Shortfall { why: cause, .. }))
            | Err(StepError { cause, .. }) => {
                if began >= self.clock(node).deadline {
                    let why = format!("its time is over and it is not known what became of it: {cause}");
                    let cause = self.doubted(node, &why);
                    return self.fail(node, cause, Doubt::Left).await;
                }
                self.again_in(node, self.every(node).max(Millis::new(100)));
                Ok(())
            }
        }
    }

    /// Why a step was in doubt, before what ended the doubt: a provider's own words say more than that nothing is seen.
    fn doubted(&self, node: &NodeId, end: &str) -> Cause {
        match self.state.node(node).cause {
            Some(doubt) => Cause::new(format!("{doubt}; {end}")),
            None => Cause::new(end),
        }
    }

    /// Two looks that saw nothing, far enough apart, count as "not done"; one never does.
    async fn absent(&mut self, node: &NodeId, began: Mono) -> Result<(), DriveError> {
        let apart = self.state.paced(node).map_or(Millis::seconds(1), |paced| paced.visibility);
        let took = Millis::of(self.drive.runtime.now_mono().since(began));
        let now = self.drive.runtime.now_wall();
        match self.state.node(node).absent {
            // The second one begins that much later than the first one ended, however long it takes.
            Some(first) if now.since(first) >= apart.saturating_add(took) => {
                let cause = self.doubted(node, "two looks saw no trace of it");
                self.refuse(node, cause, Millis::ZERO, true).await
            }
            Some(_) => {
                self.again_in_hard(node, apart);
                Ok(())
            }
            None => {
                self.again_in_hard(node, apart);
                self.append(vec![Event::Absent { node: node.clone() }]).await
            }
        }
    }

    /// Two looks, far enough apart, at a call that its provider says it gave up prove that nothing of it stands. They are made under
    /// one engine: the first one is not remembered over a crash.
    async fn given_up(&mut self, node: &NodeId, began: Mono, cause: Cause) -> Result<(), DriveError> {
        let apart = self.state.paced(node).map_or(Millis::seconds(1), |paced| paced.visibility);
        let first = *self.given_up.entry(node.clone()).or_insert_with(|| self.drive.runtime.now_mono());
        if began >= first + apart {
            self.given_up.remove(node);
            return self.fail(node, cause, Doubt::None).await;
        }
        self.again_in_hard(node, apart);
        Ok(())
    }

    /// The second look of a pair is not hurried by a deadline.
    fn again_in_hard(&mut self, node: &NodeId, pause: Millis) {
        let next = self.drive.runtime.now_mono() + pause;
        let clock = self.clock(node);
        self.clocks.insert(node.clone(), super::Clock { next, ..clock });
    }

    pub(super) async fn on_polled(
        &mut self,
        node: &NodeId,
        began: Mono,
        result: Result<Polled<Json>, StepError>,
    ) -> Result<(), DriveError> {
        if self.state.phase_of(node) != NodePhase::Accepted {
            return Ok(());
        }
        let (pause, why) = match result {
            Ok(Polled::Pending { again_in, percent }) => {
                self.progress(node, percent).await?;
                (again_in, Cause::new("it is still going on"))
            }
            Ok(Polled::Ended(Outcome::Done(output))) => {
                self.clocks.remove(node);
                return self.append(vec![Event::Finished { node: node.clone(), output, calls: Vec::new() }]).await;
            }
            Ok(Polled::Ended(Outcome::Accepted(handle))) => {
                self.again_in(node, self.every(node));
                return self.append(vec![Event::Accepted { node: node.clone(), handle, calls: Vec::new() }]).await;
            }
            // A provider that says "failed" may have left everything, a part or nothing: a look decides.
            Ok(Polled::Ended(Outcome::NotDone(NotDone { cause, .. }) | Outcome::Unknown(cause))) => {
                self.again_in(node, Millis::ZERO);
                return self.append(vec![Event::InDoubt { node: node.clone(), cause, calls: Vec::new() }]).await;
            }
            Ok(Polled::Ended(Outcome::Conflict(cause))) | Err(StepError { class: StepErrorClass::Stop, cause }) => {
                return self.fail(node, cause, Doubt::Left).await;
            }
            Err(StepError { cause, .. }) => (self.every(node).max(Millis::new(100)), cause),
        };
        if began >= self.clock(node).deadline {
            let cause = Cause::new(format!("its time is over: {why}"));
            return self.fail(node, cause, Doubt::Left).await;
        }
        self.again_in(node, pause);
        Ok(())
    }

    /// Only what changed by a tenth is journaled.
    async fn progress(&mut self, node: &NodeId, percent: Option<u8>) -> Result<(), DriveError> {
        let Some(percent) = percent else { return Ok(()) };
        let was = self.state.node(node).percent.unwrap_or(0);
        if percent >= was.saturating_add(10) {
            self.append(vec![Event::Progressed { node: node.clone(), percent }]).await?;
        }
        Ok(())
    }
}
