//! What is to be done now. A pure function of the state: a new binary that reads the same journal decides the same.

use std::collections::BTreeMap;

use super::{Event, NodePhase, Phase, RunOutcome, RunState};
use crate::{
    base::NodeId,
    contract::{Cause, Class, Fact, Loss, OpHandle},
    plan::{Effect, Promotion, Purpose},
    run::{Ask, AskKind, Choice},
};

/// One thing that the driver shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Prepare a step, and send it once its intent is durable.
    Begin(NodeId),
    /// Go on looking for the end of a step that only looks.
    Look(NodeId),
    /// Ask people.
    Ask(NodeId),
    /// Follow an operation.
    Await(NodeId, OpHandle),
    /// Find out what became of a call.
    Observe(NodeId),
    /// Record a decision that needs nothing but the state.
    Record(Box<Event>),
}

/// The choice of a parked run that looks again.
pub(super) const LOOK: &str = "look";
/// The choice of a parked run whose people know that a change was its own, where the provider's record does not tell.
pub(super) const OURS: &str = "it-was-ours";
const RETRY: &str = "retry";
const GO_ON: &str = "go-on";
/// The choice of a parked run that gives everything back.
pub(super) const TURN_BACK: &str = "turn-back";
const HAND_OVER: &str = "hand-over";

/// What is to be done now.
#[must_use]
pub fn decide(state: &RunState) -> Vec<Command> {
    match state.phase {
        Phase::New | Phase::Ended => Vec::new(),
        Phase::Running | Phase::Paused => forward(state),
        Phase::Aborting => backward(state),
        Phase::Parked => parked(state),
    }
}

fn forward(state: &RunState) -> Vec<Command> {
    let in_flight = follow(state);
    if let Some(reason) = must_stop(state) {
        if !in_flight.is_empty() {
            return in_flight;
        }
        // Whoever asked for a failover wants a writer: people say whether they go on or back where nothing of the promotion stands.
        let asks = state.plan.purpose == Purpose::Failover && state.promote_intended && state.cancel.is_none();
        return vec![if state.pivot_stands() || asks {
            park(state, &reason, 451)
        } else {
            record(Event::Aborting { reason })
        }];
    }
    if let Some(who) = state.finish.as_ref().filter(|_| state.only_owed_left()) {
        let cause = Cause::new(format_args!("the run was ended before it was done, by {who}"));
        return vec![record(Event::RestOwed { cause })];
    }
    let mut commands = in_flight;
    let mut open = false;
    for id in &state.plan.order {
        let Some(node) = state.plan.nodes.get(id) else { continue };
        let phase = state.phase_of(id);
        open |= !phase.settled();
        if !node.before_it().iter().all(|before| state.phase_of(before).settled()) {
            continue;
        }
        let paused = state.phase == Phase::Paused;
        match phase {
            NodePhase::Waiting | NodePhase::Backoff if !paused && !unasked(state, id) => {
                commands.push(start(id, node.call.class));
            }
            NodePhase::Asking => commands.push(Command::Ask(id.clone())),
            NodePhase::Looking => commands.push(Command::Look(id.clone())),
            NodePhase::Waiting
            | NodePhase::Backoff
            | NodePhase::Intended
            | NodePhase::Accepted
            | NodePhase::InDoubt
            | NodePhase::Done
            | NodePhase::Failed
            | NodePhase::Owed => {}
        }
    }
    if !open {
        return vec![record(Event::Ended { outcome: end(state) })];
    }
    if commands.is_empty() && state.phase == Phase::Running {
        return vec![park(state, "no step can begin although some are left", 451)];
    }
    commands
}

/// Whether a change must wait although all that comes just before it is settled: a consent further up does not hold any more.
fn unasked(state: &RunState, id: &NodeId) -> bool {
    let mutates = state.plan.call(id).is_some_and(|call| call.effect != Effect::ReadOnly);
    let mut asks = state.plan.nodes.iter().filter(|(_, node)| node.call.class == Class::Consent);
    mutates
        && asks.any(|(ask, _)| !state.phase_of(ask).settled() && ask != id && state.plan.ancestors(id).contains(ask))
}

fn start(id: &NodeId, class: Class) -> Command {
    if class == Class::Consent { Command::Ask(id.clone()) } else { Command::Begin(id.clone()) }
}

