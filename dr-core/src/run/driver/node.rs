//! Launching what was decided: contexts, gates, and the order "prepare, intent, seal, send".

use std::sync::Arc;

use serde_json::Value;

use super::{DriveError, Driver, attempt_timeout, is_waiting, must_seal, outcome::Doubt, request_digest, task};
use crate::{
    base::{Json, Millis, NodeId},
    contract::{Cause, Class, Consent, Touch, admit::differences},
    plan::{
        Effect, MutationGate, Prepared, Ready, StepCx, StepError, StepErrorClass, catalog::ErasedHandler,
        gate::GateParts, resolve,
    },
    run::{Command, Event, NodePhase},
};

/// A look that begins at a step's deadline still gets this long: a slow answer is worth more than none.
const SHORTEST_CALL: Millis = Millis::seconds(5);
/// No look takes longer than this, however patient its step is: one that hangs is begun again.
const LONGEST_CALL: Millis = Millis::seconds(90);

/// A consent that was given, and how to read again what was shown.
struct Standing {
    consent: Consent,
    params: Value,
    cx: StepCx,
    handler: Arc<dyn ErasedHandler>,
}

impl Driver {
    pub(super) async fn launch(&mut self, command: Command) -> Result<(), DriveError> {
        match command {
            Command::Record(event) => self.append(vec![*event]).await,
            Command::Begin(node) => self.begin(&node).await,
            Command::Ask(node) => self.ask(&node).await,
            Command::Look(node) | Command::Observe(node) => self.look(&node).await,
            Command::Await(node, handle) => {
                if let Some(work) = self.work(&node, Vec::new()).await? {
                    self.jobs.push(task::poll(Arc::clone(&self.drive.runtime), work, handle));
                }
                Ok(())
            }
        }
    }

    pub(super) async fn look(&mut self, node: &NodeId) -> Result<(), DriveError> {
        if let Some(work) = self.work(node, Vec::new()).await? {
            self.jobs.push(task::look(Arc::clone(&self.drive.runtime), work));
        }
        Ok(())
    }

    async fn begin(&mut self, node: &NodeId) -> Result<(), DriveError> {
        if self.busy.contains(node) {
            return Ok(());
        }
        if self.state.phase_of(node) == NodePhase::Intended {
            // Its answer will never come: whoever waited for it is gone.
            let cause = super::unknown("nobody waits for its answer any more");
            return self.append(vec![Event::InDoubt { node: node.clone(), cause, calls: Vec::new() }]).await;
        }
        let Some(effect) = self.state.plan.call(node).map(|call| call.effect) else { return Ok(()) };
        if effect == Effect::ReadOnly {
            return self.look(node).await;
        }
        self.say_space_is_low().await?;
        let standing = self.standing_consent(node);
        if standing.is_none()
            && let Some(step) = self.kept(node)
        {
            return self.on_prepared(step).await;
        }
        if let Some(work) = self.work(node, Vec::new()).await? {
            let check = async move {
                let Some(standing) = standing else { return Ok(Vec::new()) };
                let now = super::asking::gather(standing.handler.as_ref(), &standing.cx, &standing.params).await?;
                let mut diff = differences(&standing.consent.facts, &now);
                if standing.cx.now() > standing.consent.expires {
                    diff.push(format!("the consent was good until {}", standing.consent.expires));
                }
                Ok(diff)
            };
            self.jobs.push(task::prepare(Arc::clone(&self.drive.runtime), work, check));
        }
        Ok(())
    }

    /// The consent that the first change stands on, if `node` would be that change.
    fn standing_consent(&self, node: &NodeId) -> Option<Standing> {
        let class = self.state.plan.call(node)?.class;
        if self.something_stands() || class == Class::Harmless || node.undone().is_some() {
            return None;
        }
        let (id, ask) = self.state.plan.nodes.iter().find(|(_, node)| node.call.class == Class::Consent)?;
        let consent: Consent = serde_json::from_value(self.state.output(id)?).ok()?;
        let handler = self.drive.catalog.handler(&ask.call.kind)?;
        Some(Standing { consent, params: self.resolved(id).ok()?, cx: self.cx(id, Vec::new())?, handler })
    }

