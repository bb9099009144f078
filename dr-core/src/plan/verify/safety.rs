//! DR120 to DR135: never two writers, never a silent loss, nothing undecided.

use super::{Fault, Look, Rule};
use crate::{
    base::{Millis, NodeId},
    contract::{
        Binding, CatchUpReceipt, Class, Consent, FenceReceipt, Grade, LossBound, Origin, PromotionReceipt,
        QuiesceReceipt, RestoreReceipt, WriterReceipt, verb,
    },
    plan::{Duty, Effect, Node, Purpose},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        number: 120,
        name: "one-pivot",
        sentence: "A plan has at most one promotion or role swap",
        why: "a run can be past one point of no return only; behind a second one nothing could be turned back",
        helps: "make two plans",
        check: one_pivot,
    },
    Rule {
        number: 121,
        name: "promotion-is-fenced",
        sentence: "A promotion takes the receipt of a fence on the writer that the plan expects, unless two people take the risk by name",
        why: "without a fence there may be two writers",
        helps: "refer to the step that fences this member",
        check: promotion_is_fenced,
    },
    Rule {
        number: 122,
        name: "promotion-is-caught-up",
        sentence: "A promotion that is no failover takes the receipt of a catch-up, and that one the receipt of the same fence",
        why: "acknowledged writes would be lost silently",
        helps: "refer to a catch-up that waits for the end of the fenced history",
        check: promotion_is_caught_up,
    },
    Rule {
        number: 123,
        name: "swap-is-quiet",
        sentence: "A planned role swap takes the proof that nothing writes and both sides are equal",
        why: "the provider would have to choose between cutting writes off and losing them",
        helps: "refer to the step that waits for the quiet",
        check: swap_is_quiet,
    },
    Rule {
        number: 124,
        name: "loss-is-bounded",
        sentence: "A failover's promotion or swap takes the bound of its loss, made after its own fence where it has one, and people are shown a bound",
        why: "nobody could know what they agree to lose",
        helps: "refer to the step that bounds the loss",
        check: loss_is_bounded,
    },
    Rule {
        number: 125,
        name: "promotion-is-agreed",
        sentence: "A promotion or swap takes a consent",
        why: "what people saw would not be bound to what is done",
        helps: "refer to the step that asks",
        check: promotion_is_agreed,
    },
    Rule {
        number: 126,
        name: "writer-before-traffic",
        sentence: "Every secret and traffic step takes the receipt of a confirmed writer",
        why: "applications would be sent to a member that may not be the only writer",
        helps: "refer to the step that confirms the writer",
        check: writer_before_traffic,
    },
    Rule {
        number: 127,
        name: "writer-of-the-right-origin",
        sentence: "A confirmed writer comes from where the purpose says: from the receipt of the promotion or swap, and from that of the fence that the promotion took; where the plan promotes nobody, from a look at the writer that it expects; in a restore, from the receipt of the restore",
        why: "the writer before the change would be confirmed, a fence that was lifted in between would be missed, or applications would be sent to a member that nobody made the writer",
        helps: "refer to the promotion and its fence, observe the expected writer, or refer to the restore",
        check: writer_of_the_right_origin,
    },
    Rule {
        number: 128,
        name: "reopen-last",
        sentence: "Past the promotion, what was held is given back only after the writer is confirmed, and writes of applications only after secrets and traffic",
        why: "writes would go to the old primary, or to nobody",
        helps: "release after the last secret and traffic step",
        check: reopen_last,
    },
    Rule {
        number: 129,
        name: "asked-first",
        sentence: "Every change but the beginning of a last snapshot comes after an ask, unless the group's policy is automatic by name",
        why: "something would change that nobody agreed to (E05)",
        helps: "put the ask before it, or opt the group into automatic mode",
        check: asked_first,
    },
    Rule {
        number: 130,
        name: "deadlines",
        sentence: "Every step has a deadline, an interval between looks that is not longer, and at least one attempt",
        why: "a run would wait forever, or never look",
        helps: "give it a deadline with `within` and an interval with `every`",
        check: deadlines,
    },
    Rule {
        number: 131,
        name: "nobody-asked-while-drained",
        sentence: "People are never asked between a drain and its release",
        why: "clients would wait for a person",
        helps: "ask before the drain",
        check: nobody_asked_while_drained,
    },
    Rule {
        number: 132,
        name: "drain-has-a-budget",
        sentence: "A plan that drains has a gap budget, and the drain's own deadline lies within it",
        why: "nothing would give the applications back when the orchestrator dies",
        helps: "set `gap_budget` in the limits of the group, above the drain's `within`",
        check: drain_has_a_budget,
    },
    Rule {
        number: 133,
        name: "nothing-beside-the-promotion",
        sentence: "Every change comes before or after the promotion, never beside it; only notices, which touch nothing, may",
        why: "when the promotion begins it must be known what else was done",
        helps: "say `after` the promotion's confirmation, or put it before the fence",
        check: nothing_beside_the_promotion,
    },
    Rule {
        number: 134,
        name: "somebody-is-asked",
        sentence: "An ask asks at least one person, unless the group's policy is automatic by name",
        why: "something would change that nobody agreed to (E05)",
        helps: "ask one person or more, or opt the group into automatic mode",
        check: somebody_is_asked,
    },
    Rule {
        number: 135,
        name: "limits",
        sentence: "Proofs and facts may not be older than a time that is set, and no fence below `enforced` authorises a promotion",
        why: "a guard that never expires, or that accepts silence as a fence, guards nothing",
        helps: "correct the limits of the group",
        check: limits,
    },
    Rule {
        number: 136,
        name: "risk-is-taken-by-name",
        sentence: "A promotion after which two writers are possible stands in a failover only; two people or more are asked and shown the reason, and a fence is owed",
        why: "nobody must be able to say that they did not know",
        helps: "fence the member, or give the reason, ask two people and attempt the fence afterwards",
        check: risk_is_taken_by_name,
    },
    Rule {
        number: 137,
        name: "grade-is-asked-for",
        sentence: "The fence, the promotion and the look at the writer after it ask for at least the grade that the policy names; a forced swap is worth what is read back",
        why: "a weaker fence would do",
        helps: "ask for the policy's grade",
        check: grade_is_asked_for,
    },
];

