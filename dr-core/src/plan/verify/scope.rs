//! DR150 to DR189: what a plan may touch at all, and what may fail.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{Fault, Look, Rule, safety::mutates};
use crate::{
    base::NodeId,
    contract::{
        Binding, CatchUpReceipt, Class, Consent, FenceReceipt, Loss, LossBound, PromotionReceipt, QuiesceReceipt,
        ResourceKind, ResourceRef, Target, Touch, Verb, WriterReceipt, verb,
    },
    plan::{Call, Node, OnFailure, Output, Purpose, references},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        number: 150,
        name: "standby-without-traffic",
        sentence: "A standby plan changes no secret and no traffic, and promotes nothing (C10)",
        why: "making a standby must not move anybody",
        helps: "make a switchover plan afterwards",
        check: standby_without_traffic,
    },
    Rule {
        number: 151,
        name: "drill-outside-production",
        sentence: "A drill names no resource of a production environment (O02)",
        why: "a rehearsal must not be able to touch production",
        helps: "drill on a group of its own",
        check: drill_outside_production,
    },
    Rule {
        number: 152,
        name: "destroy-stands-alone",
        sentence: "What destroys stands in a destroy plan with nothing else that changes anything, each with a consent of its own (C29, E17)",
        why: "nobody must destroy by agreeing to something else",
        helps: "make a destroy plan",
        check: destroy_stands_alone,
    },
    Rule {
        number: 153,
        name: "no-topology",
        sentence: "A plan that changes the writer has no topology step (A03)",
        why: "topology belongs to infrastructure code",
        helps: "change it there, before or after",
        check: no_topology,
    },
    Rule {
        number: 154,
        name: "loss-is-named",
        sentence: "A switchover loses nothing, and every plan says what it may lose",
        why: "a planned change that may lose acknowledged writes is a failover and must be agreed to as one",
        helps: "plan a failover",
        check: loss_is_named,
    },
    Rule {
        number: 155,
        name: "writer-stays",
        sentence: "A redirect and a hygiene plan promote nobody and hold no writes back; a redirect fences nobody",
        why: "people agreed that applications move, and not that the writer changes",
        helps: "make a switchover plan",
        check: writer_stays,
    },
    Rule {
        number: 171,
        name: "touches-are-allowed",
        sentence: "Every touch names a binding of the plan with a verb that such a thing has, or stands in the group's allow-list (A01, E11)",
        why: "nothing outside what people were shown may be touched",
        helps: "add `<resource> <verb>` to `allow` in the group file",
        check: touches_are_allowed,
    },
    Rule {
        number: 172,
        name: "writer-is-bound",
        sentence: "The writer that the plan expects is bound, as a database, to the resource that it expects",
        why: "another resource of the same name would be fenced",
        helps: "make the plan again",
        check: writer_is_bound,
    },
    Rule {
        number: 173,
        name: "promotes-the-target",
        sentence: "Of the members, a promotion touches the plan's target, a swap the target and the writer that it demotes, and nothing else; the target is bound as a database and is not the writer",
        why: "another member than the one that was agreed to would become the writer",
        helps: "make the plan again with the target that is meant",
        check: promotes_the_target,
    },
    Rule {
        number: 174,
        name: "names-what-is-bound",
        sentence: "Every member that a step names with its resource and lineage is bound to that resource, on the lineage that the plan has for that member; the expected writer, and the member that is to become the writer, are on the lineage of the expected writer, or the latter is a logical copy that is fed from it",
        why: "the step would work on another resource than the one that people were shown",
        helps: "make the plan again",
        check: names_what_is_bound,
    },
    Rule {
        number: 175,
        name: "verbs-belong-to-classes",
        sentence: "Verbs that fence, promote, rejoin, steer or drain are used only by steps of the class that the rules know for it",
        why: "a step of another class would pass by the rules that guard the verb",
        helps: "use the built-in step",
        check: verbs_belong_to_classes,
    },
    Rule {
        number: 180,
        name: "no-debt-before-danger",
        sentence: "A step that others rely on for their safety stops the run when it fails, and none of them takes an input that may be missing; after the promotion of a failover only a fence that it owes may be attempted, and a secret in the region of the silent writer, if another one in the region of the new writer is not",
        why: "the run would go on without its proof",
        helps: "use `add` or `hold` instead of `attempt`",
        check: no_debt_before_danger,
    },
];

