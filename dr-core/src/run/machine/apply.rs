//! One event at a time turns a state into the next. Whatever the table does not list is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Does, Event, EventKind, NodeDoes, NodePhase, NodeRow, NodeState, Phase, Record, Row, RunState, table};
use crate::{
    base::{Millis, NodeId, RunId, Timestamp},
    contract::{Cause, Class},
};

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
        let mut state = Self {
            run,
            plan: Arc::new((**plan).clone()),
            hash: *hash,
            origin: line.hash,
            by: by.clone(),
            because: because.clone(),
            phase: Phase::New,
            rule: 0,
            since: record.at,
            started: record.at,
            last: record.at,
            seq: record.seq,
            epoch: record.epoch,
            nodes: BTreeMap::new(),
            ask: None,
            given: Vec::new(),
            cancel: None,
            finish: None,
            aborting: None,
            parked_from: Phase::Running,
            promote_intended: false,
            gap_over: false,
            gap_accepted: false,
            clients_turned_away: false,
            space_low: false,
            rows: BTreeSet::new(),
            outcome: None,
        };
        state.apply_run(record)?;
        Ok(state)
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

    /// Moves the run, and every step that has a row for this event of the run.
    fn apply_run(&mut self, record: &Record) -> Result<(), Illegal> {
        let Some(row) = table::of_run(self, &record.event) else {
            return Err(Illegal::new(record.event.kind(), format!("while the run is {:?}", self.phase)));
        };
        let was = self.phase;
        self.enter(row, record.at);
        row.does.iter().for_each(|does| self.remember(*does, was, &record.event));
        let ids: BTreeSet<NodeId> = self.nodes.keys().chain(&self.plan.order).cloned().collect();
        for id in ids {
            if let Some(row) = table::of_node(self, &id, &record.event) {
                self.move_node(&id, row, record);
            }
        }
        Ok(())
    }

    fn apply_node(&mut self, id: &NodeId, record: &Record) -> Result<(), Illegal> {
        let kind = record.event.kind();
        if self.plan.call(id).is_none() {
            return Err(Illegal::new(kind, format!("to `{id}`, which is no step of the plan")));
        }
        if id.undone().is_some() && self.aborting.is_none() {
            return Err(Illegal::new(kind, format!("to `{id}` while the run does not turn back")));
        }
        let Some(row) = table::of_node(self, id, &record.event) else {
            return Err(Illegal::new(kind, format!("to `{id}` while it is {:?}", self.phase_of(id))));
        };
        self.move_node(id, row, record);
        Ok(())
    }

    fn move_node(&mut self, id: &NodeId, row: &NodeRow, record: &Record) {
        self.nodes.entry(id.clone()).or_default().enter(row, record.at);
        for does in row.does {
            self.remember_for(id, *does, &record.event);
            if let Some(node) = self.nodes.get_mut(id) {
                node.remember(*does, record);
            }
        }
    }

    /// The only place where the phase of a run is assigned.
    fn enter(&mut self, row: &Row, at: Timestamp) {
        if row.to != self.phase {
            self.since = at;
        }
        self.phase = row.to;
        self.rule = row.number;
    }

    fn remember(&mut self, does: Does, was: Phase, event: &Event) {
        match does {
            Does::NoteRow => self.rows.extend(event.inbox_row().map(ToOwned::to_owned)),
            Does::NoteCancel => {
                if let Event::CancelAsked { by, because, .. } = event {
                    self.cancel = Some(format!("{by}: {because}"));
                }
            }
            Does::NoteFinish => {
                if let Event::FinishAsked { by, because, .. } = event {
                    self.finish = Some(format!("{by}: {because}"));
                }
            }
            Does::NoteOverBudget => self.gap_over = true,
            Does::NoteTurnedAway => self.clients_turned_away = true,
            Does::AcceptOverBudget => {
                self.gap_accepted |= self.gap_over;
                self.gap_over = false;
            }
            Does::NoteSpaceLow => self.space_low = true,
            Does::NoteReason => {
                // The question of a parked run says what went wrong; the choice, what is done about it.
                let asked = || self.ask.as_ref().map(|ask| ask.question.clone());
                self.aborting = if let Event::Aborting { reason } = event { Some(reason.clone()) } else { asked() };
            }
            Does::NotePhase => self.parked_from = was,
            Does::OpenQuestion => self.open_question(event),
            Does::CloseQuestion => self.close_question(),
            Does::KeepAnswer => {
                if let Event::Answered { given, .. } = event {
                    self.given.push(given.clone());
                }
            }
            Does::KeepOutcome => {
                if let Event::Ended { outcome } = event {
                    self.outcome = Some(outcome.clone());
                }
            }
        }
    }

    /// What a step's row changes in the run.
    fn remember_for(&mut self, id: &NodeId, does: NodeDoes, event: &Event) {
        match does {
            NodeDoes::PassNoReturn => {
                self.promote_intended |= self.plan.call(id).is_some_and(|call| call.class == Class::Pivot);
            }
            NodeDoes::OpenQuestion => self.open_question(event),
            NodeDoes::CloseQuestion => self.close_question(),
            NodeDoes::NoPause
            | NodeDoes::KeepAttempt
            | NodeDoes::KeepHandle
            | NodeDoes::KeepOutput
            | NodeDoes::KeepCause
            | NodeDoes::BlameLostEngine
            | NodeDoes::PlanAgain
            | NodeDoes::NothingStands
            | NodeDoes::JudgeDoubt
            | NodeDoes::NoteAbsence
            | NodeDoes::ForgetAbsence
            | NodeDoes::KeepPercent
            | NodeDoes::Forget
            | NodeDoes::KeepWaiver
            | NodeDoes::KeepClaim
            | NodeDoes::Restart => {}
        }
    }

    fn open_question(&mut self, event: &Event) {
        if let Event::Asked { ask, .. } | Event::Parked { ask } = event {
            self.ask = Some((**ask).clone());
            self.given.clear();
        }
    }

    fn close_question(&mut self) {
        self.ask = None;
        self.given.clear();
    }
}

