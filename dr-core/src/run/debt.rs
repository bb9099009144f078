//! What a run leaves to people: derived from its records, and closed by a later run or by a person with a reason.
//!
//! ```text
//!  records of a run ──► Debt::of ──┐
//!  records of later runs ──────────┼──► settled by the same work, done later ──► closed
//!  what people closed, with reason ┘
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    base::{Actor, MemberId, NodeId, Role, RunId, Timestamp},
    contract::{Binding, Cause, Class, FenceReceipt, WriterReceipt},
    plan::{Attempted, Duty, OnFailure},
    run::{NodePhase, RunOutcome, RunState},
};

/// The name of a debt: its run and what in it the debt comes from, as `orders-17/rejoin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DebtId(String);

impl DebtId {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn of(run: &RunId, what: impl fmt::Display) -> Self {
        Self(format!("{run}/{what}"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DebtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What kind of work is owed: a later run settles a debt by doing that work on the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DebtKind {
    /// A member is to follow the writer.
    Rejoin,
    /// A member is to be kept from writing.
    Fence,
    /// A fence stands that falls off by itself.
    Lapse,
    /// A fence is to be looked at and taken away.
    RetireFence,
    /// What a member has is to be kept.
    Snapshot,
    /// A secret or route is to be pointed at the writer.
    Point,
    /// Something is still held that the run took.
    StillHeld,
    /// A step of the run is to be done by hand.
    ByHand,
    /// Anything else.
    Other,
}

/// Something that is left to do after a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// Its name.
    pub id: DebtId,
    /// The run that left it.
    pub run: RunId,
    /// What is to be done.
    pub text: String,
    /// Who owes it, if the plan says.
    pub owner: Option<Role>,
    /// Why it was not done.
    pub cause: Option<Cause>,
    /// When it becomes dangerous, such as the time at which a provider starts a stopped server again.
    pub due: Option<Timestamp>,
    /// What it is about: a member, a secret, a route.
    pub about: Option<Binding>,
    /// What kind of work it is.
    pub kind: DebtKind,
}

/// How a debt was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Closed {
    /// A later run did the work.
    ByRun {
        /// The run.
        run: RunId,
        /// The step that did it.
        node: NodeId,
    },
    /// A person says that there is nothing left to do.
    ByPerson {
        /// The debt.
        debt: DebtId,
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
}

impl Debt {
    /// What a run leaves, in the order of its plan. A run that goes on leaves what is owed so far.
    #[must_use]
    pub fn of(state: &RunState) -> Vec<Self> {
        let mut left: Vec<Self> = state.plan.order.iter().filter_map(|id| owed(state, id)).collect();
        left.extend(left_out(state));
        left.extend(state.plan.order.iter().filter_map(|id| waived(state, id)));
        let held: Vec<NodeId> = state.held().into_iter().map(|thing| thing.node).collect();
        left.extend(held.iter().filter_map(|id| lapses(state, id)));
        if state.outcome.is_some() {
            left.extend(held.iter().map(|id| by_hand(state, id, DebtKind::StillHeld)));
        }
        if let Some(RunOutcome::HandedOver { .. }) = &state.outcome {
            let open = state.plan.order.iter().filter(|id| !state.phase_of(id).settled());
            left.extend(open.map(|id| by_hand(state, id, DebtKind::ByHand)));
        }
        left
    }

    /// Whether a success with such a debt is no success without debts. What is said beside another debt, such as that a fence still
    /// stands which somebody owes to retire, is none of its own.
    #[must_use]
    pub fn counts(&self) -> bool {
        !matches!(self.kind, DebtKind::Lapse | DebtKind::StillHeld | DebtKind::ByHand)
    }

    /// Tells which step of a later run did the work that is owed, if one did.
    #[must_use]
    pub fn settled_by(&self, later: &RunState) -> Option<NodeId> {
        let about = self.about.as_ref()?;
        let mut done = later.plan.order.iter().filter(|id| later.phase_of(id) == NodePhase::Done);
        let did = |id: &&NodeId| {
            let Some(call) = later.plan.call(id) else { return false };
            let mut names = call.touches.iter().map(|touch| &touch.resource).chain(&call.marks.looks_at);
            names.any(|name| name == about) && self.kind.is_done_by(call.class, call.marks.duty)
        };
        done.find(did).cloned()
    }

    /// How the debt was closed: by the first of the `later` runs of its group that did the work, or else by a person.
    #[must_use]
    pub fn closed(&self, later: &[&RunState], people: &[Closed]) -> Option<Closed> {
        let by_run = |state: &&RunState| Some(Closed::ByRun { run: state.run.clone(), node: self.settled_by(state)? });
        let by_person =
            || people.iter().find(|one| matches!(one, Closed::ByPerson { debt, .. } if *debt == self.id)).cloned();
        later.iter().find_map(by_run).or_else(by_person)
    }
}

impl fmt::Display for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if let Some(owner) = &self.owner {
            write!(f, " (owed by {owner})")?;
        }
        if let Some(due) = self.due {
            write!(f, ", until {due}")?;
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl DebtKind {
    /// What kind of work a step of this class and duty leaves when it is not done.
    fn of(class: Class, duty: Option<Duty>) -> Self {
        match (class, duty) {
            (_, Some(Duty::Rejoin)) => Self::Rejoin,
            (_, Some(Duty::Snapshot)) => Self::Snapshot,
            (Class::Fence, _) => Self::Fence,
            (Class::RetireFence, _) => Self::RetireFence,
            (Class::Secret | Class::Traffic, _) => Self::Point,
            (..) => Self::Other,
        }
    }

    /// Whether a finished step of this class and duty did such work. A member that follows the writer needs no fence any more.
    fn is_done_by(self, class: Class, duty: Option<Duty>) -> bool {
        let done = Self::of(class, duty);
        match self {
            Self::Fence | Self::Lapse => matches!(done, Self::Fence | Self::Rejoin | Self::RetireFence),
            Self::Rejoin | Self::RetireFence | Self::Snapshot | Self::Point => done == self,
            Self::StillHeld | Self::ByHand | Self::Other => false,
        }
    }
}

/// What a step is about: the member it names, or what it touches.
fn about(state: &RunState, id: &NodeId) -> Option<Binding> {
    let call = state.plan.call(id)?;
    call.touches.first().map(|touch| touch.resource.clone()).or_else(|| call.marks.looks_at.clone())
}

fn owed(state: &RunState, id: &NodeId) -> Option<Debt> {
    let node = state.nodes.get(id).filter(|node| node.phase == NodePhase::Owed)?;
    let OnFailure::Debt { text, owner } = state.on_failure(id) else { return None };
    let call = state.plan.call(id)?;
    Some(Debt {
        id: DebtId::of(&state.run, id),
        run: state.run.clone(),
        text,
        owner: Some(owner),
        cause: node.cause.clone(),
        due: None,
        about: about(state, id),
        kind: DebtKind::of(call.class, call.marks.duty),
    })
}

/// Who looks after what nobody else owes.
const COMMANDER: &str = "incident-commander";

/// What people accepted less of than the plan asks for. Only what the receipt rests on: the grade may have risen since.
fn waived(state: &RunState, id: &NodeId) -> Option<Debt> {
    let node = state.nodes.get(id).filter(|node| node.phase == NodePhase::Done)?;
    if state.plan.call(id)?.class != Class::ConfirmWriter {
        return None;
    }
    let receipt: WriterReceipt = serde_json::from_value(node.output.clone()?.0).ok()?;
    let waived = receipt.waived?;
    Some(Debt {
        id: DebtId::of(&state.run, id),
        run: state.run.clone(),
        text: waived.owes?,
        owner: Some(Role::new(COMMANDER)),
        cause: Some(Cause::new(format_args!("{}, {}", waived.accepts, waived.reason))),
        due: None,
        about: Some(Binding::from(&state.plan.expects.member)),
        kind: DebtKind::Fence,
    })
}

/// Secrets and routes that stayed as they were although the writer changed.
fn left_out(state: &RunState) -> Vec<Debt> {
    let to = state.plan.to.as_ref().filter(|_| state.pivot_stands());
    let owes = |to: &MemberId| {
        let all = state.plan.leaves_out.iter().map(|(name, reason)| Debt {
            id: DebtId::of(&state.run, name),
            run: state.run.clone(),
            text: format!("point {name} at {to}, the writer"),
            owner: None,
            cause: Some(Cause::new(reason)),
            due: None,
            about: Some(name.clone()),
            kind: DebtKind::Point,
        });
        all.collect()
    };
    to.map(owes).unwrap_or_default()
}

/// A fence that stands only for a while.
fn lapses(state: &RunState, id: &NodeId) -> Option<Debt> {
    state.plan.call(id).filter(|call| call.class == Class::Fence)?;
    let output = state.nodes.get(id)?.output.as_ref()?.0.clone();
    // A fence that was only attempted says whether it came about.
    let receipt = match serde_json::from_value::<FenceReceipt>(output.clone()) {
        Ok(receipt) => receipt,
        Err(_) => match serde_json::from_value::<Attempted<FenceReceipt>>(output).ok()? {
            Attempted::Done(receipt) => receipt,
            Attempted::Owed(_) => return None,
        },
    };
    let member = &receipt.target.member;
    Some(Debt {
        id: DebtId::of(&state.run, format_args!("{id}.lapse")),
        run: state.run.clone(),
        text: format!("{member} stays fenced by {} only for a while", receipt.fence),
        owner: None,
        cause: None,
        due: Some(receipt.lapses_at?),
        about: Some(Binding::from(member)),
        kind: DebtKind::Lapse,
    })
}

fn by_hand(state: &RunState, id: &NodeId, kind: DebtKind) -> Debt {
    let sentence = state.plan.call(id).map(|call| call.sentence.clone()).unwrap_or_default();
    let (what, words) = if kind == DebtKind::StillHeld { ("held", "still held") } else { ("by-hand", "by hand") };
    Debt {
        id: DebtId::of(&state.run, format_args!("{id}.{what}")),
        run: state.run.clone(),
        text: format!("{words}: {id} ({sentence})"),
        owner: None,
        cause: None,
        due: None,
        about: about(state, id),
        kind,
    }
}