/// Whether the pivot leaves the old primary alone, so that it needs a fence of its own.
pub(super) fn promotes(pivot: &Node) -> bool {
    pivot.call.touches.iter().any(|touch| verb::PROMOTE.is(touch))
}

/// Whether it changes anything that a resource or a person would notice; a notice does not.
pub(super) fn mutates(node: &Node) -> bool {
    node.call.effect != Effect::ReadOnly && (node.call.class != Class::Harmless || !node.call.touches.is_empty())
}

/// Whether a step only has a copy made of what is there, which may take longer than a consent lasts.
fn keeps(node: &Node) -> bool {
    node.call.class == Class::Harmless && node.call.marks.duty == Some(Duty::Snapshot)
}

/// Whether people take the risk of a promotion without a fence.
fn waived(pivot: &Node) -> bool {
    pivot.call.marks.risk.is_some()
}

fn one_pivot(look: &Look<'_>) -> Vec<Fault> {
    let more = look.of(Class::Pivot).skip(1);
    more.map(|(id, _)| Fault::at(id, format!("`{id}` is a second point of no return"))).collect()
}

fn promotion_is_fenced(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let writer = &look.plan.expects.member;
    for (id, pivot) in look.of(Class::Pivot).filter(|(_, pivot)| promotes(pivot) && !waived(pivot)) {
        let fences = look.sources::<FenceReceipt>(pivot, Class::Fence);
        if fences.is_empty() {
            found.push(Fault::at(id, format!("`{id}` takes no receipt of a fence on {writer}")));
        }
        for fence in fences.into_iter().filter(|fence| !fences_member(look, fence)) {
            found.push(Fault::at(id, format!("`{id}` relies on `{fence}`, which does not fence {writer}")));
        }
    }
    found
}

