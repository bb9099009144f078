//! What happened to a run, as it is journaled: canonical JSON, one record a line, each naming the one before.

use serde::{Deserialize, Serialize};

use crate::{
    base::{Actor, CanonicalError, Digest, Epoch, IdempotencyKey, Json, Millis, NodeId, Timestamp, canonical},
    contract::{Cause, Fact, Given, OpHandle, Touch, Waived},
    plan::Plan,
    run::{Ask, Head, Line},
};

/// The version of the record format. Another one refuses to load.
pub const RECORD_VERSION: u16 = 1;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum RunOutcome {
    /// Everything was done and seen to be so.
    Succeeded,
    /// Done, and somebody owes something.
    SucceededWithDebt {
        /// What is owed.
        debts: Vec<String>,
    },
    /// Nothing was changed.
    Refused {
        /// Why.
        reason: String,
    },
    /// It turned back before the point of no return; everything taken was given back.
    Aborted {
        /// Why.
        reason: String,
    },
    /// A person turned it back before the point of no return; everything taken was given back.
    Cancelled {
        /// Who and why.
        reason: String,
    },
    /// A person took it over: what is left is theirs to do by hand.
    HandedOver {
        /// What was left.
        reason: String,
    },
}

impl RunOutcome {
    /// Whether the run did what it was for.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithDebt { .. })
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The run began.
    Started {
        /// What will run.
        plan: Box<Plan>,
        /// What it is known by.
        hash: Digest,
        /// Who asked for it.
        by: Actor,
        /// Why.
        because: String,
    },
    /// An engine took the run.
    LeaseTaken {
        /// Who.
        holder: String,
    },
    /// A step that only looks did not see its end at once.
    Began {
        /// The step.
        node: NodeId,
    },
    /// The call may leave from now on.
    Intended {
        /// The step.
        node: NodeId,
        /// Which attempt, from 1.
        attempt: u8,
        /// The key of its calls.
        key: IdempotencyKey,
        /// What the decision rests on.
        facts: Vec<Fact>,
        /// What was there before.
        pre_image: Option<Json>,
        /// The digest of the resolved parameters.
        request: Digest,
    },
    /// The provider works on it.
    Accepted {
        /// The step.
        node: NodeId,
        /// What to ask with.
        handle: OpHandle,
        /// What went through the gate.
        calls: Vec<Touch>,
    },
    /// It is so, and was read back.
    Finished {
        /// The step.
        node: NodeId,
        /// What it leaves behind.
        output: Json,
        /// What went through the gate.
        calls: Vec<Touch>,
    },
    /// The call was not done, and the step will be tried again.
    NotDone {
        /// The step.
        node: NodeId,
        /// Why.
        cause: Cause,
        /// When to try again.
        again_in: Millis,
        /// Whether anything left for the provider; if not, the attempt does not count.
        sent: bool,
    },
    /// Nobody knows whether it was done; only a look decides.
    InDoubt {
        /// The step.
        node: NodeId,
        /// Why.
        cause: Cause,
        /// What went through the gate.
        calls: Vec<Touch>,
    },
    /// One look saw no trace of it.
    Absent {
        /// The step.
        node: NodeId,
    },
    /// The provider told how far it is.
    Progressed {
        /// The step.
        node: NodeId,
        /// In percent.
        percent: u8,
    },
    /// It failed for good; the run turns back or parks.
    Failed {
        /// The step.
        node: NodeId,
        /// Why.
        cause: Cause,
        /// Whether an effect may stand nevertheless.
        doubt: bool,
    },
    /// It failed and may: somebody owes it.
    Owed {
        /// The step.
        node: NodeId,
        /// Why.
        cause: Cause,
    },
    /// People are asked (again).
    Asked {
        /// The step that waits.
        node: NodeId,
        /// The question.
        ask: Box<Ask>,
    },
    /// An answer counts.
    Answered {
        /// The inbox row.
        row: String,
        /// The answer.
        given: Given,
    },
    /// A message did not count.
    TurnedAway {
        /// The inbox row.
        row: String,
        /// Why.
        why: String,
    },
    /// Two people accepted what was measured instead of what the plan asks for.
    Waived {
        /// The step.
        node: NodeId,
        /// What they accepted.
        waived: Box<Waived>,
    },
    /// What people agreed to does not hold any more; they are asked again.
    Voided {
        /// The consent.
        node: NodeId,
        /// What changed.
        diff: Vec<String>,
    },
    /// Begin nothing new, or go on.
    PauseSet {
        /// The inbox row.
        row: String,
        /// Who.
        by: Actor,
        /// Paused or not.
        on: bool,
        /// Why, where it was said.
        because: Option<String>,
    },
    /// A person wants the run to turn back.
    CancelAsked {
        /// The inbox row.
        row: String,
        /// Who.
        by: Actor,
        /// Why.
        because: String,
    },
    /// A person wants the run to end as soon as only work is left for which nobody waits.
    FinishAsked {
        /// The inbox row.
        row: String,
        /// Who.
        by: Actor,
        /// Why.
        because: String,
    },
    /// What is left is owed: a person ended the run before it was done.
    RestOwed {
        /// Who, and why.
        cause: Cause,
    },
    /// A drain lasted longer than its budget (`limits.gap_budget`) although no promotion had been asked for.
    DrainOverBudget,
    /// A drain lasted longer than clients wait: they get errors at once from now on, and the run goes on.
    ClientsTurnedAway,
    /// The journal's disk is full; the reserve is in use.
    SpaceLow,
    /// The run turns back.
    Aborting {
        /// Why.
        reason: String,
    },
    /// The run cannot go on by itself.
    Parked {
        /// The decision that is needed.
        ask: Box<Ask>,
    },
    /// A person decided what a parked run does.
    Decided {
        /// The choice.
        choice: String,
        /// Who chose it.
        by: Vec<String>,
    },
    /// The run is over.
    Ended {
        /// How.
        outcome: RunOutcome,
    },
}

