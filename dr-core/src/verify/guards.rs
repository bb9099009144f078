//! DR160 to DR169: the checks that make a plan safe are there, and nothing runs past them.

use serde_json::Value;

use super::{Fault, Look, Rule, safety::mutates};
use crate::{Class, Node, NodeId, Purpose, ResourceKind};

pub(super) const RULES: &[Rule] = &[
    Rule {
        number: 160,
        name: "checks-are-there",
        sentence: "A plan that changes the writer has every check that its purpose needs, and holds writes back where the group has an application tier and there is time to",
        why: "a check that was left out guards nothing",
        helps: "use the built-in phases, or add the step",
        check: checks_are_there,
    },
    Rule {
        number: 161,
        name: "checks-come-first",
        sentence: "People are asked only after every check, a failover looks at the silent primary once more after their answer, and every change waits for that",
        why: "a question or a change that does not wait for a check bypasses it",
        helps: "say `after` the check",
        check: checks_come_first,
    },
    Rule {
        number: 162,
        name: "follow-up-is-there",
        sentence: "A promotion is followed by one confirmed writer, the secret and every route of the group, one more write, a rejoin, and a measured loss",
        why: "the run would end with applications on the old primary, without a standby, or without knowing what was lost",
        helps: "use the built-in phases, or add the step",
        check: follow_up_is_there,
    },
    Rule {
        number: 163,
        name: "order-of-the-built-in-steps",
        sentence: "Built-in steps come in the order that gives them their meaning",
        why: "a step that runs too early looks at, or changes, something that is not so yet",
        helps: "use the built-in phases, or say `after`",
        check: order_of_the_built_in_steps,
    },
    Rule {
        number: 164,
        name: "people-are-told",
        sentence: "People are told before writes stop, and again when the loss is measured and every route serves the new writer (D32)",
        why: "somebody would look for the cause of an outage that was planned, or wait for its end",
        helps: "add a notice",
        check: people_are_told,
    },
    Rule {
        number: 165,
        name: "no-check-beside-the-promotion",
        sentence: "Every check comes before or after the promotion, never beside it",
        why: "a check that nothing waits for guards nothing",
        helps: "let the ask or the fence come after the check, or the check after the confirmed writer",
        check: no_check_beside_the_promotion,
    },
];

const PLANNED: &[Purpose] = &[Purpose::Switchover, Purpose::Drill];
const FORCED: &[Purpose] = &[Purpose::Failover];
const BOTH: &[Purpose] = &[Purpose::Switchover, Purpose::Drill, Purpose::Failover];

/// A built-in check that stands before the ask, and the plans that need it.
struct Check {
    kind: &'static str,
    purposes: &'static [Purpose],
}

const CHECKS: &[Check] = &[
    Check { kind: "dr.group-lock", purposes: BOTH },
    Check { kind: "dr.check-sides", purposes: PLANNED },
    Check { kind: "dr.check-replication", purposes: PLANNED },
    Check { kind: "dr.check-lag", purposes: PLANNED },
    Check { kind: "dr.check-transactions", purposes: PLANNED },
    Check { kind: "dr.check-parity", purposes: PLANNED },
    Check { kind: "dr.rehearse", purposes: BOTH },
    Check { kind: SILENCE, purposes: FORCED },
    Check { kind: "dr.check-candidate", purposes: FORCED },
    Check { kind: "dr.bound-loss", purposes: FORCED },
];

/// The check that a failover repeats after the answer.
const SILENCE: &str = "dr.check-primary-down";

/// The rehearsal that every change repeats after the answer.
const REHEARSAL: &str = "dr.rehearse-again";

