//! One event at a time turns a state into the next. Whatever the table does not list is refused.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Event, EventKind, NodePhase, NodeState, Phase, Record, RunState,
    table::{self, NodeRow},
};
use crate::{Class, Millis, NodeId, RunId};

/// An event that cannot happen in this state: the journal is damaged, or this version does not understand it.
#[derive(Debug, thiserror::Error)]
#[error("`{event:?}` cannot happen {place}")]
pub struct Illegal {
    /// The event.
    pub event: EventKind,
    /// Where.
    pub place: String,
}

impl Illegal {
    fn new(event: EventKind, place: impl Into<String>) -> Self {
        Self { event, place: place.into() }
    }
}

impl RunState {
    /// The state after the first record of a run.
    ///
    /// # Errors
    /// [`Illegal`] when it is not the start of a run, or the plan does not have the hash it names.
    pub fn begin(run: RunId, record: &Record) -> Result<Self, Illegal> {
        let Event::Started { plan, hash, by, because } = &record.event else {
            return Err(Illegal::new(record.event.kind(), "at the beginning of a run"));
        };
        if plan.hash().ok() != Some(*hash) {
            return Err(Illegal::new(record.event.kind(), format!("with a plan whose hash is not {hash}")));
        }
        let line = record
            .line()
            .map_err(|error| Illegal::new(record.event.kind(), format!("that cannot be written: {error}")))?;
        Ok(Self {
            run,
            plan: Arc::new((**plan).clone()),
            hash: *hash,
            origin: line.hash,
            by: by.clone(),
            because: because.clone(),
            phase: Phase::Running,
            rule: 101,
            since: record.at,
            started: record.at,
            last: record.at,
            seq: record.seq,
            epoch: record.epoch,
            nodes: BTreeMap::new(),
            ask: None,
            given: Vec::new(),
            cancel: None,
            aborting: None,
            parked_from: Phase::Running,
            promote_intended: false,
            gap_over: false,
            gap_accepted: false,
            space_low: false,
            rows: std::collections::BTreeSet::new(),
            outcome: None,
        })
    }

    /// Takes one more record in.
    ///
    /// # Errors
    /// [`Illegal`]; the state is then not to be used any more.
    pub fn apply(&mut self, record: &Record) -> Result<(), Illegal> {
        let kind = record.event.kind();
        if self.phase == Phase::Ended {
            return Err(Illegal::new(kind, "after the end"));
        }
        self.last = record.at;
        self.seq = record.seq;
        self.epoch = record.epoch;
        match record.event.node().cloned() {
            Some(node) => self.apply_node(&node, record),
            None => self.apply_run(record),
        }
    }

    fn apply_run(&mut self, record: &Record) -> Result<(), Illegal> {
        let kind = record.event.kind();
        let Some(row) = table::of_run(self.phase, kind) else {
            return Err(Illegal::new(kind, format!("while the run is {:?}", self.phase)));
        };
        let was = self.phase;
        if row.to != was {
            self.since = record.at;
        }
        self.phase = row.to;
        self.rule = row.number;
        match &record.event {
            Event::LeaseTaken { .. } => self.taken_over(),
            Event::Answered { row, given } => {
                self.rows.insert(row.clone());
                self.given.push(given.clone());
            }
            Event::TurnedAway { row, .. } => {
                self.rows.insert(row.clone());
            }
            Event::PauseSet { row, on, .. } => {
                self.rows.insert(row.clone());
                if *on != (row_is_pause(was)) {
                    return Err(Illegal::new(kind, "twice"));
                }
            }
            Event::CancelAsked { row, by, because } => {
                self.rows.insert(row.clone());
                self.cancel = Some(format!("{by}: {because}"));
            }
            Event::GapOver => self.gap_over = true,
            Event::SpaceLow => self.space_low = true,
            Event::Aborting { reason } => self.turn_back(reason),
            Event::Parked { ask } => {
                self.parked_from = was;
                self.ask = Some((**ask).clone());
                self.given.clear();
            }
            Event::Decided { choice } => self.decide_on(choice),
            Event::Ended { outcome } => {
                self.outcome = Some(outcome.clone());
                self.ask = None;
            }
            Event::Started { .. }
            | Event::Began { .. }
            | Event::Intended { .. }
            | Event::Accepted { .. }
            | Event::Finished { .. }
            | Event::Refused { .. }
            | Event::InDoubt { .. }
            | Event::Absent { .. }
            | Event::Progressed { .. }
            | Event::Failed { .. }
            | Event::Owed { .. }
            | Event::Asked { .. }
            | Event::Voided { .. } => return Err(Illegal::new(kind, "as an event of the run")),
        }
        Ok(())
    }

    fn turn_back(&mut self, reason: &str) {
        self.aborting = Some(reason.to_owned());
        self.ask = None;
        self.given.clear();
        for node in self.nodes.values_mut().filter(|node| matches!(node.phase, NodePhase::Looking | NodePhase::Asking))
        {
            node.phase = NodePhase::Waiting;
        }
    }

    /// A new engine: what may have left is in doubt until it is looked at.
    fn taken_over(&mut self) {
        for node in self.nodes.values_mut().filter(|node| node.phase == NodePhase::Intended) {
            node.phase = NodePhase::InDoubt;
            node.absent = None;
            node.cause = Some(crate::Cause::new("the engine that sent it is gone"));
        }
    }