/// The kind of an event, for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the variant of `Event` of the same name")]
pub enum EventKind {
    Started,
    LeaseTaken,
    Began,
    Intended,
    Accepted,
    Finished,
    NotDone,
    InDoubt,
    Absent,
    Progressed,
    Failed,
    Owed,
    Asked,
    Answered,
    TurnedAway,
    Waived,
    Voided,
    PauseSet,
    CancelAsked,
    FinishAsked,
    RestOwed,
    DrainOverBudget,
    ClientsTurnedAway,
    SpaceLow,
    Aborting,
    Parked,
    Decided,
    Ended,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 28] = [
        Self::Started,
        Self::LeaseTaken,
        Self::Began,
        Self::Intended,
        Self::Accepted,
        Self::Finished,
        Self::NotDone,
        Self::InDoubt,
        Self::Absent,
        Self::Progressed,
        Self::Failed,
        Self::Owed,
        Self::Asked,
        Self::Answered,
        Self::TurnedAway,
        Self::Waived,
        Self::Voided,
        Self::PauseSet,
        Self::CancelAsked,
        Self::FinishAsked,
        Self::RestOwed,
        Self::DrainOverBudget,
        Self::ClientsTurnedAway,
        Self::SpaceLow,
        Self::Aborting,
        Self::Parked,
        Self::Decided,
        Self::Ended,
    ];
}