fn needed(look: &Look<'_>) -> impl Iterator<Item = &'static str> {
    let purpose = look.pivot().map(|_| look.plan.purpose);
    let checks = CHECKS.iter().filter(move |check| purpose.is_some_and(|purpose| check.purposes.contains(&purpose)));
    checks.map(|check| check.kind)
}

fn checks_are_there(look: &Look<'_>) -> Vec<Fault> {
    let missing = needed(look).filter(|kind| look.of_kind(kind).next().is_none());
    let mut found: Vec<Fault> =
        missing.map(|kind| Fault::plan(format!("the plan changes the writer and has no `{kind}`"))).collect();
    if let (Some(to), None) = (&look.plan.to, look.pivot()) {
        found.push(Fault::plan(format!("the plan is to make `{to}` the writer, and nothing in it promotes anybody")));
    }
    if needed(look).next().is_some() && look.of_kind(REHEARSAL).next().is_none() {
        found.push(Fault::plan(format!("the plan changes the writer and has no `{REHEARSAL}`")));
    }
    let app = look.plan.bindings.values().any(|bound| bound.kind == ResourceKind::App);
    let planned = look.pivot().is_some() && PLANNED.contains(&look.plan.purpose);
    if app && planned && !look.has(Class::Drain) {
        found.push(Fault::plan("the group has an application tier, and the plan does not drain it"));
    }
    found
}

fn checks_come_first(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((pivot, _)) = look.pivot() else { return found };
    for kind in needed(look).filter(|kind| look.of_kind(kind).next().is_some()) {
        for (ask, _) in look.of(Class::Consent) {
            if !look.of_kind(kind).any(|(check, _)| look.follows(ask, check)) {
                found.push(Fault::at(ask, format!("`{ask}` does not wait for a `{kind}`")));
            }
        }
    }
    if look.plan.purpose != Purpose::Failover {
        return found;
    }
    let again = |id: &NodeId| look.of(Class::Consent).all(|(ask, _)| look.follows(id, ask));
    let checked = |id: &NodeId| look.of_kind(SILENCE).any(|(check, _)| again(check) && look.follows(id, check));
    let changes = look.nodes().filter(|(id, node)| mutates(node) && (*id == pivot || look.follows(pivot, id)));
    for (id, _) in changes.filter(|(id, _)| !checked(id)) {
        found.push(Fault::at(id, format!("`{id}` does not wait for a `{SILENCE}` after the ask")));
    }
    found
}

fn follow_up_is_there(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((pivot, _)) = look.pivot() else { return found };
    let mut missing = |what: String| found.push(Fault::at(pivot, format!("`{pivot}` is followed by no {what}")));
    if !look.has(Class::ConfirmWriter) {
        missing("step that confirms the writer".into());
    }
    for (name, bound) in &look.plan.bindings {
        let touched =
            |class| look.of(class).any(|(_, node)| node.call.touches.iter().any(|touch| touch.resource == *name));
        let sampled = || look.of_kind("dr.verify-serving").any(|(_, node)| route(node) == Some(name));
        match bound.kind {
            ResourceKind::Secret if !touched(Class::Secret) => {
                missing(format!("step that points `{name}` at the writer"))
            }
            ResourceKind::Traffic if !touched(Class::Traffic) => missing(format!("step that shifts `{name}`")),
            ResourceKind::Traffic if !sampled() => missing(format!("look at what `{name}` serves")),
            ResourceKind::Database
            | ResourceKind::Secret
            | ResourceKind::Traffic
            | ResourceKind::App
            | ResourceKind::Custom => {}
        }
    }
    if look.of_kind("dr.check-writer").next().is_none() {
        missing("`dr.check-writer`".into());
    }
    if look.of_kind("dr.measure-loss").next().is_none() {
        missing("`dr.measure-loss`".into());
    }
    if !look.has(Class::Rejoin) && look.of_kind("dr.await-rejoined").next().is_none() {
        missing("rejoin of the former primary".into());
    }
    let fenced = look.of(Class::Fence).any(|(fence, _)| look.follows(pivot, fence));
    if fenced && !look.has(Class::RetireFence) {
        missing("step that retires the fence".into());
    }
    found
}

fn route(node: &Node) -> Option<&str> {
    node.call.params.0.get("route").and_then(Value::as_str)
}

/// Which steps a line of the order speaks of.
#[derive(Clone, Copy)]
enum Those {
    Kind(&'static str),
    Class(Class),
    /// Of a class, and only before the promotion.
    Before(Class),
    /// Of a kind, and only before the promotion.
    BeforeKind(&'static str),
    /// Of a kind, and only after the promotion.
    AfterKind(&'static str),
    /// Of a class, and only after the promotion.
    After(Class),
}

impl Those {
    fn find<'a>(self, look: &Look<'a>) -> Vec<&'a NodeId> {
        let pivot = look.pivot().map(|(id, _)| id);
        let before = |id: &NodeId| pivot.is_some_and(|pivot| look.follows(pivot, id));
        let after = |id: &NodeId| pivot.is_some_and(|pivot| look.follows(id, pivot));
        let ids = |found: Vec<(&'a NodeId, &'a Node)>| found.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        match self {
            Self::Kind(kind) => ids(look.of_kind(kind).collect()),
            Self::Class(class) => ids(look.of(class).collect()),
            Self::Before(class) => ids(look.of(class).filter(|(id, _)| before(id)).collect()),
            Self::BeforeKind(kind) => ids(look.of_kind(kind).filter(|(id, _)| before(id)).collect()),
            Self::AfterKind(kind) => ids(look.of_kind(kind).filter(|(id, _)| after(id)).collect()),
            Self::After(class) => ids(look.of(class).filter(|(id, _)| after(id)).collect()),
        }
    }
}

/// Which steps come after which, and why: all of the first after all of the second.
const ORDER: &[(Those, Those, &str)] = {
    use Those::{After, AfterKind, Before, BeforeKind, Class as Of, Kind};
    &[
        (Kind("dr.check-sides"), Kind("dr.group-lock"), "another orchestrator may change what it sees"),
        (Kind("dr.check-replication"), Kind("dr.check-sides"), "it may look at the wrong member"),
        (Kind("dr.check-lag"), Kind("dr.check-sides"), "it may look at the wrong member"),
        (Kind("dr.check-transactions"), Kind("dr.check-sides"), "it may look at the wrong member"),
        (Kind("dr.check-parity"), Kind("dr.check-sides"), "it may look at the wrong member"),
        (Kind("dr.rehearse"), Kind("dr.check-sides"), "it may rehearse with the wrong member"),
        (Kind("dr.rehearse"), Kind("dr.check-candidate"), "it may rehearse with the wrong member"),
        (Kind(REHEARSAL), Of(Class::Consent), "what changes while people think would not be found"),
        (Of(Class::Drain), Kind(REHEARSAL), "an obstacle would be found while writes are held back"),
        (Before(Class::Fence), Kind(REHEARSAL), "an obstacle would be found while writes are held back"),
        (Of(Class::Pivot), Kind(REHEARSAL), "an obstacle would be found when there is no way back"),
        (Kind(SILENCE), Kind("dr.group-lock"), "another orchestrator may change what it sees"),
        (Kind("dr.check-candidate"), Kind("dr.group-lock"), "another orchestrator may change what it sees"),
        (Kind("dr.bound-loss"), Kind("dr.check-candidate"), "it may bound the loss of the wrong member"),
        (Kind("dr.notify"), Of(Class::Consent), "people would be told of a change that nobody agreed to"),
        (Kind("dr.settle"), BeforeKind("dr.final-snapshot"), "a long snapshot makes the checkpoint old again"),
        (Of(Class::Drain), Kind("dr.settle"), "a checkpoint would lengthen the gap"),
        (Before(Class::Fence), Of(Class::Drain), "clients would see errors instead of waiting"),
        (Before(Class::Fence), Kind("dr.settle"), "a checkpoint would lengthen the gap"),
        (Kind("dr.quiesced"), Of(Class::Drain), "writes go on"),
        (Kind("dr.check-writer"), Of(Class::Secret), "a slow secret would come after the last look"),
        (Kind("dr.check-writer"), Of(Class::Traffic), "a slow route would come after the last look"),
        (Kind("dr.check-writer"), Kind("dr.warm-up"), "applications would meet a cold writer"),
        (
            Of(Class::Resume),
            Kind("dr.check-writer"),
            "applications would be sent to a writer that was not looked at again",
        ),
        (Kind("dr.nothing-to-resume"), Kind("dr.check-writer"), "writes would count as open too early"),
        (Kind("dr.verify-serving"), Kind("dr.check-writer"), "it would see what was served before"),
        (Kind("dr.measure-loss"), Kind("dr.check-writer"), "it would slow the writer down while clients wait"),
        (After(Class::Rejoin), Kind("dr.check-writer"), "it would slow the writer down while clients wait"),
        (Kind("dr.await-rejoined"), Kind("dr.check-writer"), "it would slow the writer down while clients wait"),
        (AfterKind("dr.final-snapshot"), Kind("dr.check-writer"), "it would slow the writer down while clients wait"),
        (Kind("dr.verify-serving"), Of(Class::Resume), "nothing is served yet"),
        (Kind("dr.measure-loss"), Of(Class::Resume), "it would slow the writer down while clients wait"),
        (After(Class::Rejoin), Of(Class::Resume), "it would slow the writer down while clients wait"),
        (Kind("dr.await-rejoined"), Of(Class::Resume), "it would slow the writer down while clients wait"),
        (AfterKind("dr.final-snapshot"), Of(Class::Resume), "it would slow the writer down while clients wait"),
        (
            After(Class::Rejoin),
            After(Class::Fence),
            "the former primary is to be fenced before anything else is done to it",
        ),
        (Kind("dr.await-rejoined"), After(Class::Fence), "the former primary is to be fenced before anything else"),
        (
            AfterKind("dr.final-snapshot"),
            After(Class::Fence),
            "the former primary is to be fenced before anything else",
        ),
        (After(Class::Rejoin), AfterKind("dr.final-snapshot"), "a rejoin may destroy what only the former primary has"),
        (Kind("dr.await-rejoined"), AfterKind("dr.final-snapshot"), "the snapshot would be that of a standby"),
    ]
};

fn order_of_the_built_in_steps(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (later, earlier, why) in ORDER {
        for id in later.find(look) {
            for first in earlier.find(look).into_iter().filter(|first| *first != id && !look.follows(id, first)) {
                found.push(Fault::at(id, format!("`{id}` does not wait for `{first}`: {why}")));
            }
        }
    }
    found
}

fn people_are_told(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((pivot, _)) = look.pivot() else { return found };
    let notices: Vec<&NodeId> = look.of_kind("dr.notify").map(|(id, _)| id).collect();
    let stops = look.nodes().filter(|(_, node)| node.call.class.stops_writes());
    for (id, _) in stops.filter(|(id, _)| *id == pivot || look.follows(pivot, id)) {
        if !notices.iter().any(|notice| look.follows(id, notice)) {
            found.push(Fault::at(id, format!("`{id}` stops writes, and nobody is told before")));
        }
    }
    let ends: Vec<&NodeId> =
        look.of_kind("dr.measure-loss").chain(look.of_kind("dr.verify-serving")).map(|(id, _)| id).collect();
    if !notices.iter().any(|notice| look.follows(notice, pivot) && ends.iter().all(|end| look.follows(notice, end))) {
        let ends = ends.iter().map(|end| end.as_str()).collect::<Vec<_>>().join("`, `");
        found.push(Fault::plan(format!("nobody is told when `{ends}` have ended")));
    }
    found
}

fn no_check_beside_the_promotion(look: &Look<'_>) -> Vec<Fault> {
    let Some((pivot, _)) = look.pivot() else { return Vec::new() };
    look.of(Class::Guard)
        .filter(|(id, _)| !look.follows(id, pivot) && !look.follows(pivot, id))
        .map(|(id, _)| Fault::at(id, format!("`{id}` may look while `{pivot}` is under way, or too late")))
        .collect()
}
