//! DR101 to DR119: a plan can be read, and says of itself what its data say.

use std::collections::BTreeSet;

use super::{Fault, Look, Rule};
use crate::{
    base::{CanonicalError, Finding, NodeId},
    plan::{Call, PLAN_FORMAT, RULES_VERSION, literals, references},
};

/// How the names of this library's own step kinds begin.
const SHIPPED: &str = "dr.";

pub(super) const RULES: &[Rule] = &[
    Rule {
        number: 101,
        name: "unique-names",
        sentence: "No two steps have the same name",
        why: "references would be ambiguous",
        helps: "give one of them another name",
        check: unique_names,
    },
    Rule {
        number: 102,
        name: "canonical",
        sentence: "Every step can be written canonically",
        why: "the plan's hash would not mean the same everywhere, and people approve the hash",
        helps: "use the type that the message names",
        check: canonical,
    },
    Rule {
        number: 103,
        name: "known-kinds",
        sentence: "Every step kind, by name and version, is in the catalogue",
        why: "a run that cannot do its steps would park half-way",
        helps: "register the handler of this kind, or make the plan again with this engine",
        check: known_kinds,
    },
    Rule {
        number: 104,
        name: "says-what-it-is",
        sentence: "Class, effect, output, sentence, touches and marks of every step are those that its kind derives from its data",
        why: "people approve the words and the rules judge the class; both must be those of what will run",
        helps: "make the plan again instead of editing it",
        check: says_what_it_is,
    },
    Rule {
        number: 105,
        name: "known-references",
        sentence: "Every reference names a step of the plan",
        why: "the input would never be filled",
        helps: "refer to a step that the plan has",
        check: known_references,
    },
    Rule {
        number: 106,
        name: "reference-types",
        sentence: "Every reference carries what the step it names leaves behind; one that may fail leaves only an attempt",
        why: "a receipt of another kind, or one that may be missing, would reach a step that relies on it",
        helps: "refer to a step that leaves this behind and stops the run when it fails",
        check: reference_types,
    },
    Rule {
        number: 107,
        name: "no-cycle",
        sentence: "No step comes after itself",
        why: "none of them would ever begin",
        helps: "drop one of the edges",
        check: no_cycle,
    },
    Rule {
        number: 108,
        name: "known-edges",
        sentence: "Every edge names a step of the plan",
        why: "the step would wait for nothing, and a check that was meant to come first would not",
        helps: "name a step that the plan has",
        check: known_edges,
    },
    Rule {
        number: 109,
        name: "references-only",
        sentence: "The parameters of every step are those of its kind, and each input is a reference, never a value",
        why: "a receipt written by hand proves nothing",
        helps: "write {\"$ref\": \"<step>\"} and let the run fill it",
        check: references_only,
    },
    Rule {
        number: 110,
        name: "versions",
        sentence: "Plan format and rules version are the ones that this engine knows",
        why: "an unknown version may mean something else",
        helps: "make the plan again with this engine",
        check: versions,
    },
    Rule {
        number: 111,
        name: "order",
        sentence: "The order for people lists every step once, and nothing else",
        why: "the preview would hide a step, or show one that does not run",
        helps: "make the plan again instead of editing it",
        check: order,
    },
    Rule {
        number: 112,
        name: "reserved-classes",
        sentence: "Only kinds of this library fence, promote, confirm, ask, drain or steer, or have a duty; others are guards, harmless, topology, destroying or other",
        why: "the safety rules trust these classes",
        helps: "use the built-in step, or another class",
        check: reserved_classes,
    },
    Rule {
        number: 113,
        name: "usable-names",
        sentence: "A step's name is not empty and does not end in `.undo`",
        why: "that name stands for the give-back of what a step holds",
        helps: "choose another name",
        check: usable_names,
    },
    Rule {
        number: 114,
        name: "holds-name-steps",
        sentence: "Every hold is taken by a step of the plan and given back by another one",
        why: "it would never be taken, or never be given back",
        helps: "use `hold` and `release`, which keep both together",
        check: holds_name_steps,
    },
];