    fn decide_on(&mut self, choice: &str) {
        self.ask = None;
        self.given.clear();
        self.gap_accepted |= self.gap_over;
        self.gap_over = false;
        if self.parked_from == Phase::Aborting {
            self.phase = Phase::Aborting;
        }
        let plan = Arc::clone(&self.plan);
        for (id, node) in self.nodes.iter_mut().filter(|(_, node)| node.phase == NodePhase::Failed) {
            let mutates = plan.call(id).is_some_and(|call| call.effect != crate::Effect::ReadOnly);
            let look = mutates && node.may_stand && choice == super::decide::LOOK;
            node.phase = if look { NodePhase::InDoubt } else { NodePhase::Waiting };
            node.absent = None;
            node.attempt = node.attempt.saturating_sub(1);
            node.started = Some(self.last);
        }
    }

    fn apply_node(&mut self, id: &NodeId, record: &Record) -> Result<(), Illegal> {
        let kind = record.event.kind();
        if self.plan.call(id).is_none() {
            return Err(Illegal::new(kind, format!("to `{id}`, which is no step of the plan")));
        }
        if id.undone().is_some() && self.aborting.is_none() {
            return Err(Illegal::new(kind, format!("to `{id}` while the run does not turn back")));
        }
        let node = self.nodes.entry(id.clone()).or_default();
        let Some(row) = table::of_node(node.phase, kind) else {
            return Err(Illegal::new(kind, format!("to `{id}` while it is {:?}", node.phase)));
        };
        move_node(node, row, record);
        match &record.event {
            Event::Intended { .. } => {
                let pivot = self.plan.call(id).is_some_and(|call| call.class == Class::Pivot);
                self.promote_intended |= pivot;
            }
            Event::Asked { ask, .. } => {
                self.ask = Some((**ask).clone());
                self.given.clear();
            }
            Event::Finished { .. } | Event::Failed { .. }
                if self.plan.call(id).is_some_and(|call| call.class == Class::Consent) =>
            {
                self.ask = None;
                self.given.clear();
            }
            Event::Finished { .. }
            | Event::Failed { .. }
            | Event::Started { .. }
            | Event::LeaseTaken { .. }
            | Event::Began { .. }
            | Event::Accepted { .. }
            | Event::Refused { .. }
            | Event::InDoubt { .. }
            | Event::Absent { .. }
            | Event::Progressed { .. }
            | Event::Owed { .. }
            | Event::Answered { .. }
            | Event::TurnedAway { .. }
            | Event::Voided { .. }
            | Event::PauseSet { .. }
            | Event::CancelAsked { .. }
            | Event::GapOver
            | Event::SpaceLow
            | Event::Aborting { .. }
            | Event::Parked { .. }
            | Event::Decided { .. }
            | Event::Ended { .. } => {}
        }
        Ok(())
    }
}

/// Whether a `PauseSet` in this phase must say "on".
fn row_is_pause(was: Phase) -> bool {
    was == Phase::Running
}

fn move_node(node: &mut NodeState, row: &NodeRow, record: &Record) {
    node.phase = row.to;
    node.rule = row.number;
    node.started.get_or_insert(record.at);
    if matches!(row.to, NodePhase::Done | NodePhase::Backoff | NodePhase::Failed | NodePhase::Owed) {
        node.ended = Some(record.at);
    }
    remember(node, row, record);
}

fn remember(node: &mut NodeState, row: &NodeRow, record: &Record) {
    let at = record.at;
    match &record.event {
        Event::Intended { attempt, pre_image, .. } => {
            node.attempt = *attempt;
            node.absent = None;
            if node.intended.is_none() {
                node.intended = Some(at);
                node.pre_image.clone_from(pre_image);
            }
            node.may_stand = true;
        }
        Event::Accepted { handle, .. } => node.handle = Some(handle.clone()),
        Event::Finished { output, .. } => node.output = Some(output.clone()),
        Event::Refused { cause, again_in, sent, .. } => {
            // Proved not done by the provider itself: nothing of this attempt stands. After a doubt the proof is two looks, and a
            // late effect is possible, so what may stand stays so.
            if row.number == 215 && node.attempt <= 1 {
                node.may_stand = false;
            }
            if !sent {
                node.attempt = node.attempt.saturating_sub(1);
            }
            node.cause = Some(cause.clone());
            node.again_in = *again_in;
        }
        Event::InDoubt { cause, .. } => {
            node.cause = Some(cause.clone());
            node.absent = None;
        }
        Event::Absent { .. } => {
            node.absent.get_or_insert(at);
        }
        Event::Progressed { percent, .. } => node.percent = Some(*percent),
        Event::Failed { cause, doubt, .. } => {
            node.cause = Some(cause.clone());
            if !doubt && node.attempt <= 1 {
                node.may_stand = false;
            }
        }
        Event::Owed { cause, .. } => node.cause = Some(cause.clone()),
        Event::Voided { .. } => {
            node.output = None;
            node.ended = None;
            node.started = None;
        }
        Event::Asked { .. } | Event::Began { .. } => node.again_in = Millis::ZERO,
        Event::Started { .. }
        | Event::LeaseTaken { .. }
        | Event::Answered { .. }
        | Event::TurnedAway { .. }
        | Event::PauseSet { .. }
        | Event::CancelAsked { .. }
        | Event::GapOver
        | Event::SpaceLow
        | Event::Aborting { .. }
        | Event::Parked { .. }
        | Event::Decided { .. }
        | Event::Ended { .. } => {}
    }
}