    /// Whether a change was made, or may have been: what was seen not to be done is none.
    fn something_stands(&self) -> bool {
        self.state.nodes.iter().any(|(id, node)| {
            let changes = |call: &crate::plan::Call| call.effect != Effect::ReadOnly && call.class != Class::Harmless;
            node.may_stand && self.state.plan.call(id).is_some_and(changes)
        })
    }

    pub(super) fn resolved(&self, node: &NodeId) -> Result<Value, Cause> {
        let call = self.state.plan.call(node).ok_or_else(|| Cause::new("the plan has no such step"))?;
        resolve(&call.params.0, &|id| self.state.output(id)).map_err(|error| Cause::chain(&error))
    }

    /// What a handler needs for one call of `node`; `None` while another call of it is going on.
    pub(super) async fn work(&mut self, node: &NodeId, allow: Vec<Touch>) -> Result<Option<task::Work>, DriveError> {
        if !self.busy.insert(node.clone()) {
            return Ok(None);
        }
        let clock = self.clock(node);
        let from = clock.next;
        let left = Millis::of(clock.deadline.since(self.drive.runtime.now_mono().max(from)));
        let limit = left.max(SHORTEST_CALL).min(LONGEST_CALL);
        let handler = self.state.plan.call(node).and_then(|call| self.drive.catalog.handler(&call.kind));
        let params = self.resolved(node);
        match (self.cx(node, allow), handler, params) {
            (Some(cx), Some(handler), Ok(params)) => {
                Ok(Some(task::Work { node: node.clone(), cx, params, handler, from, limit }))
            }
            (_, _, Err(cause)) => {
                self.busy.remove(node);
                self.fail(node, cause, Doubt::None).await?;
                Ok(None)
            }
            (None, _, Ok(_)) | (_, None, Ok(_)) => {
                self.busy.remove(node);
                self.fail(node, Cause::new("its kind is missing in this engine"), Doubt::None).await?;
                Ok(None)
            }
        }
    }

    pub(super) fn cx(&self, node: &NodeId, allow: Vec<Touch>) -> Option<StepCx> {
        let known = self.state.node(node);
        let paced = self.state.paced(node)?;
        let taken = node.undone();
        let pre_image = match &taken {
            Some(taken) => self.state.node(taken).pre_image,
            None => known.pre_image.clone(),
        };
        // A release runs as a step of its own, too: its pre-image is that of the step that took what it gives back.
        let pre_image = pre_image.or_else(|| {
            let (taken, _) = self.state.plan.holds.iter().find(|(_, hold)| hold.released_by.as_ref() == Some(node))?;
            self.state.node(taken).pre_image
        });
        let gate = MutationGate::new(GateParts {
            bound: Arc::clone(&self.bound),
            providers: Arc::clone(&self.drive.providers),
            runtime: Arc::clone(&self.drive.runtime),
            live: Arc::clone(&self.live),
            allow,
            undo: taken.is_some(),
            attempt_timeout: paced.within.min(Millis::seconds(10)),
        });
        Some(StepCx {
            run: self.drive.run.clone(),
            node: node.clone(),
            attempt: known.attempt,
            epoch: self.drive.lease.epoch,
            plan: Arc::clone(&self.state.plan),
            hash: self.state.hash,
            origin: self.state.origin,
            every: paced.every,
            intended_at: known.intended,
            waived: known.waived.clone().or_else(|| self.state.attested().cloned()),
            claimed_by: known.claimed_by.clone(),
            pre_image,
            promotion: self.state.promotion(),
            handle: known.handle.clone(),
            acknowledged: known.acknowledged,
            runtime: Arc::clone(&self.drive.runtime),
            gate,
        })
    }

