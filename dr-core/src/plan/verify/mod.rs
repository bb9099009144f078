//! The rules that a plan must pass before anything is done with it. Each is one small function with a stable number.
//!
//! ```text
//!  Plan ──► form (DR101 …): can it be read? ──no──► Refusal
//!                  │ yes
//!                  ▼
//!           safety, holds, scope, guards (DR120 …): may it run? ──► Verified | Refusal
//! ```
//!
//! A rule reads the plan and the catalogue, nothing else. What the rules stand on (class, effect, outputs, touches) is derived
//! again from the data of every step, so a plan that was edited by hand gains nothing by claiming something else.

mod form;
mod guards;
mod holds;
mod safety;
mod scope;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use crate::{
    base::{Finding, NodeId, Refusal},
    contract::Class,
    plan::{Catalog, Duty, FoundRef, Node, Output, Plan, Verified, references},
};

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The number, as in `DR121`. Stable, with gaps.
    pub number: u16,
    /// A short name.
    pub name: &'static str,
    /// What must be so.
    pub sentence: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What helps when it is not so.
    pub helps: &'static str,
    check: fn(&Look<'_>) -> Vec<Fault>,
}

/// What a rule sees at one place.
struct Fault {
    node: Option<NodeId>,
    what: String,
}

impl Fault {
    fn plan(what: impl Into<String>) -> Self {
        Self { node: None, what: what.into() }
    }

    fn at(node: &NodeId, what: impl Into<String>) -> Self {
        Self { node: Some(node.clone()), what: what.into() }
    }
}

/// What the rules look at: the plan, the catalogue, and for every node what comes before it.
struct Look<'a> {
    plan: &'a Plan,
    catalog: &'a Catalog,
    faults: &'a [Finding],
    before: BTreeMap<&'a NodeId, BTreeSet<NodeId>>,
}

impl<'a> Look<'a> {
    fn new(plan: &'a Plan, catalog: &'a Catalog, faults: &'a [Finding]) -> Self {
        let direct: BTreeMap<&NodeId, BTreeSet<NodeId>> =
            plan.nodes.iter().map(|(id, node)| (id, node.before_it())).collect();
        let before = plan.nodes.keys().map(|id| (id, everything_before(id, &direct))).collect();
        Self { plan, catalog, faults, before }
    }

    fn nodes(&self) -> impl Iterator<Item = (&'a NodeId, &'a Node)> {
        self.plan.nodes.iter()
    }

    fn node(&self, id: &NodeId) -> Option<&'a Node> {
        self.plan.nodes.get(id)
    }

    fn of(&self, class: Class) -> impl Iterator<Item = (&'a NodeId, &'a Node)> {
        self.nodes().filter(move |(_, node)| node.call.class == class)
    }

    fn on(&self, duty: Duty) -> impl Iterator<Item = (&'a NodeId, &'a Node)> {
        self.nodes().filter(move |(_, node)| node.call.marks.duty == Some(duty))
    }

    fn has(&self, class: Class) -> bool {
        self.of(class).next().is_some()
    }

    fn pivot(&self) -> Option<(&'a NodeId, &'a Node)> {
        self.of(Class::Pivot).next()
    }

    /// Whether `later` begins only after `earlier` has ended.
    fn follows(&self, later: &NodeId, earlier: &NodeId) -> bool {
        self.before.get(later).is_some_and(|before| before.contains(earlier))
    }

    /// The nodes of a class that a node's inputs come from, by references that carry a `T`.
    fn sources<T: Output>(&self, node: &Node, class: Class) -> Vec<&'a NodeId> {
        let wanted = T::type_name();
        references(&node.call.params.0)
            .into_iter()
            .filter(|found| found.carries == wanted)
            .filter_map(|FoundRef { node, .. }| self.plan.nodes.get_key_value(&node))
            .filter(|(_, source)| source.call.class == class)
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether the plan changes who writes.
    fn changes_the_writer(&self) -> bool {
        self.plan.purpose.changes_the_writer() || self.has(Class::Pivot)
    }
}

/// All that comes before a node, over all edges; a node of a cycle comes before itself.
fn everything_before(id: &NodeId, direct: &BTreeMap<&NodeId, BTreeSet<NodeId>>) -> BTreeSet<NodeId> {
    let mut seen = BTreeSet::new();
    let mut open = vec![id];
    while let Some(next) = open.pop() {
        for before in direct.get(next).into_iter().flatten() {
            if seen.insert(before.clone()) {
                open.push(before);
            }
        }
    }
    seen
}

/// All rules, in the order of their numbers.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    form::RULES.iter().chain(may_run())
}

fn may_run() -> impl Iterator<Item = &'static Rule> {
    let mut rules: Vec<&'static Rule> =
        [safety::RULES, holds::RULES, scope::RULES, guards::RULES].into_iter().flatten().collect();
    rules.sort_by_key(|rule| rule.number);
    rules.into_iter()
}

/// The rules as a Markdown table, for the docs.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| rule | name | what must be so | why | what helps |\n|---|---|---|---|---|\n");
    for Rule { number, name, sentence, why, helps, .. } in rules() {
        let _infallible = writeln!(text, "| DR{number} | {name} | {sentence} | {why} | {helps} |");
    }
    text
}

/// Everything that the rules have against a plan. A plan that cannot be read is judged by the rules of form alone: what the
/// others would say about it means nothing.
#[must_use]
pub fn findings(plan: &Plan, catalog: &Catalog) -> Vec<Finding> {
    judge(plan, catalog, &[])
}

fn judge(plan: &Plan, catalog: &Catalog, faults: &[Finding]) -> Vec<Finding> {
    let look = Look::new(plan, catalog, faults);
    let unreadable: Vec<Finding> = form::RULES.iter().flat_map(|rule| apply(rule, &look)).collect();
    if unreadable.is_empty() { may_run().flat_map(|rule| apply(rule, &look)).collect() } else { unreadable }
}

fn apply(rule: &Rule, look: &Look<'_>) -> Vec<Finding> {
    let found = (rule.check)(look).into_iter().map(|Fault { node, what }| Finding {
        rule: rule.number,
        node,
        what,
        why: rule.why.into(),
        helps: rule.helps.into(),
    });
    found.collect()
}

impl Plan {
    /// Holds the plan against every rule. `faults` are those of its making, as [`PlanBuilder::finish`](crate::plan::PlanBuilder::finish)
    /// answers them; a plan that was loaded has none.
    ///
    /// # Errors
    /// A [`Refusal`] with everything that was found; nothing was changed.
    pub fn verify(self, faults: Vec<Finding>, catalog: &Catalog) -> Result<Verified, Refusal> {
        let mut findings = judge(&self, catalog, &faults);
        findings.extend(faults.into_iter().filter(|fault| !form::passed_on(fault)));
        match self.hash() {
            Ok(hash) if findings.is_empty() => return Ok(Verified { plan: Arc::new(self), hash }),
            Err(error) if findings.is_empty() => findings.push(form::no_hash(&error)),
            Ok(_) | Err(_) => {}
        }
        Err(Refusal { subject: self.subject(), findings })
    }

    /// What the plan is about, in a few words: `orders: switchover neu -> weu`.
    #[must_use]
    pub fn subject(&self) -> String {
        let what = self.purpose.word();
        let from = &self.expects.member;
        match &self.to {
            Some(to) => format!("{}: {what} {from} -> {to}", self.group),
            None => format!("{}: {what} {from}", self.group),
        }
    }
}