fn fences_member(look: &Look<'_>, fence: &NodeId) -> bool {
    let writer = Binding::from(&look.plan.expects.member);
    look.node(fence)
        .is_some_and(|node| node.call.touches.iter().any(|touch| verb::FENCE.is(touch) && touch.resource == writer))
}

fn promotion_is_caught_up(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, pivot) in look.of(Class::Pivot) {
        if look.plan.purpose == Purpose::Failover || !promotes(pivot) {
            continue;
        }
        let caught = look.sources::<CatchUpReceipt>(pivot, Class::CatchUp);
        if caught.is_empty() {
            found.push(Fault::at(id, format!("`{id}` takes no receipt of a catch-up")));
        }
        let fences = look.sources::<FenceReceipt>(pivot, Class::Fence);
        for catch_up in caught {
            let Some(node) = look.node(catch_up) else { continue };
            let waits_for = look.sources::<FenceReceipt>(node, Class::Fence);
            if !fences.is_empty() && !waits_for.iter().any(|fence| fences.contains(fence)) {
                let what = format!("`{catch_up}` does not wait for the end of what the fence of `{id}` fenced");
                found.push(Fault::at(catch_up, what));
            }
        }
    }
    found
}

fn swap_is_quiet(look: &Look<'_>) -> Vec<Fault> {
    look.of(Class::Pivot)
        .filter(|(_, pivot)| look.plan.purpose != Purpose::Failover && !promotes(pivot))
        .filter(|(_, pivot)| look.sources::<QuiesceReceipt>(pivot, Class::CatchUp).is_empty())
        .map(|(id, _)| Fault::at(id, format!("`{id}` takes no receipt of a quiet primary")))
        .collect()
}

fn loss_is_bounded(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let failover = look.plan.purpose == Purpose::Failover;
    for (id, pivot) in look.of(Class::Pivot).filter(|_| failover) {
        let bounds = look.sources::<LossBound>(pivot, Class::Guard);
        if bounds.is_empty() {
            found.push(Fault::at(id, format!("`{id}` takes no bound of the loss")));
        }
        let fences = look.sources::<FenceReceipt>(pivot, Class::Fence);
        for bound in bounds.into_iter().filter(|_| !fences.is_empty()) {
            let fenced = look.node(bound).map(|node| look.sources::<FenceReceipt>(node, Class::Fence));
            if !fenced.unwrap_or_default().iter().any(|fence| fences.contains(fence)) {
                found.push(Fault::at(bound, format!("`{bound}` does not know when the fence of `{id}` took effect")));
            }
        }
        for ask in look.sources::<Consent>(pivot, Class::Consent) {
            if look.node(ask).is_some_and(|node| look.sources::<LossBound>(node, Class::Guard).is_empty()) {
                found.push(Fault::at(ask, format!("`{ask}` shows no bound of the loss")));
            }
        }
    }
    found
}

fn promotion_is_agreed(look: &Look<'_>) -> Vec<Fault> {
    look.of(Class::Pivot)
        .filter(|(_, pivot)| look.sources::<Consent>(pivot, Class::Consent).is_empty())
        .map(|(id, _)| Fault::at(id, format!("`{id}` takes no consent")))
        .collect()
}

fn writer_before_traffic(look: &Look<'_>) -> Vec<Fault> {
    look.of(Class::Secret)
        .chain(look.of(Class::Traffic))
        .filter(|(_, node)| look.sources::<WriterReceipt>(node, Class::ConfirmWriter).is_empty())
        .map(|(id, _)| Fault::at(id, format!("`{id}` takes no receipt of a confirmed writer")))
        .collect()
}

fn writer_of_the_right_origin(look: &Look<'_>) -> Vec<Fault> {
    let wanted = look.plan.purpose.origin(look.pivot().is_some());
    let mut found = Vec::new();
    for (id, node) in look.of(Class::ConfirmWriter) {
        match wanted {
            Origin::Promoted => found.extend(not_promoted(look, id, node)),
            Origin::Observed => {
                let writer = Binding::from(&look.plan.expects.member);
                if node.call.marks.looks_at.as_ref() != Some(&writer) {
                    found.push(Fault::at(id, format!("`{id}` does not observe the expected writer `{writer}`")));
                }
            }
            Origin::Restored => {
                if look.sources::<RestoreReceipt>(node, Class::Topology).is_empty() {
                    found.push(Fault::at(id, format!("`{id}` takes no receipt of a restore")));
                }
            }
        }
    }
    found
}

