//! The typed way to write a plan. It never fails half-way: all faults come together from `verify`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::{Finding, Json, MemberId, Millis, NodeId, Role, RunbookId, canonical},
    contract::{Binding, Class, Fact, Lineage, Loss, ResourceRef, Target, Touch},
    plan::{
        Attempted, Call, Edge, Effect, Held, Hold, Node, OnFailure, Output, PLAN_FORMAT, Plan, Policy, Purpose,
        RULES_VERSION, Ref, Step,
    },
};

/// A step with what its author says about its place in the plan.
#[derive(Debug)]
pub struct Spec<S> {
    step: S,
    after: BTreeSet<NodeId>,
    why: Option<String>,
    within: Option<Millis>,
    every: Option<Millis>,
    visibility: Option<Millis>,
    attempts: Option<u8>,
    about: Option<Millis>,
}

impl<S: Step> Spec<S> {
    fn new(step: S) -> Self {
        Self {
            step,
            after: BTreeSet::new(),
            why: None,
            within: None,
            every: None,
            visibility: None,
            attempts: None,
            about: None,
        }
    }

    /// It begins only after `edge`, although it needs nothing from it.
    #[must_use]
    pub fn after(mut self, edge: &(impl Edge + ?Sized)) -> Self {
        self.after.insert(edge.to());
        self
    }

    /// It begins only after all of `edges`.
    #[must_use]
    pub fn after_all(mut self, edges: &[&dyn Edge]) -> Self {
        self.after.extend(edges.iter().map(|edge| edge.to()));
        self
    }

    /// Why it stands there.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Its deadline, counted from its start.
    #[must_use]
    pub fn within(mut self, deadline: Millis) -> Self {
        self.within = Some(deadline);
        self
    }

    /// How often a wait looks again.
    #[must_use]
    pub fn every(mut self, pause: Millis) -> Self {
        self.every = Some(pause);
        self
    }

    /// How far apart two looks must lie before they count as proof that nothing happened.
    #[must_use]
    pub fn visibility(mut self, delay: Millis) -> Self {
        self.visibility = Some(delay);
        self
    }

    /// How often it may be sent at most.
    #[must_use]
    pub fn attempts(mut self, most: u8) -> Self {
        self.attempts = Some(most);
        self
    }

    /// How long it takes, roughly.
    #[must_use]
    pub fn about(mut self, duration: Millis) -> Self {
        self.about = Some(duration);
        self
    }
}

/// What `add` accepts: a step, or a step with its place.
pub trait IntoSpec {
    /// The step.
    type Step: Step;

    /// The step with its place.
    fn into_spec(self) -> Spec<Self::Step>;
}

impl<S: Step> IntoSpec for S {
    type Step = S;

    fn into_spec(self) -> Spec<S> {
        Spec::new(self)
    }
}

impl<S: Step> IntoSpec for Spec<S> {
    type Step = S;

    fn into_spec(self) -> Self {
        self
    }
}

/// Lets a step say its place directly: `SetConsumers::paused("billing").after(&drained)`.
pub trait StepExt: Step + Sized {
    /// It begins only after `edge`.
    fn after(self, edge: &(impl Edge + ?Sized)) -> Spec<Self> {
        Spec::new(self).after(edge)
    }

    /// It begins only after all of `edges`.
    fn after_all(self, edges: &[&dyn Edge]) -> Spec<Self> {
        Spec::new(self).after_all(edges)
    }

    /// Why it stands there.
    fn because(self, why: impl Into<String>) -> Spec<Self> {
        Spec::new(self).because(why)
    }

    /// Its deadline, counted from its start.
    fn within(self, deadline: Millis) -> Spec<Self> {
        Spec::new(self).within(deadline)
    }

    /// How often a wait looks again.
    fn every(self, pause: Millis) -> Spec<Self> {
        Spec::new(self).every(pause)
    }
}

impl<S: Step> StepExt for S {}

/// Grows a plan. Made by the engine, filled by a [`Runbook`](crate::plan::Runbook).
#[derive(Debug)]
pub struct PlanBuilder {
    plan: Plan,
    faults: Vec<Finding>,
    outside: Option<String>,
}

