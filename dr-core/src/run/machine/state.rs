//! What is known of a run: rebuilt from its events, and from nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::RunOutcome;
use crate::{
    base::{Actor, BindingName, Digest, Epoch, Json, Millis, NodeId, Role, RunId, Timestamp},
    contract::{Accepted, Binding, Cause, Class, Given, OpHandle, PromotionReceipt, Target, Waived},
    plan::{Effect, Node, OnFailure, Plan, Promotion, RetiredLineage},
    run::{AnswerRefused, Ask, Debt},
};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not begun.
    New,
    /// Going on.
    Running,
    /// Nothing new begins.
    Paused,
    /// Turning back.
    Aborting,
    /// Waits for a person.
    Parked,
    /// Over.
    Ended,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 6] = [Self::New, Self::Running, Self::Paused, Self::Aborting, Self::Parked, Self::Ended];
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodePhase {
    /// Not begun.
    Waiting,
    /// It only looks, and has not seen its end yet.
    Looking,
    /// People are asked.
    Asking,
    /// The call may have left.
    Intended,
    /// The provider works on it.
    Accepted,
    /// Nobody knows; only a look decides.
    InDoubt,
    /// Not done; will be tried again.
    Backoff,
    /// Done.
    Done,
    /// Failed for good.
    Failed,
    /// Failed, and somebody owes it.
    Owed,
}

impl NodePhase {
    /// All phases.
    pub const ALL: [Self; 10] = [
        Self::Waiting,
        Self::Looking,
        Self::Asking,
        Self::Intended,
        Self::Accepted,
        Self::InDoubt,
        Self::Backoff,
        Self::Done,
        Self::Failed,
        Self::Owed,
    ];

    /// Whether an effect of ours is on its way, or may be.
    #[must_use]
    pub fn in_flight(self) -> bool {
        matches!(self, Self::Intended | Self::Accepted | Self::InDoubt)
    }

    /// Whether what comes after may begin.
    #[must_use]
    pub fn settled(self) -> bool {
        matches!(self, Self::Done | Self::Owed)
    }
}

/// What is known of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Where it stands.
    pub phase: NodePhase,
    /// How often it was sent, or may have been.
    pub attempt: u8,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When its first intent became durable.
    pub intended: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// What to ask with.
    pub handle: Option<OpHandle>,
    /// The provider answered its last attempt that it took the call.
    pub acknowledged: bool,
    /// How many looks in a row saw no trace of it, and when the first of them was.
    pub absent: Option<Timestamp>,
    /// What was there before its first intent.
    pub pre_image: Option<Json>,
    /// What it left behind.
    pub output: Option<Json>,
    /// Why it is where it is.
    pub cause: Option<Cause>,
    /// When it is tried again, after `ended`.
    pub again_in: Millis,
    /// As far as the provider told.
    pub percent: Option<u8>,
    /// Whether an effect of ours may stand.
    pub may_stand: bool,
    /// What people accepted instead of the grade that it asks for.
    pub waived: Option<Waived>,
    /// The people who said that a change of which nobody could tell whose it was, was this run's.
    pub claimed_by: Vec<String>,
    /// The rule of its last transition.
    pub rule: u16,
}

impl Default for NodeState {
    fn default() -> Self {
        Self {
            phase: NodePhase::Waiting,
            attempt: 0,
            started: None,
            intended: None,
            ended: None,
            handle: None,
            acknowledged: false,
            absent: None,
            pre_image: None,
            output: None,
            cause: None,
            again_in: Millis::ZERO,
            percent: None,
            may_stand: false,
            waived: None,
            claimed_by: Vec::new(),
            rule: 0,
        }
    }
}

/// Something that is held right now: what the application feels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldThing {
    /// The step that took it.
    pub node: NodeId,
    /// What kind of step.
    pub class: Class,
    /// Since when, at the latest.
    pub since: Timestamp,
}