fn standby_without_traffic(look: &Look<'_>) -> Vec<Fault> {
    if look.plan.purpose != Purpose::Standby {
        return Vec::new();
    }
    let moves = |call: &Call| {
        let class = call.class.opens_traffic() || call.class == Class::Pivot;
        class
            || call.touches.iter().any(|touch| {
                look.plan
                    .bindings
                    .get(&touch.resource)
                    .is_some_and(|bound| matches!(bound.kind, ResourceKind::Secret | ResourceKind::Traffic))
            })
    };
    let nodes = look.nodes().filter(|(_, node)| moves(&node.call)).map(|(id, _)| id);
    nodes.map(|id| Fault::at(id, format!("`{id}` changes who writes or where traffic goes"))).collect()
}

fn drill_outside_production(look: &Look<'_>) -> Vec<Fault> {
    let environment = look.plan.environment.to_lowercase();
    let production = environment.starts_with("prod") || environment == "prd" || environment == "live";
    if look.plan.purpose == Purpose::Drill && production {
        vec![Fault::plan(format!("the drill's group `{}` is in `{}`", look.plan.group, look.plan.environment))]
    } else {
        Vec::new()
    }
}

fn destroy_stands_alone(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, node) in look.of(Class::Destroy) {
        if look.plan.purpose != Purpose::Destroy {
            found.push(Fault::at(id, format!("`{id}` destroys something in a plan that is for something else")));
        } else if look.sources::<Consent>(node, Class::Consent).is_empty() {
            found.push(Fault::at(id, format!("`{id}` takes no consent of its own")));
        }
    }
    if look.plan.purpose == Purpose::Destroy {
        let others = look.nodes().filter(|(_, node)| mutates(node) && node.call.class != Class::Destroy);
        found.extend(others.map(|(id, _)| Fault::at(id, format!("`{id}` changes something else in a destroy plan"))));
    }
    found
}

fn no_topology(look: &Look<'_>) -> Vec<Fault> {
    if !look.changes_the_writer() {
        return Vec::new();
    }
    look.of(Class::Topology).map(|(id, _)| Fault::at(id, format!("`{id}` changes topology"))).collect()
}

fn writer_stays(look: &Look<'_>) -> Vec<Fault> {
    if !look.plan.purpose.keeps_the_writer() {
        return Vec::new();
    }
    let redirect = look.plan.purpose == Purpose::Redirect;
    let changes = |class| matches!(class, Class::Pivot | Class::Drain) || (redirect && class == Class::Fence);
    let nodes = look.nodes().filter(|(_, node)| changes(node.call.class));
    let mut found: Vec<Fault> =
        nodes.map(|(id, _)| Fault::at(id, format!("`{id}` stops writes in a {} plan", look.plan.purpose))).collect();
    if let Some(to) = &look.plan.to {
        found.push(Fault::plan(format!("the plan is to make `{to}` the writer in a {} plan", look.plan.purpose)));
    }
    found
}

fn loss_is_named(look: &Look<'_>) -> Vec<Fault> {
    if look.plan.purpose == Purpose::Failover || look.plan.loss == Loss::Nothing {
        return Vec::new();
    }
    vec![Fault::plan(format!("the plan may lose {}", look.plan.loss))]
}

fn touches_are_allowed(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, touch) in touched(look) {
        let bound = look.plan.bindings.get(&touch.resource);
        let built_in = bound
            .is_some_and(|bound| verb::find(bound.kind, &touch.verb).is_some() || verb::follows(bound.kind, touch));
        if !built_in && !look.plan.allow.contains(touch) {
            found.push(Fault::at(&id, format!("`{id}` touches `{touch}`, which the group does not allow")));
        }
    }
    found
}

fn touched<'a>(look: &Look<'a>) -> impl Iterator<Item = (NodeId, &'a Touch)> {
    every_call(look).flat_map(|(id, call)| call.touches.iter().map(move |touch| (id.clone(), touch)))
}