impl NodeState {
    /// The only place where the phase of a step is assigned.
    fn enter(&mut self, row: &NodeRow, at: Timestamp) {
        self.phase = row.to;
        self.rule = row.number;
        self.started.get_or_insert(at);
        if matches!(row.to, NodePhase::Done | NodePhase::Backoff | NodePhase::Failed | NodePhase::Owed) {
            self.ended = Some(at);
        }
    }

    /// What a step's row changes in the step.
    fn remember(&mut self, does: NodeDoes, record: &Record) {
        match does {
            NodeDoes::NoPause => self.again_in = Millis::ZERO,
            NodeDoes::KeepAttempt => self.keep_attempt(record),
            NodeDoes::KeepHandle => {
                if let Event::Accepted { handle, calls, .. } = &record.event {
                    self.handle = Some(handle.clone());
                    // What a look saw going on is somebody's work, and no answer to our call.
                    self.acknowledged |= !calls.is_empty();
                }
            }
            NodeDoes::KeepOutput => {
                if let Event::Finished { output, .. } = &record.event {
                    self.output = Some(output.clone());
                }
            }
            NodeDoes::KeepCause => self.cause = record.event.cause().cloned(),
            NodeDoes::BlameLostEngine => self.cause = Some(Cause::new("the engine that sent it is gone")),
            NodeDoes::PlanAgain => {
                if let Event::NotDone { again_in, sent, .. } = record.event {
                    self.attempt = self.attempt.saturating_sub(u8::from(!sent));
                    self.again_in = again_in;
                }
            }
            NodeDoes::NothingStands => self.may_stand &= self.attempt > 1,
            NodeDoes::JudgeDoubt => {
                if matches!(record.event, Event::Failed { doubt: false, .. }) {
                    self.may_stand &= self.attempt > 1;
                }
            }
            NodeDoes::NoteAbsence => {
                self.absent.get_or_insert(record.at);
            }
            NodeDoes::ForgetAbsence => self.absent = None,
            NodeDoes::KeepPercent => {
                if let Event::Progressed { percent, .. } = record.event {
                    self.percent = Some(percent);
                }
            }
            NodeDoes::Forget => {
                self.output = None;
                self.ended = None;
                self.started = None;
            }
            NodeDoes::Restart => {
                self.attempt = self.attempt.saturating_sub(1);
                self.started = Some(record.at);
            }
            NodeDoes::KeepWaiver => {
                if let Event::Waived { waived, .. } = &record.event {
                    self.waived = Some((**waived).clone());
                }
            }
            NodeDoes::KeepClaim => {
                if let Event::Decided { by, .. } = &record.event {
                    self.claimed_by.clone_from(by);
                }
            }
            NodeDoes::PassNoReturn | NodeDoes::OpenQuestion | NodeDoes::CloseQuestion => {}
        }
    }

    fn keep_attempt(&mut self, record: &Record) {
        let Event::Intended { attempt, pre_image, .. } = &record.event else { return };
        self.attempt = *attempt;
        self.absent = None;
        // What the provider said of an earlier attempt says nothing of this one.
        self.handle = None;
        self.acknowledged = false;
        if self.intended.is_none() {
            self.intended = Some(record.at);
            self.pre_image.clone_from(pre_image);
        }
        self.may_stand = true;
    }
}
