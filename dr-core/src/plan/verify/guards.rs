//! DR160 to DR169: the checks that make a plan safe are there, and nothing runs past them.

use super::{Fault, Look, Rule, safety::mutates};
use crate::{
    base::NodeId,
    contract::{Binding, Class, ResourceKind},
    plan::{Duty, Node, Purpose, Stage, document::references, mark::Needed},
};

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
        sentence: "A promotion is followed by one confirmed writer, every secret and route of the group, one more write, every other member following or owed, and a measured loss; so is a redirect, but for members and loss. A secret or route that is left out stands in the plan with a reason and is touched by no step",
        why: "the run would end with applications on the old primary, with a standby that nobody knows to be left behind, or without knowing what was lost",
        helps: "use the built-in phases, add the step, or leave the secret or route out by name and say why",
        check: follow_up_is_there,
    },
    Rule {
        number: 163,
        name: "order-of-the-stages",
        sentence: "Every step waits for all steps of earlier stages, from the lock to what comes after the opening; a late fence is waited for only by what is done to the former primary",
        why: "a step that runs too early looks at, or changes, something that is not so yet",
        helps: "use the built-in phases, or say `after`",
        check: order_of_the_stages,
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
    Rule {
        number: 166,
        name: "still-well",
        sentence: "A planned change looks at both sides once more after the answer and after everything that makes the gap short, and writes stop only then",
        why: "what broke while people thought, or while a checkpoint was written, would be found while writes are held back",
        helps: "use the built-in phases, or add a second look at both sides directly before the drain",
        check: still_well,
    },
    Rule {
        number: 167,
        name: "sequences-go-on",
        sentence: "Where a logical copy becomes the writer, its sequences are raised behind the promotion and before the writer is confirmed; in a planned change they are read before people are asked, and once more while writes are held back, before the fence",
        why: "replication of rows leaves sequences behind, and numbers would be handed out for the second time",
        helps: "use the built-in phases, or add the steps that read and raise sequences",
        check: sequences_go_on,
    },
];

/// What a plan that promotes a logical copy misses of its sequences. The order is that of the stages.
fn sequences_go_on(look: &Look<'_>) -> Vec<Fault> {
    let copy = look.plan.to.as_ref().filter(|to| look.plan.receives.contains_key(*to));
    let (Some(to), Some(_)) = (copy, look.pivot()) else { return Vec::new() };
    let missing = |what: &str| Fault::plan(format!("`{to}` is a logical copy, and no step {what}"));
    if !look.plan.purpose.is_planned_change() {
        let none = look.on(Duty::SequencesRaised).next().is_none();
        return none.then(|| missing("raises its sequences")).into_iter().collect();
    }
    let reads =
        |at: Stage| look.on(Duty::SequencesRead).filter(move |(id, _)| stage(look, id) == Some(at)).map(|(id, _)| id);
    let takes = |node: &Node, id: &NodeId| references(&node.call.params.0).iter().any(|found| found.node == *id);
    let raised = look.on(Duty::SequencesRaised).any(|(_, node)| reads(Stage::Hold).any(|id| takes(node, id)));
    let mut found = Vec::new();
    if reads(Stage::Check).next().is_none() {
        found.push(missing("reads those of the primary before people are asked"));
    }
    if !raised {
        found.push(missing("raises its sequences beyond those that were read while writes are held back"));
    }
    found
}

/// The duties that must be done before people are asked.
fn needed(look: &Look<'_>) -> impl Iterator<Item = Duty> {
    let purpose = look.pivot().map(|_| look.plan.purpose);
    Duty::ALL.into_iter().filter(move |duty| purpose.is_some_and(|purpose| duty.before(purpose)))
}

fn checks_are_there(look: &Look<'_>) -> Vec<Fault> {
    let again = |duty: &Duty| duty.needed() == Needed::Again && needed(look).next().is_some();
    let missing =
        needed(look).chain(Duty::ALL.into_iter().filter(again)).filter(|duty| look.on(*duty).next().is_none());
    let words = |duty: Duty| Fault::plan(format!("the plan changes the writer and has no step that {}", duty.words()));
    let mut found: Vec<Fault> = missing.map(words).collect();
    if let (Some(to), None) = (&look.plan.to, look.pivot()) {
        found.push(Fault::plan(format!("the plan is to make `{to}` the writer, and nothing in it promotes anybody")));
    }
    let planned = look.pivot().is_some() && look.plan.purpose.is_planned_change();
    for (name, _) in look.plan.bindings.iter().filter(|(_, bound)| planned && bound.kind == ResourceKind::App) {
        let drains = |node: &Node| node.call.touches.iter().any(|touch| touch.resource == *name);
        if !look.of(Class::Drain).any(|(_, node)| drains(node)) {
            found.push(Fault::plan(format!(
                "the group has the application tier `{name}`, and the plan does not drain it"
            )));
        }
    }
    found
}