pub(super) fn no_hash(error: &CanonicalError) -> Finding {
    Finding {
        rule: 102,
        node: None,
        what: format!("the plan cannot be written canonically: {error}"),
        why: "the plan's hash would not mean the same everywhere, and people approve the hash".into(),
        helps: "use the type that it names".into(),
    }
}

/// Whether a fault of a plan's making is among those that DR101 and DR102 pass on.
pub(super) fn passed_on(fault: &Finding) -> bool {
    fault.rule == 101 || fault.rule == 102
}

fn made(look: &Look<'_>, rule: u16) -> Vec<Fault> {
    let found = look.faults.iter().filter(|finding| finding.rule == rule);
    found.map(|finding| Fault { node: finding.node.clone(), what: finding.what.clone() }).collect()
}

fn unique_names(look: &Look<'_>) -> Vec<Fault> {
    made(look, 101)
}

fn canonical(look: &Look<'_>) -> Vec<Fault> {
    let mut found = made(look, 102);
    if found.is_empty()
        && let Err(error) = look.plan.canonical()
    {
        found.push(Fault::plan(format!("the plan cannot be written canonically: {error}")));
    }
    found
}

/// Every call of the plan: the steps by their names, the undos by the names they run under.
fn calls<'a>(look: &Look<'a>) -> impl Iterator<Item = (NodeId, &'a Call)> {
    let nodes = look.plan.nodes.iter().map(|(id, node)| (id.clone(), &node.call));
    nodes.chain(look.plan.holds.iter().map(|(id, hold)| (id.undo(), &hold.undo)))
}

fn known_kinds(look: &Look<'_>) -> Vec<Fault> {
    calls(look)
        .filter(|(_, call)| look.catalog.declared(&call.kind).is_none())
        .map(|(id, call)| Fault::at(&id, format!("`{id}` is a `{}`, which the catalogue does not have", call.kind)))
        .collect()
}

fn says_what_it_is(look: &Look<'_>) -> Vec<Fault> {
    calls(look)
        .filter_map(|(id, call)| {
            let lies = lies(look, call);
            (!lies.is_empty()).then(|| Fault::at(&id, format!("`{id}` says {}", lies.join(", "))))
        })
        .collect()
}

fn lies(look: &Look<'_>, call: &Call) -> Vec<String> {
    let mut lies = Vec::new();
    let Some(declared) = look.catalog.declared(&call.kind) else { return lies };
    let mut differs = |what: &str, says: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
        lies.push(format!("{what} {says:?} where its kind has {is:?}"));
    };
    if call.class != declared.class {
        differs("class", &call.class, &declared.class);
    }
    if call.effect != declared.effect {
        differs("effect", &call.effect, &declared.effect);
    }
    if call.output != declared.output {
        differs("output", &call.output, &declared.output);
    }
    if let Ok(derived) = look.catalog.derive(call) {
        if call.sentence != derived.sentence {
            differs("sentence", &call.sentence, &derived.sentence);
        }
        if call.touches != derived.touches {
            differs("touches", &call.touches, &derived.touches);
        }
        if call.marks != derived.marks {
            differs("marks", &call.marks, &derived.marks);
        }
    }
    lies
}

fn known_references(look: &Look<'_>) -> Vec<Fault> {
    look.nodes()
        .flat_map(|(id, node)| references(&node.call.params.0).into_iter().map(move |found| (id, found)))
        .filter(|(_, found)| look.node(&found.node).is_none())
        .map(|(id, found)| {
            Fault::at(id, format!("`{id}` takes `{}` from `{}`, which the plan does not have", found.path, found.node))
        })
        .collect()
}

fn reference_types(look: &Look<'_>) -> Vec<Fault> {
    look.nodes()
        .flat_map(|(id, node)| references(&node.call.params.0).into_iter().map(move |found| (id, found)))
        .filter_map(|(id, found)| {
            let leaves = look.node(&found.node)?.leaves();
            (leaves != found.carries).then(|| {
                let (path, node, wanted) = (&found.path, &found.node, &found.carries);
                Fault::at(id, format!("`{id}` wants a `{wanted}` for `{path}`, but `{node}` leaves a `{leaves}`"))
            })
        })
        .collect()
}

