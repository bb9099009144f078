//! After the writer is confirmed: where clients find it, letting them through, and the way back to a pair.

use super::{
    hand_over::{Drained, HandedOver, Proof},
    pace::Pace,
    ready::edge,
};
use crate::{
    base::{BindingName, MemberId, Millis, minutes, seconds},
    contract::{Binding, FollowsBy, Grade, LossMeasurement, Protection, Rejoin, WriterReceipt},
    plan::{
        Edge, MemberFacts, PlanBuilder, ReadersFacts, Ref, Situation, StepExt,
        steps::{
            AwaitRejoined, CheckWriter, FenceMember, FinalSnapshot, FollowWriter, HardenWriter, MeasureLoss, Notify,
            PointSecret, PreserveOldSide, RejoinMember, RetireMemberFence, ShiftReaders, ShiftTraffic, VerifyServing,
            WarmUp,
        },
    },
};

/// How quick the slowest warm-up read must be.
const WARM: Millis = Millis::new(500);
/// How many samples must be served by the writer.
const SAMPLES: u8 = 10;

/// Points the secrets and the routes at the writer and warms it up, all at once; what the plan leaves out stays as it is. The answer
/// stands for all of it, for one more write that the writer accepted, and for a fence that still holds.
pub fn repoint(plan: &mut PlanBuilder, now: &Situation, handed: &HandedOver) -> Ref<()> {
    let writer = &handed.writer;
    let done = point(plan, now, &handed.to, writer);
    let every = Pace::of(now, &now.primary, handed.offer.takes).every.min(Millis::new(100));
    let check = match (&handed.fenced, handed.read_back) {
        (Some((fence, minimum)), _) => CheckWriter::of(writer).fenced_by(fence, *minimum),
        (None, Some(minimum)) => CheckWriter::of(writer).swapped(&handed.promotion, &now.writer, minimum),
        (None, None) => CheckWriter::of(writer),
    };
    let after: Vec<&dyn Edge> = done.iter().map(|edge| edge as &dyn Edge).collect();
    plan.add("writer-ready", check.after_all(&after).within(minutes(5)).every(every))
}

/// Secrets, routes and a warm-up, all at once.
pub(super) fn point(
    plan: &mut PlanBuilder,
    now: &Situation,
    to: &MemberId,
    writer: &Ref<WriterReceipt>,
) -> Vec<Ref<()>> {
    let mut done: Vec<Ref<()>> = Vec::new();
    for secret in
        now.secrets.keys().filter(|name| !left_out(plan, &Binding::Secret((*name).clone()))).collect::<Vec<_>>()
    {
        let point = PointSecret::at(secret, writer).within(minutes(5)).every(Millis::new(500));
        let node = node_name("point-secret", secret, now.secrets.len());
        done.push(if may_be_dark(plan, now, secret, to) {
            let region = now.primary.binding.region.iter().map(ToString::to_string).collect::<String>();
            let text = format!(
                "point the secret {secret} at the new writer when {region} returns: applications there read it"
            );
            edge(&plan.attempt(&node, point, text, "service-owner"))
        } else {
            edge(&plan.add(&node, point))
        });
    }
    for route in moved_routes(plan, now) {
        let shift =
            ShiftTraffic::to(&route, writer).within(minutes(60)).every(now.route_poll).visibility(now.route_poll);
        done.push(plan.add(&format!("shift-{route}"), shift));
    }
    // Last: where a member has one session only, its reads wait behind those that the routes wait for.
    let warm = WarmUp::of(writer, WARM).within(seconds(10)).every(Millis::new(50));
    let text = "look at slow reads on the new writer: its warm-up did not end in time";
    done.push(edge(&plan.attempt("warm-up", warm, text, "dba")));
    done
}

fn left_out(plan: &PlanBuilder, binding: &Binding) -> bool {
    plan.leaves_out().contains_key(binding)
}

/// The routes that the plan does not leave out.
fn moved_routes(plan: &PlanBuilder, now: &Situation) -> Vec<BindingName> {
    now.routes.keys().filter(|name| !left_out(plan, &Binding::Traffic((*name).clone()))).cloned().collect()
}

/// Sees every route serve the writer. The answers stand for the routes, one each.
pub(super) fn verify_routes(
    plan: &mut PlanBuilder,
    now: &Situation,
    writer: &Ref<WriterReceipt>,
    after: &[&dyn Edge],
) -> Vec<Ref<()>> {
    let within = minutes(10).saturating_add(now.route_ttl).saturating_add(now.route_ttl);
    let routes = moved_routes(plan, now).into_iter().map(|route| {
        let verify = VerifyServing::of(&route, SAMPLES, writer).after_all(after).within(within).every(now.route_poll);
        edge(&plan.add(&format!("verify-{route}"), verify))
    });
    routes.collect()
}

