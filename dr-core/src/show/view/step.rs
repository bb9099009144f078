//! One step as people see it.

use serde::{Deserialize, Serialize};

use crate::{
    base::{Kind, Millis, NodeId, Timestamp},
    contract::{CatchUpReceipt, Cause, Class, Consent, FenceReceipt, Given, LossMeasurement, OpHandle, WriterReceipt},
    plan::{OnFailure, Output},
    run::{NodePhase, NodeState, RunState},
};

/// One step as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StepView {
    /// Its name; the undo of `drain` is `drain.undo`.
    pub id: NodeId,
    /// Its place in the plan, from 1; absent for an undo.
    pub number: Option<usize>,
    /// What it does.
    pub sentence: String,
    /// Its part in the safety rules.
    pub class: Class,
    /// Where it stands.
    pub state: NodePhase,
    /// When it began.
    pub started: Option<Timestamp>,
    /// How long it took, or has been taking.
    pub took: Option<Millis>,
    /// How long it usually takes.
    pub about: Option<Millis>,
    /// As far as the provider told.
    pub percent: Option<u8>,
    /// How often it was sent, or may have been.
    pub attempt: u8,
    /// When it was first allowed to leave.
    pub sent: Option<Timestamp>,
    /// The provider's operation.
    pub operation: Option<OpHandle>,
    /// What was seen, or who answered.
    pub detail: Option<String>,
    /// Why it is where it is, when that is not good.
    pub cause: Option<Cause>,
}

/// How long one step took in an earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTook {
    /// The kind of step.
    pub kind: Kind,
    /// How long.
    pub took: Millis,
}

/// How long the steps of an ended run took; what later views of the same group learn from. Steps that did not end well teach nothing.
#[must_use]
pub fn took(state: &RunState) -> Vec<StepTook> {
    let done = state.nodes.iter().filter(|(_, node)| node.phase == NodePhase::Done);
    done.filter_map(|(id, node)| {
        let kind = state.plan.nodes.get(id)?.call.kind.clone();
        Some(StepTook { kind, took: node.ended?.since(node.started?) })
    })
    .collect()
}

/// The shortest and the longest time of a kind; without any, what its author thinks; `None` when nobody knows.
pub(super) fn usual(kind: &Kind, about: Option<Millis>, history: &[StepTook]) -> Option<(Millis, Millis)> {
    let seen = || history.iter().filter(|step| step.kind == *kind).map(|step| step.took);
    match (seen().min(), seen().max()) {
        (Some(low), Some(high)) => Some((low, high)),
        (None, _) | (_, None) => about.map(|about| (about, about)),
    }
}

pub(super) fn of(state: &RunState, now: Timestamp, history: &[StepTook]) -> Vec<StepView> {
    let planned = state.plan.order.iter().enumerate().map(|(index, id)| (Some(index + 1), id.clone()));
    let mut undone: Vec<&NodeId> = state.nodes.keys().filter(|id| id.undone().is_some()).collect();
    undone.sort_by_key(|id| state.node(id).started);
    let undone = undone.into_iter().map(|id| (None, id.clone()));
    planned.chain(undone).filter_map(|(number, id)| one(state, (number, id), now, history)).collect()
}

fn one(
    state: &RunState,
    (number, id): (Option<usize>, NodeId),
    now: Timestamp,
    history: &[StepTook],
) -> Option<StepView> {
    let call = state.plan.call(&id)?;
    let node = state.node(&id);
    let about = state.plan.nodes.get(&id).and_then(|node| node.about);
    let usual = usual(&call.kind, about, history);
    let ended = if open(node.phase) { None } else { node.ended };
    Some(StepView {
        number,
        sentence: call.sentence.clone(),
        class: call.class,
        state: node.phase,
        started: node.started,
        took: node.started.map(|started| ended.unwrap_or(now).since(started)),
        about: usual.map(|(low, high)| Millis::new(u64::midpoint(low.count(), high.count()))),
        percent: node.percent,
        attempt: node.attempt,
        sent: node.intended,
        operation: node.handle.clone().filter(|handle| !handle.is_none()),
        detail: detail(state, &id, &node),
        cause: node.cause.clone().filter(|_| node.phase != NodePhase::Done),
        id,
    })
}