fn every_call<'a>(look: &Look<'a>) -> impl Iterator<Item = (NodeId, &'a Call)> {
    let nodes = look.plan.nodes.iter().map(|(id, node)| (id.clone(), &node.call));
    nodes.chain(look.plan.holds.iter().map(|(id, hold)| (id.undo(), &hold.undo)))
}

fn writer_is_bound(look: &Look<'_>) -> Vec<Fault> {
    let expects = &look.plan.expects;
    match look.plan.bindings.get(&Binding::from(&expects.member)) {
        None => vec![Fault::plan(format!("`{}` is bound to nothing", expects.member))],
        Some(bound) if bound.kind != ResourceKind::Database || !binds(bound, expects) => {
            let what = format!("`{}` is bound to {}, expected is {expects}", expects.member, resource(bound));
            vec![Fault::plan(what)]
        }
        Some(_) => Vec::new(),
    }
}

fn promotes_the_target(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, pivot) in look.of(Class::Pivot) {
        let Some(to) = &look.plan.to else {
            found.push(Fault::at(id, format!("`{id}` promotes, and the plan names no target")));
            continue;
        };
        let bound = look.plan.bindings.get(&Binding::from(to));
        if *to == look.plan.expects.member {
            found.push(Fault::at(id, format!("`{id}` promotes `{to}`, which is the writer already")));
        } else if bound.is_none_or(|bound| bound.kind != ResourceKind::Database) {
            found.push(Fault::at(id, format!("the target `{to}` is not bound to a database")));
        }
        found.extend(touches_others(look, id, &pivot.call, to));
    }
    found
}

/// What a promotion or swap touches beside the members between which the writer changes. What follows a swap is no member.
fn touches_others(look: &Look<'_>, id: &NodeId, call: &Call, to: &crate::base::MemberId) -> Option<Fault> {
    let follows = |touch: &&Touch| {
        let kind = look.plan.bindings.get(&touch.resource).map(|bound| bound.kind);
        kind.is_some_and(|kind| verb::follows(kind, touch))
    };
    let members: BTreeSet<&Touch> = call.touches.iter().filter(|touch| !follows(touch)).collect();
    let swap = [verb::SWAP_ROLES.on(to), verb::SWAP_ROLES.on(&look.plan.expects.member)];
    let right = if call.touches.iter().any(|touch| verb::SWAP_ROLES.is(touch)) {
        members == swap.iter().collect::<BTreeSet<_>>()
    } else {
        members.iter().map(|touch| &touch.resource).eq([&Binding::from(to)])
    };
    let all = call.touches.iter().map(|touch| touch.resource.to_string()).collect::<Vec<_>>().join("`, `");
    (!right).then(|| Fault::at(id, format!("`{id}` touches `{all}`, the plan's target is `{to}`")))
}

fn names_what_is_bound(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, call) in every_call(look) {
        for target in targets(&call.params.0) {
            let bound = look.plan.bindings.get(&Binding::from(&target.member));
            if bound.is_none_or(|bound| bound.kind != ResourceKind::Database || !binds(bound, &target)) {
                found.push(Fault::at(&id, format!("`{id}` names {target}, which is not what the plan binds")));
            } else if look.plan.lineages.get(&target.member) != Some(&target.lineage) {
                let expected = look.plan.lineages.get(&target.member);
                let expected = expected.map_or_else(|| "not known".to_owned(), ToString::to_string);
                found.push(Fault::at(&id, format!("`{id}` names {target}, its lineage in the plan is {expected}")));
            } else if look.plan.receives.get(&target.member) != target.receives.as_ref() {
                let fed = look.plan.receives.get(&target.member);
                let fed = fed.map_or_else(|| "no logical copy".to_owned(), |fed| format!("a logical copy of {fed}"));
                found.push(Fault::at(&id, format!("`{id}` names {target}, in the plan it is {fed}")));
            }
        }
    }
    let of_the_writer = std::iter::once(&look.plan.expects.member).chain(&look.plan.to);
    for member in of_the_writer {
        let expected = &look.plan.expects.lineage;
        let fed = look.plan.receives.get(member).filter(|_| *member != look.plan.expects.member);
        let found_on = fed.or_else(|| look.plan.lineages.get(member));
        if let Some(lineage) = found_on.filter(|lineage| *lineage != expected) {
            found.push(Fault::plan(format!("`{member}` is on lineage {lineage}, the expected writer's is {expected}")));
        }
    }
    found
}