/// Whether a secret lies in the region of the silent writer, and the applications in the region of the new one read another secret.
fn may_be_dark(plan: &PlanBuilder, now: &Situation, secret: &BindingName, to: &MemberId) -> bool {
    let region = |of: &BindingName| now.secrets.get(of).and_then(|secret| secret.binding.region.as_ref());
    let dark = now.primary.binding.region.as_ref().filter(|_| !now.primary_answers);
    let lit = now.member(to).and_then(|member| member.binding.region.as_ref());
    let there = |of: &BindingName| dark.is_some() && region(of) == dark;
    let pointed = |other: &&BindingName| !left_out(plan, &Binding::Secret((*other).clone()));
    there(secret)
        && lit.is_some()
        && lit != dark
        && now.secrets.keys().filter(pointed).any(|other| region(other) == lit)
}

/// Names a node of something of which a group usually has one: by what is done alone then, and by its name where there are several.
pub(super) fn node_name(verb: &str, name: &BindingName, of: usize) -> String {
    if of == 1 { verb.to_owned() } else { format!("{verb}-{name}") }
}

/// Gives every drain back: the applications write on the new writer. The answers stand for the application tiers, one each.
pub fn reopen(plan: &mut PlanBuilder, drained: Drained, repointed: &impl Edge) -> Vec<Ref<()>> {
    std::iter::once(drained.first).chain(drained.others).map(|hold| plan.release(hold, repointed)).collect()
}

/// Sees the writer serve, counts the loss and tells people. `opened` is what let the applications through.
pub fn finish(
    plan: &mut PlanBuilder,
    now: &Situation,
    handed: &HandedOver,
    opened: &[Ref<()>],
) -> Ref<LossMeasurement> {
    let mut seen: Vec<Ref<()>> = opened.to_vec();
    let open: Vec<&dyn Edge> = opened.iter().map(|edge| edge as &dyn Edge).collect();
    seen.extend(verify_routes(plan, now, &handed.writer, &open));
    let measure = MeasureLoss::of(&now.writer, &handed.promotion);
    let measure = match &handed.fenced {
        Some((fence, _)) => measure.fenced(fence),
        None => measure,
    };
    let measure = match &handed.proof {
        Proof::CaughtUp(caught) => measure.caught_up(caught),
        Proof::Quiesced(quiesced) => measure.quiesced(quiesced),
        Proof::Bounded(bound) => measure.bounded(bound),
    };
    let loss = plan.add("measure-loss", measure.after_all(&open).within(seconds(30)));
    seen.push(edge(&loss));
    let after: Vec<&dyn Edge> = seen.iter().map(|edge| edge as &dyn Edge).collect();
    let (from, to) = (&now.primary.name, &handed.to);
    let group = &now.group.name;
    let text = match plan.leaves_out().keys().map(ToString::to_string).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => format!("{group}: the writer changed from {from} to {to}; applications write again"),
        stay => format!("{group}: the writer changed from {from} to {to}; {stay} stayed as they were"),
    };
    plan.add("notify-end", Notify { urgent: false, text }.after_all(&after).within(seconds(30)));
    loss
}

/// Lets every other standby follow the writer, or records who owes it: the members that are neither the former primary, nor its successor,
/// nor readers. Each is one attempted step behind the reopening, so a standby that cannot be moved keeps nobody waiting.
pub fn bring_along(plan: &mut PlanBuilder, now: &Situation, handed: &HandedOver, opened: &[Ref<()>]) -> Vec<Ref<()>> {
    let edges: Vec<&dyn Edge> = opened.iter().map(|edge| edge as &dyn Edge).collect();
    let mut done = Vec::new();
    for member in now.followers(&handed.to) {
        let (name, writer) = (&member.name, &handed.writer);
        let follows = member.description.as_ref().is_some_and(|seen| seen.follows.is_some());
        // What follows the log of one system cannot follow another one, and a logical copy is fed anew.
        let same = |name: &MemberId| !now.member(name).is_some_and(MemberFacts::is_copy);
        let offer = member.capabilities.as_ref().and_then(|offers| offers.follow);
        let offer = offer.filter(|_| follows && same(name) && same(&handed.to));
        let pace = Pace::of(now, member, offer.map_or(Millis::ZERO, |offer| offer.takes));
        let text = format!("let {name} follow the new writer; it receives nothing until then");
        let node = format!("follow-{name}");
        let follow = match offer.map(|offer| offer.by) {
            Some(FollowsBy::Verb) => {
                let step = FollowWriter::of(name, writer, &handed.promotion).after_all(&edges);
                plan.attempt(&node, step.within(pace.within).every(pace.every).visibility(pace.visibility), text, "dba")
            }
            Some(FollowsBy::Itself) => {
                let step = AwaitRejoined::of(name, writer).after_all(&edges).within(pace.within).every(pace.every);
                plan.attempt(&node, step, text, "dba")
            }
            // It follows nobody, or nobody can tell how it would follow: one look, and somebody owes the rest.
            None => {
                let step = AwaitRejoined::of(name, writer).after_all(&edges).within(seconds(1)).every(seconds(1));
                plan.attempt(&node, step, text, "dba")
            }
        };
        done.push(edge(&follow));
    }
    done
}