fn open(phase: NodePhase) -> bool {
    match phase {
        NodePhase::Waiting
        | NodePhase::Looking
        | NodePhase::Asking
        | NodePhase::Intended
        | NodePhase::Accepted
        | NodePhase::InDoubt
        | NodePhase::Backoff => true,
        NodePhase::Done | NodePhase::Failed | NodePhase::Owed => false,
    }
}

/// What is worth a word beside the step.
fn detail(state: &RunState, id: &NodeId, node: &NodeState) -> Option<String> {
    let cause = node.cause.as_ref().map(ToString::to_string).unwrap_or_default();
    match node.phase {
        NodePhase::Waiting | NodePhase::Looking => None,
        NodePhase::Asking => state.ask.as_ref().map(|ask| {
            let until = ask.expires.map(|at| format!(", until {}", at.clock())).unwrap_or_default();
            format!("waiting, {} of {}{until}", state.given.len(), ask.people)
        }),
        NodePhase::Intended | NodePhase::Accepted => node.intended.map(|at| {
            let operation = node.handle.as_ref().filter(|handle| !handle.is_none());
            let operation = operation.map(|handle| format!(", operation {}", shortened(handle.as_str())));
            format!("sent {}{}", at.clock(), operation.unwrap_or_default())
        }),
        NodePhase::InDoubt => Some(format!("not sent again; asking the provider what is true ({cause})")),
        NodePhase::Backoff => {
            let again = node.ended.map(|at| (at + node.again_in).clock()).unwrap_or_default();
            Some(format!("again at {again}: {cause}"))
        }
        NodePhase::Failed => Some(cause),
        NodePhase::Owed => Some(match state.on_failure(id) {
            OnFailure::Debt { text, owner } => format!("{owner} owes: {text} ({cause})"),
            OnFailure::Stop => cause,
        }),
        NodePhase::Done => seen(state, id, node),
    }
}

/// What a finished step left behind, in a few words.
fn seen(state: &RunState, id: &NodeId, node: &NodeState) -> Option<String> {
    let call = state.plan.call(id)?;
    let output = &node.output.as_ref()?.0;
    let kind = call.output.as_str();
    let is = |name: &str| kind == name || kind.strip_prefix("attempted ") == Some(name);
    if is(&Consent::type_name()) {
        let consent: Consent = serde_json::from_value(output.clone()).ok()?;
        Some(consent.given.iter().map(person).collect::<Vec<_>>().join(", "))
    } else if is(&WriterReceipt::type_name()) {
        let receipt: WriterReceipt = serde_json::from_value(output.clone()).ok()?;
        let accepted = receipt.waived.map(|waived| {
            let people: Vec<String> = waived.given.iter().map(person).collect();
            format!(", accepted by {}", people.join(", "))
        });
        Some(format!(
            "{} writes at {}; the other side: {}{}",
            receipt.target.member,
            receipt.endpoint,
            receipt.old_side,
            accepted.unwrap_or_default()
        ))
    } else if is(&FenceReceipt::type_name()) {
        let receipt: FenceReceipt = serde_json::from_value(output.clone()).ok()?;
        Some(format!("{} by {}", receipt.grade(), receipt.fence))
    } else if is(&CatchUpReceipt::type_name()) {
        let receipt: CatchUpReceipt = serde_json::from_value(output.clone()).ok()?;
        Some(format!("{} has everything up to {}", receipt.target.member, receipt.end))
    } else if is(&LossMeasurement::type_name()) {
        let measured: LossMeasurement = serde_json::from_value(output.clone()).ok()?;
        Some(format!("lost {}", measured.loss))
    } else {
        let detail = output.get("detail").and_then(serde_json::Value::as_str);
        detail.filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    }
}

/// `ana (dba) 03:22:10`.
pub(crate) fn person(given: &Given) -> String {
    let role = given.role.as_ref().map(|role| format!(" ({role})")).unwrap_or_default();
    format!("{}{role} {}", given.by, given.at.clock())
}

/// A long operation id, so that it still tells two apart.
fn shortened(handle: &str) -> String {
    let count = handle.chars().count();
    if count <= 24 {
        return handle.to_owned();
    }
    let head: String = handle.chars().take(8).collect();
    let tail: String = handle.chars().skip(count - 6).collect();
    format!("{head}…{tail}")
}
