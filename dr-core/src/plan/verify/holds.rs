//! DR140 to DR149: never stranded. What is taken for a while is given back, and everything before the promotion has a way back.

use super::{Fault, Look, Rule, safety::mutates};
use crate::{
    base::NodeId,
    contract::{Binding, Class, PromotionReceipt, verb},
    plan::{Node, Purpose, references},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        number: 140,
        name: "way-back",
        sentence: "Every change before the promotion is held, gives back what was held, or is harmless",
        why: "a run that turns back could not undo it and would be stranded",
        helps: "take it with `hold`, or move it behind the promotion",
        check: way_back,
    },
    Rule {
        number: 141,
        name: "given-back",
        sentence: "What is held is given back by a step of the plan",
        why: "it would stay taken after a run that went well",
        helps: "move it into `release` (or, for a fence, `retired`)",
        check: given_back,
    },
    Rule {
        number: 142,
        name: "gives-back-the-same",
        sentence: "What gives a hold back comes after the step that took it and does exactly what its undo does; only a fence is retired instead",
        why: "something else would be given back, or nothing yet",
        helps: "use `hold` and `release`, which keep both together",
        check: gives_back_the_same,
    },
    Rule {
        number: 143,
        name: "undo-knows-enough",
        sentence: "An undo takes nothing from other steps",
        why: "it runs when those steps have not ended",
        helps: "write the undo with what is known before the hold is taken",
        check: undo_knows_enough,
    },
    Rule {
        number: 144,
        name: "drain-is-held",
        sentence: "Every drain is a hold, and so is the fence of a plan that is no failover, unless it comes behind the promotion",
        why: "a run that turns back would leave writes stopped",
        helps: "take it with `hold`",
        check: drain_is_held,
    },
    Rule {
        number: 145,
        name: "fence-is-retired",
        sentence: "A fence that is held past a promotion ends by being retired, after the writer is confirmed",
        why: "a released fence lets a second writer in",
        helps: "hand the hold to `retired` with the step that retires the fence",
        check: fence_is_retired,
    },
    Rule {
        number: 146,
        name: "no-release-of-a-fence",
        sentence: "No step releases a fence; only the undo of a hold does, and that of a failover never",
        why: "nothing un-fences but a planned run that turns back, or an operator's own order",
        helps: "drop the step; an operator can release the fence by name",
        check: no_release_of_a_fence,
    },
    Rule {
        number: 147,
        name: "travelled-fence-is-cleared",
        sentence: "Where a fence of the group travels with replication, the new writer is cleared of it after the promotion, and confirmed only after that; no other member is cleared",
        why: "the new writer would refuse its own applications, or a member that still writes would lose its fence",
        helps: "use the built-in phases, or clear the new writer and confirm it with `cleared_by`",
        check: travelled_fence_is_cleared,
    },
];

fn way_back(look: &Look<'_>) -> Vec<Fault> {
    let Some((pivot, _)) = look.pivot() else { return Vec::new() };
    let gives_back = |id| look.plan.holds.values().any(|hold| hold.released_by.as_ref() == Some(id));
    // DR144 speaks of drains and fences; the fence of a failover stays whatever happens.
    look.nodes()
        .filter(|(id, node)| mutates(node) && look.follows(pivot, id))
        .filter(|(id, node)| !node.call.class.way_back_elsewhere() && !gives_back(id))
        .filter(|(id, _)| !look.plan.holds.contains_key(*id))
        .map(|(id, _)| Fault::at(id, format!("`{id}` changes something before `{pivot}` and has no way back")))
        .collect()
}

fn given_back(look: &Look<'_>) -> Vec<Fault> {
    look.plan
        .holds
        .iter()
        .filter(|(_, hold)| hold.released_by.is_none())
        .map(|(id, _)| Fault::at(id, format!("what `{id}` takes is never given back")))
        .collect()
}