/// What is known of a run.
#[derive(Clone, Debug)]
pub struct RunState {
    /// Its name.
    pub run: RunId,
    /// What runs.
    pub plan: Arc<Plan>,
    /// What it is known by.
    pub hash: Digest,
    /// The hash of the run's first line. It covers the plan, who started the run, why and when: no other run has it, also not one of
    /// another journal with the same number and plan. Keys are made from it ([`RunId::key`]).
    pub origin: Digest,
    /// Who asked for it.
    pub by: Actor,
    /// Why.
    pub because: String,
    /// Where it stands.
    pub phase: Phase,
    /// The rule of the last transition.
    pub rule: u16,
    /// Since when it stands there.
    pub since: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// The time of the last event.
    pub last: Timestamp,
    /// The position of the last event.
    pub seq: u32,
    /// The epoch of the last event.
    pub epoch: Epoch,
    /// The steps, undos included once they begin.
    pub nodes: BTreeMap<NodeId, NodeState>,
    /// What people are asked now.
    pub ask: Option<Ask>,
    /// What they answered so far.
    pub given: Vec<Given>,
    /// Who wants it to turn back, and why.
    pub cancel: Option<String>,
    /// Who wants the run to end as soon as only owed work is left, and why.
    pub finish: Option<String>,
    /// Why it turns back.
    pub aborting: Option<String>,
    /// Whether it was turning back when it parked.
    pub parked_from: Phase,
    /// Whether a promote intent was ever durable. The point of no return is one that may stand: [`RunState::pivot_stands`].
    pub promote_intended: bool,
    /// The drain has outlived its budget, and nobody has decided about it yet.
    pub gap_over: bool,
    /// A person decided to go on although the drain outlived its budget; nobody asks again.
    pub gap_accepted: bool,
    /// Clients that waited for the drain to end got errors instead.
    pub clients_turned_away: bool,
    /// The journal's disk is full.
    pub space_low: bool,
    /// Inbox rows that became events.
    pub rows: BTreeSet<String>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
}

