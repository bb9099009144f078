//! Holding writes back and making the candidate the one writer, in whichever of the two shapes the situation calls for.

use super::{
    after::node_name,
    offer::Offer,
    pace::Pace,
    ready::{Ready, Terms, edge},
};
use crate::{
    base::{MemberId, Millis},
    contract::{
        CatchUpReceipt, DrainReceipt, Ends, FenceReceipt, Grade, LossBound, PromotionReceipt, QuiesceReceipt, Shape,
        WriterReceipt,
    },
    plan::{
        Carries, Edge, Held, PlanBuilder, Ref, Situation, Spec, StepExt,
        steps::{
            AwaitCatchUp, AwaitQuiesced, BoundLoss, ClearFence, ConfirmWriter, Drain, FenceMember, NoDrain,
            NothingToResume, Promote, RaiseSequences, ReadSequences, ReleaseFence, ResumeWrites, SequencesSeen,
            SwapRoles, fence_owed,
        },
    },
};

/// There is exactly one writer, and it is the new one.
#[derive(Debug)]
#[must_use = "the former primary still has to rejoin, or somebody owes a standby: move it into `rejoin`"]
pub struct HandedOver {
    /// All that secret and traffic accept.
    pub writer: Ref<WriterReceipt>,
    /// What a planned change fenced with; it is retired by `rejoin`.
    pub fence: Option<Held<FenceReceipt>>,
    pub(super) to: MemberId,
    /// What the verb that changed the writer is offered with.
    pub(super) offer: Offer,
    pub(super) promotion: Ref<PromotionReceipt>,
    /// The fence of the former primary, and what it must be worth.
    pub(super) fenced: Option<(Ref<FenceReceipt>, Grade)>,
    /// What the former primary must be worth where the promotion brought no fence of ours.
    pub(super) read_back: Option<Grade>,
    pub(super) proof: Proof,
    pub(super) owes_fence: Option<Ref<()>>,
}

/// What is known of the loss before the promotion.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    CaughtUp(Ref<CatchUpReceipt>),
    Quiesced(Ref<QuiesceReceipt>),
    Bounded(Ref<LossBound>),
}

/// Writes are held back: one hold for each application tier, or one that holds nothing.
#[derive(Debug)]
#[must_use = "applications wait until every hold is given back: move it into `reopen`"]
pub struct Drained {
    pub(super) first: Held<DrainReceipt>,
    pub(super) others: Vec<Held<DrainReceipt>>,
}

impl Drained {
    /// Returns what a step comes after that must see all writes held back: `step.after_all(&drained.edges())`.
    #[must_use]
    pub fn edges(&self) -> Vec<&dyn Edge> {
        std::iter::once(&self.first).chain(&self.others).map(|hold| hold as &dyn Edge).collect()
    }

    /// Returns one of the holds, for a step that takes a receipt of a drain as its input.
    pub const fn receipt(&self) -> &Held<DrainReceipt> {
        &self.first
    }
}

/// Holds the writes of every application tier back, all at once; without one nothing is held, and the fence cuts writers off.
pub fn drain(plan: &mut PlanBuilder, now: &Situation, ready: &Ready) -> Drained {
    let budget = plan.policy().gap_budget;
    let mut holds = Vec::new();
    for (name, app) in &now.apps {
        let written = now.group.app(name).and_then(|app| app.drain.client_limit);
        for limit in [app.limit, written].into_iter().flatten() {
            plan.clients_wait_at_most(limit);
        }
        let take = Drain { app: name.clone(), budget, within: app.within.min(budget) }
            .after_all(&ready.edges())
            .because("clients wait instead of failing, and nothing is written that the candidate would miss")
            .within(budget)
            .every(app.poll)
            .visibility(app.poll);
        let (before, after) = (now.writer.member.clone(), ready.target.member.clone());
        let give = ResumeWrites { app: name.clone(), before, after };
        holds.push(plan.hold(&node_name("drain", name, now.apps.len()), take, give));
    }
    let mut holds = holds.into_iter();
    let first =
        holds.next().unwrap_or_else(|| plan.hold("drain", NoDrain {}.after_all(&ready.edges()), NothingToResume {}));
    Drained { first, others: holds.collect() }
}