fn gives_back_the_same(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, hold) in &look.plan.holds {
        let Some((by, node)) = hold.released_by.as_ref().and_then(|by| look.plan.nodes.get_key_value(by)) else {
            continue;
        };
        if !look.follows(by, id) {
            found.push(Fault::at(by, format!("`{by}` does not wait for `{id}`, whose hold it gives back")));
        }
        let retired = look.node(id).is_some_and(|node| node.call.class == Class::Fence);
        if !retired && (node.call.kind != hold.undo.kind || node.call.params != hold.undo.params) {
            found.push(Fault::at(by, format!("`{by}` does something else than the undo of `{id}`")));
        }
    }
    found
}

fn undo_knows_enough(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, hold) in &look.plan.holds {
        for input in references(&hold.undo.params.0) {
            found.push(Fault::at(id, format!("the undo of `{id}` takes `{}` from `{}`", input.path, input.node)));
        }
    }
    found
}

fn drain_is_held(look: &Look<'_>) -> Vec<Fault> {
    // Behind the promotion there is no turning back that could give a fence back.
    let behind = |id: &NodeId| look.pivot().is_some_and(|(pivot, _)| look.follows(id, pivot));
    let fence = |id: &NodeId, class| class == Class::Fence && look.plan.purpose != Purpose::Failover && !behind(id);
    look.nodes()
        .filter(|(id, node)| {
            (node.call.class == Class::Drain || fence(id, node.call.class)) && !look.plan.holds.contains_key(*id)
        })
        .map(|(id, _)| Fault::at(id, format!("`{id}` is not a hold")))
        .collect()
}

fn fence_is_retired(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    if look.pivot().is_none() {
        return found;
    }
    for (id, _) in look.of(Class::Fence) {
        let by = look.plan.holds.get(id).and_then(|hold| hold.released_by.as_ref());
        let Some((by, node)) = by.and_then(|by| look.plan.nodes.get_key_value(by)) else { continue };
        let confirmed = look.of(Class::ConfirmWriter).any(|(writer, _)| look.follows(by, writer));
        if node.call.class != Class::RetireFence {
            found.push(Fault::at(by, format!("`{by}` ends the fence of `{id}` without retiring it")));
        } else if !confirmed {
            found.push(Fault::at(by, format!("`{by}` retires the fence of `{id}` before the writer is confirmed")));
        }
    }
    found
}

fn travelled_fence_is_cleared(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let promoted = look.pivot().zip(look.plan.to.as_ref().map(Binding::from));
    let of_the_writer = |node: &Node| {
        let writer = promoted.as_ref().map(|(_, writer)| writer);
        node.call.touches.iter().all(|touch| verb::CLEAR_FENCE.is(touch) && Some(&touch.resource) == writer)
    };
    for (id, node) in look.of(Class::ClearFence) {
        if !of_the_writer(node) {
            found.push(Fault::at(id, format!("`{id}` clears a member that the plan does not make the writer")));
        }
        if look.sources::<PromotionReceipt>(node, Class::Pivot).is_empty() {
            found.push(Fault::at(id, format!("`{id}` takes no receipt of a promotion or swap")));
        }
    }
    if look.pivot().is_none() || !look.plan.fence_travels {
        return found;
    }
    if !look.has(Class::ClearFence) {
        found.push(Fault::plan("a fence of the group travels to the new writer, and nothing clears it there"));
    }
    for (id, node) in look.of(Class::ConfirmWriter) {
        if look.sources::<()>(node, Class::ClearFence).is_empty() {
            found.push(Fault::at(id, format!("`{id}` may confirm a writer that still refuses its applications")));
        }
    }
    found
}

fn no_release_of_a_fence(look: &Look<'_>) -> Vec<Fault> {
    let steps = look.of(Class::ReleaseFence).map(|(id, _)| Fault::at(id, format!("`{id}` releases a fence")));
    let undos = look
        .plan
        .holds
        .iter()
        .filter(|(_, hold)| hold.undo.class == Class::ReleaseFence && look.plan.purpose == Purpose::Failover);
    steps.chain(undos.map(|(id, _)| Fault::at(id, format!("turning back would release the fence of `{id}`")))).collect()
}