fn no_cycle(look: &Look<'_>) -> Vec<Fault> {
    let round: Vec<String> =
        look.before.iter().filter(|(id, before)| before.contains(**id)).map(|(id, _)| format!("`{id}`")).collect();
    if round.is_empty() { Vec::new() } else { vec![Fault::plan(format!("{} come after themselves", round.join(", ")))] }
}

fn known_edges(look: &Look<'_>) -> Vec<Fault> {
    look.nodes()
        .flat_map(|(id, node)| node.after.iter().map(move |after| (id, after)))
        .filter(|(_, after)| look.node(after).is_none())
        .map(|(id, after)| Fault::at(id, format!("`{id}` comes after `{after}`, which the plan does not have")))
        .collect()
}

fn references_only(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let unwritten = |id: &NodeId| {
        look.faults.iter().any(|fault| fault.rule == 102 && fault.node == id.undone().or_else(|| Some(id.clone())))
    };
    for (id, call) in calls(look) {
        let literals = literals(&call.params.0);
        if !literals.is_empty() {
            let fields = literals.join("`, `");
            found.push(Fault::at(
                &id,
                format!("`{id}` brings a value for `{fields}`, where only a reference may stand"),
            ));
        } else if look.catalog.declared(&call.kind).is_some()
            && !unwritten(&id)
            && let Err(words) = look.catalog.derive(call)
        {
            found.push(Fault::at(&id, format!("`{id}` cannot be read: {words}")));
        }
    }
    found
}

fn versions(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    if look.plan.format != PLAN_FORMAT {
        found.push(Fault::plan(format!("the plan has format {}, known is {PLAN_FORMAT}", look.plan.format)));
    }
    if look.plan.rules != RULES_VERSION {
        found.push(Fault::plan(format!("the plan was made for rules {}, these are {RULES_VERSION}", look.plan.rules)));
    }
    found
}

fn order(look: &Look<'_>) -> Vec<Fault> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for id in &look.plan.order {
        if look.node(id).is_none() {
            found.push(Fault::at(id, format!("the order lists `{id}`, which the plan does not have")));
        } else if !seen.insert(id) {
            found.push(Fault::at(id, format!("the order lists `{id}` twice")));
        }
    }
    let missing = look.plan.nodes.keys().filter(|id| !seen.contains(id));
    found.extend(missing.map(|id| Fault::at(id, format!("the order does not list `{id}`"))));
    found
}

fn reserved_classes(look: &Look<'_>) -> Vec<Fault> {
    calls(look)
        .filter(|(_, call)| !call.kind.name().starts_with(SHIPPED))
        .flat_map(|(id, call)| {
            let class = call.class.reserved().then(|| format!("the class {:?}", call.class));
            let claims = class.into_iter().chain(call.marks.duty.map(|duty| format!("the duty {duty:?}")));
            let fault = move |claim| Fault::at(&id, format!("`{id}` is a `{}` and claims {claim}", call.kind));
            claims.map(fault).collect::<Vec<_>>()
        })
        .collect()
}

fn usable_names(look: &Look<'_>) -> Vec<Fault> {
    look.plan
        .nodes
        .keys()
        .filter(|id| id.as_str().is_empty() || id.undone().is_some())
        .map(|id| Fault::at(id, format!("a step is called `{id}`")))
        .collect()
}

fn holds_name_steps(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, hold) in &look.plan.holds {
        if look.node(id).is_none() {
            found.push(Fault::at(id, format!("something is held by `{id}`, which the plan does not have")));
        }
        if let Some(by) = hold.released_by.as_ref().filter(|by| look.node(by).is_none() || *by == id) {
            found.push(Fault::at(id, format!("what `{id}` holds is given back by `{by}`, which is no other step")));
        }
    }
    found
}