/// Sends readers to the standbys of the new writer, or records who owes it. Nobody waits for it.
pub fn readers(plan: &mut PlanBuilder, now: &Situation, writer: &Ref<WriterReceipt>, opened: &[Ref<()>]) {
    for (name, route) in &now.readers {
        spread(plan, (name, ""), route, writer, opened);
    }
}

/// Once more, where a route knows the former primary, which may be a standby now.
fn readers_again(plan: &mut PlanBuilder, now: &Situation, handed: &HandedOver, rejoined: &Ref<()>) {
    let old = &now.writer.member;
    for (name, route) in now.readers.iter().filter(|(_, route)| route.members.contains(old)) {
        spread(plan, (name, "-again"), route, &handed.writer, std::slice::from_ref(rejoined));
    }
}

fn spread(
    plan: &mut PlanBuilder,
    (name, again): (&BindingName, &str),
    route: &ReadersFacts,
    writer: &Ref<WriterReceipt>,
    after: &[Ref<()>],
) {
    let edges: Vec<&dyn Edge> = after.iter().map(|edge| edge as &dyn Edge).collect();
    let step = ShiftReaders::of(name, route.members.iter().cloned(), writer).after_all(&edges);
    let step = step.within(minutes(5)).every(route.poll).visibility(route.poll);
    let text =
        format!("send the readers of {name} to standbys of the new writer; they may read what is old, or nothing");
    plan.attempt(&format!("readers-{name}{again}"), step, text, "dba");
}

/// Gives the new writer the protections that the group asks for, or records who owes it. Nobody waits for it.
pub fn harden(plan: &mut PlanBuilder, now: &Situation, handed: &HandedOver, opened: &[Ref<()>]) {
    let Some(want) = now.group.hardening.filter(|want| !want.wants().is_empty()) else { return };
    let to = &handed.to;
    let edges: Vec<&dyn Edge> = opened.iter().map(|edge| edge as &dyn Edge).collect();
    let member = now.member(to).unwrap_or(&now.primary);
    let takes = member.capabilities.as_ref().and_then(|offers| offers.harden.as_ref()).map(|offer| offer.takes);
    let pace = Pace::of(now, member, takes.unwrap_or(Millis::ZERO));
    let step = HardenWriter::of(to, &handed.writer, want).after_all(&edges);
    let step = step.within(pace.within).every(pace.every).visibility(pace.visibility);
    let wanted: Vec<&str> = want.wants().into_iter().map(Protection::words).collect();
    let text = format!("see that {to}, the new writer, has: {}", wanted.join(", "));
    plan.attempt("harden-writer", step, text, "dba");
}

/// Copies what the provider of the former primary keeps of lost writes, where it keeps them for a while and something may be lost.
fn preserve(plan: &mut PlanBuilder, now: &Situation, handed: &HandedOver, after: &[Ref<()>]) -> Option<Ref<()>> {
    let offers = now.primary.capabilities.as_ref();
    let offers = offers.or_else(|| now.member(&handed.to).and_then(|member| member.capabilities.as_ref()));
    let lossy = matches!(handed.proof, Proof::Bounded(_));
    let offer = offers.and_then(|offers| offers.preserve).filter(|_| lossy)?;
    let (old, edges) = (&now.writer, after.iter().map(|edge| edge as &dyn Edge).collect::<Vec<_>>());
    let pace = Pace::of(now, &now.primary, offer.takes);
    let step = PreserveOldSide::of(old, &handed.promotion).after_all(&edges);
    let step = step.within(pace.within).every(pace.every).visibility(pace.visibility);
    let until = offer.kept_for.map(|time| format!(", for {}", crate::base::text::human(time))).unwrap_or_default();
    let text =
        format!("copy what the provider keeps of the writes that {} lost{until}: nobody else has them", old.member);
    Some(edge(&plan.attempt("preserve-old-side", step, text, "dba")))
}