fn checks_come_first(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((pivot, _)) = look.pivot() else { return found };
    for duty in needed(look).filter(|duty| look.on(*duty).next().is_some()) {
        for (ask, _) in look.of(Class::Consent) {
            if !look.on(duty).any(|(check, _)| look.follows(ask, check)) {
                found.push(Fault::at(ask, format!("`{ask}` does not wait for a step that {}", duty.words())));
            }
        }
    }
    if look.plan.purpose != Purpose::Failover {
        return found;
    }
    let again = |id: &NodeId| look.of(Class::Consent).all(|(ask, _)| look.follows(id, ask));
    let checked = |id: &NodeId| look.on(Duty::Silence).any(|(check, _)| again(check) && look.follows(id, check));
    let changes = look.nodes().filter(|(id, node)| mutates(node) && (*id == pivot || look.follows(pivot, id)));
    for (id, _) in changes.filter(|(id, _)| !checked(id)) {
        found.push(Fault::at(id, format!("`{id}` does not wait for a look at the silent primary after the ask")));
    }
    found
}

fn follow_up_is_there(look: &Look<'_>) -> Vec<Fault> {
    let mut found = left_out_for_a_reason(look);
    let pivot = look.pivot();
    let subject = pivot.map(|(id, _)| format!("`{id}`")).unwrap_or_else(|| "the redirect".into());
    if pivot.is_none() && look.plan.purpose != Purpose::Redirect {
        return found;
    }
    let fault = |what: String| Fault { node: pivot.map(|(id, _)| id.clone()), what };
    let missing = |what: String| fault(format!("{subject} is followed by no {what}"));
    if !look.has(Class::ConfirmWriter) {
        found.push(missing("step that confirms the writer".into()));
    }
    found.extend(not_pointed(look).into_iter().map(missing));
    let after = |duty: &Duty| match duty.needed() {
        Needed::After => pivot.is_some() || *duty == Duty::WriterStill,
        Needed::Again | Needed::Before | Needed::BeforePlanned | Needed::BeforeForced | Needed::Elsewhere => false,
    };
    let owed = Duty::ALL.into_iter().filter(after).filter(|duty| look.on(*duty).next().is_none());
    found.extend(owed.map(|duty| missing(format!("step that {}", duty.words()))));
    let Some((pivot, _)) = pivot else { return found };
    found.extend(left_behind(look).map(|one| missing(format!("step that sees `{one}` follow the writer, or owes it"))));
    let fenced = look.of(Class::Fence).any(|(fence, _)| look.follows(pivot, fence));
    if fenced && !look.has(Class::RetireFence) {
        found.push(missing("step that retires the fence".into()));
    }
    found
}

/// The secrets and routes that nothing points at the writer, and that are not left out by name.
fn not_pointed(look: &Look<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bound) in look.plan.bindings.iter().filter(|(name, _)| !look.plan.leaves_out.contains_key(*name)) {
        let touched =
            |class| look.of(class).any(|(_, node)| node.call.touches.iter().any(|touch| touch.resource == *name));
        let spread = || look.nodes().any(|(_, node)| node.call.touches.iter().any(|touch| touch.resource == *name));
        let sampled = || look.on(Duty::Serving).any(|(_, node)| node.call.marks.looks_at.as_ref() == Some(name));
        match bound.kind {
            ResourceKind::Secret if !touched(Class::Secret) => {
                found.push(format!("step that points `{name}` at the writer"));
            }
            ResourceKind::Traffic if !touched(Class::Traffic) => found.push(format!("step that shifts `{name}`")),
            ResourceKind::Traffic if !sampled() => found.push(format!("look at what `{name}` serves")),
            ResourceKind::Readers if !spread() => found.push(format!("step that sends the readers of `{name}` on")),
            ResourceKind::Database
            | ResourceKind::Readers
            | ResourceKind::Secret
            | ResourceKind::Traffic
            | ResourceKind::App
            | ResourceKind::Custom => {}
        }
    }
    found
}