/// What a builder starts from.
#[derive(Clone, Debug)]
pub struct PlanHeader {
    /// The runbook.
    pub runbook: RunbookId,
    /// What the plan is for.
    pub purpose: Purpose,
    /// The group's name.
    pub group: crate::base::GroupName,
    /// Its environment.
    pub environment: String,
    /// The digest of its configuration.
    pub group_digest: crate::base::Digest,
    /// The writer that was found.
    pub expects: Target,
    /// Names and what they stand for.
    pub bindings: BTreeMap<Binding, ResourceRef>,
    /// Whether replication carries a fence of the group to the standbys ([`Fence::travels`](crate::contract::Fence::travels)).
    pub fence_travels: bool,
    /// The history that each member carries.
    pub lineages: BTreeMap<MemberId, Lineage>,
    /// The histories that logical copies are fed from, by copy.
    pub receives: BTreeMap<MemberId, Lineage>,
    /// What custom steps may touch.
    pub allow: BTreeSet<Touch>,
    /// Limits.
    pub policy: Policy,
}

/// How long a step may take when its author says nothing.
const DEFAULT_WITHIN: Millis = Millis::minutes(5);
/// How long a change may stay unseen when its author says nothing.
const DEFAULT_VISIBILITY: Millis = Millis::seconds(1);
/// How often a wait looks again when its author says nothing.
const DEFAULT_EVERY: Millis = Millis::seconds(1);

impl PlanBuilder {
    /// An empty plan.
    #[must_use]
    pub fn new(header: PlanHeader) -> Self {
        let plan = Plan {
            format: PLAN_FORMAT,
            rules: RULES_VERSION,
            runbook: header.runbook,
            purpose: header.purpose,
            group: header.group,
            environment: header.environment,
            group_digest: header.group_digest,
            expects: header.expects,
            to: None,
            loss: Loss::Nothing,
            facts: Vec::new(),
            bindings: header.bindings,
            fence_travels: header.fence_travels,
            lineages: header.lineages,
            receives: header.receives,
            leaves_out: BTreeMap::new(),
            allow: header.allow,
            policy: header.policy,
            nodes: BTreeMap::new(),
            order: Vec::new(),
            holds: BTreeMap::new(),
        };
        Self { plan, outside: None, faults: Vec::new() }
    }