impl RunState {
    /// Returns the roles of which one is needed to approve this run; whoever may approve it may also decide about it. Empty means any.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        let consent = self.plan.nodes.values().find(|node| node.call.class == Class::Consent);
        consent
            .and_then(|node| node.call.params.0.get("roles").cloned())
            .and_then(|roles| serde_json::from_value(roles).ok())
            .unwrap_or_default()
    }

    /// Tells whether somebody may pause this run, let it go on, turn it back or take it from another engine: whoever asked for it, and
    /// whoever may approve it.
    ///
    /// # Errors
    /// [`AnswerRefused::WrongRole`] with the roles that it needs.
    pub fn may_steer(&self, by: &Actor) -> Result<(), AnswerRefused> {
        let needs = self.roles();
        if needs.is_empty() || by.may_be(&self.by) || by.roles.iter().any(|role| needs.contains(role)) {
            return Ok(());
        }
        Err(AnswerRefused::WrongRole { needs, who: by.name.clone() })
    }

    /// Returns what people attested of a member that is silent, if they did: every later look at it may count on their word, for as long as
    /// it is good.
    pub(crate) fn attested(&self) -> Option<&Waived> {
        let silence = |waived: &&Waived| matches!(waived.accepts, Accepted::Silence(_));
        self.nodes.values().filter_map(|node| node.waived.as_ref()).filter(silence).max_by_key(|waived| waived.expires)
    }

    /// What is known of a step; a step that has not begun is waiting.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> NodeState {
        self.nodes.get(id).cloned().unwrap_or_default()
    }

    /// Where a step stands.
    #[must_use]
    pub fn phase_of(&self, id: &NodeId) -> NodePhase {
        self.nodes.get(id).map_or(NodePhase::Waiting, |node| node.phase)
    }

    /// The steps that are on their way to the provider, or may be.
    #[must_use]
    pub fn in_flight(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.phase.in_flight()).map(|(id, _)| id.clone()).collect()
    }

    /// Whether anything that must be given back or cannot be undone was ever begun.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.nodes.iter().any(|(id, node)| {
            node.intended.is_some()
                && self
                    .plan
                    .call(id)
                    .is_some_and(|call| call.effect != Effect::ReadOnly && call.class != Class::Harmless)
        })
    }

    /// What is held, the earliest first.
    #[must_use]
    pub fn held(&self) -> Vec<HeldThing> {
        let mut held: Vec<HeldThing> = self
            .plan
            .holds
            .iter()
            .filter_map(|(id, hold)| {
                let node = self.nodes.get(id)?;
                let given_back =
                    hold.released_by.as_ref().is_some_and(|release| self.phase_of(release) == NodePhase::Done)
                        || self.phase_of(&id.undo()) == NodePhase::Done;
                let class = self.plan.nodes.get(id)?.call.class;
                (node.may_stand && !given_back).then(|| HeldThing {
                    node: id.clone(),
                    class,
                    since: node.intended.unwrap_or(self.started),
                })
            })
            .collect();
        held.sort_by_key(|thing| thing.since);
        held
    }

    /// Tells whether nothing is left but work for which nobody waits, of which no call is on its way to the provider now.
    #[must_use]
    pub fn only_owed_left(&self) -> bool {
        let open = self.plan.order.iter().filter(|id| !self.phase_of(id).settled());
        let mut open = open.peekable();
        let may_be_owed = |id: &NodeId| {
            matches!(self.on_failure(id), OnFailure::Debt { .. }) && self.phase_of(id) != NodePhase::Intended
        };
        open.peek().is_some() && open.all(may_be_owed)
    }

    /// Since when a drain is held, if one is.
    #[must_use]
    pub fn drained_since(&self) -> Option<Timestamp> {
        self.held().into_iter().find(|thing| thing.class == Class::Drain).map(|thing| thing.since)
    }

    /// Returns the application tiers that may be drained by this run now.
    #[must_use]
    pub fn drained_apps(&self) -> BTreeSet<BindingName> {
        let drains = self.held().into_iter().filter(|thing| thing.class == Class::Drain);
        let touches = drains.filter_map(|thing| self.plan.call(&thing.node)).flat_map(|call| &call.touches);
        let apps = touches.filter_map(|touch| match &touch.resource {
            Binding::App(name) => Some(name.clone()),
            Binding::Member(_)
            | Binding::Secret(_)
            | Binding::Traffic(_)
            | Binding::Readers(_)
            | Binding::Custom(_) => None,
        });
        apps.collect()
    }

    /// Whether the call that gives the drain back has left, and its end is not known yet.
    #[must_use]
    pub fn letting_through(&self) -> bool {
        let drains = |id: &NodeId| self.plan.call(id).is_some_and(|call| call.class == Class::Drain);
        let releases =
            self.plan.holds.iter().filter(|(id, _)| drains(id)).filter_map(|(_, hold)| hold.released_by.as_ref());
        releases
            .map(|by| self.phase_of(by))
            .any(|phase| matches!(phase, NodePhase::Intended | NodePhase::Accepted | NodePhase::InDoubt))
    }

    /// Whether a fence intent was ever durable and not given back: past it, nobody resumes writes on the old primary but the run itself.
    #[must_use]
    pub fn fence_intended(&self) -> bool {
        let fenced = |id: &NodeId, node: &NodeState| {
            node.intended.is_some() && self.plan.call(id).is_some_and(|call| call.class == Class::Fence)
        };
        self.pivot_stands()
            || self.nodes.iter().any(|(id, node)| fenced(id, node) && self.phase_of(&id.undo()) != NodePhase::Done)
    }

    /// Tells whether a promotion may stand: its intent was durable, and nobody proved that nothing came of it. This is the point of no
    /// return.
    #[must_use]
    pub fn pivot_stands(&self) -> bool {
        let pivot = |id: &NodeId| self.plan.call(id).is_some_and(|call| call.class == Class::Pivot);
        self.nodes.iter().any(|(id, node)| node.may_stand && pivot(id))
    }

    /// What is known of the promotion.
    #[must_use]
    pub fn promotion(&self) -> Promotion {
        match (self.promote_intended, self.pivot_stands()) {
            (_, true) => Promotion::MayStand,
            (true, false) => Promotion::Disproved,
            (false, false) => Promotion::NotAsked,
        }
    }

    /// How a node's failure is taken: undos and releases always stop.
    #[must_use]
    pub fn on_failure(&self, id: &NodeId) -> OnFailure {
        self.plan.nodes.get(id).map_or(OnFailure::Stop, |node| node.on_failure.clone())
    }

    /// The pace of a node; an undo has that of the node whose hold it gives back.
    #[must_use]
    pub fn paced(&self, id: &NodeId) -> Option<&Node> {
        self.plan.nodes.get(id).or_else(|| self.plan.nodes.get(&id.undone()?))
    }

    /// The history that this run promoted another member away from, once the promotion was seen.
    #[must_use]
    pub fn retired(&self) -> Option<RetiredLineage> {
        let (id, _) = self.plan.nodes.iter().find(|(_, node)| node.call.class == Class::Pivot)?;
        let output = self.nodes.get(id)?.output.clone()?;
        let receipt: PromotionReceipt = serde_json::from_value(output.0).ok()?;
        let from = Target { lineage: receipt.was, ..self.plan.expects.clone() };
        Some(RetiredLineage { run: self.run.clone(), from, to: receipt.target, at: receipt.at })
    }

    /// The output of a node as a later step sees it.
    #[must_use]
    pub fn output(&self, id: &NodeId) -> Option<serde_json::Value> {
        let node = self.nodes.get(id)?;
        match self.on_failure(id) {
            OnFailure::Stop => node.output.clone().map(|output| output.0),
            OnFailure::Debt { .. } => match node.phase {
                NodePhase::Done => {
                    let output = node.output.clone().map_or(serde_json::Value::Null, |output| output.0);
                    Some(serde_json::json!({"is": "done", "of": output}))
                }
                NodePhase::Owed => {
                    let cause = node.cause.as_ref().map(ToString::to_string).unwrap_or_default();
                    Some(serde_json::json!({"is": "owed", "of": cause}))
                }
                NodePhase::Waiting
                | NodePhase::Looking
                | NodePhase::Asking
                | NodePhase::Intended
                | NodePhase::Accepted
                | NodePhase::InDoubt
                | NodePhase::Backoff
                | NodePhase::Failed => None,
            },
        }
    }

    /// What somebody owes, in words.
    #[must_use]
    pub fn debts(&self) -> Vec<String> {
        Debt::of(self).iter().filter(|debt| debt.counts()).map(ToString::to_string).collect()
    }
}