/// Engages what could not be engaged before the promotion, where the former primary does not come back as a standby: the fence that was
/// engaged before stands between it and its clients, and this one outlives what lifts that. Nobody waits for it, and it is owed if it
/// does not come about.
fn fence_late(plan: &mut PlanBuilder, now: &Situation, handed: &HandedOver, after: &[Ref<()>]) -> Option<Ref<()>> {
    let comes_back = matches!(handed.offer.rejoin, Rejoin::InPlace | Rejoin::ByProvider);
    let separate = handed.fenced.is_some() || handed.owes_fence.is_some();
    let promised = now.primary.late_fence.filter(|_| separate && !comes_back)?;
    let edges: Vec<&dyn Edge> = after.iter().map(|edge| edge as &dyn Edge).collect();
    let old = &now.writer;
    let pace = Pace::of_fence(now, &now.primary);
    // A server that died cannot be stopped cleanly any more.
    let dead = matches!(handed.proof, Proof::Bounded(_));
    let minimum = if dead { promised.grade().min(Grade::Enforced) } else { promised.grade() };
    let take = FenceMember::of(old, minimum).late().after_all(&edges);
    let take = take.within(pace.within).every(pace.every).visibility(pace.visibility);
    let text = format!(
        "{} is not stopped; look whether the fence from before the promotion still keeps it from writing",
        old.member
    );
    Some(edge(&plan.attempt("fence-late", take, text, "dba")))
}

/// Makes the former primary a standby of the writer and retires its fence, or records who owes it. It comes after traffic and
/// reopening: nobody waits for it.
pub fn rejoin(plan: &mut PlanBuilder, now: &Situation, handed: HandedOver, opened: &[Ref<()>]) {
    let old = &now.writer;
    let writer = &handed.writer;
    // A silent primary is judged by the member that takes its place, not by any standby.
    let offers = now.primary.capabilities.as_ref();
    let offers = offers.or_else(|| now.member(&handed.to).and_then(|member| member.capabilities.as_ref()));
    let how = handed.offer.rejoin;
    let mut after: Vec<Ref<()>> = opened.to_vec();
    after.extend(handed.owes_fence.clone());
    if !now.primary_answers && offers.is_some_and(|offers| offers.snapshot.is_some()) {
        let edges: Vec<&dyn Edge> = after.iter().map(|edge| edge as &dyn Edge).collect();
        let snapshot = FinalSnapshot { target: old.clone() }.after_all(&edges).within(minutes(5)).every(seconds(5));
        let text =
            format!("take a snapshot of {} when it answers: it may hold writes that nobody else has", old.member);
        after.push(edge(&plan.attempt("final-snapshot", snapshot, text, "dba")));
    }
    after.extend(fence_late(plan, now, &handed, &after));
    if how == Rejoin::InPlace {
        after.extend(preserve(plan, now, &handed, &after));
    }
    let edges: Vec<&dyn Edge> = after.iter().map(|edge| edge as &dyn Edge).collect();
    let pace = Pace::of_rejoin(now, &now.primary, handed.offer.takes);
    let text = format!("make a standby of the new writer; {} has not become one (plan the failback then)", old.member);
    let rejoined = match how {
        Rejoin::InPlace => {
            let step = RejoinMember::of(old, writer, &handed.promotion).after_all(&edges);
            let step = step.within(pace.within).every(pace.every).visibility(pace.visibility);
            plan.attempt("rejoin", step, text, "dba")
        }
        Rejoin::ByProvider => {
            let step = AwaitRejoined::of(&old.member, writer).after_all(&edges).within(pace.within).every(pace.every);
            plan.attempt("rejoin", step, text, "dba")
        }
        // Topology is not ours: one look, and somebody owes the rest.
        Rejoin::NewResource | Rejoin::Never => {
            let step = AwaitRejoined::of(&old.member, writer).after_all(&edges).within(seconds(1)).every(seconds(1));
            plan.attempt("rejoin", step, text, "dba")
        }
    };
    if how != Rejoin::InPlace {
        // The provider keeps it when it rebuilds the member.
        preserve(plan, now, &handed, &[edge(&rejoined)]);
    }
    readers_again(plan, now, &handed, &edge(&rejoined));
    let Some((fenced, _)) = &handed.fenced else { return };
    let retire = RetireMemberFence::of(&old.member, fenced, writer, &rejoined).within(pace.within);
    let text = format!(
        "look whether the fence of {} still stands, keep it until {0} follows the new writer, and take it away then",
        old.member
    );
    let retired = plan.attempt("retire-fence", retire.visibility(pace.visibility), text, "dba");
    if let Some(held) = handed.fence {
        plan.retired(held, &retired);
    }
}