/// Whether a binding is to the resource that a target means: the same address, and the same identity, if only that both know none.
fn binds(bound: &ResourceRef, target: &Target) -> bool {
    bound.address == target.address && bound.identity == target.identity
}

fn resource(bound: &ResourceRef) -> String {
    match &bound.identity {
        Some(identity) => format!("{}, identity {identity}", bound.address),
        None => bound.address.to_string(),
    }
}

/// All members that parameters name with resource and lineage.
fn targets(params: &Value) -> Vec<Target> {
    match params {
        Value::Object(map) => match Target::deserialize(params) {
            Ok(target) => vec![target],
            Err(_) => map.values().flat_map(targets).collect(),
        },
        Value::Array(items) => items.iter().flat_map(targets).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn verbs_belong_to_classes(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, call) in every_call(look) {
        let verb = |touch: &Touch| verb::find(look.plan.bindings.get(&touch.resource)?.kind, &touch.verb);
        for touch in &call.touches {
            let kind = look.plan.bindings.get(&touch.resource).map(|bound| bound.kind);
            let follows = kind.is_some_and(|kind| verb::follows(kind, touch));
            let wanted = if follows { Some(Class::Pivot) } else { verb(touch).and_then(Verb::class) };
            if wanted.is_some_and(|wanted| wanted != call.class) {
                let class = call.class;
                found.push(Fault::at(&id, format!("`{id}` is a step of class {class:?} and touches `{touch}`")));
            }
        }
    }
    found
}

/// Whether a step of a failover points a secret in the region of the expected writer, and another step that must succeed points one in the
/// region of the target.
fn secret_is_dark(look: &Look<'_>, node: &Node) -> bool {
    let region = |name: &Binding| look.plan.bindings.get(name).and_then(|bound| bound.region.as_ref());
    let of = |node: &Node| node.call.touches.iter().find_map(|touch| region(&touch.resource));
    let dark = region(&Binding::from(&look.plan.expects.member));
    let lit = look.plan.to.as_ref().and_then(|to| region(&Binding::from(to)));
    let held = |other: &Node| !matches!(other.on_failure, OnFailure::Debt { .. }) && lit.is_some() && of(other) == lit;
    look.plan.purpose == Purpose::Failover
        && dark.is_some()
        && dark != lit
        && of(node) == dark
        && look.of(Class::Secret).any(|(_, other)| held(other))
}

fn no_debt_before_danger(look: &Look<'_>) -> Vec<Fault> {
    let receipts = [
        FenceReceipt::type_name(),
        CatchUpReceipt::type_name(),
        QuiesceReceipt::type_name(),
        PromotionReceipt::type_name(),
        WriterReceipt::type_name(),
        Consent::type_name(),
        LossBound::type_name(),
    ];
    let mut found = Vec::new();
    for (id, node) in look.nodes() {
        let class = node.call.class;
        let behind = look.pivot().is_some_and(|(pivot, _)| look.follows(id, pivot));
        let owed = behind && (class == Class::Fence || (class == Class::Secret && secret_is_dark(look, node)));
        let debt = matches!(node.on_failure, OnFailure::Debt { .. }) && !owed;
        if debt && (class.relied_upon() || receipts.iter().any(|receipt| *receipt == node.call.output)) {
            found.push(Fault::at(id, format!("`{id}` may fail and be owed, but others rely on it")));
        }
        let missing =
            references(&node.call.params.0).into_iter().filter(|input| input.carries.starts_with("attempted "));
        for input in missing.filter(|_| class.relied_upon()) {
            let what = format!("`{id}` takes `{}` from `{}`, which may have failed", input.path, input.node);
            found.push(Fault::at(id, what));
        }
    }
    found
}
