//! Preparing a fence while what comes before it is under way, so that its looks cost the write gap nothing.

use std::sync::Arc;

use super::{DriveError, Driver, is_waiting, task};
use crate::{
    base::{Millis, Mono, NodeId},
    contract::Class,
    plan::Prepared,
    run::{NodePhase, Phase},
};

/// How old a preparation may be when its step begins; an older one is made anew.
const FRESH: Millis = Millis::seconds(1);

impl Driver {
    /// Prepares the fences that begin next: all they take is there, and what they come after is done or under way.
    pub(super) async fn prepare_ahead(&mut self) -> Result<(), DriveError> {
        if self.state.phase != Phase::Running || self.state.cancel.is_some() {
            return Ok(());
        }
        let fences = self.state.plan.nodes.iter().filter(|(_, node)| node.call.class == Class::Fence);
        let next: Vec<NodeId> = fences.map(|(id, _)| id.clone()).filter(|id| self.is_next(id)).collect();
        for node in next {
            if let Some(work) = self.work(&node, Vec::new()).await? {
                self.prepared_ahead.insert(node, None);
                self.jobs.push(task::prepare(Arc::clone(&self.drive.runtime), work, async { Ok(Vec::new()) }));
            }
        }
        Ok(())
    }

    fn is_next(&self, id: &NodeId) -> bool {
        let under_way = |phase: NodePhase| matches!(phase, NodePhase::Intended | NodePhase::Accepted);
        let Some(node) = self.state.plan.nodes.get(id) else { return false };
        let before: Vec<NodePhase> = node.before_it().iter().map(|before| self.state.phase_of(before)).collect();
        self.state.phase_of(id) == NodePhase::Waiting
            && !self.prepared_ahead.contains_key(id)
            && !self.busy.contains(id)
            && before.iter().all(|phase| phase.settled() || under_way(*phase))
            && before.iter().any(|phase| under_way(*phase))
            && self.resolved(id).is_ok()
    }

    /// Keeps what was prepared too early to begin.
    pub(super) fn keep(&mut self, step: task::PreparedStep) {
        // When it may begin its time begins anew.
        self.clocks.remove(&step.node);
        let ready = matches!(step.result, Ok(Prepared::Ready(_)));
        if ready && is_waiting(self.state.phase_of(&step.node)) && self.prepared_ahead.contains_key(&step.node) {
            let now = self.drive.runtime.now_mono();
            self.prepared_ahead.insert(step.node.clone(), Some((now, step)));
        }
    }

    /// What was prepared for this step, if it is fresh.
    pub(super) fn kept(&mut self, node: &NodeId) -> Option<task::PreparedStep> {
        let (at, step) = self.prepared_ahead.get_mut(node)?.take()?;
        let age = self.drive.runtime.now_mono().since(at);
        (Millis::of(age) <= FRESH).then_some(step)
    }
}

/// Steps that were prepared ahead in this process: once each, and what came of it.
pub(super) type PreparedAhead = std::collections::BTreeMap<NodeId, Option<(Mono, task::PreparedStep)>>;