/// What is left out by name is a secret or route of the plan, has a reason, and is touched by nothing.
fn left_out_for_a_reason(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (name, reason) in &look.plan.leaves_out {
        let kind = look.plan.bindings.get(name).map(|bound| bound.kind);
        if !matches!(kind, Some(ResourceKind::Secret | ResourceKind::Traffic)) {
            found.push(Fault::plan(format!("`{name}` is left out, and is no secret or route of the plan")));
        } else if reason.trim().is_empty() {
            found.push(Fault::plan(format!("`{name}` is left out without a reason")));
        }
        let touches = look.nodes().filter(|(_, node)| node.call.touches.iter().any(|touch| touch.resource == *name));
        found.extend(touches.map(|(id, _)| Fault::at(id, format!("`{id}` touches `{name}`, which is left out"))));
    }
    found
}

/// The databases of the plan, other than the one that is promoted, that no step makes follow the writer or sees do so.
fn left_behind<'a>(look: &Look<'a>) -> impl Iterator<Item = &'a Binding> {
    let taken: Vec<&Binding> = [Duty::Rejoin, Duty::Follow]
        .into_iter()
        .flat_map(|duty| look.on(duty))
        .filter_map(|(_, node)| node.call.marks.looks_at.as_ref())
        .collect();
    let old = Binding::from(&look.plan.expects.member);
    // Whom a promotion touches is another rule's affair.
    let promoted: Vec<&Binding> = look
        .of(Class::Pivot)
        .flat_map(|(_, pivot)| &pivot.call.touches)
        .map(|touch| &touch.resource)
        .filter(|name| **name != old)
        .collect();
    let target = look.plan.to.as_ref().map(Binding::from);
    let databases = look.plan.bindings.iter().filter(|(_, bound)| bound.kind == ResourceKind::Database);
    databases
        .map(|(name, _)| name)
        .filter(move |name| Some(*name) != target.as_ref() && !promoted.contains(name) && !taken.contains(name))
}

/// What a line of the order beside the stages speaks of.
#[derive(Clone, Copy)]
enum Those {
    Duty(Duty),
    Class(Class),
    /// What makes the former primary a standby, or sees it become one.
    WayBack,
}

/// What the stages do not say: within a stage, beside all stages, or past a stage that nobody waits for. Each with its reason.
const BESIDE_THE_STAGES: &[(Those, Those, &str)] = {
    use Those::{Class as Of, Duty as On, WayBack};
    let first = "the former primary is to be fenced before anything else is done to it";
    &[
        (On(Duty::Notice), Of(Class::Consent), "people would be told of a change that nobody agreed to"),
        (WayBack, On(Duty::Snapshot), "a rejoin may destroy what only the former primary has"),
        (WayBack, Of(Class::Fence), first),
        (On(Duty::Snapshot), Of(Class::Fence), first),
        (On(Duty::SequencesRead), Of(Class::Drain), "numbers would be handed out behind those that were read"),
    ]
};

impl Those {
    fn find<'a>(self, look: &Look<'a>) -> Vec<&'a NodeId> {
        match self {
            Self::Duty(duty) => look.on(duty).map(|(id, _)| id).collect(),
            // What is fenced late was fenced before: it keeps closed what is closed.
            Self::Class(Class::Fence) => {
                let late = |node: &Node| node.call.marks.stages == [Stage::After];
                look.of(Class::Fence).filter(|(_, node)| !late(node)).map(|(id, _)| id).collect()
            }
            Self::Class(class) => look.of(class).map(|(id, _)| id).collect(),
            Self::WayBack => {
                let old = Binding::from(&look.plan.expects.member);
                let of_old = |node: &Node| node.call.marks.looks_at.as_ref() == Some(&old);
                let seen = look.on(Duty::Follow).filter(|(_, node)| of_old(node));
                look.on(Duty::Rejoin).chain(seen).map(|(id, _)| id).collect()
            }
        }
    }
}

/// The stage in which a step stands: the last of those that it declares which it has reached.
fn stage(look: &Look<'_>, id: &NodeId) -> Option<Stage> {
    let stages = &look.node(id)?.call.marks.stages;
    let reached = |stage: Stage| {
        let asked = stage <= Stage::Ask || look.of(Class::Consent).all(|(ask, _)| look.follows(id, ask));
        let changed = stage <= Stage::Change || look.pivot().is_none_or(|(pivot, _)| look.follows(id, pivot));
        asked && changed
    };
    stages.iter().rev().copied().find(|stage| reached(*stage)).or_else(|| stages.first().copied())
}