fn not_promoted(look: &Look<'_>, id: &NodeId, node: &Node) -> Vec<Fault> {
    let mut found = Vec::new();
    let pivots = look.sources::<PromotionReceipt>(node, Class::Pivot);
    if pivots.is_empty() {
        found.push(Fault::at(id, format!("`{id}` takes no receipt of a promotion or swap")));
    }
    let seen = look.sources::<FenceReceipt>(node, Class::Fence);
    let fences = pivots.iter().filter_map(|pivot| look.node(pivot));
    for fence in fences.flat_map(|pivot| look.sources::<FenceReceipt>(pivot, Class::Fence)) {
        if !seen.contains(&fence) {
            found.push(Fault::at(id, format!("`{id}` does not look at `{fence}` again")));
        }
    }
    found
}

fn reopen_last(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((pivot, _)) = look.pivot() else { return found };
    let given_back = look.plan.holds.values().filter_map(|hold| hold.released_by.as_ref());
    for id in given_back.filter(|id| look.follows(id, pivot)) {
        let drain = look.node(id).is_some_and(|node| node.call.class == Class::Resume);
        let first = look
            .nodes()
            .filter(|(_, node)| node.call.class == Class::ConfirmWriter || (drain && node.call.class.opens_traffic()));
        for (missing, _) in first.filter(|(first, _)| !look.follows(id, first)) {
            found.push(Fault::at(id, format!("`{id}` gives back what was held without waiting for `{missing}`")));
        }
    }
    found
}

fn asked_first(look: &Look<'_>) -> Vec<Fault> {
    if look.plan.policy.automatic.is_some() {
        return Vec::new();
    }
    look.nodes()
        .filter(|(_, node)| mutates(node) && !keeps(node))
        .filter(|(id, _)| !look.of(Class::Consent).any(|(ask, _)| look.follows(id, ask)))
        .map(|(id, _)| Fault::at(id, format!("`{id}` changes something, and nobody is asked before it")))
        .collect()
}

fn deadlines(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (id, node) in look.nodes() {
        let wrong = if node.within == Millis::ZERO {
            "has no deadline"
        } else if node.every == Millis::ZERO {
            "looks without a pause"
        } else if node.every > node.within {
            "looks again only after its deadline"
        } else if node.attempts == 0 {
            "may not be tried once"
        } else {
            continue;
        };
        found.push(Fault::at(id, format!("`{id}` {wrong}")));
    }
    found
}

fn nobody_asked_while_drained(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (drain, _) in look.of(Class::Drain) {
        let released_by = look.plan.holds.get(drain).and_then(|hold| hold.released_by.as_ref());
        for (ask, _) in look.of(Class::Consent) {
            let before = look.follows(drain, ask);
            let after = released_by.is_some_and(|release| look.follows(ask, release));
            if !before && !after {
                found.push(Fault::at(ask, format!("`{ask}` may ask people while `{drain}` holds writes back")));
            }
        }
    }
    found
}

fn drain_has_a_budget(look: &Look<'_>) -> Vec<Fault> {
    let budget = look.plan.policy.gap_budget;
    look.of(Class::Drain)
        .filter(|(_, node)| budget == Millis::ZERO || node.within > budget)
        .map(|(id, node)| {
            let (within, budget) = (node.within.count(), budget.count());
            Fault::at(id, format!("`{id}` may take {within} ms and the gap budget is {budget} ms"))
        })
        .collect()
}

fn nothing_beside_the_promotion(look: &Look<'_>) -> Vec<Fault> {
    let Some((pivot, _)) = look.pivot() else { return Vec::new() };
    look.nodes()
        .filter(|(id, node)| mutates(node) && *id != pivot)
        .filter(|(id, _)| !look.follows(id, pivot) && !look.follows(pivot, id))
        .map(|(id, _)| Fault::at(id, format!("`{id}` may run while `{pivot}` is under way")))
        .collect()
}