/// Makes the candidate the one writer: fences the former primary, waits for the candidate and promotes it; or swaps the roles in one
/// call. `between` are steps of one's own that must have ended first.
#[expect(single_use_lifetimes, reason = "an elided lifetime is not allowed inside `impl Into` yet")]
pub fn hand_over<'a>(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    drained: impl Into<Option<&'a Drained>>,
    between: &[&dyn Edge],
) -> HandedOver {
    let drained: Option<&Drained> = drained.into();
    let mut after: Vec<&dyn Edge> = between.to_vec();
    match drained {
        Some(drained) => after.extend(drained.edges()),
        None => after.extend(ready.edges()),
    }
    match (&ready.terms, ready.offer.shape, drained.map(Drained::receipt)) {
        (Terms::Planned, Shape::BuiltInFence, Some(drained)) => swap(plan, now, ready, drained, &after),
        (Terms::Planned, Shape::BuiltInFence, None) => {
            // Nothing was drained; that nothing writes has still to be seen, unless the provider sees to it.
            let open = plan.add("not-drained", NoDrain {}.after_all(&after));
            swap(plan, now, ready, &open, &after)
        }
        (Terms::Planned, Shape::SeparateFence, _) => promote(plan, now, ready, drained, &after),
        (Terms::Forced { bound, without_fence }, Shape::BuiltInFence, _) => {
            force_swap(plan, now, ready, (bound, without_fence.as_deref()), &after)
        }
        (Terms::Forced { bound, without_fence: Some(reason) }, Shape::SeparateFence, _) => {
            promote_unfenced(plan, now, ready, (bound, reason), &after)
        }
        (Terms::Forced { without_fence: None, .. }, Shape::SeparateFence, _) => force(plan, now, ready, &after),
    }
}

/// Why the new writer is cleared, for people.
const WHY_CLEAR: &str = "its applications log in again, and nobody waits for a writer that refuses them";

fn paced<S: crate::plan::Step>(spec: Spec<S>, pace: Pace) -> Spec<S> {
    spec.within(pace.within).every(pace.every).visibility(pace.visibility)
}

/// What confirms the writer, behind the step that lets its applications in where the fence of the former primary travelled to it.
fn confirm(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    promotion: &Ref<PromotionReceipt>,
    fence: Option<&Ref<FenceReceipt>>,
) -> ConfirmWriter {
    let confirm = ConfirmWriter::of(promotion, &now.writer);
    let confirm = if ready.offer.restarts { confirm.after_its_restart() } else { confirm };
    let confirm = fence.into_iter().fold(confirm, ConfirmWriter::fenced_by);
    if !now.fence_travels() {
        return confirm;
    }
    let clear = ClearFence::of(&ready.target, promotion);
    let clear = fence.into_iter().fold(clear, ClearFence::fenced_by);
    confirm.cleared_by(&plan.add("clear-fence", paced(clear.because(WHY_CLEAR), target_pace(now, ready))))
}

fn edges(raised: &Option<Ref<()>>) -> Vec<&dyn Edge> {
    raised.iter().map(|edge| edge as &dyn Edge).collect()
}

/// Reads the sequences of the primary once nothing is written any more: a logical copy does not have them.
fn read_sequences(
    plan: &mut PlanBuilder,
    now: &Situation,
    drained: Option<&Drained>,
    after: &[&dyn Edge],
) -> Ref<SequencesSeen> {
    let holds = drained.into_iter().flat_map(|drained| std::iter::once(&drained.first).chain(&drained.others));
    let read = holds.fold(ReadSequences::of(&now.writer), ReadSequences::behind).after_all(after);
    let budget = plan.policy().gap_budget;
    let read = read.within(Millis::new(budget.count() / 4)).every(now.app_poll().min(Millis::seconds(1)));
    plan.add("read-sequences", read)
}

/// Raises the sequences of a logical copy that was promoted: beyond what was `read`, or beyond its rows.
fn raise_sequences(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    promotion: &Ref<PromotionReceipt>,
    read: Option<&Ref<SequencesSeen>>,
) -> Option<Ref<()>> {
    if !ready.target.is_copy() {
        return None;
    }
    let raise = read.into_iter().fold(RaiseSequences::of(&ready.target, promotion), RaiseSequences::beyond);
    let pace = target_pace(now, ready);
    let raise = raise.after(promotion).within(pace.within).every(pace.every).visibility(Millis::seconds(1));
    Some(plan.add("raise-sequences", raise.because("numbers that were handed out are not handed out again")))
}