/// Calls that are on their way are always driven to a known end.
fn follow(state: &RunState) -> Vec<Command> {
    state
        .nodes
        .iter()
        .filter_map(|(id, node)| match node.phase {
            NodePhase::Accepted => Some(Command::Await(id.clone(), node.handle.clone().unwrap_or_else(OpHandle::none))),
            NodePhase::InDoubt => Some(Command::Observe(id.clone())),
            // Sent by this very engine: its answer comes as an event.
            NodePhase::Intended => Some(Command::Begin(id.clone())),
            NodePhase::Waiting
            | NodePhase::Looking
            | NodePhase::Asking
            | NodePhase::Backoff
            | NodePhase::Done
            | NodePhase::Failed
            | NodePhase::Owed => None,
        })
        .collect()
}

/// Why nothing new may begin.
fn must_stop(state: &RunState) -> Option<String> {
    if let Some(who) = state.cancel.as_ref().filter(|_| !state.pivot_stands()) {
        return Some(format!("cancelled by {who}"));
    }
    let failed = state.plan.order.iter().find(|id| state.phase_of(id) == NodePhase::Failed);
    if let Some(id) = failed {
        let cause = state.node(id).cause.map(|cause| cause.to_string()).unwrap_or_default();
        return Some(format!("`{id}` failed: {cause}"));
    }
    // Past a promotion that may stand the budget counts for nothing: clients are told when they would give up, and going on lets them in soonest.
    if state.gap_over && !state.pivot_stands() && state.drained_since().is_some() {
        return Some("the drain has outlived its budget".into());
    }
    (state.space_low && !state.pivot_stands()).then(|| "the journal's disk is full".to_owned())
}

fn end(state: &RunState) -> RunOutcome {
    let debts = state.debts();
    if debts.is_empty() { RunOutcome::Succeeded } else { RunOutcome::SucceededWithDebt { debts } }
}

fn backward(state: &RunState) -> Vec<Command> {
    let in_flight = follow(state);
    if !in_flight.is_empty() {
        return in_flight;
    }
    let mut stuck: Option<String> = None;
    for taken in give_back_order(state) {
        if !stands(state, &taken) {
            continue;
        }
        if !state.plan.holds.contains_key(&taken) {
            stuck.get_or_insert_with(|| format!("`{taken}` was done and has no way back"));
            continue;
        }
        let undo = taken.undo();
        return match state.phase_of(&undo) {
            NodePhase::Done => continue,
            // The others are given back all the same: nobody who waits for them is helped by waiting for this one.
            NodePhase::Failed => {
                let cause = state.node(&undo).cause.map(|cause| cause.to_string()).unwrap_or_default();
                stuck.get_or_insert_with(|| format!("`{taken}` could not be given back: {cause}"));
                continue;
            }
            NodePhase::Looking => vec![Command::Look(undo)],
            NodePhase::Waiting
            | NodePhase::Asking
            | NodePhase::Intended
            | NodePhase::Accepted
            | NodePhase::InDoubt
            | NodePhase::Backoff
            | NodePhase::Owed => vec![Command::Begin(undo)],
        };
    }
    match stuck {
        Some(reason) => vec![park(state, &reason, 453)],
        None => vec![record(Event::Ended { outcome: turned_back(state) })],
    }
}

/// What was taken, the latest first. A fence of which nobody knows whether it ever came to be is given back after the drain: if it did
/// not, the primary is well, and its applications must not wait for an answer that does not come.
fn give_back_order(state: &RunState) -> Vec<NodeId> {
    let mut order = state.plan.topological();
    order.reverse();
    let class = |id: &NodeId| state.plan.call(id).map(|call| call.class);
    let doubtful =
        |id: &NodeId| class(id) == Some(Class::Fence) && stands(state, id) && state.phase_of(id) != NodePhase::Done;
    if order.iter().any(doubtful) {
        order.sort_by_key(|id| class(id) != Some(Class::Drain));
    }
    order
}