fn somebody_is_asked(look: &Look<'_>) -> Vec<Fault> {
    let nobody = |node: &Node| node.call.marks.people == Some(0);
    look.of(Class::Consent)
        .filter(|(_, node)| nobody(node) && look.plan.policy.automatic.is_none())
        .map(|(id, _)| Fault::at(id, format!("`{id}` asks nobody")))
        .collect()
}

/// The promotion, if two writers are possible after it: it takes no fence, or a writer beside an unfenced one is good enough.
fn risky<'a>(look: &Look<'a>) -> Option<(&'a NodeId, &'a Node)> {
    let weak = |node: &Node| node.call.marks.asks_for.is_some_and(|grade| grade < Grade::Enforced);
    look.pivot().filter(|(_, pivot)| waived(pivot) || look.of(Class::ConfirmWriter).any(|(_, node)| weak(node)))
}

fn risk_is_taken_by_name(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((id, pivot)) = risky(look) else { return found };
    if look.plan.purpose != Purpose::Failover {
        found.push(Fault::at(id, format!("two writers are possible after `{id}` in a plan that is no failover")));
    }
    for ask in look.sources::<Consent>(pivot, Class::Consent) {
        let Some(marks) = look.node(ask).map(|node| &node.call.marks) else { continue };
        if marks.people.is_none_or(|people| people < 2) {
            found.push(Fault::at(
                ask,
                format!("`{ask}` asks fewer than two people whether two writers may be possible"),
            ));
        }
        if marks.risk.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            found.push(Fault::at(ask, format!("`{ask}` does not show that there is no fence, and why")));
        }
    }
    if !look.of(Class::Fence).any(|(fence, _)| look.follows(fence, id)) {
        found.push(Fault::at(id, format!("two writers are possible after `{id}`, and nobody owes a fence")));
    }
    found
}

fn grade_is_asked_for(look: &Look<'_>) -> Vec<Fault> {
    let Some((pivot, promotion)) = look.pivot() else {
        let weak = |node: &Node| node.call.marks.asks_for.filter(|grade| *grade < look.plan.policy.fence);
        let observed = look.of(Class::ConfirmWriter).filter_map(|(id, node)| Some((id, weak(node)?)));
        return observed.map(|(id, content)| too_weak(id, content, look.plan.policy.fence)).collect();
    };
    let read_back = look.plan.purpose == Purpose::Failover && !promotes(promotion);
    let any = read_back || risky(look).is_some();
    let wanted = |id: &NodeId, node: &Node| {
        let class = node.call.class;
        let afterwards = class == Class::Fence && !look.follows(pivot, id);
        let whatever = class == Class::ConfirmWriter && any;
        if class.wants_grade() && !afterwards && !whatever { look.plan.policy.fence } else { Grade::Unconfirmable }
    };
    let mut found = Vec::new();
    for (id, node) in look.nodes() {
        let wanted = wanted(id, node);
        if let Some(content) = node.call.marks.asks_for.filter(|grade| *grade < wanted) {
            found.push(too_weak(id, content, wanted));
        }
    }
    found
}

fn too_weak(id: &NodeId, content: Grade, wanted: Grade) -> Fault {
    Fault::at(id, format!("`{id}` is content with `{content}`, the policy wants `{wanted}`"))
}

fn limits(look: &Look<'_>) -> Vec<Fault> {
    let policy = &look.plan.policy;
    let mut found = Vec::new();
    if policy.proof_age == Millis::ZERO {
        found.push(Fault::plan("a proof may not be older than 0 ms, so that none could ever be used"));
    }
    if policy.fact_age == Millis::ZERO {
        found.push(Fault::plan("a fact may not be older than 0 ms, so that none could ever be used"));
    }
    if policy.fence < Grade::Enforced {
        found.push(Fault::plan(format!("the least grade that authorises a promotion is `{}`", policy.fence)));
    }
    found
}
