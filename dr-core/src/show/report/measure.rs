//! How long a run and its phases took.

use serde::Serialize;

use crate::{
    base::{Millis, NodeId, Timestamp},
    contract::Class,
    run::{NodePhase, RunState},
};

/// A part of a run, by what its steps are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Looking, and getting ready.
    Check,
    /// Waiting for people.
    Decide,
    /// Holding applications' writes back.
    Drain,
    /// Closing the former primary, and letting the candidate catch up.
    Fence,
    /// Promoting or swapping.
    Promote,
    /// Proving that there is exactly one writer.
    Confirm,
    /// Pointing secrets and traffic at the writer, and letting writes through again.
    Redirect,
    /// Making the former primary a standby.
    Rejoin,
}

impl std::fmt::Display for PhaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Check => "check",
            Self::Decide => "decide",
            Self::Drain => "drain",
            Self::Fence => "fence",
            Self::Promote => "promote",
            Self::Confirm => "confirm",
            Self::Redirect => "redirect",
            Self::Rejoin => "rejoin",
        })
    }
}

/// A phase with its first beginning and its last end. Phases may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseTook {
    /// Which.
    pub phase: PhaseName,
    /// When its first step began.
    pub from: Timestamp,
    /// When its last step ended.
    pub until: Timestamp,
    /// The time between.
    pub took: Millis,
}

/// How long the run took until applications could write again, and where the time went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// From the start until the writer was confirmed and secrets and traffic pointed at it. Absent when it did not come to that.
    pub total: Option<Millis>,
    /// How much of it people took.
    pub people: Millis,
    /// `total` without `people`.
    pub work: Option<Millis>,
    /// The phases in the order in which they began.
    pub phases: Vec<PhaseTook>,
}

fn phase(class: Class) -> Option<PhaseName> {
    match class {
        Class::Guard => Some(PhaseName::Check),
        Class::Consent => Some(PhaseName::Decide),
        Class::Drain => Some(PhaseName::Drain),
        Class::Fence | Class::CatchUp => Some(PhaseName::Fence),
        Class::Pivot => Some(PhaseName::Promote),
        Class::ClearFence | Class::ConfirmWriter => Some(PhaseName::Confirm),
        Class::Secret | Class::Traffic | Class::Resume => Some(PhaseName::Redirect),
        Class::Rejoin | Class::RetireFence => Some(PhaseName::Rejoin),
        Class::Harmless | Class::ReleaseFence | Class::Destroy | Class::Topology | Class::Other => None,
    }
}

/// When the finished steps of the plan that satisfy `of` began and ended.
fn times(state: &RunState, of: impl Fn(Class) -> bool) -> Vec<(Timestamp, Timestamp)> {
    let done = state.plan.order.iter().filter_map(|id| {
        let node = state.nodes.get(id).filter(|node| node.phase == NodePhase::Done)?;
        let class = state.plan.nodes.get(id)?.call.class;
        of(class).then_some((node.started?, node.ended?))
    });
    done.collect()
}

/// When the first step began that does more than look. Looks after that belong to what they follow, not to the checks.
fn checked(state: &RunState) -> Option<Timestamp> {
    let more = state.plan.nodes.iter().filter(|(_, node)| node.call.class != Class::Guard);
    more.filter_map(|(id, _)| state.nodes.get(id)?.started).min()
}

pub(super) fn rto(state: &RunState) -> Measured {
    let mut phases: Vec<PhaseTook> = Vec::new();
    let checked = checked(state);
    for id in &state.plan.order {
        let Some(name) = state.plan.nodes.get(id).and_then(|node| phase(node.call.class)) else { continue };
        let Some(node) = state.nodes.get(id).filter(|node| node.phase == NodePhase::Done) else { continue };
        let (Some(from), Some(until)) = (node.started, node.ended) else { continue };
        if name == PhaseName::Check && checked.is_some_and(|checked| from >= checked) {
            continue;
        }
        match phases.iter_mut().find(|known| known.phase == name) {
            Some(known) => {
                known.from = known.from.min(from);
                known.until = known.until.max(until);
                known.took = known.until.since(known.from);
            }
            None => phases.push(PhaseTook { phase: name, from, until, took: until.since(from) }),
        }
    }
    phases.sort_by_key(|phase| (phase.from, phase.phase));
    let people = times(state, |class| class == Class::Consent)
        .into_iter()
        .fold(Millis::ZERO, |sum, (from, until)| sum.saturating_add(until.since(from)));
    let total = usable(state).map(|until| until.since(state.started));
    Measured { total, people, work: total.map(|total| total.saturating_sub(people)), phases }
}

/// When applications could write on the new writer.
fn usable(state: &RunState) -> Option<Timestamp> {
    let needed = |class| matches!(class, Class::ConfirmWriter | Class::Secret | Class::Traffic | Class::Resume);
    let confirmed = !times(state, |class| class == Class::ConfirmWriter).is_empty();
    confirmed.then(|| times(state, needed).into_iter().map(|(_, until)| until).max()).flatten()
}

/// From the intent to hold writes back until they were let through again, over all drains; absent while one is held.
pub(super) fn write_gap(state: &RunState) -> Option<Millis> {
    let drains = state.plan.holds.iter().filter(|(id, _)| {
        let drains = state.plan.nodes.get(*id).is_some_and(|node| node.call.class == Class::Drain);
        drains && state.nodes.get(*id).is_some_and(|node| node.intended.is_some())
    });
    let mut longest: Option<Millis> = None;
    for (id, hold) in drains {
        let from = state.nodes.get(id)?.intended?;
        let released = hold.released_by.as_ref().and_then(|release| ended(state, release));
        let until = released.or_else(|| ended(state, &id.undo()));
        match until {
            Some(until) => longest = longest.max(Some(until.since(from))),
            // Refused for good before anything stood: nothing was held back.
            None if !state.nodes.get(id)?.may_stand => {}
            None => return None,
        }
    }
    longest
}

fn ended(state: &RunState, id: &NodeId) -> Option<Timestamp> {
    let node = state.nodes.get(id)?;
    if node.phase == NodePhase::Done { node.ended } else { None }
}