/// Whether something of this step may stand that has to be given back.
fn stands(state: &RunState, id: &NodeId) -> bool {
    let Some(call) = state.plan.call(id) else { return false };
    let harmless = call.effect == Effect::ReadOnly || call.class == Class::Harmless;
    let released = |by: &NodeId| state.phase_of(by) == NodePhase::Done;
    let given_back = state.plan.holds.get(id).and_then(|hold| hold.released_by.as_ref()).is_some_and(released);
    let gives_back = state.plan.holds.values().any(|hold| hold.released_by.as_ref() == Some(id));
    !harmless && !given_back && !gives_back && state.nodes.get(id).is_some_and(|node| node.may_stand)
}

fn turned_back(state: &RunState) -> RunOutcome {
    let reason = state.aborting.clone().unwrap_or_default();
    if !state.changed() && state.cancel.is_none() {
        RunOutcome::Refused { reason }
    } else if state.cancel.is_some() {
        RunOutcome::Cancelled { reason }
    } else {
        RunOutcome::Aborted { reason }
    }
}

fn parked(state: &RunState) -> Vec<Command> {
    let Some(ask) = &state.ask else { return Vec::new() };
    match crate::run::decided(ask, &state.given).as_deref() {
        None => Vec::new(),
        Some(HAND_OVER) => {
            let outcome = RunOutcome::HandedOver { reason: ask.question.clone() };
            vec![record(Event::Ended { outcome })]
        }
        Some(choice) => {
            let by = state.given.iter().filter(|given| given.choice == choice);
            let by = by.map(|given| given.by.name.clone()).collect();
            vec![record(Event::Decided { choice: choice.to_owned(), by })]
        }
    }
}

fn record(event: Event) -> Command {
    Command::Record(Box::new(event))
}

fn park(state: &RunState, reason: &str, rule: u16) -> Command {
    let failed = state.nodes.iter().find(|(_, node)| node.phase == NodePhase::Failed);
    let first = match failed {
        Some((_, node)) if node.may_stand => {
            Choice::new(LOOK, "look again what is true, and go on if it is so", "nothing")
        }
        Some(_) => Choice::new(RETRY, "try the failed step again", "what the step changes"),
        None => Choice::new(GO_ON, "go on forward", "what the remaining steps change"),
    };
    let mut choices = vec![first];
    if failed.is_some_and(|(_, node)| node.may_stand) {
        choices.push(Choice::new(RETRY, "try the failed step again", "what the step changes"));
    }
    if failed.is_some_and(|(id, node)| node.may_stand && untold(state, id)) {
        let means = "the change of roles was this run's: go on; two people must say so";
        choices.push(Choice::new(OURS, means, "what the remaining steps change").by_people(2));
    }
    if state.phase != Phase::Aborting && state.promotion() == Promotion::Disproved {
        let changes = "what was taken is given back; nothing was promoted";
        choices.push(Choice::new(TURN_BACK, "let the applications go on where they are", changes));
    }
    choices.push(Choice::new(HAND_OVER, "stop here; the rest is done by hand", "nothing; what is held stays held"));
    let question = if state.pivot_stands() {
        format!("{reason}; automatic rollback is not possible, engage the incident bridge")
    } else {
        reason.to_owned()
    };
    record(Event::Parked {
        ask: Box::new(Ask {
            kind: AskKind::Park,
            node: failed.map(|(id, _)| id.clone()),
            plan: state.hash,
            question,
            facts: held_facts(state),
            loss: Loss::Nothing,
            asked: None,
            choices,
            people: 1,
            roles: state.roles(),
            not: None,
            since: state.last,
            expires: None,
            rule: Some(rule),
            short: None,
        }),
    })
}

/// Whether a step changes the writer where histories are not counted, or makes it a logical copy, which goes on with the history that it
/// had: that the roles changed does not tell by whom.
fn untold(state: &RunState, id: &NodeId) -> bool {
    let pivot = state.plan.call(id).is_some_and(|call| call.class == Class::Pivot);
    let copy = state.plan.to.as_ref().is_some_and(|to| state.plan.receives.contains_key(to));
    pivot && (state.plan.expects.lineage.generation == 0 || copy)
}

fn held_facts(state: &RunState) -> Vec<Fact> {
    let mut facts: BTreeMap<String, Fact> = BTreeMap::new();
    for thing in state.held() {
        let name = format!("held: {}", thing.node);
        facts.insert(name.clone(), Fact::any(&name, format!("since {}", thing.since), "journal", state.last));
    }
    facts.into_values().collect()
}