fn target_pace(now: &Situation, ready: &Ready) -> Pace {
    Pace::of(now, now.member(&ready.target.member).unwrap_or(&now.primary), ready.offer.takes)
}

fn promote(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    drained: Option<&Drained>,
    after: &[&dyn Edge],
) -> HandedOver {
    let minimum = plan.policy().fence.max(Grade::Confirmed);
    let pace = target_pace(now, ready);
    let budget = plan.policy().gap_budget;
    let mut closing = Pace::of_fence(now, &now.primary);
    if !now.apps.is_empty() {
        // Applications wait meanwhile: half of their time is left to give back what a fence of unknown end may have done.
        closing.within = closing.within.min(Millis::new(budget.count() / 2));
    }
    let read = ready.target.is_copy().then(|| read_sequences(plan, now, drained, after));
    let mut after = after.to_vec();
    after.extend(read.iter().map(|read| read as &dyn Edge));
    let take = paced(FenceMember::of(&now.writer, minimum).after_all(&after), closing);
    let fence = plan.hold("fence", take, ReleaseFence::of(&now.writer, &ready.target));
    let catch_up = AwaitCatchUp::of(&ready.target, &fence).within(budget).every(pace.every);
    let caught = plan.add("catch-up", catch_up);
    let call = Promote::planned(&ready.target, &fence, &caught, &ready.consent).at_least(minimum);
    let call = call.taking(ready.offer.takes);
    let promotion = plan.add("promote", paced(call.after(&caught), pace));
    let held = Ref::new(fence.to());
    let confirm = confirm(plan, now, ready, &promotion, Some(&held)).at_least(minimum);
    let confirm = confirm.within(pace.within).every(pace.every);
    let raised = raise_sequences(plan, now, ready, &promotion, read.as_ref());
    let writer = plan.add("confirm-writer", confirm.after_all(&edges(&raised)));
    let fenced = Some((held, minimum));
    HandedOver {
        to: ready.target.member.clone(),
        offer: ready.offer.clone(),
        writer,
        fence: Some(fence),
        promotion,
        fenced,
        read_back: None,
        proof: Proof::CaughtUp(caught),
        owes_fence: None,
    }
}

fn swap(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    drained: &impl Carries<DrainReceipt>,
    after: &[&dyn Edge],
) -> HandedOver {
    let minimum = plan.policy().fence.max(Grade::Confirmed);
    let pace = target_pace(now, ready);
    let budget = plan.policy().gap_budget;
    let quiesced = AwaitQuiesced::of(&now.writer, &ready.target, drained);
    let quiesced = if ready.offer.catches_up { quiesced.by_provider() } else { quiesced };
    let quiesced = plan.add("quiesced", quiesced.after_all(after).within(budget).every(now.app_poll().min(pace.every)));
    let call = SwapRoles::planned(&now.writer, &ready.target, &quiesced, &ready.consent);
    // The least patient clients count.
    let patience = now.apps.values().filter_map(|app| app.limit).min().unwrap_or(budget);
    let call = call.held_since(drained, patience, ready.offer.limit);
    let call = call.taking(ready.offer.takes).moving(&ready.offer.moves);
    let promotion = plan.add("swap-roles", paced(call.after(&quiesced), pace));
    let confirm = confirm(plan, now, ready, &promotion, None).at_least(minimum);
    let writer = plan.add("confirm-writer", confirm.within(pace.within).every(pace.every));
    HandedOver {
        to: ready.target.member.clone(),
        offer: ready.offer.clone(),
        writer,
        fence: None,
        promotion,
        fenced: None,
        read_back: Some(minimum),
        proof: Proof::Quiesced(quiesced),
        owes_fence: None,
    }
}