    /// The limits that the plan goes by.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.plan.policy
    }

    /// Says how long clients wait for a drain to end, where the policy does not say it yet or allows more.
    pub fn clients_wait_at_most(&mut self, limit: Millis) {
        let policy = &mut self.plan.policy;
        policy.client_limit = Some(policy.client_limit.map_or(limit, |known| known.min(limit)));
    }

    /// What the plan is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.plan.purpose
    }

    /// Says that a secret or route stays as it is, and why: people see it before they agree, and somebody owes it after the change.
    /// The phases pass over it.
    pub fn leave_out(&mut self, binding: impl Into<Binding>, because: impl Into<String>) {
        self.plan.leaves_out.insert(binding.into(), because.into());
    }

    /// What the plan leaves out on purpose, with the reasons.
    #[must_use]
    pub fn leaves_out(&self) -> &BTreeMap<Binding, String> {
        &self.plan.leaves_out
    }

    /// Says that the operation may begin outside the windows of the group, and why: people see it before they agree.
    pub fn outside_window(&mut self, because: impl Into<String>) {
        self.outside = Some(because.into());
    }

    /// Why the operation may begin at any time; `None` where the windows of the group count.
    #[must_use]
    pub fn is_outside_window(&self) -> Option<&str> {
        self.outside.as_deref()
    }

    /// Says which member becomes the writer.
    pub fn goes_to(&mut self, member: &MemberId) {
        self.plan.to = Some(member.clone());
    }

    /// Says what the plan may lose.
    pub fn may_lose(&mut self, loss: Loss) {
        self.plan.loss = loss;
    }

    /// Adds a fact that the plan was made from.
    pub fn fact(&mut self, fact: Fact) {
        self.plan.facts.push(fact);
    }

    /// Adds a step; the answer stands for its output.
    pub fn add<I: IntoSpec>(&mut self, name: &str, step: I) -> Ref<<I::Step as Step>::Output> {
        self.insert(name, step.into_spec(), OnFailure::Stop);
        Ref::new(NodeId::new(name))
    }

    /// Adds a step that may fail: the run goes on, and `owner` owes `text`.
    pub fn attempt<I: IntoSpec>(
        &mut self,
        name: &str,
        step: I,
        text: impl Into<String>,
        owner: impl Into<Role>,
    ) -> Ref<Attempted<<I::Step as Step>::Output>> {
        self.insert(name, step.into_spec(), OnFailure::Debt { text: text.into(), owner: owner.into() });
        Ref::new(NodeId::new(name))
    }

    /// Adds a step that takes something for a while, with the step that gives it back. The give-back may use only what is known
    /// now: it has no inputs from other steps.
    #[expect(clippy::needless_pass_by_value, reason = "the give-back belongs to the hold; nobody else shall keep it")]
    pub fn hold<I: IntoSpec, G: Step>(&mut self, name: &str, take: I, give: G) -> Held<<I::Step as Step>::Output> {
        self.insert(name, take.into_spec(), OnFailure::Stop);
        let undo = self.call(name, &give);
        self.plan.holds.insert(NodeId::new(name), Hold { released_by: None, undo });
        Held::new(NodeId::new(name))
    }

    /// Gives back what is held, as a step of its own after `after`. The answer stands for the release.
    pub fn release<T>(&mut self, held: Held<T>, after: &(impl Edge + ?Sized)) -> Ref<()> {
        let name = format!("release-{}", held.node());
        let Some(hold) = self.plan.holds.get_mut(held.node()) else {
            return Ref::new(NodeId::new(name));
        };
        hold.released_by = Some(NodeId::new(name.as_str()));
        // Giving back is looked at as often as taking.
        let every = self.plan.nodes.get(held.node()).map_or(DEFAULT_EVERY, |taken| taken.every);
        let node = Node {
            call: hold.undo.clone(),
            after: [held.to(), after.to()].into(),
            why: None,
            within: DEFAULT_WITHIN,
            every,
            visibility: DEFAULT_VISIBILITY,
            attempts: 5,
            on_failure: OnFailure::Stop,
            about: None,
        };
        self.place(&name, node);
        drop(held);
        Ref::new(NodeId::new(name))
    }

    /// Says that `by` is how the held thing ends when all goes well: a fence is retired, never released, past the point of no return.
    pub fn retired<T>(&mut self, held: Held<T>, by: &(impl Edge + ?Sized)) {
        if let Some(hold) = self.plan.holds.get_mut(held.node()) {
            hold.released_by = Some(by.to());
        }
        drop(held);
    }

    /// Changes the pace of a node that is there already: its deadline and how often it looks.
    pub fn pace(&mut self, edge: &(impl Edge + ?Sized), within: Millis, every: Millis) {
        if let Some(node) = self.plan.nodes.get_mut(&edge.to()) {
            node.within = within;
            node.every = every;
        }
    }

    /// The plan as it stands, with the faults of its making. [`Plan::verify`] finds the rest.
    #[must_use]
    pub fn finish(self) -> (Plan, Vec<Finding>) {
        (self.plan, self.faults)
    }

    fn insert<S: Step>(&mut self, name: &str, spec: Spec<S>, on_failure: OnFailure) {
        let call = self.call(name, &spec.step);
        let node = Node {
            attempts: spec.attempts.unwrap_or(match S::EFFECT {
                Effect::AtMostOnce => 2,
                Effect::ReadOnly | Effect::Idempotent | Effect::Reconcilable => 4,
            }),
            call,
            after: spec.after,
            why: spec.why,
            within: spec.within.unwrap_or(DEFAULT_WITHIN),
            every: spec.every.unwrap_or(DEFAULT_EVERY),
            visibility: spec.visibility.unwrap_or(DEFAULT_VISIBILITY),
            on_failure,
            about: spec.about,
        };
        self.place(name, node);
    }

    fn place(&mut self, name: &str, node: Node) {
        let id = NodeId::new(name);
        if self.plan.nodes.insert(id.clone(), node).is_some() {
            self.faults.push(Finding::twice(&id));
        } else {
            self.plan.order.push(id);
        }
    }

    fn call<S: Step>(&mut self, name: &str, step: &S) -> Call {
        let params = canonical::to_value(step).unwrap_or_else(|error| {
            self.faults.push(Finding::no_canonical_form(&NodeId::new(name), &error));
            serde_json::Value::Null
        });
        Call {
            kind: S::KIND,
            class: S::CLASS,
            effect: S::EFFECT,
            output: S::Output::type_name().into_owned(),
            params: Json(params),
            sentence: step.sentence(),
            touches: step.touches(),
            marks: step.marks(),
            manual: Vec::new(),
        }
    }

    /// Whether a node of this class stands in the plan.
    #[must_use]
    pub fn has(&self, class: Class) -> bool {
        self.plan.nodes.values().any(|node| node.call.class == class)
    }
}