impl Event {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Started { .. } => EventKind::Started,
            Self::LeaseTaken { .. } => EventKind::LeaseTaken,
            Self::Began { .. } => EventKind::Began,
            Self::Intended { .. } => EventKind::Intended,
            Self::Accepted { .. } => EventKind::Accepted,
            Self::Finished { .. } => EventKind::Finished,
            Self::NotDone { .. } => EventKind::NotDone,
            Self::InDoubt { .. } => EventKind::InDoubt,
            Self::Absent { .. } => EventKind::Absent,
            Self::Progressed { .. } => EventKind::Progressed,
            Self::Failed { .. } => EventKind::Failed,
            Self::Owed { .. } => EventKind::Owed,
            Self::Asked { .. } => EventKind::Asked,
            Self::Answered { .. } => EventKind::Answered,
            Self::TurnedAway { .. } => EventKind::TurnedAway,
            Self::Waived { .. } => EventKind::Waived,
            Self::Voided { .. } => EventKind::Voided,
            Self::PauseSet { .. } => EventKind::PauseSet,
            Self::CancelAsked { .. } => EventKind::CancelAsked,
            Self::FinishAsked { .. } => EventKind::FinishAsked,
            Self::RestOwed { .. } => EventKind::RestOwed,
            Self::DrainOverBudget => EventKind::DrainOverBudget,
            Self::ClientsTurnedAway => EventKind::ClientsTurnedAway,
            Self::SpaceLow => EventKind::SpaceLow,
            Self::Aborting { .. } => EventKind::Aborting,
            Self::Parked { .. } => EventKind::Parked,
            Self::Decided { .. } => EventKind::Decided,
            Self::Ended { .. } => EventKind::Ended,
        }
    }

    /// The step it speaks of, if it speaks of one.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Began { node }
            | Self::Intended { node, .. }
            | Self::Accepted { node, .. }
            | Self::Finished { node, .. }
            | Self::NotDone { node, .. }
            | Self::InDoubt { node, .. }
            | Self::Absent { node }
            | Self::Progressed { node, .. }
            | Self::Failed { node, .. }
            | Self::Owed { node, .. }
            | Self::Asked { node, .. }
            | Self::Waived { node, .. }
            | Self::Voided { node, .. } => Some(node),
            Self::Started { .. }
            | Self::LeaseTaken { .. }
            | Self::Answered { .. }
            | Self::TurnedAway { .. }
            | Self::PauseSet { .. }
            | Self::CancelAsked { .. }
            | Self::FinishAsked { .. }
            | Self::RestOwed { .. }
            | Self::DrainOverBudget
            | Self::ClientsTurnedAway
            | Self::SpaceLow
            | Self::Aborting { .. }
            | Self::Parked { .. }
            | Self::Decided { .. }
            | Self::Ended { .. } => None,
        }
    }

    /// The inbox row that became this event, if one did.
    #[must_use]
    pub fn inbox_row(&self) -> Option<&str> {
        if let Self::Answered { row, .. }
        | Self::TurnedAway { row, .. }
        | Self::PauseSet { row, .. }
        | Self::CancelAsked { row, .. }
        | Self::FinishAsked { row, .. } = self
        {
            Some(row)
        } else {
            None
        }
    }

    /// Why a step is not done, where the event says it.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        if let Self::NotDone { cause, .. }
        | Self::InDoubt { cause, .. }
        | Self::Failed { cause, .. }
        | Self::Owed { cause, .. }
        | Self::RestOwed { cause } = self
        {
            Some(cause)
        } else {
            None
        }
    }

    /// Whether the event comes before an effect: if it cannot be stored, nothing is sent.
    #[must_use]
    pub fn precedes_effect(&self) -> bool {
        matches!(self, Self::Intended { .. })
    }
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub v: u16,
    /// From 1, without gaps.
    pub seq: u32,
    /// The hash of the line before; zero for the first.
    pub prev: Digest,
    /// When it was recorded.
    pub at: Timestamp,
    /// By the engine of which epoch.
    pub epoch: Epoch,
    /// What happened.
    pub event: Event,
}

/// A line of the journal is no record.
#[derive(Debug, thiserror::Error)]
#[error("line {seq} is no record: {what}")]
pub struct BadRecord {
    /// The line.
    pub seq: u64,
    /// What is wrong.
    pub what: String,
}

impl Record {
    /// The record of `event` after `head`.
    #[must_use]
    pub fn after(head: Head, at: Timestamp, epoch: Epoch, event: Event) -> Self {
        let seq = u32::try_from(head.seq).unwrap_or(u32::MAX).saturating_add(1);
        Self { v: RECORD_VERSION, seq, prev: head.hash, at, epoch, event }
    }

    /// The line as it is stored.
    ///
    /// # Errors
    /// An output or a fact holds a number that has no canonical form.
    pub fn line(&self) -> Result<Line, CanonicalError> {
        let text = canonical::to_string(self)?;
        let hash = canonical::leaf_hash(text.as_bytes());
        Ok(Line { seq: u64::from(self.seq), text, hash })
    }

    /// Reads a stored line.
    ///
    /// # Errors
    /// Another version, an unknown event or field, or a text that is no canonical JSON.
    pub fn parse(line: &Line) -> Result<Self, BadRecord> {
        let bad = |what: String| BadRecord { seq: line.seq, what };
        if canonical::leaf_hash(line.text.as_bytes()) != line.hash {
            return Err(bad("its hash is not that of its text".into()));
        }
        let version: Version = serde_json::from_str(&line.text).map_err(|error| bad(error.to_string()))?;
        if version.v != RECORD_VERSION {
            return Err(bad(format!("it has version {}, this engine reads {RECORD_VERSION}", version.v)));
        }
        let record: Self = serde_json::from_str(&line.text).map_err(|error| bad(error.to_string()))?;
        if u64::from(record.seq) != line.seq {
            return Err(bad(format!("it calls itself line {}", record.seq)));
        }
        Ok(record)
    }
}

#[derive(Deserialize)]
struct Version {
    v: u16,
}