fn order_of_the_stages(look: &Look<'_>) -> Vec<Fault> {
    let mut found = too_early(look);
    for (later, earlier, why) in BESIDE_THE_STAGES {
        for id in later.find(look) {
            let at = stage(look, id);
            let counts = |first: &NodeId| first != id && (at.is_none() || stage(look, first) <= at);
            let missing = earlier.find(look).into_iter().filter(|first| counts(first) && !look.follows(id, first));
            found.extend(missing.map(|first| early(id, first, why)));
        }
    }
    found
}

/// What does not wait for a step of an earlier stage. What follows such a step, and what comes before that stage, is not named again.
fn too_early(look: &Look<'_>) -> Vec<Fault> {
    let staged: Vec<(&NodeId, Stage)> = look.nodes().filter_map(|(id, _)| Some((id, stage(look, id)?))).collect();
    // Without a promotion or a redirect only the checks have an order: the rest of a plan of one's own is its author's.
    let whole = look.pivot().is_some() || look.plan.purpose == Purpose::Redirect;
    let counts = |later: Stage| whole || later <= Stage::Check;
    let pairs = staged.iter().flat_map(|later| staged.iter().map(move |first| (later, first)));
    let wrong: Vec<(&NodeId, Stage, &NodeId)> = pairs
        .filter(|((_, later), (_, earlier))| earlier < later && *earlier != Stage::Owe && counts(*later))
        .filter(|((id, _), (first, _))| !look.follows(id, first))
        .map(|((id, later), (first, _))| (*id, *later, *first))
        .collect();
    let implied = |id: &NodeId, first: &NodeId| {
        let by = |(other, _, another): &(&NodeId, Stage, &NodeId)| {
            (*another == first && look.follows(id, other)) || (*other == id && look.follows(another, first))
        };
        wrong.iter().any(by)
    };
    let named = wrong.iter().filter(|(id, _, first)| !implied(id, first));
    named.map(|(id, later, first)| early(id, first, later.why())).collect()
}

fn early(id: &NodeId, first: &NodeId, why: &str) -> Fault {
    Fault::at(id, format!("`{id}` does not wait for `{first}`: {why}"))
}

fn people_are_told(look: &Look<'_>) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some((pivot, _)) = look.pivot() else { return found };
    let notices: Vec<&NodeId> = look.on(Duty::Notice).map(|(id, _)| id).collect();
    let stops = look.nodes().filter(|(_, node)| node.call.class.stops_writes());
    for (id, _) in stops.filter(|(id, _)| *id == pivot || look.follows(pivot, id)) {
        if !notices.iter().any(|notice| look.follows(id, notice)) {
            found.push(Fault::at(id, format!("`{id}` stops writes, and nobody is told before")));
        }
    }
    let ends: Vec<&NodeId> = look.on(Duty::LossMeasured).chain(look.on(Duty::Serving)).map(|(id, _)| id).collect();
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

fn still_well(look: &Look<'_>) -> Vec<Fault> {
    let planned = look.pivot().is_some() && matches!(look.plan.purpose, Purpose::Switchover | Purpose::Drill);
    if !planned {
        return Vec::new();
    }
    let answered = |id: &NodeId| look.of(Class::Consent).all(|(ask, _)| look.follows(id, ask));
    let again: Vec<&NodeId> = look.on(Duty::Sides).map(|(id, _)| id).filter(|id| answered(id)).collect();
    let Some(first) = again.first() else {
        return vec![Fault::plan("nothing looks at both sides again after the answer")];
    };
    let shortens: Vec<&NodeId> =
        look.nodes().map(|(id, _)| id).filter(|id| stage(look, id) == Some(Stage::Shorten)).collect();
    let misses = |last: &NodeId| {
        shortens.iter().filter(|id| **id != last && !look.follows(last, id)).copied().collect::<Vec<_>>()
    };
    if again.iter().any(|last| misses(last).is_empty()) {
        return Vec::new();
    }
    let late = |id: &NodeId| Fault::at(id, format!("`{id}` may come after the last look at both sides"));
    misses(first).into_iter().map(late).collect()
}