    pub(super) async fn on_prepared(&mut self, step: task::PreparedStep) -> Result<(), DriveError> {
        self.busy.remove(&step.node);
        if !is_waiting(self.state.phase_of(&step.node)) || !self.may_begin(&step.node) {
            self.keep(step);
            return Ok(());
        }
        let node = step.node;
        if !step.voided.is_empty() && !self.something_stands() {
            return self.void(step.voided).await;
        }
        match step.result {
            Ok(Prepared::Ready(ready)) => self.send(&node, step.params, ready).await,
            Ok(Prepared::AlreadyDone(output)) => self.already(&node, output).await,
            Ok(Prepared::Conflict(cause)) => self.fail(&node, cause, Doubt::None).await,
            Ok(Prepared::NotReady(reason)) => match reason.retry {
                crate::contract::Retry::Never => self.fail(&node, reason.cause, Doubt::None).await,
                crate::contract::Retry::After(pause) => self.later(&node, reason.cause, pause).await,
                crate::contract::Retry::ReadFirst => self.later(&node, reason.cause, self.every(&node)).await,
            },
            Err(StepError { class: StepErrorClass::Stop, cause }) => self.fail(&node, cause, Doubt::None).await,
            Err(StepError { class: StepErrorClass::NotDone(crate::contract::Retry::After(pause)), cause }) => {
                self.later(&node, cause, pause).await
            }
            Err(StepError { class: StepErrorClass::Unknown | StepErrorClass::NotDone(_), cause }) => {
                self.later(&node, cause, Millis::seconds(1)).await
            }
        }
    }

    /// While a step was being prepared the run may have begun to turn back, or was paused.
    fn may_begin(&self, node: &NodeId) -> bool {
        crate::run::decide(&self.state).contains(&Command::Begin(node.clone()))
    }

    /// Nothing was sent and nothing is recorded: it is simply tried again until its time is over.
    async fn later(&mut self, node: &NodeId, cause: Cause, pause: Millis) -> Result<(), DriveError> {
        if self.drive.runtime.now_mono() >= self.clock(node).deadline {
            let cause = Cause::new(format!("its time is over: {cause}"));
            return self.fail(node, cause, Doubt::None).await;
        }
        self.again_in(node, pause);
        Ok(())
    }

    async fn already(&mut self, node: &NodeId, output: Json) -> Result<(), DriveError> {
        let pivot = self.state.plan.call(node).is_some_and(|call| call.class == Class::Pivot);
        if pivot && !self.state.promote_intended {
            let cause = Cause::new("it is promoted already, and not by this run: somebody else is at work");
            return self.fail(node, cause, Doubt::None).await;
        }
        self.clocks.remove(node);
        self.append(vec![Event::Finished { node: node.clone(), output, calls: Vec::new() }]).await
    }

    /// The intent becomes durable, is sealed if need be, and only then the call leaves.
    async fn send(&mut self, node: &NodeId, params: Value, ready: Ready) -> Result<(), DriveError> {
        let Some(call) = self.state.plan.call(node).cloned() else { return Ok(()) };
        let attempt = self.state.node(node).attempt.saturating_add(1);
        self.clocks.remove(node);
        let intent = Event::Intended {
            node: node.clone(),
            attempt,
            key: self.drive.run.key(&self.state.origin, node),
            facts: ready.facts,
            pre_image: ready.pre_image,
            request: request_digest(&params),
        };
        if !self.append_intent(intent).await? {
            return Ok(());
        }
        if must_seal(call.class, call.effect)
            && let Err(error) = self.drive.journal.seal(&self.drive.run, self.head.seq).await
        {
            let cause = Cause::new(format!("nothing was sent: {}", Cause::chain(&error)));
            let again_in = Millis::seconds(1);
            return self.refuse(node, cause, again_in, false).await;
        }
        let Some(work) = self.work(node, call.touches.clone()).await? else { return Ok(()) };
        let within = self.state.paced(node).map_or(Millis::minutes(5), |paced| paced.within);
        self.jobs.push(task::submit(Arc::clone(&self.drive.runtime), work, attempt_timeout(within)));
        Ok(())
    }
}