fn force(plan: &mut PlanBuilder, now: &Situation, ready: &Ready, after: &[&dyn Edge]) -> HandedOver {
    let minimum = plan.policy().fence.max(Grade::Enforced);
    let pace = target_pace(now, ready);
    let take = FenceMember::of(&now.writer, minimum).silent().after_all(after);
    let take = take.because("a silent primary is not a stopped one; a forced run never gives this back");
    let fence = plan.add("fence", paced(take, Pace::of_fence(now, &now.primary)));
    let bound = BoundLoss::fenced(&now.writer, &ready.target, &fence).within(Millis::seconds(30)).every(pace.every);
    let bound = plan.add("bound-loss-fenced", bound);
    let call = Promote::forced(&ready.target, &fence, &bound, &ready.consent).at_least(minimum);
    let call = call.taking(ready.offer.takes);
    let promotion = plan.add("promote", paced(call.after(&bound), pace));
    let confirm = confirm(plan, now, ready, &promotion, Some(&fence)).at_least(minimum);
    let confirm = confirm.within(pace.within).every(pace.every);
    let raised = raise_sequences(plan, now, ready, &promotion, None);
    let writer = plan.add("confirm-writer", confirm.after_all(&edges(&raised)));
    HandedOver {
        to: ready.target.member.clone(),
        offer: ready.offer.clone(),
        writer,
        fence: None,
        promotion,
        fenced: Some((fence, minimum)),
        read_back: None,
        proof: Proof::Bounded(bound),
        owes_fence: None,
    }
}

fn force_swap(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    (bound, without_fence): (&Ref<LossBound>, Option<&str>),
    after: &[&dyn Edge],
) -> HandedOver {
    // A forced swap is worth `enforced` when its own fence is read back; people were shown what it is worth at worst. Where they took
    // the risk beforehand, nobody is asked a second time.
    let minimum = if without_fence.is_some() { Grade::Unconfirmable } else { Grade::Enforced };
    let pace = target_pace(now, ready);
    let call = SwapRoles::forced(&now.writer, &ready.target, bound, &ready.consent);
    let call = without_fence.into_iter().fold(call, SwapRoles::without_fence);
    let call = call.taking(ready.offer.takes).moving(&ready.offer.moves);
    let promotion = plan.add("swap-roles", paced(call.after_all(after), pace));
    let confirm = confirm(plan, now, ready, &promotion, None).at_least(minimum);
    let confirm = if without_fence.is_some() { confirm } else { confirm.or_accepted() };
    let confirm = confirm.within(pace.within).every(pace.every).visibility(pace.visibility);
    let writer = plan.add("confirm-writer", confirm);
    let owes_fence = without_fence.map(|_| fence_later(plan, now, &writer));
    HandedOver {
        to: ready.target.member.clone(),
        offer: ready.offer.clone(),
        writer,
        fence: None,
        promotion,
        fenced: None,
        read_back: Some(minimum),
        proof: Proof::Bounded(bound.clone()),
        owes_fence,
    }
}

fn promote_unfenced(
    plan: &mut PlanBuilder,
    now: &Situation,
    ready: &Ready,
    (bound, reason): (&Ref<LossBound>, &str),
    after: &[&dyn Edge],
) -> HandedOver {
    let pace = target_pace(now, ready);
    let call =
        Promote::dangerous(Ends { from: now.writer.clone(), to: ready.target.clone() }, bound, &ready.consent, reason);
    let call = call.taking(ready.offer.takes);
    let promotion = plan.add("promote", paced(call.after_all(after), pace));
    let confirm = confirm(plan, now, ready, &promotion, None).at_least(Grade::Unconfirmable);
    let confirm = confirm.within(pace.within).every(pace.every);
    let raised = raise_sequences(plan, now, ready, &promotion, None);
    let writer = plan.add("confirm-writer", confirm.after_all(&edges(&raised)));
    let owes_fence = Some(fence_later(plan, now, &writer));
    HandedOver {
        to: ready.target.member.clone(),
        offer: ready.offer.clone(),
        writer,
        fence: None,
        promotion,
        fenced: None,
        read_back: Some(Grade::Unconfirmable),
        proof: Proof::Bounded(bound.clone()),
        owes_fence,
    }
}

/// After a promotion without a fence the run owes one, before anything else is done to the former primary.
fn fence_later(plan: &mut PlanBuilder, now: &Situation, writer: &Ref<WriterReceipt>) -> Ref<()> {
    let old = &now.writer.member;
    let take = FenceMember::of(&now.writer, Grade::Enforced).silent().after(writer).within(Millis::seconds(30));
    edge(&plan.attempt("fence-former-primary", take, fence_owed(old), "incident-commander"))
}
